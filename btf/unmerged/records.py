"""Type records of a base and a module by id, for compiled functions.

Parameters used throughout:

records   ``ModuleRecords``
type_id   id of a type of the base, or of the module after dedup
at        position of a word, counted through the base's words and on through the module's own
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import ARRAY, DATASEC, HAS_SIZE, PTR, is_transparent, kind_of

_POINTER_BYTES = 8  # only ever compared with itself
_MAX_CHAIN = 64  # typedefs, modifiers and arrays that are gone through for a size


class ModuleRecords(NamedTuple):
    """Records of a base, of a module before dedup, and of what dedup made of it.

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
def position(records, type_id):  # type: ignore[no-untyped-def]
    """Where a type's record begins."""
    first_own = len(records.base_starts)
    if type_id < first_own:
        return np.int64(records.base_starts[type_id])
    return np.int64(records.own_offsets[type_id - first_own]) + len(records.base_words)


@compiled
def word(records, at):  # type: ignore[no-untyped-def]
    """The word at a position."""
    if at < len(records.base_words):
        return records.base_words[at]
    return records.own_words[at - len(records.base_words)]


@compiled
def size_of(records, type_id):  # type: ignore[no-untyped-def]
    """Bytes of a value of a type; 0 for what has no size."""
    count = np.int64(1)
    for _ in range(_MAX_CHAIN):
        at = position(records, type_id)
        kind = kind_of(word(records, at + 1))
        if HAS_SIZE[kind] and kind != DATASEC:
            return count * np.int64(word(records, at + 2))
        if kind == PTR:
            return count * _POINTER_BYTES
        if kind == ARRAY:
            count *= np.int64(word(records, at + 5))
            type_id = np.int64(word(records, at + 3))
        elif is_transparent(kind):
            type_id = np.int64(word(records, at + 2))
        else:
            return np.int64(0)
    return np.int64(0)
