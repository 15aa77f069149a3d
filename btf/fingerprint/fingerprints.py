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

from ..arguments import brief_repr, takes
from ..compiled.huge_pages import power_of_two
from ..compiled.target import CHECKED
from ..compiled.workspaces import per_thread
from ..errors import UnsupportedError, WrongBaseError
from ..types.btf import BTF, freeze, unknown_kind_error
from .cycles import (
    AGAIN,
    DONE,
    MINIMAL,
    READ,
    REFINE_ALL,
    enter_all,
    fingerprint_types,
)
from .graph import Graph
from .refine import Partition
from .state import CyclicTypes, FingerprintedBase, Memory

VOID = (0x5D8A6BC1E4C0FFEE, 0x0123456789ABCDEF)  # any value that no hash is likely to be

MAX_REFERENCES = 0x7FFFFFFF  # a ``Graph`` counts them by int32
KEPT_TYPES = 1 << 15  # memory for more than that is not kept from one BTF to the next


@dataclass(frozen=True, eq=False)
class BaseFingerprints:
    """Fingerprints of a base (all its levels as one), made once for all that continues it.

    values  uint64, shape (N, 2): by type id, void included
    keys, labels, next, bits   tables of the types that are in cycles, see ``state.CyclicTypes``
    str_end bytes of the base's strings, to tell another base
    """

    __repr__ = brief_repr

    values: np.ndarray
    keys: np.ndarray
    labels: np.ndarray
    next: np.ndarray
    bits: np.ndarray
    str_end: int

    @classmethod
    @takes(base=BTF)
    def build(cls, base: BTF) -> BaseFingerprints:
        """Fingerprint all types of ``base`` and of what it continues.

        Raises UnsupportedError when there are kinds that only a layout section describes.
        """
        return cls.build_with_record_hashes(base, None)

    @classmethod
    def build_with_record_hashes(
        cls, base: BTF, record_hashes: np.ndarray | None
    ) -> BaseFingerprints:
        """The same as ``build``, and fill ``record_hashes`` of all types of ``base.flat``."""
        job = _Job(base.flat, record_hashes)
        values, cyclic = job.with_void()
        known = CyclicTypes.empty(int(cyclic.sum()), base.flat.type_count)
        work = job.work._replace(known=known)
        enter_all(1, base.flat.type_count, work, _NO_BASE, values[1:], cyclic)
        return cls(
            values=freeze(values),
            keys=freeze(known.keys),
            labels=freeze(known.labels),
            next=freeze(known.next),
            bits=freeze(known.bits),
            str_end=base.str_end,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what sharing them costs once per machine."""
        tables = self.keys, self.labels, self.next, self.bits
        return self.values.nbytes + sum(table.nbytes for table in tables)


@takes(btf=BTF, base=(BaseFingerprints, type(None)))
def fingerprints(btf: BTF, base: BaseFingerprints | None = None) -> np.ndarray:
    """Fingerprints: uint64, two columns (upper and lower half).

    btf    plain: row i is the type with id i, row 0 void. Split: row t is own type t, the type
           with id ``btf.start_id + t``; ids of the base are rows of ``base.values``
    base   of ``btf.base``; made here, and thrown away, when None

    Raises UnsupportedError when there are kinds that only a layout section describes.
    """
    if btf.base is None:
        return _Job(btf).with_void()[0]
    return _Job(btf).structural(base or BaseFingerprints.build(btf.base))


@takes(btf=BTF)
def own_fingerprints(btf: BTF) -> np.ndarray:
    """As ``fingerprints``, but a type of the base counts as its id: uint64, shape (T, 2).

    Own types of two modules on the same base have the same value exactly when either could stand
    for the other, and for all that it leads to. Values mean nothing for another base. Plain BTF
    has a row for void, as there.
    """
    if btf.base is None:
        return fingerprints(btf)
    return _Job(btf).complete(_BASE_BY_ID)[0]


@takes(btf=BTF, base=BaseFingerprints)
def both_fingerprints(btf: BTF, base: BaseFingerprints) -> tuple[np.ndarray, np.ndarray]:
    """``fingerprints`` and ``own_fingerprints`` of split BTF, for less than one after the other."""
    return both_with_record_hashes(btf, base, None)


def both_with_record_hashes(
    btf: BTF, base: BaseFingerprints, record_hashes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The same as ``both_fingerprints``, and fill ``record_hashes`` of all own types."""
    job = _Job(btf, record_hashes)
    own = job.complete(_BASE_BY_ID)[0]
    return job.structural(base), own


class _Job:
    """One BTF, and memory for its types.

    record_hashes  to be filled when the graph is read, see there; None: not wanted
    """

    def __init__(self, btf: BTF, record_hashes: np.ndarray | None = None) -> None:
        for level in btf.levels:
            if level.has_unknown_kinds:
                raise unknown_kind_error(level)
        self.btf = btf
        self.count = btf.type_count
        base_strings = btf.base.chain_strings if btf.base is not None else btf.strings[:0]
        self.source = (
            btf.words, btf.offsets, freeze(base_strings), btf.strings,
            record_hashes if record_hashes is not None else _NO_RECORD_HASHES,
        )  # fmt: skip
        self._is_read = False  # whether ``work`` holds the graph and its components
        # No record has more references than words after the second.
        self.work = work_memory(self.count, len(btf.words) - 2 * self.count, btf.path)

    def run(
        self, base: FingerprintedBase, values: np.ndarray | None = None
    ) -> tuple[int, np.ndarray, np.ndarray]:
        """Fingerprint the graph, which is read where ``work`` does not hold it.

        values  to be filled, where there is memory for them

        Returns status, values and cyclic; see ``fingerprint_types``.
        """
        mode = AGAIN if self._is_read else READ
        self._is_read = True
        if values is None:
            values = np.empty((self.count, 2), np.uint64)
        cyclic = np.empty(self.count, np.uint8)
        return self.call(mode, self.count, base, values, cyclic), values, cyclic

    def call(
        self,
        mode: int,
        count: int,
        base: FingerprintedBase,
        values: np.ndarray,
        cyclic: np.ndarray,
        work: Memory | None = None,
    ) -> int:
        work = work or self.work
        start_id = self.btf.start_id
        return int(
            fingerprint_types(mode, start_id, count, *self.source, work, base, values, cyclic)
        )

    def complete(
        self, base: FingerprintedBase, values: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and cyclic of types none of which can be the same as one of the base."""
        status, values, cyclic = self.run(base, values)
        return (values, cyclic) if status == DONE else self.at_once(base)

    def with_void(self) -> tuple[np.ndarray, np.ndarray]:
        """Values of the types of plain BTF, with a row for type id 0 in front; and cyclic, without
        one."""
        values = np.empty((self.count + 1, 2), np.uint64)
        values[0] = VOID
        found, cyclic = self.complete(_NO_BASE, values[1:])
        if found.base is not values:  # ``at_once`` has made arrays of its own
            values[1:] = found
        return values, cyclic

    def structural(self, known: BaseFingerprints) -> np.ndarray:
        """Fingerprints of split BTF on the base that is known."""
        btf = self.btf
        if (len(known.values), known.str_end) != (btf.start_id, btf.start_str_off):
            raise WrongBaseError(
                "the fingerprints are not those of the base that this BTF was read on", btf.path
            )
        assert btf.base is not None
        status, values, _ = self.run(_as_base(btf.base.flat, known))
        if status == DONE:
            return values
        self._is_read = False  # the thread's memory goes to another graph
        whole, _ = _Job(btf.flat).complete(_NO_BASE)
        return whole[btf.start_id - 1 :].copy()

    def at_once(self, base: FingerprintedBase) -> tuple[np.ndarray, np.ndarray]:
        """As ``complete``, but refine all types first, so that no two of them are the same.

        For what no compiler writes: cycles without a struct in them, and many cycles that differ
        only far away from where they are alike. It is what bounds the time for any input.
        """
        self._is_read = False  # of the graph, what follows overwrites the components
        nothing = np.empty((0, 2), np.uint64), np.empty(0, np.uint8)
        classes = self.call(REFINE_ALL, self.count, base, *nothing)
        graph, start_id = self.work.graph, self.btf.start_id
        class_of = self.work.partition.class_of[: self.count].copy()
        _, kept = np.unique(class_of, return_index=True)  # one type of each class
        degree = np.diff(graph.first[: self.count + 1])
        first = np.zeros(classes + 1, np.int64)
        np.cumsum(degree[kept], out=first[1:])
        edges = np.repeat(graph.first[kept] - first[:-1], degree[kept]) + np.arange(first[-1])
        children = graph.children[edges]
        own = children >= start_id
        children[own] = class_of[children[own] - start_id] + start_id
        work = _new_work(classes, len(children))
        work.graph.labels[:] = graph.labels[kept]
        work.graph.composite[:] = graph.composite[kept]
        work.graph.first[:] = first
        work.graph.children[:] = children
        values = np.empty((classes, 2), np.uint64)
        cyclic = np.empty(classes, np.uint8)
        self.call(MINIMAL, classes, base, values, cyclic, work)
        return values[class_of], cyclic[class_of]


def work_memory(types: int, references: int, path: str | None) -> Memory:
    """Memory for a graph: that of the one before in this thread where it is large enough.

    Raises UnsupportedError for more references than 32 bits count.
    """
    _check_references(references, path)
    last: tuple[int, int, Memory] | None = getattr(per_thread, "fingerprints", None)
    if not CHECKED:  # else no more room than is needed: an index beyond it is noticed
        if last is not None and last[0] >= types and last[1] >= references:
            return last[2]
        types, references = power_of_two(types), power_of_two(references)
    work = _new_work(types, references)
    if types <= KEPT_TYPES:
        per_thread.fingerprints = (types, references, work)
    return work


def graph_memory(types: int, references: int, path: str | None) -> Graph:
    """The graph of such memory alone, of which less is made where that would not be kept. Raises
    UnsupportedError as ``work_memory`` does."""
    _check_references(references, path)
    if types <= KEPT_TYPES:
        return work_memory(types, references, path).graph
    return Graph.of(types, references)


def _check_references(count: int, path: str | None) -> None:
    if count > MAX_REFERENCES:
        raise UnsupportedError(
            f"too many references: {count}, at most {MAX_REFERENCES} can be followed", path
        )


def _new_work(types: int, references: int) -> Memory:
    """Memory for a graph of just that many types and references."""
    return Memory(
        graph=Graph.of(types, references),
        known=CyclicTypes.of(types, types),  # what is used is emptied when it is
        local=np.empty(types, np.int32),
        nodes=np.empty(types, np.int32),
        inside=np.empty((types, 2), np.uint64),
        counterparts=np.empty(types, np.int32),
        stack=np.empty(types, np.int32),
        partition=Partition.of(types, references),
    )


def _as_base(flat: BTF, known: BaseFingerprints) -> FingerprintedBase:
    """The arrays of a base; those of the last one in this thread are kept."""
    last: tuple[BTF, BaseFingerprints, FingerprintedBase] | None = getattr(
        per_thread, "fingerprinted_base", None
    )
    if last is None or last[0] is not flat or last[1] is not known:
        tables = CyclicTypes(known.keys, known.labels, known.next, known.bits)
        base = FingerprintedBase(flat.words, flat.offsets, flat.strings, known.values, tables)
        last = per_thread.fingerprinted_base = (flat, known, base)
    return last[2]


def _no_types(values: np.ndarray) -> FingerprintedBase:
    """A base without types to look into."""
    words, strings = freeze(np.zeros(0, np.uint32)), freeze(np.zeros(0, np.uint8))
    slots = freeze(np.zeros(1, np.uint64))
    return FingerprintedBase(
        words, words, strings, freeze(values), CyclicTypes(slots, slots, words, slots)
    )


_NO_RECORD_HASHES = np.empty((0, 4), np.uint64)
_NO_BASE = _no_types(np.array([VOID], np.uint64))
_BASE_BY_ID = _no_types(np.zeros((0, 2), np.uint64))
