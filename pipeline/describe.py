"""Columns of the table ``types`` from BTF, as numpy arrays: many types at once, none by itself.

Arrow is not used here: workers do not need it, and numpy arrays cross process borders without
being copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import btf

from .records import BaseRecord


@dataclass(frozen=True, slots=True)
class TypeColumns:
    """Types of several objects one after the other, a row per type.

    object_ids, counts, start_ids: one entry per object, the rest one per type. ``name_bytes``
    holds all names one after the other, ``name_bytes_each`` their lengths.
    """

    object_ids: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    start_ids: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    size: NDArray[np.uint32]
    bytes: NDArray[np.uint32]
    vlen: NDArray[np.uint32]
    name_bytes_each: NDArray[np.int32]
    name_bytes: NDArray[np.uint8]


def type_columns(objects: Sequence[tuple[int, btf.BTF]]) -> TypeColumns:
    """Columns for all own types of ``(object id, BTF)``."""
    columns = [btf.columns(types) for _, types in objects]
    names = [btf.type_names(types) for _, types in objects]

    def joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
        return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)

    return TypeColumns(
        object_ids=np.array([number for number, _ in objects], np.uint32),
        counts=np.array([types.type_count for _, types in objects], np.uint32),
        start_ids=np.array([types.start_id for _, types in objects], np.uint32),
        kind=joined([column["kind"] for column in columns], np.uint8),
        size=joined([column["size"] for column in columns], np.uint32),
        bytes=joined([column["bytes"] for column in columns], np.uint32),
        vlen=joined([column["vlen"] for column in columns], np.uint32),
        name_bytes_each=joined([np.diff(ends) for ends, _ in names], np.int32),
        name_bytes=joined([text for _, text in names], np.uint8),
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
