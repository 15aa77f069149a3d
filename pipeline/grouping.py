"""Grouping rows of Parquet files by a 128-bit hash, a range of hashes at a time.

Reads a row group after the other and keeps only the rows and columns asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .storage import Stored

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_SHARE = 1 << 19

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


def grouped(keys: Sequence[NDArray[np.uint64]]) -> Groups:
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


def row_groups(
    parts: Sequence[Stored],
    columns: Sequence[str],
    wanted: Callable[[pa.Table], NDArray[np.bool_]],
) -> Iterator[pa.Table]:
    """The rows of Parquet files, of which there must be one, that are ``wanted``: a row group at a
    time; an empty one first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Arrow's own keeps what is free; with this one a worker takes a third less in all.
    pa.set_memory_pool(pa.system_memory_pool())
    for nth, part in enumerate(parts):
        with pq.ParquetFile(part.open()) as file:
            if not nth:
                yield file.schema_arrow.empty_table().select(list(columns))
            for number in range(file.num_row_groups):
                table = file.read_row_group(number, columns=list(columns), use_threads=False)
                yield table.filter(pa.array(wanted(table)))


def hashes(column: pa.ChunkedArray) -> Hashes:
    """A column of 16-byte hashes as numbers; nulls give any value."""
    import pyarrow as pa

    parts = []
    for chunk in column.chunks:
        data = np.frombuffer(chunk.buffers()[1] or b"", ">u8").reshape(-1, 2)
        parts.append(data[chunk.offset : chunk.offset + len(chunk)])
    if not parts:
        return np.empty((0, 2), np.uint64)
    assert pa.types.is_fixed_size_binary(column.type)
    return np.concatenate(parts).astype(np.uint64)


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
