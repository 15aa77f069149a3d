"""Putting types at the end of a BTF in the making: their strings, and where their references go.

A string is looked for in the base first (the first one that is equal, from the deepest level on),
then among the new strings, and is appended to those when neither has it: as libbpf does when types
are added.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.growing import GrowingArray
from ..compiled.huge_pages import power_of_two
from ..compiled.jit import compiled, drop_flattened
from ..errors import UnsupportedError
from ..format.header import check_total
from ..format.strings import (
    MIXED,
    PIECE_BITS,
    add_string,
    copy_string,
    count_strings,
    find_string,
    find_text,
    hash_string,
    index_strings,
    map_strings,
    new_slots,
    seed_of,
)
from ..types.btf import BTF, freeze, unknown_kind_error
from .remap import (
    MAX_NEW_TEXT,
    OWN_BYTES,
    OWN_STRINGS,
    REMAP_SLOTS,
    STRING_COLUMNS,
    STRING_MASK,
    STRING_OVERFLOW,
    remap_types,
)


class _PoolStrings(NamedTuple):
    """The strings that ``remap_types`` looks in; see ``BaseTables``."""

    strings: np.ndarray
    string_slots: np.ndarray


class _PoolScratch(NamedTuple):
    """What ``remap_types`` fills; see ``Scratch``."""

    seen: np.ndarray
    shifts: np.ndarray
    own_strings: np.ndarray
    string_heads: np.ndarray
    string_rows: np.ndarray
    state: np.ndarray
    own: np.ndarray


class StringPool:
    """The strings of a BTF in the making, behind those of its base: one buffer, one table.

    A global string offset is an index into the buffer.
    """

    def __init__(self, base: BTF | None) -> None:
        below = base.chain_table if base is not None else None
        self.start = len(below.strings) if below is not None else 0  # offset of the first own one
        self.end = self.start if below is not None else 1  # without a base: the empty string
        self._repeats = below is not None and below.repeats
        self._buffer = GrowingArray(np.uint8)
        self._buffer.reserve(self.end)
        if below is not None:
            self._buffer.all[: self.start] = below.strings
        self._made: np.ndarray | None = (
            below.slots.copy() if below is not None else new_slots(1 << 7)
        )
        self._entries = int(count_strings(self._strings)) if below is not None else 0

    @property
    def _slots(self) -> np.ndarray:
        """What finds strings, made again after it was freed."""
        if self._made is None:
            self._made = self._index(self._entries)
        return self._made

    @property
    def _strings(self) -> np.ndarray:
        return freeze(self._buffer.all[: self.end])

    def find(self, text: bytes) -> int:
        """Global offset of a string; -1 when neither the base nor the pool has it."""
        if not text:
            return 0
        needle = np.frombuffer(text + b"\0", np.uint8)
        return int(find_text(self._strings, self._slots, needle))

    def add(self, text: bytes) -> int:
        """Global offset of a string, which is appended if need be. It holds no NUL."""
        offset = self.find(text)
        if offset < 0:
            offset = self._append(np.frombuffer(text + b"\0", np.uint8), 1)
        return offset

    def add_all(self, offsets: np.ndarray, strings: np.ndarray) -> np.ndarray:
        """Global offsets of many strings, new ones appended in order of first use.

        offsets, strings   int64: where each begins in the uint8 array ``strings``
        """
        unique, first, inverse = np.unique(offsets, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        starts, found = unique[order].astype(np.int64), np.empty(len(unique), np.uint32)
        done = room = 0
        while done < len(starts):  # until there was room for all
            self._reserve(room, len(starts) - done)
            room = len(self._buffer.all)
            done, self.end, self._entries = _add_each(
                starts, freeze(strings), done, self._buffer.all, self.end, self._slots,
                self._entries, found,
            )  # fmt: skip
        placed = np.empty(len(unique), np.uint32)
        placed[order] = found
        return placed[inverse]

    def add_types(
        self, source: BTF, first_id: int, flat_strings: np.ndarray | None = None
    ) -> np.ndarray:
        """The source's own type records as they read here, the first one getting ``first_id``.

        Names of own strings are mapped, references to own types moved; what refers to the source's
        base stays. See ``check_addable`` for what must hold.

        flat_strings   of all levels of the source: then names of its base are mapped too
        """
        strings, start_str_off = source.strings, source.start_str_off
        if flat_strings is not None:
            strings, start_str_off = flat_strings, 0
        seen = np.empty(len(strings), np.uint32)
        shifts = np.full((len(seen) >> PIECE_BITS) + 1, MIXED, np.uint32)
        own = np.empty(len(source.words), np.uint32)
        state = np.zeros(REMAP_SLOTS, np.int64)
        room, heads = len(strings) + 1, power_of_two(count_strings(strings))
        while True:
            known = _PoolStrings(self._strings, self._slots)
            map_strings(strings, known.strings, known.string_slots, self._repeats, seen)
            state[STRING_MASK] = heads - 1
            fresh = _PoolScratch(
                seen, shifts, np.empty(room, np.uint8), np.zeros(heads, np.uint32),
                np.empty((len(seen) + 1, STRING_COLUMNS), np.uint32), state, own,
            )  # fmt: skip
            remap_types(
                source.words, source.offsets, strings, start_str_off,
                np.uint32(source.start_id), np.uint32(first_id - source.start_id), known, fresh,
            )  # fmt: skip
            drop_flattened(known)
            drop_flattened(fresh)
            del known  # a view of what is to grow
            if not state[STRING_OVERFLOW]:
                self._append(fresh.own_strings[: state[OWN_BYTES]], int(state[OWN_STRINGS]))
                return own
            # Names that begin inside of others need more room than the source had.
            room = more_text(room, len(strings), source.path)
            state[:] = 0

    def close(self) -> None:
        """Free what finds strings, until one is looked for or added again."""
        self._made = None

    @property
    def own_strings(self) -> np.ndarray:
        """The own strings so far: uint8. A view of what is never written again."""
        return freeze(self._buffer.all[self.start : self.end])

    def _append(self, strings: np.ndarray, entries: int) -> int:
        """Append strings that are not there yet; returns the offset of the first."""
        self._reserve(len(strings), entries)
        first, self.end = self.end, self.end + len(strings)
        self._buffer.all[first : self.end] = strings
        self._entries += entries
        _enter(self._strings, first, self._slots)
        return first

    def _reserve(self, room: int, entries: int) -> None:
        """Have room for that many bytes and strings more."""
        check_total(0, 0, self.end + room)
        self._buffer.reserve(self.end + room)
        if 4 * (self._entries + entries) > 3 * (len(self._slots) - 1):
            self._made = None  # before there are more
            self._made = self._index(self._entries + entries)

    def _index(self, entries: int) -> np.ndarray:
        """A table of the strings, with room for so many."""
        slots = new_slots(entries)
        index_strings(self._strings[: self.start], slots)
        _enter(self._strings, max(self.start, 1), slots)
        return slots


@compiled
def _enter(strings, first, slots):  # type: ignore[no-untyped-def]
    """Enter the ``strings`` from offset ``first`` on, none of which is in the table ``slots``."""
    at = np.int64(first)
    while at < len(strings):
        h, end = hash_string(strings, at, seed_of(slots))
        add_string(slots, h, at)
        at = end + 1


@compiled
def _add_each(starts, source, done, buffer, end, slots, entries, found):  # type: ignore[no-untyped-def]
    """Look strings of ``source`` up in ``buffer``, and append those that it lacks.

    starts   int64: where each begins; those before number ``done`` were dealt with
    end, entries   how much of the buffer is in use, and how many strings are in its table ``slots``
    found    uint32, shape of ``starts``: filled with their offsets in the buffer

    Returns (done, end, entries) as they are in the end, or when the buffer was full.
    """
    for at in range(done, len(starts)):
        start = starts[at]
        if source[start] == 0:
            found[at] = 0
            continue
        h, stop = hash_string(source, start, seed_of(slots))
        offset = find_string(buffer, slots, source, start, h)
        if offset < 0:
            length = stop - start + 1
            if end + length > len(buffer):
                return at, end, entries
            offset = np.int64(end)
            copy_string(source, start, buffer, offset, length)
            add_string(slots, h, offset)
            end += length
            entries += 1
        found[at] = offset
    return len(starts), end, entries


def more_text(room: int, source_bytes: int, path: str | None) -> int:
    """The next larger room, in bytes, for the names that a BTF of ``path`` adds.

    source_bytes   of all its strings

    Names that are the ends of each other are written one by one, as libbpf does: n bytes of strings
    can become n² / 2. Raises UnsupportedError beyond what Linux can refer to, and twice the source.
    """
    most = max(MAX_NEW_TEXT, 2 * source_bytes)
    if room >= most:
        raise UnsupportedError(
            f"its names, which begin inside of each other, take more than {most} bytes when "
            "written one by one",
            path,
            "strings",
        )
    return min(4 * room, most)


def check_addable(source: BTF, base: BTF | None, byteorder: str, first_id: int, words: int) -> None:
    """Raise UnsupportedError for BTF that cannot be appended to a BTF on ``base``.

    first_id, words   the id that its first type is to get, and the words of types before it

    That is split BTF on another base, another byte order, kinds that only a layout section
    describes, and more types than there are ids.
    """
    if source.byteorder != byteorder:
        raise UnsupportedError(
            f"{source.byteorder}-endian BTF cannot be added to {byteorder}-endian BTF", source.path
        )
    if source.base is not None and not same_base(source.base, base):
        raise UnsupportedError(
            "split BTF can only be added where its own base is the base", source.path
        )
    check_total(first_id + source.type_count, words + len(source.words), 0, source.path)
    require_known_kinds(source, "added to another")


def require_known_kinds(source: BTF, what: str) -> None:
    """Raise UnsupportedError, "… but not WHAT", for kinds that only a layout section describes."""
    if source.has_unknown_kinds:
        raise unknown_kind_error(source, what)


def same_base(a: BTF, b: BTF | None) -> bool:
    """Whether two bases are the same in content, in however many levels."""
    if a is b:
        return True
    if b is None or (a.type_end, a.str_end) != (b.type_end, b.str_end):
        return False
    a, b = a.flat, b.flat
    return np.array_equal(a.strings, b.strings) and np.array_equal(a.words, b.words)
