"""From results, in whatever order they come, to a kernel's tables.

Tables with rows by module are made slice by slice, the others when all modules are done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from ..files.storage import Stored
from ..model.base import IndexedBase
from ..model.engine import Workforce
from ..model.records import KernelInput
from ..model.summary import WorkSummary, merge_summaries
from ..tables.stored.parquet import Part
from ..tables.stored.slices import (
    MODULES_PER_SLICE,
    ModuleResultRef,
    ResultRef,
    Slice,
    SliceSummary,
    make_parts,
)
from .output import OutputFolder

if TYPE_CHECKING:
    from ..tables.schema import Table

_BASE = -1  # the number of its slice, before those of modules

Parts = Mapping[str, Sequence[Part]]  # by table


class KernelTables:
    """The tables of a kernel in the making. Raises OutputError.

    The parts of a slice are made by the workforce as soon as all its results are there.

    repeated_types, repeated_bytes   of the table ``duplicates``, once it is made: types beyond the
                    first of each class
    """

    repeated_types: int | None = None
    repeated_bytes: int | None = None

    def __init__(
        self,
        out: OutputFolder,
        kernel: KernelInput,
        base: IndexedBase | None,
        workforce: Workforce,
    ) -> None:
        self.summary = SliceSummary()
        self._out = out
        self._kernel = kernel
        self._base = base
        self._workforce = workforce
        self._found: dict[int, ResultRef] = {}  # by object id
        self._missing = [
            min(MODULES_PER_SLICE, len(kernel.modules) - first)
            for first in range(0, len(kernel.modules), MODULES_PER_SLICE)
        ]
        self._made: dict[int, Future[SliceSummary]] = {}  # by the number of the slice

    def add(self, found: Mapping[int, ResultRef]) -> None:
        """Take results, by object id."""
        self._found.update(found)
        if found:  # the first modules do not wait for it
            self._make_base()
        for object_id in found:
            number = (object_id - 1) // MODULES_PER_SLICE
            self._missing[number] -= 1
            if not self._missing[number]:
                self._made[number] = self._make(self._slice(number))

    def _slice(self, number: int) -> list[ModuleResultRef]:
        first = number * MODULES_PER_SLICE
        return [
            ModuleResultRef(module.name, object_id, module.source, self._found.pop(object_id))
            for object_id, module in enumerate(
                self._kernel.modules[first : first + MODULES_PER_SLICE], first + 1
            )
        ]

    def _make_base(self) -> None:
        if self._base is not None and _BASE not in self._made:
            self._made[_BASE] = self._make([])

    def _make(self, modules: list[ModuleResultRef]) -> Future[SliceSummary]:
        out, kernel = self._out, self._kernel
        task = Slice(out.storage, out.parts_scratch, kernel.name, kernel.object_names, modules)
        return self._workforce.submit(make_parts, task)

    def finish(self) -> tuple[dict[str, tuple[Part, ...]], WorkSummary]:
        """Make the parts of the tables with rows by module, all of whose results are there."""
        from ..tables.registry import module_tables  # late: Arrow

        if any(self._missing):
            raise AssertionError(f"no result of {sum(self._missing)} modules")
        self._make_base()
        self.wait()
        for number in sorted(self._made):
            self.summary.add(self._made[number].result())
        found = self.summary.parts
        for part in (part for parts in found.values() for part in parts):
            self._out.schedule_fsync(part)
        parts = {t.name: tuple(found.get(t.name) or [self._empty(t)]) for t in module_tables()}
        return parts, merge_summaries(self.summary.summaries)

    def wait(self) -> None:
        """Wait until nobody makes parts any more."""
        wait(self._made.values())

    def _empty(self, table: Table) -> Part:
        return self._out.table(self._kernel.name, table.name, table.schema.empty_table())

    def finish_kernel(
        self, parts: Parts, btf_folder: str, summary: WorkSummary
    ) -> dict[str, tuple[Part, ...]]:
        """Make the parts of the other tables, beside one another: while one waits for its last
        task, workers do another's.

        parts       of the tables with rows by module
        btf_folder  where the kernel's BTF files are
        """
        from ..tables.registry import kernel_tables
        from ..tables.schema import FinishedKernel

        storage = self._out.storage
        finished = FinishedKernel(
            kernel=self._kernel,
            base=self._base,
            summary=summary,
            tables={name: [Stored(storage, part.path) for part in parts[name]] for name in parts},
            btf=Stored(storage, btf_folder),
            workforce=self._workforce,
        )
        wanted = [t for t in kernel_tables() if self._base is not None or not t.needs_base]
        with ThreadPoolExecutor(len(wanted), "tables") as pool:
            coming = {table.name: pool.submit(table.make, finished) for table in wanted}
        if "duplicates" in coming:
            found = coming["duplicates"].result()
            self.repeated_types = sum(found["copies"].to_pylist()) - len(found)
            self.repeated_bytes = sum(found["wasted_bytes"].to_pylist())
        made: dict[str, tuple[Part, ...]] = {
            t.name: (self._empty(t),) for t in kernel_tables() if t.name not in coming
        }
        for name, rows in coming.items():
            made[name] = (self._out.table(self._kernel.name, name, rows.result()),)
        return made
