"""Types told apart by fingerprint, and what two types that say the same lead to, in one look.

Most pairs of types that a walk comes by do not differ themselves, nor does anything without a name
that is a part of them: only named types that they refer to. Such a pair is looked through here, in
the records, without an object for each member.

Parameters used throughout:

base         ``Level`` of the base
one, other   ``Level`` of the own types that the first and the second type of a pair are among; a
             type of the base may be given with either
own          one of these two
a, b         ids of the first and the second type of a pair; in ``_same_text``, string offsets
at, to       where their records begin in the words of their levels
type_id      id of a type of ``base`` or ``own``
work         ``PairMemory``
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np

from ..compiled.jit import PreparedCall, compiled, flattened
from ..fingerprint.fingerprints import BaseFingerprints, fingerprints
from ..format.kinds import (
    ELEMENT_NAME,
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    FUNC_PROTO,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    NAME_SPACE,
    kind_of,
)
from ..format.records import reference_count, reference_word
from ..format.strings import common_string
from ..types.btf import BTF, freeze
from ..types.typebase import Type, type_at
from .paths import accessor

# What ``_look_ahead`` returns in place of a number.
ASK = -1  # there may be a difference in the two types or in a nameless part of them
FULL = -2  # no room for all rows

_ROWS = 1024
_MAX_OPEN = 64  # nameless pairs that are looked into; of more, ask


class Level(NamedTuple):
    """Types of a base, or the own types of a split BTF on it.

    first_id  id of the type of row 0 of ``values``
    shift     what to take off an id to have its place in ``offsets``
    words, offsets, strings   as in ``BTF``
    values    uint64, two columns: fingerprints
    """

    first_id: int
    shift: int
    words: np.ndarray
    offsets: np.ndarray
    strings: np.ndarray
    values: np.ndarray


class PairMemory(NamedTuple):
    """Room for n pairs of types.

    rows   int64 (n, 4): two ids, the row that led here or -1, and by which word of its record
    stack  int64 (n,): rows
    open   int64 (_MAX_OPEN,): rows whose references have rows
    found  int64 (n,): rows of namesakes, in order
    keys   uint64 (n, 4): their fingerprints, both
    """

    rows: np.ndarray
    stack: np.ndarray
    open: np.ndarray
    found: np.ndarray
    keys: np.ndarray

    @classmethod
    def of(cls, rows: int) -> PairMemory:
        """Room for that many."""
        return cls(
            np.empty((rows, 4), np.int64),
            np.empty(rows, np.int64),
            np.empty(_MAX_OPEN, np.int64),
            np.empty(rows, np.int64),
            np.empty((rows, 4), np.uint64),
        )


class DistantNeighbour:
    """A pair of namesakes that differ, next to a pair of types that do not by themselves."""

    __slots__ = ("_first", "_row", "_rows", "_second")

    def __init__(self, first: BTF, second: BTF, rows: np.ndarray, row: int) -> None:
        self._first, self._second, self._rows, self._row = first, second, rows, row

    @property
    def types(self) -> tuple[Type, Type]:
        """The two."""
        one, other, _, _ = self._rows[self._row].tolist()
        return type_at(self._first, one), type_at(self._second, other)

    @property
    def way(self) -> str:
        """How C gets there."""
        said = []
        _, _, before, word = self._rows[self._row].tolist()
        while before >= 0:
            one, _, *onward = self._rows[before].tolist()
            said.append(accessor(type_at(self._first, one), word))
            before, word = onward
        return "".join(reversed(said))


class Fingerprinted:
    """The fingerprints of a base and of split BTFs on it, as keys of their types."""

    def __init__(self, base: BTF, known: BaseFingerprints) -> None:
        flat = base.flat
        self._known = known
        self._base = Level(0, 1, flat.words, flat.offsets, flat.strings, known.values)
        self._end = base.type_end
        self._levels: dict[int, tuple[Level, array[int]]] = {}  # by the address of the BTF
        nothing = freeze(np.empty(0, np.uint32))
        empty = Level(
            self._end, self._end, nothing, nothing, nothing.view(np.uint8), known.values[:0]
        )
        self._nothing = empty, flattened(empty)
        self._reserve(_ROWS)

    def _reserve(self, rows: int) -> None:
        self._work = PairMemory.of(rows)
        nothing, _ = self._nothing
        self._look = PreparedCall(_look_ahead, self._base, nothing, 0, nothing, 0, self._work)

    def add(self, split: BTF, values: np.ndarray | None = None) -> None:
        """Know the own types of a split BTF, which must stay as long as this.

        values  uint64, shape (own types, 2): what ``fingerprints`` gives for it, where that is
                known
        """
        if values is None:
            values = fingerprints(split, self._known)
        if values.shape != (split.type_count, 2):
            raise ValueError(f"{len(values)} fingerprints for {split.type_count} types")
        start = split.start_id
        level = Level(start, start, split.words, split.offsets, split.strings, values)
        self._levels[id(split)] = level, flattened(level)

    def key(self, btf: BTF, type_id: int) -> bytes:
        """The fingerprint of a type; of one of the base too, which a split BTF goes on from."""
        level = self._base if type_id < self._end else self._levels[id(btf)][0]
        key: bytes = level.values[type_id - level.first_id].tobytes()
        return key

    def ahead(
        self, first: Type, second: Type
    ) -> list[tuple[tuple[bytes, bytes], DistantNeighbour]] | None:
        """The namesakes that two types lead to and that differ, each pair with its two keys; None
        where there may be a difference before one gets there."""
        if not first.id or not second.id:
            return None
        while (found := self._call(first, second)) == FULL:
            self._reserve(2 * len(self._work.rows))
        if found == ASK:
            return None
        work = self._work
        chosen = work.found[:found].tolist()
        rows = work.rows[: max(chosen, default=-1) + 1].copy()
        keys = work.keys[:found].tobytes()
        return [
            (
                (keys[at : at + 16], keys[at + 16 : at + 32]),
                DistantNeighbour(first.btf, second.btf, rows, row),
            )
            for at, row in zip(range(0, 32 * found, 32), chosen, strict=True)
        ]

    def _call(self, first: Type, second: Type) -> int:
        for number, found in ((1, first), (3, second)):
            inside = found.id >= self._end
            level, words = self._levels[id(found.btf)] if inside else self._nothing
            self._look.set_argument(number, level, words)
            self._look.set_argument(number + 1, found.id)
        return int(self._look())


@compiled
def _start(base, own, type_id):  # type: ignore[no-untyped-def]
    """Where a type's record begins."""
    if type_id >= own.first_id:
        return np.int64(own.offsets[type_id - own.shift])
    return np.int64(base.offsets[type_id - base.shift])


