"""The types of a BTF as a graph: a label for each, its references, and the components of cycles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import STRUCT, UNION, kind_of
from ..format.records import reference_at, reference_count
from .record_hashes import read_record, record_label


class Graph(NamedTuple):
    """Memory for up to n types and m references. Types are numbered from 0 here.

    labels    uint64 (n, 2): hash of all that a record says itself, see ``record_label``
    first     int32 (n + 1,): where in ``children`` the references of each type begin
    children  int32 (m,): type ids, in the order of the record; void is 0
    composite uint8 (n,): whether it is a struct or a union
    component int32 (n,): number of the component (of types that reach each other)
    members   int32 (n,): types by component; what a component refers to comes before it
    bounds    int32 (n + 2,): where in ``members`` each component begins; for T types the number of
              components at T + 1
    walk      int32 (n, 3): for finding components
    """

    labels: np.ndarray
    first: np.ndarray
    children: np.ndarray
    composite: np.ndarray
    component: np.ndarray
    members: np.ndarray
    bounds: np.ndarray
    walk: np.ndarray

    @classmethod
    def of(cls, types: int, references: int) -> Graph:
        """Memory for that many."""
        return cls(
            labels=np.empty((types, 2), np.uint64),
            first=np.empty(types + 1, np.int32),
            children=np.empty(references, np.int32),
            composite=np.empty(types, np.uint8),
            component=np.empty(types, np.int32),
            members=np.empty(types, np.int32),
            bounds=np.empty(types + 2, np.int32),
            walk=np.empty((types, 3), np.int32),
        )


@compiled
def read_graph(graph, count, words, offsets, base_strings, strings, record_hashes):  # type: ignore[no-untyped-def]
    """Fill labels, first, children and composite for the own types of a BTF, and ``record_hashes``.

    graph                  ``Graph``
    count                  how many types there are
    words, offsets         uint32: their records, as in ``BTF``
    base_strings, strings  uint8: those of the base, and the own ones
    record_hashes          see the module of this name; without rows where it is not wanted
    """
    at_child = 0
    for v in range(count):
        at = np.int64(offsets[v])
        if len(record_hashes) > 0:
            a, b = read_record(record_hashes, v, words, at, base_strings, strings)
        else:
            a, b = record_label(words, at, base_strings, strings)
        graph.labels[v, 0], graph.labels[v, 1] = a, b
        info = words[at + 1]
        kind = kind_of(info)
        graph.composite[v] = 1 if kind == STRUCT or kind == UNION else 0
        graph.first[v] = at_child
        for number in range(reference_count(info)):
            graph.children[at_child] = reference_at(words, at, number)
            at_child += 1
    graph.first[count] = at_child


@compiled
def find_components(graph, start_id, count):  # type: ignore[no-untyped-def]
    """Find components by Tarjan's algorithm, with a stack of its own; returns how many there are.

    graph     ``Graph``, read
    start_id  id of the first of its types
    count     how many types it has
    """
    component, members, bounds = graph.component, graph.members, graph.bounds
    # By type: position in the walk + 1 (0: not seen). By depth: type of the walk; its next edge.
    walk = graph.walk
    for v in range(count):
        walk[v, 0] = 0
    clock, found, waiting = 0, 0, 0
    bounds[0] = 0
    # ``members`` holds, from its front, the components that are complete, and from its back the
    # types that are not yet in one. ``component`` holds -2 - low while a type is among these.
    for root in range(count):
        if walk[root, 0]:
            continue
        depth = 0
        walk[0, 1], walk[0, 2] = root, graph.first[root]
        clock += 1
        walk[root, 0] = clock
        component[root] = -2 - clock
        waiting += 1
        members[count - waiting] = root
        while depth >= 0:
            v, edge = walk[depth, 1], walk[depth, 2]
            if edge < graph.first[v + 1]:
                walk[depth, 2] = edge + 1
                w = graph.children[edge] - start_id
                if w < 0:
                    continue
                if walk[w, 0] == 0:
                    clock += 1
                    walk[w, 0] = clock
                    component[w] = -2 - clock
                    waiting += 1
                    members[count - waiting] = w
                    depth += 1
                    walk[depth, 1], walk[depth, 2] = w, graph.first[w]
                elif component[w] < 0 and -2 - walk[w, 0] > component[v]:
                    component[v] = -2 - walk[w, 0]
                continue
            depth -= 1
            if component[v] == -2 - walk[v, 0]:
                at = bounds[found]
                while True:
                    w = members[count - waiting]
                    waiting -= 1
                    component[w] = found
                    members[at] = w
                    at += 1
                    if w == v:
                        break
                found += 1
                bounds[found] = at
            elif depth >= 0:
                parent = walk[depth, 1]
                component[parent] = max(component[parent], component[v])
    return found
