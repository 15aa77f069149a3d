"""What a table declares: its columns with units and descriptions, its scope, how its rows are made.

Each file of this package that has a ``TABLE`` is a table; ``registry`` finds them. A table of scope

module   has rows of each module. The worker makes them together with the module, without what
         depends on the module's place in its kernel, and they are kept with its result.
kernel   is made once per kernel, when all its modules are done.
run      gets a row per run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..files.storage import Stored
from ..model.base import IndexedBase, SharedBase
from ..model.records import KernelInput
from ..model.summary import WorkSummary
from .kinds import kind_name

if TYPE_CHECKING:
    import btf

    from ..engine.scheduler import Workforce
    from .describe import ModuleGroup

# All numbers in tables are signed: the first thing that people do with sizes is to subtract them.
I64, F64, TEXT = pa.int64(), pa.float64(), pa.string()
COUNTS = pa.map_(pa.string(), pa.int64())
# In results, which only we read, they take no more room than they need.
U8, U32 = pa.uint8(), pa.uint32()
WORDS = pa.dictionary(pa.int32(), pa.string())
HASH = pa.binary(16)
WHOLE = pa.decimal128(20, 0)  # holds all of int64 and uint64


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``unit`` is empty for what has none."""

    name: str
    type: pa.DataType
    unit: str
    description: str


@dataclass(frozen=True, eq=False)
class Table:
    """One table. The column ``kernel`` comes from the folder (``kernel=NAME``), not the file.

    rank   where it stands among the tables, in documentation and manifests
    row    what a row stands for
    order  columns that the rows are ordered by
    """

    name: str
    rank: int
    row: str
    order: str
    columns: tuple[Column, ...]

    scope = "run"

    @cached_property
    def schema(self) -> pa.Schema:
        """What a Parquet file of this table holds: all columns but ``kernel``."""
        fields = [
            pa.field(
                column.name,
                column.type,
                metadata={"description": column.description, "unit": column.unit},
            )
            for column in self.columns
        ]
        return pa.schema(fields, metadata={"table": self.name, "row": self.row})

    def of(self, columns: Mapping[str, Any]) -> pa.Table:
        """Columns by name as a table with this schema."""
        arrays = []
        for field in self.schema:
            column = columns[field.name]
            if not isinstance(column, pa.Array | pa.ChunkedArray):
                column = pa.array(column)
            arrays.append(column if column.type == field.type else column.cast(field.type))
        return pa.Table.from_arrays(arrays, schema=self.schema)


@dataclass(frozen=True, slots=True)
class Spelled:
    """How C spells the types of some objects that follow one another.

    base    of their base by type id, void included; of a base itself void alone
    own     of the objects' own types, one object after the other
    counts  own types of each object
    """

    base: pa.StringArray
    own: pa.StringArray
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects that some rows belong to, in the order of the rows.

    ids       uint32: number of each object in its kernel; 0 is the base
    counts    int64: rows of each object
    sources   where each was found, relative to its source
    names     names of all objects of the kernel, by id, for all parts of a table alike: many
              readers cannot put parts with different dictionaries together
    start_id  first type id of each object's own types
    spelled   how C spells their types
    """

    ids: NDArray[np.uint32]
    counts: NDArray[np.int64]
    sources: Sequence[str]
    names: pa.StringArray
    start_id: int
    spelled: Spelled

    def of_rows(self) -> NDArray[np.uint32]:
        """The object of each row."""
        return np.repeat(self.ids, self.counts)

    def positions(self) -> NDArray[np.int64]:
        """The position of each row among those of its object, from 0."""
        firsts = np.cumsum(self.counts, dtype=np.int64) - self.counts
        return np.arange(int(self.counts.sum()), dtype=np.int64) - np.repeat(firsts, self.counts)

    def global_ids_of(self, type_id: NDArray[Any]) -> NDArray[np.int64]:
        """The global id of the type that each row refers to, by its id in the row's object: what
        has an id below those of the object is the base's, or void."""
        return global_ids(np.where(type_id >= self.start_id, self.of_rows(), 0), type_id)

    def spellings_of(
        self, type_id: NDArray[Any], variadic: NDArray[np.bool_], absent: NDArray[np.bool_]
    ) -> pa.DictionaryArray:
        """How C spells the type that each row refers to, by its id in the row's object: `...`
        where ``variadic``, null where ``absent``, and for ids that no type has. The dictionary may
        hold a text twice."""
        base, own = self.spelled.base, self.spelled.own
        firsts = np.repeat(np.cumsum(self.spelled.counts) - self.spelled.counts, self.counts)
        place = np.where(type_id >= self.start_id, type_id + firsts, type_id)
        end = len(base) + len(own)
        unknown = place >= end
        place[variadic | unknown] = end
        used = np.zeros(end + 1, np.bool_)
        used[place] = True
        number = np.cumsum(used, dtype=np.int32) - 1
        of_base, of_own = (pa.array(np.flatnonzero(u)) for u in np.split(used[:-1], [len(base)]))
        words = [base.take(of_base), own.take(of_own), pa.array(["..."] * int(used[-1]), TEXT)]
        index = pa.array(number[place], mask=absent | unknown)
        return pa.DictionaryArray.from_arrays(index, pa.concat_arrays(words))


