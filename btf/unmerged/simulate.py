"""What replacing a root cause would save: replace it, deduplicate again, see which types are gone.

The figures of a root cause are those of a counterfactual: the module as it was before dedup, with
the base's type in place of its own one. Nothing but dedup itself knows what follows from that:
structs become the base's, pointers and prototypes between them too; a forward declaration that the
first struct was kept for keeps the next one; types that were one become two. So dedup runs again,
once for each root cause.

It runs on a part of the module: a type that leads to no type that the module kept is equal to the
base's whatever is replaced. It is left out, and references to it become references to the base's;
of Debian's modules two thirds are. But a module with several definitions of a name is taken whole:
there a forward declaration may stand for one or the other, as the order of types has it.

Parameters of compiled functions:

words, offsets   uint32: the records of T types, as in ``BTF``
first_own        id of the first of these; what is referred to below it does not count
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..compare.shallow import size_or_none
from ..compiled.jit import compiled
from ..deduplication.core import Kept, dedup_arrays
from ..deduplication.deduplicate import DedupResult
from ..deduplication.index import BaseIndex
from ..edit.fields import fields, gather
from ..format.kinds import (
    ELEMENT_NAME,
    ELEMENT_WORDS,
    FIXED_WORDS,
    HEAD_WORDS,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
    NAME_SPACE,
    PTR,
    TYPE_TAG,
    NameSpace,
    kind_of,
)
from ..format.records import reference_at, reference_count, reference_word
from ..types.btf import BTF, freeze
from ..types.objects import Array, Composite
from ..types.typebase import Reference, Type

MAX_TYPES = 1 << 21  # types that are deduplicated again for one module, all times taken together


class Saving(NamedTuple):
    """What is gone when a type was replaced.

    gone    own types (0-based) that are not there any more
    types   how many types there are fewer: ``gone``, less those that come, which are types that
            were merged into one before and are not now
    bytes   bytes of records that there are fewer
    """

    gone: set[int]
    types: int
    bytes: int


class Simulation:
    """A module whose types can be replaced by the base's, one at a time."""

    def __init__(
        self,
        source: BTF,
        result: DedupResult,
        index: BaseIndex,
        resized: Sequence[tuple[int, int]],
        namesakes: np.ndarray,
    ) -> None:
        """Take the part of ``source`` that leads to types which dedup kept.

        source   the module before dedup: standalone, or split
        resized  (id of an own struct after dedup, id of its namesake in the base) of those that
                 differ in their size and in offsets only, where what they embed has another size
        namesakes   uint32: types of the base that have the name of an own type that dedup kept
        """
        self._result, self._index, self._resized = result, index, resized
        self._first_own = index.type_end
        self._words, self._offsets, self._after = _part_that_stays(source, result, index, namesakes)
        self._types_left = MAX_TYPES

    def simulate_replacement(self, type_id: int, base_type_id: int) -> Saving | None:
        """Put a type of the base in place of an own one; None where it would take too long.

        type_id  id of the own type after dedup
        """
        self._types_left -= len(self._after)
        if self._types_left < 0:
            return None
        again, now = self._dedup_again(type_id, base_type_id)
        order = self._order
        _, first = np.unique(now[order], return_index=True)
        stays = np.zeros(len(now), np.bool_)
        stays[order[first]] = True
        stays &= now >= self._first_own
        gone = set(np.flatnonzero(~stays).tolist())
        come = len(again.offsets) - 1 - int(np.count_nonzero(stays))
        gone |= self._unused(again, stays, now)
        size = _record_bytes(self._result.btf.offsets, sorted(gone))
        if come:
            comes = np.ones(len(again.offsets) - 1, np.bool_)
            comes[now[stays] - self._first_own] = False
            size -= _record_bytes(again.offsets, np.flatnonzero(comes))
        return Saving(gone, len(gone) - come, size)

    @cached_property
    def _first_source(self) -> np.ndarray:
        """int64: for each own type the first type of the part that became it."""
        first = np.zeros(self._result.btf.type_count, np.int64)
        own = np.flatnonzero(self._after >= self._first_own)[::-1]
        first[self._after[own] - self._first_own] = own
        return first

    @cached_property
    def _order(self) -> np.ndarray:
        """Own types in the order of the first type that became each."""
        return np.argsort(self._first_source, kind="stable")

    def _dedup_again(self, type_id: int, base_type_id: int) -> tuple[Kept, np.ndarray]:
        """The module with the type replaced, after dedup, and each own type's id there."""
        after = self._after
        kept = np.flatnonzero(after != type_id)
        place = np.full(len(after), base_type_id, np.int64)
        place[kept] = np.arange(self._first_own, self._first_own + len(kept))
        words, offsets = np.empty_like(self._words), np.zeros(len(kept) + 1, np.uint32)
        length = copy_moved(self._words, self._offsets, place, self._first_own, words, offsets)
        if self._resized:
            self._lay_out_as_base(words, offsets, after[kept], type_id)
        again = dedup_arrays(
            self._index,
            freeze(words[:length]),
            freeze(offsets),
            self._result.btf.strings,
            added=False,
        )
        now = place[self._first_source]
        inside = now >= self._first_own
        now[inside] = again.new_ids[now[inside] - self._first_own]
        return again, now

    # -- structs that embed what is replaced

    def _lay_out_as_base(
        self, words: np.ndarray, offsets: np.ndarray, after: np.ndarray, type_id: int
    ) -> None:
        """Give structs that embed the type, or one of these, the base's size and offsets."""
        causes, left = {type_id}, [pair for pair in self._resized if pair[0] != type_id]
        found = True
        while found:
            found = False
            for pair in left.copy():
                if pair[0] not in causes and self._is_resized_by(*pair, causes):
                    causes.add(pair[0])
                    left.remove(pair)
                    found = True
                    base = self._result.btf[pair[1]].words
                    for at in offsets[np.flatnonzero(after == pair[0])].tolist():
                        words[at + 2] = base[2]
                        words[at + 5 : at + len(base) : 3] = base[5::3]

    def _is_resized_by(self, own: int, base: int, causes: set[int]) -> bool:
        """Whether all members of another size than in the base are made of ``causes``."""
        ours, others = self._result.btf[own], self._result.btf[base]
        assert isinstance(ours, Composite) and isinstance(others, Composite)
        resized = [
            one.type
            for one, other in zip(ours.members, others.members, strict=True)
            if size_or_none(one.type) != size_or_none(other.type)
        ]
        return bool(resized) and all(self._is_made_of(found, causes) for found in resized)

    def _is_made_of(self, found: Type, causes: set[int]) -> bool:
        while found.id >= self._first_own and found.id not in causes:
            if isinstance(found, Composite) and not found.name:
                parts = [m.type for m in found.members if m.type_id >= self._first_own]
                return any(self._is_made_of(part, causes) for part in parts)
            if not isinstance(found, (Array, Reference)) or found.kind == PTR:
                return False
            found = found.type
        return found.id in causes

    # -- what was a part of a definition that is gone

    @cached_property
    def _had_users(self) -> np.ndarray:
        split = self._result.btf
        return _user_counts(split.words, split.offsets, self._first_own) > 0

    def _unused(self, again: Kept, stays: np.ndarray, now: np.ndarray) -> set[int]:
        """Own types without a name that are still there, but nothing refers to them any more."""
        was = np.full(len(again.offsets) - 1, -1, np.int64)
        was[now[stays] - self._first_own] = np.flatnonzero(stays)
        starts = again.offsets[:-1]
        kinds = again.words[starts + 1] >> INFO_KIND_SHIFT & INFO_KIND_MASK
        unnamed = (again.words[starts] == 0) | (kinds == TYPE_TAG)
        droppable = unnamed & (was >= 0) & self._had_users[was]
        dropped = np.empty(len(was), np.int32)
        users = _user_counts(again.words, again.offsets, self._first_own)
        count = drop_unused(
            again.words, again.offsets, self._first_own, droppable.view(np.uint8), users, dropped
        )
        return set(was[dropped[:count]].tolist())


