"""SQL over the committed tables of an output folder: DuckDB, which reads the Parquet in place.

Every table is a view over all kernels, with the column ``kernel`` in front. Nothing can be written:
queries only read, and DuckDB may open no other file than the parts that the manifests list.

Besides the tables there are the view ``pairs`` (pair, old_kernel, new_kernel): the kernels that a
query is to compare; the function ``subsystem(source)``: ``drivers/net`` of a module's path; and
those of ``fields``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Self

from ..files.remote import RemoteFolder, shown
from ..files.scratch import ScratchFolder
from ..files.storage import Storage, open_storage
from ..model.errors import OutputError, QueryError
from ..model.steps import STEPS
from ..sources.lookup import resolve_kernel
from ..store.manifest import Manifest, no_kernel
from ..store.output import read_manifests
from .fields import FIELDS, FIELDS_OF

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from ..tables.parquet import Part
    from ..tables.schema import Table


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Column names, and rows of Python values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def as_records(self) -> list[dict[str, Any]]:
        """A dictionary for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def committed_kernels(out: str) -> list[Manifest]:
    """The manifests of an output folder. Raises OutputError when there is no kernel in it."""
    manifests = read_manifests(out)
    if not manifests:
        raise no_kernel(out)
    return list(manifests)


class Tables:
    """The tables of an output folder, open for queries. A context manager."""

    def __init__(
        self,
        out: str,
        *,
        kernel: str | None = None,
        old: str | None = None,
        new: str | None = None,
        only: Collection[str] = (),
    ) -> None:
        """Open the tables of all kernels, or of ``kernel`` only.

        old, new  which kernels the view ``pairs`` has: with both, these two, and no others are
                  opened; with one, the kernel after or before it; without, each and the next one
        only      tables, if neither others nor views will be asked for: that takes less time

        Kernels are named as people type them. Raises OutputError when there is no committed kernel
        in ``out``, QueryError when it is not clear which one is meant.
        """
        import duckdb  # late: it takes a while to import

        self.out = out
        self._error = duckdb.Error
        self._registered = 0
        STEPS.debug("opening the tables of %s", shown(out))
        self.manifests = manifests = committed_kernels(out)
        named = {"kernel": kernel, "old": old, "new": new}
        known = [manifest.kernel for manifest in manifests]
        meant = {of: resolve_kernel(name, known) for of, name in named.items() if name is not None}
        if {"kernel"} <= meant.keys() or {"old", "new"} <= meant.keys():  # the others are not read
            manifests = [found for found in manifests if found.kernel in meant.values()]
        self.kernels = sorted(manifest.kernel for manifest in manifests)
        self._connection = duckdb.connect()
        self._spilled = ScratchFolder()
        try:
            pair = meant.get("old"), meant.get("new")
            self._make_views(open_storage(out), manifests, *pair, only)
        except (OSError, duckdb.Error) as error:
            self.close()
            raise OutputError(f"cannot read the tables in {out}: {error}") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the database, whose temporary files go with it."""
        self._connection.close()
        self._spilled.close()

    def ask(self, sql: str, values: Sequence[Any] = ()) -> QueryResult:
        """The answer to one query. Raises QueryError, also where it would write something."""
        with self._wording():
            return _answer(self._relation(sql, values).to_arrow_table())

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The same bit by bit: at least one batch. No two columns have the same name, as DuckDB
        does it in a subquery."""
        import pyarrow as pa

        with self._wording():
            reader = pa.RecordBatchReader.from_stream(self._relation(sql))
            names = _distinct(reader.schema.names)
            yield pa.RecordBatch.from_pylist([], reader.schema).rename_columns(names)
            for batch in reader:
                yield batch.rename_columns(names)

    def write_parquet(self, sql: str, file: IO[bytes]) -> None:
        """Write the same as Parquet. Raises QueryError, also for types that it has not."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        batches = self.stream(sql)
        try:
            with pq.ParquetWriter(file, next(batches).schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
        except pa.ArrowException as error:
            raise QueryError(f"this cannot be written as Parquet: {error}") from error

    @contextlib.contextmanager
    def _wording(self) -> Iterator[None]:
        """Have whatever goes wrong with a query be a QueryError."""
        try:
            yield
        except (self._error, ValueError, OverflowError, OSError) as error:
            # OverflowError: values beyond what Python has, as the year 10,000; OSError: of Arrow
            raise QueryError(str(error)) from error

    def _relation(self, sql: str, values: Sequence[Any] = ()) -> duckdb.DuckDBPyRelation:
        statements = self._connection.extract_statements(_as_stored(sql))
        if len(statements) != 1:
            raise QueryError(f"one query is wanted, these are {len(statements)}")
        self._refuse_all_but_reading(statements[0])
        given = [_as_stored(value) if isinstance(value, str) else value for value in values]
        return self._connection.sql(statements[0], params=given)

    def _refuse_all_but_reading(self, statement: duckdb.Statement) -> None:
        import duckdb

        kinds = duckdb.StatementType
        # MULTI is PIVOT. EXPLAIN is refused: EXPLAIN ANALYZE runs any statement.
        if statement.type not in (kinds.SELECT, kinds.MULTI):
            raise QueryError(
                f"only queries can be run here (SELECT, DESCRIBE, SUMMARIZE, …), not "
                f"{statement.type.name}"
            )

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The kernels that are compared: (old, new)."""
        return self.ask("SELECT old_kernel, new_kernel FROM pairs ORDER BY pair").rows

    def _make_views(
        self,
        storage: Storage,
        manifests: Sequence[Manifest],
        old: str | None,
        new: str | None,
        only: Collection[str],
    ) -> None:
        from ..tables.registry import all_tables

        paths: list[str] = []
        for table in all_tables().values():
            if only and table.name not in only:
                continue
            selects = []
            for manifest in manifests:
                parts = manifest.tables.get(table.name, ())
                if parts:
                    rows = self._source(storage, parts, paths)
                    selects.append(f"SELECT {_quoted(manifest.kernel)} AS kernel, * FROM {rows}")
            # Kernels that an older version wrote may lack the table, or columns of it.
            columns = (f"NULL::{sql_type(c.type)} AS {c.name}" for c in table.columns)
            selects.append(f"SELECT NULL::VARCHAR AS kernel, {', '.join(columns)} WHERE false")
            view = " UNION ALL BY NAME ".join(selects)
            self._connection.execute(f"CREATE VIEW {table.name} AS {view}")
            self._check(table)
        if not only:  # views over several tables
            self._connection.execute(f"CREATE VIEW pairs AS {_pairs(old, new)}")
            self._connection.execute(FIELDS)
            self._connection.execute(FIELDS_OF)
            self._connection.execute(f"CREATE MACRO subsystem(source) AS {_SUBSYSTEM}")
        for setting in (
            f"temp_directory = {_quoted(self._spilled.path)}",
            f"allowed_paths = [{', '.join(map(_quoted, paths))}]",
            "enable_external_access = false",
            "python_enable_replacements = false",
            "TimeZone = 'UTC'",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def _check(self, table: Table) -> None:
        """Raise OutputError if a table has not the columns that it should have."""
        rows = self._connection.execute(f"DESCRIBE {table.name}").fetchall()
        there = {name: kind for name, kind, *_ in rows}
        wanted = {column.name: sql_type(column.type) for column in table.columns}
        for name in there.keys() & wanted.keys():
            if there[name] != wanted[name]:
                raise OutputError(
                    f"{self.out}: {name} in the table {table.name} is {there[name]}, not "
                    f"{wanted[name]}: no run of splitbtf has written that"
                )

    def _source(self, storage: Storage, parts: Sequence[Part], paths: list[str]) -> str:
        """Parts in SQL, of which there must be one; those of this machine are added to ``paths``,
        which DuckDB may open."""
        if isinstance(storage, RemoteFolder):
            name = f"part_{self._registered}"
            self._registered += 1
            self._connection.register(name, storage.dataset([part.path for part in parts]))
            return name
        folder = os.path.dirname(parts[0].path)
        sizes = storage.sizes(folder)  # of files: no links, which DuckDB would follow
        for part in parts:
            if sizes.get(os.path.basename(part.path)) != part.bytes:
                raise OutputError(
                    f"{storage.place}/{part.path} is not there, or not as it was written; "
                    f"`splitbtf verify {storage.place}` tells more"
                )
        here = [f"{storage.local}/{part.path}" for part in parts]
        paths += here
        return f"read_parquet([{', '.join(map(_quoted, here))}], hive_partitioning = false)"


# Of kernels of one architecture and flavour each and the next one, by release.
_NEIGHBOURS = """
SELECT row_number() OVER (ORDER BY architecture, flavour, release_key, new_kernel) AS pair, *
FROM (
    SELECT lag(kernel) OVER (
               PARTITION BY architecture, flavour ORDER BY release_key NULLS LAST, kernel
           ) AS old_kernel,
           kernel AS new_kernel, architecture, flavour, release_key
    FROM kernels
)
WHERE old_kernel IS NOT NULL
"""
_SUBSYSTEM = r"regexp_extract(source, '(?:^|/)kernel/(drivers/[^/]+|[^/]+)/', 1)"


def _pairs(old: str | None, new: str | None) -> str:
    """The view ``pairs`` as SQL."""
    if old is not None and new is not None:
        return f"SELECT 1 AS pair, {_quoted(old)} AS old_kernel, {_quoted(new)} AS new_kernel"
    side, kernel = ("old_kernel", old) if old is not None else ("new_kernel", new)
    chosen = f"WHERE {side} = {_quoted(kernel)}" if kernel is not None else ""
    return f"SELECT pair, old_kernel, new_kernel FROM ({_NEIGHBOURS}) {chosen}"


def _as_stored(text: str) -> str:
    """Text of a command line as tables have it, where bytes that are no UTF-8 are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _distinct(names: Sequence[str]) -> list[str]:
    """``a``, ``a_1``: names of columns that are a name's only ones, whatever their case."""
    taken = {name.lower() for name in names}
    found: list[str] = []
    seen: set[str] = set()
    for name in names:
        free, number = name, 0
        while free.lower() in seen or (number and free.lower() in taken):
            number += 1
            free = f"{name}_{number}"
        seen.add(free.lower())
        found.append(free)
    return found


def python_columns(data: pa.Table | pa.RecordBatch) -> list[list[Any]]:
    """Values of Python: maps as dictionaries, or in a column where keys of maps cannot be keys of a
    dictionary (lists, structs, maps), as lists of pairs."""
    columns = []
    for column in data.columns:
        try:
            columns.append(column.to_pylist(maps_as_pydicts="strict"))
        except (TypeError, KeyError):  # KeyError: keys of DuckDB that are the same in Python
            columns.append(column.to_pylist())
    return columns


def _answer(data: pa.Table) -> QueryResult:
    columns = python_columns(data)
    rows = zip(*columns, strict=True) if columns else ()
    return QueryResult(tuple(_distinct(data.column_names)), tuple(rows))


def sql_type(data_type: Any) -> str:
    """DuckDB's name for the type of a column that we declare."""
    import pyarrow as pa

    if pa.types.is_dictionary(data_type):
        return sql_type(data_type.value_type)
    if pa.types.is_map(data_type):
        return f"MAP({sql_type(data_type.key_type)}, {sql_type(data_type.item_type)})"
    if pa.types.is_list(data_type):
        return f"{sql_type(data_type.value_type)}[]"
    if pa.types.is_fixed_size_binary(data_type):
        return "BLOB"
    if pa.types.is_decimal(data_type):
        return f"DECIMAL({data_type.precision},{data_type.scale})"
    if pa.types.is_timestamp(data_type):
        return "TIMESTAMP WITH TIME ZONE"
    names = {"string": "VARCHAR", "double": "DOUBLE", "bool": "BOOLEAN"}
    for bits, name in _INTEGERS.items():
        names |= {f"int{bits}": name, f"uint{bits}": f"U{name}"}
    return names[str(data_type)]


_INTEGERS = {8: "TINYINT", 16: "SMALLINT", 32: "INTEGER", 64: "BIGINT"}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
