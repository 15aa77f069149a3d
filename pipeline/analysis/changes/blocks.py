"""Row groups of tables that are ordered by global id, each read when it is needed."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...model.errors import OutputError
from .numbers import numbers_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(eq=False, slots=True)
class Block:
    """Rows that are read together: those of the types from ``first`` to ``last``."""

    first: int
    last: int
    read: Callable[[], pa.Table]


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A block that was read: its rows, and the global id of each (int64, ascending)."""

    ids: NDArray[np.int64]
    rows: list[pa.RecordBatch]


class BlockReader:
    """Reads blocks, of however many tables and kernels, beside what its caller does, and keeps
    those that were used last."""

    def __init__(self, most_bytes: int | None = None) -> None:
        """``most_bytes``: that are kept of what was read, but for the last block; all when None."""
        self._most_bytes = most_bytes
        self._bytes = 0
        self._coming: dict[Block, Future[pa.Table]] = {}
        self._kept: OrderedDict[Block, ReadBlock] = OrderedDict()

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """On all processors, for it is Arrow that does the work."""
        return ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def begin(self, block: Block) -> None:
        """Begin to read a block, unless it was read."""
        if block not in self._coming and block not in self._kept:
            self._coming[block] = self.threads.submit(block.read)

    def get(self, block: Block, columns: Sequence[str]) -> ReadBlock:
        """Read a block, unless it was read, or wait until it is. Raises OutputError."""
        found = self._kept.get(block)
        if found is not None:
            self._kept.move_to_end(block)
            return found
        self.begin(block)
        rows = self._coming.pop(block).result().select(columns).combine_chunks()
        ids = numbers_of(rows["global_id"])
        if np.any(ids[1:] < ids[:-1]):
            raise OutputError("the rows of a table are not in the order of their ids")
        found = self._kept[block] = ReadBlock(ids, rows.to_batches())
        self._bytes += _size(found)
        while self._most_bytes is not None and self._bytes > self._most_bytes:
            if len(self._kept) == 1:
                break
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return found


def _size(block: ReadBlock) -> int:
    return sum(batch.nbytes for batch in block.rows)