Rows = tuple[NDArray[np.int64], pa.StructArray]  # rows of each object, and all of them


@dataclass(frozen=True, kw_only=True, eq=False)
class ModuleTable(Table):
    """A table with rows of each module.

    result    fields that a worker knows of a row
    rows      makes the rows of several modules, or of a base
    to_arrow  makes the table's columns, by name, of such rows and of the objects they belong to
    describe  keeps what ``rows`` needs of a module beside its split BTF (``ModuleGroup.kept``)
    of_base   whether the base has rows too: those of a module say nothing but what its split BTF
              does
    """

    result: tuple[pa.Field, ...]
    rows: Callable[[ModuleGroup], Rows]
    to_arrow: Callable[[Mapping[str, pa.Array], Objects], Mapping[str, Any]]
    describe: Callable[[btf.BTF, btf.DedupResult, SharedBase], Any] | None = None
    of_base: bool = False

    scope = "module"


@dataclass(frozen=True, slots=True)
class FinishedKernel:
    """A kernel whose modules are done.

    base       None if it has none that could be used
    tables     the parts of the tables of scope ``module``; objects are in order of their ids
    btf        the folder of its BTF files
    workforce  calls functions on workers
    """

    kernel: KernelInput
    base: IndexedBase | None
    summary: WorkSummary
    tables: Mapping[str, Sequence[Stored]]
    btf: Stored
    workforce: Workforce

    @property
    def names(self) -> list[str]:
        """Names of its objects by object id; the base's is empty."""
        return self.kernel.object_names


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelTable(Table):
    """A table that is made when all modules of a kernel are done. Without a base it has no rows,
    unless ``needs_base`` is false."""

    make: Callable[[FinishedKernel], pa.Table]
    needs_base: bool = True

    scope = "kernel"


def required(**types: pa.DataType) -> tuple[pa.Field, ...]:
    """Declare fields of results, by name, that are never null."""
    return tuple(pa.field(name, data_type, nullable=False) for name, data_type in types.items())


def global_ids(object_id: Any, type_id: NDArray[Any]) -> NDArray[np.int64]:
    """Object id in the upper 32 bits, type id in the lower."""
    ids: NDArray[np.int64] = np.asarray(object_id, np.int64) << 32 | type_id.astype(np.int64)
    return ids


def without(absent: NDArray[np.bool_], values: Any) -> pa.Array:
    """A column of numbers, null where ``absent``."""
    return pa.array(np.asarray(values), mask=absent)


def filled(texts: pa.StringArray) -> pa.StringArray:
    """The same texts, of which none is null, null instead of empty."""
    if not len(texts):
        return texts
    _, ends, content = texts.buffers()
    # What Arrow's own if_else makes of a slice is damaged in versions that we support.
    within = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    there = np.packbits(within[1:] > within[:-1], bitorder="little")
    buffers = pa.py_buffer(within), content or pa.py_buffer(b""), pa.py_buffer(there)
    return pa.StringArray.from_buffers(len(texts), *buffers)


def strings(ends: NDArray[np.int32], content: NDArray[np.uint8]) -> pa.StringArray:
    """Strings in Arrow's layout, see ``btf.texts``. BTF does not promise UTF-8, Parquet does: other
    bytes are written as \\xNN."""
    buffers = pa.py_buffer(ends), pa.py_buffer(content)
    found = pa.StringArray.from_buffers(len(ends) - 1, *buffers)
    if not (content & 0x80).any():
        return found
    with contextlib.suppress(pa.ArrowInvalid):
        found.validate(full=True)
        return found
    raw = pa.BinaryArray.from_buffers(pa.binary(), len(ends) - 1, [None, *buffers])
    return pa.array(
        [value.decode("utf-8", "backslashreplace") for value in raw.to_pylist()], pa.string()
    )


def kind_words(numbers: pa.UInt8Array) -> pa.DictionaryArray:
    """Names of kinds by their numbers: ``STRUCT`` of 4."""
    return pa.DictionaryArray.from_arrays(numbers.cast(pa.int32()), _kind_names())


@cache
def _kind_names() -> pa.StringArray:
    return pa.array([kind_name(number) for number in range(256)], pa.string())
