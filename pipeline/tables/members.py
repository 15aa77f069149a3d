"""The table ``members``: members, parameters and enumerators of the types in ``types``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import btf

from .schema import (
    I64,
    TEXT,
    U8,
    U32,
    WHOLE,
    WORDS,
    Column,
    ModuleTable,
    Objects,
    Rows,
    filled,
    global_ids,
    kind_words,
    required,
    strings,
    without,
)

if TYPE_CHECKING:
    from .describe import ModuleGroup

_ENUM_KINDS = np.flatnonzero(btf.kinds.ENUM_BITS)
# See ``btf.members``; ids, that of the type that a row is part of among them, are those in the
# module's own BTF.
_RESULT = required(
    owner=U32, position=U32, kind=U8, name=TEXT, type_id=U32,
    bit_offset=U32, bitfield_size=U8, value=pa.uint64(), negative=U8,
)  # fmt: skip


def _rows(group: ModuleGroup) -> Rows:
    if not group.counts.any():
        return group.counts, pa.array([], pa.struct(_RESULT))
    whole = group.whole
    columns = btf.members(whole)
    owner, type_id, start_id = columns["owner"], columns["type_id"], np.uint32(whole.start_id)
    before = group.types_before[owner]
    own = type_id >= start_id
    type_id[own] -= before[own]
    arrays = {
        **columns,
        "owner": owner + (start_id - before),
        "kind": whole.own_kinds[owner],
        "name": strings(*btf.texts(whole, columns["name_off"])),
    }
    counts = np.bincount(group.module_of_type[owner], minlength=len(group.counts))
    fields = [pa.array(arrays[field.name]) for field in _RESULT]
    return counts, pa.StructArray.from_arrays(fields, fields=list(_RESULT))


def _to_arrow(rows: Mapping[str, pa.Array], objects: Objects) -> Mapping[str, Any]:
    object_id, kind = objects.of_rows(), rows["kind"].to_numpy()
    enumerator = np.isin(kind, _ENUM_KINDS)
    no_place = enumerator | (kind == btf.kinds.FUNC_PROTO)
    global_id = global_ids(object_id, rows["owner"].to_numpy())
    type_id, name = rows["type_id"].to_numpy(), filled(rows["name"])
    variadic = (kind == btf.kinds.FUNC_PROTO) & (type_id == 0) & np.asarray(name.is_null())
    variadic[:-1] &= np.diff(global_id) != 0  # only as the last one
    return {
        **rows,
        "global_id": global_id,
        "kind": kind_words(rows["kind"]),
        "name": name,
        "type": objects.spellings_of(type_id, variadic, absent=enumerator),
        "type_global_id": without(enumerator, objects.global_ids_of(type_id)),
        "bit_offset": without(no_place, rows["bit_offset"]),
        "bitfield_size": without(rows["bitfield_size"].to_numpy() == 0, rows["bitfield_size"]),
        "value": _decimals(rows["value"].to_numpy(), rows["negative"].to_numpy(), enumerator),
    }


def _decimals(
    value: NDArray[np.uint64], negative: NDArray[np.uint8], known: NDArray[np.bool_]
) -> pa.Decimal128Array:
    """Whole numbers from -2^63 to 2^64 - 1; null where not known."""
    words = np.empty((len(value), 2), "<u8")
    words[:, 0] = value
    words[:, 1] = np.where(negative, np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0))
    valid = np.packbits(known, bitorder="little")
    buffers = [pa.py_buffer(valid), pa.py_buffer(words)]
    return pa.Decimal128Array.from_buffers(WHOLE, len(value), buffers)


TABLE = ModuleTable(
    name="members",
    rank=40,
    row=(
        "one row per member of a struct or union, parameter of a function prototype and "
        "enumerator of the types in `types`"
    ),
    order="global_id, position",
    columns=(
        Column("global_id", I64, "", "the type that it is part of"),
        Column("position", I64, "", "place among the members, from 0"),
        Column("kind", WORDS, "", "kind of that type: STRUCT, UNION, FUNC_PROTO, ENUM or ENUM64"),
        Column("name", TEXT, "", "name; null for anonymous members and parameters"),
        Column("type", TEXT, "", "how C spells the type of a member or parameter, see `types`"),
        Column(
            "type_global_id",
            I64,
            "",
            "type of a member or parameter; 0 is void, as a last parameter without a name `...`",
        ),
        Column("bit_offset", I64, "bits", "of a member, from the start of the struct or union"),
        Column("bitfield_size", I64, "bits", "of a bit field; else null"),
        Column("value", WHOLE, "", "of an enumerator"),
    ),
    result=_RESULT,
    rows=_rows,
    to_arrow=_to_arrow,
    of_base=True,
)
