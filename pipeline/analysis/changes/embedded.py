"""What types hold by value: of one kernel, and where two kernels differ in it.

Rows as Python has them are made of neither types nor members: nearly all of these are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .beside import of_both
from .names import KINDS, hashes
from .numbers import differ, is_there, numbers_of, ranges
from .rows import VOID, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_EMBEDDED = 1000  # pairs of types that are looked at for what one change embeds
_MAX_AT_ONCE = 4_000_000  # pairs that are looked at together
TYPE_COLUMNS_HELD = (
    "kind", "name", "target_global_id", "layout_fingerprint", "declaration_fingerprint",
)  # fmt: skip
MEMBER_COLUMNS_HELD = ("type_global_id",)
_MEMBERS, _TARGET, _NAME = 1, 2, 4  # what a type holds by value; whether it may have a name
_OF_KIND = {
    "STRUCT": _MEMBERS, "UNION": _MEMBERS, "FUNC_PROTO": _MEMBERS | _TARGET,
    **dict.fromkeys(
        ("ARRAY", "TYPEDEF", "CONST", "VOLATILE", "RESTRICT", "TYPE_TAG", "FUNC", "VAR"), _TARGET
    ),
}  # fmt: skip
_FLAGS = {
    kind: _OF_KIND.get(kind, 0) | (_NAME if kind in KINDS and kind not in ("FUNC", "VAR") else 0)
    for kind in {*_OF_KIND, *KINDS}
}
Pair = tuple[int, int]  # global ids of a type of OLD and one of NEW


class _Types(NamedTuple):
    """Types, with columns of ``types``; ``flags`` are those of the kind, without _NAME where there
    is no name."""

    ids: NDArray[np.int64]
    flags: NDArray[np.int64]
    target: NDArray[np.int64]
    layout: NDArray[np.uint64]
    declaration: NDArray[np.uint64]

    def take(self, some: NDArray[np.int64] | NDArray[np.bool_]) -> _Types:
        """Those at some places."""
        layout, declaration = self.layout[some], self.declaration[some]
        return _Types(self.ids[some], self.flags[some], self.target[some], layout, declaration)


class _Held(NamedTuple):
    """What some types hold: ``ids`` of all, one type after the other, from ``first`` on ``counts``
    of each."""

    ids: NDArray[np.int64]
    first: NDArray[np.int64]
    counts: NDArray[np.int64]

    def take(self, some: NDArray[np.int64]) -> _Held:
        """What those at some places hold."""
        return _Held(self.ids, self.first[some], self.counts[some])


def held_by_value(rows: Rows, ids: Iterable[int]) -> set[int]:
    """Ids of types, and of all that they hold by value. Raises OutputError."""
    found: set[int] = set()
    todo = set(ids)
    while todo:
        found |= todo
        types = _types_once(rows, np.array(sorted(todo), np.int64))
        todo = set(_held_once(rows, types).ids.tolist()) - found
    return found


class Embedding:
    """What pairs of types, one of OLD and one of NEW, hold by value in the same places, as far as
    its layout is another. What was found is kept."""

    def __init__(self, old: Rows, new: Rows) -> None:
        self._sides = old, new
        self._inside: dict[Pair, list[Pair] | None] = {}

    def inside(self, pair: Pair) -> list[Pair] | None:
        """What they hold; None where they differ in themselves: in the declaration of a name, or as
        integers and pointers do."""
        if pair not in self._inside:
            self.look([pair], 1)
        return self._inside[pair]

    def look(self, pairs: Iterable[Pair], levels: int = MAX_EMBEDDED) -> None:
        """Look at many pairs and at what they hold, all of a level at once."""
        inner = np.array(list(pairs), np.int64).reshape(-1, 2)
        parents: list[Pair] = []
        counts = np.empty(0, np.int64)  # of ``inner``, that each of the parents has
        for _ in range(levels + 1):
            each, place = _distinct(inner)
            ours, theirs = of_both(_types, *zip(self._sides, each.T, strict=True))
            differs = differ(ours.layout, theirs.layout)
            if not parents:
                self._inside.update((pair, []) for pair in _pairs(each[~differs]))
            told = differs[place]
            found = iter(_pairs(inner[told]))
            kept = np.add.reduceat(np.append(told, False), np.cumsum(counts) - counts, dtype=int)
            for pair, count in zip(parents, kept.tolist(), strict=True):
                self._inside[pair] = list(islice(found, count))
            own = (ours.flags & _NAME > 0) & differ(ours.declaration, theirs.declaration)
            self._inside.update(dict.fromkeys(_pairs(each[differs & own])))
            new = differs & ~own
            new[new] = [pair not in self._inside for pair in _pairs(each[new])]
            parents, counts, inner = self._inner(each[new], ours.take(new), theirs.take(new))
            if not parents:
                return

    def _inner(
        self, pairs: NDArray[np.int64], ours: _Types, theirs: _Types
    ) -> tuple[list[Pair], NDArray[np.int64], NDArray[np.int64]]:
        """Of those pairs that hold something, how many pairs each holds, and which. Of very many,
        some are left out."""
        held = of_both(_held, *zip(self._sides, (ours, theirs), strict=True))
        count = np.minimum(held[0].counts, held[1].counts)
        self._inside.update(dict.fromkeys(_pairs(pairs[count == 0])))
        some = np.flatnonzero(count)
        some = some[np.append(True, np.cumsum(count[some]) <= _MAX_AT_ONCE)[: len(some)]]
        count = count[some]
        inner = [one.ids[ranges(one.first[some], count)] for one in held]
        return _pairs(pairs[some]), count, np.column_stack(inner)


def _pairs(rows: NDArray[np.int64]) -> list[Pair]:
    return list(map(tuple, rows.tolist()))


def _distinct(pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each pair once, and where each of ``pairs`` is among these."""
    (_, ours), (theirs_of, theirs) = (np.unique(ids, return_inverse=True) for ids in pairs.T)
    key = ours * max(len(theirs_of), 1) + theirs
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return pairs[first], place


