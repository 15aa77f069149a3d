"""What would become of a module if one of its types were mended: replaced by the base's.

First the structs, as dedup goes through them in the order of their ids. One that is blamed on the
mended type alone becomes the base's, but for forward declarations. Where the base declares what
the module defines, the first struct that leads there stays: dedup finds the two equal if only the
declaration is taken for that definition, which cannot be written down in the base. From then on
the declaration stands for that definition, so that later structs do become the base's; but not
those that lead to a second definition of the name. So it has to be worked out anew which structs
are held back (``hold_back``).

Then what refers to the types that have gone: a pointer, prototype or the like goes when the base,
or else the module, has one to the same types. In the end, unnamed types that nothing refers to any
more are counted as gone, since they were part of a definition that is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.huge_pages import power_of_two
from ..compiled.jit import compiled
from ..deduplication.equivalence import full_length
from ..deduplication.index import find_group
from ..deduplication.signature import RECORD_COLUMNS, START, signature
from ..format.kinds import ARRAY, FWD, HEAD_IS_REF, STRUCT, TYPE_TAG, TYPEDEF, UNION, VAR, kind_of
from .records import position, reference_count, reference_word, word
from .root_causes import NOTHING

NOBODY = 0  # instead of a type's id: nothing is mended

# Whether a type is held back although nothing of it differs.
NOT_HELD = 0
FIRST = 1  # the first one that leads to a definition that the base lacks
CLASHING = 2  # it leads to a second definition of a name that the base only declares

# How far a walk through the module as it was has come.
_NEW = 0
_SEEN = 1
_CLASHES = 2
_MAX_ROUNDS = 64  # as many types as the module has, in all walks: only second definitions need more

# What has become of an own type.
STAYED = 0
MERGED = 1  # it is the base's, or another one of the module
UNUSED = 2  # it has no name, and nothing refers to it any more

_PIN = 1 << 24  # users of a type that another one was merged with: more than it can lose

_LOW = np.uint64(0xFFFFFFFF)

# Slots of ``counts``.
TOUCHED = 0
GONE_TYPES = 1
GONE_BYTES = 2
COUNTS = 3


class WhatIf(NamedTuple):
    """Memory for a module of T own types after dedup, S before, with R references among own types.

    declared    int32 (T,): for structs and unions that the base only declares, the number of the
                declaration, counted from 1; else 0
    bound       int32 (T + 1,): by that number, the definition that it stands for (own type + 1), 0
    trial       int32 (T + 1,): the same while a walk goes on
    held        uint8 (T,): whether a type is held back: NOT_HELD, FIRST, CLASHING
    visited     uint8 (S,), queue int32 (S,): for walking the module as it was
    way, way_word   int32 (S,): how each of its types was reached: from which one, by which word
    end         int32 (T,): where a held type leads to (a type before dedup): the nearest definition
                of one that is FIRST, the start of a CLASHING one
    onward, onward_word   int32 (S,): of types that lead to a second definition, the next one on the
                way there; -1 at that
    fate        uint8 (T,): see above
    becomes     uint32 (T,): the type that a merged one is
    users_left  int32 (T,): references from own types that have not gone
    touched     int32 (T,): own types that have gone, in order
    first_user, user    int32 (T + 2,), (R,): own types that refer to each one
    slots       int32, a power of two: own reference types by their words, number + 1
    record      uint32: room for the longest record of a module
    rows        uint32 (1, 4): for ``signature``
    counts      int64 (COUNTS,)
    """

    declared: np.ndarray
    bound: np.ndarray
    trial: np.ndarray
    held: np.ndarray
    visited: np.ndarray
    queue: np.ndarray
    way: np.ndarray
    way_word: np.ndarray
    end: np.ndarray
    onward: np.ndarray
    onward_word: np.ndarray
    fate: np.ndarray
    becomes: np.ndarray
    users_left: np.ndarray
    touched: np.ndarray
    first_user: np.ndarray
    user: np.ndarray
    slots: np.ndarray
    record: np.ndarray
    rows: np.ndarray
    counts: np.ndarray


def new_whatif(types: int, words: int, source_types: int) -> WhatIf:
    """Room for a module of that many types and words, and that many types before dedup."""
    return WhatIf(
        declared=np.zeros(types, np.int32),
        bound=np.zeros(types + 1, np.int32),
        trial=np.zeros(types + 1, np.int32),
        held=np.zeros(types, np.uint8),
        visited=np.zeros(source_types, np.uint8),
        queue=np.empty(source_types, np.int32),
        way=np.empty(source_types, np.int32),
        way_word=np.empty(source_types, np.int32),
        end=np.full(types, -1, np.int32),
        onward=np.full(source_types, -1, np.int32),
        onward_word=np.empty(source_types, np.int32),
        fate=np.zeros(types, np.uint8),
        becomes=np.zeros(types, np.uint32),
        users_left=np.zeros(types, np.int32),
        touched=np.empty(types, np.int32),
        first_user=np.zeros(types + 2, np.int32),
        user=np.empty(words, np.int32),
        slots=np.zeros(power_of_two(2 * types), np.int32),
        record=np.empty(power_of_two(words), np.uint32),
        rows=np.zeros((1, RECORD_COLUMNS), np.uint32),
        counts=np.zeros(COUNTS, np.int64),
    )


@compiled
def _passes(blame, own, mended):  # type: ignore[no-untyped-def]
    """Whether nothing but the mended type stands between an own struct and the base's."""
    excuse = blame.excuse[own]
    return excuse == NOTHING or excuse == mended


