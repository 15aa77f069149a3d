"""Queries of a report: each gives the rows of one figure.

Everything is aggregated in the database, and no query reads the tables ``types`` and ``members``,
which hold nearly all rows. A figure that could have very many rows has the first of them, and says
how many there are. No query holds text of the output folder: they can be shown as they are.

Kernels are in lines: those of one architecture and flavour, ordered by release. What grew or
changed is told of each kernel and the one before it in its line; what would be much to read of all
kernels, of the last of each line.
"""

from __future__ import annotations

_ORDER = "architecture NULLS LAST, flavour NULLS LAST, release_key NULLS LAST, kernel"
# Definitions that lie in memory otherwise than the first one of the name, as the question
# ``ambiguous-names`` has it: forward declarations are none.
_AMBIGUOUS = """\
level = 'layout' AND reason <> 'declared' AND kind IN ('STRUCT', 'UNION', 'ENUM', 'ENUM64')"""
_KERNELS = f"""\
WITH line AS (
  SELECT kernel, row_number() OVER (ORDER BY {_ORDER}) AS place,
         earlier.old_kernel AS before, later.new_kernel AS after
  FROM kernels
  LEFT JOIN pairs earlier ON earlier.new_kernel = kernel
  LEFT JOIN pairs later ON later.old_kernel = kernel)"""

