"""BaseIndex: everything dedup needs to know of a base, computed once and shared read-only.

libbpf hashes the whole base again for each module. Here the base is indexed once, into flat
arrays without pointers, so that they can lie in shared memory and be mapped by any number of
processes. What a module then costs depends on that module alone.

The order of candidates is part of the contract with libbpf: it keeps them in a chained hash table
where a new entry goes to the head of its chain and every growth of the table reverses the order
of entries with the same key. For the base that order is settled when the index is built
(``candidates``); ``entries`` and ``capacity`` say where the table stands, so that the next growth
comes at the same entry as in libbpf.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from . import kinds, strings
from .errors import UnsupportedError
from .jit import kernel
from .kinds import DATASEC, HEAD_WORDS, STRUCT, UNION, VAR
from .signature import CANONICAL, RECORD_COLUMNS, START, kind_of, mix, signature
from .table import BTF, freeze

_HIGH = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)
_NAME_SEED = np.uint64(0x13198A2E03707344)

FIRST_CAPACITY = 4  # of libbpf's hash table


@dataclass(frozen=True, eq=False)
class BaseIndex:
    """A base (all its levels as one) and its look-up tables. N types, void included.

    words       uint32: three zero words (void), then the type sections of all levels
    starts      uint32, shape (N,): by type id, position of the type's first word in ``words``
    strings     uint8: string sections of all levels; a global string offset indexes it
    string_slots    uint64, power of two: see ``strings.find_string``
    strings_repeat  whether a string is there more than once
    group_slots     uint64, power of two: signature's upper half above, group + 1 below; 0 is free
    group_starts    uint32, shape (G + 1,): first candidate of each group
    candidates  uint32: type ids by group, in libbpf's order of trial
    entries, capacity   size and capacity of libbpf's table with this base in it
    name_slots  uint64, power of two: structs and unions by name: name_off above, type id + 1
                below, the id of void standing for several; 0 is free
    byteorder   of the files
    """

    words: np.ndarray
    starts: np.ndarray
    strings: np.ndarray
    string_slots: np.ndarray
    strings_repeat: bool
    group_slots: np.ndarray
    group_starts: np.ndarray
    candidates: np.ndarray
    entries: int
    capacity: int
    name_slots: np.ndarray
    byteorder: str
    level_types: tuple[int, ...]

    @classmethod
    def build(cls, base: BTF | None) -> BaseIndex:
        """Index a base; ``None`` stands for no base (only void): plain dedup.

        Raises UnsupportedError when the base has kinds that only a layout section describes.
        """
        levels = base.levels if base is not None else []
        for level in levels:
            if level.has_unknown_kinds:
                raise unknown_kind_error(level)
        words = np.concatenate([np.zeros(HEAD_WORDS, np.uint32), *(lv.words for lv in levels)])
        starts = np.zeros(base.type_end if base is not None else 1, np.uint32)
        at, first = HEAD_WORDS, 1
        for level in levels:
            starts[first : first + level.type_count] = level.offsets[:-1] + np.uint32(at)
            at += len(level.words)
            first += level.type_count
        all_strings = np.concatenate([np.zeros(0, np.uint8), *(lv.strings for lv in levels)])
        return cls._from_flat(
            freeze(words),
            freeze(starts),
            freeze(all_strings),
            base.byteorder if base is not None else "",
            tuple(level.type_count for level in levels),
        )

    @classmethod
    def _from_flat(
        cls,
        words: np.ndarray,
        starts: np.ndarray,
        all_strings: np.ndarray,
        byteorder: str,
        level_types: tuple[int, ...],
    ) -> BaseIndex:
        count = strings.count_strings(all_strings)
        string_slots = np.zeros(_power_of_two(2 * count), np.uint64)
        repeat = strings.index_strings(all_strings, string_slots)

        records = new_records(starts, len(starts))
        group_slots = np.zeros(_power_of_two(2 * len(starts)), np.uint64)
        group_starts = np.zeros(len(starts) + 1, np.uint32)
        candidates = np.empty(len(starts), np.uint32)
        groups, entries, capacity = _group_types(
            words, records, group_slots, group_starts, candidates
        )
        named = _count_named_aggregates(words, starts)
        name_slots = np.zeros(_power_of_two(2 * named), np.uint64)
        _index_names(words, starts, name_slots)
        return cls(
            words=words,
            starts=starts,
            strings=all_strings,
            string_slots=freeze(string_slots),
            strings_repeat=bool(repeat),
            group_slots=freeze(group_slots),
            group_starts=freeze(group_starts[: groups + 1].copy()),
            candidates=freeze(candidates[:entries].copy()),
            entries=int(entries),
            capacity=int(capacity),
            name_slots=freeze(name_slots),
            byteorder=byteorder,
            level_types=level_types,
        )

    @property
    def type_end(self) -> int:
        """Number of types, void included: the first own id of a module on this base."""
        return len(self.starts)

    @property
    def str_end(self) -> int:
        """Bytes of strings: the first own string offset of a module on this base."""
        return len(self.strings)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what sharing the index costs once per machine."""
        values = (getattr(self, f.name) for f in fields(self))
        return sum(v.nbytes for v in values if isinstance(v, np.ndarray))

    @cached_property
    def base(self) -> BTF | None:
        """The base as BTF (one level), sharing the index's memory."""
        if self.type_end == 1:
            return None
        offsets = np.append(self.starts[1:] - np.uint32(HEAD_WORDS), len(self.words) - HEAD_WORDS)
        return BTF(
            words=self.words[HEAD_WORDS:],
            offsets=freeze(offsets.astype(np.uint32)),
            strings=self.strings,
            byteorder=self.byteorder,
        )


