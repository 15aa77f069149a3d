"""Partition refinement: which nodes of a graph no walk tells apart, and a colour for each class.

Nodes are in one class as long as their labels agree and, reference by reference, the classes of
what they refer to. A class is split when some of its nodes refer to nodes that left their class;
the largest part keeps its colour, so a node changes colour at most log2(n) times, and each change
is looked at once per reference to it: O(m log n) for m references, whatever the graph (Hopcroft's
argument). Rounds are synchronous and every choice depends on labels, sizes and colours alone, none
on how nodes are numbered. So in a graph without two nodes of one class the colours are canonical:
isomorphic graphs get the same ones.

Rejected: rounds that hash every node with its children until nothing changes. Simpler, and as
fast on kernels (30 rounds), but quadratic on a long chain that ends in a cycle.

Parameters used throughout:

p              ``Partition``
first, count   places in ``order``: the first, and how many
a, b           uint64: the two halves of a colour
changed        how many entries of ``p.changed`` are in use
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled
from .hashing import COLOUR, EDGE, absorb, finish, start


class Partition(NamedTuple):
    """Memory for refining up to n nodes with m references among them.

    colours     uint64 (n, 2): in: labels. Out: colour of each node
    sums        uint64 (n, 2): what the references that changed add up to, for nodes touched
    class_of    int64 (n,): out: class of each node, numbered from 0
    in_first    int64 (n + 2,): references to node v are ``in_edges[in_first[v]:in_first[v + 1]]``
    in_edges    int64 (m, 2): the node that refers, and the number of the reference in its record
    order       int64 (n,): nodes, each class side by side
    place       int64 (n,): where in ``order`` each node is
    classes     int64 (n, 3): first place, size, and nodes touched in this round, which come first
    seen        int64 (n,): last round in which a node was touched
    changed     int64 (n,): nodes that changed colour
    touched     int64 (n,): classes with touched nodes
    group_of    int64 (n,): part of the class that a touched node belongs to
    groups      int64 (n, 4): size, a node, slot and next place of each part
    slots       int64 (power of two >= 2 n,): parts by colour or sum; all 0 between uses
    moved       int64 (n,): nodes being sorted by part
    """

    colours: np.ndarray
    sums: np.ndarray
    class_of: np.ndarray
    in_first: np.ndarray
    in_edges: np.ndarray
    order: np.ndarray
    place: np.ndarray
    classes: np.ndarray
    seen: np.ndarray
    changed: np.ndarray
    touched: np.ndarray
    group_of: np.ndarray
    groups: np.ndarray
    slots: np.ndarray
    moved: np.ndarray

    @classmethod
    def of(cls, nodes: int, references: int) -> Partition:
        """Memory for that many."""
        slots = 1 << max(4, (2 * nodes - 1).bit_length())
        column = (np.empty(nodes, np.int64) for _ in range(8))
        return cls(
            colours=np.empty((nodes, 2), np.uint64),
            sums=np.empty((nodes, 2), np.uint64),
            class_of=next(column),
            in_first=np.empty(nodes + 2, np.int64),
            in_edges=np.empty((references, 2), np.int64),
            order=next(column),
            place=next(column),
            classes=np.empty((nodes, 3), np.int64),
            seen=next(column),
            changed=next(column),
            touched=next(column),
            group_of=next(column),
            groups=np.empty((nodes, 4), np.int64),
            slots=np.zeros(slots, np.int64),
            moved=next(column),
        )


@compiled
def _sort_into_groups(p, keys, first, count):  # type: ignore[no-untyped-def]
    """Sort ``order[first:first + count]`` into groups of equal keys; returns how many there are.

    keys  uint64, shape (n, 2), by node
    """
    mask = np.int64(len(p.slots) - 1)
    found = 0
    for i in range(first, first + count):
        v = p.order[i]
        slot = np.int64(keys[v, 0] & np.uint64(mask))
        while p.slots[slot]:
            other = p.groups[p.slots[slot] - 1, 1]
            if keys[other, 0] == keys[v, 0] and keys[other, 1] == keys[v, 1]:
                break
            slot = (slot + 1) & mask
        if p.slots[slot] == 0:
            p.groups[found, 0], p.groups[found, 1], p.groups[found, 2] = 0, v, slot
            found += 1
            p.slots[slot] = found
        group = p.slots[slot] - 1
        p.group_of[v] = group
        p.groups[group, 0] += 1
    at = first
    for group in range(found):
        p.slots[p.groups[group, 2]] = 0
        p.groups[group, 3] = at
        at += p.groups[group, 0]
    if found > 1:
        for i in range(first, first + count):
            p.moved[i - first] = p.order[i]
        for i in range(count):
            v = p.moved[i]
            group = p.group_of[v]
            p.order[p.groups[group, 3]] = v
            p.place[v] = p.groups[group, 3]
            p.groups[group, 3] += 1
    return found


@compiled
def _recolour(p, number, first, size, a, b, changed):  # type: ignore[no-untyped-def]
    """Make ``size`` places from ``first`` on class ``number``; returns the new ``changed``."""
    p.classes[number, 0], p.classes[number, 1], p.classes[number, 2] = first, size, 0
    for i in range(first, first + size):
        v = p.order[i]
        p.class_of[v] = number
        p.colours[v, 0], p.colours[v, 1] = a, b
        p.changed[changed] = v
        changed += 1
    return changed


@compiled
def _part_colour(a, b, sum_a, sum_b, salt):  # type: ignore[no-untyped-def]
    """Colour of the part with the sum (sum_a, sum_b) that leaves a class of colour (a, b); with
    the ``salt`` (int64), unless that is 0."""
    x, y = start(COLOUR, a)
    x, y = absorb(x, y, b)
    x, y = absorb(x, y, sum_a)
    x, y = absorb(x, y, sum_b)
    if salt:
        x, y = absorb(x, y, np.uint64(salt))
    return finish(x, y)


@compiled
def _touch(p, rounds, changed):  # type: ignore[no-untyped-def]
    """Add up, for each node, its references that changed in round ``rounds``; returns the number of
    touched classes."""
    touched = 0
    for i in range(changed):
        w = p.changed[i]
        for e in range(p.in_first[w], p.in_first[w + 1]):
            v = p.in_edges[e, 0]
            if p.seen[v] != rounds:
                p.seen[v] = rounds
                p.sums[v, 0], p.sums[v, 1] = np.uint64(0), np.uint64(0)
                c = p.class_of[v]
                if p.classes[c, 2] == 0:
                    p.touched[touched] = c
                    touched += 1
                front = p.classes[c, 0] + p.classes[c, 2]
                p.classes[c, 2] += 1
                other = p.order[front]
                p.order[p.place[v]] = other
                p.place[other] = p.place[v]
                p.order[front] = v
                p.place[v] = front
            x, y = start(EDGE, np.uint64(p.in_edges[e, 1]))
            x, y = absorb(x, y, p.colours[w, 0])
            x, y = absorb(x, y, p.colours[w, 1])
            x, y = finish(x, y)
            p.sums[v, 0] += x
            p.sums[v, 1] += y
    return touched


@compiled
def colours_differ(p, nodes):  # type: ignore[no-untyped-def]
    """Whether each of ``nodes`` nodes has a colour of its own. Overwrites ``order``."""
    for v in range(nodes):
        p.order[v] = v
    return _sort_into_groups(p, p.colours, 0, nodes) == nodes


@compiled
def refine(p, nodes, salted):  # type: ignore[no-untyped-def]
    """Split classes until nothing tells nodes of one class apart; returns the number of classes.

    p       its colours are labels, ``in_first`` and ``in_edges`` are filled; nodes that share a
            label must have as many references, at the same places in their records
    nodes   how many there are
    salted  whether the colour of a part depends on the round too. Else parts that leave one class
            in different rounds, which keeps its colour meanwhile, can get one and the same; they
            rarely do, and colours are stored
    """
    for v in range(nodes):
        p.order[v] = v
        p.place[v] = v
        p.seen[v] = 0
    found = _sort_into_groups(p, p.colours, 0, nodes)
    changed, at = 0, 0
    for c in range(found):
        size, v = p.groups[c, 0], p.groups[c, 1]
        changed = _recolour(p, c, at, size, p.colours[v, 0], p.colours[v, 1], changed)
        at += size
    rounds = 0
    while changed > 0:
        rounds += 1
        salt = rounds if salted else 0
        touched = _touch(p, rounds, changed)
        changed = 0
        for i in range(touched):
            c = p.touched[i]
            first, size, count = p.classes[c, 0], p.classes[c, 1], p.classes[c, 2]
            p.classes[c, 2] = 0
            rest = size - count
            groups = _sort_into_groups(p, p.sums, first, count)
            if groups == 1 and rest == 0:
                continue
            # The largest part keeps class and colour; of equal ones the one with the least sum,
            # which for the nodes that were not touched is 0.
            kept, most = -1, rest
            keep_a, keep_b = np.uint64(0), np.uint64(0)
            for group in range(groups):
                v = p.groups[group, 1]
                more = p.groups[group, 0] - most
                a, b = p.sums[v, 0], p.sums[v, 1]
                if more > 0 or (more == 0 and (a < keep_a or (a == keep_a and b < keep_b))):
                    kept, most = group, p.groups[group, 0]
                    keep_a, keep_b = a, b
            old_a, old_b = p.colours[p.order[first], 0], p.colours[p.order[first], 1]
            at = first
            for group in range(groups):
                size, v = p.groups[group, 0], p.groups[group, 1]
                if group == kept:
                    p.classes[c, 0], p.classes[c, 1] = at, size
                else:
                    a, b = _part_colour(old_a, old_b, p.sums[v, 0], p.sums[v, 1], salt)
                    changed = _recolour(p, found, at, size, a, b, changed)
                    found += 1
                at += size
            if kept < 0:
                p.classes[c, 0], p.classes[c, 1] = at, rest
            elif rest > 0:
                a, b = _part_colour(old_a, old_b, np.uint64(0), np.uint64(0), salt)
                changed = _recolour(p, found, at, rest, a, b, changed)
                found += 1
    return found
