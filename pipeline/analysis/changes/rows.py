"""Rows of the tables ``types`` and ``members`` by global id: only what is asked for is read.

Both tables are ordered by global id, and a Parquet file says of each of its row groups which ids
it holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...model.errors import OutputError
from .blocks import Block, BlockReader
from .numbers import as_arrow, decimals, numbers_of, ranges
from .spelled import composite

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

VOID = 0  # its global id
MAX_NESTED = 32  # typedefs and qualifiers, one behind the other, that are looked through
COMPOSITES = ("STRUCT", "UNION")
QUALIFYING = ("TYPEDEF", "CONST", "VOLATILE", "RESTRICT", "TYPE_TAG")


class TypeRow(NamedTuple):
    """A row of ``types``; see there. ``name`` is empty, numbers are 0 where there is none."""

    global_id: int
    kind: str
    name: str
    size: int
    vlen: int
    target_global_id: int
    spelling: str
    layout_fingerprint: bytes
    declaration_fingerprint: bytes

    @classmethod
    def of(cls, values: Iterable[Any]) -> TypeRow:
        """Make one of values as the table has them, null for what there is not."""
        pairs = zip(_EMPTY, values, strict=True)
        return cls._make(empty if value is None else value for empty, value in pairs)


class MemberRow(NamedTuple):
    """A row of ``members``; see there. ``name`` is empty, numbers are 0 where there is none."""

    global_id: int
    name: str
    type_global_id: int
    type: str
    bit_offset: int
    bitfield_size: int
    value: int


TYPE_COLUMNS, MEMBER_COLUMNS = TypeRow._fields, MemberRow._fields
_type_row = partial(tuple.__new__, TypeRow)  # as _make, of as many values as there are columns
_member_row = partial(tuple.__new__, MemberRow)
_EMPTY = (0, "", "", 0, 0, 0, "", b"", b"")
_VOID = TypeRow(VOID, "VOID", "", 0, 0, VOID, "void", b"", b"")


class _Known(dict[int, TypeRow]):
    """Types by global id. Raises OutputError for those that there are not."""

    def __missing__(self, global_id: int) -> TypeRow:
        raise OutputError(
            f"the tables have no type {global_id}, to which one of them refers: `splitbtf verify` "
            "says what is damaged"
        )


class Rows:
    """Types and members of a kernel by global id. What was looked up is kept."""

    def __init__(
        self, types: Iterable[Block], members: Iterable[Block], reader: BlockReader | None = None
    ) -> None:
        """``types``, ``members``: as they follow one another; no more are taken than are needed.
        ``reader``: of the blocks of several kernels."""
        reader = reader or BlockReader()
        self._types = _Column(types, TYPE_COLUMNS, reader)
        self._members = _Column(members, MEMBER_COLUMNS, reader)
        self._known = _Known({VOID: _VOID})
        self._members_of: dict[int, Sequence[MemberRow]] = {}

    def begin(
        self, ids: NDArray[np.int64], of_types: Sequence[str], of_members: Sequence[str]
    ) -> None:
        """Begin to read columns that types with these ids (int64, ascending) are looked up in,
        beside whatever the caller does until then."""
        self._types.begin(ids, of_types)
        self._members.begin(ids, of_members)

    def begin_until(self, last: int, of_types: Sequence[str], of_members: Sequence[str]) -> None:
        """The same of all types up to a global id."""
        self._types.begin_until(last, of_types)
        self._members.begin_until(last, of_members)

    def learn(self, types: Iterable[TypeRow]) -> None:
        """Take types that were found in another way: they need not be looked up."""
        self._known.update((found.global_id, found) for found in types)

    def types(self, ids: Iterable[int]) -> dict[int, TypeRow]:
        """Look types up; returns all that were ever looked up."""
        missing = sorted(set(ids).difference(self._known))
        if not missing:
            return self._known
        _, rows = self._types.rows(missing)
        self._known.update((row[0], _type_row(row)) for row in rows)
        return self._known

    def members(self, ids: Iterable[int]) -> dict[int, Sequence[MemberRow]]:
        """Look the members, parameters and enumerators of types up; returns all that were ever
        looked up."""
        missing = sorted(set(ids).difference(self._members_of))
        if not missing:
            return self._members_of
        counts, rows = self._members.rows(missing)
        found = map(_member_row, rows)
        self._members_of.update(
            (type_id, list(islice(found, count)))
            for type_id, count in zip(missing, counts, strict=True)
        )
        return self._members_of

    def columns(self, ids: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
        """Some columns of types with these ids, which ascend: in one piece, a row for each. Raises
        OutputError for ids that there are not."""
        counts, found = self._types.take(ids, names)
        absent = np.flatnonzero(counts == 0)
        if len(absent):
            self.type(int(ids[absent[0]]))  # raises
        if len(found) > len(ids):
            found = found.take(as_arrow(np.cumsum(counts) - 1))
        return found

    def each(self, ids: Sequence[int], names: Sequence[str]) -> list[list[Any]]:
        """Some columns of some types, in whatever order, as Python has them; empty, or 0, where
        there is nothing."""
        if all(one in self._known for one in ids):
            known = [self._known[one] for one in ids]
            return [[getattr(row, name) for row in known] for name in names]
        once, place = np.unique(np.array(ids, np.int64), return_inverse=True)
        there = once != VOID
        values: list[list[Any]] = [[] for _ in names]
        if there.any():
            found = self.columns(once[there], names)
            values = [_values(column.chunk(0)) for column in found.columns]
        if not there.all():
            values = [
                [getattr(_VOID, name), *rest] for name, rest in zip(names, values, strict=True)
            ]
        places = place.tolist()
        return [[column[at] for at in places] for column in values]

    def members_of_each(
        self, ids: NDArray[np.int64], names: Sequence[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], pa.Table]:
        """How many members each of some types has, in whatever order these are; in which row the
        first one is; and the rows with some columns, in one piece."""
        once, place = np.unique(ids, return_inverse=True)
        counts, found = self._members.take(once, names)
        return counts[place], (np.cumsum(counts) - counts)[place], found

    def type(self, global_id: int) -> TypeRow:
        """Look one type up."""
        return self._known.get(global_id) or self.types([global_id])[global_id]

    def members_of(self, global_id: int) -> Sequence[MemberRow]:
        """Look the members of one type up."""
        found = self._members_of.get(global_id)
        return self.members([global_id])[global_id] if found is None else found

    def flat_members(self, global_id: int) -> Iterator[MemberRow]:
        """The members of a type that have names, those in members without names too; all with
        their bit offsets in this type, and those of a type that is in it twice once."""
        todo, seen = deque([(global_id, 0)]), {global_id}
        while todo:
            outer, offset = todo.popleft()
            unnamed = []
            for member in self.members_of(outer):
                placed = member._replace(bit_offset=member.bit_offset + offset)
                if member.name:
                    yield placed
                else:
                    unnamed.append(placed)
            inside = self.seen_through((one.type, one.type_global_id) for one in unnamed)
            for placed, inner in zip(unnamed, inside, strict=True):
                if inner is not None and inner not in seen:
                    seen.add(inner)
                    todo.append((inner, placed.bit_offset))

    def look_up_flat(self, ids: Iterable[int]) -> None:
        """Look up, for all at once, what ``flat_members`` of these types will look up."""
        todo, done = set(ids), set[int]()
        for _ in range(MAX_NESTED):
            if not todo:
                break
            done |= todo
            members = self.members(todo)
            inside = self.seen_through(
                (member.type, member.type_global_id)
                for type_id in todo
                for member in members[type_id]
                if not member.name
            )
            todo = {inner for inner in inside if inner is not None} - done

    def seen_through(self, types: Iterable[tuple[str, int]]) -> list[int | None]:
        """Of the types of members without a name, as C spells them and by global id, the struct or
        union whose members C takes for those of what is around: one that is written out there, or,
        with -fms-extensions, another. None for all other types."""
        ids = list(types)
        behind = self.composites({type_id for text, type_id in ids if not composite(text)})
        return [type_id if composite(text) else behind.get(type_id) for text, type_id in ids]

    def composites(
        self, ids: Iterable[int], through: Collection[str] = QUALIFYING
    ) -> dict[int, int]:
        """The struct or union that each of some types is, or stands for by what is of the kinds
        ``through``: by id, of those where there is one."""
        found: dict[int, int] = {}
        todo = {type_id: type_id for type_id in ids}
        for _ in range(MAX_NESTED):
            if not todo:
                break
            known = self.types(todo.values())
            rows = {type_id: known[behind] for type_id, behind in todo.items()}
            found |= {n: row.global_id for n, row in rows.items() if row.kind in COMPOSITES}
            todo = {n: row.target_global_id for n, row in rows.items() if row.kind in through}
        return found


class _Column:
    """A table in blocks, ordered by global id."""

    def __init__(
        self, blocks: Iterable[Block], columns: Sequence[str], reader: BlockReader
    ) -> None:
        self._rest = iter(blocks)
        self._columns = columns
        self._reader = reader
        self._blocks: list[Block] = []
        self._first = self._last = np.empty(0, np.int64)

    def _extend(self, last: int) -> None:
        """Take the blocks that may hold ids up to ``last``."""
        known = len(self._blocks)
        while not self._blocks or self._blocks[-1].last <= last:
            block = next(self._rest, None)
            if block is None:
                break
            if self._blocks and block.first < self._blocks[-1].last:
                raise OutputError("the parts of a table are not in the order of their ids")
            self._blocks.append(block)
        if len(self._blocks) > known:
            self._first = np.array([block.first for block in self._blocks], np.int64)
            self._last = np.array([block.last for block in self._blocks], np.int64)

    def begin(self, ids: NDArray[np.int64], names: Sequence[str]) -> None:
        """Begin to read columns of the blocks that hold these ids, which ascend."""
        for number, _, _ in self._places(ids):
            self._reader.begin(self._blocks[number], names)

    def begin_until(self, last: int, names: Sequence[str]) -> None:
        """Begin to read columns of the blocks that may hold ids up to ``last``."""
        self._extend(last)
        for block in self._blocks:
            if block.first <= last:
                self._reader.begin(block, names)

    def _places(self, ids: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        """Of each block that holds some of these ids, which ascend: its number, and which ones."""
        if len(ids):
            self._extend(int(ids[-1]))
        low = np.searchsorted(ids, self._first)
        high = np.searchsorted(ids, self._last, "right")
        those = np.flatnonzero(low < high)
        return list(zip(those.tolist(), low[those].tolist(), high[those].tolist(), strict=True))

    def rows(self, ids: Sequence[int]) -> tuple[list[int], Iterable[tuple[Any, ...]]]:
        """The rows with these ids, which ascend; and how many each of the ids has."""
        counts, found = self.take(np.array(ids, np.int64), self._columns)
        columns = [_values(column.chunk(0)) for column in found.columns] if len(found) else ()
        return counts.tolist(), zip(*columns, strict=True)

    def take(
        self, ids: NDArray[np.int64], names: Sequence[str]
    ) -> tuple[NDArray[np.int64], pa.Table]:
        """Like ``rows``, as columns in one piece, of which there are some."""
        import pyarrow as pa

        self.begin(ids, names)
        counts = np.zeros(len(ids), np.int64)
        found: list[pa.RecordBatch] = []
        for number, low, high in self._places(ids):
            block = self._reader.get(self._blocks[number], names)
            begin = np.searchsorted(block.ids, ids[low:high], "left")
            each = np.searchsorted(block.ids, ids[low:high], "right") - begin
            counts[low:high] += each
            found.append(block.take(ranges(begin, each), names))
        schema = None if found else pa.schema([(name, pa.int64()) for name in names])
        whole = pa.Table.from_batches(found, schema).unify_dictionaries()
        return counts, whole.combine_chunks()


def _values(column: pa.Array) -> list[Any]:
    """As Python has them, null as the empty value of their type."""
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        return numbers_of(column).tolist()  # type: ignore[no-any-return]
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()  # to make the same text once
    if pa.types.is_dictionary(column.type):
        texts = [*column.dictionary.to_pylist(), ""]
        return [texts[number] for number in numbers_of(column.indices, -1).tolist()]
    if pa.types.is_decimal128(column.type):
        return decimals(column)
    if pa.types.is_fixed_size_binary(column.type) and not column.null_count:
        hashes = np.frombuffer(column.buffers()[1], np.dtype(("V", column.type.byte_width)))
        found: list[bytes] = hashes[_rows(column)].tolist()
        return found
    values: list[Any] = column.to_pylist()
    return values


def _rows(column: pa.Array) -> slice:
    """Where in its buffer the values of an array are."""
    return slice(column.offset, column.offset + len(column))