def unknown_kind_error(level: BTF) -> UnsupportedError:
    """The refusal for a BTF with kinds whose meaning is not known."""
    index = int(np.flatnonzero(level.own_kinds > kinds.MAX_KIND)[0])
    return UnsupportedError(
        f"kind {level.own_kinds[index]} is described by the layout section only: "
        "it can be read and written, but not deduplicated",
        level.path,
        "types",
        int(level.offsets[index]) * 4,
        level.start_id + index,
    )


def new_records(starts: np.ndarray, capacity: int) -> np.ndarray:
    """Table of records (see ``signature``) with the base's rows filled: uint32, (capacity, 4)."""
    records = np.zeros((capacity, RECORD_COLUMNS), np.uint32)
    records[: len(starts), START] = starts
    records[: len(starts), CANONICAL] = np.arange(len(starts), dtype=np.uint32)
    return records


def _power_of_two(at_least: int) -> int:
    return 1 << max(4, (at_least - 1).bit_length())


@kernel
def table_is_full(entries, capacity):  # type: ignore[no-untyped-def]
    """Whether libbpf's hash table grows before its next entry."""
    return capacity == 0 or (entries + 1) * 4 // 3 > capacity


@kernel
def find_group(group_slots, h):  # type: ignore[no-untyped-def]
    """Group of candidates with signature ``h``, or -1."""
    mask = np.int64(len(group_slots) - 1)
    slot = np.int64(h & _LOW) & mask
    tag = h & _HIGH
    while group_slots[slot] != 0:
        if group_slots[slot] & _HIGH == tag:
            return np.int64(group_slots[slot] & _LOW) - 1
        slot = (slot + 1) & mask
    return np.int64(-1)


@kernel
def _group_types(words, records, group_slots, group_starts, candidates):  # type: ignore[no-untyped-def]
    """Sort all base types but VAR and DATASEC into groups, each in libbpf's order of trial.

    The order within a group: a type entered while the table had grown an even (odd) number of
    times went to the head of a list that later growths turned round. Seen at the end, those whose
    parity is the final one come first, newest first; the others follow, oldest first.
    """
    count = len(records)
    group_of = np.full(count, -1, np.int64)
    parity_of = np.zeros(count, np.uint8)
    groups = 0
    entries = 0
    capacity = 0
    parity = np.uint8(0)
    mask = np.int64(len(group_slots) - 1)
    for type_id in range(1, count):
        kind = kind_of(words[np.int64(records[type_id, START]) + 1])
        if kind == VAR or kind == DATASEC:
            continue
        h = signature(words, words, records, type_id)
        group = find_group(group_slots, h)
        if group < 0:
            group = groups
            groups += 1
            slot = np.int64(h & _LOW) & mask
            while group_slots[slot] != 0:
                slot = (slot + 1) & mask
            group_slots[slot] = (h & _HIGH) | np.uint64(groups)
        if table_is_full(entries, capacity):
            capacity = FIRST_CAPACITY if capacity == 0 else 2 * capacity
            parity ^= np.uint8(1)
        entries += 1
        group_of[type_id] = group
        parity_of[type_id] = parity
        group_starts[group + 1] += 1
    for group in range(groups):
        group_starts[group + 1] += group_starts[group]
    fill = group_starts[: groups + 1].copy()
    for type_id in range(count - 1, 0, -1):
        if group_of[type_id] >= 0 and parity_of[type_id] == parity:
            candidates[fill[group_of[type_id]]] = type_id
            fill[group_of[type_id]] += 1
    for type_id in range(1, count):
        if group_of[type_id] >= 0 and parity_of[type_id] != parity:
            candidates[fill[group_of[type_id]]] = type_id
            fill[group_of[type_id]] += 1
    return groups, entries, capacity


@kernel
def _count_named_aggregates(words, starts):  # type: ignore[no-untyped-def]
    count = 0
    for type_id in range(1, len(starts)):
        kind = kind_of(words[np.int64(starts[type_id]) + 1])
        if kind == STRUCT or kind == UNION:
            count += 1
    return count


@kernel
def enter_name(name_slots, name, type_id):  # type: ignore[no-untyped-def]
    """Enter a struct or union under its name; a second one of the name makes it ambiguous."""
    mask = np.int64(len(name_slots) - 1)
    slot = np.int64(mix(_NAME_SEED, name) & _LOW) & mask
    while name_slots[slot] != 0:
        if name_slots[slot] >> np.uint64(32) == np.uint64(name):
            name_slots[slot] = (np.uint64(name) << np.uint64(32)) | np.uint64(1)
            return
        slot = (slot + 1) & mask
    name_slots[slot] = (np.uint64(name) << np.uint64(32)) | np.uint64(type_id + 1)


@kernel
def find_name(name_slots, name):  # type: ignore[no-untyped-def]
    """The struct or union of that name; 0 if there are several, -1 if there is none."""
    mask = np.int64(len(name_slots) - 1)
    slot = np.int64(mix(_NAME_SEED, name) & _LOW) & mask
    while name_slots[slot] != 0:
        if name_slots[slot] >> np.uint64(32) == np.uint64(name):
            return np.int64(name_slots[slot] & _LOW) - 1
        slot = (slot + 1) & mask
    return np.int64(-1)


@kernel
def _index_names(words, starts, name_slots):  # type: ignore[no-untyped-def]
    for type_id in range(1, len(starts)):
        at = np.int64(starts[type_id])
        kind = kind_of(words[at + 1])
        if kind == STRUCT or kind == UNION:
            enter_name(name_slots, words[at], type_id)
