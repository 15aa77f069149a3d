"""What a root cause keeps, found out by doing it: mend, deduplicate again, see what is gone.

``whatif`` works the same out without, and much faster, but only where a module has no more than one
definition of a name. With several, mending one can make others equal, have declarations bound that
were not, or the other way round. Few modules are like that (12 of 4,022 in Debian's amd64 kernel),
so these are done the long way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..compare.shallow import size_or_none
from ..deduplication.deduplicate import DedupResult, dedup
from ..deduplication.index import BaseIndex
from ..edit.fields import fields, gather
from ..format import kinds
from ..types.btf import BTF, freeze
from ..types.objects import Array, Composite
from ..types.typebase import Reference, Type
from .names import NAME_SPACE, PLAIN, TAGS

MAX_TYPES = 1 << 21  # types that are deduplicated again for one module, all times taken together


def several_of_a_name(source: BTF, result: DedupResult) -> bool:
    """Whether types of one name, of a module as it was, have become several, of which it keeps one.

    A name is one within the name spaces of types; what is only declared may well become a
    definition.
    """
    own = _name_keys(result.btf)
    own = own[own > 0]
    if len(np.unique(own)) < len(own):
        return True
    keys = _name_keys(source)
    went = result.id_map[source.start_id :].astype(np.int64)
    kept = np.unique(keys[went >= result.btf.start_id])
    chosen = np.isin(keys, kept[kept > 0])
    meanings = len(np.unique(keys[chosen] << 32 | went[chosen]))
    return meanings > int(np.count_nonzero(kept))


def _name_keys(split: BTF) -> np.ndarray:
    """int64: for each own type its name and name space as one number; 0 for what has none."""
    space = NAME_SPACE[split.own_kinds].astype(np.int64)
    names = split.words[split.offsets[:-1]].astype(np.int64)
    return np.where((names > 0) & ((space == TAGS) | (space == PLAIN)), names << 3 | space, 0)


class Gone(NamedTuple):
    """What goes when a root cause is mended: own types (0-based), and how many types and bytes less
    there are, which is what goes without what comes: types that were merged into one, and are not.
    """

    own: set[int]
    types: int
    bytes: int


@dataclass(frozen=True, eq=False)
class _References:
    """References of own types by who refers.

    first    int64 (T + 1,): those of type t are ``to[first[t]:first[t + 1]]``
    to       int64: type ids
    """

    first: np.ndarray
    to: np.ndarray

    @classmethod
    def of(cls, split: BTF) -> _References:
        refs = fields(split.words, split.offsets[:-1], split.offsets[1:])[1]
        return cls(np.searchsorted(refs, split.offsets), split.words[refs].astype(np.int64))

    def users(self, first_own: int) -> np.ndarray:
        """How often each own type is referred to."""
        own = self.to[self.to >= first_own] - first_own
        return np.bincount(own, minlength=len(self.first) - 1)


class Mender:
    """A module that can be mended in one way after the other."""

    def __init__(
        self,
        source: BTF,
        result: DedupResult,
        index: BaseIndex,
        follows: Sequence[tuple[int, int]],
    ) -> None:
        """follows   ids of own structs and of their namesakes in the base that differ in size and
        places of members only, where what they embed has another size"""
        self._result, self._index, self._follows = result, index, follows
        self._first_own = index.type_end
        self._split = _added(source, index)
        self._went = result.id_map[source.start_id :].astype(np.int64)
        self._left = MAX_TYPES

    def mend(self, type_id: int, base_type_id: int) -> Gone | None:
        """Put a type of the base in place of an own one; None where it would take too long."""
        self._left -= self._split.type_count
        if self._left < 0:
            return None
        again, now = self._dedup_again(type_id, base_type_id)
        order = np.argsort(self._first_source, kind="stable")
        _, first = np.unique(now[order], return_index=True)
        stays = np.zeros(len(now), np.bool_)
        stays[order[first]] = True
        stays &= now >= self._first_own
        gone = set(np.flatnonzero(~stays).tolist())
        back = again.type_count - int(np.count_nonzero(stays))  # types that were one, and are two
        gone |= self._unused(again, stays, now)
        size = _bytes_of(self._result.btf, sorted(gone))
        if back:
            known = set((now[stays] - self._first_own).tolist())
            size -= _bytes_of(again, [own for own in range(again.type_count) if own not in known])
        return Gone(gone, len(gone) - back, size)

    @cached_property
    def _first_source(self) -> np.ndarray:
        """int64: for each own type the first type before dedup that became it."""
        first = np.zeros(self._result.btf.type_count, np.int64)
        own = np.flatnonzero(self._went >= self._first_own)[::-1]
        first[self._went[own] - self._first_own] = own
        return first

    def _dedup_again(self, type_id: int, base_type_id: int) -> tuple[BTF, np.ndarray]:
        """The mended module, and for each own type as it was the id that it has there."""
        split, went = self._split, self._went
        kept = np.flatnonzero(went != type_id)
        place = np.full(split.type_count, base_type_id, np.int64)
        place[kept] = self._first_own + np.arange(len(kept))
        words, offsets = gather(split.words, split.offsets[kept], split.offsets[kept + 1])
        self._lay_out_anew(words, offsets, went[kept], type_id)
        refs = fields(words, offsets[:-1], offsets[1:])[1]
        own = refs[words[refs] >= self._first_own]
        words[own] = place[words[own] - self._first_own]
        again = dedup(_like(split, words, offsets, split.strings), self._index)
        moved = place[self._first_source]
        now = moved.copy()
        inside = moved >= self._first_own
        now[inside] = again.id_map[moved[inside]]
        return again.btf, now

    # -- structs that embed what is mended

    def _lay_out_anew(
        self, words: np.ndarray, offsets: np.ndarray, went: np.ndarray, type_id: int
    ) -> None:
        """Give structs that embed the mended type, or one of these, the base's size and places."""
        causes, left = {type_id}, [pair for pair in self._follows if pair[0] != type_id]
        found = True
        while found:
            found = False
            for pair in left.copy():
                if pair[0] not in causes and self._has_grown(*pair, causes):
                    causes.add(pair[0])
                    left.remove(pair)
                    found = True
                    base = self._result.btf[pair[1]].words
                    for at in offsets[np.flatnonzero(went == pair[0])].tolist():
                        words[at + 2] = base[2]
                        words[at + 5 : at + len(base) : 3] = base[5::3]

    def _has_grown(self, own: int, base: int, causes: set[int]) -> bool:
        """Whether all members of another size are of ``causes``."""
        ours, others = self._result.btf[own], self._result.btf[base]
        assert isinstance(ours, Composite) and isinstance(others, Composite)
        grown = [
            one.type
            for one, other in zip(ours.members, others.members, strict=True)
            if size_or_none(one.type) != size_or_none(other.type)
        ]
        return bool(grown) and all(self._is_made_of(found, causes) for found in grown)

    def _is_made_of(self, found: Type, causes: set[int]) -> bool:
        while found.id >= self._first_own and found.id not in causes:
            if isinstance(found, Composite) and not found.name:
                parts = [m.type for m in found.members if m.type_id >= self._first_own]
                return any(self._is_made_of(part, causes) for part in parts)
            if not isinstance(found, (Array, Reference)) or found.kind == kinds.PTR:
                return False
            found = found.type
        return found.id in causes

    # -- what was a part of a definition that is gone

    @cached_property
    def _users(self) -> np.ndarray:
        return _References.of(self._result.btf).users(self._first_own)

    def _unused(self, again: BTF, stays: np.ndarray, now: np.ndarray) -> set[int]:
        """Own types without a name that are still there, but nothing refers to them any more."""
        references = _References.of(again)
        users = references.users(self._first_own)
        was = np.full(again.type_count, -1, np.int64)
        was[now[stays] - self._first_own] = np.flatnonzero(stays)
        unnamed = (again.words[again.offsets[:-1]] == 0) | (again.own_kinds == kinds.TYPE_TAG)
        droppable = unnamed & (was >= 0) & (self._users[was] > 0)
        todo = np.flatnonzero(droppable & (users == 0)).tolist()
        dropped: set[int] = set()
        while todo:
            own = todo.pop()
            dropped.add(int(was[own]))
            for to in references.to[references.first[own] : references.first[own + 1]].tolist():
                if to >= self._first_own:
                    child = to - self._first_own
                    users[child] -= 1
                    if users[child] == 0 and droppable[child]:
                        todo.append(child)
        return dropped


def _bytes_of(split: BTF, own: Sequence[int]) -> int:
    """Bytes of the records of some own types."""
    return 4 * int(np.diff(split.offsets)[list(own)].sum())


def _added(source: BTF, index: BaseIndex) -> BTF:
    """A module as split BTF on its base, nothing merged; what is split already is left as it is."""
    if source.base is not None:
        return source
    words = source.words.copy()
    names, refs = fields(words, source.offsets[:-1], source.offsets[1:])
    words[refs[words[refs] > 0]] += np.uint32(index.type_end - 1)
    words[names[words[names] > 0]] += np.uint32(index.str_end)
    assert index.base is not None
    on_base = BTF(source.words, source.offsets, source.strings, index.base, source.byteorder)
    return _like(on_base, words, source.offsets, source.strings)


def _like(split: BTF, words: np.ndarray, offsets: np.ndarray, strings: np.ndarray) -> BTF:
    return replace(split, words=freeze(words), offsets=freeze(offsets), strings=strings)
