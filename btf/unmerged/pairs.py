"""Pairs of a type that stayed and the base's that it is held against, and where each pair leads.

A pair is made for every named type that stayed and each of its namesakes in the base, and for
every place where a type that became the base's refers to one that stayed. What a pair refers to
is the next pair, unless it is one and the same type: that is what dedup found equal. The pairs
and their references are a graph, usually a small one.

Parameters used throughout:

records        ``ModuleRecords``
pairs          ``Pairs``
module, base   type ids of a pair; the first one may be the base's, too
number         number of a pair
at, base_at    positions of two records, see ``records.position``
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.huge_pages import power_of_two
from ..compiled.jit import compiled
from ..deduplication.signature import mix
from ..format.kinds import (
    FWD,
    INFO_KIND_FLAG,
    INFO_VLEN_MASK,
    NAME_SPACE,
    STRUCT,
    UNION,
    VOID,
    is_enum,
    is_never_merged,
    kind_of,
)
from ..format.records import record_length, reference_count, reference_word
from .records import position, size_of, word

# How the two types of a pair stand to each other, by themselves.
AGREE = 0
DIFFER = 1
FOLLOW = 2  # members lie elsewhere, and a type that is embedded before has another size
BASE_DECLARES = 3  # the base has only a forward declaration
MODULE_DECLARES = 4

MAX_NAMESAKES = 16  # types of the base that one of the module is held against

# Slots of ``counts``.
PAIRS = 0
LINKS = 1
OVERFLOW = 2
STATES = 3  # of pairs in each state, AGREE first
COUNTS = STATES + MODULE_DECLARES + 1

_LOW = np.uint64(0xFFFFFFFF)
_31 = np.uint32(31)


class Pairs(NamedTuple):
    """The graph of pairs, with room for P pairs and L links.

    module, base   uint32 (P,): the two type ids
    state          uint8 (P,): see above
    named          uint8 (P,): whether the two have one name, in one name space
    first_link     int32 (P + 1,): where the links of a pair begin
    link_to, link_word   int32 (L,): the pair that is referred to, and by which word of the record
    slots          int32, a power of two, zeroed: pair + 1 by its two ids
    counts         int64 (COUNTS,): how many pairs and links there are; whether there were more;
                   how many pairs are in each state
    """

    module: np.ndarray
    base: np.ndarray
    state: np.ndarray
    named: np.ndarray
    first_link: np.ndarray
    link_to: np.ndarray
    link_word: np.ndarray
    slots: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, pairs: int, links: int) -> Pairs:
        """An empty graph with room for that many."""
        return cls(
            module=np.empty(pairs, np.uint32),
            base=np.empty(pairs, np.uint32),
            state=np.empty(pairs, np.uint8),
            named=np.empty(pairs, np.uint8),
            first_link=np.empty(pairs + 1, np.int32),
            link_to=np.empty(links, np.int32),
            link_word=np.empty(links, np.int32),
            slots=np.zeros(power_of_two(2 * pairs), np.int32),
            counts=np.zeros(COUNTS, np.int64),
        )


@compiled
def _slot(pairs, module, base):  # type: ignore[no-untyped-def]
    """Where in ``slots`` a pair is, or a free one for it."""
    mask = np.int64(len(pairs.slots) - 1)
    slot = np.int64(mix(mix(np.uint64(0), module), base) & _LOW) & mask
    while pairs.slots[slot] != 0:
        number = np.int64(pairs.slots[slot]) - 1
        if np.int64(pairs.module[number]) == module and np.int64(pairs.base[number]) == base:
            break
        slot = (slot + 1) & mask
    return slot


@compiled
def find_pair(pairs, module, base):  # type: ignore[no-untyped-def]
    """The number of a pair, or -1."""
    return np.int64(pairs.slots[_slot(pairs, module, base)]) - 1


@compiled
def _add_pair(records, pairs, module, base):  # type: ignore[no-untyped-def]
    """The number of a pair, which is made if need be; -1 when there is no room."""
    slot = _slot(pairs, module, base)
    if pairs.slots[slot] != 0:
        return np.int64(pairs.slots[slot]) - 1
    number = np.int64(pairs.counts[PAIRS])
    if number == len(pairs.module):
        pairs.counts[OVERFLOW] = 1
        return np.int64(-1)
    pairs.counts[PAIRS] += 1
    pairs.slots[slot] = number + 1
    pairs.module[number] = module
    pairs.base[number] = base
    at = position(records, module)
    base_at = position(records, base)
    space = NAME_SPACE[kind_of(word(records, at + 1))]
    pairs.named[number] = (
        space != 0
        and space == NAME_SPACE[kind_of(word(records, base_at + 1))]
        and word(records, at) != 0
        and word(records, at) == word(records, base_at)
    )
    return number


@compiled
def _declares(declaration, definition_kind):  # type: ignore[no-untyped-def]
    """Whether a FWD whose info word is ``declaration`` declares a type of ``definition_kind``."""
    return definition_kind == (UNION if declaration >> _31 else STRUCT)


@compiled
def _compare(records, at, base_at):  # type: ignore[no-untyped-def]
    """Compare two records, but not what they refer to: AGREE, DIFFER, ..."""
    info = word(records, at + 1)
    base_info = word(records, base_at + 1)
    kind = kind_of(info)
    base_kind = kind_of(base_info)
    if word(records, at) != word(records, base_at):
        return DIFFER
    if is_enum(kind) and is_enum(base_kind):
        declares, base_declares = info & INFO_VLEN_MASK == 0, base_info & INFO_VLEN_MASK == 0
        if declares != base_declares:
            return MODULE_DECLARES if declares else BASE_DECLARES
    if kind != base_kind:
        if kind == FWD and _declares(info, base_kind):
            return MODULE_DECLARES
        if base_kind == FWD and _declares(base_info, kind):
            return BASE_DECLARES
        return DIFFER
    if info != base_info:
        return DIFFER
    if kind == STRUCT or kind == UNION:
        return _compare_members(records, at, base_at)
    reference = np.int64(0)
    references = reference_count(info)
    for step in range(2, record_length(info)):
        if reference < references and step == reference_word(info, reference):
            reference += 1
        elif word(records, at + step) != word(records, base_at + step):
            return DIFFER
    return AGREE


@compiled
def _compare_members(records, at, base_at):  # type: ignore[no-untyped-def]
    """Compare two structs or unions of one name and info word: AGREE, DIFFER or FOLLOW."""
    info = word(records, at + 1)
    bits = np.uint32(24) if info & INFO_KIND_FLAG else np.uint32(31)
    moved = word(records, at + 2) != word(records, base_at + 2)  # another size
    last = at + record_length(info)
    shift = base_at - at
    member = at + 3
    while member < last:
        if word(records, member) != word(records, member + shift):
            return DIFFER
        place = word(records, member + 2)
        base_place = word(records, member + shift + 2)
        if place != base_place:
            if info & INFO_KIND_FLAG and place >> bits != base_place >> bits:
                return DIFFER
            moved = True
        member += 3
    if not moved:
        return AGREE
    member = at + 3
    while member < last:
        size = size_of(records, np.int64(word(records, member + 1)))
        if size != size_of(records, np.int64(word(records, member + shift + 1))):
            return FOLLOW
        if word(records, member + 2) != word(records, member + shift + 2):
            return DIFFER  # the first that lies elsewhere, and nothing before it has grown
        member += 3
    return DIFFER


@compiled
def _link(records, pairs, number):  # type: ignore[no-untyped-def]
    """Compare a pair and enter what it refers to. False when there is no room."""
    module = np.int64(pairs.module[number])
    base = np.int64(pairs.base[number])
    at = position(records, module)
    base_at = position(records, base)
    pairs.first_link[number] = pairs.counts[LINKS]
    state = _compare(records, at, base_at)
    pairs.state[number] = state
    pairs.counts[STATES + state] += 1
    if state != AGREE and state != FOLLOW:
        return True
    info = word(records, at + 1)
    for reference in range(reference_count(info)):
        step = reference_word(info, reference)
        referred = np.int64(word(records, at + step))
        base_referred = np.int64(word(records, base_at + step))
        if referred == base_referred:
            continue
        other = _add_pair(records, pairs, referred, base_referred)
        link = np.int64(pairs.counts[LINKS])
        if other < 0 or link == len(pairs.link_to):
            pairs.counts[OVERFLOW] = 1
            return False
        pairs.link_to[link] = other
        pairs.link_word[link] = step
        pairs.counts[LINKS] += 1
    return True


@compiled
def make_pairs(records, pairs, ids, first, count):  # type: ignore[no-untyped-def]
    """Fill an empty graph; False when there is no room.

    ids, first, count   the base's named types and where an own type's namesakes are among them,
                        see ``names``
    """
    first_own = len(records.base_starts)
    for own in range(len(records.own_offsets) - 1):
        if count[own] == 0:
            continue
        kind = kind_of(records.own_words[np.int64(records.own_offsets[own]) + 1])
        if is_never_merged(kind):
            continue
        start = np.int64(first[own])
        for at in range(start, start + min(np.int64(count[own]), MAX_NAMESAKES)):
            number = _add_pair(records, pairs, first_own + own, np.int64(ids[at]))
            if number < 0:
                return False
            pairs.named[number] = 1  # also where the base has the name twice
    for index in range(len(records.source_offsets) - 1):
        base = np.int64(records.id_map[records.source_first + index])
        if base >= first_own or base == VOID:
            continue
        at = np.int64(records.source_offsets[index])
        base_at = np.int64(records.base_starts[base])
        info = records.source_words[at + 1]
        if info != records.base_words[base_at + 1]:
            continue  # a declaration that became a definition
        for reference in range(reference_count(info)):
            step = reference_word(info, reference)
            mapped = np.int64(records.id_map[records.source_words[at + step]])
            if mapped >= first_own:
                wanted = np.int64(records.base_words[base_at + step])
                if _add_pair(records, pairs, mapped, wanted) < 0:
                    return False
    number = np.int64(0)
    while number < pairs.counts[PAIRS]:
        if not _link(records, pairs, number):
            return False
        number += 1
    pairs.first_link[number] = pairs.counts[LINKS]
    return True
