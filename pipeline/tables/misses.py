"""The table ``misses``: types that stayed although the base has one of their name, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import btf
from btf.compare.reasons import REASONS, UNMERGED_REASONS
from btf.unmerged.find import find_unmerged

from ..model.base import SharedBase
from .schema import I64, TEXT, U32, WORDS, Column, ModuleTable, Objects, Rows, global_ids, required

if TYPE_CHECKING:
    from .describe import ModuleGroup

_REASONS = "; ".join(f"`{code}`: {meaning}" for code, meaning in REASONS.items())
_UNMERGED_REASONS = "; ".join(f"`{code}`: {meaning}" for code, meaning in UNMERGED_REASONS.items())
# ``root_is_own``: whether the root cause is a type of the module, or else of the base.
_RESULT = (
    *required(type_id=U32, kind=TEXT, name=TEXT, bytes=U32, base_type_id=U32, base_kind=TEXT),
    *required(namesakes=U32, reason=TEXT, path=TEXT, difference=TEXT),
    pa.field("sole", pa.bool_()),
    *required(root_is_own=pa.bool_(), root_type_id=U32, root_kind=TEXT, root_name=TEXT),
    *required(root_base_type_id=U32),
    pa.field("root_types", pa.int32()),
    pa.field("root_bytes", pa.int32()),
)


def _describe(source: btf.BTF, result: btf.DedupResult, base: SharedBase) -> list[dict[str, Any]]:
    """The rows of one module, in the order of its types."""
    misses = find_unmerged(source, result, base.index, base.names)
    if not misses:
        return []
    misses.sort(key=lambda miss: miss.type_id)
    type_at = cache(result.btf.__getitem__)  # many are one namesake's, or keep themselves
    return [_row(result.btf.start_id, type_at, miss) for miss in misses]


def _row(
    first_own: int, type_at: Callable[[int], btf.Type], miss: btf.UnmergedType
) -> dict[str, Any]:
    found, root = type_at(miss.type_id), miss.root
    root_type = type_at(root.type_id)
    return {
        "type_id": miss.type_id,
        "kind": found.kind_name,
        "name": found.name,
        "bytes": 4 * len(found.words),
        "base_type_id": miss.base_type_id,
        "base_kind": type_at(miss.base_type_id).kind_name,
        "namesakes": miss.namesakes,
        "reason": miss.reason,
        "path": miss.path,
        "difference": root.words,
        "sole": miss.sole,
        "root_is_own": root.type_id >= first_own,
        "root_type_id": root.type_id,
        "root_kind": root_type.kind_name,
        "root_name": root_type.name,
        "root_base_type_id": root.base_type_id,
        "root_types": root.kept_types,
        "root_bytes": root.kept_bytes,
    }


def _rows(group: ModuleGroup) -> Rows:
    rows = [found or () for found in group.kept.get("misses", [None] * len(group.counts))]
    counts = np.array([len(found) for found in rows], np.int64)
    return counts, pa.array([row for found in rows for row in found], pa.struct(_RESULT))


def _to_arrow(rows: Mapping[str, pa.Array], objects: Objects) -> Mapping[str, Any]:
    object_id = objects.of_rows()
    root_object_id = np.where(rows["root_is_own"].to_numpy(False), object_id, 0)
    columns = {
        **rows,
        "object_id": object_id,
        "module": objects.names.take(pa.array(object_id)),
        "global_id": global_ids(object_id, rows["type_id"].to_numpy()),
        "root_global_id": global_ids(root_object_id, rows["root_type_id"].to_numpy()),
    }
    words = [column.name for column in TABLE.columns if column.type == WORDS]
    return columns | {name: columns[name].dictionary_encode() for name in words}


TABLE = ModuleTable(
    name="misses",
    rank=70,
    row="one row per named type that stayed in a module although the base has a type of its name",
    order="global_id",
    columns=(
        Column("global_id", I64, "", "the type that stayed"),
        Column("object_id", I64, "", "number of its module"),
        Column("module", WORDS, "", "name of the module"),
        Column("type_id", I64, "", "id in the module's split BTF"),
        Column("kind", WORDS, "", "BTF kind: STRUCT, FUNC, FWD, …"),
        Column("name", TEXT, "", "name of the type that stayed"),
        Column("bytes", I64, "bytes", "size of its record in the type section"),
        Column(
            "base_type_id",
            I64,
            "",
            "the base's type that it is held against: of the same name, and of the same kind or "
            "one that shares its name space in C (struct, union, enum and their declarations; int, "
            "float and typedef)",
        ),
        Column("base_kind", WORDS, "", "kind of that type"),
        Column("namesakes", I64, "types", "types of the base that could be meant by the name"),
        Column("reason", WORDS, "", f"why it stayed; {_REASONS}; {_UNMERGED_REASONS}"),
        Column(
            "path",
            TEXT,
            "",
            "the shortest way from it to the root cause, as C says it; of a long one the middle is "
            "left out",
        ),
        Column("difference", TEXT, "", "what differs between the root cause and the base's type"),
        Column(
            "sole",
            pa.bool_(),
            "",
            "whether it stays only because of that root cause; null where not worked out",
        ),
        Column(
            "root_global_id",
            I64,
            "",
            "the root cause: the innermost named type whose difference explains it, mostly one of "
            "the module",
        ),
        Column("root_kind", WORDS, "", "BTF kind of the root cause"),
        Column("root_name", TEXT, "", "name of the root cause"),
        Column("root_base_type_id", I64, "", "the base's type that it is held against"),
        Column(
            "root_types",
            I64,
            "types",
            "own types that stay only because of the root cause: that would go if the module had "
            "the base's type in its place, unnamed ones included; less than 0 if more would stay "
            "then; null where not worked out",
        ),
        Column("root_bytes", I64, "bytes", "size of their records"),
    ),
    result=_RESULT,
    rows=_rows,
    to_arrow=_to_arrow,
    describe=_describe,
)