def _types(where: tuple[Rows, NDArray[np.int64]]) -> _Types:
    """Look types up by their ids. Raises OutputError."""
    rows, ids = where
    once, place = np.unique(ids, return_inverse=True)
    return _types_once(rows, once).take(place)


def _types_once(rows: Rows, ids: NDArray[np.int64]) -> _Types:
    """The same of ids that ascend."""
    there = ids != VOID
    flags, target = np.zeros((2, len(ids)), np.int64)
    layout, declaration = np.zeros((2, len(ids), 2), np.uint64)
    if there.any():
        found = rows.columns(ids[there], TYPE_COLUMNS_HELD)
        kinds = found["kind"].chunk(0)
        of_kind = [*(_FLAGS.get(kind, 0) for kind in kinds.dictionary.to_pylist()), 0]
        flags[there] = np.array(of_kind)[numbers_of(kinds.indices, -1)]
        flags[there] &= np.where(is_there(found["name"].chunk(0)), -1, ~_NAME)
        target[there] = numbers_of(found["target_global_id"])
        layout[there] = hashes(found["layout_fingerprint"])
        declaration[there] = hashes(found["declaration_fingerprint"])
    return _Types(ids, flags, target, layout, declaration)


def _held(where: tuple[Rows, _Types]) -> _Held:
    """Look up what types hold by value, in the order of their records."""
    rows, types = where
    _, first, place = np.unique(types.ids, return_index=True, return_inverse=True)
    return _held_once(rows, types.take(first)).take(place)


def _held_once(rows: Rows, types: _Types) -> _Held:
    """The same of types that ascend."""
    has_members, has_target = types.flags & _MEMBERS > 0, types.flags & _TARGET > 0
    members = np.zeros(len(types.ids), np.int64)
    # Each type is there once, and its members follow one another as the types do.
    counts, _, found = rows.members_of_each(types.ids[has_members], MEMBER_COLUMNS_HELD)
    members[has_members], of_members = counts, numbers_of(found["type_global_id"])
    count = members + has_target
    first = np.cumsum(count) - count
    ids = np.empty(count.sum(), np.int64)
    ids[first[has_target]] = types.target[has_target]
    is_member = np.ones(len(ids), np.bool_)
    is_member[first[has_target]] = False
    ids[is_member] = of_members
    return _Held(ids, first, count)
