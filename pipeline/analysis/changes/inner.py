"""What changed in structs, unions and enums: pairs of them, one of OLD and one of NEW.

Members, and enumerators, are compared as columns, of all pairs at once, names and spellings of
types as numbers: nearly all are alike, and of these nothing is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .beside import of_both
from .detail import Detail, bits_text, place_text
from .numbers import (
    Texts,
    among,
    as_arrow,
    decimals,
    differ,
    distinct,
    halves,
    numbers_of,
    occurrences,
    paired,
    ranges,
)
from .regrouped import Gone, details_of
from .spelled import CUT, declared, written_out
from .unnamed import Unnamed, same_ones

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from .rows import Rows

    Numbers = NDArray[np.int64]

MAX_DETAILS = 10_000  # of one name
_MAX_NESTED = 8
_MAX_OF_ONE = 10 * MAX_DETAILS  # members of nested types that are compared, for each name
_MAX_AT_ONCE = 4_000_000  # and for all
_NUMBERS = ("type_global_id", "bit_offset", "bitfield_size")
INNER_COLUMNS = ("name", "type", *_NUMBERS)  # of members


class _Side(NamedTuple):
    """The members that pairs have on one side: N, of one pair after the other.

    pair     int64 (N,): number of the pair
    at       int64 (N,): which one of its type it is
    row      int64 (N,): where in the columns
    columns  of members of different types; ``name`` and ``type`` are numbers of texts, -1 of none
    place    int64 (N,): where in ``value``; of enumerators
    value    of enumerators as it was read
    """

    pair: Numbers
    at: Numbers
    row: Numbers
    columns: Mapping[str, Numbers]
    place: Numbers
    value: pa.ChunkedArray

    def get(self, column: str, some: Numbers) -> Numbers:
        """A column of some members."""
        return self.columns[column][self.row[some]]

    def values(self, some: Numbers) -> pa.Array:
        """Values of some enumerators."""
        return self.value.take(as_arrow(self.place[some])).combine_chunks()


class _Level(NamedTuple):
    """P pairs that are compared at once.

    ids      int64 (P, 2)
    is_enum  bool (P,)
    root     int64 (P,), ascending: which of the pairs that were asked about they are in
    paths    what C says before the members' names
    outer    int64 (P, 2): bit offsets of the types in what was asked about
    found    of each pair, what changed; of pairs in it, a list in the place of each
    """

    ids: Numbers
    is_enum: NDArray[np.bool_]
    root: Numbers
    paths: Sequence[str]
    outer: Numbers
    found: Sequence[list[Any]]


def inner_details(
    ids: Numbers, is_enum: NDArray[np.bool_], sides: tuple[Rows, Rows]
) -> list[list[Detail]]:
    """Say of pairs of structs and unions, or of enums, what changed in their members, also in those
    whose types are written out there. Raises OutputError.

    ids      int64 (P, 2): global ids of a type of OLD and one of NEW
    is_enum  bool (P,)
    sides    OLD and NEW
    """
    found: list[list[Any]] = [[] for _ in range(len(ids))]
    outer = np.zeros((len(ids), 2), np.int64)
    level = _Level(ids, is_enum, np.arange(len(ids)), [""] * len(ids), outer, found)
    for depth in range(_MAX_NESTED + 1):
        if len(level.ids):
            level = _Compared(level, sides, depth).inner
    return details_of([list(_once(_flat(one))) for one in found], sides)


def _once(found: Iterator[Detail | Gone]) -> Iterator[Detail | Gone]:
    """What is told of a type, but only once that members of the same path are in another order:
    those of types without a name have the path of what is around them."""
    orders = set()
    for one in found:
        if isinstance(one, Detail) and one.what == "order":
            if one in orders:
                continue
            orders.add(one)
        yield one


def _flat(found: Sequence[Any]) -> Iterator[Detail | Gone]:
    for one in found:
        if isinstance(one, Detail | Gone):
            yield one
        else:
            yield from _flat(one)


class _Read(NamedTuple):
    """Members of types, and values of those of enums, which are few: each as
    ``Rows.members_of_each`` gives them."""

    all: tuple[Numbers, Numbers, pa.Table]
    values: tuple[Numbers, Numbers, pa.Table]

    @classmethod
    def of(cls, where: tuple[Rows, Numbers, NDArray[np.bool_]]) -> _Read:
        """Look them up: some ids, and which of these are enums."""
        rows, ids, is_enum = where
        values = rows.members_of_each(ids[is_enum], ("value",))
        return cls(rows.members_of_each(ids, INNER_COLUMNS), values)


class _Compared:
    """Pairs of a level, compared: what changed is added to ``level.found``; ``inner`` are the pairs
    of types that are written out in them and differ."""

    def __init__(self, level: _Level, rows: tuple[Rows, Rows], nested: int) -> None:
        """``nested``: how many types are around these."""
        self._level, self._rows = level, rows
        read = of_both(_Read.of, *((rows[n], level.ids[:, n], level.is_enum) for n in range(2)))
        before, after = (one.all[2] for one in read)
        self._names = Texts(before["name"], after["name"])
        self._types = Texts(before["type"], after["type"])
        self._words: dict[int, str | None] = {}
        kept = np.ones(len(level.ids), np.bool_)
        if nested:  # what was made to be slow has very many
            members = read[0].all[0] + read[1].all[0] + 1
            end = np.cumsum(members)
            of_root = np.searchsorted(level.root, level.root)  # the first one
            kept = end - (end - members)[of_root] <= _MAX_OF_ONE
            kept &= end <= _MAX_AT_ONCE
        self._old, self._new = (
            self._side(np.where(kept, one.all[0], 0), one, n) for n, one in enumerate(read)
        )
        self._match()
        self._gone(self._old, self._removed, "removed")
        self._gone(self._new, self._added, "added")
        self.inner = self._changed(nested < _MAX_NESTED)
        self._moved()
        for pair in self._reordered.tolist():
            detail = Detail("order", level.paths[pair].rstrip("."), "", "")
            if level.is_enum[pair]:
                detail = Detail("enumerator order", "", "", "")
            level.found[pair].append(detail)

    def _side(self, counts: Numbers, read: _Read, number: int) -> _Side:
        """Members as they were read, so many of each type."""
        _, first, table = read.all
        _, values, of_values = read.values
        pair = np.repeat(np.arange(len(counts)), counts)
        at = ranges(np.zeros_like(counts), counts)
        columns = {name: numbers_of(table[name]) for name in _NUMBERS}
        columns |= {"name": self._names.codes[number], "type": self._types.codes[number]}
        place = np.zeros(len(counts), np.int64)
        place[self._level.is_enum] = values
        row, place = ranges(first, counts), ranges(place, counts)
        return _Side(pair, at, row, columns, place, of_values["value"])

    def _word(self, code: int) -> str | None:
        """See ``written_out``: of a type's number."""
        if code not in self._words:
            self._words[code] = written_out(self._types.all[code])
        return self._words[code]

    def _called(self, name: str, code: int) -> str:
        return name or f"anonymous {self._word(code) or 'member'}"

    # -- which members are the same one

    def _match(self) -> None:
        """Match members of one name; those without a name by their type's spelling, then by what
        they hold.

        Sets ``_ours`` and ``_theirs``, which match, in the old ones' order; ``_removed``, in that
        order; ``_added``, in the new ones' order, but those of one name together; ``_reordered``,
        the pairs whose members stand in another order.
        """
        old, new = self._old, self._new
        ours_key, theirs_key = (self._keys(side) for side in (old, new))
        # From the first on, most match one another in their order.
        pairs = len(self._level.ids)
        both = np.minimum(*(np.bincount(side.pair, minlength=pairs) for side in (old, new)))
        ours, theirs = (np.flatnonzero(side.at < both[side.pair]) for side in (old, new))
        differ = ours[ours_key[ours] != theirs_key[theirs]]
        ending, first = np.unique(old.pair[differ], return_index=True)
        both[ending] = old.at[differ[first]]
        ours, theirs = (np.flatnonzero(side.at < both[side.pair]) for side in (old, new))
        # Of the others the first one of a name matches the first one, the second the second.
        behind, after = (np.flatnonzero(side.at >= both[side.pair]) for side in (old, new))
        keys = np.concatenate([ours_key[behind], theirs_key[after]])
        keys |= np.concatenate([old.pair[behind], new.pair[after]]) << 32
        number = np.unique(keys, return_inverse=True)[1].reshape(-1)
        number, same = number[: len(behind)], number[len(behind) :]
        (at, _), (to, leader) = occurrences(number), occurrences(same)
        most = len(keys) + 1
        one, other, lost, fresh = paired(number * most + at, same * most + to)
        # What is left and has no name may hold the same.
        rest, left = (
            some[side.get("name", places[some]) < 0]
            for side, places, some in ((old, behind, lost), (new, after, np.sort(fresh)))
        )
        unnamed, as_unnamed = self._same_unnamed(behind[rest], after[left])
        one = np.append(one, rest[unnamed])
        other = np.append(other, left[as_unnamed])
        order = np.argsort(one)
        one, other = one[order], other[order]
        self._removed = behind[_without(len(behind), one)]
        added = _without(len(after), other)
        self._added = after[added[np.argsort(leader[added], kind="stable")]]
        pair = old.pair[behind[one]]
        falls = (other[1:] < other[:-1]) & (pair[1:] == pair[:-1])
        self._reordered = distinct(pair[1:][falls])
        ours, theirs = np.append(ours, behind[one]), np.append(theirs, after[other])
        order = np.argsort(ours)
        self._ours, self._theirs = ours[order], theirs[order]

    def _same_unnamed(self, ours: Numbers, theirs: Numbers) -> tuple[Numbers, Numbers]:
        """Which of some members of OLD and of NEW are the same one, see ``same_ones``: where in
        ``ours``, and in ``theirs``."""
        sides = (self._old, ours), (self._new, theirs)
        both = distinct(self._old.pair[ours])
        both = both[among(np.sort(self._new.pair[theirs]), both)]
        kept = [np.flatnonzero(among(both, side.pair[some])) for side, some in sides]
        members = [
            list(
                map(
                    Unnamed,
                    side.pair[some[those]].tolist(),
                    self._types.of(side.get("type", some[those])),
                    side.get("type_global_id", some[those]).tolist(),
                )
            )
            for (side, some), those in zip(sides, kept, strict=True)
        ]
        found = np.array(list(same_ones(members[0], members[1], self._rows)), np.int64)
        found = found.reshape(-1, 2)
        return kept[0][found[:, 0]], kept[1][found[:, 1]]

    def _keys(self, side: _Side) -> Numbers:
        """What members are called: numbers of names, or behind these of types."""
        name, code = side.columns["name"], side.columns["type"]
        return np.where(name < 0, code + len(self._names.all), name).astype(np.int64)[side.row]

    # -- what changed

    def _gone(self, side: _Side, some: Numbers, how: str) -> None:
        """Tell of members that only one side has."""
        level, number = self._level, int(side is self._new)
        pairs, names = side.pair[some], self._names.of(side.get("name", some))
        of_enum = np.flatnonzero(level.is_enum[pairs])
        values = dict(zip(of_enum.tolist(), map(str, _values(side, some[of_enum])), strict=True))
        rows = zip(
            pairs.tolist(),
            names,
            self._types.of(side.get("type", some)),
            side.get("type_global_id", some).tolist(),
            (side.get("bit_offset", some) + level.outer[pairs, number]).tolist(),
            side.get("bitfield_size", some).tolist(),
            strict=True,
        )
        for at, (pair, name, spelling, type_id, bit_offset, bits) in enumerate(rows):
            if at in values:
                texts = ("", values[at]) if number else (values[at], "")
                level.found[pair].append(Detail(f"enumerator {how}", name, *texts))
                continue
            path = level.paths[pair]
            width = f" : {bits}" if bits else ""
            called = declared(spelling, path + name if name else "")
            where = f"in `{path.rstrip('.')}` " if path and not name else ""
            text = f"`{called}{width}` {where}at {place_text(bit_offset, bits)}"
            texts = ("", text) if number else (text, "")
            detail = Detail(f"member {how}", path + name, *texts)
            level.found[pair].append(
                Gone(detail, bool(number), path, name, spelling, type_id, bit_offset, bits)
            )

    def _changed(self, nests: bool) -> _Level:
        """Tell of members of another type or width, and of enumerators of another value; returns
        the pairs of types that are written out and differ, if they are looked into."""
        level, old, new = self._level, self._old, self._new
        ours, theirs = self._ours, self._theirs
        is_enum = level.is_enum[old.pair[ours]]
        retyped = self._retyped(ours, theirs) & ~is_enum
        bits = [side.get("bitfield_size", some) for side, some in ((old, ours), (new, theirs))]
        told = retyped | (~is_enum & (bits[0] != bits[1]))
        low_high = (
            halves(side.values(some[is_enum])) for side, some in ((old, ours), (new, theirs))
        )
        told[is_enum] = differ(*low_high)
        ours, theirs, retyped, is_enum = ours[told], theirs[told], retyped[told], is_enum[told]
        values = np.zeros((2, len(ours)), object)
        for number, (side, some) in enumerate(((old, ours), (new, theirs))):
            values[number, is_enum] = _values(side, some[is_enum])
        rows = zip(
            old.pair[ours].tolist(),
            self._names.of(old.get("name", ours)),
            old.get("type", ours).tolist(),
            new.get("type", theirs).tolist(),
            old.get("bitfield_size", ours).tolist(),
            new.get("bitfield_size", theirs).tolist(),
            *values.tolist(),
            retyped.tolist(),
            is_enum.tolist(),
            strict=True,
        )
        inner: list[int] = []
        words: list[bool] = []
        paths: list[str] = []
        lists: list[list[Any]] = []
        for at, (pair, name, code, other, bit, width, value, now, typed, enum) in enumerate(rows):
            told_of = level.found[pair]
            if enum:
                told_of.append(Detail("enumerator value", name, str(value), str(now)))
                continue
            path = level.paths[pair]
            called = path + self._called(name, code)
            if typed and nests and self._word(code) and self._word(code) == self._word(other):
                inner.append(at)
                words.append(self._word(code) == "enum")
                paths.append(f"{path}{name}." if name else path)
                lists.append([])
                told_of.append(lists[-1])
            elif typed:
                was, is_now = (f"`{self._types.all[number]}`" for number in (code, other))
                told_of.append(Detail("member retyped", called, was, is_now))
            if bit != width:
                told_of.append(Detail("bit field", called, bits_text(bit), bits_text(width)))
        ours, theirs = ours[inner], theirs[inner]
        ids, places = (
            np.column_stack([old.get(name, ours), new.get(name, theirs)])
            for name in ("type_global_id", "bit_offset")
        )
        pairs = old.pair[ours]
        outer = level.outer[pairs] + places
        return _Level(ids, np.array(words, np.bool_), level.root[pairs], paths, outer, lists)

    def _retyped(self, ours: Numbers, theirs: Numbers) -> NDArray[np.bool_]:
        """Whether members' types are spelled in another way; what is too long to be spelled is told
        apart by what it declares."""
        code, other = self._old.get("type", ours), self._new.get("type", theirs)
        differs: NDArray[np.bool_] = code != other
        is_cut = np.array([text.endswith(CUT) for text in self._types.all], np.bool_)
        cut = np.flatnonzero(~differs & is_cut[code])
        if len(cut):
            ids = [
                side.get("type_global_id", some[cut]).tolist()
                for side, some in ((self._old, ours), (self._new, theirs))
            ]
            types = [rows.types(some) for rows, some in zip(self._rows, ids, strict=True)]
            differs[cut] = [
                types[0][one].declaration_fingerprint != types[1][two].declaration_fingerprint
                for one, two in zip(*ids, strict=True)
            ]
        return differs

    def _moved(self) -> None:
        """Tell of members that lie elsewhere in their type; those in a row that moved by the same
        are told together."""
        level, old, new = self._level, self._old, self._new
        distance = new.get("bit_offset", self._theirs) - old.get("bit_offset", self._ours)
        outer = level.outer[old.pair[self._ours]]  # what moves with it is told of there
        stays = distance + outer[:, 1] == outer[:, 0]  # in what was asked about
        some = np.flatnonzero((distance != 0) & ~stays & ~level.is_enum[old.pair[self._ours]])
        if not len(some):
            return
        ours, theirs, distance = self._ours[some], self._theirs[some], distance[some]
        pair = old.pair[ours]
        first = np.flatnonzero(
            np.append(True, (distance[1:] != distance[:-1]) | (pair[1:] != pair[:-1]))
        )
        count = np.diff(np.append(first, len(some)))
        last = ours[first + count - 1]
        ours, theirs, pair = ours[first], theirs[first], pair[first]
        rows = zip(
            pair.tolist(),
            self._names.of(old.get("name", ours)),
            old.get("type", ours).tolist(),
            (old.get("bit_offset", ours) + level.outer[pair, 0]).tolist(),
            old.get("bitfield_size", ours).tolist(),
            (new.get("bit_offset", theirs) + level.outer[pair, 1]).tolist(),
            new.get("bitfield_size", theirs).tolist(),
            self._names.of(old.get("name", last)),
            old.get("type", last).tolist(),
            count.tolist(),
            strict=True,
        )
        for number, name, code, before, width, after, bits, end, end_code, members in rows:
            called = level.paths[number] + self._called(name, code)
            places = place_text(before, width), place_text(after, bits)
            until = self._called(end, end_code) if members > 1 else ""
            level.found[number].append(Detail("member moved", called, *places, until, members))


def _values(side: _Side, some: Numbers) -> list[int]:
    """Values of some enumerators."""
    return decimals(side.values(some)) if len(some) else []


def _without(count: int, some: Numbers) -> Numbers:
    """Of numbers up to ``count`` those that are not among some."""
    left = np.ones(count, np.bool_)
    left[some] = False
    return np.flatnonzero(left)
