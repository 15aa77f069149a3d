"""Where the names and the references of type records stand, and copying records.

With the positions at hand, renaming and renumbering are a line of numpy each:

    names, refs = fields(words, offsets[:-1], offsets[1:])
    words[refs] = id_map[words[refs]]
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import (
    ELEMENT_NAME,
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    HEAD_IS_REF,
    HEAD_WORDS,
    kind_of,
)


def fields(
    words: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in ``words`` of all names and of all references of some records.

    words         uint32: type records that ``scan`` has checked, of kinds that are known
    starts, ends  uint32, one each per record: its first word, and the one after its last

    Returns two int64 arrays, in the order of the records; within a record names and references
    are in the order of its words. An anonymous type's name is 0 and is among them; so is void.
    """
    room = int(np.sum(ends - starts, dtype=np.int64))
    names, refs = np.empty(room, np.int64), np.empty(room, np.int64)
    name_count, ref_count = _fields(words, starts, ends, names, refs)
    return names[:name_count], refs[:ref_count]


def gather(
    words: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Copies of some records, one after the other: (words, offsets), as in ``BTF``."""
    offsets = np.zeros(len(starts) + 1, np.uint32)
    lengths = ends - starts
    np.cumsum(lengths, out=offsets[1:])
    moved = np.repeat(starts.astype(np.int64) - offsets[:-1], lengths)
    return words[moved + np.arange(len(moved))], offsets


@compiled
def _fields(words, starts, ends, names, refs):  # type: ignore[no-untyped-def]
    """Fill ``names`` and ``refs``, which have room for all words; returns how many of each.

    words, starts, ends  see ``fields``
    """
    name_count = 0
    ref_count = 0
    for index in range(len(starts)):
        at = np.int64(starts[index])
        end = np.int64(ends[index])
        kind = kind_of(words[at + 1])
        names[name_count] = at
        name_count += 1
        if HEAD_IS_REF[kind]:
            refs[ref_count] = at + 2
            ref_count += 1
        body = at + HEAD_WORDS
        for word in range(body, body + FIXED_REFS[kind]):
            refs[ref_count] = word
            ref_count += 1
        stride = np.int64(ELEMENT_WORDS[kind])
        if stride > 0:
            name_at = np.int64(ELEMENT_NAME[kind])
            ref_at = np.int64(ELEMENT_REF[kind])
            for element in range(body + FIXED_WORDS[kind], end, stride):
                if name_at >= 0:
                    names[name_count] = element + name_at
                    name_count += 1
                if ref_at >= 0:
                    refs[ref_count] = element + ref_at
                    ref_count += 1
    return name_count, ref_count
