"""String sections: hashing, the look-up table of a base, and mapping a module's strings onto it.

A string is found by content. Where a table holds the same string twice, the first one wins, as in
libbpf's string set. The empty string is offset 0 and is never looked up.

Most strings of a module that the base has directly follow their predecessor in the base too
(92 % on Debian's kernels). So mapping finds one string by its hash, and from there on compares the
two sections as long as they agree: a run of strings that all move by the same distance.
``map_runs`` does not even look where the strings of a run begin.

Parameters used throughout:

strings, base, source, buffer   uint8: string sections, or any bytes with NUL-terminated strings
start, at, base_at, offset      int64, index of a byte in one of them
h                               uint64, hash of a string: see ``hash_string``
slots, base_slots               uint64, length a power of two and one more: the look-up table of a
                                section, by hash: its upper half above, offset + 1 below; 0 is a
                                free slot. Last comes the seed of its hashes: see ``new_slots``
seed                            uint64: of a table's hashes
bits, base_bits                 uint64, length a power of two: one bit for each hash in the table
base_repeats                    whether the base has a string twice
seen                            uint32, shape (len(source),): see ``map_strings`` and ``map_runs``
"""

from __future__ import annotations

import os

import numpy as np

from ..compiled.huge_pages import power_of_two
from ..compiled.instructions import WIDE, load64, store64, trailing_zeros
from ..compiled.jit import compiled, inlined, noinline

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_HIGH = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_58 = np.uint64(58)
_63 = np.uint64(63)
_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_0 = np.uint64(0)
_1 = np.uint64(1)

# Entries of ``seen`` that are no offset: not looked at, and known to be missing from the base.
UNSEEN = np.uint32(0xFFFFFFFF)
ABSENT = np.uint32(0xFFFFFFFE)

# Pieces of a section that ``map_runs`` describes by one distance: 16 bytes long.
PIECE_BITS = 4
JUMPS = 1 << 14
_JUMP_FACTOR = np.int64(0x9E3779B1)
MIXED = np.uint32(0x80000000)  # no distance: the piece is not all in one run


@compiled
def zero_bytes(word):  # type: ignore[no-untyped-def]
    """Mark the zero bytes of ``word`` (uint64): the lowest bit set is in the first one; 0: none."""
    return (word - _ONES) & ~word & _TOPS


@compiled
def eight_bytes(buffer, at):  # type: ignore[no-untyped-def]
    """Read eight bytes from ``at`` on, as a little-endian uint64; zeros beyond the end."""
    if WIDE and at + 8 <= len(buffer):
        return load64(buffer, at)
    word = _0
    for i in range(min(8, len(buffer) - at)):
        word |= np.uint64(buffer[at + i]) << np.uint64(8 * i)
    return word


@compiled
def first_marked_byte(marks):  # type: ignore[no-untyped-def]
    """Index of the lowest byte of ``marks`` (uint64, not 0) in which a bit is set."""
    if WIDE:
        return trailing_zeros(marks) >> 3
    index = 0
    while (marks >> np.uint64(8 * index)) & np.uint64(0xFF) == _0:
        index += 1
    return index


def new_slots(entries: int) -> np.ndarray:
    """An empty look-up table with room for that many strings: uint64, see ``slots`` above.

    Each table has a seed of its own, which nobody can know who writes an input: else he could
    choose strings that all come to lie in one place of the table. No result depends on it.
    """
    slots = np.zeros(power_of_two(2 * entries) + 1, np.uint64)
    slots[-1] = int.from_bytes(os.urandom(8), "little")
    return slots


@compiled
def seed_of(slots):  # type: ignore[no-untyped-def]
    """Return the seed of the hashes in ``slots``."""
    return slots[len(slots) - 1]


@inlined
def _stir(h):  # type: ignore[no-untyped-def]
    """Spread the bits of ``h``: how far it is turned depends on what is not known of it, so that no
    two words are known to undo each other."""
    h *= _FACTOR
    by = h >> _58
    return (h >> by) | (h << (-by & _63))


@noinline
def hash_string(buffer, start, seed):  # type: ignore[no-untyped-def]
    """Hash the string at ``start``: (hash as uint64, position of its NUL)."""
    h = seed
    at = start
    while True:
        word = eight_bytes(buffer, at)
        zeros = zero_bytes(word)
        if zeros == _0:
            h = _stir(h ^ word)
            at += 8
            continue
        length = first_marked_byte(zeros)
        if length > 0:
            h = _stir(h ^ (word & ((_1 << np.uint64(8 * length)) - _1)))
        h *= _SPREAD
        return h ^ (h >> _32), at + length


