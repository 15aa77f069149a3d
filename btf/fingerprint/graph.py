"""The types of a BTF as a graph: a label for each, its references, and the components of cycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import kinds
from ..deduplication.signature import kind_of
from ..jit import kernel
from ..kinds import ELEMENT_REF, FIXED_REFS, HEAD_IS_REF, INFO_VLEN_MASK
from ..table import BTF, freeze
from .hashing import record_label, reference_at

_REFS_OF_ELEMENT = (ELEMENT_REF >= 0).astype(np.int64)
_REFS_OF_REST = HEAD_IS_REF.astype(np.int64) + FIXED_REFS


@dataclass(frozen=True, eq=False)
class TypeGraph:
    """T types of one BTF and what they refer to. Types are numbered from 0 here.

    start_id  type id of type 0; lower ids are void and the types of the base
    labels    uint64, shape (T, 2): hash of all that a record says itself, see ``record_label``
    first     int64, shape (T + 1,): where in ``children`` the references of each type begin
    children  int64: type ids, in the order of the record; void is 0
    composite uint8, shape (T,): whether it is a struct or a union
    component int64, shape (T,): number of the component (of types that reach each other)
    members   int64, shape (T,): types by component; what a component refers to comes before it
    bounds    int64, shape (C + 1,): where in ``members`` each component begins
    """

    start_id: int
    labels: np.ndarray
    first: np.ndarray
    children: np.ndarray
    composite: np.ndarray
    component: np.ndarray
    members: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, btf: BTF) -> TypeGraph:
        """The graph of the own types of ``btf``."""
        count = btf.type_count
        info = btf.words[btf.offsets[:-1] + np.uint32(1)]
        kind = btf.own_kinds
        degree = _REFS_OF_REST[kind] + _REFS_OF_ELEMENT[kind] * (info & kinds.INFO_VLEN_MASK)
        first = np.zeros(count + 1, np.int64)
        np.cumsum(degree, out=first[1:])
        labels = np.empty((count, 2), np.uint64)
        children = np.empty(int(first[-1]), np.int64)
        base_strings = btf.base.chain_strings if btf.base is not None else btf.strings[:0]
        _read_records(
            btf.words,
            btf.offsets,
            freeze(base_strings),
            btf.strings,
            labels,
            children,
        )
        composite = (kind == kinds.STRUCT) | (kind == kinds.UNION)
        return cls.joined(btf.start_id, labels, first, children, composite.view(np.uint8))

    @classmethod
    def joined(
        cls,
        start_id: int,
        labels: np.ndarray,
        first: np.ndarray,
        children: np.ndarray,
        composite: np.ndarray,
    ) -> TypeGraph:
        """A graph of these types, its components found."""
        count = len(labels)
        component = np.full(count, -1, np.int64)
        members = np.empty(count, np.int64)
        bounds = np.zeros(count + 1, np.int64)
        scratch = np.empty((count, 3), np.int64)
        found = _find_components(start_id, first, children, component, members, bounds, scratch)
        return cls(
            start_id, labels, first, children, composite, component, members, bounds[: found + 1]
        )

    @property
    def count(self) -> int:
        """T."""
        return len(self.labels)


@kernel
def _read_records(words, offsets, base_strings, strings, labels, children):  # type: ignore[no-untyped-def]
    """Fill labels and children of all types."""
    at_child = 0
    for index in range(len(labels)):
        at = np.int64(offsets[index])
        labels[index, 0], labels[index, 1] = record_label(words, at, base_strings, strings)
        info = words[at + 1]
        kind = kind_of(info)
        degree = np.int64(HEAD_IS_REF[kind]) + FIXED_REFS[kind]
        if ELEMENT_REF[kind] >= 0:
            degree += np.int64(info & INFO_VLEN_MASK)
        for number in range(degree):
            children[at_child] = reference_at(words, at, number)
            at_child += 1


@kernel
def _find_components(start_id, first, children, component, members, bounds, scratch):  # type: ignore[no-untyped-def]
    """Tarjan's algorithm with a stack of its own; returns the number of components.

    component  all -1 at first
    scratch    int64 (T, 3): position in the walk + 1 (0: not seen); stack of the walk; its edges
    """
    count = len(component)
    for v in range(count):
        scratch[v, 0] = 0
    clock, found, waiting = 0, 0, 0
    # ``members`` holds, from its front, the components that are complete, and from its back the
    # types that are not yet in one. ``component`` holds -2 - low while a type is among these.
    for root in range(count):
        if scratch[root, 0]:
            continue
        depth = 0
        scratch[0, 1], scratch[0, 2] = root, first[root]
        clock += 1
        scratch[root, 0] = clock
        component[root] = -2 - clock
        waiting += 1
        members[count - waiting] = root
        while depth >= 0:
            v, edge = scratch[depth, 1], scratch[depth, 2]
            if edge < first[v + 1]:
                scratch[depth, 2] = edge + 1
                w = children[edge] - start_id
                if w < 0:
                    continue
                if scratch[w, 0] == 0:
                    clock += 1
                    scratch[w, 0] = clock
                    component[w] = -2 - clock
                    waiting += 1
                    members[count - waiting] = w
                    depth += 1
                    scratch[depth, 1], scratch[depth, 2] = w, first[w]
                elif component[w] < 0 and -2 - scratch[w, 0] > component[v]:
                    component[v] = -2 - scratch[w, 0]
                continue
            depth -= 1
            if component[v] == -2 - scratch[v, 0]:
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
                parent = scratch[depth, 1]
                component[parent] = max(component[parent], component[v])
    return found
