"""String sections: hashing, the look-up table of a base, and mapping a module's strings onto it.

A string is found by content. Where a table holds the same string twice, the first one wins, as in
libbpf's string set. The empty string is offset 0 and is never looked up.

Most strings of a module that the base has directly follow their predecessor in the base too
(92 % on Debian's kernels), so mapping compares with that place before it hashes anything, eight
bytes at a time.
"""

from __future__ import annotations

import numpy as np

from .bits import WIDE, load64, trailing_zeros
from .jit import apart, kernel

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_HIGH = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_29 = np.uint64(29)
_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_0 = np.uint64(0)
_1 = np.uint64(1)
_56 = np.uint64(56)

# Entries of ``seen`` that are no offset: not looked at, and known to be missing from the base.
UNSEEN = np.uint32(0xFFFFFFFF)
ABSENT = np.uint32(0xFFFFFFFE)


@kernel
def zero_bytes(word):  # type: ignore[no-untyped-def]
    """Not 0 if one of the eight bytes is; its lowest bit set marks the first zero byte."""
    return (word - _ONES) & ~word & _TOPS


@kernel
def eight_bytes(buffer, at):  # type: ignore[no-untyped-def]
    """Eight bytes from ``at`` on, as a little-endian number; zeros beyond the end."""
    if WIDE and at + 8 <= len(buffer):
        return load64(buffer, at)
    word = _0
    for i in range(min(8, len(buffer) - at)):
        word |= np.uint64(buffer[at + i]) << np.uint64(8 * i)
    return word


@kernel
def first_marked_byte(marks):  # type: ignore[no-untyped-def]
    """Index of the lowest byte in which a bit is set; ``marks`` is not 0."""
    if WIDE:
        return trailing_zeros(marks) >> 3
    index = 0
    while (marks >> np.uint64(8 * index)) & np.uint64(0xFF) == _0:
        index += 1
    return index


@apart
def hash_string(buffer, start):  # type: ignore[no-untyped-def]
    """(hash as uint64, position of the NUL) of the string at ``start`` of a uint8 array."""
    h = _SPREAD
    at = start
    while True:
        word = eight_bytes(buffer, at)
        zeros = zero_bytes(word)
        if zeros == _0:
            h = (h ^ word) * _FACTOR
            h ^= h >> _29
            at += 8
            continue
        length = first_marked_byte(zeros)
        if length > 0:
            h = (h ^ (word & ((_1 << np.uint64(8 * length)) - _1))) * _FACTOR
            h ^= h >> _29
        h *= _SPREAD
        return h ^ (h >> _32), at + length


@kernel
def common_string(a, start_a, b, start_b):  # type: ignore[no-untyped-def]
    """Length of the string at ``start_a`` if ``b`` has the same one at ``start_b``, else -1."""
    length = np.int64(0)
    while True:
        word = eight_bytes(a, start_a + length)
        different = word ^ eight_bytes(b, start_b + length)
        zeros = zero_bytes(word)
        if zeros == _0:
            if different != _0:
                return -1
            length += 8
            continue
        end = first_marked_byte(zeros)
        if different != _0 and first_marked_byte(different) <= end:
            return -1
        return length + end


@apart
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
            if common_string(strings, offset, buffer, start) >= 0:
                return offset
        slot = (slot + 1) & mask
    return np.int64(-1)


@kernel
def find_text(strings, slots, text):  # type: ignore[no-untyped-def]
    """Offset in ``strings`` of the string that ``text`` (with its NUL) is, or -1."""
    h, _ = hash_string(text, np.int64(0))
    return find_string(strings, slots, text, np.int64(0), h)


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
    """Enter every string of a section in the zeroed ``slots``; whether one is there twice."""
    repeated = False
    at = np.int64(0)
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
def map_strings(source, base, base_slots, base_repeats, seen, everywhere):  # type: ignore[no-untyped-def]
    """Look every string of a section up in the base.

    source      uint8: the section; base, base_slots, base_repeats: see BaseIndex
    seen        uint32, shape (len(source),): at each string's start its offset in the base, ABSENT
                if the base lacks it
    everywhere  whether to put UNSEEN everywhere else; if not, it is left as it was
    """
    if everywhere:
        for i in range(len(source)):
            seen[i] = UNSEEN
    at = np.int64(0)
    next_base = np.int64(0)
    while at < len(source):
        if source[at] == 0:
            seen[at] = 0
            at += 1
            continue
        if not base_repeats and 0 < next_base < len(base):
            followed = _follow_base(source, at, base, next_base, seen)
            if followed > at:
                next_base += followed - at
                at = followed
                continue
        h, end = hash_string(source, at)
        found = find_string(base, base_slots, source, at, h)
        if found >= 0:
            seen[at] = found
            next_base = found + (end - at) + 1
        else:
            seen[at] = ABSENT
        at = end + 1


@kernel
def _follow_base(source, at, base, base_at, seen):  # type: ignore[no-untyped-def]
    """Map the strings from ``at`` on as long as the base has the same ones from ``base_at`` on.

    Returns where the first string begins that was not mapped.
    """
    shift = base_at - at
    start = at
    last = min(len(source), len(base) - shift) - 8
    if WIDE:
        while at <= last:
            word = load64(source, at)
            different = word ^ load64(base, at + shift)
            # exactly the top bits of the zero bytes
            zeros = ~(((word & ~_TOPS) + ~_TOPS) | word | ~_TOPS)
            if different != _0:
                zeros &= (_1 << (np.uint64(trailing_zeros(different)) & _56)) - _1
            while zeros != _0:
                end = at + (trailing_zeros(zeros) >> 3)
                if end == start:
                    return start  # the empty string is not looked up
                seen[start] = start + shift
                start = end + 1
                zeros &= zeros - _1
            if different != _0:
                return start
            at += 8
    if start < len(source) and start + shift < len(base) and source[start] != 0:
        length = common_string(source, start, base, start + shift)
        if length >= 0:
            seen[start] = start + shift
            start += length + 1
    return start
