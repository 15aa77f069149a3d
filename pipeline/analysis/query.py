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
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from ..files.remote import RemoteFolder, shown
from ..files.scratch import ScratchFolder
from ..files.storage import open_storage
from ..model.errors import OutputError, QueryError
from ..model.steps import STEPS
from ..sources.lookup import resolve_kernel
from ..store.manifest import Manifest, no_column, no_kernel, unreadable_part
from ..store.output import read_manifests
from .answer import QueryResult, answer_of, distinct_names
from .fields import FIELDS, FIELDS_OF

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from ..tables.schema import Table
    from ..tables.stored.parquet import Part


# What a query takes at most; what needs more is written to temporary files, where DuckDB can.
_MOST_MEMORY = "1500MB"
_ROWS_AT_ONCE = 8_000_000  # where a few kernels are read at a time
_MANY_KERNELS = 40
_OVER_TABLES = {  # views and functions, and what they are made of
    "pairs": ("kernels",),
    "fields": ("members", "types"),
    "fields_of": ("members", "types"),
}
_VIEWS = {"fields": FIELDS, "fields_of": FIELDS_OF}
_LISTINGS = {"show", "information_schema", "pg_catalog", "sqlite_master"}  # of what there is


def committed_kernels(out: str) -> list[Manifest]:
    """The manifests of an output folder. Raises OutputError when there is no kernel in it."""
    manifests = read_manifests(out)
    if not manifests:
        raise no_kernel(out)
    return list(manifests)


class _Run(NamedTuple):
    """What a query is asked about at once: kernels, and pairs of them, each with its number."""

    kernels: set[str]
    pairs: list[tuple[int, str, str]]


