"""Columns of the tables ``types`` and ``members`` from BTF, as numpy arrays: many types at once.

Arrow is not used here: workers do not need it, and numpy arrays cross process borders without
being copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

import btf
from btf.edit.concat import side_by_side
from btf.types.columns import kind_totals

from ..model.base import SharedBase
from ..model.records import BaseRecord
from .columns import concatenated
from .misses import MissRow, miss_rows

TYPES_AT_ONCE = 1 << 15


@dataclass(frozen=True, slots=True)
class Texts:
    """Strings one after the other: all their bytes, and the length of each."""

    lengths: NDArray[np.int32]
    content: NDArray[np.uint8]

    def __getitem__(self, some: slice) -> Texts:
        """Some that follow one another."""
        first = int(self.lengths[: some.start].sum())
        lengths = self.lengths[some]
        return Texts(lengths, self.content[first : first + int(lengths.sum())])


@dataclass(frozen=True, slots=True)
class MemberColumns:
    """Members, parameters and enumerators, a row for each; see ``btf.members``.

    owner  row of the type in the TypeColumns that these belong to
    """

    owner: NDArray[np.uint32]
    position: NDArray[np.uint32]
    name: Texts
    type_id: NDArray[np.uint32]
    bit_offset: NDArray[np.uint32]
    bitfield_size: NDArray[np.uint8]
    value: NDArray[np.uint64]
    negative: NDArray[np.uint8]

    def of_owners(self, types: slice) -> MemberColumns:
        """Those of types that follow one another."""
        low, high = np.searchsorted(self.owner, [types.start, types.stop])
        rows = slice(int(low), int(high))
        values = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        return MemberColumns(**{**values, "owner": values["owner"] - np.uint32(types.start)})


@dataclass(frozen=True, slots=True)
class TypeColumns:
    """Types of several objects one after the other, a row per type.

    object_ids, counts, start_ids: one entry per object, the rest one per type. ``fingerprint`` and
    ``own_fingerprint`` are uint64, shape (rows, 2), see ``btf.fingerprints``; the types of a base
    have no ``own_fingerprint``: shape (0, 2).
    """

    object_ids: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    start_ids: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    name: Texts
    size: NDArray[np.uint32]
    bytes: NDArray[np.uint32]
    vlen: NDArray[np.uint32]
    fingerprint: NDArray[np.uint64]
    own_fingerprint: NDArray[np.uint64]
    members: MemberColumns

    def __getitem__(self, objects: slice) -> TypeColumns:
        """Some objects that follow one another."""
        first, last, _ = objects.indices(len(self.counts))
        ends = np.cumsum(self.counts, dtype=np.int64)
        low, high = int(ends[first - 1]) if first else 0, int(ends[last - 1]) if last else 0
        types = slice(low, max(low, high))
        has_own = len(self.own_fingerprint) > 0
        return TypeColumns(
            object_ids=self.object_ids[objects],
            counts=self.counts[objects],
            start_ids=self.start_ids[objects],
            kind=self.kind[types],
            name=self.name[types],
            size=self.size[types],
            bytes=self.bytes[types],
            vlen=self.vlen[types],
            fingerprint=self.fingerprint[types],
            own_fingerprint=self.own_fingerprint[types] if has_own else self.own_fingerprint,
            members=self.members.of_owners(types),
        )


def base_columns(base: btf.BTF, known: btf.BaseFingerprints) -> TypeColumns:
    """The types of a base: object 0."""
    none = np.empty((0, 2), np.uint64)
    return _columns(base, [(0, base.type_count)], [0], known.values[1:], none)


def module_columns(
    modules: Sequence[tuple[int, btf.BTF]], known: btf.BaseFingerprints
) -> TypeColumns:
    """The own types of ``(object id, split BTF)`` on the base whose fingerprints are known.

    There must be a module. Several are taken together, up to TYPES_AT_ONCE: much of what a small
    one costs is calling.
    """
    return _behind_one_another([_together(part, known) for part in _cut(modules)])


def _cut(modules: Sequence[tuple[int, btf.BTF]]) -> Iterator[Sequence[tuple[int, btf.BTF]]]:
    start = types = 0
    for end, (_, split) in enumerate(modules):
        if types and types + split.type_count > TYPES_AT_ONCE:
            yield modules[start:end]
            start, types = end, 0
        types += split.type_count
    yield modules[start:]


def _together(modules: Sequence[tuple[int, btf.BTF]], known: btf.BaseFingerprints) -> TypeColumns:
    splits = [split for _, split in modules]
    whole = side_by_side(splits) if len(splits) > 1 else splits[0]
    fingerprint, own_fingerprint = btf.both_fingerprints(whole, known)
    counts = [(number, split.type_count) for number, split in modules]
    before = np.cumsum([0, *(count for _, count in counts[:-1])])
    return _columns(whole, counts, before, fingerprint, own_fingerprint)


def _columns(
    whole: btf.BTF,
    objects: Sequence[tuple[int, int]],
    before: ArrayLike,
    fingerprint: NDArray[np.uint64],
    own_fingerprint: NDArray[np.uint64],
) -> TypeColumns:
    """``objects``: (object id, types) of each; ``before``: types of ``whole`` before its own."""
    columns = btf.columns(whole)
    counts = np.array([count for _, count in objects], np.uint32)
    return TypeColumns(
        object_ids=np.array([number for number, _ in objects], np.uint32),
        counts=counts,
        start_ids=np.full(len(objects), whole.start_id, np.uint32),
        kind=columns["kind"],
        name=_texts(whole, columns["name_off"]),
        size=columns["size"],
        bytes=columns["bytes"],
        vlen=columns["vlen"],
        fingerprint=fingerprint,
        own_fingerprint=own_fingerprint,
        members=_member_columns(whole, np.repeat(np.asarray(before, np.uint32), counts)),
    )


def _member_columns(whole: btf.BTF, before: NDArray[np.uint32]) -> MemberColumns:
    """``before``, by type: by how much the ids of its object are too high."""
    columns = btf.members(whole)
    owner, type_id = columns["owner"], columns["type_id"]
    own = type_id >= whole.start_id
    type_id[own] -= before[owner[own]]
    return MemberColumns(
        owner=owner,
        position=columns["position"],
        name=_texts(whole, columns["name_off"]),
        type_id=type_id,
        bit_offset=columns["bit_offset"],
        bitfield_size=columns["bitfield_size"],
        value=columns["value"],
        negative=columns["negative"],
    )


def _texts(types: btf.BTF, name_off: NDArray[np.uint32]) -> Texts:
    ends, content = btf.texts(types, name_off)
    return Texts(np.diff(ends), content)


def joined(parts: Sequence[tuple[Sequence[int], TypeColumns]]) -> TypeColumns:
    """The rows of several parts, with the ids of each one's objects, which it does not know by
    itself; there must be a part."""
    return _behind_one_another(
        [replace(part, object_ids=np.array(ids, np.uint32)) for ids, part in parts]
    )


def _behind_one_another(parts: Sequence[TypeColumns]) -> TypeColumns:
    rows_before, moved = 0, []
    for part in parts:
        members = replace(part.members, owner=part.members.owner + np.uint32(rows_before))
        moved.append(replace(part, members=members))
        rows_before += len(part.kind)
    return concatenated(moved)


class Described:
    """Rows of modules for the tables that have rows by module, as modules are done.

    The rows say nothing of a module's number or name in the kernel: the same result serves
    whatever it is called there and wherever it stands.
    """

    def __init__(self, base: SharedBase) -> None:
        self._base = base
        self._waiting: list[tuple[int, btf.BTF]] = []
        self._waiting_types = 0
        self._types: list[TypeColumns] = []
        self._misses: list[tuple[MissRow, ...]] = []

    def __len__(self) -> int:
        """Modules that have rows."""
        return len(self._misses)

    def add(self, found: Split | Rows) -> None:
        """The next module: what is to be described, or its rows."""
        if isinstance(found, Rows):
            self.catch_up()
            self._types.append(found.types)
            self._misses += found.misses
            return
        self._waiting.append((0, found.btf))
        self._waiting_types += found.btf.type_count
        self._misses.append(found.misses)
        if self._waiting_types > TYPES_AT_ONCE:
            self.catch_up()

    def catch_up(self) -> None:
        """Describe what is waiting for it."""
        if self._waiting:
            self._types.append(module_columns(self._waiting, self._base.fingerprints))
            self._waiting, self._waiting_types = [], 0

    def rows(self) -> Rows | None:
        """Of all modules; None if there was none."""
        self.catch_up()
        if not self._types:
            return None
        return Rows(_behind_one_another(self._types), tuple(self._misses))


@dataclass(frozen=True, slots=True)
class Split:
    """A module that is done: its split BTF, and why types stayed in it."""

    btf: btf.BTF
    misses: tuple[MissRow, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of some modules: an object of ``types``, and an entry of ``misses``, for each."""

    types: TypeColumns
    misses: tuple[tuple[MissRow, ...], ...]

    def __getitem__(self, modules: slice) -> Rows:
        """Some modules that follow one another."""
        return Rows(self.types[modules], self.misses[modules])