@compiled
def hold_back(types, blame, what, mended):  # type: ignore[no-untyped-def]
    """Find the structs, unions and typedefs that stay although nothing differs. ``mended``: the id
    of the type that is the base's now, or NOBODY.

    What a walk went through without a clash leads to no definition that is not bound, so that no
    later walk needs to go there. What leads to a second definition does so for good.
    """
    first_own = len(types.base_starts)
    for own in range(len(what.held)):
        what.held[own] = NOT_HELD
        what.bound[own + 1] = 0
    for index in range(len(what.visited)):
        what.visited[index] = _NEW
    steps_left = _MAX_ROUNDS * len(what.visited)
    for start in range(len(what.visited)):
        at = np.int64(types.source_offsets[start])
        kind = kind_of(types.source_words[at + 1])
        if what.visited[start] == _SEEN or (kind != STRUCT and kind != UNION and kind != TYPEDEF):
            continue
        mapped = np.int64(types.id_map[types.source_first + start])
        if mapped >= first_own:
            if mapped == mended or not _passes(blame, mapped - first_own, mended):
                continue
        nearest, walked, clash = _walk(types, what, start, mended)
        steps_left -= walked
        if steps_left < 0:
            return
        if clash:
            # Bound to nothing, and what is not known to clash may be walked again.
            for at in range(walked):
                if what.visited[what.queue[at]] == _SEEN:
                    what.visited[what.queue[at]] = _NEW
            if mapped >= first_own:
                what.held[mapped - first_own] = CLASHING
                what.end[mapped - first_own] = start
        elif nearest >= 0:
            for at in range(walked):
                _bind(types, what, np.int64(what.queue[at]), mended)
            if mapped >= first_own:
                what.held[mapped - first_own] = FIRST
                what.end[mapped - first_own] = nearest


@compiled
def _definition(types, what, type_id, mended):  # type: ignore[no-untyped-def]
    """The own type that one of the module as it was is a definition of, if the base only declares
    it; else -1."""
    own = np.int64(types.id_map[type_id]) - len(types.base_starts)
    if own < 0 or what.declared[own] == 0 or own + len(types.base_starts) == mended:
        return np.int64(-1)
    return own


@compiled
def _bind(types, what, index, mended):  # type: ignore[no-untyped-def]
    """The declarations that a type refers to stand for the module's definitions from now on."""
    at = np.int64(types.source_offsets[index])
    info = types.source_words[at + 1]
    for reference in range(reference_count(info)):
        referred = np.int64(types.source_words[at + reference_word(info, reference)])
        if referred >= types.source_first:
            own = _definition(types, what, referred, mended)
            if own >= 0:
                what.bound[what.declared[own]] = own + 1
                what.trial[what.declared[own]] = 0


