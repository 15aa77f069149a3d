"""Fingerprints of a graph's types, component by component, what is referred to first.

A type that is in no cycle is the hash of its label and of the fingerprints of what it refers to.
The types of a component that has cycles are told apart by refinement, with the fingerprints of
what they refer to outside as part of their labels. What is left is the smallest graph with the
same walks; its colours are canonical (see ``refine``), so the digest of that graph and a type's
colour in it make a fingerprint that depends on nothing but the walks from that type.

One thing more can happen: a type, or a whole component, may be the same as one that is a part of
a cycle it leads to (a copy of ``struct a`` that points to the original's ``struct b``, which
points back to ``struct a``). A single type is found by the hash of its label and of what it refers
to, which types of cycles are entered under too. A component either is the same as a known one as a
whole or not at all, for each of its types is reached from every other: one of its structs is
compared with the known ones of that label, walk against walk.

Parameters used throughout:

state    ``State``
base     ``FingerprintedBase``
type_id  id of a type, of the base or own
v        an own type, counted from 0
a, b     the two halves of a hash
slots, mask  a table of ``state.CyclicTypes``, and its length less 1
p        ``Partition``
c        number of a component
count    types that a function works on
stack    int64 (T,): memory for a walk
budget   steps that comparing may still take
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.strings import may_have, note_hash
from .graph import find_components, read_graph
from .hashing import (
    CYCLE,
    HERE,
    INSIDE,
    MEMBER,
    NODE,
    absorb,
    finish,
    start,
)
from .refine import colours_differ, refine
from .state import BITS_SHARE, State, child_of, degree_of, label_of, value_of

# What ``fingerprint_types`` is to do, see there, and what it returns.
READ = 0
GRAPH = 1
AGAIN = 2
MINIMAL = 3
REFINE_ALL = 4

DONE = 0
TOO_LONG = 1  # comparing components would take more than its share: refine everything at once

_HIGH = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)


@compiled
def _key(state, base, type_id):  # type: ignore[no-untyped-def]
    """Hash of a type's label and of the fingerprints of what it refers to."""
    a, b = label_of(state, base, type_id)
    a, b = absorb(NODE, a, b)
    for number in range(degree_of(state, base, type_id)):
        x, y = value_of(state, base, child_of(state, base, type_id, number))
        a, b = absorb(a, b, x)
        a, b = absorb(a, b, y)
    return finish(a, b)


@compiled
def _find_key(state, base, slots, mask, a, b):  # type: ignore[no-untyped-def]
    """Id of a type of a cycle with this key, or 0."""
    slot = np.int64(b & np.uint64(mask))
    while slots[slot] != 0:
        if slots[slot] & _HIGH == a & _HIGH:
            other = np.int64(slots[slot] & _LOW)
            x, y = _key(state, base, other)
            if x == a and y == b:
                return other
        slot = (slot + 1) & mask
    return np.int64(0)


@compiled
def _find_label(state, base, slots, mask, a, b):  # type: ignore[no-untyped-def]
    """(id of the first struct or union with this label or 0, its slot or a free one)"""
    slot = np.int64(b & np.uint64(mask))
    while slots[slot] != 0:
        if slots[slot] & _HIGH == a & _HIGH:
            other = np.int64(slots[slot] & _LOW)
            x, y = label_of(state, base, other)
            if x == a and y == b:
                return other, slot
        slot = (slot + 1) & mask
    return np.int64(0), slot


