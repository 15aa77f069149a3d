"""The part of a module that dedup has to see again where a type of it is replaced.

A type that leads to no type that the module kept is equal to the base's whatever is replaced. It is
left out, and references to it become references to the base's; of Debian's modules two thirds are.
But a module with several definitions of a name is taken whole: there a forward declaration may
stand for one or the other, as the order of types has it.

Parameters of compiled functions:

words, offsets   uint32: the records of T types, as in ``BTF``
first_own        id of the first of these; what is referred to below it does not count
"""

from __future__ import annotations

import numpy as np

from ..compiled.huge_pages import power_of_two
from ..compiled.jit import compiled, inlined
from ..deduplication.deduplicate import DedupResult
from ..deduplication.hash_tables import enter_name, find_name
from ..deduplication.index import BaseIndex
from ..format.kinds import (
    ELEMENT_NAME,
    ELEMENT_WORDS,
    FIXED_WORDS,
    HEAD_WORDS,
    NAME_SPACE,
    NameSpace,
    kind_of,
)
from ..format.records import reference_at, reference_count, reference_word
from ..types.btf import BTF

_TAGS, _TYPE_NAMES = int(NameSpace.TAGS), int(NameSpace.TYPE_NAMES)


def part_that_stays(
    source: BTF,
    result: DedupResult,
    index: BaseIndex,
    namesakes: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Types before dedup that dedup has to see again: (words, offsets, after), as split BTF with
    nothing merged and the strings of ``result``; ``after`` is int64, the id of each after dedup."""
    count, split = source.type_count, result.btf
    after = result.id_map[source.start_id :]
    became = np.zeros(index.type_end, np.uint8)
    tags, type_names = np.zeros((2, power_of_two(2 * split.type_count)), np.uint64)
    if has_several_meanings(
        split.words, split.offsets, index.type_end, after, *namesakes, became, tags, type_names,
        index.string_slots[-1],
    ):  # fmt: skip
        leads = np.ones(count, np.uint8)
    else:
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
    return words[:length], offsets[: types + 1], after[leads.view(np.bool_)].astype(np.int64)


@compiled
def has_several_meanings(  # type: ignore[no-untyped-def]
    words, offsets, first_own, after, ids, first, count, became, tags, type_names, seed
):
    """Whether types of one name have become several, of which dedup kept one.

    A name is one within tags and within type names; what is only declared may become a definition.

    words, offsets      the module after dedup, as in ``BTF``
    after               uint32: what the types before have become
    ids, first, count   the base's named types, and where the namesakes of each own type are among
                        them: see ``names``
    became              uint8, zeroed, by type of the base: scratch
    tags, type_names    scratch, zeroed: ``name_slots`` of ``hash_tables``, with ``seed``
    """
    for index in range(len(after)):
        if after[index] < first_own:
            became[after[index]] = 1
    for own in range(len(offsets) - 1):
        for place in range(first[own], first[own] + count[own]):
            if became[ids[place]]:
                return True
        at = np.int64(offsets[own])
        space = NAME_SPACE[kind_of(words[at + 1])]
        if words[at] == 0 or (space != _TAGS and space != _TYPE_NAMES):
            continue
        seen = tags if space == _TAGS else type_names
        if find_name(seen, words[at], seed) >= 0:
            return True
        enter_name(seen, words[at], own + 1, seed)
    return False


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
def mark_leading(words, offsets, first_own, leads, first_user, user, stack):  # type: ignore[no-untyped-def]
    """Mark types that refer to marked ones, directly or not.

    leads               uint8 (T,): in and out, whether a type is marked
    first_user, user    int32 (T + 2,), zeroed, and (as many as there are references,): types that
                        refer to type t and are not marked yet are
                        ``user[first_user[t]:first_user[t + 1]]``
    stack               int32 (T,)
    """
    count = len(offsets) - 1
    for index in range(count):
        if leads[index]:
            continue
        at = np.int64(offsets[index])
        for number in range(reference_count(words[at + 1])):
            child = reference_at(words, at, number) - first_own
            if child >= 0:
                first_user[child + 2] += 1
    for index in range(count):
        first_user[index + 2] += first_user[index + 1]
    for index in range(count):
        if leads[index]:
            continue
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
