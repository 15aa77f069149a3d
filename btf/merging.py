"""Many BTF into one: each is added to an empty BTF, then the whole is deduplicated.

That is libbpf's ``btf__new_empty``, ``btf__add_btf`` for each, ``btf__dedup``, and equals it to the
byte but for what ``docs/differences.md`` lists. The order of the inputs decides which of equal
types comes first, and so the ids: give vmlinux first.

It is done in batches, so that memory is for the result and one of them, not for all inputs: see
``deduplication.batches``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import overload

import numpy as np

from .arguments import brief_repr, require
from .compiled.growing import GrowingArray
from .compiled.huge_pages import power_of_two
from .compiled.jit import drop_flattened
from .compiled.target import CHECKED
from .deduplication.batches import count_primitives, enter_hashes, resume
from .deduplication.classes import classify
from .deduplication.core import FAULTS, FRAMES_PER_TYPE, MAX_EPOCHS, too_alike
from .deduplication.deduplicate import plain_index
from .deduplication.index import BaseIndex
from .deduplication.passes import dedup_whole
from .deduplication.signature import EPOCH
from .deduplication.state import (
    BATCH,
    BOUND,
    CLASSIFIED,
    CROWDED,
    CURRENT_EPOCH,
    DONE,
    LAST,
    MORE_COME,
    MORE_FRAMES,
    PRIMITIVES_TO_COME,
    SETTLED,
    SIGNED,
    TOO_ALIKE,
)
from .deduplication.tables import Scratch, batch_scratch
from .edit.append import StringPool, check_addable
from .edit.ext import BtfExt
from .edit.fields import fields
from .errors import BtfError
from .format import kinds
from .format.header import check_total
from .format.strings import ABSENT
from .types.btf import BTF, NATIVE, freeze

#: Words of types that make a batch; later batches are a sixth of what there is by then.
BATCH_WORDS = 1 << 20

_NO_BYTES = np.zeros(0, np.uint8)


@dataclass(frozen=True, eq=False)
class MergeResult:
    """The merged BTF, and what became of each type of each input.

    id_maps   for each input uint32: by its own numbering (void and, for split input, the base's
              types included), the id in ``btf``; made when it is asked for. Empty if not wanted
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
    id_maps: bool = True,
) -> MergeResult:
    """Merge BTF into one that holds every type once.

    sources     standalone BTF, or split BTF on ``base``, all of one byte order; each is let go of
                before the next one is asked for
    base        what the result continues, or its index where there is one; None: nothing
    exts        a ``.BTF.ext`` or None for each source, or nothing at all
    standalone  whether the result holds the types of ``base`` too, first of all, and continues
                nothing: as if the base had been the first of the sources
    id_maps     whether they are wanted: they take 4 bytes for each type of each source

    Raises BtfError naming the input and its type when one cannot be merged.
    """
    require(base, (BTF, BaseIndex, type(None)), "base")
    for ext in exts:
        require(ext, (BtfExt, type(None)), "an ext")
    index = base if isinstance(base, BaseIndex) else None
    below = base.base if isinstance(base, BaseIndex) else base
    keep_ids = id_maps or bool(exts)
    if standalone or below is None:
        whole = _Sum(None, plain_index(), keep_ids)
        if below is not None:
            whole.add_base(below)
    else:
        index = index or BaseIndex.build(below)
        whole = _Sum(below, index, keep_ids)
    entered = None if standalone or index is None else index.entries
    del base, index
    whole.add_all(list(sources) if isinstance(sources, Iterator) else sources, below, entered)
    del below  # of what is standalone, the last batch needs nothing more
    if exts and len(exts) != len(whole.parts):
        raise ValueError(f"{len(exts)} .BTF.ext given for {len(whole.parts)} BTF")
    merged, moved = whole.finish(), []
    maps = _IdMaps(whole, whole.parts)
    for ext, id_map in zip(exts, maps, strict=False):
        moved.append(ext.moved(merged, id_map) if ext is not None else None)
        merged = moved[-1].btf if moved[-1] is not None else merged
    last = tuple(replace(ext, btf=merged) if ext is not None else None for ext in moved)
    return MergeResult(merged, maps if id_maps else (), last)


