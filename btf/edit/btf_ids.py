"""``.BTF_ids``: the types that a module's code asks for by name, as ids of its ``.BTF``.

The section is made of 32-bit words, in the file's byte order (include/linux/btf_ids.h):

    BTF_ID      the id of a type; 0 where there is none
    BTF_SET     a count, and so many ids
    BTF_SET8    a count, a word of flags, and so many pairs of an id and flags (since Linux 6.0):
                the functions that BPF programs may call (kfuncs)

Sets are sorted by id, for the kernel searches them by bisection. Which word is what, only symbols
tell: ``__BTF_ID__KIND__NAME__NUMBER`` stands at each id, ``__BTF_ID__set__NAME`` and
``__BTF_ID__set8__NAME`` stand at a set and have its size. The symbols of a set's ids were put there
before it was sorted, so each says that an id is there, but not which one of the set's names it is.

When ids change, the words change where they stand, and each set is sorted again, flags and all; the
same as ``resolve_btfids`` (tools/bpf/resolve_btfids/main.c) makes of it from names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..arguments import brief_repr, integers
from ..errors import BtfError, UnsupportedError
from ..types.btf import BTF

SECTION = ".BTF_ids"
_MARK = "__BTF_ID__"
_ID = re.compile(r"(struct|union|typedef|func)__(.+)__\d+", re.DOTALL)
_SET = re.compile(r"(set8?)__(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class BtfIdSet:
    """A set, sorted by id.

    word    where its count is, in words from the beginning of the section
    count   how many ids it has
    flags   whether each id has a word of flags (BTF_SET8)
    names   of its members, sorted
    """

    name: str
    word: int
    count: int
    flags: bool
    names: tuple[str, ...]

    @property
    def step(self) -> int:
        """Words from one id to the next; as many are before the first."""
        return 2 if self.flags else 1


@dataclass(frozen=True, eq=False)
class BtfIds:
    """A ``.BTF_ids`` section, and which of its words are ids. Immutable.

    words    uint32: the section
    places   int64, ascending: where ids are, in words from the beginning
    sets     in the order of their places
    """

    __repr__ = brief_repr

    words: np.ndarray
    places: np.ndarray
    sets: tuple[BtfIdSet, ...]
    byteorder: str

    @property
    def ids(self) -> list[int]:
        """All ids, in the order of their places; 0 where there is no such type."""
        found: list[int] = self.words[self.places].tolist()
        return found

    def to_bytes(self) -> bytes:
        """Return the section."""
        return self.words.astype("<u4" if self.byteorder == "little" else ">u4").tobytes()

    def moved(self, id_map: Sequence[int] | np.ndarray) -> BtfIds:
        """Renumber the ids, and sort each set again.

        id_map   by type id of the BTF that this was read with: the id in the new one. That of a
                 result of ``dedup_module``, ``kernel_form`` or ``permute``, for one

        Raises ValueError for a map that lacks an id.
        """
        new_ids = integers(id_map, "id_map", 1 << 32)
        if len(self.places) and int(self.words[self.places].max()) >= len(new_ids):
            raise ValueError("id_map lacks ids of .BTF_ids: it is of another BTF")
        words = self.words.copy()
        words[self.places] = new_ids[words[self.places]]
        for found in self.sets:
            start = found.word + found.step
            rows = words[start : start + found.count * found.step].reshape(-1, found.step)
            rows[:] = rows[np.argsort(rows[:, 0], kind="stable")]
        words.flags.writeable = False
        return replace(self, words=words)


def parse_btf_ids(
    data: bytes, symbols: Iterable[tuple[str, int, int]], btf: BTF, *, path: str | None = None
) -> BtfIds:
    """Read a ``.BTF_ids`` section.

    data      its content, in the byte order of ``btf``
    symbols   (name, offset, size in bytes) of the symbols in it
    btf       the BTF beside it

    Every word is accounted for, and each id has to be of a type of the kind and name that symbols
    say. Raises UnsupportedError where symbols do not tell what a word is, BtfError for what
    contradicts them.
    """
    reader = _Reader(data, btf, path)
    for name, offset, size in symbols:
        if name.startswith(_MARK):
            reader.add(name.removeprefix(_MARK), offset, size)
    return reader.read()


class _Reader:
    """What symbols say of each word."""

    def __init__(self, data: bytes, btf: BTF, path: str | None) -> None:
        self.btf = btf
        self.path = path
        if len(data) % 4:
            raise self.error(f"{len(data)} bytes, no multiple of 4", None)
        order = "<u4" if btf.byteorder == "little" else ">u4"
        self.words = np.frombuffer(data, order).astype(np.uint32)
        self.named: dict[int, tuple[str, str]] = {}  # word -> kind and name
        self.sets: dict[int, tuple[str, str, int]] = {}  # word -> kind, name, size in words

    def error(self, message: str, word: int | None, type_id: int | None = None) -> BtfError:
        offset = None if word is None else 4 * word
        return BtfError(message, self.path, SECTION, offset, type_id)

    def add(self, name: str, offset: int, size: int) -> None:
        """Take a symbol, whose name is given without its mark. Raises BtfError."""
        word, rest = divmod(offset, 4)
        if rest or word >= len(self.words):
            raise self.error(
                f"the symbol {_MARK}{name} is at byte {offset}, where no word is", None
            )
        if found := _ID.fullmatch(name):
            if self.named.setdefault(word, (found[1], found[2])) != (found[1], found[2]):
                raise self.error(f"two names for one id: {found[2]}, {self.named[word][1]}", word)
        elif found := _SET.fullmatch(name):
            if self.sets.setdefault(word, (found[1], found[2], size // 4))[1] != found[2]:
                raise self.error(f"two sets in one place: {found[2]}, {self.sets[word][1]}", word)
        else:
            raise UnsupportedError(f"an unknown kind of symbol: {_MARK}{name}", self.path, SECTION)

    def read(self) -> BtfIds:
        """Return what was found. Raises BtfError."""
        known = np.zeros(len(self.words), np.bool_)
        known[list(self.named)] = True
        in_set = np.zeros(len(self.words), np.bool_)
        sets = []
        for word in sorted(self.sets):
            found = self._set(word)
            end = word + found.step * (found.count + 1)
            if in_set[word:end].any():
                raise self.error(f"the set {found.name} overlaps with another", word)
            in_set[word:end] = known[word:end] = True
            self._check_names([word + found.step * n for n in range(1, found.count + 1)])
            sets.append(found)
        self._check_names_alone(in_set)
        places = np.array(sorted(self.named), np.int64)
        unknown = np.flatnonzero(~known & (self.words != 0))
        if len(unknown):
            at = int(unknown[0])
            raise UnsupportedError(
                f"no symbol says what the word {self.words[at]} is, an id or a count: was the file "
                "stripped of its local symbols? (strip --strip-debug leaves them)",
                self.path,
                SECTION,
                4 * at,
            )
        self.words.flags.writeable = False
        return BtfIds(self.words, places, tuple(sets), self.btf.byteorder)

    def _set(self, word: int) -> BtfIdSet:
        kind, name, size = self.sets[word]
        step = 2 if kind == "set8" else 1
        count = int(self.words[word])
        if size != step * (count + 1) or word + size > len(self.words):
            raise self.error(
                f"the set {name} says that it has {count} ids, its symbol that it has {4 * size} "
                "bytes",
                word,
            )
        members = range(word + step, word + size, step)
        inside = [at for at in range(word, word + size) if at in self.named]
        if inside != list(members):
            raise self.error(
                f"the set {name} has {count} ids, of which {len(inside)} have names", word
            )
        names = tuple(sorted(self.named[at][1] for at in members))
        return BtfIdSet(name, word, count, kind == "set8", names)

    def _check_names(self, members: Sequence[int]) -> None:
        """Raise BtfError unless the ids of a set are of the kinds and names that symbols say."""
        wanted = {self.named[at] for at in members}
        for at in members:
            self._check(at, wanted)

    def _check_names_alone(self, in_set: np.ndarray) -> None:
        """Raise BtfError unless each id that is in no set is of the kind and name that it says."""
        for at in sorted(self.named):
            if not in_set[at]:
                self._check(at, {self.named[at]})

    def _check(self, at: int, wanted: set[tuple[str, str]]) -> None:
        type_id = int(self.words[at])
        if type_id == 0:
            return
        what = f"of which there is none: the last one is [{self.btf.type_end - 1}]"
        if type_id < self.btf.type_end:
            found = self.btf[type_id]
            if (found.kind_name.lower(), found.name) in wanted:
                return
            what = f"a {found.kind_name} {found.name or 'without a name'}"
        kind, name = min(wanted)
        more = f" or one of {len(wanted) - 1} others" if len(wanted) > 1 else ""
        raise self.error(
            f"the id of {kind} {name}{more} is [{type_id}], {what}: not made with this .BTF",
            at,
            type_id,
        )
