"""Members, parameters and enumerators of a BTF's own types as columns, a row for each."""

from __future__ import annotations

import numpy as np

from ..arguments import takes
from ..compiled.jit import compiled
from ..format.kinds import (
    ELEMENT_WORDS,
    ENUM_BITS,
    HAS_MEMBERS,
    HEAD_WORDS,
    INFO_KIND_FLAG,
    INFO_VLEN_MASK,
    STRUCT,
    UNION,
    is_enum,
    kind_of,
)
from .btf import BTF

_24 = np.uint32(24)
_31, _32, _ONES = np.uint64(31), np.uint64(32), np.uint64(0xFFFFFFFF)
_OFFSET_MASK = np.uint32(0xFFFFFF)


@takes(btf=BTF)
def members(btf: BTF) -> dict[str, np.ndarray]:
    """One entry per member of a struct or union, parameter of a prototype and enumerator among the
    own types, in order of type id, then of position. (Entries of a DATASEC have no names.)

    owner         uint32, own type (0-based) that it is part of
    position      uint32, from 0
    name_off      uint32, global string offset; 0 is anonymous
    type_id       uint32, type of a member or parameter; 0 (void) for enumerators
    bit_offset    uint32, of a member from the start of its struct; else 0
    bitfield_size uint8, bits of a bit field; 0 for other members and all else
    value         uint64, of an enumerator, modulo 2^64
    negative      uint8, whether 2^64 is to be taken off that
    """
    info = btf.words[btf.offsets[:-1] + np.uint32(1)]
    rows = int((info & INFO_VLEN_MASK)[HAS_MEMBERS[btf.own_kinds] != 0].sum())
    out: dict[str, np.ndarray] = {
        "owner": np.empty(rows, np.uint32),
        "position": np.empty(rows, np.uint32),
        "name_off": np.empty(rows, np.uint32),
        "type_id": np.zeros(rows, np.uint32),
        "bit_offset": np.zeros(rows, np.uint32),
        "bitfield_size": np.zeros(rows, np.uint8),
        "value": np.zeros(rows, np.uint64),
        "negative": np.zeros(rows, np.uint8),
    }
    _fill_members(btf.words, btf.offsets, *out.values())
    return out


@compiled
def _fill_members(words, offsets, owner, position, name_off, type_id, at_bit, bits, value, minus):  # type: ignore[no-untyped-def]
    """Fill ``owner``, ``position``, ``name_off``, ``type_id``, ``at_bit``, ``bits``, ``value`` and
    ``minus``: the arrays of ``members``, in that order. ``words``, ``offsets``: as in ``BTF``."""
    row = 0
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        info = words[at + 1]
        kind = kind_of(info)
        if not HAS_MEMBERS[kind]:
            continue
        stride = np.int64(ELEMENT_WORDS[kind])
        flag = (info & INFO_KIND_FLAG) != 0
        body = at + HEAD_WORDS
        for number in range(np.int64(info & INFO_VLEN_MASK)):
            owner[row] = index
            position[row] = number
            name_off[row] = words[body]
            word = words[body + 1]
            if is_enum(kind):
                low, high = np.uint64(word), np.uint64(0)
                if ENUM_BITS[kind] == 64:
                    high = np.uint64(words[body + 2])
                elif flag and low >> _31:
                    high = _ONES
                value[row] = high << _32 | low
                minus[row] = 1 if flag and high >> _31 else 0
            else:
                type_id[row] = word
                if kind == STRUCT or kind == UNION:
                    offset = words[body + 2]
                    if flag:
                        bits[row] = offset >> _24
                        offset &= _OFFSET_MASK
                    at_bit[row] = offset
            body += stride
            row += 1
