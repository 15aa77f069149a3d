"""The 128-bit hash that fingerprints are made of, and the hash of one record.

A state is two uint64 numbers that take in one word after the other; each step is a bijection of
the state for a given word, and words are spread by multiplication before they meet it (the shape
of MurmurHash3's 128-bit form). It is no cryptographic hash: nobody gains from making two types
collide on purpose but to be told that they are the same.

Fingerprints are stored and compared between runs and machines: whatever is changed here changes
all of them. ``tests/analyses/test_fingerprint.py`` pins some.

Parameters used throughout:

a, b; p, q                 uint64: the two halves of a state, or of a hash
words, at                  uint32: type records, and where in them the record begins
base_strings, own_strings  uint8: an offset counts through the first and on in the second
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined
from ..format.strings import eight_bytes, first_marked_byte, zero_bytes

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_A = np.uint64(0x52DCE729)
_B = np.uint64(0x38495AB5)
_5 = np.uint64(5)
_F1 = np.uint64(0xFF51AFD7ED558CCD)
_F2 = np.uint64(0xC4CEB9FE1A85EC53)
_27, _31, _33, _37 = np.uint64(27), np.uint64(31), np.uint64(33), np.uint64(37)
_0, _1 = np.uint64(0), np.uint64(1)
_END = np.uint64(1 << 63)  # with a length: no eight bytes of text look like that

# Where a state begins: one for each use, so that hashes of different things are never the same.
LABEL = np.uint64(1)  # a record without the types it refers to
NODE = np.uint64(2)  # a type and the fingerprints of what it refers to
MEMBER = np.uint64(3)  # a type of a cycle: which cycle, and its place there
COLOUR = np.uint64(4)  # a class that was split
EDGE = np.uint64(5)  # a reference to a type that changed its colour
CYCLE = np.uint64(6)  # a type of a cycle as part of the cycle's digest
BASE_ID = np.uint64(7)  # a type of the base that counts by its id
INSIDE = np.uint64(8)  # a type of a cycle and what it refers to outside
NAME = np.uint64(16)  # what C spells by its name; 17 and others are in ``declaration.values``
SHAPE = np.uint64(19)  # what a struct, union or enum says but for what its members are

# Columns of what is kept of a type for its declaration and its layout, the first of two each.
SPELLED, LAYOUT = 0, 2

HERE = np.uint64(0x9E3779B97F4A7C15)  # in place of a reference within the same component


@compiled
def absorb_two(a, b, x, y):  # type: ignore[no-untyped-def]
    """The state (a, b) after the words ``x`` and ``y`` (uint64), one for each half."""
    k = x * _C1
    k = ((k << _31) | (k >> _33)) * _C2
    a ^= k
    a = (a << _27) | (a >> _37)
    a = (a + b) * _5 + _A
    k = y * _C2
    k = ((k << _33) | (k >> _31)) * _C1
    b ^= k
    b = (b << _31) | (b >> _33)
    b = (b + a) * _5 + _B
    return a, b


@compiled
def absorb(a, b, word):  # type: ignore[no-untyped-def]
    """The state (a, b) after one more ``word`` (uint64), for both halves."""
    return absorb_two(a, b, word, word)


@compiled
def finish(a, b):  # type: ignore[no-untyped-def]
    """The hash that a state stands for."""
    a += b
    b += a
    a = (a ^ (a >> _33)) * _F1
    a = (a ^ (a >> _33)) * _F2
    a ^= a >> _33
    b = (b ^ (b >> _33)) * _F1
    b = (b ^ (b >> _33)) * _F2
    b ^= b >> _33
    a += b
    b += a
    return a, b


@compiled
def start(use, kept):  # type: ignore[no-untyped-def]
    """A new state for one of the uses above (``use``) that has taken in one word (``kept``)."""
    return absorb(use, kept, use)


@inlined
def absorb_text_twice(a, b, p, q, base_strings, own_strings, offset):  # type: ignore[no-untyped-def]
    """The states (a, b) and (p, q) after the string at ``offset``: as ``absorb_text`` of each."""
    text, at = base_strings, offset
    if offset >= len(base_strings):
        text, at = own_strings, offset - len(base_strings)
    length = np.int64(0)
    while True:
        word = eight_bytes(text, at + length)
        zeros = zero_bytes(word)
        if zeros != _0:
            break
        a, b = absorb(a, b, word)
        p, q = absorb(p, q, word)
        length += 8
    rest = np.int64(first_marked_byte(zeros))
    if rest > 0:
        word &= (_1 << np.uint64(8 * rest)) - _1
        a, b = absorb(a, b, word)
        p, q = absorb(p, q, word)
    end = np.uint64(length + rest) | _END
    a, b = absorb(a, b, end)
    p, q = absorb(p, q, end)
    return a, b, p, q


@inlined
def absorb_text(a, b, base_strings, own_strings, offset):  # type: ignore[no-untyped-def]
    """The state after the string at ``offset``: eight bytes at a time, then its length, marked as
    such."""
    a, b, _, _ = absorb_text_twice(a, b, a, b, base_strings, own_strings, offset)
    return a, b
