"""Grouping rows of Parquet files by a 128-bit hash, a range of hashes at a time.

Files are read twice, a few rows at a time: first what decides which rows belong together, then,
for the few rows that are named in the end, what else is to be said of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..files.storage import Stored

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_SHARE = 1 << 19
_ROWS_AT_ONCE = 1 << 15

Hashes = NDArray[np.uint64]  # shape (rows, 2): upper and lower half


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows with equal hashes side by side; rows of a group are in their old order.

    order  int64: rows, group after group, groups by hash
    start  int64: where in ``order`` each group begins, and after the last one its end
    """

    order: NDArray[np.int64]
    start: NDArray[np.int64]

    @property
    def first(self) -> NDArray[np.int64]:
        """The first row of each group."""
        return self.order[self.start[:-1]]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows in each group."""
        return np.diff(self.start)

    def group_of(self) -> NDArray[np.int64]:
        """The group of each entry of ``order``."""
        return np.repeat(np.arange(len(self.start) - 1), self.sizes)


def grouped(keys: Sequence[NDArray[Any]]) -> Groups:
    """Group rows by several columns, the most significant first."""
    rows = len(keys[0])
    order = np.lexsort(tuple(reversed(keys))).astype(np.int64, copy=False)
    new = np.zeros(rows, np.bool_)
    new[:1] = True
    for key in keys:
        ordered = key[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    return Groups(order, np.append(np.flatnonzero(new), rows))


def ranges(count: int) -> list[tuple[int, int]]:
    """All upper halves of hashes, cut into ``count`` ranges [low, high)."""
    ends = [number * (1 << 64) // count for number in range(count + 1)]
    return list(itertools.pairwise(ends))


def shares_of(parts: Sequence[Stored], workers: int) -> int:
    """Into how many tasks to cut the rows of Parquet files: each reads all files, and keeps about
    ROWS_PER_SHARE at most."""
    import pyarrow.parquet as pq

    rows = 0
    for part in parts:
        with pq.ParquetFile(part.open()) as file:
            rows += int(file.metadata.num_rows)
    return workers * max(1, -(-rows // (workers * ROWS_PER_SHARE)))


def batches(
    parts: Sequence[Stored], columns: Sequence[str]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Some columns of Parquet files, a few rows at a time: (number of the first row, rows). Rows
    are numbered through all files."""
    import pyarrow.parquet as pq

    first = 0
    for part in parts:
        with pq.ParquetFile(part.open()) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(columns), use_threads=False):
                yield first, batch
                first += len(batch)


def take_rows(
    parts: Sequence[Stored], columns: Sequence[str], numbers: NDArray[np.int64]
) -> pa.Table:
    """Rows of Parquet files, of which there must be one, by their numbers, in that order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(parts[0].open()) as file:
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
    found = [schema.empty_table()]
    order = np.argsort(numbers, kind="stable")
    wanted = numbers[order]
    for first, batch in batches(parts, columns):
        low, high = np.searchsorted(wanted, [first, first + len(batch)])
        if low < high:
            rows = batch.take(pa.array(wanted[low:high] - first))
            found.append(pa.Table.from_batches([rows]).select(columns))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return pa.concat_tables(found).unify_dictionaries().take(pa.array(place))


def hashes(column: pa.FixedSizeBinaryArray) -> Hashes:
    """A column of 16-byte hashes as numbers; nulls give any value."""
    data = np.frombuffer(column.buffers()[1] or b"", ">u8").reshape(-1, 2)
    return data[column.offset : column.offset + len(column)].astype(np.uint64)


class Pieces:
    """Columns that come in pieces, one for each batch of rows."""

    def __init__(self, *dtypes: type) -> None:
        self._columns: list[tuple[type, list[NDArray[Any]]]] = [(dtype, []) for dtype in dtypes]

    def add(self, *pieces: NDArray[Any]) -> None:
        """One piece of each column."""
        for (_, column), piece in zip(self._columns, pieces, strict=True):
            column.append(piece)

    def take(self) -> Iterator[NDArray[Any]]:
        """Each column as a whole; its pieces are let go of."""
        for dtype, column in self._columns:
            yield behind_one_another(column, dtype)
            column.clear()


def behind_one_another(pieces: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    """Columns of several batches, of which there may be none, as one."""
    return np.concatenate([np.empty(0, dtype), *pieces])


def distinct_per_group(
    groups: Groups, values: NDArray[np.uint32], at_least: int
) -> tuple[NDArray[np.int64], pa.ListArray]:
    """Groups with that many different values, and these values; in a group equal ones are
    neighbours."""
    import pyarrow as pa

    ordered = values[groups.order]
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    new[groups.start[:-1]] = True
    counts = np.add.reduceat(new, groups.start[:-1], dtype=np.int64) if len(ordered) else _NONE
    chosen = counts >= at_least
    kept = ordered[new & np.repeat(chosen, groups.sizes)]
    ends = np.append(0, np.cumsum(counts[chosen])).astype(np.int32)
    return np.flatnonzero(chosen), pa.ListArray.from_arrays(ends, pa.array(kept, pa.uint32()))


def with_modules(rows: pa.Table, names: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Rows in the form of a table: lists of ``object_ids`` become ``modules``."""
    import pyarrow as pa

    object_ids = rows["object_ids"].combine_chunks()
    texts = pa.array(names, pa.string()).take(object_ids.flatten())
    ends = np.append(0, np.cumsum(object_ids.value_lengths().to_numpy())).astype(np.int32)
    columns = dict(zip(rows.column_names, rows.columns, strict=True))
    columns["modules"] = pa.chunked_array([pa.ListArray.from_arrays(ends, texts)])
    return pa.table([columns[f.name].cast(f.type) for f in schema], schema=schema)


_NONE = np.empty(0, np.int64)