def _user_counts(words: np.ndarray, offsets: np.ndarray, first_own: int) -> np.ndarray:
    """int32: how often each own type is referred to by own types."""
    users = np.zeros(len(offsets) - 1, np.int32)
    count_users(words, offsets, first_own, users)
    return users


def _record_bytes(offsets: np.ndarray, own: Sequence[int] | np.ndarray) -> int:
    """Bytes of the records of some own types, which begin at ``offsets``."""
    return 4 * int(np.diff(offsets)[own].sum()) if len(own) else 0


def _has_several_meanings(split: BTF, after: np.ndarray, namesakes: np.ndarray) -> bool:
    """Whether types of one name have become several, of which dedup kept one.

    A name is one within tags and within type names; what is only declared may become a definition.

    split       the module after dedup
    after       int64: what its types have become
    namesakes   uint32: types of the base that have the name of one that was kept
    """
    became = np.zeros(split.start_id, np.bool_)
    became[after[after < split.start_id]] = True
    if became[namesakes].any():
        return True
    space = NAME_SPACE[split.own_kinds].astype(np.int64)
    names = split.words[split.offsets[:-1]].astype(np.int64)
    named = (names > 0) & ((space == NameSpace.TAGS) | (space == NameSpace.TYPE_NAMES))
    keys = np.sort(names[named] << 3 | space[named])
    return bool(np.any(keys[1:] == keys[:-1]))


