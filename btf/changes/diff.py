"""Two objects compared: which names were added, removed, changed, and which only embed a change.

Every name that both objects declare is of one of these, the first that fits:

changed    its set of declarations is another one
embedded   its declarations are the same, but what they lay out in memory is not: it embeds a change
reached    only the deep fingerprint differs: pointers lead from it to a change
the same
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..types.typebase import type_at
from .named import KINDS, SideOfDiff

ADDED, REMOVED, CHANGED, EMBEDDED = "added", "removed", "changed", "embedded"


@dataclass(slots=True)
class KindCounts:
    """How many names of one kind there are.

    both      in either object; of these ``changed``, ``embedded`` and, where it was asked for,
              ``reached``
    """

    both: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    embedded: int = 0
    reached: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a name.

    kind      ``struct``, ``union``, ``enum``, ``typedef``, ``func`` or ``var``
    change    one of ADDED, REMOVED, CHANGED, EMBEDDED
    old_ids   types of that name in the old object
    new_ids   and in the new one
    layout    whether what lies in memory is another; of a name that both have
    """

    kind: str
    name: str
    change: str
    old_ids: tuple[int, ...] = ()
    new_ids: tuple[int, ...] = ()
    layout: bool = False


@dataclass(frozen=True, slots=True)
class ObjectDiff:
    """Counts by kind, and what changed, by kind and name."""

    kinds: dict[str, KindCounts]
    changes: list[Change] = field(default_factory=list)


def diff_objects(
    old: SideOfDiff,
    new: SideOfDiff,
    wanted: Callable[[str, str], bool] | None = None,
) -> ObjectDiff:
    """Compare two objects, of which either may be of no types.

    wanted   whether a kind and name count; all when None
    """
    before, after = old.names, new.names
    number_of = {key: number for number, key in enumerate(after.keys)}
    pairs = [(number, number_of.pop(key, -1)) for number, key in enumerate(before.keys)]
    removed = [number for number, other in pairs if other < 0]
    both = np.array([pair for pair in pairs if pair[1] >= 0], np.int64).reshape(-1, 2)
    first, second = both[:, 0], both[:, 1]
    changed = np.any(before.declaration[first] != after.declaration[second], axis=1)
    laid_out = np.any(before.layout[first] != after.layout[second], axis=1)
    embedded = laid_out & ~changed
    deep = before.deep is not None and after.deep is not None
    reached = np.zeros(len(both), np.bool_)
    if before.deep is not None and after.deep is not None:
        differ = np.any(before.deep[first] != after.deep[second], axis=1)
        reached = differ & ~changed & ~embedded

    result = ObjectDiff({word: KindCounts(reached=0 if deep else None) for word in KINDS.values()})

    def name_of(side: SideOfDiff, number: int) -> tuple[str, str]:
        found = type_at(side.btf, side.names.ids(number)[0])
        return KINDS[found.kind], found.name

    if wanted is None:
        for kind, word in KINDS.items():
            those = before.kinds[first] == kind
            count = result.kinds[word]
            count.both += int(those.sum())
            if deep and count.reached is not None:
                count.reached += int(reached[those].sum())
    else:
        for number, is_reached in zip(first.tolist(), reached.tolist(), strict=True):
            word, name = name_of(old, number)
            if wanted(word, name):
                count = result.kinds[word]
                count.both += 1
                if is_reached and count.reached is not None:
                    count.reached += 1

    def note(change: str, number: int, other: int, layout: bool = False) -> None:
        word, name = name_of(old, number) if number >= 0 else name_of(new, other)
        if wanted is not None and not wanted(word, name):
            return
        count = result.kinds[word]
        setattr(count, change, getattr(count, change) + 1)
        old_ids = tuple(before.ids(number)) if number >= 0 else ()
        new_ids = tuple(after.ids(other)) if other >= 0 else ()
        result.changes.append(Change(word, name, change, old_ids, new_ids, layout))

    for number in removed:
        note(REMOVED, number, -1)
    for other in number_of.values():
        note(ADDED, -1, other)
    for (number, other), layout in zip(both[changed].tolist(), laid_out[changed], strict=True):
        note(CHANGED, number, other, bool(layout))
    for number, other in both[embedded].tolist():
        note(EMBEDDED, number, other, True)
    order = {word: place for place, word in enumerate(KINDS.values())}
    result.changes.sort(key=lambda change: (order[change.kind], change.name, change.change))
    return result
