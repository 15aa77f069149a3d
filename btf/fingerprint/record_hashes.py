"""What a record says by itself, hashed for all three fingerprints in one go.

That is its label, for the fingerprint of all that can be reached; its name as C spells it; and, of
a struct, union or enum, its shape: size, names, offsets and values, but not what its members are.
The three hashes do not depend on each other, and each step of one waits for the step before: a
processor makes the three in little more time than one, if they are made side by side. Texts, which
are everywhere in memory, are looked at once.

Parameters used throughout:

words, at                  uint32: type records, and where in them the record begins
base_strings, own_strings  uint8: an offset counts through the first and on in the second
offset                     global string offset
record_hashes              uint64, shape (T, 4): filled, at columns SPELLED and LAYOUT of own type
                           v, with the hash of its name and the state of its shape if it has one
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined
from ..format.kinds import (
    ELEMENT_NAME,
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    STRUCT,
    UNION,
    is_enum,
    kind_of,
)
from ..format.records import enumerator, name_class, place
from .hashing import (
    LABEL,
    LAYOUT,
    NAME,
    SHAPE,
    SPELLED,
    absorb,
    absorb_text_twice,
    absorb_two,
    finish,
    start,
)


@inlined
def _hash_record(words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """The label (a, b), the hash of the name (p, q) and the state of the shape (x, y)."""
    info = words[at + 1]
    kind = kind_of(info)
    vlen = np.int64(info & INFO_VLEN_MASK)
    a, b = start(LABEL, np.uint64(info))
    p, q = NAME, np.uint64(name_class(info))
    a, b, p, q = absorb_text_twice(a, b, p, q, base_strings, own_strings, np.int64(words[at]))
    p, q = finish(p, q)
    if not HEAD_IS_REF[kind]:
        a, b = absorb(a, b, np.uint64(words[at + 2]))
    body = at + HEAD_WORDS
    for word in range(body + FIXED_REFS[kind], body + FIXED_WORDS[kind]):
        a, b = absorb(a, b, np.uint64(words[word]))
    x, y = SHAPE, np.uint64(name_class(info))
    x, y = absorb_two(x, y, np.uint64(words[at + 2]), np.uint64(vlen))
    stride = np.int64(ELEMENT_WORDS[kind])
    body += FIXED_WORDS[kind]
    if kind == STRUCT or kind == UNION:
        for _ in range(vlen):
            offset = np.int64(words[body])
            a, b, x, y = absorb_text_twice(a, b, x, y, base_strings, own_strings, offset)
            a, b = absorb(a, b, np.uint64(words[body + 2]))
            at_bit, bits = place(words[body + 2], info)
            x, y = absorb_two(x, y, at_bit, bits)
            body += stride
    elif stride > 0:
        name, reference = np.int64(ELEMENT_NAME[kind]), np.int64(ELEMENT_REF[kind])
        for _ in range(vlen):
            for word in range(stride):
                if word == name:
                    offset = np.int64(words[body + word])
                    a, b, x, y = absorb_text_twice(a, b, x, y, base_strings, own_strings, offset)
                elif word != reference:
                    a, b = absorb(a, b, np.uint64(words[body + word]))
            if is_enum(kind):
                value, negative = enumerator(words, body, info)
                x, y = absorb_two(x, y, value, negative)
            body += stride
    a, b = finish(a, b)
    return a, b, p, q, x, y


@compiled
def record_label(words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Hash of all that the record at word ``at`` says itself: every word that is a value, names by
    their text; where references stand and how many there are follows from kind and vlen."""
    a, b, _, _, _, _ = _hash_record(words, at, base_strings, own_strings)
    return a, b


@inlined
def read_record(record_hashes, v, words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Fill a row of ``record_hashes``; returns the label."""
    a, b, p, q, x, y = _hash_record(words, at, base_strings, own_strings)
    record_hashes[v, SPELLED], record_hashes[v, SPELLED + 1] = p, q
    record_hashes[v, LAYOUT], record_hashes[v, LAYOUT + 1] = x, y
    return a, b


@compiled
def read_records(record_hashes, words, offsets, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Fill all rows of ``record_hashes``.

    offsets   uint32, shape (T + 1,): where in ``words`` each record begins
    """
    for v in range(len(record_hashes)):
        read_record(record_hashes, v, words, np.int64(offsets[v]), base_strings, own_strings)
