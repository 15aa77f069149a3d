"""Candidates: which types a type may turn out to be equal to, in libbpf's order of trial.

Candidates of the base come from the index, in a settled order. Those that the module adds are kept
in lists beside it. libbpf puts a new candidate at the head of its list, and each growth of its
hash table turns all lists round. Instead of turning anything round, every list has two open ends
with the base's candidates in the middle: as long as the table grew an even number of times since
the base, the left end is the head; else the right end is. Growth then just flips a bit.

Parameters used throughout:

base       see ``tables.BaseTables``
own        uint32: the module's words in the base's numbering
scratch    see ``tables.Scratch``; state is its array of that name
first_own  id of the first own type
h          uint64: signature of a type, see ``signature``
own_index  own type (0-based)
group      the base's group of candidates, or -1; see ``find_base_group``
own_list   the module's list of candidates, or -1; see ``find_list``
parity     0 or 1: growths of libbpf's table since the base, modulo 2
part, position   where a walk through candidates stands; 0 to begin with
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import FUNC, HEAD_WORDS, INFO_VLEN_MASK, STRUCT, UNION, kind_of
from ..format.strings import may_have
from .hash_tables import (
    FIRST_CAPACITY,
    NAME_SEED,
    enter_content,
    find_entry,
    find_group,
    table_is_full,
)
from .signature import mix
from .state import BATCH, CAPACITY, ENTRIES, ENUM_MASK, LIST_MASK, LISTS, PARITY, SINGLE, SLOTS_USED

# Columns of ``ends`` (per list) and ``links`` (per own type); entries are own type + 1, 0 is
# none.
_LEFT_NEWEST = 0
_LEFT_OLDEST = 1
_RIGHT_NEWEST = 2
_RIGHT_OLDEST = 3
_OLDER = 0
_NEWER = 1

# Tables, as ``slots_used`` counts them.
_LISTS = 0
_ENUMS = 1


@compiled
def find_base_group(base, own, at, h):  # type: ignore[no-untyped-def]
    """Find the base's group of candidates with signature ``h``; -1 if there is none.

    at  first word of the own type in ``own``. A type with a name that the base's strings lack has
        no candidates there: that spares the look into a large table for most types that stay.
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
    if not may_have(base.group_bits, h):
        return np.int64(-1)
    return find_group(base.group_slots, h)


@compiled
def find_list(scratch, h):  # type: ignore[no-untyped-def]
    """Find the module's list of candidates with signature ``h``; -1 if there is none."""
    return find_entry(scratch.list_slots, scratch.state[LIST_MASK], h)


@compiled
def next_candidate(base, scratch, first_own, parity, group, own_list, part, position):  # type: ignore[no-untyped-def]
    """Step through candidates in libbpf's order: (part, position, candidate), -1 at the end.

    Parts: the head's end of the list, newest first; the base's candidates; the other end of the
    list, oldest first.
    """
    if part == 0:
        newest = _RIGHT_NEWEST if parity else _LEFT_NEWEST
        following = _follow(scratch, own_list, position, newest, _OLDER)
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
        position = np.int64(0)
    oldest = _LEFT_OLDEST if parity else _RIGHT_OLDEST
    following = _follow(scratch, own_list, position, oldest, _NEWER)
    if following != 0:
        return np.int64(2), following, first_own + following - 1
    return np.int64(3), np.int64(0), np.int64(-1)


@compiled
def _follow(scratch, own_list, position, end, way):  # type: ignore[no-untyped-def]
    """Step through an own list: the entry after ``position``, plus 1; 0 if there is none.

    end, way   column of ``ends`` to begin at; column of ``links`` to go on by
    """
    if own_list < 0:
        return np.int64(0)
    if position == 0:
        return np.int64(scratch.ends[own_list, end])
    return np.int64(scratch.links[position - 1, way])


@compiled
def count_entry(state):  # type: ignore[no-untyped-def]
    """Have libbpf's table grow as it does for one more entry."""
    if table_is_full(state[ENTRIES], state[CAPACITY]):
        state[CAPACITY] = FIRST_CAPACITY if state[CAPACITY] == 0 else 2 * state[CAPACITY]
        state[PARITY] ^= 1
    state[ENTRIES] += 1


@compiled
def add_candidate(scratch, h, own_index):  # type: ignore[no-untyped-def]
    """Enter an own type at the head of its list."""
    state = scratch.state
    count_entry(state)
    ends = scratch.ends
    links = scratch.links
    mask = state[LIST_MASK]
    own_list = find_entry(scratch.list_slots, mask, h)
    if own_list < 0:
        own_list = state[LISTS]
        state[LISTS] += 1
        _note_slot(scratch, _LISTS, enter_content(scratch.list_slots, mask, h, own_list + 1))
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


@compiled
def repeated_names(scratch):  # type: ignore[no-untyped-def]
    """Return two bit sets of a batch, see ``strings.may_have``: of names that functions have, and
    of those that several have."""
    words = max(1, len(scratch.names) >> 5)
    return scratch.names[:words], scratch.names[words : 2 * words]


@compiled
def is_candidate(own, scratch, at):  # type: ignore[no-untyped-def]
    """Whether a type that stays may be equal to a later one: in a batch, of a function, whether
    another has its name.

    at  its first word in ``own``
    """
    if scratch.state[BATCH] == SINGLE or kind_of(own[at + 1]) != FUNC:
        return True
    _, repeated = repeated_names(scratch)
    return may_have(repeated, mix(NAME_SEED, own[at]))


@compiled
def oldest_entry(scratch, own_list):  # type: ignore[no-untyped-def]
    """Return the first own type (0-based) that was entered in ``own_list``."""
    left = np.int64(scratch.ends[own_list, _LEFT_OLDEST])
    right = np.int64(scratch.ends[own_list, _RIGHT_OLDEST])
    if left == 0 or (right != 0 and right < left):
        return right - 1
    return left - 1


@compiled
def _note_slot(scratch, table, slot):  # type: ignore[no-untyped-def]
    """Note that ``slot`` of ``table`` (number in ``slots_used``) is to be cleared afterwards; of a
    batch all are."""
    if scratch.state[BATCH] == SINGLE:
        scratch.slots_used[scratch.state[SLOTS_USED]] = 2 * slot + table
        scratch.state[SLOTS_USED] += 1


@compiled
def add_enum(scratch, content, own_index):  # type: ignore[no-untyped-def]
    """Enter a full enum of the module, just made a candidate, under ``content``: see
    ``index.enum_content``."""
    state = scratch.state
    value = 2 * (own_index + 1) + state[PARITY]
    slot = enter_content(scratch.enum_slots, state[ENUM_MASK], content, value)
    _note_slot(scratch, _ENUMS, slot)


@compiled
def empty_lists(scratch):  # type: ignore[no-untyped-def]
    """Forget what the last module entered: only what it touched is cleared."""
    state = scratch.state
    for i in range(state[SLOTS_USED]):
        slot = np.int64(scratch.slots_used[i])
        if slot & 1 == _LISTS:
            scratch.list_slots[slot >> 1] = 0
        else:
            scratch.enum_slots[slot >> 1] = 0
    state[SLOTS_USED] = 0
    state[LISTS] = 0
    if state[BATCH] != SINGLE:
        for slot in range(state[LIST_MASK] + 1):
            scratch.list_slots[slot] = 0
        for slot in range(state[ENUM_MASK] + 1):
            scratch.enum_slots[slot] = 0
