"""The chain base -> shared -> module: what several modules keep is there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types.btf import BTF
from .classes import Classes, classify
from .rebase import LayerMaker, rebase


@dataclass(frozen=True, eq=False)
class SharedLayer:
    """The layer between a base and its modules, and these on it, in the order given.

    new_ids   for each module uint32, one per own type that it had: the type's id now
    """

    shared: BTF
    modules: list[BTF]
    new_ids: list[np.ndarray]


def share(
    modules: Sequence[BTF], *, min_modules: int = 2, classes: Classes | None = None
) -> SharedLayer:
    """Move what at least ``min_modules`` modules keep to a layer that all of them continue.

    modules   one or more, split BTF on one base
    classes   of ``modules``, where they are known already

    A type is shared when all that it refers to is shared or of the base. Functions, variables,
    sections and declaration tags stay in their modules. A shared type is there once, in
    order of the modules, then of the ids in the first one that keeps it. Errors: see ``classify``.
    """
    classes = classes or classify(modules)
    base = modules[0].base
    assert base is not None
    wanted = classes.movable & (classes.modules >= min_modules)
    shared = np.flatnonzero(classes.closed(wanted))
    shared_id = np.zeros(classes.count, np.uint32)
    shared_id[shared] = np.arange(base.type_end, base.type_end + len(shared), dtype=np.uint32)

    maker = LayerMaker(base, base)
    first = classes.first[shared]
    bounds = np.searchsorted(first, classes.starts)
    targets = []
    for number, module in enumerate(modules):
        rows = classes.rows(number)
        targets.append(shared_id[classes.class_of[rows]])
        taken = first[bounds[number] : bounds[number + 1]] - rows.start
        if len(taken):
            id_map = np.arange(module.type_end, dtype=np.uint32)
            id_map[module.start_id :] = targets[-1]
            maker.add(module, taken, id_map)
    layer = maker.build()
    done = [rebase(module, layer, own) for module, own in zip(modules, targets, strict=True)]
    return SharedLayer(layer, [module for module, _ in done], [ids for _, ids in done])