def _count_primitives(sources: Iterable[BTF], base: BTF | None, entered: int | None) -> int:
    """Count the entries of libbpf's table before the first struct of a merge.

    base      what comes before the sources, if anything does
    entered   how many entries it makes if the result continues it; None: it is merged with them
    """
    flat = base.flat if base is not None else None
    seed = np.uint64(int.from_bytes(os.urandom(8), "little"))
    seen, count = np.zeros(16, np.uint64), 0
    for source in chain([] if flat is None else [flat], sources):
        primitives = int(kinds.IS_PRIMITIVE[source.own_kinds].sum())
        most = int(np.count_nonzero(seen)) + 2 * primitives
        if 2 * most > len(seen):
            before, seen = seen, np.zeros(power_of_two(4 * most), np.uint64)
            enter_hashes(before, seen)
        below = flat.strings if flat is not None and source.base is not None else _NO_BYTES
        count = count_primitives(
            source.words, source.offsets, below, source.strings, seed, seen, count
        )
        if source is flat and entered is not None:
            count = entered
    return count


@dataclass(slots=True)
class _Part:
    """What is kept of an input.

    first   own id of its first type in the sum, until its batch is done
    ids     uint32: from then on, by own type of the input, the id in the sum; None if not wanted
    """

    first: int
    start_id: int
    type_count: int
    path: str | None
    ids: np.ndarray | None = None

    def ids_in_sum(self) -> np.ndarray:
        """By own type of the input, its id in the sum as it is now."""
        if self.ids is not None:
            return self.ids
        return np.arange(self.first, self.first + self.type_count, dtype=np.uint32)


class _IdMaps(Sequence[np.ndarray]):
    """The id map of each input, made when it is asked for: a kernel has thousands, each with an
    entry for each type of the base."""

    def __init__(self, whole: _Sum, parts: Sequence[_Part]) -> None:
        self._whole, self._parts = whole, parts

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, which: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, which: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(which, slice):
            return _IdMaps(self._whole, self._parts[which])
        return self._whole.ids_of(self._parts[which])