@compiled
def _walk(types, what, start, mended):  # type: ignore[no-untyped-def]
    """Go through all that a type leads to, as far as it was not seen before.

    Returns (nearest definition that is not bound yet or -1, types walked, whether it led to a
    definition of what is bound to another one).
    """
    what.visited[start] = _SEEN
    what.queue[0] = start
    what.way[start] = -1
    head = np.int64(0)
    tail = np.int64(1)
    nearest = np.int64(-1)
    clash = False
    while head < tail and not clash:
        index = np.int64(what.queue[head])
        head += 1
        at = np.int64(types.source_offsets[index])
        info = types.source_words[at + 1]
        for reference in range(reference_count(info)):
            step = reference_word(info, reference)
            referred = np.int64(types.source_words[at + step])
            if referred < types.source_first:
                continue
            child = referred - types.source_first
            if what.visited[child] == _SEEN:
                continue
            to = np.int64(types.id_map[referred])
            if to == mended and mended != NOBODY:
                continue
            own = _definition(types, what, referred, mended)
            lasting = what.visited[child] == _CLASHES
            if own >= 0:  # the base only declares it: the comparison ends here
                number = what.declared[own]
                other = np.int64(what.bound[number])
                lasting = other != 0 and other != own + 1
                if other == 0 and what.trial[number] == 0:
                    what.trial[number] = own + 1
                    what.way[child] = index
                    what.way_word[child] = step
                    if nearest < 0:
                        nearest = child
                elif other == 0 and what.trial[number] != own + 1:
                    clash = True
                    _mark_clash(what, index, step, child, False)
                if not lasting and not clash:
                    continue
            if lasting:
                clash = True
                _mark_clash(what, index, step, child, True)
            if clash:
                break
            what.visited[child] = _SEEN
            what.way[child] = index
            what.way_word[child] = step
            what.queue[tail] = child
            tail += 1
    if clash:
        for at in range(head):
            _take_back(types, what, np.int64(what.queue[at]), mended)
    return nearest, tail, clash


@compiled
def _take_back(types, what, index, mended):  # type: ignore[no-untyped-def]
    """What a walk that came to nothing bound on trial is not bound."""
    at = np.int64(types.source_offsets[index])
    info = types.source_words[at + 1]
    for reference in range(reference_count(info)):
        referred = np.int64(types.source_words[at + reference_word(info, reference)])
        if referred >= types.source_first:
            own = _definition(types, what, referred, mended)
            if own >= 0:
                what.trial[what.declared[own]] = 0


@compiled
def _mark_clash(what, index, step, child, lasting):  # type: ignore[no-untyped-def]
    """Note the way from the start of the walk over ``index`` to ``child``, where it clashed."""
    while index >= 0:
        what.onward[index] = child
        what.onward_word[index] = step
        if lasting:
            what.visited[index] = _CLASHES
        child = index
        step = np.int64(what.way_word[index])
        index = np.int64(what.way[index])


@compiled
def count_users(types, what):  # type: ignore[no-untyped-def]
    """Fill ``first_user``, ``user`` and ``users_left``."""
    first_own = len(types.base_starts)
    count = len(types.own_offsets) - 1
    for fill in range(2):
        for own in range(count):
            at = np.int64(types.own_offsets[own])
            info = types.own_words[at + 1]
            for reference in range(reference_count(info)):
                referred = np.int64(types.own_words[at + reference_word(info, reference)])
                if referred < first_own:
                    continue
                child = referred - first_own
                if fill == 0:
                    what.first_user[child + 2] += 1
                    what.users_left[child] += 1
                else:
                    what.user[what.first_user[child + 1]] = own
                    what.first_user[child + 1] += 1
        if fill == 0:
            for own in range(count):
                what.first_user[own + 2] += what.first_user[own + 1]


@compiled
def _go(types, what, own, fate, becomes):  # type: ignore[no-untyped-def]
    what.fate[own] = fate
    what.becomes[own] = becomes
    what.touched[what.counts[TOUCHED]] = own
    what.counts[TOUCHED] += 1
    what.counts[GONE_TYPES] += 1
    length = np.int64(types.own_offsets[own + 1]) - np.int64(types.own_offsets[own])
    what.counts[GONE_BYTES] += 4 * length


