"""Structs that no module can lay out differently from its kernel: what tells a wrong base."""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import INFO_VLEN_MASK, STRUCT, kind_of
from .equivalence import same_but_references
from .index import BaseIndex

_NAMES = (b"module", b"task_struct")


def abi_names(index: BaseIndex) -> tuple[int, int]:
    """Offsets of their names in the base's strings, -1 for those it lacks."""
    first, second = index.offsets_of(_NAMES)
    return first, second


@compiled
def clashing_struct(base, words, offsets, count, first_name, second_name):  # type: ignore[no-untyped-def]
    """The first of ``count`` own types that is a struct of one of two names (string offsets,
    negative for none) whose members none of the base's structs of the name has; -1 if none is.

    base   see ``tables``; words, offsets: split BTF on it
    """
    for index in range(count):
        at = np.int64(offsets[index])
        info = words[at + 1]
        name = np.int64(words[at])
        if name != first_name and name != second_name:
            continue
        if kind_of(info) != STRUCT or info & INFO_VLEN_MASK == 0:
            continue
        same_named = 0
        for type_id in range(1, len(base.starts)):
            base_at = np.int64(base.starts[type_id])
            if np.int64(base.words[base_at]) == name and kind_of(base.words[base_at + 1]) == STRUCT:
                same_named += 1
                if same_but_references(base.words, words, base_at, len(base.words) + at):
                    same_named = 0
                    break
        if same_named > 0:
            return np.int64(index)
    return np.int64(-1)