@compiled
def _word(base, own, type_id, at):  # type: ignore[no-untyped-def]
    """The word at position ``at`` of the words of a type's level."""
    return own.words[at] if type_id >= own.first_id else base.words[at]


@compiled
def _value(base, own, type_id):  # type: ignore[no-untyped-def]
    """The fingerprint of a type, as two numbers."""
    if type_id >= own.first_id:
        row = type_id - own.first_id
        return own.values[row, 0], own.values[row, 1]
    return base.values[type_id, 0], base.values[type_id, 1]


@compiled
def _same(base, one, a, other, b):  # type: ignore[no-untyped-def]
    """Whether two types have the same fingerprint."""
    x, y = _value(base, one, a)
    p, q = _value(base, other, b)
    return x == p and y == q


@compiled
def _same_text(base, one, a, other, b):  # type: ignore[no-untyped-def]
    """Whether the strings at two global offsets are the same."""
    end = len(base.strings)
    if a < end:
        if b < end:
            return a == b or common_string(base.strings, a, base.strings, b) >= 0
        return common_string(base.strings, a, other.strings, b - end) >= 0
    if b < end:
        return common_string(one.strings, a - end, base.strings, b) >= 0
    return common_string(one.strings, a - end, other.strings, b - end) >= 0


@compiled
def _say_the_same(base, one, a, at, other, b, to):  # type: ignore[no-untyped-def]
    """Whether two records of one ``info`` are the same but for what they refer to."""
    info = _word(base, one, a, at + 1)
    kind = kind_of(info)
    names = np.int64(_word(base, one, a, at)), np.int64(_word(base, other, b, to))
    if not _same_text(base, one, names[0], other, names[1]):
        return False
    if not HEAD_IS_REF[kind] and _word(base, one, a, at + 2) != _word(base, other, b, to + 2):
        return False
    fixed = np.int64(FIXED_WORDS[kind])
    for word in range(HEAD_WORDS + FIXED_REFS[kind], HEAD_WORDS + fixed):
        if _word(base, one, a, at + word) != _word(base, other, b, to + word):
            return False
    stride = np.int64(ELEMENT_WORDS[kind])
    if stride == 0:
        return True
    name, reference = np.int64(ELEMENT_NAME[kind]), np.int64(ELEMENT_REF[kind])
    place = HEAD_WORDS + fixed
    for _ in range(np.int64(info & INFO_VLEN_MASK)):
        for word in range(stride):
            if word == reference:
                continue
            x = np.int64(_word(base, one, a, at + place + word))
            y = np.int64(_word(base, other, b, to + place + word))
            if word == name:
                if not _same_text(base, one, x, other, y):
                    return False
            elif x != y:
                return False
        place += stride
    return True


