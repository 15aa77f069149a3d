"""From results, in whatever order they come, to a kernel's tables: row by row in module order.

Results are read from their files when their turn comes. Held in memory are where each result is,
and the rows of an unfinished row group; never a kernel's rows.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import OutputError
from .output import OutputFolder
from .parquet import Part, PartWriter
from .records import KernelInput, ModuleInput, ModuleRecord
from .results import DamagedError, Entry, ModuleResult, Results
from .summary import WorkSummary, summarize, together

_MODULES_AT_ONCE = 128  # whose rows become one piece of a table
_FILES_AT_HAND = 4  # of results; neighbours are mostly in the same one


@dataclass(frozen=True, slots=True)
class Location:
    """Where a result is: a file of results and the number in it. ``btf`` is its BTF file."""

    path: str
    position: int
    btf: str


@dataclass(slots=True)
class Facts:
    """What is known of the modules that are in the tables.

    keys     of their results by object id, or why there is none
    files    bytes of BTF files by name
    digests  of BTF files by module
    origins  where BTF files are, by name
    conditional  of the results, those that may become invalid though nothing changes
    """

    keys: dict[int, str] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    conditional: list[Entry] = field(default_factory=list)
    summaries: list[WorkSummary] = field(default_factory=list)


class KernelTables:
    """The tables of a kernel in the making. Raises OutputError."""

    def __init__(
        self, out: OutputFolder, kernel: KernelInput, base_rows: Mapping[str, Any]
    ) -> None:
        """``base_rows`` are the base's rows of tables that have rows by module."""
        from . import schemas, tables  # late: Arrow

        self.facts = Facts()
        self._tables = tables
        self._out = out
        self._kernel = kernel
        self._located: dict[int, Location] = {}
        self._next = 1  # object id of the first module that is not in the tables
        self._at_hand: OrderedDict[str, Results] = OrderedDict()
        self._made = tables.TypeTables(["", *(module.name for module in kernel.modules)])
        self._writers: dict[str, PartWriter] = {}
        for name in ("modules", *tables.TABLES_BY_MODULE):
            self._writers[name] = out.new_part(kernel.name, name, schemas.TABLES[name].schema)
        self._write({name: [(0, rows)] for name, rows in base_rows.items()})

    def located(self, found: Mapping[int, Location]) -> None:
        """Results are to be had; add to the tables what now has its turn."""
        self._located.update(found)
        while len(batch := self._take()) > 0:
            self._add(batch)

    def _take(self) -> list[tuple[ModuleInput, Location]]:
        batch: list[tuple[ModuleInput, Location]] = []
        while len(batch) < _MODULES_AT_ONCE and self._next in self._located:
            location = self._located.pop(self._next)
            batch.append((self._kernel.modules[self._next - 1], location))
            self._next += 1
        return batch

    def _add(self, batch: list[tuple[ModuleInput, Location]]) -> None:
        records: list[ModuleRecord] = []
        rows: dict[str, list[tuple[int, Any]]] = {name: [] for name in self._tables.BY_MODULE}
        for module, location in batch:
            entry, result = self._read(location)
            record = dataclasses.replace(
                result.record,
                module=module.name,
                object_id=module.object_id,
                source=module.source,
            )
            records.append(record)
            for name, of_module in result.rows.items():
                rows[name].append((module.object_id, of_module))
            self._note(module, location, entry, record)
        self.facts.summaries.append(summarize(records))
        self._writers["modules"].add(self._tables.modules_table(records))
        self._write(rows)

    def _write(self, rows: Mapping[str, list[tuple[int, Any]]]) -> None:
        for name, of_objects in rows.items():
            if of_objects:
                for table, chunk in self._tables.BY_MODULE[name](self._made, of_objects).items():
                    self._writers[table].add(chunk)

    def _note(
        self, module: ModuleInput, location: Location, entry: Entry, record: ModuleRecord
    ) -> None:
        facts = self.facts
        failure = record.failure
        facts.keys[module.object_id] = entry.key or (
            f"!{failure.kind}: {failure.message}" if failure is not None else ""
        )
        if entry.is_conditional:
            facts.conditional.append(dataclasses.replace(entry, module=module.name))
        if entry.output_sha256 is not None and entry.bytes_out is not None:
            name = f"{module.name}.btf"
            facts.files[name] = entry.bytes_out
            facts.digests[module.name] = entry.output_sha256
            facts.origins[name] = location.btf

    def _read(self, location: Location) -> tuple[Entry, ModuleResult]:
        path = location.path
        try:
            if path not in self._at_hand:
                packed = self._out.storage.read(path)
                self._at_hand[path] = Results(path.rpartition("/")[2], packed)
                if len(self._at_hand) > _FILES_AT_HAND:
                    self._at_hand.popitem(last=False)
            self._at_hand.move_to_end(path)
            results = self._at_hand[path]
            return results.entries[location.position], results[location.position]
        except (OSError, DamagedError) as error:
            raise OutputError(
                f"cannot read {self._out.storage.place}/{path}: {error}; remove it and run again"
            ) from error

    def finish(self) -> tuple[dict[str, Part], WorkSummary]:
        """All modules are in the tables: their parts, and the summary."""
        if self._next <= len(self._kernel.modules):
            raise AssertionError(f"no result of {self._kernel.modules[self._next - 1].name}")
        parts = {
            name: self._out.add_part(self._kernel.name, name, writer)
            for name, writer in self._writers.items()
        }
        return parts, together(self.facts.summaries)
