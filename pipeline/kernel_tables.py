"""A kernel's tables: written while its modules are worked on, then analysed.

The rows of ``types`` and ``members`` are written as batches are finished, in the order of modules
whatever order they come in, so that no more of them is in memory than what waits for its turn.
What compares modules with each other reads them again from the files.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import SharedBase
from .describe import TypeColumns, base_columns
from .misses import MissRow, misses_table
from .records import BaseRecord, KernelInput, ModuleRecord

if TYPE_CHECKING:
    from .output import OutputFolder, Part
    from .schedule import Executor
    from .worker import BatchResult


class KernelTables:
    """The tables of one kernel in the making. Arrow is imported when the first rows come."""

    def __init__(self, out: OutputFolder, kernel: KernelInput, base: SharedBase | None) -> None:
        self._out = out
        self._base = base
        self._kernel = kernel.name
        self._names = ["", *(module.name for module in kernel.modules)]
        self._next = 0  # object id whose turn it is; the base is 0
        self._early: list[tuple[int, int, TypeColumns | None]] = []
        self._streams: _Streams | None = None
        self._misses: list[MissRow] = []  # a few of each module

    def begin(self) -> None:
        """Write the base's rows, those of modules wait for them."""
        if self._base is not None and self._base.index.base is not None:
            columns = base_columns(self._base.index.base, self._base.fingerprints)
            self._add(0, 0, columns)

    def add(self, result: BatchResult) -> None:
        """The rows of a batch, in any order of batches."""
        self._misses += result.misses
        self._add(result.records[0].object_id, result.records[-1].object_id, result.types)

    def _add(self, first: int, last: int, columns: TypeColumns | None) -> None:
        heapq.heappush(self._early, (first, last, columns))
        while self._early and self._early[0][0] == self._next:
            _, last, columns = heapq.heappop(self._early)
            self._next = last + 1
            if columns is not None:
                self._write(columns)

    def finish(
        self,
        base: BaseRecord | None,
        records: Sequence[ModuleRecord],
        btf_folder: Path,
        executor: Executor,
        shared: Any,
    ) -> dict[str, tuple[Part, ...]]:
        """Write all tables but ``runs``; ``shared`` is the executor's handle of the base."""
        from . import tables  # late: Arrow
        from .conflicts import conflicts_table
        from .duplicates import duplicates_table

        if self._base is not None and self._next == 0:  # there were no batches
            self.begin()
        assert not self._early
        streams = self._opened()
        types, members = streams.types.close(), streams.members.close()
        path = str(self._out.staged(types))
        built = {
            "kernels": tables.kernels_table(base, records),
            "modules": tables.modules_table(records),
            "duplicates": duplicates_table(executor, shared, path, self._names),
            "conflicts": conflicts_table(executor, shared, path, self._names, str(btf_folder)),
            "misses": misses_table(self._misses, self._names),
        }
        parts = {name: self._out.stage_table(self._kernel, name, it) for name, it in built.items()}
        parts |= {"types": types, "members": members}
        return {name: (parts[name],) for name in tables.schemas.TABLES if name in parts}

    def _write(self, columns: TypeColumns) -> None:
        streams = self._opened()
        streams.types.add(streams.made.types(columns))
        streams.members.add(streams.made.members(columns))

    def _opened(self) -> _Streams:
        if self._streams is None:
            self._streams = _Streams(self._out, self._kernel, self._names)
        return self._streams


class _Streams:
    def __init__(self, out: OutputFolder, kernel: str, names: Sequence[str]) -> None:
        from . import schemas
        from .tables import TypeTables

        self.made = TypeTables(names)
        self.types = out.stream_table(kernel, "types", schemas.TYPES.schema)
        self.members = out.stream_table(kernel, "members", schemas.MEMBERS.schema)
