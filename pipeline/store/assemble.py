"""From results, in whatever order they come, to a kernel's tables: slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

from ..engine.scheduler import Workforce
from ..model.records import KernelInput
from ..model.summary import WorkSummary, together
from ..tables.parquet import Part
from ..tables.slices import MODULES_PER_SLICE, Facts, Location, Placed, Slice, make_parts
from .output import OutputFolder

BY_SLICE = ("modules", "types", "members", "misses")

_BASE = -1  # the number of its slice, before those of modules


class KernelTables:
    """The tables of a kernel in the making. Raises OutputError.

    The parts of a slice are made by the workforce as soon as all its results are there.
    """

    def __init__(
        self, out: OutputFolder, kernel: KernelInput, workforce: Workforce, *, has_base: bool
    ) -> None:
        self.facts = Facts()
        self._out = out
        self._kernel = kernel
        self._names = ["", *(module.name for module in kernel.modules)]
        self._workforce = workforce
        self._located: dict[int, Location] = {}
        self._missing = [
            min(MODULES_PER_SLICE, len(kernel.modules) - first)
            for first in range(0, len(kernel.modules), MODULES_PER_SLICE)
        ]
        self._has_base = has_base
        self._made: dict[int, Future[Facts]] = {}  # by the number of the slice

    def located(self, found: Mapping[int, Location]) -> None:
        """Results are to be had."""
        self._located.update(found)
        if found:  # the first modules do not wait for it
            self._make_base()
        for object_id in found:
            number = (object_id - 1) // MODULES_PER_SLICE
            self._missing[number] -= 1
            if not self._missing[number]:
                self._made[number] = self._make(self._placed(number))

    def _placed(self, number: int) -> list[Placed]:
        first = number * MODULES_PER_SLICE
        return [
            Placed(module.name, module.object_id, module.source, self._located.pop(object_id))
            for object_id, module in enumerate(
                self._kernel.modules[first : first + MODULES_PER_SLICE], first + 1
            )
        ]

    def _make_base(self) -> None:
        if self._has_base and _BASE not in self._made:
            self._made[_BASE] = self._make([])

    def _make(self, modules: list[Placed]) -> Future[Facts]:
        out = self._out
        task = Slice(out.storage, out.parts_scratch, self._kernel.name, self._names, modules)
        return self._workforce.submit(make_parts, task)

    def finish(self) -> tuple[dict[str, tuple[Part, ...]], WorkSummary]:
        """All results are there: the parts of each table, and the summary."""
        if any(self._missing):
            raise AssertionError(f"no result of {sum(self._missing)} modules")
        self._make_base()
        for number in sorted(self._made):
            self.facts.add(self._made[number].result())
        found = self.facts.parts
        for part in (part for parts in found.values() for part in parts):
            self._out.adopt(part)
        parts = {table: tuple(found.get(table) or [self._empty(table)]) for table in BY_SLICE}
        return parts, together(self.facts.summaries)

    def _empty(self, table: str) -> Part:
        from ..tables import schemas  # late: Arrow

        return self._out.table(self._kernel.name, table, schemas.TABLES[table].schema.empty_table())
