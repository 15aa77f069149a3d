"""Fingerprints of all types of a BTF.

A fingerprint is a 128-bit hash of what can be seen by walking from a type: kinds, names, sizes,
offsets, values, flags, in short every word of the records, with references followed instead of
read. Type ids, string offsets, the order of types, the byte order of the file and what else is in
it do not count. So two types have the same fingerprint, in whatever files they are, exactly when
no finite walk tells them apart (but for collisions of the hash: among 2^32 types the odds are 1 in
2^65). A forward declaration is a type of its own: it differs from the definition. Which fields
there are is read from the tables in ``kinds``.

    base = btf.BaseFingerprints.build(vmlinux)
    values = btf.fingerprints(split, base)      # uint64, one row per own type of split

``own_fingerprints`` is the finer question that sharing types between modules of one kernel asks:
there, types of the base are not looked into, but count by their id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..deduplication.index import power_of_two, unknown_kind_error
from ..errors import WrongBaseError
from ..table import BTF, freeze
from .cycles import DONE, Base, Known, Types, enter_all, fingerprint_components, refine_all
from .graph import TypeGraph
from .refine import Partition

VOID = (0x5D8A6BC1E4C0FFEE, 0x0123456789ABCDEF)  # any value that no hash is likely to be


@dataclass(frozen=True, eq=False)
class BaseFingerprints:
    """Fingerprints of a base (all its levels as one), made once for all that continues it.

    values  uint64, shape (N, 2): by type id, void included
    keys, labels, next   tables of the types that are in cycles, see ``cycles.Known``
    str_end bytes of the base's strings, to tell another base
    """

    values: np.ndarray
    keys: np.ndarray
    labels: np.ndarray
    next: np.ndarray
    str_end: int

    @classmethod
    def build(cls, base: BTF) -> BaseFingerprints:
        """Fingerprint all types of ``base`` and of what it continues.

        Raises UnsupportedError when there are kinds that only a layout section describes.
        """
        types = _complete(TypeGraph.of(_known_kinds_only(base.flat)), _NO_BASE)
        known = _new_known(int(types.cyclic.sum()), len(types.labels))
        enter_all(types._replace(known=known), _NO_BASE)
        return cls(
            values=freeze(_with_void(types.values)),
            keys=freeze(known.keys),
            labels=freeze(known.labels),
            next=freeze(known.next),
            str_end=base.str_end,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what sharing them costs once per machine."""
        return self.values.nbytes + self.keys.nbytes + self.labels.nbytes + self.next.nbytes


def fingerprints(
    btf: BTF, base: BaseFingerprints | None = None, *, graph: TypeGraph | None = None
) -> np.ndarray:
    """Fingerprints: uint64, two columns (upper and lower half).

    btf    plain: row i is the type with id i, row 0 void. Split: row t is own type t, the type
           with id ``btf.start_id + t``; ids of the base are rows of ``base.values``
    base   of ``btf.base``; made here, and thrown away, when None
    graph  ``TypeGraph.of(btf)`` where it was made already

    Raises UnsupportedError when there are kinds that only a layout section describes.
    """
    if btf.base is None:
        plain = _complete(graph or TypeGraph.of(_known_kinds_only(btf)), _NO_BASE)
        return _with_void(plain.values)
    if base is None:
        base = BaseFingerprints.build(btf.base)
    elif (len(base.values), base.str_end) != (btf.start_id, btf.start_str_off):
        raise WrongBaseError(
            "the fingerprints are not those of the base that this BTF was read on", btf.path
        )
    graph = graph or TypeGraph.of(_known_kinds_only(btf))
    below = btf.base.flat
    known = Known(base.keys, base.labels, base.next)
    types = _memory(graph)
    if _fill(types, Base(below.words, below.offsets, below.strings, base.values, known)):
        return types.values
    whole = _complete(TypeGraph.of(btf.flat), _NO_BASE)
    return whole.values[btf.start_id - 1 :].copy()


