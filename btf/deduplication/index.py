"""BaseIndex: everything dedup needs to know of a base, computed once and shared read-only.

libbpf hashes the whole base again for each module. Here the base is indexed once, into flat
arrays without pointers, so that they can lie in shared memory and be mapped by any number of
processes. What a module then costs depends on that module alone.

The order of candidates is part of the contract with libbpf: it keeps them in a chained hash table
where a new entry goes to the head of its chain and every growth of the table reverses the order
of entries with the same key. For the base that order is settled when the index is built
(``candidates``); ``entries`` and ``capacity`` say where the table stands, so that the next growth
comes at the same entry as in libbpf.

Parameters used throughout:

words    uint32: the base's type sections, see ``BaseIndex``
starts   uint32, shape (N,): by type id, position of the type's first word in ``words``
records  uint32, shape (N, RECORD_COLUMNS): the same position and more, see ``signature``
at       position of a type's first word
seed     uint64: of the hashes, see ``format.strings.new_slots``
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any
from weakref import WeakSet

import numpy as np

from ..arguments import require, takes
from ..compiled.huge_pages import pack_contiguous, power_of_two
from ..compiled.jit import compiled
from ..edit.append import same_base
from ..format import strings
from ..format.kinds import (
    ARRAY,
    ELEMENT_WORDS,
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
from ..format.records import reference_at, reference_count
from ..format.strings import note_hash
from ..types.btf import BTF, freeze, unknown_kind_error
from .hash_tables import (
    FIRST_CAPACITY,
    enter_content,
    enter_name,
    find_group,
    find_name,
    table_is_full,
)
from .signature import RECORD_COLUMNS, START, mix, signature
from .tables import BaseTables, fill_records

_LOW = np.uint64(0xFFFFFFFF)

# Structs that no module can lay out differently from its kernel, see ``passes.clashing_struct``.
_ABI_STRUCTS = (b"module", b"task_struct")

# Whether an equal type can be mapped to another base type than this one.
AMBIGUOUS = 0  # perhaps: the order of trial decides
UNIQUE = 1  # no: it is the only base type that an equal type can be mapped to


@dataclass(frozen=True, eq=False)
class BaseIndex:
    """A base (all its levels as one) and its look-up tables. N types, void included.

    words       uint32: three zero words (void), then the type sections of all levels
    starts      uint32, shape (N,): by type id, position of the type's first word in ``words``
    strings     uint8: string sections of all levels; a global string offset indexes it
    string_slots    uint64, power of two and one: see ``strings``; its seed is that of all hashes
    string_bits     uint64, power of two: see ``strings.may_have``
    strings_repeat  whether a string is there more than once
    group_slots     uint64, power of two: signature's upper half above, group + 1 below; 0 is free
    group_bits      uint64, power of two: see ``strings.may_have``
    group_starts    uint32, shape (G + 1,): first candidate of each group
    candidates  uint32: type ids by group, in libbpf's order of trial
    unique       uint8, shape (N,): UNIQUE or AMBIGUOUS, see there
    named_once  uint8, shape (N,): whether a struct, union or typedef is the only one of its name,
                and whether a forward declaration's name has no struct or union
    entries, capacity   size and capacity of libbpf's table with this base in it
    name_slots  uint64, power of two: structs and unions by name: name_off above, type id + 1
                below, the id of void standing for several; 0 is free
    typedef_slots   uint64: the same for typedefs
    enum_slots  uint64: full enums that are UNIQUE, by content: hash's upper half above, type id
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
    unique: np.ndarray
    named_once: np.ndarray
    entries: int
    capacity: int
    name_slots: np.ndarray
    typedef_slots: np.ndarray
    enum_slots: np.ndarray
    byteorder: str
    level_types: tuple[int, ...]

    def __repr__(self) -> str:
        return f"BaseIndex(base={self.base!r})"

    @classmethod
    @takes(base=(BTF, type(None)))
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
        string_slots = strings.new_slots(count)
        seed = string_slots[-1]
        repeat = strings.index_strings(all_strings, string_slots)
        string_bits = np.zeros(power_of_two(count // 8), np.uint64)
        strings.note_strings(all_strings, seed, string_bits)

        records = np.zeros((len(starts), RECORD_COLUMNS), np.uint32)
        fill_records(records, starts)
        groups = group_types(words, records, seed, np.zeros(0, np.uint32))
        group_starts, candidates = groups["group_starts"], groups["candidates"]
        count = len(starts)
        unique = np.zeros(count, np.uint8)
        largest = int(np.diff(group_starts).max(initial=0))
        contents = np.empty(2 * largest + 1, np.uint64)
        _mark_unique(words, records, seed, group_starts, candidates, unique, contents)
        visited, stack = np.zeros(count, np.uint8), np.empty((count, 2), np.int64)
        _withdraw_unique(words, records, unique, visited, stack)
        aggregates, typedefs, enums = _count_named(words, starts)
        enum_slots = np.zeros(power_of_two(2 * enums), np.uint64)
        named_once = np.zeros(len(starts), np.uint8)
        name_slots = np.zeros(power_of_two(2 * aggregates), np.uint64)
        typedef_slots = np.zeros(power_of_two(2 * typedefs), np.uint64)
        _index_names(words, starts, unique, seed, name_slots, typedef_slots, enum_slots)
        _mark_named_once(words, starts, seed, name_slots, typedef_slots, named_once)
        return cls(
            words=words,
            starts=starts,
            strings=all_strings,
            string_slots=freeze(string_slots),
            string_bits=freeze(string_bits),
            strings_repeat=bool(repeat),
            **groups,
            unique=freeze(unique),
            named_once=freeze(named_once),
            entries=len(candidates),
            capacity=_capacity(len(candidates)),
            name_slots=freeze(name_slots),
            typedef_slots=freeze(typedef_slots),
            enum_slots=freeze(enum_slots),
            byteorder=byteorder,
            level_types=level_types,
        )

    @cached_property
    def type_end(self) -> int:
        """Number of types, void included: the first own id of a module on this base."""
        return len(self.starts)

    @cached_property
    def str_end(self) -> int:
        """Bytes of strings: the first own string offset of a module on this base."""
        return len(self.strings)

    @cached_property
    def tables(self) -> BaseTables:
        """The arrays that compiled functions take."""
        names = (self._offset_of(name) for name in _ABI_STRUCTS)
        return BaseTables(*(getattr(self, name) for name in BaseTables._fields[:-2]), *names)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what sharing the index costs once per machine."""
        values = (getattr(self, f.name) for f in fields(self))
        return sum(v.nbytes for v in values if isinstance(v, np.ndarray))

    def is_of(self, base: BTF) -> bool:
        """Whether ``base`` is the one that was indexed, or equals it in content."""
        require(base, BTF, "base")
        if base is self.base:
            return True
        if (base.type_end, base.str_end) != (self.type_end, self.str_end):
            return False
        known: WeakSet[BTF] = self._known_bases
        if base not in known and same_base(base, self.base):
            known.add(base)
        return base in known

    @cached_property
    def _known_bases(self) -> WeakSet[BTF]:
        """What ``is_of`` has compared."""
        return WeakSet()

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

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
            sound=True,
        )


def _capacity(entries: int) -> int:
    """Capacity of libbpf's hash table after that many entries."""
    capacity = 0
    while entries and table_is_full(entries - 1, capacity):
        capacity = FIRST_CAPACITY if capacity == 0 else 2 * capacity
    return capacity


def group_types(
    words: np.ndarray, records: np.ndarray, seed: np.uint64, classes: np.ndarray
) -> dict[str, Any]:
    """Sort all base types but VAR and DATASEC into groups of candidates, by signature.

    classes  uint32, by type id: structs, unions and typedefs of one group have one class too;
             empty for none, see ``classes``

    Returns ``group_slots``, ``group_bits``, ``group_starts`` and ``candidates`` of ``BaseIndex``.
    """
    count = len(records)
    group_slots = np.zeros(power_of_two(2 * count), np.uint64)
    group_bits = np.zeros(power_of_two(count // 8), np.uint64)
    group_starts = np.zeros(count + 1, np.uint32)
    candidates = np.empty(count, np.uint32)
    groups, entries = _group_types(
        words, records, seed, classes, group_slots, group_bits, group_starts, candidates,
        np.full(count, -1, np.int64), np.empty(count, np.uint8), np.empty(count + 1, np.uint32),
    )  # fmt: skip
    return {
        "group_slots": freeze(group_slots),
        "group_bits": freeze(group_bits),
        "group_starts": freeze(group_starts[: groups + 1].copy()),
        "candidates": freeze(candidates[:entries].copy()),
    }


@compiled
def _group_types(  # type: ignore[no-untyped-def]
    words,
    records,
    seed,
    classes,
    group_slots,
    group_bits,
    group_starts,
    candidates,
    group_of,
    parity_of,
    fill,
):
    """As ``group_types``, each group in libbpf's order of trial.

    classes    see ``group_types``
    group_slots, group_bits, group_starts, candidates   filled, see ``BaseIndex``; the last two have
               room for a group per type
    group_of   int64, shape (N,), filled with -1; parity_of uint8, shape (N,); fill uint32, shape
               (N + 1,): room to work

    Returns (number of groups, entries of libbpf's hash table).

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
        h = signature(words, words, records, type_id, seed)
        if len(classes) > 0 and (kind == STRUCT or kind == UNION or kind == TYPEDEF):
            h = mix(h, classes[type_id])
        group = find_group(group_slots, h)
        if group < 0:
            group = groups
            groups += 1
            enter_content(group_slots, mask, h, groups)
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
    return groups, entries


@compiled
def _mark_unique(words, records, seed, group_starts, candidates, unique, contents):  # type: ignore[no-untyped-def]
    """Mark as UNIQUE the types that are the only one of their group.

    group_starts, candidates  the groups and their types: see ``BaseIndex``
    unique    uint8, shape (N,), filled with AMBIGUOUS: filled
    contents  uint64, twice as long as the largest group: room to work

    Enums share a group by name. One that is full is unique if all of its name are full and no two
    are the same.
    """
    for group in range(len(group_starts) - 1):
        first = np.int64(group_starts[group])
        size = np.int64(group_starts[group + 1]) - first
        if size == 1:
            unique[candidates[first]] = UNIQUE
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
            h = enum_content(words, at, seed) | np.uint64(1)
            slot = np.int64(h & _LOW) % room
            while contents[slot] != 0 and contents[slot] != h:
                slot = (slot + 1) % room
            if contents[slot] == h:
                all_differ = False
                break
            contents[slot] = h
        if all_differ:
            for i in range(size):
                unique[candidates[first + i]] = UNIQUE


@compiled
def _is_reference(kind):  # type: ignore[no-untyped-def]
    """Whether types of a kind are compared by all their words, after what they refer to."""
    if kind == TYPEDEF or kind == FWD or kind == VAR:
        return False
    return HEAD_IS_REF[kind] != 0 or kind == ARRAY


@compiled
def _withdraw_unique(words, records, unique, visited, stack):  # type: ignore[no-untyped-def]
    """Make reference types AMBIGUOUS that lead to a reference type that is.

    Where the base has a pointer twice, the module's is mapped to the one that is tried first, and
    what refers to the other one then equals nothing in the module. Reference types in a circle
    (which no compiler makes) are never settled at all.

    unique   uint8, shape (N,): see ``_mark_unique``
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
            if step == reference_count(info):
                visited[type_id] = 2
                top -= 1
                if top > 0 and unique[type_id] != UNIQUE:
                    unique[stack[top - 1, 0]] = AMBIGUOUS
                continue
            stack[top - 1, 1] = step + 1
            referred = reference_at(words, at, step)
            if not _is_reference(kind_of(words[np.int64(records[referred, START]) + 1])):
                continue
            if visited[referred] == 1 or (visited[referred] == 2 and unique[referred] != UNIQUE):
                unique[type_id] = AMBIGUOUS
            elif visited[referred] == 0:
                visited[referred] = 1
                stack[top, 0] = referred
                stack[top, 1] = 0
                top += 1


@compiled
def enum_content(words, at, seed):  # type: ignore[no-untyped-def]
    """Hash of all words of the enum that starts at ``at``."""
    info = words[at + 1]
    h = mix(mix(mix(seed, words[at]), info), words[at + 2])
    end = at + HEAD_WORDS + np.int64(info & INFO_VLEN_MASK) * ELEMENT_WORDS[kind_of(info)]
    for word in range(at + HEAD_WORDS, end):
        h = mix(h, words[word])
    return h


@compiled
def _count_named(words, starts):  # type: ignore[no-untyped-def]
    """Count types: (structs and unions, typedefs, enums)."""
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
def _index_names(words, starts, unique, seed, name_slots, typedef_slots, enum_slots):  # type: ignore[no-untyped-def]
    """Fill ``name_slots``, ``typedef_slots`` and ``enum_slots``, empty tables.

    All of them, and ``unique``, are described at ``BaseIndex``.
    """
    for type_id in range(1, len(starts)):
        at = np.int64(starts[type_id])
        kind = kind_of(words[at + 1])
        if kind == STRUCT or kind == UNION:
            enter_name(name_slots, words[at], type_id, seed)
        elif kind == TYPEDEF:
            enter_name(typedef_slots, words[at], type_id, seed)
        elif is_enum(kind) and unique[type_id] == UNIQUE:
            if words[at + 1] & INFO_VLEN_MASK != 0:
                mask = np.int64(len(enum_slots) - 1)
                enter_content(enum_slots, mask, enum_content(words, at, seed), type_id)


@compiled
def _mark_named_once(words, starts, seed, name_slots, typedef_slots, named_once):  # type: ignore[no-untyped-def]
    """Fill ``named_once`` (zeros) from ``name_slots`` and ``typedef_slots``: see ``BaseIndex``."""
    for table in range(2):
        slots = name_slots if table == 0 else typedef_slots
        for at in range(len(slots)):
            slot = slots[at]
            type_id = np.int64(slot & _LOW) - 1
            if slot >> np.uint64(32) != 0 and type_id > 0:
                named_once[type_id] = 1
    for type_id in range(1, len(starts)):
        at = np.int64(starts[type_id])
        if kind_of(words[at + 1]) == FWD and find_name(name_slots, words[at], seed) < 0:
            named_once[type_id] = 1
