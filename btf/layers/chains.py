"""Chains along the dependencies of modules: a module continues the BTF of one that it needs.

A module may need several others, but BTF continues one base. Of the modules that it needs, the one
is taken whose chain has most bytes of the module's own types; where none has any, the module stays
on the base. What the other dependencies have stays repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types.btf import BTF
from .classes import Classes, classify
from .rebase import rebase


@dataclass(frozen=True, eq=False)
class Chains:
    """Modules on each other, in the order given.

    parents   for each module the number of the one that it continues; None: the base
    new_ids   for each module uint32, one per own type that it had: the type's id now
    """

    modules: list[BTF]
    parents: list[int | None]
    new_ids: list[np.ndarray]


def chain(
    modules: Sequence[BTF], depends: Sequence[Sequence[int]], *, classes: Classes | None = None
) -> Chains:
    """Put every module on that of its dependencies which saves most.

    modules   one or more, split BTF on one base
    depends   for each module the numbers of those it needs; of equal ones the first is taken. A
              dependency that would close a circle does not count
    classes   of ``modules``, where they are known already

    What stays in its module is as in ``share``; errors: see ``classify``.
    """
    classes = classes or classify(modules)
    parents: list[int | None] = [None] * len(modules)
    done: dict[int, BTF] = {}
    new_ids: dict[int, np.ndarray] = {}
    # Classes that a module's new BTF holds itself, and their ids there.
    held: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    ids = np.zeros(classes.count, np.uint32)  # by class, its id in the chain looked at; else 0
    for number in _needed_first(depends):
        module = modules[number]
        own = classes.class_of[classes.rows(number)]
        best, targets = 0, np.zeros(module.type_count, np.uint32)
        for other in depends[number]:
            if other not in done:
                continue
            level: int | None = other
            while level is not None:
                ids[held[level][0]] = held[level][1]
                level = parents[level]
            moved = classes.closed_rows(number, classes.movable[own] & (ids[own] > 0))
            saved = int(classes.bytes[own[moved]].sum())
            if saved > best:
                best, parents[number] = saved, other
                targets = np.where(moved, ids[own], np.uint32(0))
            level = other
            while level is not None:  # not all of them: that would be classes times modules
                ids[held[level][0]] = 0
                level = parents[level]
        parent = parents[number]
        base = done[parent] if parent is not None else module.base
        assert base is not None
        done[number], new_ids[number] = rebase(module, base, targets)
        kept, first = np.unique(own[targets == 0], return_index=True)
        held[number] = kept, (first + base.type_end).astype(np.uint32)
    numbers = range(len(modules))
    return Chains([done[n] for n in numbers], parents, [new_ids[n] for n in numbers])


def _needed_first(depends: Sequence[Sequence[int]]) -> list[int]:
    """All modules, each after those that it needs, where there are no circles."""
    order: list[int] = []
    seen: set[int] = set()
    for number in range(len(depends)):
        waiting = [(number, iter(depends[number]))] if number not in seen else []
        seen.add(number)
        while waiting:
            current, rest = waiting[-1]
            following = next((other for other in rest if other not in seen), None)
            if following is None:
                order.append(current)
                waiting.pop()
            else:
                seen.add(following)
                waiting.append((following, iter(depends[following])))
    return order