def own_fingerprints(btf: BTF, *, graph: TypeGraph | None = None) -> np.ndarray:
    """As ``fingerprints``, but a type of the base counts as its id: uint64, shape (T, 2).

    Own types of two modules on the same base have the same value exactly when either could stand
    for the other, and for all that it leads to. Values mean nothing for another base. Plain BTF
    has a row for void, as there.
    """
    if btf.base is None:
        return fingerprints(btf, graph=graph)
    return _complete(graph or TypeGraph.of(_known_kinds_only(btf)), _BASE_BY_ID).values


def _complete(graph: TypeGraph, base: Base) -> Types:
    """The fingerprints of a graph none of whose types can be the same as one of the base."""
    types = _memory(graph)
    if not _fill(types, base):
        _fill_at_once(graph, types, base)
    return types


def _fill(types: Types, base: Base, *, minimal: bool = False) -> bool:
    """Fill values and cyclic, component by component; False when that would take too long."""
    partition = Partition.of(len(types.labels), len(types.children))
    stack = np.empty(len(types.labels), np.int64)
    return fingerprint_components(types, base, partition, stack, minimal) == DONE


def _fill_at_once(graph: TypeGraph, types: Types, base: Base) -> None:
    """Refine all types at once first, so that no two of them are the same.

    For what no compiler writes: cycles without a struct in them, and many cycles that differ only
    far away from where they are alike. It is what bounds the time for any input.
    """
    partition = Partition.of(graph.count, len(graph.children))
    refine_all(types._replace(component=graph.component.copy()), base, partition)
    class_of = partition.class_of
    _, kept = np.unique(class_of, return_index=True)  # one type of each class
    degree = np.diff(graph.first)
    first = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(degree[kept], out=first[1:])
    edges = np.repeat(graph.first[kept] - first[:-1], degree[kept]) + np.arange(first[-1])
    children = graph.children[edges]
    own = children >= graph.start_id
    children[own] = class_of[children[own] - graph.start_id] + graph.start_id
    smallest = TypeGraph.joined(
        graph.start_id, graph.labels[kept], first, children, graph.composite[kept]
    )
    found = _memory(smallest)
    _fill(found, base, minimal=True)
    types.values[:] = found.values[class_of]
    types.cyclic[:] = found.cyclic[class_of]


def _memory(graph: TypeGraph) -> Types:
    count = graph.count
    return Types(
        start_id=graph.start_id,
        labels=graph.labels,
        first=graph.first,
        children=graph.children,
        composite=graph.composite,
        component=graph.component,
        members=graph.members,
        bounds=graph.bounds,
        values=np.empty((count, 2), np.uint64),
        cyclic=np.empty(count, np.uint8),
        known=_new_known(count, count),
        local=np.empty(count, np.int64),
        nodes=np.empty(count, np.int64),
        own=np.empty((count, 2), np.uint64),
        mates=np.empty(count, np.int64),
    )


def _new_known(cyclic: int, count: int) -> Known:
    """Empty tables for so many types of cycles out of ``count`` types."""
    slots = power_of_two(2 * cyclic)
    return Known(np.zeros(slots, np.uint64), np.zeros(slots, np.uint64), np.zeros(count, np.uint32))


def _known_kinds_only(btf: BTF) -> BTF:
    for level in btf.levels:
        if level.has_unknown_kinds:
            raise unknown_kind_error(level)
    return btf


def _with_void(values: np.ndarray) -> np.ndarray:
    """With a row for type id 0 in front."""
    return np.concatenate([np.array([VOID], np.uint64), values])


def _no_types(values: np.ndarray) -> Base:
    """A base without types to look into."""
    words, strings = freeze(np.zeros(0, np.uint32)), freeze(np.zeros(0, np.uint8))
    slots = freeze(np.zeros(1, np.uint64))
    return Base(words, words, strings, freeze(values), Known(slots, slots, words))


_NO_BASE = _no_types(np.array([VOID], np.uint64))
_BASE_BY_ID = _no_types(np.zeros((0, 2), np.uint64))