@compiled
def _named(base, own, type_id):  # type: ignore[no-untyped-def]
    """(name space, offset of the name) of a type; twice 0 if it has no name."""
    if type_id == 0:
        return 0, np.int64(0)
    at = _start(base, own, type_id)
    space = np.int64(NAME_SPACE[kind_of(_word(base, own, type_id, at + 1))])
    name = np.int64(_word(base, own, type_id, at))
    if space == 0 or name == 0:
        return 0, np.int64(0)
    return space, name


@compiled
def _was_open(base, one, other, work, count, a, b):  # type: ignore[no-untyped-def]
    """Whether the same pair is among the first ``count`` that were looked into."""
    for i in range(count):
        row = work.open[i]
        if _same(base, one, work.rows[row, 0], one, a):
            if _same(base, other, work.rows[row, 1], other, b):
                return True
    return False


@compiled
def _look_ahead(base, one, a, other, b, work):  # type: ignore[no-untyped-def]
    """Fill ``work`` with what types ``a`` and ``b`` lead to by way of what has no name; returns
    how many pairs of namesakes there are, or ASK, or FULL."""
    rows = work.rows
    rows[0, 0], rows[0, 1], rows[0, 2], rows[0, 3] = a, b, -1, 0
    count, depth, found, opened = 1, 1, 0, 0
    work.stack[0] = 0
    while depth > 0:
        depth -= 1
        row = work.stack[depth]
        a, b = rows[row, 0], rows[row, 1]
        if row > 0:
            space, name = _named(base, one, a)
            other_space, other_name = _named(base, other, b)
            if space != other_space:
                return ASK
            if space > 0:
                if not _same_text(base, one, name, other, other_name):
                    return ASK
                work.found[found] = row
                work.keys[found, 0], work.keys[found, 1] = _value(base, one, a)
                work.keys[found, 2], work.keys[found, 3] = _value(base, other, b)
                found += 1
                continue
            if a == 0 or b == 0:
                return ASK
            if _was_open(base, one, other, work, opened, a, b):
                continue
        at, to = _start(base, one, a), _start(base, other, b)
        info = _word(base, one, a, at + 1)
        if info != _word(base, other, b, to + 1) or opened == _MAX_OPEN:
            return ASK
        if not _say_the_same(base, one, a, at, other, b, to):
            return ASK
        if row > 0:
            work.open[opened] = row
            opened += 1
        kind = kind_of(info)
        references = reference_count(info)
        if count + references > len(rows):
            return FULL
        for number in range(references):  # the last one first: the stack turns them round
            word = reference_word(info, references - 1 - number)
            x = np.int64(_word(base, one, a, at + word))
            y = np.int64(_word(base, other, b, to + word))
            if not _same(base, one, x, other, y):
                if kind == FUNC_PROTO and (x == 0 or y == 0):
                    return ASK  # without a name, as a last parameter, it stands for any number
                rows[count, 0], rows[count, 1], rows[count, 2], rows[count, 3] = x, y, row, word
                work.stack[depth] = count
                depth += 1
                count += 1
    return found


def prepare() -> None:
    """Have the machine code ready, which takes a while to compile."""
    words, values = np.empty(0, np.uint32), np.empty((0, 2), np.uint64)
    level = Level(0, 0, words, words, words.view(np.uint8), values)
    _look_ahead.prepare(level, level, 1, level, 1, PairMemory.of(1))  # type: ignore[attr-defined]