def _part_that_stays(
    source: BTF, result: DedupResult, index: BaseIndex, namesakes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Types before dedup that dedup has to see again: (words, offsets, after), as split BTF with
    nothing merged and the strings of ``result``; ``after`` is int64, the id of each after dedup."""
    count, split = source.type_count, result.btf
    after = result.id_map[source.start_id :].astype(np.int64)
    if _has_several_meanings(split, after, namesakes):
        part = np.arange(count)
    else:
        leads = (after >= index.type_end).view(np.uint8)
        room = np.zeros(count + 2, np.int32), np.empty(len(source.words), np.int32)
        mark_leading(
            source.words, source.offsets, source.start_id, leads, *room, np.empty(count, np.int32)
        )
        part = np.flatnonzero(leads)
    words, offsets = gather(source.words, source.offsets[part], source.offsets[part + 1])
    _, refs = fields(words, offsets[:-1], offsets[1:])
    new_id = result.id_map.copy()
    new_id[source.start_id + part] = np.arange(index.type_end, index.type_end + len(part))
    words[refs] = new_id[words[refs]]
    after = after[part]
    take_names(
        words, offsets, after, index.words, index.starts, split.words, split.offsets, index.type_end
    )
    return words, offsets, after


@compiled
def take_names(words, offsets, after, base_words, base_starts, own_words, own_offsets, first_own):  # type: ignore[no-untyped-def]
    """Replace the names of types by those of what they have become, which are the same strings.

    after                     int64 (T,): what each type has become
    base_words, base_starts   the base's types, as in ``BaseIndex``
    own_words, own_offsets    the own types after dedup, as in ``BTF``
    """
    for index in range(len(after)):
        at = np.int64(offsets[index])
        now = after[index]
        if now >= first_own:
            same = own_words
            from_word = np.int64(own_offsets[now - first_own])
        else:
            same = base_words
            from_word = np.int64(base_starts[now])
        words[at] = same[from_word]
        info = words[at + 1]
        kind = kind_of(info)
        stride = np.int64(ELEMENT_WORDS[kind])
        if stride == 0 or ELEMENT_NAME[kind] < 0:
            continue
        first = HEAD_WORDS + FIXED_WORDS[kind] + ELEMENT_NAME[kind]
        for word in range(first, np.int64(offsets[index + 1]) - at, stride):
            # A declaration, which becomes another record, has no elements.
            words[at + word] = same[from_word + word] if same[from_word + 1] == info else 0


@compiled
def copy_moved(words, offsets, place, first_own, out, out_offsets):  # type: ignore[no-untyped-def]
    """Copy the records of types that stay, with references to where types are then; returns words.

    place              int64 (T,): the id that each has then; that of a type of the base, which is
                       below ``first_own``, for those that do not stay
    out, out_offsets   uint32: the copies, as ``words`` and ``offsets``
    """
    length = np.int64(0)
    count = 0
    for index in range(len(place)):
        if place[index] < first_own:
            continue
        at = np.int64(offsets[index])
        info = words[at + 1]
        end = length + np.int64(offsets[index + 1]) - at
        for to in range(length, end):
            out[to] = words[at + to - length]
        for number in range(reference_count(info)):
            to = length + reference_word(info, number)
            referred = np.int64(out[to])
            if referred >= first_own:
                out[to] = place[referred - first_own]
        length = end
        count += 1
        out_offsets[count] = length
    return length


@compiled
def mark_leading(words, offsets, first_own, leads, first_user, user, stack):  # type: ignore[no-untyped-def]
    """Mark types that refer to marked ones, directly or not.

    leads               uint8 (T,): in and out, whether a type is marked
    first_user, user    int32 (T + 2,), zeroed, and (as many as there are references,): types that
                        refer to type t are ``user[first_user[t]:first_user[t + 1]]``
    stack               int32 (T,)
    """
    count = len(offsets) - 1
    count_users(words, offsets, first_own, first_user[2:])
    for index in range(count):
        first_user[index + 2] += first_user[index + 1]
    for index in range(count):
        at = np.int64(offsets[index])
        for number in range(reference_count(words[at + 1])):
            child = reference_at(words, at, number) - first_own
            if child >= 0:
                user[first_user[child + 1]] = index
                first_user[child + 1] += 1
    top = 0
    for index in range(count):
        if leads[index]:
            stack[top] = index
            top += 1
    while top > 0:
        top -= 1
        child = np.int64(stack[top])
        for at in range(first_user[child], first_user[child + 1]):
            index = np.int64(user[at])
            if leads[index] == 0:
                leads[index] = 1
                stack[top] = index
                top += 1


@compiled
def count_users(words, offsets, first_own, users):  # type: ignore[no-untyped-def]
    """Add to ``users`` (int32 (T,)) how often each type is referred to."""
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        for number in range(reference_count(words[at + 1])):
            child = reference_at(words, at, number) - first_own
            if child >= 0:
                users[child] += 1


@compiled
def drop_unused(words, offsets, first_own, droppable, users, dropped):  # type: ignore[no-untyped-def]
    """Drop types that nothing refers to, and what only they refer to; returns how many.

    droppable   uint8 (T,): which types may be dropped
    users       int32 (T,): how often each is referred to; counted down
    dropped     int32 (T,): out, the types that were dropped
    """
    count = 0
    for index in range(len(users)):
        if droppable[index] and users[index] == 0:
            dropped[count] = index
            count += 1
    done = 0
    while done < count:
        at = np.int64(offsets[dropped[done]])
        done += 1
        for number in range(reference_count(words[at + 1])):
            child = reference_at(words, at, number) - first_own
            if child >= 0:
                users[child] -= 1
                if users[child] == 0 and droppable[child]:
                    dropped[count] = child
                    count += 1
    return count
