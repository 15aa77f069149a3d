"""New parts of tables: written to a scratch folder, then put where they belong, named by content.

Nothing names them before a manifest does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...files.scratch import ScratchFolder
from ...files.storage import Storage, cannot_write
from .parquet import Part, PartWriter, digest_of

if TYPE_CHECKING:
    import pyarrow as pa


@contextlib.contextmanager
def new_parts(storage: Storage, kernel: str, scratch: str | None) -> Iterator[NewParts]:
    """Parts of a kernel's tables in the making.

    scratch  a folder on the same disk as ``storage``; None where that is on no disk: then the
             parts grow in a folder for temporary files
    """
    with writing(storage):
        folder = ScratchFolder(scratch)
    with folder:
        parts = NewParts(storage, kernel, folder.path)
        try:
            yield parts
        finally:
            parts.discard()


class NewParts:
    """See ``new_parts``. Raises OutputError."""

    def __init__(self, storage: Storage, kernel: str, folder: str) -> None:
        self._storage = storage
        self._kernel = kernel
        self._folder = folder
        self._writers: dict[str, PartWriter] = {}

    def add(self, table: str, rows: pa.Table) -> None:
        """Append rows to a table's part."""
        if table not in self._writers:
            path = f"{self._folder}/{table}.parquet"
            self._writers[table] = PartWriter(path, rows.schema)
        self._writers[table].add(rows)

    def finish(self) -> dict[str, Part]:
        """Put the parts of all tables that rows were added to, even if none, in their places."""
        return {table: self._put(table) for table in list(self._writers)}

    def _put(self, table: str) -> Part:
        writer = self._writers[table]
        writer.close()
        del self._writers[table]
        folder = f"tables/{table}/kernel={self._kernel}"
        with writing(self._storage):
            digest, size = digest_of(writer.path)
            path = f"{folder}/part-{digest[:16]}.parquet"
            self._storage.make_folder(folder)
            self._storage.upload(writer.path, path)
        return Part(path, writer.rows, size, digest)

    def discard(self) -> None:
        """What is not in its place is not wanted any more."""
        for writer in self._writers.values():
            writer.discard()


@contextlib.contextmanager
def writing(storage: Storage) -> Iterator[None]:
    """Raise OutputError where something cannot be written to a storage."""
    try:
        yield
    except OSError as error:
        raise cannot_write(error.filename or storage.place, error) from error
