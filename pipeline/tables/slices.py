"""A slice of a kernel: objects that follow one another, whose rows are a part of each table.

Slices are cut by the numbers of the modules alone, so the parts are the same whoever makes them
and in whatever order results come. The base is a slice of its own. Workers make the parts, each
slice as soon as it is done: the run itself only says where the results are.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..files.storage import Storage
from ..model.base import SharedBase
from ..model.errors import OutputError
from ..model.records import ModuleRecord
from ..model.summary import WorkSummary, summarize
from .parquet import Part
from .parts import NewParts, new_parts
from .results import BatchResults, DamagedError, Entry, Results

if TYPE_CHECKING:
    from .arrow import TypeTables
    from .describe import Rows

MODULES_PER_SLICE = 512
_MODULES_AT_ONCE = 32  # whose rows become one piece of a table
_FILES_AT_HAND = 2  # of results; neighbours are mostly in the same one


@dataclass(frozen=True, slots=True)
class Location:
    """Where a result is: a file of results and the number in it. ``btf`` is its BTF file."""

    path: str
    position: int
    btf: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A module, and where its result is."""

    name: str
    object_id: int
    source: str
    location: Location


@dataclass(frozen=True, slots=True)
class Slice:
    """What parts are to be made of: these modules of a kernel, or, if there are none, its base.

    names  of all objects of the kernel by object id; the base's is empty
    """

    storage: Storage
    scratch: str | None
    kernel: str
    names: Sequence[str]
    modules: Sequence[Placed]


@dataclass(slots=True)
class Facts:
    """What is known of the modules that are in the tables.

    parts    of the tables that have rows of these modules
    keys     of their results by object id, or why there is none
    files    bytes of BTF files by name
    digests  of BTF files by module
    origins  where BTF files are, by name
    conditional  of the results, those that may become invalid though nothing changes
    """

    parts: dict[str, list[Part]] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    conditional: list[Entry] = field(default_factory=list)
    summaries: list[WorkSummary] = field(default_factory=list)

    def add(self, more: Facts) -> None:
        """What is known of the next slice."""
        for table, parts in more.parts.items():
            self.parts.setdefault(table, []).extend(parts)
        self.keys |= more.keys
        self.files |= more.files
        self.digests |= more.digests
        self.origins |= more.origins
        self.conditional += more.conditional
        self.summaries += more.summaries


def make_parts(base: SharedBase, task: Slice) -> Facts:
    """The parts of a slice, in their places, and what is known of its modules.

    A table in which nothing is said of these modules gets no part. Raises OutputError.
    """
    from . import arrow as tables  # late: Arrow

    facts = Facts()
    made = tables.TypeTables(task.names)
    with new_parts(task.storage, task.kernel, task.scratch) as parts:
        if task.modules:
            results = _AtHand(task.storage)
            for start in range(0, len(task.modules), _MODULES_AT_ONCE):
                _add(task.modules[start : start + _MODULES_AT_ONCE], results, made, parts, facts)
        else:
            from .describe import Rows, base_columns

            types = base.index.base
            assert types is not None
            rows = Rows(base_columns(types, base.fingerprints), ((),))
            _write([([0], rows)], made, parts)
        facts.parts = {name: [part] for name, part in parts.finish().items()}
    return facts


def _add(
    modules: Sequence[Placed], results: _AtHand, made: TypeTables, parts: NewParts, facts: Facts
) -> None:
    from . import arrow as tables

    records: list[ModuleRecord] = []
    rows = _Runs()
    for module in modules:
        location = module.location
        entry, found = results.read(location)
        record = found.records[location.position]._replace(
            module=module.name, object_id=module.object_id, source=module.source
        )
        records.append(record)
        row = found.row[location.position]
        if found.rows is not None and row is not None:
            rows.add(module.object_id, found.rows, row)
        _note(module, entry, record, facts)
    facts.summaries.append(summarize(records))
    parts.add("modules", tables.modules_table(records))
    _write(rows.parts(), made, parts)


def _write(rows: Sequence[tuple[Sequence[int], Rows]], made: TypeTables, parts: NewParts) -> None:
    from . import arrow as tables

    if rows:
        for table, chunk in tables.by_module(made, rows).items():
            if len(chunk):
                parts.add(table, chunk)


def _note(module: Placed, entry: Entry, record: ModuleRecord, facts: Facts) -> None:
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
        facts.origins[name] = module.location.btf


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


class _AtHand:
    """Files of results; the last few that were used stay open."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._files: OrderedDict[str, Results] = OrderedDict()

    def read(self, location: Location) -> tuple[Entry, BatchResults]:
        """The result that is there, and all those that it is among. Raises OutputError."""
        path = location.path
        try:
            if path not in self._files:
                packed = self._storage.read(path)
                self._files[path] = Results(path.rpartition("/")[2], packed)
                if len(self._files) > _FILES_AT_HAND:
                    self._files.popitem(last=False)
            self._files.move_to_end(path)
            results = self._files[path]
            return results.entries[location.position], results.batch
        except (OSError, DamagedError) as error:
            raise OutputError(
                f"cannot read {self._storage.place}/{path}: {error}; remove it and run again"
            ) from error