class Tables:
    """The tables of an output folder, open for queries. A context manager."""

    def __init__(
        self,
        out: str,
        *,
        kernel: str | None = None,
        old: str | None = None,
        new: str | None = None,
        order: str | None = None,
        most_rows: int | None = None,
    ) -> None:
        """Open the tables of all kernels, or of ``kernel`` only.

        old, new  which kernels the view ``pairs`` has: with both, these two, and no others are
                  opened; with one, the kernel after or before it; without, each and the next one
        order     of queries that answer for one of ``pairs``, or for one kernel, after the other:
                  "pair", or columns of ``kernels``; then a few kernels are read at a time. Of pairs
                  they tell what differs: those with the same content are passed over
        most_rows of an answer, the first ones; all when None

        Kernels are named as people type them. Raises OutputError when there is no committed kernel
        in ``out``, QueryError when it is not clear which one is meant.
        """
        import duckdb  # late: it takes a while to import

        self.out = out
        self._error, self._unknown = duckdb.Error, duckdb.CatalogException
        self._registered: dict[tuple[str, ...], str] = {}
        STEPS.debug("opening the tables of %s", shown(out))
        self.manifests = manifests = committed_kernels(out)
        named = {"kernel": kernel, "old": old, "new": new}
        known = [manifest.kernel for manifest in manifests]
        meant = {of: resolve_kernel(name, known) for of, name in named.items() if name is not None}
        if {"kernel"} <= meant.keys() or {"old", "new"} <= meant.keys():  # the others are not read
            manifests = [found for found in manifests if found.kernel in meant.values()]
        self.kernels = sorted(manifest.kernel for manifest in manifests)
        self.most_rows = most_rows
        self._manifests, self._order = manifests, order
        self._pairs_sql = _pairs(meant.get("old"), meant.get("new"))
        self._views: dict[str, str] = {}  # those there are, as SQL
        self._columns: dict[str, Collection[str]] = {}  # of parts that were looked at
        self._connection = duckdb.connect()
        self._spilled = ScratchFolder()
        try:
            self._storage = open_storage(out)
            self._set_up()
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
        import pyarrow as pa

        with self._wording():
            parts, left = [], self.most_rows
            for found in self._relations(sql, values):
                parts.append(_first(found, left).to_arrow_table())
                if left is not None and (left := left - len(parts[-1])) == 0:
                    break
            return answer_of(pa.concat_tables(parts))

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The same bit by bit: at least one batch. No two columns have the same name, as DuckDB
        does it in a subquery."""
        import pyarrow as pa

        with self._wording():
            left = self.most_rows
            for found in self._relations(sql):
                reader = pa.RecordBatchReader.from_stream(_first(found, left))
                names = distinct_names(reader.schema.names)
                yield pa.RecordBatch.from_pylist([], reader.schema).rename_columns(names)
                for batch in reader:
                    left = None if left is None else left - len(batch)
                    yield batch.rename_columns(names)
                if left == 0:
                    break

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

    def _relations(self, sql: str, values: Sequence[Any] = ()) -> Iterator[duckdb.DuckDBPyRelation]:
        """A query over all kernels, or over a few, then over the next few."""
        for run in self._runs(self._named(sql)) if self._order else [None]:
            self._make(self._named(sql), run)
            yield self._relation(sql, values)

    def _runs(self, tables: Collection[str]) -> Iterator[_Run]:
        """What is asked about in ``_order``: as many at a time as have about _ROWS_AT_ONCE rows in
        these tables."""
        rows = {
            one.kernel: sum(part.rows for name in tables for part in one.tables.get(name, ()))
            for one in self._manifests
        }
        each: Sequence[tuple[str, ...]] = [(kernel,) for kernel in self.kernels]
        if self._order == "pair":
            each = self.pairs
        elif self._order != "kernel":
            each = self._all(f"SELECT kernel FROM kernels ORDER BY {self._order}")
        run = _Run(set(), [])
        for number, those in enumerate(each, 1):
            if len(those) == 2 and self._are_equal(tables, *those):
                continue
            kernels = run.kernels.union(those)
            if run.kernels and sum(rows[kernel] for kernel in kernels) > _ROWS_AT_ONCE:
                yield run
                run, kernels = _Run(set(), []), {*those}
            run.kernels.update(kernels)
            if len(those) == 2:
                run.pairs.append((number, those[0], those[1]))
        yield run

    def _are_equal(self, tables: Collection[str], old: str, new: str) -> bool:
        """Whether two kernels have the same content in all tables that are compared."""
        compared = _below(tables) - {"kernels", "pairs"}
        first, second = (
            [[part.sha256 for part in self._tables_of[one].get(name, ())] for name in compared]
            for one in (old, new)
        )
        return first == second and any(first)

    @cached_property
    def _tables_of(self) -> dict[str, Mapping[str, Sequence[Part]]]:
        return {one.kernel: one.tables for one in self._manifests}

    def _all(self, sql: str) -> tuple[Any, ...]:
        """The rows of a query over all kernels."""
        self._make(self._named(sql))
        return tuple(self._relation(sql).fetchall())

    def _relation(self, sql: str, values: Sequence[Any] = ()) -> duckdb.DuckDBPyRelation:
        statements = self._connection.extract_statements(_as_stored(sql))
        if len(statements) != 1:
            raise QueryError(f"one query is wanted, these are {len(statements)}")
        self._refuse_all_but_reading(statements[0])
        self._check_columns(sql)
        given = [_as_stored(value) if isinstance(value, str) else value for value in values]
        try:
            return self._connection.sql(statements[0], params=given)
        except self._unknown:
            if not self._make(self._known):
                raise
        return self._connection.sql(_as_stored(sql), params=given)

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
        return self._all("SELECT old_kernel, new_kernel FROM pairs ORDER BY pair")

    def _set_up(self) -> None:
        """Have DuckDB read the parts of the tables and nothing else."""
        from ..tables.registry import all_tables

        paths: list[str] = []
        if not isinstance(self._storage, RemoteFolder):
            for manifest in self._manifests:
                for name in all_tables():
                    if manifest.tables.get(name):
                        paths += self._parts(manifest.tables[name])
        for setting in (
            f"memory_limit = '{_MOST_MEMORY}'",
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
        self._connection.execute(f"CREATE MACRO subsystem(source) AS {_SUBSYSTEM}")

    def _parts(self, parts: Sequence[Part]) -> list[str]:
        """Paths of a kernel's parts of a table. Raises OutputError if one is not there."""
        place, sizes = self._storage.place, self._storage.sizes(os.path.dirname(parts[0].path))
        for part in parts:  # sizes are of files, not of links, which DuckDB would follow
            if sizes.get(os.path.basename(part.path)) != part.bytes:
                raise OutputError(
                    f"{place}/{part.path} is not there, or not as it was written; "
                    f"`splitbtf verify {place}` tells more"
                )
        return [f"{self._storage.local}/{part.path}" for part in parts]

    # -- views, made when a query names them: to open the files of many kernels takes seconds

    def _named(self, sql: str) -> Collection[str]:
        """The tables and views that a query names; all where it lists them."""
        words = _words(sql)
        named = words & self._known
        lists = bool(words & _LISTINGS) or any(word.startswith("duckdb_") for word in words)
        return self._known if lists or ("describe" in words and not named) else named

    @cached_property
    def _known(self) -> set[str]:
        from ..tables.registry import all_tables

        return {*all_tables(), *_OVER_TABLES}

    def _make(self, names: Collection[str], run: _Run | None = None) -> bool:
        """Make views, of some kernels or of all; returns whether one was not there."""
        from ..tables.registry import all_tables

        before = len(self._views)
        below = _below(names)
        try:
            for table in all_tables().values():
                if table.name in below:
                    self._make_view(table, run)
            for name in filter(names.__contains__, _OVER_TABLES):
                sql = self._pairs_view(run) if name == "pairs" else _VIEWS[name]
                if self._views.get(name) != sql:
                    self._connection.execute(sql)
                    self._views[name] = sql
        except (OSError, self._error) as error:
            raise OutputError(f"cannot read the tables in {self.out}: {error}") from error
        return len(self._views) > before

    def _pairs_view(self, run: _Run | None) -> str:
        columns = "pair, old_kernel, new_kernel"
        sql = f"SELECT {columns} FROM ({self._pairs_sql})"
        if run is not None and run.pairs:
            rows = (f"({number}, {_quoted(old)}, {_quoted(new)})" for number, old, new in run.pairs)
            sql = f"SELECT * FROM (VALUES {', '.join(rows)}) AS chosen({columns})"
        return f"CREATE OR REPLACE VIEW pairs AS {sql}"

    def _check_columns(self, sql: str) -> None:
        """Raise OutputError if a kernel lacks a column that a query names: the view has null there,
        which would be taken for an answer."""
        from ..tables.registry import all_tables

        named = self._named(sql)
        views = _VIEWS | {"pairs": self._pairs_sql}
        words = _words(" ".join([sql, *(views[name] for name in views.keys() & named)]))
        below = _below(named)
        for table in all_tables().values():
            wanted = [column.name for column in table.columns if column.name in words]
            if table.name not in below or not wanted:
                continue
            for one in self._manifests:
                for part in one.tables.get(table.name, ())[:1]:  # those of a kernel are alike
                    there = self._columns_of(part.path)
                    for column in wanted:
                        if column not in there:
                            raise no_column(f"{self._storage.place}/{part.path}", column)

    def _columns_of(self, path: str) -> Collection[str]:
        """Names of the columns that a part of a table has."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if path not in self._columns:
            try:
                with self._storage.open(path) as file:
                    self._columns[path] = {*pq.read_schema(file).names}
            except pa.ArrowException as error:
                raise unreadable_part(f"{self._storage.place}/{path}", error) from error
        return self._columns[path]

    def _make_view(self, table: Table, run: _Run | None) -> None:
        parts = {
            one.kernel: one.tables[table.name]
            for one in self._manifests
            if one.tables.get(table.name) and (run is None or one.kernel in run.kernels)
        }
        selects = [
            f"SELECT {_quoted(kernel)} AS kernel, * FROM {self._source(those)}"
            for kernel, those in parts.items()
        ]
        # One reader takes less memory than many, but twice the time where kernels are compared. It
        # has the kernel from the folder; of a folder ``x=y`` above OUT it would make a column, too.
        if len(parts) > _MANY_KERNELS and "=" not in (self._storage.local or "="):
            rows = self._source([part for those in parts.values() for part in those], by_name=True)
            selects = [f"SELECT kernel, * EXCLUDE (kernel) FROM {rows}"]
        # Kernels that an older version wrote may lack the table, or columns of it.
        columns = (f"NULL::{sql_type(c.type)} AS {c.name}" for c in table.columns)
        selects.append(f"SELECT NULL::VARCHAR AS kernel, {', '.join(columns)} WHERE false")
        sql = " UNION ALL BY NAME ".join(selects)
        if table.name == "kernels":
            sql = _with_keys(sql, parts)
        if self._views.get(table.name) != sql:
            self._connection.execute(f"CREATE OR REPLACE VIEW {table.name} AS {sql}")
            self._check(table)
            self._views[table.name] = sql

    def _check(self, table: Table) -> None:
        """Raise OutputError if a table has not the columns that it should have."""
        rows = self._connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [table.name]
        ).fetchall()
        there = dict(rows)
        wanted = {column.name: sql_type(column.type) for column in table.columns}
        for name in there.keys() & wanted.keys():
            if there[name] != wanted[name]:
                raise OutputError(
                    f"{self.out}: {name} in the table {table.name} is {there[name]}, not "
                    f"{wanted[name]}: no run of splitbtf has written that"
                )

    def _source(self, parts: Sequence[Part], *, by_name: bool = False) -> str:
        """Parts in SQL, of which there must be one; ``by_name``: with the kernel's name, which the
        folder has, and of kernels whose columns may be others."""
        if isinstance(self._storage, RemoteFolder):
            paths = tuple(part.path for part in parts)
            if paths not in self._registered:
                self._registered[paths] = f"part_{len(self._registered)}"
                dataset = self._storage.dataset(paths)
                self._connection.register(self._registered[paths], dataset)
            return self._registered[paths]
        here = ", ".join(_quoted(f"{self._storage.local}/{part.path}") for part in parts)
        how = "hive_partitioning = false"
        if by_name:
            how = "hive_partitioning = true, hive_types = {kernel: VARCHAR}, union_by_name = true"
        return f"read_parquet([{here}], {how})"


def _first(found: duckdb.DuckDBPyRelation, most: int | None) -> duckdb.DuckDBPyRelation:
    """The first rows of an answer; all when None."""
    return found if most is None else found.limit(most)


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
    """What the view ``pairs`` is made of, as SQL."""
    if old is not None and new is not None:
        return f"SELECT 1 AS pair, {_quoted(old)} AS old_kernel, {_quoted(new)} AS new_kernel"
    side, kernel = ("old_kernel", old) if old is not None else ("new_kernel", new)
    chosen = f"WHERE {side} = {_quoted(kernel)}" if kernel is not None else ""
    return f"FROM ({_NEIGHBOURS}) {chosen}"


def _with_keys(sql: str, kernels: Iterable[str]) -> str:
    """The table ``kernels``, in which one whose release is not known sorts by what it is called, as
    ``changes.stored.in_order`` has it."""
    from ..tables.identity import release_key

    keys = {kernel: release_key(kernel) for kernel in kernels}
    cases = [f"WHEN {_quoted(one)} THEN {_quoted(key)}" for one, key in keys.items() if key]
    key = f"coalesce(release_key, CASE kernel {' '.join(cases)} END) AS release_key"
    return f"SELECT * REPLACE ({key}) FROM ({sql})" if cases else sql


def _as_stored(text: str) -> str:
    """Text of a command line as tables have it, where bytes that are no UTF-8 are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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


def _below(names: Collection[str]) -> set[str]:
    """Tables and views of some names, and the tables that these views are made of."""
    return {
        *names,
        *(table for over in _OVER_TABLES.keys() & names for table in _OVER_TABLES[over]),
    }


def _words(sql: str) -> set[str]:
    """Words of a query; comments are none of it."""
    return set(re.findall(r"\w+", re.sub("--.*", "", sql.lower())))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
