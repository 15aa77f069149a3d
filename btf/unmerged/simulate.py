"""What replacing a root cause would save: replace it, deduplicate again, see which types are gone.

The figures of a root cause are those of a counterfactual: the module as it was before dedup, with
the base's type in place of its own one. Nothing but dedup itself knows what follows from that:
structs become the base's, pointers and prototypes between them too; a forward declaration that the
first struct was kept for keeps the next one; types that were one become two. So dedup runs again,
once for each root cause.

It runs on a part of the module only: see ``part``.

Where nothing refers to the root cause, nothing has to run: a function or an integer goes by itself,
with what only it refers to.

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
    FUNC,
    FWD,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
    PTR,
    SCALARS,
    TYPE_TAG,
    kind_of,
)
from ..format.records import reference_at, reference_count, reference_word
from ..types.btf import BTF, freeze
from ..types.objects import Array, Composite
from ..types.typebase import Reference, Type
from .part import count_users, part_that_stays

# What no declaration can mean: dedup of other types depends on these only where they lead there.
UNDECLARED = {*SCALARS, FUNC}
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
        namesakes: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        """Take a module; its part is made when the first simulation needs it.

        source   the module before dedup: standalone, or split
        resized  (id of an own struct after dedup, id of its namesake in the base) of those that
                 differ in their size and in offsets only, where what they embed has another size
        namesakes   the base's named types, and where those of each own type are among them:
                 ``BaseNames.ids``, and see ``names.find_namesakes``
        """
        self._source, self._result, self._index = source, result, index
        self._resized, self._namesakes = resized, namesakes
        self._first_own = index.type_end
        self._types_left = MAX_TYPES

    def simulate_replacement(self, type_id: int, base_type_id: int) -> Saving | None:
        """Put a type of the base in place of an own one; None where it would take too long.

        type_id  id of the own type after dedup
        """
        split, own = self._result.btf, type_id - self._first_own
        alone = not self._had_users[own] and split[type_id].kind in UNDECLARED
        count = split.type_count if alone else len(self._part[2])
        self._types_left -= count
        if self._types_left < 0:
            return None
        if alone:
            return self._drop(own)
        part_words, part_offsets, after = self._part
        place = np.empty(count, np.int64)
        words, offsets = np.empty_like(part_words), np.empty(count + 1, np.uint32)
        kept, length = replace_type(
            part_words, part_offsets, after, type_id, base_type_id, self._first_own,
            place, words, offsets,
        )  # fmt: skip
        if self._resized:
            self._lay_out_as_base(words, offsets, type_id)
        copies = freeze(words[:length]), freeze(offsets[: kept + 1])
        try:
            again = dedup_arrays(self._index, *copies, split.strings, added=False)
        except UnsupportedError:  # what it had before was different enough
            self._types_left = 0
            return None
        self._types_left -= again.steps // STEPS_OF_A_TYPE
        gone = np.empty(split.type_count, np.uint8)
        was, users, dropped = np.empty((3, len(again.offsets) - 1), np.int32)
        types, size = find_gone(
            again.words, again.offsets, again.new_ids, after, place, self._first_own,
            split.offsets, self._had_users, was, users, dropped, gone,
        )  # fmt: skip
        return Saving(gone, types, size)

    def _drop(self, own: int) -> Saving:
        """Take an own type away that nothing refers to."""
        split = self._result.btf
        gone = np.zeros(split.type_count, np.uint8)
        was = np.arange(split.type_count, dtype=np.int32)
        dropped = np.empty_like(was)
        dropped[0] = own
        types, size = drop_unused(
            split.words, split.offsets, self._first_own, split.offsets, self._had_users,
            was, self._had_users.copy(), dropped, 1, gone,
        )  # fmt: skip
        return Saving(gone, types, size)

    # -- structs that embed what is replaced

    def _lay_out_as_base(self, words: np.ndarray, offsets: np.ndarray, type_id: int) -> None:
        """Give structs that embed the type, or one of these, the base's size and offsets."""
        after = self._part[2]
        after = after[after != type_id]
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
    def _part(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(words, offsets, after), see ``part_that_stays``."""
        return part_that_stays(self._source, self._result, self._index, self._namesakes)

    @cached_property
    def _had_users(self) -> np.ndarray:
        """int32: how often each own type is referred to by own types."""
        split = self._result.btf
        users = np.zeros(split.type_count, np.int32)
        count_users(split.words, split.offsets, self._first_own, users)
        return users


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
    more, their_size = drop_unused(
        words, offsets, first_own, own_offsets, had_users, was, users, dropped, count, gone
    )
    return types + more, size + their_size


@compiled
def drop_unused(  # type: ignore[no-untyped-def]
    words, offsets, first_own, own_offsets, had_users, was, users, dropped, count, gone
):
    """Take types away, and parts of types that nothing else refers to; returns (types, bytes).

    own_offsets, had_users, was   as in ``find_gone``
    users, dropped                too; the first ``count`` of ``dropped`` are given
    gone                          uint8: out, 1 for own types before that are taken away
    """
    types, size = np.int64(0), np.int64(0)
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
