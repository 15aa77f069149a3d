"""The table ``leftovers``: what builds left in the BTF that they ship although dedup removes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import btf
from btf.unmerged.leftovers import CAUSES, kept_totals, leftovers

from ..model.base import SharedBase
from .schema import I64, U8, WORDS, Column, ModuleTable, Objects, Rows, kind_words, required

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .describe import ModuleGroup

_CAUSES = "; ".join(f"`{cause}`: {meaning}" for cause, meaning in CAUSES.items())
_RESULT = required(kind=U8, cause=U8, types=I64, bytes=I64)


def _describe(
    source: btf.BTF, result: btf.DedupResult, base: SharedBase
) -> NDArray[np.int64] | None:
    """What was left of a module that came as split BTF, and of any what its arrays keep."""
    kept = base.arrays.kept_types(source, result, base.index)
    if source.base is not None:
        return leftovers(source, result, kept)
    return kept_totals(result.btf, kept) if kept is not None else None


def _rows(group: ModuleGroup) -> Rows:
    if group.is_base:
        found = [_of_base(group.whole)]
    else:
        found = list(group.kept.get("leftovers", [None] * len(group.counts)))
    counts, rows = np.zeros(len(found), np.int64), []
    for number, totals in enumerate(found):
        if totals is not None:
            cause, kind = np.nonzero(totals[0])
            counts[number] = len(kind)
            rows.append((kind, cause, *totals[:, cause, kind]))
    columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)] or [np.zeros(0)] * 4
    arrays = [pa.array(c).cast(f.type) for c, f in zip(columns, _RESULT, strict=True)]
    return counts, pa.StructArray.from_arrays(arrays, fields=list(_RESULT))


def _of_base(base: btf.BTF) -> NDArray[np.int64] | None:
    """What is in a base twice; None where dedup refuses it."""
    try:
        return leftovers(base, btf.dedup(base))
    except btf.BtfError:
        return None


def _to_arrow(rows: Mapping[str, pa.Array], objects: Objects) -> Mapping[str, Any]:
    object_id = objects.of_rows()
    module = pa.array(object_id.astype(np.int32), mask=object_id == 0)
    causes = pa.DictionaryArray.from_arrays(rows["cause"].cast(pa.int32()), list(CAUSES))
    return {
        **rows,
        "object_id": object_id,
        "module": pa.DictionaryArray.from_arrays(module, objects.names),
        "kind": kind_words(rows["kind"]),
        "cause": causes,
    }


TABLE = ModuleTable(
    name="leftovers",
    rank=75,
    row="one row per object, kind and cause of types that came with the input and that dedup "
    "removes: of modules that came as split BTF, and of the base; and of types that stay only for "
    "the cause `arrays`, of all modules",
    order="object_id, cause, kind",
    columns=(
        Column("object_id", I64, "", "0 for the base, else that of the module"),
        Column("module", WORDS, "", "the module; null for the base"),
        Column("kind", WORDS, "", "BTF kind of the types"),
        Column("cause", WORDS, "", f"why they may have been left; {_CAUSES}"),
        Column("types", I64, "types", "how many were left"),
        Column("bytes", I64, "bytes", "size of their records"),
    ),
    result=_RESULT,
    rows=_rows,
    to_arrow=_to_arrow,
    describe=_describe,
    of_base=True,
)
