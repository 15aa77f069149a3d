"""Which pairs differ by themselves, and to which of those the others lead.

A difference belongs to the innermost pair of namesakes that it is in: a *root*. What has no name
passes its differences on to whatever refers to it. A pair that leads to a root differs, too. It is
*blamed* on one root if that is the only one it leads to; a root hides what is behind it, because
mending it would.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import STRUCT, TYPEDEF, UNION, kind_of
from .pairs import (
    AGREE,
    BASE_DECLARES,
    DIFFER,
    FOLLOW,
    LINKS,
    MAX_NAMESAKES,
    MODULE_DECLARES,
    PAIRS,
    find_pair,
)

# Values of ``blamed`` beside the id of the root's type in the module.
NOTHING = -1
SEVERAL = -2


class Blame(NamedTuple):
    """What was found out about P pairs with L links, and about T own types.

    root        uint8 (P,): whether the pair differs by itself
    differs     uint8 (P,): whether it is a root or leads to one
    blamed      int64 (P,): id of the module's type of the only root it leads to; NOTHING; SEVERAL
    next_link   int32 (P,): the link towards the nearest root; -1 at roots
    nearest     int32 (P,): that root; -1 if none can be reached
    first_user, user, user_link   int32 (P + 2,), (L,), (L,): the links the other way round
    work        int32 (2 P,): for walks
    mate        int64 (T,): the pair that an own named type is judged by, -1 for others
    excuse      int64 (T,): as ``blamed``, for own types that dedup compares by their whole graph:
                what keeps them from becoming the base's type ``target``
    target      uint32 (T,)
    """

    root: np.ndarray
    differs: np.ndarray
    blamed: np.ndarray
    next_link: np.ndarray
    nearest: np.ndarray
    first_user: np.ndarray
    user: np.ndarray
    user_link: np.ndarray
    work: np.ndarray
    mate: np.ndarray
    excuse: np.ndarray
    target: np.ndarray


def new_blame(pairs: int, links: int, types: int) -> Blame:
    """Room for that many."""
    return Blame(
        root=np.zeros(pairs, np.uint8),
        differs=np.zeros(pairs, np.uint8),
        blamed=np.full(pairs, NOTHING, np.int64),
        next_link=np.full(pairs, -1, np.int32),
        nearest=np.full(pairs, -1, np.int32),
        first_user=np.zeros(pairs + 2, np.int32),
        user=np.empty(links, np.int32),
        user_link=np.empty(links, np.int32),
        work=np.empty(2 * pairs, np.int32),
        mate=np.full(types, -1, np.int64),
        excuse=np.full(types, SEVERAL, np.int64),
        target=np.zeros(types, np.uint32),
    )


@compiled
def _turn_links_round(pairs, blame):  # type: ignore[no-untyped-def]
    first = blame.first_user
    links = np.int64(pairs.counts[LINKS])
    for link in range(links):
        first[np.int64(pairs.link_to[link]) + 2] += 1
    for number in range(pairs.counts[PAIRS]):
        first[number + 2] += first[number + 1]
    for number in range(pairs.counts[PAIRS]):
        for link in range(pairs.first_link[number], pairs.first_link[number + 1]):
            to = np.int64(pairs.link_to[link])
            at = np.int64(first[to + 1])
            blame.user[at] = number
            blame.user_link[at] = link
            first[to + 1] += 1


@compiled
def _spread_from(pairs, blame, top):  # type: ignore[no-untyped-def]
    """Whatever leads to the ``top`` pairs in ``work`` differs."""
    while top > 0:
        top -= 1
        number = np.int64(blame.work[top])
        for at in range(blame.first_user[number], blame.first_user[number + 1]):
            user = np.int64(blame.user[at])
            if blame.differs[user] == 0:
                blame.differs[user] = 1
                blame.work[top] = user
                top += 1


@compiled
def _spread(pairs, blame):  # type: ignore[no-untyped-def]
    """Mark what differs, by itself or not."""
    top = 0
    for number in range(pairs.counts[PAIRS]):
        if pairs.state[number] == DIFFER:
            blame.differs[number] = 1
            blame.work[top] = number
            top += 1
    _spread_from(pairs, blame, top)
    for number in range(pairs.counts[PAIRS]):
        if pairs.state[number] == FOLLOW and blame.differs[number] == 0:
            # Nothing that it embeds tells why: then the difference is its own.
            pairs.state[number] = DIFFER
            blame.differs[number] = 1
            blame.work[0] = number
            _spread_from(pairs, blame, 1)


@compiled
def _find_roots(pairs, blame):  # type: ignore[no-untyped-def]
    """Mark roots; differences in what has no name go up to the namesakes they are a part of."""
    top = 0
    for number in range(pairs.counts[PAIRS]):
        if pairs.state[number] == DIFFER:
            if pairs.named[number] != 0:
                blame.root[number] = 1
            else:
                blame.blamed[number] = SEVERAL
                blame.work[top] = number
                top += 1
    while top > 0:
        top -= 1
        number = np.int64(blame.work[top])
        for at in range(blame.first_user[number], blame.first_user[number + 1]):
            user = np.int64(blame.user[at])
            if pairs.named[user] != 0:
                blame.root[user] = 1
            elif blame.blamed[user] == NOTHING:
                blame.blamed[user] = SEVERAL
                blame.work[top] = user
                top += 1


@compiled
def _choose_mates(types, pairs, blame, ids, first, count):  # type: ignore[no-untyped-def]
    """Of several namesakes in the base, judge an own type by the one that is nearest to it."""
    first_own = len(types.base_starts)
    for own in range(len(types.own_offsets) - 1):
        best = np.int64(-1)
        best_rank = 9
        start = np.int64(first[own])
        kind = kind_of(types.own_words[np.int64(types.own_offsets[own]) + 1])
        for at in range(start, start + min(np.int64(count[own]), MAX_NAMESAKES)):
            number = find_pair(pairs, first_own + own, np.int64(ids[at]))
            if number < 0:
                continue  # variables and sections
            base_at = np.int64(types.base_starts[np.int64(ids[at])])
            if blame.differs[number] == 0:
                rank = 0 if pairs.state[number] == AGREE else 1
            elif blame.root[number] == 0:
                rank = 2
            elif kind == kind_of(types.base_words[base_at + 1]):
                rank = 3
            else:
                rank = 4
            if rank < best_rank:
                best_rank = rank
                best = number
        blame.mate[own] = best


@compiled
def _lay_blame(types, pairs, blame):  # type: ignore[no-untyped-def]
    first_own = len(types.base_starts)
    top = 0
    for number in range(pairs.counts[PAIRS]):
        if blame.root[number] == 0:
            continue
        module = np.int64(pairs.module[number])
        if module >= first_own and blame.mate[module - first_own] == number:
            blame.blamed[number] = module
        else:  # not the one that would take its place
            blame.blamed[number] = SEVERAL
        blame.work[top] = number
        top += 1
    # A pair is put on the stack once for every change of what it is blamed on: twice at most.
    while top > 0:
        top -= 1
        number = np.int64(blame.work[top])
        mine = blame.blamed[number]
        for at in range(blame.first_user[number], blame.first_user[number + 1]):
            user = np.int64(blame.user[at])
            theirs = blame.blamed[user]
            if blame.root[user] != 0 or theirs == SEVERAL or theirs == mine:
                continue
            blame.blamed[user] = mine if theirs == NOTHING else SEVERAL
            blame.work[top] = user
            top += 1


@compiled
def _find_ways(pairs, blame):  # type: ignore[no-untyped-def]
    """For every pair that differs the link to follow to the nearest root."""
    head = 0
    tail = 0
    for number in range(pairs.counts[PAIRS]):
        if blame.root[number] != 0:
            blame.nearest[number] = number
            blame.work[tail] = number
            tail += 1
    while head < tail:
        number = np.int64(blame.work[head])
        head += 1
        for at in range(blame.first_user[number], blame.first_user[number + 1]):
            user = np.int64(blame.user[at])
            if blame.root[user] == 0 and blame.next_link[user] < 0:
                blame.next_link[user] = blame.user_link[at]
                blame.nearest[user] = blame.nearest[number]
                blame.work[tail] = user
                tail += 1


@compiled
def _prefer(excuses, targets, own, blamed, target):  # type: ignore[no-untyped-def]
    """Of several pairs of a type, take one that nothing, else that a single type stands against."""
    before = excuses[own]
    if before == NOTHING or blamed == SEVERAL or (before != SEVERAL and blamed != NOTHING):
        return
    excuses[own] = blamed
    targets[own] = target


@compiled
def _excuse(types, pairs, blame):  # type: ignore[no-untyped-def]
    """What each own struct, union and typedef is blamed on, and what it would be without that."""
    first_own = len(types.base_starts)
    for number in range(pairs.counts[PAIRS]):
        module = np.int64(pairs.module[number])
        state = pairs.state[number]
        if module < first_own or state == BASE_DECLARES or state == MODULE_DECLARES:
            continue
        own = module - first_own
        kind = kind_of(types.own_words[np.int64(types.own_offsets[own]) + 1])
        if kind != STRUCT and kind != UNION and kind != TYPEDEF:
            continue
        _prefer(blame.excuse, blame.target, own, blame.blamed[number], pairs.base[number])


@compiled
def lay_blame(types, pairs, blame, ids, first, count):  # type: ignore[no-untyped-def]
    """Fill ``blame``, which must be new. ids, first, count: see ``pairs.make_pairs``."""
    _turn_links_round(pairs, blame)
    _spread(pairs, blame)
    _find_roots(pairs, blame)
    _choose_mates(types, pairs, blame, ids, first, count)
    _lay_blame(types, pairs, blame)
    _find_ways(pairs, blame)
    _excuse(types, pairs, blame)
