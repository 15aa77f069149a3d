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
from ..compiled.jit import compiled, inlined
from ..deduplication.core import dedup_arrays
from ..deduplication.deduplicate import DedupResult
from ..deduplication.index import BaseIndex
from ..errors import UnsupportedError
from ..format.kinds import (
    ELEMENT_NAME,
    ELEMENT_WORDS,
    FIXED_WORDS,
    FWD,
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

UNSEEN = 2  # of a type that ``find_gone`` has not come to yet
MAX_TYPES = 1 << 21  # types that are deduplicated again for one module, all times taken together
STEPS_OF_A_TYPE = 2  # of walks beyond what modules of compilers take: as slow as one more type


class Saving(NamedTuple):
    """What is gone when a type was replaced.

    gone    uint8, by own type (0-based): whether it is not there any more
    types   how many types there are fewer: ``gone``, less those that come, which are types that
            were merged into one before and are not now
    bytes   bytes of records that there are fewer
    """

    gone: np.ndarray
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
        count = len(self._after)
        self._types_left -= count
        if self._types_left < 0:
            return None
        place = np.empty(count, np.int64)
        words, offsets = np.empty_like(self._words), np.empty(count + 1, np.uint32)
        kept, length = replace_type(
            self._words, self._offsets, self._after, type_id, base_type_id, self._first_own,
            place, words, offsets,
        )  # fmt: skip
        if self._resized:
            self._lay_out_as_base(words, offsets, type_id)
        strings = self._result.btf.strings
        copies = freeze(words[:length]), freeze(offsets[: kept + 1])
        try:
            again = dedup_arrays(self._index, *copies, strings, added=False)
        except UnsupportedError:  # what it had before was different enough
            self._types_left = 0
            return None
        self._types_left -= again.steps // STEPS_OF_A_TYPE
        gone = np.empty(self._result.btf.type_count, np.uint8)
        was, users, dropped = np.empty((3, len(again.offsets) - 1), np.int32)
        types, size = find_gone(
            again.words, again.offsets, again.new_ids, self._after, place, self._first_own,
            self._result.btf.offsets, self._had_users, was, users, dropped, gone,
        )  # fmt: skip
        return Saving(gone, types, size)

    # -- structs that embed what is replaced

    def _lay_out_as_base(self, words: np.ndarray, offsets: np.ndarray, type_id: int) -> None:
        """Give structs that embed the type, or one of these, the base's size and offsets."""
        after = self._after[self._after != type_id]
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
                        if words[at + 1] >> INFO_KIND_SHIFT & INFO_KIND_MASK == FWD:
                            continue  # it became the struct that it declares
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

    @cached_property
    def _had_users(self) -> np.ndarray:
        """int32: how often each own type is referred to by own types."""
        split = self._result.btf
        users = np.zeros(split.type_count, np.int32)
        count_users(split.words, split.offsets, self._first_own, users)
        return users


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
    leads = np.ones(count, np.uint8)
    if not _has_several_meanings(split, after, namesakes):
        leads = (after >= index.type_end).view(np.uint8)
        room = np.zeros(count + 2, np.int32), np.empty(len(source.words), np.int32)
        mark_leading(
            source.words, source.offsets, source.start_id, leads, *room, np.empty(count, np.int32)
        )
    words, offsets = np.empty_like(source.words), np.empty(count + 1, np.uint32)
    types, length = take_part(
        source.words, source.offsets, source.start_id, leads, result.id_map, result.id_map.copy(),
        index.words, index.starts, split.words, split.offsets, index.type_end, words, offsets,
    )  # fmt: skip
    return words[:length], offsets[: types + 1], after[leads.view(np.bool_)]


@compiled
def take_part(  # type: ignore[no-untyped-def]
    words, offsets, start_id, leads, id_map, new_ids,
    base_words, base_starts, own_words, own_offsets, first_own, out, out_offsets,
):  # fmt: skip
    """Copy the records of marked types, which are numbered anew; returns (types, words).

    start_id                  id of the first of T types; those before it are the base's
    leads                     uint8 (T,): whether a type is marked; others become what they have
                              become in dedup
    id_map                    uint32 (start_id + T,): what each type has become
    new_ids                   a copy of it; out, the same with the marked types' new ids
    base_words, base_starts   the base's types, as in ``BaseIndex``
    own_words, own_offsets    the own types after dedup, as in ``BTF``
    out, out_offsets          uint32: the copies, as ``words`` and ``offsets``
    """
    count = 0
    for index in range(len(leads)):
        if leads[index]:
            new_ids[start_id + index] = first_own + count
            count += 1
    length = np.int64(0)
    out_offsets[0] = 0
    count = 0
    for index in range(len(leads)):
        if leads[index] == 0:
            continue
        at = np.int64(offsets[index])
        end = length + np.int64(offsets[index + 1]) - at
        for to in range(length, end):
            out[to] = words[at + to - length]
        info = words[at + 1]
        for number in range(reference_count(info)):
            to = length + reference_word(info, number)
            out[to] = new_ids[out[to]]
        now = np.int64(id_map[start_id + index])
        if now >= first_own:
            take_names(own_words, np.int64(own_offsets[now - first_own]), out, length, end)
        else:
            take_names(base_words, np.int64(base_starts[now]), out, length, end)
        length = end
        count += 1
        out_offsets[count] = length
    return count, length


@inlined
def take_names(same, start, out, at, end):  # type: ignore[no-untyped-def]
    """Replace the names in a record by those of what it has become, which are the same strings.

    same, start  words, and where the record of what it has become begins in them
    at, end      where the record in ``out`` begins and ends
    """
    out[at] = same[start]
    info = out[at + 1]
    kind = kind_of(info)
    stride = np.int64(ELEMENT_WORDS[kind])
    if stride > 0 and ELEMENT_NAME[kind] >= 0:
        first = HEAD_WORDS + FIXED_WORDS[kind] + ELEMENT_NAME[kind]
        for word in range(first, end - at, stride):
            # A declaration, which becomes another record, has no elements.
            out[at + word] = same[start + word] if same[start + 1] == info else 0


@compiled
def replace_type(  # type: ignore[no-untyped-def]
    words, offsets, after, type_id, base_type_id, first_own, place, out, out_offsets
):
    """Copy all records but those that became one type; returns (types, words) that there are.

    after              int64 (T,): what each type became in dedup
    type_id            the one to be replaced
    base_type_id       the base's type in its place
    place              int64 (T,): out, the id that each has in the copy, or that of the base
    out, out_offsets   uint32: the copies, as ``words`` and ``offsets``
    """
    count = 0
    for index in range(len(after)):
        if after[index] == type_id:
            place[index] = base_type_id
        else:
            place[index] = first_own + count
            count += 1
    length = np.int64(0)
    out_offsets[0] = 0
    count = 0
    for index in range(len(after)):
        if after[index] == type_id:
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
    return count, length


@compiled
def find_gone(  # type: ignore[no-untyped-def]
    words, offsets, new_ids, after, place, first_own, own_offsets, had_users,
    was, users, dropped, gone,
):  # fmt: skip
    """Compare the types before and after a replacement; returns (types, bytes) there are fewer.

    words, offsets       the T types after it
    new_ids              uint32: ids after it of the types that ``replace_type`` copied
    after, place         as in ``replace_type``
    own_offsets          offsets of the own types before it
    had_users            int32: how often each of these was referred to by own types
    was, users, dropped  int32 (T,): scratch: the own type before it that each is, or -1; how often
                         each is referred to; types that nothing refers to any more
    gone                 uint8: out, whether each of the own types before it is gone
    """
    for index in range(len(was)):
        was[index] = -1
        users[index] = 0
    for own in range(len(gone)):
        gone[own] = UNSEEN
    types, size = np.int64(0), np.int64(0)
    for index in range(len(after)):
        own = after[index] - first_own
        if own < 0 or gone[own] != UNSEEN:
            continue
        now = place[index] - first_own
        if now >= 0:
            now = np.int64(new_ids[now]) - first_own
        stays = now >= 0 and was[now] < 0
        gone[own] = not stays
        if stays:
            was[now] = own
        else:
            types += 1
            size += 4 * (np.int64(own_offsets[own + 1]) - np.int64(own_offsets[own]))
    for index in range(len(was)):
        if was[index] < 0:  # it was one with another
            types -= 1
            size -= 4 * (np.int64(offsets[index + 1]) - np.int64(offsets[index]))
    count_users(words, offsets, first_own, users)
    count = 0
    for index in range(len(users)):
        if users[index] == 0 and was_a_part(words, offsets, had_users, was, index):
            dropped[count] = index
            count += 1
    done = 0
    while done < count:
        index = np.int64(dropped[done])
        done += 1
        own = np.int64(was[index])
        gone[own] = 1
        types += 1
        size += 4 * (np.int64(own_offsets[own + 1]) - np.int64(own_offsets[own]))
        at = np.int64(offsets[index])
        for number in range(reference_count(words[at + 1])):
            child = reference_at(words, at, number) - first_own
            if child >= 0:
                users[child] -= 1
                if users[child] == 0 and was_a_part(words, offsets, had_users, was, child):
                    dropped[count] = child
                    count += 1
    return types, size


@inlined
def was_a_part(words, offsets, had_users, was, index):  # type: ignore[no-untyped-def]
    """Whether a type was there only as a part of others: one without a name, referred to.

    had_users, was   as in ``find_gone``
    index            of the type, after the replacement
    """
    at = np.int64(offsets[index])
    unnamed = words[at] == 0 or kind_of(words[at + 1]) == TYPE_TAG
    return unnamed and was[index] >= 0 and had_users[was[index]] > 0


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