@compiled
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


@compiled
def copy_string(source, start, target, at, length):  # type: ignore[no-untyped-def]
    """Copy ``length`` bytes; up to seven behind them in ``target`` may change."""
    copied = np.int64(0)
    if WIDE and start + length + 8 <= len(source) and at + length + 8 <= len(target):
        while copied < length:
            store64(target, at + copied, load64(source, start + copied))
            copied += 8
        return
    while copied < length:
        target[at + copied] = source[start + copied]
        copied += 1


@noinline
def find_string(strings, slots, buffer, start, h):  # type: ignore[no-untyped-def]
    """Offset in ``strings`` of the string at ``start`` of ``buffer`` with hash ``h``, or -1."""
    mask = np.int64(len(slots) - 2)
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


@compiled
def find_text(strings, slots, text):  # type: ignore[no-untyped-def]
    """Return the offset in ``strings`` of the string that ``text`` (with its NUL) is, or -1."""
    h, _ = hash_string(text, np.int64(0), seed_of(slots))
    return find_string(strings, slots, text, np.int64(0), h)


@compiled
def add_string(slots, h, offset):  # type: ignore[no-untyped-def]
    """Enter ``offset`` under ``h`` in ``slots``, which lacks the string; returns the slot."""
    mask = np.int64(len(slots) - 2)
    slot = np.int64(h & _LOW) & mask
    while slots[slot] != 0:
        slot = (slot + 1) & mask
    slots[slot] = (h & _HIGH) | np.uint64(offset + 1)
    return slot


@compiled
def note_hash(bits, h):  # type: ignore[no-untyped-def]
    """Note in ``bits``, of which few are to be set in the end, that a table has hash ``h``."""
    bit = np.int64(h & _LOW) & (64 * len(bits) - 1)
    bits[bit >> 6] |= _1 << np.uint64(bit & 63)


@compiled
def may_have(bits, h):  # type: ignore[no-untyped-def]
    """Whether a table may have an entry with hash ``h``.

    Spares nine of ten look-ups in a large table of what it lacks: ``bits`` stays in the cache.
    """
    bit = np.int64(h & _LOW) & (64 * len(bits) - 1)
    return bits[bit >> 6] & (_1 << np.uint64(bit & 63)) != _0


@compiled
def note_strings(strings, seed, bits):  # type: ignore[no-untyped-def]
    """Note the hash of every string of a section in ``bits``."""
    at = np.int64(0)
    while at < len(strings):
        h, end = hash_string(strings, at, seed)
        note_hash(bits, h)
        at = end + 1


@compiled
def count_strings(strings):  # type: ignore[no-untyped-def]
    """Return the number of NUL-terminated strings in a section."""
    count = 0
    for at in range(len(strings)):
        if strings[at] == 0:
            count += 1
    return count


@compiled
def index_strings(strings, slots):  # type: ignore[no-untyped-def]
    """Enter every string of a section in the empty ``slots``; returns whether one is there twice
    (the empty one counts)."""
    repeated = False
    at = np.int64(0)
    while at < len(strings):
        h, end = hash_string(strings, at, seed_of(slots))
        if end == at:
            repeated = repeated or at > 0  # the empty string is at offset 0 already
        else:
            if find_string(strings, slots, strings, at, h) >= 0:
                repeated = True
            else:
                add_string(slots, h, at)
        at = end + 1
    return repeated


@compiled
def map_strings(source, base, base_slots, base_repeats, seen):  # type: ignore[no-untyped-def]
    """Look every string of a section up in the base.

    seen   filled: at each string's start its offset in the base, or ABSENT if the base lacks it;
           UNSEEN everywhere else
    """
    for i in range(len(source)):
        seen[i] = UNSEEN
    at = np.int64(0)
    next_base = np.int64(0)
    while at < len(source):
        if source[at] == 0:
            seen[at] = 0
            at += 1
            continue
        found = np.int64(-1)
        length = np.int64(-1)
        if not base_repeats and 0 < next_base < len(base):
            length = common_string(source, at, base, next_base)
            found = next_base
        if length < 0:
            h, end = hash_string(source, at, seed_of(base_slots))
            length = end - at
            found = find_string(base, base_slots, source, at, h)
        if found >= 0:
            seen[at] = found
            next_base = found + length + 1
        else:
            seen[at] = ABSENT
        at += length + 1


