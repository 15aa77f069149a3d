"""Columns of the tables ``types`` and ``members`` from BTF, as numpy arrays: many types at once.

Arrow is not used here: workers do not need it, and numpy arrays cross process borders without
being copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import btf

from .base import SharedBase
from .columns import concatenated
from .misses import MissRow, miss_rows
from .records import BaseRecord


@dataclass(frozen=True, slots=True)
class Texts:
    """Strings one after the other: all their bytes, and the length of each."""

    lengths: NDArray[np.int32]
    content: NDArray[np.uint8]


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


def base_columns(base: btf.BTF, known: btf.BaseFingerprints) -> TypeColumns:
    """The types of a base: object 0."""
    return _type_columns([(0, base)], [known.values[1:]], [])


def module_columns(
    modules: Sequence[tuple[int, btf.BTF]], known: btf.BaseFingerprints
) -> TypeColumns:
    """The own types of ``(object id, split BTF)`` on the base whose fingerprints are known."""
    both = [btf.both_fingerprints(types, known) for _, types in modules]
    return _type_columns(modules, [pair[0] for pair in both], [pair[1] for pair in both])


def joined(parts: Sequence[tuple[int, TypeColumns]]) -> TypeColumns:
    """The rows of several objects, given with the object id of each, which a part by itself does
    not know; there must be a part."""
    rows_before, moved = 0, []
    for object_id, part in parts:
        members = replace(part.members, owner=part.members.owner + np.uint32(rows_before))
        object_ids = np.array([object_id], np.uint32)
        moved.append(replace(part, object_ids=object_ids, members=members))
        rows_before += len(part.kind)
    return concatenated(moved)


@dataclass(frozen=True, slots=True)
class Finished:
    """A module that is done: what its rows are made of."""

    module: btf.Module
    deduplicated: btf.DedupResult
    base: SharedBase

    @property
    def split(self) -> btf.BTF:
        """Its split BTF."""
        return self.deduplicated.btf

    def misses(self) -> tuple[MissRow, ...]:
        """Why types stayed in it."""
        base = self.base
        found = btf.misses(self.module.btf, self.deduplicated, base.index, base.names)
        return miss_rows(self.split, found)


# What a worker adds to a module's result for the tables that have rows by module, and the same of
# a base; ``tables.BY_MODULE`` makes Arrow of it. The rows say nothing of the module's number or
# name in the kernel: the same result serves whatever it is called there and wherever it stands.
ROWS: Mapping[str, Callable[[Finished], Any]] = {
    "types": lambda done: module_columns([(0, done.split)], done.base.fingerprints),
    "misses": Finished.misses,
}
BASE_ROWS: Mapping[str, Callable[[btf.BTF, SharedBase], Any]] = {
    "types": lambda types, base: base_columns(types, base.fingerprints),
}


def _type_columns(
    objects: Sequence[tuple[int, btf.BTF]],
    fingerprints: Sequence[NDArray[np.uint64]],
    own_fingerprints: Sequence[NDArray[np.uint64]],
) -> TypeColumns:
    columns = [btf.columns(types) for _, types in objects]
    counts = np.array([types.type_count for _, types in objects], np.uint32)
    none = np.empty((0, 2), np.uint64)
    return TypeColumns(
        object_ids=np.array([number for number, _ in objects], np.uint32),
        counts=counts,
        start_ids=np.array([types.start_id for _, types in objects], np.uint32),
        kind=_joined([column["kind"] for column in columns], np.uint8),
        name=_texts([btf.type_names(types) for _, types in objects]),
        size=_joined([column["size"] for column in columns], np.uint32),
        bytes=_joined([column["bytes"] for column in columns], np.uint32),
        vlen=_joined([column["vlen"] for column in columns], np.uint32),
        fingerprint=np.concatenate([none, *fingerprints]),
        own_fingerprint=np.concatenate([none, *own_fingerprints]),
        members=_member_columns(objects, np.cumsum(counts) - counts),
    )


def _member_columns(
    objects: Sequence[tuple[int, btf.BTF]], firsts: NDArray[np.uint32]
) -> MemberColumns:
    """``firsts``: the row of each object's first type."""
    columns = [btf.members(types) for _, types in objects]
    owners = [column["owner"] + first for column, first in zip(columns, firsts, strict=True)]
    names = [
        btf.texts(types, column["name_off"])
        for (_, types), column in zip(objects, columns, strict=True)
    ]
    return MemberColumns(
        owner=_joined(owners, np.uint32),
        position=_joined([column["position"] for column in columns], np.uint32),
        name=_texts(names),
        type_id=_joined([column["type_id"] for column in columns], np.uint32),
        bit_offset=_joined([column["bit_offset"] for column in columns], np.uint32),
        bitfield_size=_joined([column["bitfield_size"] for column in columns], np.uint8),
        value=_joined([column["value"] for column in columns], np.uint64),
        negative=_joined([column["negative"] for column in columns], np.uint8),
    )


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)


def _texts(parts: Sequence[tuple[NDArray[np.int32], NDArray[np.uint8]]]) -> Texts:
    return Texts(
        _joined([np.diff(ends) for ends, _ in parts], np.int32),
        _joined([content for _, content in parts], np.uint8),
    )


def kind_counts(types: btf.BTF) -> tuple[dict[str, int], dict[str, int]]:
    """Own types of each kind that occurs: how many, and the bytes of their records."""
    kind = types.own_kinds
    count = np.bincount(kind)
    size = np.bincount(kind, weights=np.diff(types.offsets)) * 4
    present = np.flatnonzero(count)
    return (
        {kind_name(number): int(count[number]) for number in present},
        {kind_name(number): int(size[number]) for number in present},
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
