"""Structs that no module can lay out differently from its kernel: what tells a wrong base."""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import INFO_VLEN_MASK, STRUCT, kind_of
from .equivalence import same_but_references


@compiled
def clashing_struct(base, words, offsets, count):  # type: ignore[no-untyped-def]
    """Find an own ``struct module`` or ``struct task_struct`` that is laid out unlike the base's.

    base            see ``BaseTables``
    words, offsets  uint32: split BTF on it, as in ``BTF``
    count           number of own types

    Returns the number (0-based) of the first own struct of one of these names whose members none
    of the base's structs of that name has; -1 if there is none.
    """
    for index in range(count):
        at = np.int64(offsets[index])
        info = words[at + 1]
        name = np.int64(words[at])
        if name != base.module_name and name != base.task_struct_name:
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
