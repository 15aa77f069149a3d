"""Rows of modules for the tables of scope ``module``, as workers make them: many modules at once.

The rows say nothing of a module's number or name in its kernel: the same result serves whatever it
is called there and wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import btf
from btf.declaration.written import SHORT_SPELLING_BYTES, SMALL_SPELLING_BYTES
from btf.edit.concat import concat_split

from ..model.base import SharedBase
from ..model.records import ModuleRecord
from ..model.stages import DESCRIBE, OF_WORKERS, Laps

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from .schema import ModuleTable

TYPES_AT_ONCE = 1 << 15  # much of what describing a small module costs is calling


class ModuleGroup:
    """Modules that are described together.

    base     of all of them; None if none of them has types
    records  of each
    splits   the split BTF of each; None of one that failed
    kept     by table, what its ``describe`` kept of each module; None of one that failed
    laps     takes the ends of stages
    """

    is_base = False  # whether this is no module, but the base itself

    def __init__(
        self,
        base: SharedBase | None,
        records: Sequence[ModuleRecord],
        splits: Sequence[btf.BTF | None],
        kept: Mapping[str, Sequence[Any]],
        laps: Laps | None = None,
    ) -> None:
        self.base = base
        self.laps: Laps = laps if laps is not None else []
        self.records = records
        self.kept = kept
        self._splits = [split for split in splits if split is not None]
        counts = [split.type_count if split is not None else 0 for split in splits]
        self.counts = np.array(counts, np.int64)  # own types of each

    @classmethod
    def of_failed(cls, records: Sequence[ModuleRecord]) -> ModuleGroup:
        """Make a group of modules that nothing is known of but their records."""
        return cls(None, records, [None] * len(records), {})

    @cached_property
    def whole(self) -> btf.BTF:
        """The own types of all modules, one module after the other, as one split BTF (see
        ``concat_split``). There must be a module with a split BTF."""
        return concat_split(self._splits) if len(self._splits) > 1 else self._splits[0]

    @cached_property
    def module_of_type(self) -> NDArray[np.int64]:
        """int64: the module that each type of ``whole`` belongs to, its position in the group."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def types_before(self) -> NDArray[np.uint32]:
        """uint32, by type of ``whole``: own types before those of its module, by which ids of own
        types are higher than in the module's own BTF."""
        before = np.cumsum(self.counts) - self.counts
        return np.repeat(before.astype(np.uint32), self.counts)

    def spellings(self, declared: btf.Declarations) -> pa.StringArray:
        """How C spells the types of ``whole``, of which these are the declarations.

        Each module's are what they would be by themselves: how long a text may be depends on how
        many bytes all of its module have.
        """
        import pyarrow as pa

        from .schema import strings

        ends, data = declared.spellings()
        if len(self._splits) == 1:
            return strings(ends, data)
        edges = np.cumsum(np.append(0, self.counts))
        most = int(np.diff(ends[edges]).max())
        if most <= SMALL_SPELLING_BYTES and int(np.diff(ends).max()) > SHORT_SPELLING_BYTES:
            return strings(ends, data)
        assert self.base is not None
        known = self.base.declarations
        each = (btf.declarations(split, known, spell=True) for split in self._splits)
        return pa.concat_arrays([strings(*one.spellings()) for one in each])


class BaseGroup(ModuleGroup):
    """A base, described as if it were a module."""

    is_base = True

    def spellings(self, declared: btf.Declarations) -> pa.StringArray:
        """How C spells the base's types: void is none of them."""
        from .schema import strings

        return strings(*declared.spellings()).slice(1)

    def __init__(self, base: SharedBase) -> None:
        types = base.index.base
        assert types is not None
        super().__init__(base, (), (types,), {})


class Describer:
    """Describes a batch's modules as they are done.

    limits  what describing runs under: a time limit, and what is said of an error
    laps    ends of stages, noted by all that is done of the batch
    """

    def __init__(
        self, base: SharedBase, limits: Callable[[], AbstractContextManager[None]]
    ) -> None:
        from .registry import module_tables  # late: Arrow

        self._base = base
        self._limits = limits
        self._describe = [(t.name, t.describe) for t in module_tables() if t.describe is not None]
        self._batches: list[pa.RecordBatch] = []
        self.laps: Laps = []
        self._start()

    def _start(self) -> None:
        self._records: list[ModuleRecord] = []
        self._splits: list[btf.BTF | None] = []
        self._kept: dict[str, list[Any]] = {name: [] for name, _ in self._describe}
        self._types = 0

    def describe(self, source: btf.BTF, result: btf.DedupResult) -> dict[str, Any]:
        """Work out what has to be known of a module beside its split BTF, while its own BTF is
        there: for ``add``."""
        described = {}
        for name, function in self._describe:
            described[name] = function(source, result, self._base)
            self.laps.append((name if name in OF_WORKERS else DESCRIBE, perf_counter()))
        return described

    def add(
        self, record: ModuleRecord, split: btf.BTF | None, described: Mapping[str, Any]
    ) -> None:
        """Take the next module; without ``split`` and ``described`` if it failed."""
        types = record.types_out or 0 if split is not None else 0
        if self._types + types > TYPES_AT_ONCE:  # no more than for which memory is kept
            self.flush()
        self._types += types
        self._records.append(record)
        self._splits.append(split)
        for name, kept in self._kept.items():
            kept.append(described.get(name))

    def add_rows(self, rows: pa.RecordBatch) -> None:
        """Take the next module, which another process has described."""
        self.flush()
        self._batches.append(rows)

    def flush(self) -> None:
        """Describe the modules that wait for it."""
        if self._records:
            with self._limits():
                group = ModuleGroup(self._base, self._records, self._splits, self._kept, self.laps)
                self._batches.append(rows_of(group))
                self.laps.append((DESCRIBE, perf_counter()))
            self._start()

    def rows(self) -> list[pa.RecordBatch]:
        """Describe what is left; returns the rows of all modules, in their order."""
        self.flush()
        return self._batches


def rows_of(group: ModuleGroup, tables: tuple[ModuleTable, ...] | None = None) -> pa.RecordBatch:
    """Make the rows of a group's modules for these tables, all when None: see
    ``registry.rows_schema``."""
    import pyarrow as pa

    from .registry import module_tables, rows_schema

    tables = module_tables() if tables is None else tables
    schema = rows_schema(tables)
    columns = []
    for table, field in zip(tables, schema, strict=True):
        counts, rows = table.rows(group)
        ends = np.zeros(len(counts) + 1, np.int32)
        np.cumsum(counts, out=ends[1:])
        columns.append(pa.ListArray.from_arrays(pa.array(ends), rows, type=field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
