"""Remapping type records to another numbering: names to the base's strings, ids moved up.

libbpf does so when a BTF is added to another one, and in its string pass. The one fused loop for
whole modules; ``fields`` gives the positions of names and references for all else.

Parameters used throughout:

words         uint32: the source's type records, checked by ``scan``
offsets       uint32, shape (T + 1,): where each of them starts
source        uint8: the source's own strings
source_start  offset of the first of them; smaller offsets are the base's already
first_source, delta   references from id ``first_source`` on move up by ``delta``
base          has ``strings`` and ``string_slots``, see ``BaseTables``
scratch       has ``seen``, ``shifts``, ``own_strings``, ``string_heads``, ``string_rows``,
              ``state`` and ``own``, see ``Scratch``
name, start   offset of a name, of all strings and in ``source``
at, end       the first word of a record, and the one after its last
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format.kinds import (
    ELEMENT_NAME,
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    HEAD_IS_REF,
    HEAD_WORDS,
    STRUCT,
    UNION,
    kind_of,
)
from ..format.strings import (
    ABSENT,
    MIXED,
    PIECE_BITS,
    UNSEEN,
    common_string,
    copy_string,
    find_string,
    hash_string,
    is_noted,
    noted_hash,
    seed_of,
)

# Columns of ``string_rows``, one row for each new string: the one before it with the same head,
# from 1 on (0 is none), its hash's upper half, and its offset in ``own_strings``.
_NEXT = 0
_HASH = 1
_OFFSET = 2
STRING_COLUMNS = 3
MAX_NEW_TEXT = 1 << 24  # bytes of names that Linux can refer to (BTF_MAX_NAME_OFFSET)
TEXT_PER_HEAD = 16  # bytes of a module's strings for each head: its strings are about as long

# Slots of the int64 array ``state`` that remapping works with, the first of ``Scratch.state``:
OWN_BYTES = 0  # bytes of new strings
OWN_STRINGS = 1  # number of new strings
STRING_OVERFLOW = 2  # set when the buffer for new strings or its table is too small
STARTS_ONLY = 3  # 1: ``seen`` is filled where strings begin; 2: a name begins elsewhere
STRING_MASK = 4  # of the heads of chains of new strings that this module uses
REMAP_SLOTS = 5

_32 = np.uint64(32)


@inlined
def _map_name(name, source, source_start, base, scratch):  # type: ignore[no-untyped-def]
    """Map a name of the source to its offset in the result."""
    if name < source_start:
        return name
    start = np.int64(name) - source_start
    shift = scratch.shifts[start >> PIECE_BITS]
    if start > 0 and source[start - 1] != 0 and scratch.state[STARTS_ONLY] != 0:
        scratch.state[STARTS_ONLY] = 2
    if shift != MIXED:
        return np.uint32((start + np.int64(shift)) & 0xFFFFFFFF)
    mapped = scratch.seen[start]
    if mapped >= ABSENT:
        return _new_name(start, source, base, scratch)
    return mapped


@inlined
def known_name(name, source, source_start, scratch):  # type: ignore[no-untyped-def]
    """As ``_map_name``, but ABSENT or UNSEEN for a name that is not mapped yet."""
    if name < source_start:
        return name
    start = np.int64(name) - source_start
    shift = scratch.shifts[start >> PIECE_BITS]
    if shift != MIXED:
        return np.uint32((start + np.int64(shift)) & 0xFFFFFFFF)
    return scratch.seen[start]


@noinline
def _new_name(start, source, base, scratch):  # type: ignore[no-untyped-def]
    """Map a string that is not mapped yet: to the base's, or a new own one."""
    seen = scratch.seen
    own = scratch.own_strings
    state = scratch.state
    if source[start] == 0:
        seen[start] = 0
        return np.uint32(0)
    if state[STRING_OVERFLOW] != 0:  # the result is void: look no further
        return np.uint32(0)
    if state[STARTS_ONLY] == 1 and seen[start] == ABSENT and is_noted(source, start):
        h, end = noted_hash(seen, start)
    else:
        h, end = hash_string(source, start, seed_of(base.string_slots))
    if seen[start] == UNSEEN:  # a name that begins inside of a string
        found = find_string(base.strings, base.string_slots, source, start, h)
        if found >= 0:
            seen[start] = found
            return np.uint32(found)
    rows = scratch.string_rows
    head = np.int64(h & np.uint64(state[STRING_MASK]))
    high = np.uint32(h >> _32)
    number = np.int64(scratch.string_heads[head])
    while number != 0:
        at = np.int64(rows[number - 1, _OFFSET])
        if rows[number - 1, _HASH] == high and common_string(own, at, source, start) >= 0:
            break
        number = np.int64(rows[number - 1, _NEXT])
    if number == 0:
        at = state[OWN_BYTES]
        length = end + 1 - start
        if at + length > len(own):
            state[STRING_OVERFLOW] = 1
            return np.uint32(0)
        copy_string(source, start, own, at, length)
        row = state[OWN_STRINGS]
        rows[row, _NEXT] = scratch.string_heads[head]
        rows[row, _HASH] = high
        rows[row, _OFFSET] = at
        scratch.string_heads[head] = row + 1
        state[OWN_BYTES] += length
        state[OWN_STRINGS] += 1
    at += len(base.strings)
    seen[start] = at
    return np.uint32(at)


@compiled
def remap_types(words, offsets, source, source_start, first_source, delta, base, scratch):  # type: ignore[no-untyped-def]
    """Copy type records to ``scratch.own``, every name and reference remapped.

    ``seen`` and ``shifts`` are as ``strings.map_runs`` left them. If ``state[STARTS_ONLY]`` is 1
    they tell of strings' beginnings only; it is 2 afterwards if a name begins elsewhere: then the
    result is void.

    Names are visited in the order of types, within a type its own name first. New strings get
    offsets from the end of the base's strings on, in order of first use.
    """
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        end = np.int64(offsets[index + 1])
        remap_type(words, at, end, source, source_start, first_source, delta, base, scratch)


@inlined
def remap_type(words, at, end, source, source_start, first_source, delta, base, scratch):  # type: ignore[no-untyped-def]
    """Remap one record."""
    target = scratch.own
    info = words[at + 1]
    kind = kind_of(info)
    target[at + 1] = info

    target[at] = _map_name(words[at], source, source_start, base, scratch)
    word = words[at + 2]
    if HEAD_IS_REF[kind] and word >= first_source:
        word += delta
    target[at + 2] = word
    at += HEAD_WORDS
    if at == end:
        return

    if kind == STRUCT or kind == UNION:
        while at < end:
            target[at] = _map_name(words[at], source, source_start, base, scratch)
            word = words[at + 1]
            if word >= first_source:
                word += delta
            target[at + 1] = word
            target[at + 2] = words[at + 2]
            at += 3
        return

    fixed = at + FIXED_WORDS[kind]
    last_ref = at + FIXED_REFS[kind]
    while at < fixed:
        word = words[at]
        if at < last_ref and word >= first_source:
            word += delta
        target[at] = word
        at += 1
    stride = np.int64(ELEMENT_WORDS[kind])
    name_at = np.int64(ELEMENT_NAME[kind])
    ref_at = np.int64(ELEMENT_REF[kind])
    while at < end:
        for part in range(stride):
            word = words[at + part]
            if part == name_at:
                word = _map_name(word, source, source_start, base, scratch)
            elif part == ref_at and word >= first_source:
                word += delta
            target[at + part] = word
        at += stride