@compiled
def _is_reference(kind):  # type: ignore[no-untyped-def]
    """Kinds that dedup compares by their words, once what they refer to is settled."""
    if kind == TYPEDEF or kind == FWD or kind == VAR:
        return False
    return HEAD_IS_REF[kind] != 0 or kind == ARRAY


@compiled
def index_references(types, what):  # type: ignore[no-untyped-def]
    """Fill ``slots``."""
    mask = np.int64(len(what.slots) - 1)
    for own in range(len(types.own_offsets) - 1):
        at = np.int64(types.own_offsets[own])
        if not _is_reference(kind_of(types.own_words[at + 1])):
            continue
        what.rows[0, START] = len(types.base_words) + at
        slot = np.int64(signature(types.base_words, types.own_words, what.rows, 0) & _LOW) & mask
        while what.slots[slot] != 0:
            slot = (slot + 1) & mask
        what.slots[slot] = own + 1


@compiled
def _final(types, what, type_id):  # type: ignore[no-untyped-def]
    """What a type has become in the end."""
    first_own = len(types.base_starts)
    while type_id >= first_own and what.fate[type_id - first_own] == MERGED:
        type_id = np.int64(what.becomes[type_id - first_own])
    return type_id


@compiled
def _equal_of(types, base, what, own):  # type: ignore[no-untyped-def]
    """The type that an own reference type is, now that some types have gone; itself if none."""
    first_own = len(types.base_starts)
    at = np.int64(types.own_offsets[own])
    info = types.own_words[at + 1]
    length = full_length(info)
    in_base = True
    for step in range(length):
        what.record[step] = types.own_words[at + step]
    for reference in range(reference_count(info)):
        step = reference_word(info, reference)
        referred = _final(types, what, np.int64(what.record[step]))
        what.record[step] = referred
        in_base = in_base and referred < first_own
    what.rows[0, START] = len(types.base_words)  # its words begin where the base's end
    h = signature(types.base_words, what.record, what.rows, 0)
    group = find_group(base.group_slots, h) if in_base else np.int64(-1)
    if group >= 0:
        for entry in range(base.group_starts[group], base.group_starts[group + 1]):
            candidate = np.int64(base.candidates[entry])
            candidate_at = np.int64(types.base_starts[candidate])
            if _is_record(types.base_words, candidate_at, what.record, length):
                return candidate
    mask = np.int64(len(what.slots) - 1)
    slot = np.int64(h & _LOW) & mask
    while what.slots[slot] != 0:
        other = np.int64(what.slots[slot]) - 1
        if other != own and what.fate[other] == STAYED:
            other_at = np.int64(types.own_offsets[other])
            if _is_record(types.own_words, other_at, what.record, length):
                return first_own + other
        slot = (slot + 1) & mask
    return first_own + own


@compiled
def _is_record(words, at, record, length):  # type: ignore[no-untyped-def]
    for step in range(length):
        if words[at + step] != record[step]:
            return False
    return True


@compiled
def _merge_users(types, base, what):  # type: ignore[no-untyped-def]
    """Merge the reference types that refer to what has gone, as far as there is their like."""
    first_own = len(types.base_starts)
    done = np.int64(0)
    while done < what.counts[TOUCHED]:
        own = np.int64(what.touched[done])
        done += 1
        for at in range(what.first_user[own], what.first_user[own + 1]):
            user = np.int64(what.user[at])
            kind = kind_of(types.own_words[np.int64(types.own_offsets[user]) + 1])
            if what.fate[user] != STAYED or not _is_reference(kind):
                continue
            found = _equal_of(types, base, what, user)
            if found != first_own + user:
                _go(types, what, user, MERGED, found)