@compiled
def enter_known(state, base, v):  # type: ignore[no-untyped-def]
    """Enter type ``v``, whose fingerprint and those of its children are done."""
    graph = state.work.graph
    type_id = v + state.start_id
    a, b = _key(state, base, type_id)
    slots = state.work.known.keys
    if _find_key(state, base, slots, state.mask, a, b):
        return
    slot = np.int64(b & np.uint64(state.mask))
    while slots[slot] != 0:
        slot = (slot + 1) & state.mask
    slots[slot] = (a & _HIGH) | np.uint64(type_id)
    note_hash(state.work.known.bits[: (state.mask + 1) // BITS_SHARE], a)
    if graph.composite[v]:
        a, b = graph.labels[v, 0], graph.labels[v, 1]
        head, slot = _find_label(state, base, state.work.known.labels, state.mask, a, b)
        state.work.known.next[v] = head
        state.work.known.labels[slot] = (a & _HIGH) | np.uint64(type_id)


@compiled
def _compare(state, base, v, other, stack, budget):  # type: ignore[no-untyped-def]
    """Whether ``v`` and all of its component are the same as type id ``other``, which is done, and
    what that leads to: (yes or no, what is left of the budget).

    Sets ``counterparts`` of the component when they are.
    """
    graph = state.work.graph
    c = graph.component[v]
    for i in range(graph.bounds[c], graph.bounds[c + 1]):
        state.work.counterparts[graph.members[i]] = -1
    state.work.counterparts[v] = other
    stack[0] = v
    depth = 1
    while depth > 0:
        depth -= 1
        x = stack[depth]
        y = state.work.counterparts[x]
        a, b = label_of(state, base, y)
        if a != graph.labels[x, 0] or b != graph.labels[x, 1]:
            return False, budget
        budget -= 1 + graph.first[x + 1] - graph.first[x]
        if budget < 0:
            return False, budget
        for number in range(graph.first[x + 1] - graph.first[x]):
            left = graph.children[graph.first[x] + number]
            right = child_of(state, base, y, number)
            if left >= state.start_id and graph.component[left - state.start_id] == c:
                counterpart = state.work.counterparts[left - state.start_id]
                if counterpart < 0:
                    # Void, and base types that count by their id, cannot be walked from; nothing
                    # of a component that has cycles is the same as one of these.
                    if right < state.start_id and (right == 0 or len(base.values) == 0):
                        return False, budget
                    state.work.counterparts[left - state.start_id] = right
                    stack[depth] = left - state.start_id
                    depth += 1
                    continue
                left = counterpart
            if left != right:
                p, q = value_of(state, base, left)
                r, s = value_of(state, base, right)
                if p != r or q != s:
                    return False, budget
    return True, budget


@compiled
def _same_as_known(state, base, c, stack, budget):  # type: ignore[no-untyped-def]
    """Whether component ``c`` is the same as something known, which is then in ``counterparts``:
    (yes or no, budget).

    The budget is negative afterwards if that cannot be said.
    """
    graph = state.work.graph
    chosen, own_head, base_head = -1, np.int64(0), np.int64(0)
    for i in range(graph.bounds[c], graph.bounds[c + 1]):
        v = graph.members[i]
        if not graph.composite[v]:
            continue
        budget -= 1
        a, b = graph.labels[v, 0], graph.labels[v, 1]
        own, _ = _find_label(state, base, state.work.known.labels, state.mask, a, b)
        below = np.int64(0)
        if len(base.values) > 0:
            below, _ = _find_label(state, base, base.known.labels, len(base.known.labels) - 1, a, b)
        if own == 0 and below == 0:
            return False, budget
        if chosen < 0:
            chosen, own_head, base_head = v, own, below
    if chosen < 0:
        return False, np.int64(-1)
    for level in range(2):
        other = own_head if level == 0 else base_head
        while other > 0:
            same, budget = _compare(state, base, chosen, other, stack, budget)
            if same or budget < 0:
                return same, budget
            if level == 0:
                other = np.int64(state.work.known.next[other - state.start_id])
            else:
                other = np.int64(base.known.next[other - 1])
    return False, budget


@compiled
def _load(state, base, p, c, count):  # type: ignore[no-untyped-def]
    """Fill a Partition with the ``count`` types in ``work.nodes`` and the references among them.

    ``work.local`` gives for every type of the component, also those not in ``work.nodes``, which of
    these stands for it.
    """
    graph = state.work.graph
    for i in range(count + 2):
        p.in_first[i] = 0
    for i in range(count):
        v = state.work.nodes[i]
        a, b = absorb(INSIDE, graph.labels[v, 0], graph.labels[v, 1])
        for e in range(graph.first[v], graph.first[v + 1]):
            w = graph.children[e] - state.start_id
            if w >= 0 and graph.component[w] == c:
                a, b = absorb(a, b, HERE)
                p.in_first[state.work.local[w] + 2] += 1
            else:
                x, y = value_of(state, base, graph.children[e])
                a, b = absorb(a, b, x)
                a, b = absorb(a, b, y)
        a, b = finish(a, b)
        state.work.inside[i, 0], state.work.inside[i, 1] = a, b
        p.colours[i, 0], p.colours[i, 1] = a, b
    for i in range(count + 1):
        p.in_first[i + 1] += p.in_first[i]
    for i in range(count):
        v = state.work.nodes[i]
        for e in range(graph.first[v], graph.first[v + 1]):
            w = graph.children[e] - state.start_id
            if w >= 0 and graph.component[w] == c:
                at = p.in_first[state.work.local[w] + 1]
                p.in_first[state.work.local[w] + 1] += 1
                p.in_edges[at, 0], p.in_edges[at, 1] = i, e - graph.first[v]


@compiled
def _refine_component(state, base, p, c):  # type: ignore[no-untyped-def]
    """Leave one type of each class of component ``c`` in ``work.nodes``; returns how many.

    ``work.local`` says for each type of the component which of them it is the same as, and the
    colours of ``p`` are canonical.
    """
    graph = state.work.graph
    first = graph.bounds[c]
    count = graph.bounds[c + 1] - first
    for i in range(count):
        v = graph.members[first + i]
        state.work.nodes[i] = v
        state.work.local[v] = i
    _load(state, base, p, c, count)
    found = refine(p, count, False)
    if found < count:
        # The colours are canonical where every node is a class: once more with one type for each.
        for i in range(count):
            v = graph.members[first + i]
            state.work.local[v] = p.class_of[state.work.local[v]]
        for i in range(count):
            v = graph.members[first + i]
            state.work.nodes[state.work.local[v]] = v
        _load(state, base, p, c, found)
        refine(p, found, False)
    if not colours_differ(p, found):
        _load(state, base, p, c, found)
        refine(p, found, True)
    return found


@compiled
def _finish_component(state, base, p, c, count):  # type: ignore[no-untyped-def]
    """Set the fingerprints of component ``c`` from its digest and the colours of its ``count``
    classes."""
    graph = state.work.graph
    digest_a, digest_b = np.uint64(count), np.uint64(0)
    for i in range(count):
        v = state.work.nodes[i]
        a, b = absorb(CYCLE, state.work.inside[i, 0], state.work.inside[i, 1])
        a, b = absorb(a, b, p.colours[i, 0])
        a, b = absorb(a, b, p.colours[i, 1])
        for e in range(graph.first[v], graph.first[v + 1]):
            w = graph.children[e] - state.start_id
            if w >= 0 and graph.component[w] == c:
                a, b = absorb(a, b, p.colours[state.work.local[w], 0])
                a, b = absorb(a, b, p.colours[state.work.local[w], 1])
        a, b = finish(a, b)
        digest_a += a
        digest_b += b
    for i in range(graph.bounds[c], graph.bounds[c + 1]):
        v = graph.members[i]
        a, b = start(MEMBER, digest_a)
        a, b = absorb(a, b, digest_b)
        a, b = absorb(a, b, p.colours[state.work.local[v], 0])
        a, b = absorb(a, b, p.colours[state.work.local[v], 1])
        a, b = finish(a, b)
        state.values[v, 0], state.values[v, 1] = a, b


@compiled
def _mark_cyclic(graph, start_id, components, cyclic):  # type: ignore[no-untyped-def]
    """Fill ``cyclic``, see ``State``; returns how many types are in a cycle.

    graph, start_id, components   as ``find_components`` left it, took and returned them
    """
    found = 0
    for c in range(components):
        first, last = graph.bounds[c], graph.bounds[c + 1]
        v = graph.members[first]
        circular = last - first > 1
        for e in range(graph.first[v], graph.first[v + 1]):
            circular = circular or graph.children[e] - start_id == v
        for i in range(first, last):
            cyclic[graph.members[i]] = circular
        if circular:
            found += last - first
    return found


@compiled
def _fingerprint_components(state, base, components, minimal):  # type: ignore[no-untyped-def]
    """Fill ``state.values`` and ``state.cyclic``; returns DONE or TOO_LONG.

    components  how many there are
    minimal     whether no two types, of the base or own, are the same
    """
    graph, p, stack = state.work.graph, state.work.partition, state.work.stack
    bits = state.work.known.bits[: (state.mask + 1) // BITS_SHARE]
    budget = np.int64(64) + 16 * (state.types + graph.first[state.types])
    for c in range(components):
        v = graph.members[graph.bounds[c]]
        if not state.cyclic[v]:
            a, b = _key(state, base, v + state.start_id)
            if not minimal:
                other = np.int64(0)
                if may_have(bits, a):
                    other = _find_key(state, base, state.work.known.keys, state.mask, a, b)
                if other == 0 and len(base.values) > 0 and may_have(base.known.bits, a):
                    other = _find_key(state, base, base.known.keys, len(base.known.keys) - 1, a, b)
                if other > 0:
                    a, b = value_of(state, base, other)
            state.values[v, 0], state.values[v, 1] = a, b
            continue
        if not minimal:
            same, budget = _same_as_known(state, base, c, stack, budget)
            if budget < 0:
                return TOO_LONG
            if same:
                for i in range(graph.bounds[c], graph.bounds[c + 1]):
                    v = graph.members[i]
                    state.values[v, 0], state.values[v, 1] = value_of(
                        state, base, state.work.counterparts[v]
                    )
                continue
        count = _refine_component(state, base, p, c)
        _finish_component(state, base, p, c, count)
        if not minimal:
            for i in range(count):
                enter_known(state, base, state.work.nodes[i])
    return DONE


@compiled
def _refine_all(state, base):  # type: ignore[no-untyped-def]
    """Refine all types of the graph at once; returns the number of classes."""
    for v in range(state.types):
        state.work.nodes[v] = v
        state.work.local[v] = v
        state.work.graph.component[v] = 0
    _load(state, base, state.work.partition, np.int64(0), state.types)
    return refine(state.work.partition, state.types, False)


@compiled
def fingerprint_types(  # type: ignore[no-untyped-def]
    mode, start_id, count, words, offsets, below, own, record_hashes, work, base, out, cyclic
):
    """Work on a graph of ``count`` types; returns DONE or TOO_LONG, with REFINE_ALL the classes.

    mode    READ: read the graph first. GRAPH: it is in ``work`` but for its components. AGAIN: it
            is there from the call before. MINIMAL: as GRAPH, and no two types, of the base or own,
            are the same. REFINE_ALL: as GRAPH; only refine all types at once, where none can be the
            same as one of the base: ``work.partition.class_of``
    start_id         id of the first own type
    words, offsets   of the own types
    below, own       strings of the base, and the own ones
    record_hashes    see ``read_graph``
    work             ``state.Memory``
    out, cyclic      ``values`` and ``cyclic`` of ``State``
    """
    graph = work.graph
    if mode == READ:
        read_graph(graph, count, words, offsets, below, own, record_hashes)
    if mode != AGAIN:
        graph.bounds[count + 1] = find_components(graph, start_id, count)
    if mode == REFINE_ALL:
        return _refine_all(State(start_id, count, 0, out, cyclic, work), base)
    components = graph.bounds[count + 1]
    # Every type that is in no cycle is looked up in ``known.keys``: no larger than it has to be.
    found = _mark_cyclic(graph, start_id, components, cyclic)
    size = np.int64(BITS_SHARE)
    while size < 2 * found:
        size *= 2
    for word in range(size // BITS_SHARE):
        work.known.bits[word] = np.uint64(0)
    for slot in range(size):
        work.known.keys[slot] = np.uint64(0)
        work.known.labels[slot] = np.uint64(0)
    state = State(start_id, count, size - 1, out, cyclic, work)
    return _fingerprint_components(state, base, components, mode == MINIMAL)


@compiled
def enter_all(start_id, count, work, base, values, cyclic):  # type: ignore[no-untyped-def]
    """Enter all types of cycles in ``work.known``, zeroed; the graph is in ``work``.

    start_id, work, values, cyclic   see ``State``
    """
    state = State(start_id, count, len(work.known.keys) - 1, values, cyclic, work)
    for v in range(count):
        if cyclic[v]:
            enter_known(state, base, v)
