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

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..compiled.huge_pages import pack_contiguous, power_of_two
from ..compiled.jit import compiled
from ..format import strings
from ..format.kinds import (
    ARRAY,
    ELEMENT_WORDS,
    FUNC_PROTO,
    FWD,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    STRUCT,
    TYPEDEF,
    UNION,
    VAR,
    is_enum,
    is_never_merged,
    kind_of,
)
from ..format.strings import note_hash
from ..types.btf import BTF, freeze, unknown_kind_error
from .signature import RECORD_COLUMNS, START, mix, signature
from .tables import BaseTables, fill_records

_HIGH = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)
_NAME_SEED = np.uint64(0x13198A2E03707344)

FIRST_CAPACITY = 4  # of libbpf's hash table

# Structs that no module can lay out differently from its kernel, see ``abi``.
_ABI_STRUCTS = (b"module", b"task_struct")

# How a base type stands to the others of its group.
IN_COMPANY = 0  # nothing is known: the order of trial may decide
ALONE = 1  # whatever equals it is mapped to it and to no other


@dataclass(frozen=True, eq=False)
class BaseIndex:
    """A base (all its levels as one) and its look-up tables. N types, void included.

    words       uint32: three zero words (void), then the type sections of all levels
    starts      uint32, shape (N,): by type id, position of the type's first word in ``words``
    strings     uint8: string sections of all levels; a global string offset indexes it
    string_slots    uint64, power of two: see ``strings.find_string``
    string_bits     uint64, power of two: see ``strings.may_have``
    strings_repeat  whether a string is there more than once
    group_slots     uint64, power of two: signature's upper half above, group + 1 below; 0 is free
    group_bits      uint64, power of two: see ``strings.may_have``
    group_starts    uint32, shape (G + 1,): first candidate of each group
    candidates  uint32: type ids by group, in libbpf's order of trial
    alone       uint8, shape (N,): ALONE or IN_COMPANY, see there
    named_once  uint8, shape (N,): whether a struct, union or typedef is the only one of its name,
                and whether a forward declaration's name has no struct or union
    entries, capacity   size and capacity of libbpf's table with this base in it
    name_slots  uint64, power of two: structs and unions by name: name_off above, type id + 1
                below, the id of void standing for several; 0 is free
    typedef_slots   uint64: the same for typedefs
    enum_slots  uint64: full enums that are ALONE, by content: hash's upper half above, type id
                below; 0 is free
    byteorder   of the files
    level_types number of own types of each level of the base
    """

    words: np.ndarray
    starts: np.ndarray
    strings: np.ndarray
    string_slots: np.ndarray
    string_bits: np.ndarray
    strings_repeat: bool
    group_slots: np.ndarray
    group_bits: np.ndarray
    group_starts: np.ndarray
    candidates: np.ndarray
    alone: np.ndarray
    named_once: np.ndarray
    entries: int
    capacity: int
    name_slots: np.ndarray
    typedef_slots: np.ndarray
    enum_slots: np.ndarray
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
        index = cls._from_flat(
            freeze(words),
            freeze(starts),
            freeze(all_strings),
            base.byteorder if base is not None else "",
            tuple(level.type_count for level in levels),
        )
        arrays = [f.name for f in fields(index) if isinstance(getattr(index, f.name), np.ndarray)]
        copies: Any = pack_contiguous([getattr(index, name) for name in arrays])
        return replace(index, **dict(zip(arrays, copies, strict=True)))

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
        string_slots = np.zeros(power_of_two(2 * count), np.uint64)
        repeat = strings.index_strings(all_strings, string_slots)
        string_bits = np.zeros(power_of_two(count // 8), np.uint64)
        strings.note_strings(all_strings, string_bits)

        records = np.zeros((len(starts), RECORD_COLUMNS), np.uint32)
        fill_records(records, starts)
        group_slots = np.zeros(power_of_two(2 * len(starts)), np.uint64)
        group_bits = np.zeros(power_of_two(len(starts) // 8), np.uint64)
        group_starts = np.zeros(len(starts) + 1, np.uint32)
        candidates = np.empty(len(starts), np.uint32)
        count = len(starts)
        groups, entries, capacity = _group_types(
            words,
            records,
            group_slots,
            group_bits,
            group_starts,
            candidates,
            np.full(count, -1, np.int64),
            np.empty(count, np.uint8),
            np.empty(count + 1, np.uint32),
        )
        alone = np.zeros(count, np.uint8)
        largest = int(np.diff(group_starts[: groups + 1]).max(initial=0))
        contents = np.empty(2 * largest + 1, np.uint64)
        _mark_alone(words, records, group_starts, groups, candidates, alone, contents)
        visited, stack = np.zeros(count, np.uint8), np.empty((count, 2), np.int64)
        _withdraw_alone(words, records, alone, visited, stack)
        aggregates, typedefs, enums = _count_named(words, starts)
        enum_slots = np.zeros(power_of_two(2 * enums), np.uint64)
        named_once = np.zeros(len(starts), np.uint8)
        name_slots = np.zeros(power_of_two(2 * aggregates), np.uint64)
        typedef_slots = np.zeros(power_of_two(2 * typedefs), np.uint64)
        _index_names(words, starts, alone, name_slots, typedef_slots, enum_slots)
        _mark_named_once(words, starts, name_slots, typedef_slots, named_once)
        return cls(
            words=words,
            starts=starts,
            strings=all_strings,
            string_slots=freeze(string_slots),
            string_bits=freeze(string_bits),
            strings_repeat=bool(repeat),
            group_slots=freeze(group_slots),
            group_bits=freeze(group_bits),
            group_starts=freeze(group_starts[: groups + 1].copy()),
            candidates=freeze(candidates[:entries].copy()),
            alone=freeze(alone),
            named_once=freeze(named_once),
            entries=int(entries),
            capacity=int(capacity),
            name_slots=freeze(name_slots),
            typedef_slots=freeze(typedef_slots),
            enum_slots=freeze(enum_slots),
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

    @cached_property
    def tables(self) -> BaseTables:
        """The arrays that kernels take."""
        return BaseTables(
            self.words,
            self.starts,
            self.group_slots,
            self.group_bits,
            self.group_starts,
            self.candidates,
            self.alone,
            self.named_once,
            self.name_slots,
            self.typedef_slots,
            self.enum_slots,
            self.strings,
            self.string_slots,
            self.string_bits,
            self.strings_repeat,
            self.type_end,
            self.entries,
            self.capacity,
            *(self._offset_of(name) for name in _ABI_STRUCTS),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what sharing the index costs once per machine."""
        values = (getattr(self, f.name) for f in fields(self))
        return sum(v.nbytes for v in values if isinstance(v, np.ndarray))

    def _offset_of(self, name: bytes) -> int:
        """Offset of a name in the base's strings, -1 if it lacks it."""
        text = np.frombuffer(name + b"\0", np.uint8)
        return int(strings.find_text(self.strings, self.string_slots, text))

    @cached_property
    def base(self) -> BTF | None:
        """The base as BTF (one level), sharing the index's memory."""
        if self.str_end == 0:
            return None
        offsets = np.append(self.starts[1:] - np.uint32(HEAD_WORDS), len(self.words) - HEAD_WORDS)
        return BTF(
            words=self.words[HEAD_WORDS:],
            offsets=freeze(offsets.astype(np.uint32)),
            strings=self.strings,
            byteorder=self.byteorder,
        )


@compiled
def table_is_full(entries, capacity):  # type: ignore[no-untyped-def]
    """Whether libbpf's hash table grows before its next entry."""
    return capacity == 0 or (entries + 1) * 4 // 3 > capacity


@compiled
def find_entry(slots, mask, h):  # type: ignore[no-untyped-def]
    """What is entered under hash ``h`` in the first ``mask + 1`` slots, or -1."""
    slot = np.int64(h & _LOW) & mask
    tag = h & _HIGH
    while slots[slot] != 0:
        if slots[slot] & _HIGH == tag:
            return np.int64(slots[slot] & _LOW) - 1
        slot = (slot + 1) & mask
    return np.int64(-1)


@compiled
def find_group(group_slots, h):  # type: ignore[no-untyped-def]
    """Group of candidates with signature ``h``, or -1."""
    return find_entry(group_slots, np.int64(len(group_slots) - 1), h)


@compiled
def _group_types(  # type: ignore[no-untyped-def]
    words, records, group_slots, group_bits, group_starts, candidates, group_of, parity_of, fill
):
    """Sort all base types but VAR and DATASEC into groups, each in libbpf's order of trial.

    group_of   int64, shape (N,), filled with -1; parity_of uint8, shape (N,); fill uint32, shape
               (N + 1,): room to work

    The order within a group: a type entered while the table had grown an even (odd) number of
    times went to the head of a list that later growths turned round. Seen at the end, those whose
    parity is the final one come first, newest first; the others follow, oldest first.
    """
    count = len(records)
    groups = 0
    entries = 0
    capacity = 0
    parity = np.uint8(0)
    mask = np.int64(len(group_slots) - 1)
    for type_id in range(1, count):
        kind = kind_of(words[np.int64(records[type_id, START]) + 1])
        if is_never_merged(kind):
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
            note_hash(group_bits, h)
        if table_is_full(entries, capacity):
            capacity = FIRST_CAPACITY if capacity == 0 else 2 * capacity
            parity ^= np.uint8(1)
        entries += 1
        group_of[type_id] = group
        parity_of[type_id] = parity
        group_starts[group + 1] += 1
    for group in range(groups):
        group_starts[group + 1] += group_starts[group]
        fill[group] = group_starts[group]
    for type_id in range(count - 1, 0, -1):
        if group_of[type_id] >= 0 and parity_of[type_id] == parity:
            candidates[fill[group_of[type_id]]] = type_id
            fill[group_of[type_id]] += 1
    for type_id in range(1, count):
        if group_of[type_id] >= 0 and parity_of[type_id] != parity:
            candidates[fill[group_of[type_id]]] = type_id
            fill[group_of[type_id]] += 1
    return groups, entries, capacity


@compiled
def _mark_alone(words, records, group_starts, groups, candidates, alone, contents):  # type: ignore[no-untyped-def]
    """Fill ``alone``.

    Enums share a group by name. One that is full is alone if all of its name are full and no two
    are the same.
    """
    for group in range(groups):
        first = np.int64(group_starts[group])
        size = np.int64(group_starts[group + 1]) - first
        if size == 1:
            alone[candidates[first]] = ALONE
            continue
        if not is_enum(kind_of(words[np.int64(records[np.int64(candidates[first]), START]) + 1])):
            continue
        room = 2 * size
        for slot in range(room):
            contents[slot] = 0
        all_differ = True
        for i in range(size):
            at = np.int64(records[np.int64(candidates[first + i]), START])
            if words[at + 1] & INFO_VLEN_MASK == 0:
                all_differ = False
                break
            h = enum_content(words, at) | np.uint64(1)
            slot = np.int64(h & _LOW) % room
            while contents[slot] != 0 and contents[slot] != h:
                slot = (slot + 1) % room
            if contents[slot] == h:
                all_differ = False
                break
            contents[slot] = h
        if all_differ:
            for i in range(size):
                alone[candidates[first + i]] = ALONE


@compiled
def _is_reference(kind):  # type: ignore[no-untyped-def]
    """Kinds that are compared by all their words once what they refer to is settled."""
    if kind == TYPEDEF or kind == FWD or kind == VAR:
        return False
    return HEAD_IS_REF[kind] != 0 or kind == ARRAY


@compiled
def _withdraw_alone(words, records, alone, visited, stack):  # type: ignore[no-untyped-def]
    """A reference type is ALONE only if all reference types behind it are.

    Where the base has a pointer twice, the module's is mapped to the one that is tried first, and
    what refers to the other one then equals nothing in the module. Reference types in a circle
    (which no compiler makes) are never settled at all.

    visited  uint8, shape (N,), zeros: 1 is on the stack, 2 is done
    stack    int64, shape (N, 2): room to work
    """
    count = len(records)
    for start in range(1, count):
        info = words[np.int64(records[start, START]) + 1]
        if visited[start] != 0 or not _is_reference(kind_of(info)):
            continue
        stack[0, 0] = start
        stack[0, 1] = 0
        visited[start] = 1
        top = 1
        while top > 0:
            type_id = stack[top - 1, 0]
            step = stack[top - 1, 1]
            at = np.int64(records[type_id, START])
            info = words[at + 1]
            kind = kind_of(info)
            references = 2 if kind == ARRAY else 1
            if kind == FUNC_PROTO:
                references += np.int64(info & INFO_VLEN_MASK)
            if step == references:
                visited[type_id] = 2
                top -= 1
                if top > 0 and alone[type_id] != ALONE:
                    alone[stack[top - 1, 0]] = IN_COMPANY
                continue
            stack[top - 1, 1] = step + 1
            word = at + 2
            if kind == ARRAY:
                word = at + HEAD_WORDS + step
            elif step > 0:
                word = at + HEAD_WORDS + 2 * step - 1
            referred = np.int64(words[word])
            if not _is_reference(kind_of(words[np.int64(records[referred, START]) + 1])):
                continue
            if visited[referred] == 1 or (visited[referred] == 2 and alone[referred] != ALONE):
                alone[type_id] = IN_COMPANY
            elif visited[referred] == 0:
                visited[referred] = 1
                stack[top, 0] = referred
                stack[top, 1] = 0
                top += 1


@compiled
def enum_content(words, at):  # type: ignore[no-untyped-def]
    """Hash of all words of the enum that starts at ``at``."""
    info = words[at + 1]
    h = mix(mix(mix(_NAME_SEED, words[at]), info), words[at + 2])
    end = at + HEAD_WORDS + np.int64(info & INFO_VLEN_MASK) * ELEMENT_WORDS[kind_of(info)]
    for word in range(at + HEAD_WORDS, end):
        h = mix(h, words[word])
    return h


@compiled
def enter_content(slots, mask, h, value):  # type: ignore[no-untyped-def]
    """Enter ``value`` (not 0) under hash ``h``; returns its slot. Others may have the same hash."""
    slot = np.int64(h & _LOW) & mask
    while slots[slot] != 0:
        slot = (slot + 1) & mask
    slots[slot] = (h & _HIGH) | np.uint64(value)
    return slot


@compiled
def next_content(slots, mask, h, slot):  # type: ignore[no-untyped-def]
    """(value, slot after it) of the next entry under ``h``; value 0 at the end. Start with -1."""
    if slot < 0:
        slot = np.int64(h & _LOW)
    slot &= mask
    while slots[slot] != 0:
        if slots[slot] & _HIGH == h & _HIGH:
            return np.int64(slots[slot] & _LOW), slot + 1
        slot = (slot + 1) & mask
    return np.int64(0), slot


@compiled
def _count_named(words, starts):  # type: ignore[no-untyped-def]
    """How many structs and unions, typedefs, and enums there are."""
    aggregates = 0
    typedefs = 0
    enums = 0
    for type_id in range(1, len(starts)):
        kind = kind_of(words[np.int64(starts[type_id]) + 1])
        if kind == STRUCT or kind == UNION:
            aggregates += 1
        elif kind == TYPEDEF:
            typedefs += 1
        elif is_enum(kind):
            enums += 1
    return aggregates, typedefs, enums


@compiled
def name_slot(name_slots, name):  # type: ignore[no-untyped-def]
    """The slot of a name, or the free one where it goes."""
    mask = np.int64(len(name_slots) - 1)
    slot = np.int64(mix(_NAME_SEED, name) & _LOW) & mask
    while name_slots[slot] != 0 and name_slots[slot] >> np.uint64(32) != np.uint64(name):
        slot = (slot + 1) & mask
    return slot


@compiled
def enter_name(name_slots, name, type_id):  # type: ignore[no-untyped-def]
    """Enter a type under its name; a second type of the name makes the name ambiguous."""
    slot = name_slot(name_slots, name)
    value = np.uint64(type_id + 1) if name_slots[slot] == 0 else np.uint64(1)
    name_slots[slot] = (np.uint64(name) << np.uint64(32)) | value


@compiled
def find_name(name_slots, name):  # type: ignore[no-untyped-def]
    """The type of that name; 0 if there are several, -1 if there is none."""
    return np.int64(name_slots[name_slot(name_slots, name)] & _LOW) - 1


@compiled
def _index_names(words, starts, alone, name_slots, typedef_slots, enum_slots):  # type: ignore[no-untyped-def]
    for type_id in range(1, len(starts)):
        at = np.int64(starts[type_id])
        kind = kind_of(words[at + 1])
        if kind == STRUCT or kind == UNION:
            enter_name(name_slots, words[at], type_id)
        elif kind == TYPEDEF:
            enter_name(typedef_slots, words[at], type_id)
        elif is_enum(kind) and alone[type_id] == ALONE:
            if words[at + 1] & INFO_VLEN_MASK != 0:
                mask = np.int64(len(enum_slots) - 1)
                enter_content(enum_slots, mask, enum_content(words, at), type_id)


@compiled
def _mark_named_once(words, starts, name_slots, typedef_slots, named_once):  # type: ignore[no-untyped-def]
    for table in range(2):
        slots = name_slots if table == 0 else typedef_slots
        for at in range(len(slots)):
            slot = slots[at]
            type_id = np.int64(slot & _LOW) - 1
            if slot >> np.uint64(32) != 0 and type_id > 0:
                named_once[type_id] = 1
    for type_id in range(1, len(starts)):
        at = np.int64(starts[type_id])
        if kind_of(words[at + 1]) == FWD and find_name(name_slots, words[at]) < 0:
            named_once[type_id] = 1
