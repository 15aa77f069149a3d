"""Parquet parts, written as rows come in: what is held in memory is a row group at most.

The bytes depend on the rows alone, not on the pieces in which they came.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files.storage import cannot_write

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 1 << 15  # few, so that those that hold one type or one name are read quickly
_ROWS_AT_ONCE = 1 << 13  # with Arrow's choice, an eighth of it, calls take a tenth of the time
_RISING = ("global_id", "type_id")  # columns by which rows are ordered, mostly one by one
_ENCODINGS = {  # where another one than Arrow's choice saves bytes
    **dict.fromkeys(_RISING, "DELTA_BINARY_PACKED"),
    "spelling": "DELTA_LENGTH_BYTE_ARRAY",  # not of names: Arrow makes no dictionaries of such
}
# Columns of which a row group may hold few values: only of these it is worth noting the least and
# the greatest, by which readers pass over row groups.
_NOTED = (*_RISING, "object_id", "module", "name")


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file, relative to the output folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


class PartWriter:
    """One Parquet file in the making. Everything raises OutputError."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        import pyarrow as pa  # late: Arrow takes a while
        import pyarrow.parquet as pq

        self.path = path
        self.rows = 0
        self._schema = schema
        names = set(schema.names)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        with self._writing():
            # Given a path, Arrow would load what it has for all kinds of places: 18 MB.
            self._file = pa.OSFile(path, "wb")
            encodings = {name: encoding for name, encoding in _ENCODINGS.items() if name in names}
            self._writer = pq.ParquetWriter(
                self._file,
                schema,
                compression="zstd",
                compression_level=3,
                version="2.6",
                use_dictionary=_with_repetition(schema),
                column_encoding=encodings,
                write_batch_size=_ROWS_AT_ONCE,
                write_statistics=[field.name for field in schema if field.name in _NOTED],
                **_name_filter(schema),
            )

    def add(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Append rows."""
        batches = [rows] if not hasattr(rows, "to_batches") else rows.to_batches()
        self._waiting += batches
        self._waiting_rows += len(rows)
        self.rows += len(rows)
        if self._waiting_rows >= ROWS_PER_GROUP:
            self._write_groups()

    def close(self) -> None:
        """Finish the file."""
        self._write_groups(last=True)
        with self._writing():
            self._writer.close()
            self._file.close()

    def discard(self) -> None:
        """The file is not wanted any more; it is not finished, which could fail."""
        with contextlib.suppress(Exception):
            self._writer.close()
        with contextlib.suppress(OSError):
            self._file.close()
        self._writer.is_open = False  # else it tries again when it is collected, and complains

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # Arrow's errors name no file
            named = OSError(error.errno, os.strerror(error.errno)) if error.errno else error
            raise cannot_write(self.path, named) from error

    def _write_groups(self, last: bool = False) -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(self._waiting, schema=self._schema)
        at = 0
        while len(table) - at >= ROWS_PER_GROUP or (last and at < len(table)):
            # In one piece: where pieces meet would show in the file.
            group = table.slice(at, ROWS_PER_GROUP).combine_chunks()
            with self._writing():
                self._writer.write_table(group, row_group_size=ROWS_PER_GROUP)
            at += len(group)
        rest = table.slice(at)
        self._waiting = rest.to_batches()
        self._waiting_rows = len(rest)


def _name_filter(schema: pa.Schema) -> dict[str, Any]:
    """Options for a filter in the table ``types`` that tells which row groups have no type of a
    name, where Arrow can make one: who looks for a name in all kernels then reads few of them.
    It takes 16 kB of each; one that is wrong less often takes 32."""
    import inspect

    import pyarrow.parquet as pq

    option = "bloom_filter_options"
    known = inspect.signature(pq.ParquetWriter.__init__).parameters
    if (schema.metadata or {}).get(b"table") != b"types" or option not in known:
        return {}
    return {option: {"name": {"ndv": ROWS_PER_GROUP // 2, "fpp": 0.03}}}


def _with_repetition(schema: pa.Schema) -> list[str]:
    """Columns whose values come again so often in a row group that a dictionary saves something:
    not hashes, ids, names, spellings."""
    import pyarrow as pa

    return [
        field.name
        for field in schema
        if not pa.types.is_fixed_size_binary(field.type)
        and not field.name.endswith(("name", "spelling", *_RISING))
    ]


def digest_of(path: str) -> tuple[str, int]:
    """SHA-256 and size of a file."""
    with open(path, "rb") as file:  # noqa: PTH123
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest, Path(path).stat().st_size
