"""From results, in whatever order they come, to a kernel's tables: row by row in module order.

Results are read from their files when their turn comes. Held in memory are where each result is,
and the rows of an unfinished row group; never a kernel's rows.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import OutputError
from .output import OutputFolder
from .parquet import Part, PartWriter
from .records import KernelInput, ModuleInput, ModuleRecord
from .results import BatchResults, DamagedError, Entry, Results
from .summary import WorkSummary, summarize, together

if TYPE_CHECKING:
    from .describe import Rows

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


class _Runs:
    """Rows of modules one after the other, those that follow one another in one piece."""

    def __init__(self) -> None:
        self._runs: list[tuple[list[int], Rows, int]] = []

    def add(self, object_id: int, rows: Rows, number: int) -> None:
        """The next module: its rows are number ``number`` of these."""
        if self._runs:
            object_ids, before, first = self._runs[-1]
            if before is rows and number == first + len(object_ids):
                object_ids.append(object_id)
                return
        self._runs.append(([object_id], rows, number))

    def parts(self) -> list[tuple[Sequence[int], Rows]]:
        """All of them, with their object ids."""
        return [(ids, rows[first : first + len(ids)]) for ids, rows, first in self._runs]


class KernelTables:
    """The tables of a kernel in the making. Raises OutputError."""

    def __init__(self, out: OutputFolder, kernel: KernelInput, base_rows: Rows | None) -> None:
        """``base_rows`` are those of the base, if there is one."""
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
        if base_rows is not None:
            self._write([([0], base_rows)])

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
        rows = _Runs()
        for module, location in batch:
            entry, found = self._read(location)
            record = dataclasses.replace(
                found.records[location.position],
                module=module.name,
                object_id=module.object_id,
                source=module.source,
            )
            records.append(record)
            row = found.row[location.position]
            if found.rows is not None and row is not None:
                rows.add(module.object_id, found.rows, row)
            self._note(module, location, entry, record)
        self.facts.summaries.append(summarize(records))
        self._writers["modules"].add(self._tables.modules_table(records))
        self._write(rows.parts())

    def _write(self, rows: Sequence[tuple[Sequence[int], Rows]]) -> None:
        if rows:
            for table, chunk in self._tables.by_module(self._made, rows).items():
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

    def _read(self, location: Location) -> tuple[Entry, BatchResults]:
        path = location.path
        try:
            if path not in self._at_hand:
                packed = self._out.storage.read(path)
                self._at_hand[path] = Results(path.rpartition("/")[2], packed)
                if len(self._at_hand) > _FILES_AT_HAND:
                    self._at_hand.popitem(last=False)
            self._at_hand.move_to_end(path)
            results = self._at_hand[path]
            return results.entries[location.position], results.batch
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