QUERIES = {
    "kernels": f"""\
SELECT kernel, architecture, flavour, release, release_key, package_version, modules, failed,
       base_types, base_bytes, types_in, types_out, bytes_in, bytes_out,
       bytes_in / nullif(bytes_out, 0) AS smaller
FROM kernels
ORDER BY {_ORDER}""",
    "kinds": f"""\
{_KERNELS}, kinds AS (
  SELECT kernel, unnest(map_keys(base_bytes_by_kind)) AS kind,
         unnest(map_values(base_bytes_by_kind)) AS base, 0 AS modules FROM kernels
  UNION ALL
  SELECT kernel, unnest(map_keys(bytes_out_by_kind)),
         0, unnest(map_values(bytes_out_by_kind)) FROM modules),
sums AS (
  SELECT kernel, kind, coalesce(sum(base), 0)::BIGINT AS base,
         coalesce(sum(modules), 0)::BIGINT AS modules
  FROM kinds GROUP BY ALL)
SELECT line.kernel, s.kind, s.base, s.modules,
       CASE WHEN before IS NOT NULL THEN s.base - coalesce(o.base, 0) END AS base_growth,
       CASE WHEN before IS NOT NULL THEN s.modules - coalesce(o.modules, 0) END AS modules_growth
FROM line JOIN sums s ON s.kernel = line.kernel
LEFT JOIN sums o ON o.kernel = before AND o.kind = s.kind
ORDER BY place DESC, s.base + s.modules DESC, s.kind""",
    "growth": f"""\
{_KERNELS}, sizes AS (
  SELECT kernel, module, bytes_out AS bytes FROM modules WHERE bytes_out IS NOT NULL
  UNION ALL
  SELECT kernel, 'vmlinux', base_bytes FROM kernels),
sides AS (
  SELECT l.kernel, module, NULL AS old, bytes AS new
  FROM line l JOIN sizes s ON s.kernel = l.kernel WHERE before IS NOT NULL
  UNION ALL
  SELECT l.kernel, module, bytes, NULL FROM line l JOIN sizes s ON s.kernel = before),
sums AS (
  SELECT kernel, min(module) AS module, sum(old)::BIGINT AS old, sum(new)::BIGINT AS new,
         (coalesce(sum(new), 0) - coalesce(sum(old), 0))::BIGINT AS growth
  FROM sides GROUP BY kernel, replace(module, '-', '_'))
SELECT before, kernel, module, old, new, growth
FROM line JOIN sums USING (kernel) WHERE growth <> 0
QUALIFY row_number() OVER (PARTITION BY kernel ORDER BY abs(growth) DESC, module) <= 50
ORDER BY place DESC, abs(growth) DESC, module""",
    "subsystems": f"""\
{_KERNELS}, homes AS (
  SELECT kernel, module, bytes_out, nullif(subsystem(source), '') AS subsystem
  FROM line JOIN modules USING (kernel) WHERE after IS NULL AND bytes_out IS NOT NULL),
classes AS (
  SELECT kernel, own_fingerprint, any_value(name) AS name,
         any_value(wasted_bytes) AS wasted, any_value(copies) - 1 AS repeated,
         CASE WHEN count(DISTINCT coalesce(subsystem, '')) = 1 THEN any_value(subsystem)
              ELSE 'several' END AS subsystem
  FROM (SELECT kernel, own_fingerprint, name, wasted_bytes, copies, unnest(modules) AS module
        FROM duplicates) d
  JOIN homes USING (kernel, module) GROUP BY kernel, own_fingerprint),
named AS (
  SELECT kernel, subsystem, name, sum(repeated) AS repeated, sum(wasted) AS wasted
  FROM classes GROUP BY ALL),
sums AS (
  SELECT kernel, subsystem, sum(repeated)::BIGINT AS repeated, sum(wasted)::BIGINT AS wasted,
         list(name ORDER BY wasted DESC, name) FILTER (name IS NOT NULL)[1:5] AS names
  FROM named GROUP BY ALL),
written AS (
  SELECT kernel, subsystem, count(*) AS modules, sum(bytes_out)::BIGINT AS bytes
  FROM homes GROUP BY ALL)
SELECT kernel, subsystem, modules, bytes, repeated, wasted, names
FROM line JOIN (sums FULL JOIN written USING (kernel, subsystem)) USING (kernel)
ORDER BY place, wasted DESC NULLS LAST, bytes DESC, subsystem""",
    "leftovers": f"""\
{_KERNELS}
SELECT kernel, CASE WHEN module IS NULL THEN 'vmlinux' ELSE 'modules' END AS part, cause,
       count(DISTINCT object_id) AS objects, coalesce(sum(types), 0)::BIGINT AS types,
       coalesce(sum(bytes), 0)::BIGINT AS bytes
FROM line JOIN leftovers USING (kernel)
WHERE cause IS NOT NULL
GROUP BY place, kernel, part, cause
ORDER BY place, bytes DESC, part, cause""",
    "repeated": f"""\
{_KERNELS}
SELECT kernel, kind, name, copies, bytes_each, wasted_bytes, module_count, modules[1:5] AS modules
FROM line JOIN duplicates USING (kernel) WHERE after IS NULL AND name IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY kernel ORDER BY wasted_bytes DESC, kind, name) <= 100
ORDER BY place, wasted_bytes DESC, kind, name""",
    "reasons": f"""\
{_KERNELS}
SELECT kernel, reason, count(*) AS types, count(DISTINCT module) AS modules,
       coalesce(sum(root_types) FILTER (global_id = root_global_id), 0)::BIGINT AS root_types,
       coalesce(sum(root_bytes) FILTER (global_id = root_global_id), 0)::BIGINT AS root_bytes
FROM line JOIN misses USING (kernel)
WHERE reason <> 'never_merged'
GROUP BY place, kernel, reason
ORDER BY place, types DESC, reason""",
    "causes": f"""\
{_KERNELS}, causes AS (
  SELECT kernel, root_kind AS kind, root_name AS name,
         min(reason) FILTER (global_id = root_global_id) AS reason, difference,
         count(DISTINCT module) AS modules, count(*) AS stayed,
         sum(root_types) FILTER (global_id = root_global_id)::BIGINT AS types,
         sum(root_bytes) FILTER (global_id = root_global_id)::BIGINT AS bytes
  FROM line JOIN misses USING (kernel)
  WHERE after IS NULL AND reason <> 'never_merged'
  GROUP BY kernel, root_kind, root_name, difference)
SELECT kernel, kind, name, reason, difference, modules, stayed, types, bytes
FROM line JOIN causes USING (kernel)
QUALIFY row_number() OVER (PARTITION BY kernel ORDER BY bytes DESC NULLS LAST, stayed DESC,
                           kind, name, difference) <= 100
ORDER BY place, bytes DESC NULLS LAST, stayed DESC, kind, name, difference""",
    "names": f"""\
{_KERNELS}, names AS (
  SELECT kernel, kind, name, min_by(reason, definition) AS reason
  FROM conflicts WHERE {_AMBIGUOUS} GROUP BY kernel, kind, name)
SELECT kernel, reason, count(*) AS names
FROM line JOIN names USING (kernel)
GROUP BY place, kernel, reason
ORDER BY place, names DESC, reason""",
    "ambiguous": f"""\
{_KERNELS}, ambiguous AS (
  SELECT kernel, kind, name, list_sort(list(DISTINCT reason)) AS reasons,
         min_by(difference, definition) AS first
  FROM conflicts WHERE {_AMBIGUOUS} GROUP BY kernel, kind, name),
names AS (
  SELECT kernel, kind, name, count(DISTINCT layout_fingerprint) AS layouts,
         sum(module_count)::BIGINT AS modules, bool_or(in_base) AS in_base,
         any_value(reasons) AS reasons, any_value(first) AS difference
  FROM line JOIN conflicts USING (kernel) JOIN ambiguous USING (kernel, kind, name)
  WHERE after IS NULL AND NOT coalesce(level = 'layout' AND reason = 'declared', false)
  GROUP BY kernel, kind, name)
SELECT kernel, kind, name, layouts, modules, in_base, reasons, difference
FROM line JOIN names USING (kernel)
QUALIFY row_number() OVER (PARTITION BY kernel
                           ORDER BY layouts DESC, modules DESC, kind, name) <= 100
ORDER BY place, layouts DESC, modules DESC, kind, name""",
    # What several modules keep goes into a shared layer, but what says what a module has stays.
    "layers": f"""\
{_KERNELS}, star AS (
  SELECT kernel, sum(types_out)::BIGINT AS types, sum(type_bytes_out)::BIGINT AS bytes
  FROM modules GROUP BY kernel),
moved AS (
  SELECT kernel, sum(copies - 1)::BIGINT AS types, sum(wasted_bytes)::BIGINT AS bytes
  FROM duplicates WHERE kind NOT IN ('FUNC', 'VAR', 'DATASEC', 'DECL_TAG') GROUP BY kernel)
SELECT kernel, star.types AS star_types, star.types - coalesce(moved.types, 0) AS shared_types,
       star.bytes AS star_bytes, star.bytes - coalesce(moved.bytes, 0) AS shared_bytes,
       100 * coalesce(moved.bytes, 0) / nullif(star.bytes, 0) AS saved
FROM line JOIN star USING (kernel) LEFT JOIN moved USING (kernel)
ORDER BY place""",
    "failed": f"""\
{_KERNELS}
SELECT kernel, module, source, error_kind, error
FROM line JOIN modules USING (kernel)
WHERE error_kind IS NOT NULL
ORDER BY place, module""",
}
