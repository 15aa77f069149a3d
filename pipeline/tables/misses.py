"""The table ``misses``: what was found out about each module, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import btf

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class MissRow:
    """A row, but for the module's number and name: see ``schemas.MISSES``.

    ``root_is_own`` says whether the root cause is a type of the module, or else of the base.
    """

    type_id: int
    kind: str
    name: str
    bytes: int
    base_type_id: int
    base_kind: str
    namesakes: int
    reason: str
    path: str
    difference: str
    sole: bool | None
    root_is_own: bool
    root_type_id: int
    root_kind: str
    root_name: str
    root_base_type_id: int
    root_types: int | None
    root_bytes: int | None


_AS_THEY_ARE = [f.name for f in fields(MissRow) if f.name not in ("root_is_own", "root_type_id")]


def miss_rows(split: btf.BTF, misses: Sequence[btf.Miss]) -> tuple[MissRow, ...]:
    """The misses of one module, after dedup, in the order of the types."""
    rows = []
    for miss in sorted(misses, key=lambda miss: miss.type_id):
        found, root = split[miss.type_id], miss.root
        root_type = split[root.type_id]
        rows.append(
            MissRow(
                type_id=miss.type_id,
                kind=found.kind_name,
                name=found.name,
                bytes=4 * len(found.words),
                base_type_id=miss.base_type_id,
                base_kind=split[miss.base_type_id].kind_name,
                namesakes=miss.namesakes,
                reason=miss.reason,
                path=miss.path,
                difference=root.words,
                sole=miss.sole,
                root_is_own=root.type_id >= split.start_id,
                root_type_id=root.type_id,
                root_kind=root_type.kind_name,
                root_name=root_type.name,
                root_base_type_id=root.base_type_id,
                root_types=root.kept_types,
                root_bytes=root.kept_bytes,
            )
        )
    return tuple(rows)


def misses_table(parts: Sequence[tuple[int, str, Sequence[MissRow]]]) -> pa.Table:
    """The rows of several modules, given with the object id and the name of each."""
    import pyarrow as pa  # late

    from .schemas import MISSES

    object_ids = [object_id for object_id, _, rows in parts for _ in rows]
    found = [row for _, _, rows in parts for row in rows]
    values = {name: [getattr(row, name) for row in found] for name in _AS_THEY_ARE}
    values["object_id"] = object_ids
    values["module"] = [name for _, name, rows in parts for _ in rows]
    values["global_id"] = [
        object_id << 32 | row.type_id for object_id, row in zip(object_ids, found, strict=True)
    ]
    values["root_global_id"] = [
        (object_id if row.root_is_own else 0) << 32 | row.root_type_id
        for object_id, row in zip(object_ids, found, strict=True)
    ]
    return pa.Table.from_pydict(values, schema=MISSES.schema)