class _Sum:
    """BTF after BTF, appended to an empty one, and deduplicated batch by batch."""

    def __init__(self, base: BTF | None, index: BaseIndex, keep_ids: bool) -> None:
        """``index``: of the base. ``keep_ids``: whether parts are to know their ``ids``."""
        self.parts: list[_Part] = []
        self.primitives = 0  # entries of libbpf's table before the first struct; 0: not counted
        self.last_ids = np.arange(index.type_end, dtype=np.uint32)  # by id before the last batch
        self._base = self._below = base  # of the sum, and of split sources
        self._base_part: _Part | None = None  # where the sum holds what sources continue
        self._base_ids: np.ndarray | None = None  # by type of that, its id in the sum, where others
        # By name in that, see ``_names_in_sum``, the name in the sum, once they are needed: in what
        # libbpf wrote they are the same.
        self._base_names: np.ndarray | None = None
        self._renamed = False
        self._index, self._keep_ids = index, keep_ids
        self._pool = StringPool(base)
        self._byteorder = base.byteorder if base is not None else None
        self._elf_pointer_size = 0
        self._words, self._offsets = GrowingArray(np.uint32), GrowingArray(np.uint32)
        self._signatures, self._signed = GrowingArray(np.uint64), 0
        self._bound = np.zeros((0, 2), np.uint32)
        self._count = self._length = 0  # own types, and their words
        self._settled = self._settled_length = 0  # of these, what earlier batches left
        self._batch: list[_Part] = []
        # Standalone sources repeat what the base has, so a small result takes many batches: then
        # what serves a batch, and what finds strings, is kept for the next one.
        self._repeating = False
        self._scratch: Scratch | None = None
        self._frames = 1 << 12

    def add_base(self, base: BTF) -> None:
        """Append the types of ``base``, which later sources may continue."""
        flat = base.flat
        self._base_part = self._append(flat)
        words = self._words.all[: self._length]
        self._renamed = not (
            np.array_equal(words, flat.words)
            and np.array_equal(self._pool.own_strings, flat.strings)
        )
        self._below = base
        if self._renamed:
            self._map_names(flat)

    def _map_names(self, flat: BTF) -> None:
        """Fill ``_base_names``, while the sum begins with all types of its sources' base."""
        names, _ = fields(flat.words, flat.offsets[:-1], flat.offsets[1:])
        self._base_names = np.full(len(flat.strings) // 2 + 1, ABSENT, np.uint32)
        names = names[flat.strings[flat.words[names].astype(np.int64) - 1] == 0]
        names = names[flat.strings[flat.words[names]] != 0]
        self._base_names[(flat.words[names] + 1) >> 1] = self._words.all[names]

    def _names_in_sum(self, names: np.ndarray) -> np.ndarray:
        """By name of what sources continue, the name in the sum; ABSENT where no type of that has
        it, or it begins inside of a string.

        names   uint32; others that begin a string are two bytes away, so half of them make an index
        """
        assert self._below is not None
        strings = self._below.chain_strings
        if self._base_names is None:
            self._map_names(self._below.flat)
        assert self._base_names is not None
        found = self._base_names[(names + 1) >> 1]
        found[strings[names.astype(np.int64) - 1] != 0] = ABSENT
        found[strings[names] == 0] = 0
        return found

    def add_all(self, sources: Iterable[BTF], below: BTF | None, entered: int | None) -> None:
        """Append the own types of ``sources``, and deduplicate all but the last batch.

        below, entered   see ``_count_primitives``

        Raises BtfError.
        """
        for source in sources:
            require(source, BTF, "a source")
            self._repeating = source.base is None
            part = self._append(source)
            if self._keep_ids:
                self.parts.append(part)
            if self.has_batch():
                if not self._repeating:
                    self._pool.close()  # not to have that beside what counts
                self.primitives = self.primitives or _count_primitives(sources, below, entered)
                self.dedup(MORE_COME)

    def has_batch(self) -> bool:
        """Whether what was added makes a batch."""
        return self._length - self._settled_length > max(BATCH_WORDS, self._settled_length // 6)

    def finish(self) -> BTF:
        """Deduplicate the last batch; returns the sum. Raises BtfError."""
        self._below = self._base_names = None
        self.dedup(LAST)
        return BTF(
            words=freeze(self._words.all[: self._length]),
            offsets=freeze(self._offsets.all[: self._count + 1]),
            strings=freeze(self._pool.own_strings),
            base=self._base,
            byteorder=self._byteorder or NATIVE,
            elf_pointer_size=self._elf_pointer_size,
            sound=True,
        )

    def ids_of(self, part: _Part) -> np.ndarray:
        """By id in an input, void and its base included, the id in the whole: uint32."""
        below = np.arange(part.start_id, dtype=np.uint32)
        if self._base_part is not None:
            below[1:] = self.last_ids[self._base_part.ids_in_sum()[: part.start_id - 1]]
        return np.concatenate([below, self.last_ids[part.ids_in_sum()]])

    def _append(self, source: BTF) -> _Part:
        first = self._index.type_end + self._count
        self._byteorder = self._byteorder or source.byteorder
        self._elf_pointer_size = self._elf_pointer_size or source.elf_pointer_size
        check_addable(source, self._below, self._byteorder, first, self._length)
        if self._base_part is not None and source.base is not None:
            words = self._add_on_base_part(source, first)
        else:
            words = self._pool.add_types(source, first)
        count, length = self._count + source.type_count, self._length + len(words)
        self._words.reserve(length)
        self._words.all[self._length : length] = words
        self._offsets.reserve(count + 1)
        np.add(
            source.offsets, np.uint32(self._length), out=self._offsets.all[self._count : count + 1]
        )
        self._count, self._length = count, length
        part = _Part(first, source.start_id, source.type_count, source.path)
        self._batch.append(part)
        return part

    def _add_on_base_part(self, source: BTF, first: int) -> np.ndarray:
        """The types of a source as they read in the sum, with what is its base's as it is there."""
        start = source.start_id
        if not self._renamed and self._base_ids is None and first >= start:
            return self._pool.add_types(source, first)
        names, refs = fields(source.words, source.offsets[:-1], source.offsets[1:])
        names = names[source.words[names] < source.start_str_off]
        found = self._names_in_sum(source.words[names]) if self._renamed else None
        # A string that is the name of no type of the base is looked for like those of the source.
        flat = source.chain_strings if found is not None and np.any(found == ABSENT) else None
        words = self._pool.add_types(source, start, flat)
        if found is not None and flat is None:
            words[names] = found
        referred = source.words[refs].astype(np.int64)
        own = referred >= start
        words[refs[own]] = referred[own] + (first - start)
        if self._base_ids is not None:
            words[refs[~own]] = self._base_ids[referred[~own]]
        return words

    def dedup(self, batch: int) -> None:
        """Deduplicate the batch, ``MORE_COME`` or the ``LAST``. Raises BtfError."""
        if not self._repeating or batch == LAST:
            self._pool.close()
        if self._base_part not in self._batch and self._base_ids is None:
            self._base_names = None
        scratch, count, length = self._run(batch)
        if not self._repeating or batch == LAST:
            self._scratch = None  # nor is there any while types are added
        new_ids = scratch.new_ids[: self._count]
        if batch == LAST and self._keep_ids:
            bound = scratch.bound[: scratch.state[BOUND]]
            self.last_ids[bound[:, 0]] = bound[:, 1]
            self.last_ids = np.concatenate([self.last_ids, new_ids])
        for part in self._batch if batch != LAST else ():
            if self._keep_ids or part is self._base_part:
                start = part.first - self._index.type_end
                part.ids = new_ids[start : start + part.type_count].copy()
            if part is self._base_part and part.ids is not None:
                ids = np.concatenate([np.zeros(1, np.uint32), part.ids])
                self._base_ids = ids if np.any(ids != np.arange(len(ids))) else None
        self._bound = scratch.bound[: scratch.state[BOUND]].copy()
        self._signed = int(scratch.state[SIGNED])
        self._count = self._settled = count
        self._length = self._settled_length = length
        self._batch.clear()

    def _run(self, batch: int) -> tuple[Scratch, int, int]:
        """Run a batch through the passes: (scratch, own types and their words from then on)."""
        first_own = self._index.type_end
        words = len(self._index.words) + self._length  # positions count through both
        check_total(first_own + self._count, words, self._pool.end)
        code = DONE
        while True:
            scratch = self._prepare(batch)
            offsets, tables = self._offsets.all[: self._count + 1], self._index.tables
            if code == CROWDED:
                resume(tables, scratch, offsets, first_own)
                tables = classify(tables, scratch, self._count)
                scratch.state[CLASSIFIED] = 1
            code, at, count, length, _, _ = dedup_whole(
                tables, scratch, self._words.all, offsets, _NO_BYTES, False, False
            )
            scratch.state[CLASSIFIED] = 0
            drop_flattened(scratch)
            drop_flattened(tables)
            if code == DONE:
                return scratch, int(count), int(length)
            if code == MORE_FRAMES:
                most = FRAMES_PER_TYPE * (first_own + self._count) + self._length
                if self._frames >= most:
                    raise too_alike("memory", None)
                self._frames, self._scratch = min(4 * self._frames, most), None
            elif code == TOO_ALIKE:
                raise too_alike("time", None)
            elif code != CROWDED:
                raise self._named_input(FAULTS[code], at)

    def _prepare(self, batch: int) -> Scratch:
        """Scratch memory for the batch, with what earlier ones left."""
        count = self._count
        self._signatures.reserve(count)
        if self._scratch is None or count > len(self._scratch.remaining):
            self._scratch = None  # before there is more
            room = count + count // 8 if self._repeating and not CHECKED else count
            self._scratch = batch_scratch(self._index.starts, room, self._frames)
        scratch = self._scratch._replace(
            own=self._words.all, out=self._words.all, out_offsets=self._offsets.all,
            signatures=self._signatures.all,
        )  # fmt: skip
        scratch.bound[: len(self._bound)] = self._bound
        state = scratch.state
        state[BATCH], state[SETTLED] = batch, self._settled
        state[PRIMITIVES_TO_COME] = self.primitives
        state[SIGNED], state[BOUND] = self._signed, len(self._bound)
        if state[CURRENT_EPOCH] > MAX_EPOCHS:
            scratch.records[:, EPOCH] = 0
            state[CURRENT_EPOCH] = 0
        return scratch

    def _named_input(self, message: str, type_id: int) -> BtfError:
        """The error about a type of the batch, in terms of its input."""
        for part in self._batch:
            own = type_id - part.first
            if 0 <= own < part.type_count:
                number = part.first - self._index.type_end
                at = int(self._offsets.all[number + own] - self._offsets.all[number]) * 4
                return BtfError(message, part.path, "types", at, part.start_id + own)
        return BtfError(message, None, "types", None, type_id)


def prepare() -> None:
    """Compile what only larger sums need than any that is merged for this."""
    none = _Sum(None, plain_index(), False)
    none.dedup(MORE_COME)
    _count_primitives([none.finish()], None, None)
