"""Row groups of tables that are ordered by global id; of each what is asked for is read."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from weakref import finalize

import numpy as np

from ...model.errors import OutputError
from .numbers import as_arrow, numbers_of, one_piece

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

#: Texts that come again so often that they are read as dictionaries, by table.
REPEATED = {"types": ("name",), "members": ("type",)}
_DECODED = {name for names in REPEATED.values() for name in names}


class ReadBlock(NamedTuple):
    """Some columns of a block.

    ids      int64, ascending: the global id of each row
    columns  by name
    """

    ids: NDArray[np.int64]
    columns: Mapping[str, pa.Array]

    def take(self, rows: NDArray[np.int64], names: Sequence[str]) -> pa.RecordBatch:
        """Some columns of some rows. What is repeated is no dictionary any more, as each block has
        a long one of its own."""
        import pyarrow as pa

        at = as_arrow(rows)
        found = [self.columns[name].take(at) for name in names]
        for number, name in enumerate(names):
            if name in _DECODED and pa.types.is_dictionary(found[number].type):
                found[number] = found[number].dictionary_decode()
        return pa.RecordBatch.from_arrays(found, list(names))


@dataclass(eq=False, slots=True)
class Block:
    """Rows that are read together: those of the types from ``first`` to ``last``.

    read     reads some columns of them
    columns  those that were read
    coming   those that are being read
    ids      of ``columns``
    """

    first: int
    last: int
    read: Callable[[Sequence[str]], pa.Table] = field(repr=False)
    columns: dict[str, pa.Array] = field(default_factory=dict, repr=False)
    coming: dict[str, Future[pa.Table]] = field(default_factory=dict, repr=False)
    ids: NDArray[np.int64] | None = field(default=None, repr=False)

    def get(self, names: Sequence[str]) -> ReadBlock:
        """Wait until some columns are read, which were begun; those that no thread has come to are
        read here, before all that others may need later. Raises OutputError."""
        for name in names:
            if name in self.columns:
                continue
            coming = self.coming[name]
            together = [other for other, future in self.coming.items() if future is coming]
            found = self.read(together) if coming.cancel() else coming.result()
            for other in together:
                self.columns[other] = one_piece(found[other])
                del self.coming[other]
        if self.ids is None:
            self.ids = numbers_of(self.columns["global_id"])
            if np.any(self.ids[1:] < self.ids[:-1]):
                raise OutputError("the rows of a table are not in the order of their ids")
        return ReadBlock(self.ids, {name: self.columns[name] for name in names})

    def forget(self) -> None:
        """Let go of what was read."""
        self.columns.clear()
        self.ids = None


class BlockReader:
    """Reads blocks, of however many tables and kernels, beside what its caller does. What was read
    stays with its block, as long as that is among those that were used last. When nobody has the
    reader any more, what was not yet begun is not read."""

    def __init__(self, most_bytes: int | None = None) -> None:
        """``most_bytes``: that are kept of what was read, but for the last block; all when None."""
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Block, int] = OrderedDict()  # how many bytes, if there is a limit
        self._lock = Lock()

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """On all processors, for it is Arrow that does the work."""
        threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        finalize(self, threads.shutdown, wait=False, cancel_futures=True)
        return threads

    def begin(self, block: Block, columns: Sequence[str]) -> None:
        """Begin to read columns of a block, but for those that were read."""
        known = block.columns.keys() | block.coming.keys()
        wanted = dict.fromkeys(("global_id", *columns))
        missing = [name for name in wanted if name not in known]
        if missing:
            block.coming |= dict.fromkeys(missing, self.threads.submit(block.read, missing))

    def get(self, block: Block, columns: Sequence[str]) -> ReadBlock:
        """Wait until columns of a block are read. Several threads may call this, but not of one
        block. Raises OutputError."""
        if self._most_bytes is None:
            self.begin(block, columns)
            return block.get(("global_id", *columns))
        with self._lock:
            self.begin(block, columns)
            found = block.get(("global_id", *columns))
            self._kept[block] = sum(column.nbytes for column in block.columns.values())
            self._kept.move_to_end(block)
            while len(self._kept) > 1 and sum(self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)[0].forget()
        return found