@compiled
def map_runs(source, base, base_slots, base_bits, base_repeats, seen, shifts, jumps):  # type: ignore[no-untyped-def]
    """As ``map_strings``, in less time and for a reader that asks where strings begin only.

    shifts  uint32, one for each 16 bytes of the section: MIXED, or what has to be added (modulo
            2**32) to the offset of a string that begins there. Where it is MIXED, ``seen`` has the
            answer, of which only that for strings' beginnings means anything; behind that of a
            string that the base lacks is its hash, see ``is_noted``.
    jumps   uint32, JUMPS of them: where runs went on in the base after they had ended at an offset,
            by its hash. What earlier modules met, for they include the same headers; 0 is none.
    """
    for piece in range((len(source) >> PIECE_BITS) + 1):
        shifts[piece] = MIXED
    at = np.int64(0)
    next_base = np.int64(0)
    while at < len(source):
        if source[at] == 0:
            seen[at] = 0
            at += 1
            continue
        stop = at
        jump = (next_base * _JUMP_FACTOR >> np.int64(7)) & (JUMPS - 1)
        if not base_repeats:
            if 0 < next_base < len(base):
                stop = _run_end(source, at, base, next_base)
            if stop == at:
                guess = np.int64(jumps[jump])
                if 0 < guess < len(base):
                    stop = _run_end(source, at, base, guess)
                    next_base = guess if stop > at else next_base
        if stop == at:
            h, end = hash_string(source, at, seed_of(base_slots))
            found = np.int64(-1)
            if may_have(base_bits, h):
                found = find_string(base, base_slots, source, at, h)
            if found < 0:
                seen[at] = ABSENT
                if end - at >= 3:  # with its NUL there is room for its hash and its end
                    seen[at + 1] = np.uint32(h & _LOW)
                    seen[at + 2] = np.uint32(h >> _32)
                    seen[at + 3] = np.uint32(end)
                at = end + 1
                continue
            next_base = found
            stop = end + 1
            if not base_repeats:
                stop = _run_end(source, at, base, found)
                jumps[jump] = found
        shift = next_base - at
        first = (at + (1 << PIECE_BITS) - 1) >> PIECE_BITS
        last = stop >> PIECE_BITS
        head = min(first << PIECE_BITS, stop)
        for offset in range(at, head):
            seen[offset] = np.uint32(offset + shift)
        for piece in range(first, last):
            shifts[piece] = np.uint32(shift & 0xFFFFFFFF)
        for offset in range(max(head, last << PIECE_BITS), stop):
            seen[offset] = np.uint32(offset + shift)
        next_base += stop - at
        at = stop


@inlined
def is_noted(source, start):  # type: ignore[no-untyped-def]
    """Whether ``map_runs`` noted the hash of the string at ``start`` of ``source``, which the base
    lacks: it does so for strings of three bytes or more."""
    return source[start + 1] != 0 and source[start + 2] != 0


@inlined
def noted_hash(seen, start):  # type: ignore[no-untyped-def]
    """What ``hash_string`` returned for the string at ``start``, from ``seen`` of ``map_runs``."""
    h = np.uint64(seen[start + 1]) | np.uint64(seen[start + 2]) << _32
    return h, np.int64(seen[start + 3])


@compiled
def _run_end(source, at, base, base_at):  # type: ignore[no-untyped-def]
    """Position in ``source`` of the first string from ``at`` on that ``base`` lacks at the same
    distance, counted from ``base_at``. No string in between is empty if no two NULs of the base
    follow each other."""
    same = np.int64(0)
    end = min(len(source) - at, len(base) - base_at)
    if WIDE:
        while same + 32 <= end:
            a = at + same
            b = base_at + same
            different = load64(source, a) ^ load64(base, b)
            different |= load64(source, a + 8) ^ load64(base, b + 8)
            different |= load64(source, a + 16) ^ load64(base, b + 16)
            different |= load64(source, a + 24) ^ load64(base, b + 24)
            if different != _0:
                break
            same += 32
        while same + 8 <= end:
            different = load64(source, at + same) ^ load64(base, base_at + same)
            if different != _0:
                same += trailing_zeros(different) >> 3
                end = same
                break
            same += 8
    while same < end and source[at + same] == base[base_at + same]:
        same += 1
    while same > 0 and source[at + same - 1] != 0:
        same -= 1
    return at + same
