"""A slice of a kernel: objects that follow one another, whose rows are a part of each table.

Slices are cut by the numbers of the modules alone, so the parts are the same whoever makes them
and in whatever order results come. The base is a slice of its own. Workers make the parts, each
slice as soon as it is done: the run itself only says where the results are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

import btf

from ...files.storage import Storage
from ...model.base import SharedBase
from ...model.errors import PlaceError
from ...model.records import ModuleRecord
from ...model.summary import WorkSummary, summarize
from ..describe import BaseGroup, ModuleGroup, rows_of
from .parquet import Part
from .parts import NewParts, new_parts
from .results import DamagedError, Entry, Results, read_derived

if TYPE_CHECKING:
    import pyarrow as pa

    from ..schema import ModuleTable, Rows

MODULES_PER_SLICE = 512
_MODULES_AT_ONCE = 32  # whose rows become one piece of a table
_FILES_AT_HAND = 2  # of results; neighbours are mostly in the same one


@dataclass(frozen=True, slots=True)
class ResultRef:
    """Where a result is.

    path      of the file of results
    position  in it
    btf       its BTF file
    derived   the file of its rows that are not kept, with the same positions; None where these are
              to be made of the BTF file
    """

    path: str
    position: int
    btf: str
    derived: str | None = None


@dataclass(frozen=True, slots=True)
class ModuleResultRef:
    """A module, and where its result is."""

    name: str
    object_id: int
    source: str
    result: ResultRef


@dataclass(frozen=True, slots=True)
class Slice:
    """What parts are to be made of: these modules of a kernel, or, if there are none, its base.

    names  of all objects of the kernel by object id; the base's is empty
    """

    storage: Storage
    scratch: str | None
    kernel: str
    names: Sequence[str]
    modules: Sequence[ModuleResultRef]


@dataclass(slots=True)
class SliceSummary:
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

    def add(self, more: SliceSummary) -> None:
        """Add what is known of the next slice."""
        for table, parts in more.parts.items():
            self.parts.setdefault(table, []).extend(parts)
        self.keys |= more.keys
        self.files |= more.files
        self.digests |= more.digests
        self.origins |= more.origins
        self.conditional += more.conditional
        self.summaries += more.summaries

    def add_module(self, module: ModuleResultRef, entry: Entry, record: ModuleRecord) -> None:
        """Add what is known of a module."""
        failure = record.failure
        self.keys[module.object_id] = entry.key or (
            f"!{failure.kind}: {failure.message}" if failure is not None else ""
        )
        if entry.is_conditional:
            self.conditional.append(dataclasses.replace(entry, module=module.name))
        if entry.output_sha256 is not None and entry.bytes_out is not None:
            name = f"{module.name}.btf"
            self.files[name] = entry.bytes_out
            self.digests[module.name] = entry.output_sha256
            self.origins[name] = module.result.btf


def make_parts(base: SharedBase | None, task: Slice) -> SliceSummary:
    """Make the parts of a slice, in their places; returns what is known of its modules.

    A table in which nothing is said of these modules gets no part. Raises OutputError.
    """
    summary = SliceSummary()
    with new_parts(task.storage, task.kernel, task.scratch) as parts:
        made = _Parts(base, task, parts)
        if task.modules:
            results = ResultsLRU(task.storage, base)
            for start in range(0, len(task.modules), _MODULES_AT_ONCE):
                modules = task.modules[start : start + _MODULES_AT_ONCE]
                entries, rows = results.read(modules)
                records = made.add(modules, rows)
                for module, entry, record in zip(modules, entries, records, strict=True):
                    summary.add_module(module, entry, record)
                summary.summaries.append(summarize(records))
        else:
            made.add_base()
        summary.parts = {name: [part] for name, part in parts.finish().items()}
    return summary


class _Parts:
    """Makes rows of tables of rows of results."""

    def __init__(self, base: SharedBase | None, task: Slice, parts: NewParts) -> None:
        import pyarrow as pa  # late

        from ..schema import strings

        self._base = base
        self._parts = parts
        self._names = pa.array(task.names, pa.string())
        self._spelled_below = pa.array(["void"])  # by a base's own types
        if base is not None and task.modules:
            self._spelled_below = strings(*base.declarations.spellings())

    def add(
        self, modules: Sequence[ModuleResultRef], pieces: Sequence[pa.RecordBatch]
    ) -> list[ModuleRecord]:
        """Add rows of some modules, as results have them; returns what ``summarize`` asks for."""
        import pyarrow as pa

        from ..modules import records_of
        from ..registry import module_tables

        whole = pa.Table.from_batches(pieces).combine_chunks()
        ids = np.array([module.object_id for module in modules], np.uint32)
        lists = {table.name: whole[table.name].chunk(0) for table in module_tables()}
        rows = {name: (of.value_lengths().to_numpy(), of.flatten()) for name, of in lists.items()}
        sources = [module.source for module in modules]
        for name, made in self._write(lambda table: rows[table.name], ids, sources):
            if name == "modules":
                records = records_of(made, rows[name][1].field("path"))
        return records

    def add_base(self) -> None:
        """Add the rows of the base, those of one table after the other: they are many."""
        from .. import leftovers

        assert self._base is not None
        group = BaseGroup(self._base)
        # To find what is in a base twice it is deduplicated: while no other rows are at hand.
        twice = leftovers.TABLE.rows(group)
        btf.release_workspaces()

        def rows_for(table: ModuleTable) -> Rows | None:
            if table is leftovers.TABLE:
                return twice
            return table.rows(group) if table.of_base else None

        for _ in self._write(rows_for, np.zeros(1, np.uint32), [""]):
            pass

    def _write(
        self,
        rows_for: Callable[[ModuleTable], Rows | None],
        ids: np.ndarray,
        sources: Sequence[str],
    ) -> Iterator[tuple[str, pa.Table]]:
        """Add the rows of some objects to their tables; yields what was added, by table."""
        from ..registry import module_tables
        from ..schema import Objects, Spelled

        # Without a base all modules failed, and none has a type.
        start_id = self._base.index.type_end if self._base is not None and ids.any() else 1
        spelled: Spelled | None = None
        for table in sorted(module_tables(), key=lambda table: table.name != "types"):
            found = rows_for(table)
            if found is None:
                continue
            counts, rows = found
            spelled = spelled or Spelled(self._spelled_below, rows.field("spelling"), counts)
            objects = Objects(ids, counts, sources, self._names, start_id, spelled)
            made = table.of(table.to_arrow(_columns(rows), objects))
            del found, rows
            if len(made):
                self._parts.add(table.name, made)
            yield table.name, made


def _columns(rows: pa.StructArray) -> dict[str, pa.Array]:
    return {field.name: rows.field(number) for number, field in enumerate(rows.type)}


class ResultsLRU:
    """Reads files of results; the last few that were used stay open. Raises OutputError.

    base  that the modules are on; None if all of them failed
    """

    def __init__(self, storage: Storage, base: SharedBase | None) -> None:
        self._storage = storage
        self._base = base
        self._files: OrderedDict[str, tuple[Results, pa.RecordBatch | None]] = OrderedDict()

    def read(self, modules: Sequence[ModuleResultRef]) -> tuple[list[Entry], list[pa.RecordBatch]]:
        """Read the results of some modules: their entries, and their rows, in the modules' order,
        those of neighbours in one piece."""
        import pyarrow as pa  # late

        from ..registry import module_tables, rows_schema

        schema = rows_schema(module_tables())
        entries: list[Entry] = []
        pieces: list[pa.RecordBatch] = []
        at = 0
        while at < len(modules):
            first = modules[at].result
            end = at + 1
            while end < len(modules) and _follows(first, end - at, modules[end].result):
                end += 1
            wanted = slice(first.position, first.position + end - at)
            file, derived = self._file(first)
            try:
                rows = file.rows
            except DamagedError as error:
                raise self._unreadable(first.path, error) from error
            if wanted.stop > len(rows):
                raise self._unreadable(first.path, f"it has no result {wanted.stop - 1}")
            found = file.entries[wanted]
            entries += found
            if derived is not None:
                more = derived[wanted]
            else:
                more = self._derive(modules[at:end], found)
            columns = [(rows[wanted] if n in rows.schema.names else more)[n] for n in schema.names]
            pieces.append(pa.RecordBatch.from_arrays(columns, schema=schema))
            at = end
        return entries, pieces

    def _file(self, result: ResultRef) -> tuple[Results, pa.RecordBatch | None]:
        """Open a file of results: its content, and the rows that are in the file beside it."""
        path = result.path
        if path not in self._files:
            try:
                found = Results(path.rpartition("/")[2], self._storage.read(path))
                derived = None
                if result.derived is not None:
                    path = result.derived
                    derived = read_derived(path, self._storage.read(path), len(found.entries))
            except (OSError, DamagedError) as error:
                raise self._unreadable(path, error) from error
            self._files[result.path] = found, derived
            if len(self._files) > _FILES_AT_HAND:
                self._files.popitem(last=False)
        self._files.move_to_end(result.path)
        return self._files[result.path]

    def _derive(
        self, modules: Sequence[ModuleResultRef], entries: Sequence[Entry]
    ) -> pa.RecordBatch:
        """Make the rows that are not kept, of the modules' BTF files."""
        from ..registry import derived_tables

        paths = [module.result.btf for module in modules]
        there = [entry.output_sha256 is not None for entry in entries]
        contents = self._storage.read_all(list(itertools.compress(paths, there)))
        splits = [
            self._split(path, entry, contents) if is_there else None  # it failed
            for path, entry, is_there in zip(paths, entries, there, strict=True)
        ]
        group = ModuleGroup(self._base, (), splits, {})
        return rows_of(group, derived_tables())

    def _split(self, path: str, entry: Entry, contents: Iterator[bytes]) -> btf.BTF:
        """Open a module's BTF file, the next one of ``contents``."""
        try:
            content = next(contents)
            if hashlib.sha256(content).hexdigest() != entry.output_sha256:
                raise DamagedError("it has changed")
            assert self._base is not None
            return btf.parse(content, self._base.index.base)
        except (OSError, DamagedError, btf.BtfError) as error:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: str, error: object) -> PlaceError:
        where = f"{self._storage.place}/{path}"
        return PlaceError(f"cannot read {where}: {error}; remove it and run again")


def _follows(first: ResultRef, distance: int, other: ResultRef) -> bool:
    return other.path == first.path and other.position == first.position + distance
