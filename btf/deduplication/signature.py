"""Signatures: what must agree before two types can be the same, as a 64-bit hash.

Types of one signature share a list of candidates. A signature must be *necessary*: two types that
dedup may call equal have the same one. It need not be sufficient, since every candidate is
compared. libbpf hashes a struct by its own fields only; here the types of its members count too,
as far as equality guarantees it, which keeps the lists short (on xfs alone libbpf compares half a
million pairs that cannot be equal). Splitting libbpf's lists this way keeps the order of what
remains, so the same candidate wins.

What equality guarantees of a member's type (see ``equivalence``):

* a struct, a union or a forward declaration of one: kind and name, since a forward declaration
  equals a definition and says nothing of its members;
* an enum of any form: its name, since a forward enum equals a full one;
* INT and FLOAT: everything;
* a pointer, modifier, typedef, tag, array, prototype: its own words, and what it refers to.

Parameters used throughout:

base, own  uint32: words of the base, and the module's in the base's numbering
records    uint32, shape (types, RECORD_COLUMNS), by type id: the columns are named below
type_id    of the base or the module
seed       uint64: of the base's hashes, see ``format.strings.new_slots``
h          uint64: hash so far
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format.kinds import (
    ARRAY,
    ELEMENT_WORDS,
    ENUM,
    FIXED_WORDS,
    FWD,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    INT,
    STRUCT,
    TYPEDEF,
    UNION,
    VAR,
    VOID,
    is_enum,
    is_scalar,
    kind_of,
)

_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_29 = np.uint64(29)

# How many references a member's type is followed. Deeper tells more pairs apart and costs more.
_MEMBER_DEPTH = 6

# Columns of the table of records, one row for each type id (base and module alike):
START = 0  # position of its first word: in the base's words, or after them in the module's
CANONICAL = 1  # the type that it is mapped to, itself if canonical, UNMAPPED
HYPOT_MAP = 2  # hypothetical map: the module's type paired with it; valid if EPOCH is current
EPOCH = 3
RECORD_COLUMNS = 4

# What CANONICAL says of a type that is not mapped yet.
UNMAPPED = np.uint32(0xFFFFFFFF)
IN_PROGRESS = np.uint32(0xFFFFFFFE)


@inlined
def word_at(base, own, position):  # type: ignore[no-untyped-def]
    """Return the word at a position that counts through the base's words, then the module's."""
    if position < len(base):
        return base[position]
    return own[position - len(base)]


@inlined
def mix(h, value):  # type: ignore[no-untyped-def]
    """Mix ``value`` into a hash: uint64."""
    h = (h ^ np.uint64(value)) * _FACTOR
    return h ^ (h >> _29)


@compiled
def _reference_class(base, own, records, type_id, h):  # type: ignore[no-untyped-def]
    """Mix into ``h`` what equality guarantees of a type that is referred to."""
    for _ in range(_MEMBER_DEPTH):
        at = np.int64(records[type_id, START])
        name = word_at(base, own, at)
        info = word_at(base, own, at + 1)
        third = word_at(base, own, at + 2)
        kind = kind_of(info)
        h = mix(h, name)
        if kind == STRUCT or kind == UNION:
            return mix(h, kind)
        if kind == FWD:
            return mix(h, UNION if info >> np.uint32(31) else STRUCT)
        if is_enum(kind):
            return mix(h, ENUM)
        h = mix(h, info)
        if is_scalar(kind):
            h = mix(h, third)
            if kind == INT:
                h = mix(h, word_at(base, own, at + 3))
            return h
        if kind == ARRAY:
            h = mix(h, word_at(base, own, at + 5))
            type_id = np.int64(word_at(base, own, at + 3))
        elif HEAD_IS_REF[kind] and kind != VAR and kind != VOID:
            type_id = np.int64(third)
        else:
            return h
    return h


@noinline
def signature(base, own, records, type_id, seed):  # type: ignore[no-untyped-def]
    """Signature of a type: uint64.

    STRUCT, UNION: all words but the members' type ids, and the class of each member's type.
    TYPEDEF: name and info, and the class of its type. Enums: the name. Others: all words;
    for those that refer to types, after their references were resolved.
    """
    at = np.int64(records[type_id, START])
    name = word_at(base, own, at)
    info = word_at(base, own, at + 1)
    kind = kind_of(info)
    h = mix(seed, name)
    if is_enum(kind):
        return mix(h, ENUM)
    h = mix(h, info)
    third = word_at(base, own, at + 2)
    if kind == TYPEDEF:
        return _reference_class(base, own, records, np.int64(third), h)
    h = mix(h, third)
    vlen = np.int64(info & INFO_VLEN_MASK)
    body = at + HEAD_WORDS
    if kind == STRUCT or kind == UNION:
        for member in range(vlen):
            h = mix(h, word_at(base, own, body))
            h = mix(h, word_at(base, own, body + 2))
            referred = np.int64(word_at(base, own, body + 1))
            h = _reference_class(base, own, records, referred, h)
            body += 3
        return h
    for word in range(body, body + FIXED_WORDS[kind] + vlen * ELEMENT_WORDS[kind]):
        h = mix(h, word_at(base, own, word))
    return h
