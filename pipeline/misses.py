"""The table ``misses``: what was found out about each module, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import btf

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class MissRow:
    """A row, but for the module's name: see ``schemas.MISSES``."""

    global_id: int
    object_id: int
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
    only: bool | None
    root_global_id: int
    root_kind: str
    root_name: str
    root_base_type_id: int
    root_types: int | None
    root_bytes: int | None


def miss_rows(object_id: int, split: btf.BTF, misses: Sequence[btf.Miss]) -> list[MissRow]:
    """The misses of one module, whose number is ``object_id``, after dedup."""
    rows = []
    for miss in misses:
        found, root = split[miss.type_id], miss.root
        root_type = split[root.type_id]
        holder = object_id if root.type_id >= split.start_id else 0
        rows.append(
            MissRow(
                global_id=object_id << 32 | miss.type_id,
                object_id=object_id,
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
                only=miss.only,
                root_global_id=holder << 32 | root.type_id,
                root_kind=root_type.kind_name,
                root_name=root_type.name,
                root_base_type_id=root.base_type_id,
                root_types=root.kept_types,
                root_bytes=root.kept_bytes,
            )
        )
    return rows


def misses_table(rows: Sequence[MissRow], names: Sequence[str]) -> pa.Table:
    """The table of a kernel, in the order of ``global_id``; ``names`` of modules by object id."""
    import pyarrow as pa  # late

    from .schemas import MISSES

    ordered = sorted(rows, key=lambda row: row.global_id)
    values = [{**asdict(row), "module": names[row.object_id]} for row in ordered]
    return pa.Table.from_pylist(values, schema=MISSES.schema)
