"""Which pairs differ by themselves, and to which of those the others lead.

A difference belongs to the innermost pair of namesakes that it is in: a *root*. What has no name
passes its differences on to whatever refers to it. A pair that leads to a root differs, too.

Parameters used throughout:

records   ``ModuleRecords``
pairs     ``Pairs``, filled
causes    ``Causes``
ids, first, count   the base's named types, and where the namesakes of each own type are among
          them: see ``names.BaseNames`` and ``names.find_namesakes``
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


class Causes(NamedTuple):
    """What was found out about P pairs with L links, and about T own types.

    root        uint8 (P,): whether the pair differs by itself
    differs     uint8 (P,): whether it is a root or leads to one
    passes_on   uint8 (P,): whether it has no name, and passes a difference on to its users
    next_link   int32 (P,): the link towards the nearest root; -1 at roots
    nearest     int32 (P,): that root; -1 if none can be reached
    first_user, user, user_link   int32 (P + 2,), (L,), (L,): the links the other way round
    work        int32 (2 P,): for walks
    counterpart int64 (T,): the pair that an own named type is judged by, -1 for others
    mergeable   uint8 (T,): whether an own struct, union or typedef has a namesake in the base that
                it does not differ from, but for what the base only declares
    """

    root: np.ndarray
    differs: np.ndarray
    passes_on: np.ndarray
    next_link: np.ndarray
    nearest: np.ndarray
    first_user: np.ndarray
    user: np.ndarray
    user_link: np.ndarray
    work: np.ndarray
    counterpart: np.ndarray
    mergeable: np.ndarray

    @classmethod
    def of(cls, pairs: int, links: int, types: int) -> Causes:
        """Memory for that many, to be filled by ``propagate_root_causes``."""
        return cls(
            root=np.zeros(pairs, np.uint8),
            differs=np.zeros(pairs, np.uint8),
            passes_on=np.zeros(pairs, np.uint8),
            next_link=np.full(pairs, -1, np.int32),
            nearest=np.full(pairs, -1, np.int32),
            first_user=np.zeros(pairs + 2, np.int32),
            user=np.empty(links, np.int32),
            user_link=np.empty(links, np.int32),
            work=np.empty(2 * pairs, np.int32),
            counterpart=np.full(types, -1, np.int64),
            mergeable=np.zeros(types, np.uint8),
        )


@compiled
def propagate_root_causes(records, pairs, causes, ids, first, count):  # type: ignore[no-untyped-def]
    """Fill ``causes``, which must be new."""
    _reverse_links(pairs, causes)
    _mark_differing(pairs, causes)
    _find_roots(pairs, causes)
    _choose_counterparts(records, pairs, causes, ids, first, count)
    _find_ways(pairs, causes)
    _find_mergeable(records, pairs, causes)


@compiled
def _reverse_links(pairs, causes):  # type: ignore[no-untyped-def]
    """Fill ``first_user``, ``user`` and ``user_link``."""
    first = causes.first_user
    links = np.int64(pairs.counts[LINKS])
    for link in range(links):
        first[np.int64(pairs.link_to[link]) + 2] += 1
    for number in range(pairs.counts[PAIRS]):
        first[number + 2] += first[number + 1]
    for number in range(pairs.counts[PAIRS]):
        for link in range(pairs.first_link[number], pairs.first_link[number + 1]):
            to = np.int64(pairs.link_to[link])
            at = np.int64(first[to + 1])
            causes.user[at] = number
            causes.user_link[at] = link
            first[to + 1] += 1


@compiled
def _mark_users(causes, top):  # type: ignore[no-untyped-def]
    """Mark as differing whatever leads to the first ``top`` pairs in ``work``."""
    while top > 0:
        top -= 1
        number = np.int64(causes.work[top])
        for at in range(causes.first_user[number], causes.first_user[number + 1]):
            user = np.int64(causes.user[at])
            if causes.differs[user] == 0:
                causes.differs[user] = 1
                causes.work[top] = user
                top += 1


@compiled
def _mark_differing(pairs, causes):  # type: ignore[no-untyped-def]
    """Fill ``differs``."""
    top = 0
    for number in range(pairs.counts[PAIRS]):
        if pairs.state[number] == DIFFER:
            causes.differs[number] = 1
            causes.work[top] = number
            top += 1
    _mark_users(causes, top)
    for number in range(pairs.counts[PAIRS]):
        if pairs.state[number] == FOLLOW and causes.differs[number] == 0:
            # Nothing that it embeds tells why: then the difference is its own.
            pairs.state[number] = DIFFER
            causes.differs[number] = 1
            causes.work[0] = number
            _mark_users(causes, 1)


@compiled
def _find_roots(pairs, causes):  # type: ignore[no-untyped-def]
    """Mark roots; differences in what has no name go up to the namesakes they are a part of."""
    top = 0
    for number in range(pairs.counts[PAIRS]):
        if pairs.state[number] == DIFFER:
            if pairs.named[number] != 0:
                causes.root[number] = 1
            else:
                causes.passes_on[number] = 1
                causes.work[top] = number
                top += 1
    while top > 0:
        top -= 1
        number = np.int64(causes.work[top])
        for at in range(causes.first_user[number], causes.first_user[number + 1]):
            user = np.int64(causes.user[at])
            if pairs.named[user] != 0:
                causes.root[user] = 1
            elif causes.passes_on[user] == 0:
                causes.passes_on[user] = 1
                causes.work[top] = user
                top += 1


@compiled
def _choose_counterparts(records, pairs, causes, ids, first, count):  # type: ignore[no-untyped-def]
    """Of several namesakes in the base, judge an own type by the one that is nearest to it."""
    first_own = len(records.base_starts)
    for own in range(len(records.own_offsets) - 1):
        best = np.int64(-1)
        best_rank = 9
        start = np.int64(first[own])
        kind = kind_of(records.own_words[np.int64(records.own_offsets[own]) + 1])
        for at in range(start, start + min(np.int64(count[own]), MAX_NAMESAKES)):
            number = find_pair(pairs, first_own + own, np.int64(ids[at]))
            if number < 0:
                continue  # variables and sections
            base_at = np.int64(records.base_starts[np.int64(ids[at])])
            if causes.differs[number] == 0:
                rank = 0 if pairs.state[number] == AGREE else 1
            elif causes.root[number] == 0:
                rank = 2
            elif kind == kind_of(records.base_words[base_at + 1]):
                rank = 3
            else:
                rank = 4
            if rank < best_rank:
                best_rank = rank
                best = number
        causes.counterpart[own] = best


@compiled
def _find_ways(pairs, causes):  # type: ignore[no-untyped-def]
    """Fill ``next_link`` and ``nearest`` of every pair that differs."""
    head = 0
    tail = 0
    for number in range(pairs.counts[PAIRS]):
        if causes.root[number] != 0:
            causes.nearest[number] = number
            causes.work[tail] = number
            tail += 1
    while head < tail:
        number = np.int64(causes.work[head])
        head += 1
        for at in range(causes.first_user[number], causes.first_user[number + 1]):
            user = np.int64(causes.user[at])
            if causes.root[user] == 0 and causes.next_link[user] < 0:
                causes.next_link[user] = causes.user_link[at]
                causes.nearest[user] = causes.nearest[number]
                causes.work[tail] = user
                tail += 1


@compiled
def _find_mergeable(records, pairs, causes):  # type: ignore[no-untyped-def]
    """Fill ``mergeable``."""
    first_own = len(records.base_starts)
    for number in range(pairs.counts[PAIRS]):
        own = np.int64(pairs.module[number]) - first_own
        state = pairs.state[number]
        if own < 0 or causes.differs[number] != 0:
            continue
        if state == BASE_DECLARES or state == MODULE_DECLARES:
            continue
        kind = kind_of(records.own_words[np.int64(records.own_offsets[own]) + 1])
        if kind == STRUCT or kind == UNION or kind == TYPEDEF:
            causes.mergeable[own] = 1
