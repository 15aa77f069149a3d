"""How long a type record is, where its references stand and what its words say, for compiled
functions.

For Python, ``kinds.reference_words`` says the same of one record, and ``edit.fields`` of many.

Parameters used throughout:

info   uint32: the second word of a record, which says its kind and vlen
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined
from .kinds import (
    ARRAY,
    ELEMENT_WORDS,
    ENUM,
    ENUM_BITS,
    FEWEST_REFS,
    FIRST_REF,
    FIXED_WORDS,
    FWD,
    HEAD_WORDS,
    INFO_KIND_FLAG,
    INFO_VLEN_MASK,
    REF_EACH,
    REF_STEP,
    STRUCT,
    TYPEDEF,
    UNION,
    is_enum,
    is_scalar,
    kind_of,
)

_24, _31, _32, _63 = np.uint32(24), np.uint64(31), np.uint64(32), np.uint64(63)
_OFFSET_MASK = np.uint32(0xFFFFFF)
_HIGH = np.uint64(0xFFFFFFFF00000000)
_0, _1 = np.uint64(0), np.uint64(1)


@compiled
def record_length(info):  # type: ignore[no-untyped-def]
    """Words of a record (int64)."""
    kind = kind_of(info)
    return HEAD_WORDS + FIXED_WORDS[kind] + np.int64(info & INFO_VLEN_MASK) * ELEMENT_WORDS[kind]


@compiled
def reference_count(info):  # type: ignore[no-untyped-def]
    """How many words of a record are type ids (int64), void included."""
    kind = kind_of(info)
    return np.int64(FEWEST_REFS[kind]) + np.int64(REF_EACH[kind]) * np.int64(info & INFO_VLEN_MASK)


@compiled
def reference_word(info, number):  # type: ignore[no-untyped-def]
    """Which word of a record (int64) is its type id ``number``, counted from 0."""
    kind = kind_of(info)
    return np.int64(FIRST_REF[kind]) + number * np.int64(REF_STEP[kind])


@compiled
def reference_at(words, at, number):  # type: ignore[no-untyped-def]
    """Type id (int64) ``number`` of the record that begins at word ``at`` of ``words`` (uint32)."""
    return np.int64(words[at + reference_word(words[at + 1], number)])


@inlined
def name_class(info):  # type: ignore[no-untyped-def]
    """The kind that stands for all whose names C spells alike: a struct's for its declarations, an
    enum's for both widths, a typedef's for integers."""
    kind = kind_of(info)
    if kind == FWD:
        return UNION if (info & INFO_KIND_FLAG) != 0 else STRUCT
    if is_enum(kind):
        return ENUM
    return TYPEDEF if is_scalar(kind) else kind


@inlined
def enumerator(words, at, info):  # type: ignore[no-untyped-def]
    """(value modulo 2**64, 1 if 2**64 is to be taken off, as uint64) of the element at word ``at``
    of a record with ``info``."""
    low = np.uint64(words[at + 1])
    negative = (info & INFO_KIND_FLAG) != 0
    if ENUM_BITS[kind_of(info)] == 64:
        low |= np.uint64(words[at + 2]) << _32
        negative = negative and (low >> _63) != _0
    else:
        negative = negative and (low >> _31) != _0
        if negative:
            low |= _HIGH
    return low, _1 if negative else _0


@inlined
def place(word, info):  # type: ignore[no-untyped-def]
    """(bit offset, bits of a bit field or 0), as uint64, of a member whose third word is ``word``
    in a record with ``info``."""
    if (info & INFO_KIND_FLAG) != 0:
        return np.uint64(word & _OFFSET_MASK), np.uint64(word >> _24)
    return np.uint64(word), _0


@compiled
def find_nested_arrays(words, offsets, start_id, base_words, base_offsets, found):  # type: ignore[no-untyped-def]
    """Put ids of own arrays of arrays into ``found``, int64, as far as there is room; returns how
    many there are.

    words, offsets             own types, as in ``BTF``; the first one has the id ``start_id``
    base_words, base_offsets   types below them, from id 1 on
    """
    count = 0
    for own in range(len(offsets) - 1):
        at = np.int64(offsets[own])
        if kind_of(words[at + 1]) != ARRAY:
            continue
        element = np.int64(words[at + 3])
        if element >= start_id:
            info = words[np.int64(offsets[element - start_id]) + 1]
        elif element > 0:
            info = base_words[np.int64(base_offsets[element - 1]) + 1]
        else:
            continue
        if kind_of(info) == ARRAY:
            if count < len(found):
                found[count] = start_id + own
            count += 1
    return count
