"""String sections: hashing, the look-up table of a base, and mapping a module's strings onto it.

A string is found by content. Where a table holds the same string twice, the first one wins, as in
libbpf's string set. The empty string is offset 0 and is never looked up.

Most strings of a module that the base has directly follow their predecessor in the base too
(92 % on Debian's kernels), so mapping tries that place before it hashes anything.
"""

from __future__ import annotations

import numpy as np

from .jit import kernel
from .kinds import ELEMENT_NAME, ELEMENT_WORDS, FIXED_WORDS, HEAD_WORDS, INFO_KIND_MASK
from .kinds import INFO_KIND_SHIFT, INFO_VLEN_MASK

_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HIGH = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)

UNSEEN = np.uint32(0xFFFFFFFF)  # a string offset that was not mapped yet

# Status of map_names in place of the number of new string bytes.
OWN_STRINGS_FULL = -1


@kernel
def hash_string(buffer, start):  # type: ignore[no-untyped-def]
    """(hash as uint64, position of the NUL) of the string at ``start`` of a uint8 array."""
    h = _FNV_BASIS
    at = start
    while buffer[at] != 0:
        h = (h ^ np.uint64(buffer[at])) * _FNV_PRIME
        at += 1
    return (h ^ (h >> _32)) * _SPREAD, at


@kernel
def same_string(a, start_a, b, start_b):  # type: ignore[no-untyped-def]
    """Whether two NUL-terminated strings are the same; no further than the shorter one's NUL."""
    i = 0
    while a[start_a + i] == b[start_b + i]:
        if a[start_a + i] == 0:
            return True
        i += 1
    return False


@kernel
def find_string(strings, slots, buffer, start, h):  # type: ignore[no-untyped-def]
    """Offset in ``strings`` of the string at ``start`` of ``buffer`` (hash ``h``), or -1.

    slots  uint64, length a power of two: hash's upper half above, offset + 1 below; 0 is free
    """
    mask = np.int64(len(slots) - 1)
    slot = np.int64(h & _LOW) & mask
    tag = h & _HIGH
    while slots[slot] != 0:
        entry = slots[slot]
        if entry & _HIGH == tag:
            offset = np.int64(entry & _LOW) - 1
            if same_string(strings, offset, buffer, start):
                return offset
        slot = (slot + 1) & mask
    return -1


@kernel
def add_string(slots, h, offset):  # type: ignore[no-untyped-def]
    """Enter ``offset`` under ``h``; the caller knows that the string is not in the table."""
    mask = np.int64(len(slots) - 1)
    slot = np.int64(h & _LOW) & mask
    while slots[slot] != 0:
        slot = (slot + 1) & mask
    slots[slot] = (h & _HIGH) | np.uint64(offset + 1)


@kernel
def count_strings(strings):  # type: ignore[no-untyped-def]
    """Number of NUL-terminated strings in a section."""
    count = 0
    for byte in strings:
        if byte == 0:
            count += 1
    return count


@kernel
def index_strings(strings, slots):  # type: ignore[no-untyped-def]
    """Fill the zeroed ``slots`` with every string of a section; return whether one is there twice."""
    repeated = False
    at = 0
    while at < len(strings):
        h, end = hash_string(strings, at)
        if end > at:
            if find_string(strings, slots, strings, at, h) >= 0:
                repeated = True
            else:
                add_string(slots, h, at)
        at = end + 1
    return repeated


@kernel
def map_names(  # type: ignore[no-untyped-def]
    words, offsets, source, source_start, base, base_slots, base_repeats,
    seen, own, own_length, own_slots, target,
):  # fmt: skip
    """Copy type records to ``target`` with every name mapped onto the base's or new own strings.

    words, offsets   the records (uint32), checked by ``scan``
    source           uint8: own strings of the source; they start at offset ``source_start``;
                     smaller offsets are the base's already and stay
    base, base_slots, base_repeats   the base's strings, their table, whether it holds one twice
    seen             uint32, shape (len(source),), filled with UNSEEN: scratch
    own, own_length  uint8 buffer for new strings and how much of it is in use
    own_slots        uint64, zeroed, a power of two: scratch; own strings by hash
    target           uint32, shape of ``words``

    Names are visited in the order of types, within a type its own name first. New strings get
    offsets from len(base) on, in order of first use. Returns the bytes in use of ``own``, or
    OWN_STRINGS_FULL when it or its table was too small.
    """
    own_start = len(base)
    # Where the string after the last one mapped would be, in the source and in the base.
    next_source = np.int64(-1)
    next_base = np.int64(0)
    own_entries = 0
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        end = np.int64(offsets[index + 1])
        info = words[at + 1]
        kind = np.int64((info >> INFO_KIND_SHIFT) & INFO_KIND_MASK)
        name_word = at
        stride = np.int64(0)
        if ELEMENT_NAME[kind] == 0:
            stride = np.int64(ELEMENT_WORDS[kind])
        for word in range(at, end):
            target[word] = words[word]
        first_element = at + HEAD_WORDS + FIXED_WORDS[kind]
        names = 1
        if stride > 0:
            names += np.int64(info & INFO_VLEN_MASK)
        for name in range(names):
            name_word = at if name == 0 else first_element + (name - 1) * stride
            offset = np.int64(words[name_word])
            if offset == 0 or offset < source_start:
                continue
            start = offset - source_start
            if seen[start] != UNSEEN:
                target[name_word] = seen[start]
                continue
            if source[start] == 0:
                seen[start] = 0
                target[name_word] = 0
                continue
            found = np.int64(-1)
            if (
                start == next_source
                and not base_repeats
                and next_base < own_start
                and same_string(base, next_base, source, start)
            ):
                found = next_base
                length = np.int64(0)
                while source[start + length] != 0:
                    length += 1
                next_source = start + length + 1
                next_base = found + length + 1
            else:
                h, stop = hash_string(source, start)
                length = stop - start
                found = find_string(base, base_slots, source, start, h)
                if found >= 0:
                    next_source = stop + 1
                    next_base = found + length + 1
                else:
                    if start == next_source:  # not in the base: its neighbours still may be
                        next_source = stop + 1
                    own_at = find_string(own, own_slots, source, start, h)
                    if own_at < 0:
                        if own_length + length + 1 > len(own):
                            return OWN_STRINGS_FULL
                        if 2 * (own_entries + 1) > len(own_slots):
                            return OWN_STRINGS_FULL
                        own_at = own_length
                        for i in range(length + 1):
                            own[own_at + i] = source[start + i]
                        own_length += length + 1
                        add_string(own_slots, h, own_at)
                        own_entries += 1
                    found = own_start + own_at
            seen[start] = found
            target[name_word] = found
    return own_length
