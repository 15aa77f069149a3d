"""Candidates: which types a type may turn out to be equal to, in libbpf's order of trial.

Candidates of the base come from the index, in a settled order. Those that the module adds are kept
in lists beside it. libbpf puts a new candidate at the head of its list, and each growth of its
hash table turns all lists round. Instead of turning anything round, every list has two open ends
with the base's candidates in the middle: as long as the table grew an even number of times since
the base, the left end is the head; else the right end is. Growth then just flips a bit.
"""

from __future__ import annotations

import numpy as np

from ..jit import kernel
from ..kinds import HEAD_WORDS, INFO_VLEN_MASK, STRUCT, UNION
from .equivalence import CAPACITY, ENTRIES, LIST_MASK, LISTS, PARITY, SLOTS_USED
from .index import FIRST_CAPACITY, enter_content, find_entry, find_group, table_is_full
from .signature import kind_of

# Columns of ``ends`` (per list) and ``links`` (per own type); entries are own type + 1, 0 is none.
_LEFT_NEWEST = 0
_LEFT_OLDEST = 1
_RIGHT_NEWEST = 2
_RIGHT_OLDEST = 3
_OLDER = 0
_NEWER = 1

_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(0xFFFFFFFF00000000)


@kernel
def find_base_group(base, own, at, h):  # type: ignore[no-untyped-def]
    """The base's group of candidates with signature ``h``, or -1.

    at  of the own type's record in ``own``. What has a name that the base's strings lack has no
        candidates there: that spares the look into a large table for most of what stays.
    """
    end = len(base.strings)
    if np.int64(own[at]) >= end:
        return np.int64(-1)
    info = own[at + 1]
    kind = kind_of(info)
    if kind == STRUCT or kind == UNION:
        body = at + HEAD_WORDS
        for member in range(np.int64(info & INFO_VLEN_MASK)):
            if np.int64(own[body + 3 * member]) >= end:
                return np.int64(-1)
    return find_group(base.group_slots, h)


@kernel
def find_list(scratch, h):  # type: ignore[no-untyped-def]
    """The module's list of candidates with signature ``h``, or -1."""
    return find_entry(scratch.list_slots, scratch.state[LIST_MASK], h)


@kernel
def next_candidate(base, scratch, first_own, parity, group, own_list, part, position):  # type: ignore[no-untyped-def]
    """Step through a list in libbpf's order: (part, position, candidate), candidate -1 at the end.

    Start with part 0, position 0. Parts: the head's end newest first, the base's candidates, the
    other end oldest first.
    """
    ends = scratch.ends
    links = scratch.links
    if part == 0:
        following = np.int64(0)
        if own_list >= 0:
            if position == 0:
                following = np.int64(ends[own_list, _RIGHT_NEWEST if parity else _LEFT_NEWEST])
            else:
                following = np.int64(links[position - 1, _OLDER])
        if following != 0:
            return np.int64(0), following, first_own + following - 1
        part = np.int64(1)
        position = np.int64(0)
    if part == 1:
        if group >= 0:
            first = np.int64(base.group_starts[group])
            last = np.int64(base.group_starts[group + 1]) - 1
            if first + position <= last:
                at = last - position if parity else first + position
                return np.int64(1), position + 1, np.int64(base.candidates[at])
        part = np.int64(2)
        position = np.int64(0)
    following = np.int64(0)
    if own_list >= 0:
        if position == 0:
            following = np.int64(ends[own_list, _LEFT_OLDEST if parity else _RIGHT_OLDEST])
        else:
            following = np.int64(links[position - 1, _NEWER])
    if following != 0:
        return np.int64(2), following, first_own + following - 1
    return np.int64(3), np.int64(0), np.int64(-1)


@kernel
def add_candidate(scratch, h, own_index):  # type: ignore[no-untyped-def]
    """Enter own type ``own_index`` at the head of its list."""
    state = scratch.state
    list_slots = scratch.list_slots
    ends = scratch.ends
    links = scratch.links
    if table_is_full(state[ENTRIES], state[CAPACITY]):
        state[CAPACITY] = FIRST_CAPACITY if state[CAPACITY] == 0 else 2 * state[CAPACITY]
        state[PARITY] ^= 1
    state[ENTRIES] += 1
    own_list = find_list(scratch, h)
    if own_list < 0:
        own_list = state[LISTS]
        state[LISTS] += 1
        mask = state[LIST_MASK]
        slot = np.int64(h & _LOW) & mask
        while list_slots[slot] != 0:
            slot = (slot + 1) & mask
        list_slots[slot] = (h & _HIGH) | np.uint64(own_list + 1)
        scratch.slots_used[state[SLOTS_USED]] = 2 * slot
        state[SLOTS_USED] += 1
        for column in range(4):
            ends[own_list, column] = 0
    newest = _RIGHT_NEWEST if state[PARITY] else _LEFT_NEWEST
    before = ends[own_list, newest]
    links[own_index, _OLDER] = before
    links[own_index, _NEWER] = 0
    if before != 0:
        links[np.int64(before) - 1, _NEWER] = own_index + 1
    else:
        ends[own_list, newest + 1] = own_index + 1
    ends[own_list, newest] = own_index + 1


@kernel
def add_enum(scratch, content, own_index):  # type: ignore[no-untyped-def]
    """Enter a full enum of the module under the hash of its content."""
    state = scratch.state
    slot = enter_content(scratch.enum_slots, state[LIST_MASK], content, own_index + 1)
    scratch.slots_used[state[SLOTS_USED]] = 2 * slot + 1
    state[SLOTS_USED] += 1


@kernel
def empty_lists(scratch):  # type: ignore[no-untyped-def]
    """Forget what the last module entered: only what it touched is cleared."""
    state = scratch.state
    for i in range(state[SLOTS_USED]):
        slot = np.int64(scratch.slots_used[i])
        if slot & 1:
            scratch.enum_slots[slot >> 1] = 0
        else:
            scratch.list_slots[slot >> 1] = 0
    state[SLOTS_USED] = 0
    state[LISTS] = 0
