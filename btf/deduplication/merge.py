"""Many BTF into one: each is added to an empty BTF, then the whole is deduplicated.

That is libbpf's ``btf__new_empty``, ``btf__add_btf`` for each, ``btf__dedup``, and equals it to the
byte but for what ``docs/differences.md`` lists. The order of the inputs decides which of equal
types comes first, and so the ids: give vmlinux first.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from ..arguments import brief_repr, require
from ..edit.append import StringPool, check_addable
from ..edit.ext import BtfExt
from ..errors import BtfError
from ..types.btf import BTF, NATIVE, freeze
from .deduplicate import dedup
from .index import BaseIndex


@dataclass(frozen=True, eq=False)
class MergeResult:
    """The merged BTF, and what became of each type of each input.

    id_maps   for each input uint32: by its own numbering (void and, for split input, the base's
              types included), the id in ``btf``; made when it is asked for
    exts      the ``.BTF.ext`` of each input, as given, with the ids and string offsets of ``btf``
    """

    __repr__ = brief_repr

    btf: BTF
    id_maps: Sequence[np.ndarray]
    exts: tuple[BtfExt | None, ...] = ()


def merge(
    sources: Iterable[BTF],
    base: BTF | BaseIndex | None = None,
    *,
    exts: Sequence[BtfExt | None] = (),
    standalone: bool = False,
) -> MergeResult:
    """Merge BTF into one that holds every type once.

    sources     standalone BTF, or split BTF on ``base``, all of one byte order; each is let go of
                before the next one is asked for
    base        what the result continues, or its index where there is one; None: nothing
    exts        a ``.BTF.ext`` or None for each source, or nothing at all
    standalone  whether the result holds the types of ``base`` too, first of all, and continues
                nothing: as if the base had been the first of the sources

    Raises BtfError naming the input and its type when one cannot be merged.
    """
    require(base, (BTF, BaseIndex, type(None)), "base")
    index = base if isinstance(base, BaseIndex) else None
    below = base.base if isinstance(base, BaseIndex) else base
    sum_of = _Sum(below)
    for source in sources:
        require(source, BTF, "a source")
        sum_of.add(source)
    parts = sum_of.parts
    for ext in exts:
        require(ext, (BtfExt, type(None)), "an ext")
    if exts and len(exts) != len(parts):
        raise ValueError(f"{len(exts)} .BTF.ext given for {len(parts)} BTF")
    whole = sum_of.whole()
    del sum_of
    if standalone:
        whole, index = whole.flat, None
    try:
        result = dedup(whole, index)
    except BtfError as error:
        raise _named_input(error, whole, parts) from error
    id_maps = _IdMaps(parts, result.id_map)
    merged, moved = result.btf, []
    for ext, id_map in zip(exts, id_maps, strict=False):
        moved.append(ext.moved(merged, id_map) if ext is not None else None)
        merged = moved[-1].btf if moved[-1] is not None else merged
    last = tuple(replace(ext, btf=merged) if ext is not None else None for ext in moved)
    return MergeResult(merged, id_maps, last)


@dataclass(frozen=True, slots=True)
class _MergeInput:
    """What is kept of an input: ``first`` is the id of its first type in the sum."""

    first: int
    start_id: int
    type_count: int
    path: str | None


class _IdMaps(Sequence[np.ndarray]):
    """The id map of each input, cut out of that of the sum: a kernel has thousands, each with an
    entry for each type of the base."""

    def __init__(self, parts: Sequence[_MergeInput], whole: np.ndarray) -> None:
        """``whole``: by the numbering of the sum, its base included."""
        self._parts, self._whole = parts, whole

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, which: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, which: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(which, slice):
            return _IdMaps(self._parts[which], self._whole)
        part = self._parts[which]
        own = self._whole[part.first : part.first + part.type_count]
        return np.concatenate([self._whole[: part.start_id], own])


class _Sum:
    """BTF after BTF, appended to an empty one. Their records lie in one piece of memory."""

    def __init__(self, base: BTF | None) -> None:
        self.parts: list[_MergeInput] = []
        self._base = base
        self._pool = StringPool(base)
        self._byteorder = base.byteorder if base is not None else None
        self._next_id = base.type_end if base is not None else 1
        self._words, self._offsets = array("I"), array("I", [0])

    def add(self, source: BTF) -> None:
        """Append the own types of ``source``. Raises UnsupportedError."""
        first = self._next_id
        self._byteorder = self._byteorder or source.byteorder
        check_addable(source, self._base, self._byteorder, first, len(self._words))
        offsets = source.offsets[1:] + np.uint32(len(self._words))
        self._words.frombytes(self._pool.add_types(source, first).view(np.uint8).data)
        self._offsets.frombytes(offsets.view(np.uint8).data)
        self._next_id += source.type_count
        self.parts.append(_MergeInput(first, source.start_id, source.type_count, source.path))

    def whole(self) -> BTF:
        """All of them as one BTF: sound, since each of them is."""
        return BTF(
            words=freeze(np.frombuffer(self._words, np.uint32)),
            offsets=freeze(np.frombuffer(self._offsets, np.uint32)),
            strings=freeze(self._pool.own_strings),
            base=self._base,
            byteorder=self._byteorder or NATIVE,
            sound=True,
        )


def _named_input(error: BtfError, whole: BTF, parts: Sequence[_MergeInput]) -> BtfError:
    """The same error in terms of the input that it is about."""
    if error.type_id is None:
        return error
    for part in parts:
        own = error.type_id - part.first
        if 0 <= own < part.type_count:
            start = whole.offsets[part.first - whole.start_id]
            at = int(whole.offsets[error.type_id - whole.start_id] - start) * 4
            return type(error)(error.message, part.path, error.section, at, part.start_id + own)
    return error