@compiled
def _drop_unused(types, what):  # type: ignore[no-untyped-def]
    """Drop unnamed types that nothing refers to any more."""
    first_own = len(types.base_starts)
    for touched in range(what.counts[TOUCHED]):
        becomes = np.int64(what.becomes[np.int64(what.touched[touched])])
        if becomes >= first_own:  # who referred to the one refers to the other now
            what.users_left[becomes - first_own] += _PIN
    done = np.int64(0)
    while done < what.counts[TOUCHED]:
        own = np.int64(what.touched[done])
        done += 1
        at = np.int64(types.own_offsets[own])
        info = types.own_words[at + 1]
        for reference in range(reference_count(info)):
            referred = np.int64(types.own_words[at + reference_word(info, reference)])
            if referred < first_own:
                continue
            child = referred - first_own
            what.users_left[child] -= 1
            if what.users_left[child] > 0 or what.fate[child] != STAYED:
                continue
            child_at = np.int64(types.own_offsets[child])
            kind = kind_of(types.own_words[child_at + 1])
            if types.own_words[child_at] == 0 or kind == TYPE_TAG:
                _go(types, what, child, UNUSED, 0)


@compiled
def _merge_declarations(types, what, declarations):  # type: ignore[no-untyped-def]
    """Bind forward declarations that could not be bound while there were two types of the name,
    in base and module together, and now there is one.

    declarations    int64, five columns, a row for each own type of a declaration's name; the
                    declaration, that type, the base's type or 0, how many the base has of the
                    name, and the kind that is declared. Sorted by the first column.
    """
    first_own = len(types.base_starts)
    row = 0
    while row < len(declarations):
        own = declarations[row, 0]
        left = declarations[row, 3]
        to = declarations[row, 2]
        kind = declarations[row, 4]
        while row < len(declarations) and declarations[row, 0] == own:
            if what.fate[declarations[row, 1]] != MERGED:
                left += 1
                to = first_own + declarations[row, 1]
            row += 1
        if left == 1 and what.fate[own] == STAYED:
            if kind_of(word(types, position(types, to) + 1)) == kind:
                _go(types, what, own, MERGED, to)


@compiled
def _go_if(types, what, own, targets):  # type: ignore[no-untyped-def]
    """Have an own struct go, unless it is held back."""
    if what.held[own] == NOT_HELD and what.fate[own] == STAYED:
        _go(types, what, own, MERGED, targets[own])


@compiled
def mend(  # type: ignore[no-untyped-def]
    types,
    base,
    blame,
    what,
    mended,
    becomes,
    order,
    firsts,
    start,
    end,
    declarations,
):
    """Work out what goes when an own type (``mended``, an id) is the base's ``becomes``.

    ``hold_back`` must have been asked for the same type. Fills ``fate`` and ``counts``;
    ``forget`` undoes it.

    order   int32: own structs, unions and typedefs that may become the base's, sorted by what
            stands against it: nothing (up to ``firsts``), the mended type (from ``start`` to
            ``end``), others
    declarations    see ``_merge_declarations``; sorted
    """
    first_own = len(types.base_starts)
    what.counts[TOUCHED] = 0
    what.counts[GONE_TYPES] = 0
    what.counts[GONE_BYTES] = 0
    other = np.int64(what.bound[what.declared[mended - first_own]])
    if what.declared[mended - first_own] != 0 and other != 0:
        becomes = first_own + other - 1  # which is what the base's declaration stands for
    _go(types, what, mended - first_own, MERGED, becomes)
    for at in range(firsts):
        _go_if(types, what, np.int64(order[at]), blame.target)
    for at in range(start, end):
        _go_if(types, what, np.int64(order[at]), blame.target)
    _merge_declarations(types, what, declarations)
    _merge_users(types, base, what)
    _drop_unused(types, what)


@compiled
def forget(types, what):  # type: ignore[no-untyped-def]
    """Undo ``mend``."""
    first_own = len(types.base_starts)
    for at in range(what.counts[TOUCHED]):
        own = np.int64(what.touched[at])
        what.fate[own] = STAYED
        if np.int64(what.becomes[own]) >= first_own:
            what.users_left[np.int64(what.becomes[own]) - first_own] -= _PIN
        start = np.int64(types.own_offsets[own])
        info = types.own_words[start + 1]
        for reference in range(reference_count(info)):
            referred = np.int64(types.own_words[start + reference_word(info, reference)])
            if referred >= first_own:
                what.users_left[referred - first_own] += 1
    what.counts[TOUCHED] = 0
