"""Structs that equal the base's and stay nevertheless, because of a forward declaration.

Where the base declares what the module defines, dedup finds a struct that leads there equal to the
base's if only the declaration is taken for that definition. That cannot be written down in the
base, so the first struct that leads there stays. From then on the declaration is bound to that
definition, and later structs do become the base's; but not those that lead to a second definition
of the name. Structs are walked here in the order in which dedup went through them, which is that of
their ids before dedup.

Parameters used throughout:

records   ``ModuleRecords``
causes    ``Causes``, filled
blocked   ``Blocked``
start, index, child   types of the module before dedup, counted from 0
own       an own type after dedup, counted from 0
step      which word of a record refers to the next type
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import STRUCT, TYPEDEF, UNION, kind_of
from ..format.records import reference_count, reference_word

# Whether a type is blocked although nothing of it differs: values of ``Blocked.state``.
NOT_BLOCKED = 0
FIRST = 1  # the first one that leads to a definition that the base lacks
CLASHING = 2  # it leads to a second definition of a name that the base only declares

# How far a walk through the module before dedup has come: values of ``Blocked.visited``.
_NEW = 0
_SEEN = 1
_CLASHES = 2
_MAX_ROUNDS = 64  # as many types as the module has, in all walks: only second definitions need more


class Blocked(NamedTuple):
    """Which types are blocked, for a module of T own types after dedup and S before.

    declared    int32 (T,): for structs and unions that the base only declares, the number of the
                declaration, counted from 1; else 0
    bound       int32 (T + 1,): by that number, the definition that it is bound to (own type + 1), 0
    trial       int32 (T + 1,): the same while a walk goes on
    state       uint8 (T,): whether a type is blocked: NOT_BLOCKED, FIRST, CLASHING
    end         int32 (T,): where a blocked type leads to (a type before dedup): the nearest
                definition of one that is FIRST, the start of a CLASHING one
    visited     uint8 (S,), queue int32 (S,): for walking the module before dedup
    way, way_word   int32 (S,): how each of its types was reached: from which one, by which word
    onward, onward_word   int32 (S,): of types that lead to a second definition, the next one on the
                way there and by which word; -1 at that
    """

    declared: np.ndarray
    bound: np.ndarray
    trial: np.ndarray
    state: np.ndarray
    end: np.ndarray
    visited: np.ndarray
    queue: np.ndarray
    way: np.ndarray
    way_word: np.ndarray
    onward: np.ndarray
    onward_word: np.ndarray

    @classmethod
    def of(cls, types: int, source_types: int) -> Blocked:
        """Memory for a module of ``types`` own types after dedup and ``source_types`` before."""
        return cls(
            declared=np.zeros(types, np.int32),
            bound=np.zeros(types + 1, np.int32),
            trial=np.zeros(types + 1, np.int32),
            state=np.zeros(types, np.uint8),
            end=np.full(types, -1, np.int32),
            visited=np.zeros(source_types, np.uint8),
            queue=np.empty(source_types, np.int32),
            way=np.empty(source_types, np.int32),
            way_word=np.empty(source_types, np.int32),
            onward=np.full(source_types, -1, np.int32),
            onward_word=np.empty(source_types, np.int32),
        )


@compiled
def mark_blocked_by_fwd(records, causes, blocked):  # type: ignore[no-untyped-def]
    """Find the structs, unions and typedefs that stay although nothing differs.

    ``blocked`` is new but for ``declared``. What a walk went through without a clash leads to no
    definition that is not bound, so that no later walk needs to go there. What leads to a second
    definition does so for good.
    """
    first_own = len(records.base_starts)
    steps_left = _MAX_ROUNDS * len(blocked.visited)
    for start in range(len(blocked.visited)):
        at = np.int64(records.source_offsets[start])
        kind = kind_of(records.source_words[at + 1])
        if blocked.visited[start] == _SEEN:
            continue
        if kind != STRUCT and kind != UNION and kind != TYPEDEF:
            continue
        own = np.int64(records.id_map[records.source_first + start]) - first_own
        if own >= 0 and causes.mergeable[own] == 0:
            continue
        nearest, walked, clash = _walk(records, blocked, start)
        steps_left -= walked
        if steps_left < 0:
            return
        if clash:
            # Bound to nothing, and what is not known to clash may be walked again.
            for at in range(walked):
                if blocked.visited[blocked.queue[at]] == _SEEN:
                    blocked.visited[blocked.queue[at]] = _NEW
            if own >= 0:
                blocked.state[own] = CLASHING
                blocked.end[own] = start
        elif nearest >= 0:
            for at in range(walked):
                _bind(records, blocked, np.int64(blocked.queue[at]), True)
            if own >= 0:
                blocked.state[own] = FIRST
                blocked.end[own] = nearest


@compiled
def _definition(records, blocked, type_id):  # type: ignore[no-untyped-def]
    """The own type that a type before dedup (``type_id``) became, if the base only declares it;
    else -1."""
    own = np.int64(records.id_map[type_id]) - len(records.base_starts)
    if own < 0 or blocked.declared[own] == 0:
        return np.int64(-1)
    return own


@compiled
def _bind(records, blocked, index, lasting):  # type: ignore[no-untyped-def]
    """End the trial of declarations whose definitions ``index`` refers to: bind them if
    ``lasting``, else leave them unbound."""
    at = np.int64(records.source_offsets[index])
    info = records.source_words[at + 1]
    for reference in range(reference_count(info)):
        referred = np.int64(records.source_words[at + reference_word(info, reference)])
        if referred >= records.source_first:
            own = _definition(records, blocked, referred)
            if own >= 0:
                if lasting:
                    blocked.bound[blocked.declared[own]] = own + 1
                blocked.trial[blocked.declared[own]] = 0


@compiled
def _walk(records, blocked, start):  # type: ignore[no-untyped-def]
    """Go through all that a type leads to, as far as it was not seen before.

    Returns (nearest definition that is not bound yet or -1, types walked, whether it led to a
    definition of what is bound to another one).
    """
    blocked.visited[start] = _SEEN
    blocked.queue[0] = start
    blocked.way[start] = -1
    head = np.int64(0)
    tail = np.int64(1)
    nearest = np.int64(-1)
    clash = False
    while head < tail and not clash:
        index = np.int64(blocked.queue[head])
        head += 1
        at = np.int64(records.source_offsets[index])
        info = records.source_words[at + 1]
        for reference in range(reference_count(info)):
            step = reference_word(info, reference)
            referred = np.int64(records.source_words[at + step])
            if referred < records.source_first:
                continue
            child = referred - records.source_first
            if blocked.visited[child] == _SEEN:
                continue
            own = _definition(records, blocked, referred)
            lasting = blocked.visited[child] == _CLASHES
            if own >= 0:  # the base only declares it: the comparison ends here
                number = blocked.declared[own]
                other = np.int64(blocked.bound[number])
                lasting = other != 0 and other != own + 1
                if other == 0 and blocked.trial[number] == 0:
                    blocked.trial[number] = own + 1
                    blocked.way[child] = index
                    blocked.way_word[child] = step
                    if nearest < 0:
                        nearest = child
                elif other == 0 and blocked.trial[number] != own + 1:
                    clash = True
                    _mark_clash(blocked, index, step, child, False)
                if not lasting and not clash:
                    continue
            if lasting:
                clash = True
                _mark_clash(blocked, index, step, child, True)
            if clash:
                break
            blocked.visited[child] = _SEEN
            blocked.way[child] = index
            blocked.way_word[child] = step
            blocked.queue[tail] = child
            tail += 1
    if clash:
        for at in range(head):
            _bind(records, blocked, np.int64(blocked.queue[at]), False)
    return nearest, tail, clash


@compiled
def _mark_clash(blocked, index, step, child, lasting):  # type: ignore[no-untyped-def]
    """Note the way from the start of the walk over ``index`` to ``child``, where it clashed;
    ``lasting`` says that whatever walk comes to these types will clash."""
    while index >= 0:
        blocked.onward[index] = child
        blocked.onward_word[index] = step
        if lasting:
            blocked.visited[index] = _CLASHES
        child = index
        step = np.int64(blocked.way_word[index])
        index = np.int64(blocked.way[index])
