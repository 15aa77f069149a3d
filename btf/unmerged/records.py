"""Reading type records of base and module by id, in kernels: where they are, what they refer to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import (
    ARRAY,
    DATASEC,
    FEWEST_REFS,
    FIRST_REF,
    HAS_SIZE,
    INFO_VLEN_MASK,
    PTR,
    REF_EACH,
    REF_STEP,
    is_transparent,
    kind_of,
)

_POINTER_BYTES = 8  # only ever compared with itself
_MAX_CHAIN = 64  # typedefs, modifiers and arrays that are gone through for a size


class Types(NamedTuple):
    """A base, a module as it was, and what dedup made of it.

    base_words, base_starts   uint32: see ``BaseIndex.words`` and ``starts``
    own_words, own_offsets    uint32: the module after dedup; its first id is len(base_starts)
    source_words, source_offsets, source_first   uint32 and the first own id: the module before
    id_map                    uint32: by id before, the id after
    """

    base_words: np.ndarray
    base_starts: np.ndarray
    own_words: np.ndarray
    own_offsets: np.ndarray
    source_words: np.ndarray
    source_offsets: np.ndarray
    source_first: int
    id_map: np.ndarray


@compiled
def position(types, type_id):  # type: ignore[no-untyped-def]
    """Where a type's record begins, counted through the base's words and on through the own."""
    first_own = len(types.base_starts)
    if type_id < first_own:
        return np.int64(types.base_starts[type_id])
    return np.int64(types.own_offsets[type_id - first_own]) + len(types.base_words)


@compiled
def word(types, at):  # type: ignore[no-untyped-def]
    """The word at such a position."""
    if at < len(types.base_words):
        return types.base_words[at]
    return types.own_words[at - len(types.base_words)]


@compiled
def reference_count(info):  # type: ignore[no-untyped-def]
    """How many words of a record are type ids."""
    kind = kind_of(info)
    return np.int64(FEWEST_REFS[kind]) + np.int64(REF_EACH[kind]) * np.int64(info & INFO_VLEN_MASK)


@compiled
def reference_word(info, number):  # type: ignore[no-untyped-def]
    """Which word of a record is its ``number``-th type id."""
    kind = kind_of(info)
    return np.int64(FIRST_REF[kind]) + number * np.int64(REF_STEP[kind])


@compiled
def size_of(types, type_id):  # type: ignore[no-untyped-def]
    """Bytes of a value of a type; 0 for what has no size."""
    count = np.int64(1)
    for _ in range(_MAX_CHAIN):
        at = position(types, type_id)
        kind = kind_of(word(types, at + 1))
        if HAS_SIZE[kind] != 0 and kind != DATASEC:
            return count * np.int64(word(types, at + 2))
        if kind == PTR:
            return count * _POINTER_BYTES
        if kind == ARRAY:
            count *= np.int64(word(types, at + 5))
            type_id = np.int64(word(types, at + 3))
        elif is_transparent(kind):
            type_id = np.int64(word(types, at + 2))
        else:
            return np.int64(0)
    return np.int64(0)
