"""The view ``fields`` and the function ``fields_of`` of queries: members where they lie, as SQL.

``fields`` has a row for each member with a name of a struct or union, those of anonymous members
among them as if they were its own, as C and CO-RE see them. ``fields_of('task_struct')`` goes on
into what is embedded, with dotted paths: ``se.load.weight``.
"""

from __future__ import annotations

_COLUMNS = """
    {at} // 8 AS byte_offset, {at} AS bit_offset, m.bitfield_size, m.type, m.type_global_id
"""
_COMPOSITE = "kind IN ('STRUCT', 'UNION')"
# One step inwards: into a member, or to what a qualifier or typedef stands for. Deeper than
# _MOST_STEPS only what was made to be goes: a type that contains itself.
_STEPS = f"""
    SELECT kernel, global_id, type_global_id AS inside, bit_offset, name FROM members
    WHERE {_COMPOSITE} AND bitfield_size IS NULL
    UNION ALL
    SELECT kernel, global_id, target_global_id, 0, NULL FROM types
    WHERE kind IN ('TYPEDEF', 'CONST', 'VOLATILE', 'RESTRICT', 'TYPE_TAG')
"""
_MOST_STEPS = 32

FIELDS = f"""
CREATE VIEW fields AS
WITH RECURSIVE steps AS MATERIALIZED (FROM ({_STEPS}) WHERE name IS NULL),
within AS (
    SELECT kernel, global_id, type_global_id AS inside, bit_offset, 1 AS step FROM members
    WHERE {_COMPOSITE} AND bitfield_size IS NULL AND name IS NULL
    UNION ALL
    SELECT w.kernel, w.global_id, s.inside, w.bit_offset + s.bit_offset, step + 1
    FROM within w JOIN steps s ON s.kernel = w.kernel AND s.global_id = w.inside
    WHERE step < {_MOST_STEPS}
)
SELECT m.kernel, m.global_id, m.name AS path, {_COLUMNS.format(at="m.bit_offset")}
FROM members m WHERE {_COMPOSITE} AND m.name IS NOT NULL
UNION ALL
SELECT w.kernel, w.global_id, m.name, {_COLUMNS.format(at="(w.bit_offset + m.bit_offset)")}
FROM within w JOIN members m ON m.kernel = w.kernel AND m.global_id = w.inside
WHERE {_COMPOSITE} AND m.name IS NOT NULL
"""

FIELDS_OF = f"""
CREATE MACRO fields_of(wanted) AS TABLE
WITH RECURSIVE steps AS MATERIALIZED ({_STEPS}),
within AS (
    SELECT kernel, global_id, global_id AS inside, 0::BIGINT AS bit_offset, '' AS path, 1 AS step
    FROM types WHERE name = wanted AND {_COMPOSITE}
    UNION ALL
    SELECT w.kernel, w.global_id, s.inside, w.bit_offset + s.bit_offset,
           w.path || coalesce(s.name || '.', ''), step + 1
    FROM within w JOIN steps s ON s.kernel = w.kernel AND s.global_id = w.inside
    WHERE step < {_MOST_STEPS}
)
SELECT w.kernel, w.global_id, w.path || m.name AS path,
       {_COLUMNS.format(at="(w.bit_offset + m.bit_offset)")}
FROM within w JOIN members m ON m.kernel = w.kernel AND m.global_id = w.inside
WHERE {_COMPOSITE} AND m.name IS NOT NULL
"""
