"""Finding strings and types by name: tables made on first use, kept with the BTF they are of.

A name is looked up in two steps: text -> string offset (a hash table of the strings, see
``strings``), offset -> types (their name offsets, sorted). The table of strings knows each string
by one offset, that of its beginning. BTF may say a name otherwise: a string may be there twice, or
a name may begin in the middle of a longer string. Where that is so, all places of the text are
searched for instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..format import kinds
from ..format.strings import count_strings, find_text, index_strings, new_slots
from ..nearest import MAX_CHARACTERS, nearest_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .btf import BTF


@dataclass(frozen=True, eq=False)
class StringTable:
    """A string section and its look-up table.

    strings  uint8: NUL-terminated strings
    slots    uint64: see ``strings.new_slots``
    repeats  whether a string is there more than once
    """

    strings: np.ndarray
    slots: np.ndarray
    repeats: bool

    @classmethod
    def of(cls, strings: np.ndarray) -> StringTable:
        """Index all strings of a section."""
        slots = new_slots(int(count_strings(strings)))
        repeats = bool(index_strings(strings, slots))
        slots.setflags(write=False)
        return cls(strings, slots, repeats)

    def find(self, text: bytes) -> int:
        """Find the offset of the first string equal to ``text``, or -1; never of the empty one."""
        return int(find_text(self.strings, self.slots, np.frombuffer(text + b"\0", np.uint8)))

    def find_everywhere(self, text: bytes) -> list[int]:
        """Every offset at which ``text`` stands up to its NUL, also at the end of other strings."""
        haystack, needle = self.strings.tobytes(), text + b"\0"
        found: list[int] = []
        at = haystack.find(needle)
        while at >= 0:
            found.append(at)
            at = haystack.find(needle, at + 1)
        return found


@dataclass(frozen=True, eq=False)
class OwnNames:
    """The own types of one BTF by the offset of their name.

    order    int64, shape (T,): own types (0-based), sorted by name offset, then by id
    offsets  uint32, shape (T,): the name offset of each type in ``order``
    begin_strings   whether every name is the beginning of a string
    """

    order: np.ndarray
    offsets: np.ndarray
    begin_strings: bool

    @classmethod
    def of(cls, btf: BTF) -> OwnNames:
        """Sort the own types of ``btf``."""
        names = btf.words[btf.offsets[:-1]]
        order = np.argsort(names, kind="stable")
        offsets = names[order]
        return cls(order, offsets, _begin_strings(btf, np.unique(offsets)))

    def at(self, offset: int) -> np.ndarray:
        """Return the own types (0-based) whose name is at a string offset, in order of id."""
        wanted = np.uint32(offset)
        first = np.searchsorted(self.offsets, wanted, "left")
        return self.order[first : np.searchsorted(self.offsets, wanted, "right")]


def _begin_strings(btf: BTF, offsets: np.ndarray) -> bool:
    """Whether every one of these global offsets is the beginning of a string."""
    for level in btf.levels:
        start = level.start_str_off
        inside = offsets[(offsets > start) & (offsets < level.str_end)].astype(np.int64) - start
        if np.any(level.strings[inside - 1]):
            return False
    return True


def string_offsets(btf: BTF, text: bytes) -> list[int]:
    """Global offsets under which types of ``btf`` and its bases may have ``text`` as their name."""
    levels = btf.levels
    if all(level.own_names.begin_strings and not level.own_strings.repeats for level in levels):
        found = ((level, level.own_strings.find(text)) for level in levels)
        return [level.start_str_off + at for level, at in found if at >= 0]
    return [
        level.start_str_off + at
        for level in levels
        for at in level.own_strings.find_everywhere(text)
    ]


def ids_by_name(btf: BTF, name: str | bytes, wanted: Iterable[int] | None = None) -> list[int]:
    """Return the ids of all types called ``name``, base first, in order of id.

    name    "" stands for the types without a name
    wanted  kinds (numbers) that count; all when None
    """
    text = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    if b"\0" in text:
        return []
    allowed = None
    if wanted is not None:
        allowed = np.zeros(kinds.KIND_COUNT, np.bool_)
        allowed[list(wanted)] = True
    offsets = string_offsets(btf, text) if text else []
    found: list[int] = []
    for level in btf.levels:
        if text:
            parts = [level.own_names.at(offset) for offset in offsets]
            own = np.sort(np.concatenate(parts)) if len(parts) > 1 else (parts or [_NONE])[0]
        else:
            own = _anonymous(level)
        if allowed is not None and len(own):
            own = own[allowed[_kinds(level, own)]]
        found += (own + level.start_id).tolist()
    return found


def names_like(btf: BTF, name: str, wanted: Iterable[int] | None = None) -> tuple[str, ...]:
    """Return names of types spelled much like ``name``; ``wanted`` as in ``ids_by_name``."""
    allowed = np.full(kinds.KIND_COUNT, wanted is None)
    if wanted is not None:
        allowed[list(wanted)] = True
    text, offsets = btf.chain_strings.tobytes(), set[int]()
    for level in btf.levels:
        offsets.update(level.words[level.offsets[:-1][allowed[level.own_kinds]]].tolist())
    ends = ((at, text.find(b"\0", at, at + MAX_CHARACTERS + 1)) for at in offsets)
    names = (text[at:end] for at, end in ends if end > at)
    return nearest_names(name, {one.decode("utf-8", "backslashreplace") for one in names})


_NONE = np.zeros(0, np.int64)


def _kinds(btf: BTF, own: np.ndarray) -> np.ndarray:
    info = btf.words[btf.offsets[own] + np.uint32(1)]
    return ((info >> kinds.INFO_KIND_SHIFT) & kinds.INFO_KIND_MASK).astype(np.uint8)


def _anonymous(btf: BTF) -> np.ndarray:
    """Return the own types (0-based) whose name is the empty string, wherever that stands."""
    names = btf.words[btf.offsets[:-1]]
    empty = names == 0
    for level in btf.levels:
        start = level.start_str_off
        inside = np.flatnonzero((names >= start) & (names < level.str_end))
        empty[inside] |= level.strings[names[inside].astype(np.int64) - start] == 0
    return np.flatnonzero(empty)
