"""What fingerprinting works on: the types of a graph, those of its base, and memory.

Parameters used throughout:

state    ``State``
base     ``FingerprintedBase``
type_id  id of a type, of the base or own
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.huge_pages import power_of_two
from ..compiled.jit import compiled
from ..format.records import reference_at, reference_count
from .graph import Graph
from .hashing import BASE_ID, finish, start
from .record_hashes import record_label
from .refine import Partition


class CyclicTypes(NamedTuple):
    """Where types of cycles are found again. Ids are type ids; 0 is none.

    keys    uint64, a power of two: by hash of label and children, hash's upper half above, id below
    labels  uint64, a power of two: structs and unions by label, the same
    next    uint32, by id less the first one: the next struct or union of the same label
    bits    uint64, a word for BITS_SHARE slots of ``keys``: what may be in it, see ``may_have``
    """

    keys: np.ndarray
    labels: np.ndarray
    next: np.ndarray
    bits: np.ndarray

    @classmethod
    def of(cls, entries: int, types: int) -> CyclicTypes:
        """Memory for up to so many types of cycles, of so many types in all."""
        slots = power_of_two(max(2 * entries, BITS_SHARE))
        return cls(
            np.empty(slots, np.uint64),
            np.empty(slots, np.uint64),
            np.empty(types, np.uint32),
            np.empty(slots // BITS_SHARE, np.uint64),
        )

    @classmethod
    def empty(cls, entries: int, types: int) -> CyclicTypes:
        """The same, with nothing entered."""
        tables = cls.of(entries, types)
        for table in tables:
            table.fill(0)
        return tables


BITS_SHARE = 16


class FingerprintedBase(NamedTuple):
    """The base of a split BTF, N types with void; of a plain one, void alone.

    words, offsets, strings   all levels as one; type id i begins at ``words[offsets[i - 1]]``
    values  uint64, shape (N, 2): fingerprints by type id; shape (0, 2): base types count by id
    known   its types of cycles
    """

    words: np.ndarray
    offsets: np.ndarray
    strings: np.ndarray
    values: np.ndarray
    known: CyclicTypes


class Memory(NamedTuple):
    """Memory for graphs of up to n types with m references.

    graph      the graph itself
    known      own types of cycles, as they are found
    local      int32 (n,): number of a type within its component
    nodes      int32 (n,): types of the component at hand by that number
    inside     uint64 (n, 2): their labels, with what is outside
    counterparts int32 (n,): type id that a type is compared with
    stack      int32 (n,)
    partition  for refining
    """

    graph: Graph
    known: CyclicTypes
    local: np.ndarray
    nodes: np.ndarray
    inside: np.ndarray
    counterparts: np.ndarray
    stack: np.ndarray
    partition: Partition


class State(NamedTuple):
    """The types of a graph and what is found out about them.

    start_id  type id of type 0
    types     T, their number
    mask      of the slots of ``work.known`` that are in use
    values    uint64 (T, 2): the fingerprints
    cyclic    uint8 (T,): whether a type is in a cycle
    """

    start_id: int
    types: int
    mask: int
    values: np.ndarray
    cyclic: np.ndarray
    work: Memory


@compiled
def value_of(state, base, type_id):  # type: ignore[no-untyped-def]
    """Fingerprint of a type that is done."""
    if type_id >= state.start_id:
        return state.values[type_id - state.start_id, 0], state.values[type_id - state.start_id, 1]
    if len(base.values) > 0:
        return base.values[type_id, 0], base.values[type_id, 1]
    a, b = start(BASE_ID, np.uint64(type_id))
    return finish(a, b)


@compiled
def label_of(state, base, type_id):  # type: ignore[no-untyped-def]
    """Hash of all that a type's record says itself."""
    if type_id >= state.start_id:
        v = type_id - state.start_id
        return state.work.graph.labels[v, 0], state.work.graph.labels[v, 1]
    at = np.int64(base.offsets[type_id - 1])
    return record_label(base.words, at, base.strings, base.strings)


@compiled
def degree_of(state, base, type_id):  # type: ignore[no-untyped-def]
    """How many references a type has."""
    if type_id >= state.start_id:
        v = type_id - state.start_id
        return state.work.graph.first[v + 1] - state.work.graph.first[v]
    return reference_count(base.words[np.int64(base.offsets[type_id - 1]) + 1])


@compiled
def child_of(state, base, type_id, number):  # type: ignore[no-untyped-def]
    """Type id that a type's reference ``number`` (from 0) leads to."""
    if type_id >= state.start_id:
        return state.work.graph.children[state.work.graph.first[type_id - state.start_id] + number]
    return reference_at(base.words, np.int64(base.offsets[type_id - 1]), number)