def split_of(module: btf.Module, deduplicated: btf.DedupResult, base: SharedBase) -> Split:
    """What rows are made of, once a module is done."""
    found = btf.misses(module.btf, deduplicated, base.index, base.names)
    return Split(deduplicated.btf, miss_rows(deduplicated.btf, found))


def kind_counts(types: btf.BTF) -> tuple[dict[str, int], dict[str, int]]:
    """Own types of each kind that occurs: how many, and the bytes of their records."""
    count, size = kind_totals(types)
    present = np.flatnonzero(count).tolist()
    names = [kind_name(number) for number in present]
    return (
        dict(zip(names, count[present].tolist(), strict=True)),
        dict(zip(names, size[present].tolist(), strict=True)),
    )


@cache
def kind_name(number: int) -> str:
    """``STRUCT`` of 4; a number that we have no name for stays a number."""
    if number < len(btf.KIND_NAMES):
        return str(btf.KIND_NAMES[number])
    return f"KIND{number}"


def describe_base(
    base: btf.BTF,
    *,
    path: str,
    source: str,
    sha256: str,
    release: str | None,
    encoder: str | None,
) -> BaseRecord:
    """The facts about a base."""
    kinds, kind_bytes = kind_counts(base)
    return BaseRecord(
        path=path,
        source=source,
        sha256=sha256,
        release=release,
        encoder=encoder,
        byteorder=base.byteorder,
        bytes=len(base.to_bytes()),
        types=base.type_count,
        type_bytes=base.words.nbytes,
        string_bytes=base.strings.nbytes,
        kinds=kinds,
        kind_bytes=kind_bytes,
    )
