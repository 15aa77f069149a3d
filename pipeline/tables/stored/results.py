"""What came of modules, kept in files so that no later run has to work on the same again.

A batch's results are one file, named by their content, written before the batch counts as done:

    magic, length of the header, header (JSON: an Entry per module), zstd of an Arrow stream

The header says under which key a result was obtained, and so whether it is still right: the key
is a digest of all that it depends on, content of the input, base and this program included. The
stream has a row per module (``registry.kept_tables``). It is compressed as a whole: most of its
many buffers are small, and each by itself would take several times as long. Nothing here is for
readers of the output, and all may be deleted.

Rows that a module's split BTF file tells by itself (``registry.derived_tables``), nineteen
twentieths of all, are not kept: who needs them later makes them of that file. Until the tables of
the run that made them are written they are in a file beside, an Arrow stream.

Such files may come from anywhere: all that Arrow and numpy would trust is checked when one is read.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ...model.records import CRASHED, ENCODE_TIMEOUT, NO_BTF, NO_ENCODER, TIMED_OUT

if TYPE_CHECKING:
    import pyarrow as pa

    from ..schema import ModuleTable

_MAGIC = b"splitbtf results 4\n"
_LENGTH = struct.Struct("<Q")
_ZSTD = b"\x28\xb5\x2f\xfd"
_LEVEL = 1  # of zstd: the next one takes twice the time for a tenth less


class DamagedError(Exception):
    """A file of results that cannot be used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What must be known of a result to use it again.

    ``encoder`` had a say in it; so had the file with debug information, if there is a digest of
    it. ``seconds`` is the limit that the work ran into.
    """

    key: str
    module: str
    error_kind: str | None
    bytes_out: int | None
    output_sha256: str | None
    encoder: str | None = None
    debug_sha256: str | None = None
    seconds: float | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether it may become invalid while input, base and program stay the same."""
        return (
            self.encoder is not None
            or self.debug_sha256 is not None
            or self.error_kind in (CRASHED, TIMED_OUT, ENCODE_TIMEOUT, NO_ENCODER, NO_BTF)
        )


_TEXT, _NUMBER = (str, type(None)), (int, float, type(None))
_ENTRY_TYPES: tuple[Any, ...] = (str, str, _TEXT, _NUMBER, _TEXT, _TEXT, _TEXT, _NUMBER)


def pack(entries: Sequence[Entry], rows: Sequence[pa.RecordBatch]) -> bytes:
    """Make the file of some results: the entry of each module, and those of its rows that are
    kept.

    rows  of all modules, as ``describe.rows_of`` makes them
    """
    from ..registry import kept_tables  # late: Arrow

    header = json.dumps([_entry_values(entry) for entry in entries], separators=(",", ":")).encode()
    body = _compressed(_stream(kept_tables(), rows))
    return b"".join((_MAGIC, _LENGTH.pack(len(header)), header, body))


def pack_derived(rows: Sequence[pa.RecordBatch], *, compress: bool) -> bytes | pa.Buffer:
    """Make the file of the other rows. ``compress``: it goes over a network."""
    from ..registry import derived_tables

    stream = _stream(derived_tables(), rows)
    return _compressed(stream) if compress else stream


def _stream(tables: Sequence[ModuleTable], rows: Sequence[pa.RecordBatch]) -> pa.Buffer:
    import pyarrow as pa

    from ..registry import rows_schema

    schema = rows_schema(tables)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in rows:
            writer.write_batch(batch.select(schema.names))
    return sink.getvalue()


def _compressed(stream: pa.Buffer) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=_LEVEL).compress(stream)


_entry_values = attrgetter(*(field.name for field in fields(Entry)))


def name_of(packed: bytes, context: str) -> str:
    """Name a file of results: its context, so that others need not look into it, and a digest."""
    return f"{context[:16]}-{hashlib.sha256(packed).hexdigest()[:32]}.results"


class Results:
    """A file of results that was read. Raises DamagedError if it is not what its name says."""

    def __init__(self, name: str, packed: bytes) -> None:
        start = len(_MAGIC) + _LENGTH.size
        digest = hashlib.sha256(packed).hexdigest()
        if not packed.startswith(_MAGIC) or len(packed) < start or digest[:32] not in name:
            raise DamagedError(f"{name}: damaged")
        (length,) = _LENGTH.unpack_from(packed, len(_MAGIC))
        self._name = name
        self._body = memoryview(packed)[start + length :]
        try:
            self.entries = tuple(map(_entry, json.loads(packed[start : start + length])))
        except (ValueError, TypeError, RecursionError) as error:
            raise DamagedError(f"{name}: {error!r}") from error

    @cached_property
    def rows(self) -> pa.RecordBatch:
        """Read the rows that are kept: one per module. Raises DamagedError."""
        from ..registry import kept_tables  # late: Arrow

        return _rows(self._name, self._body, kept_tables(), len(self.entries))


def read_derived(name: str, packed: bytes, count: int) -> pa.RecordBatch:
    """Read the file of the rows of ``count`` modules that are not kept. Raises DamagedError."""
    from ..registry import derived_tables

    return _rows(name, packed, derived_tables(), count)


def _rows(
    name: str, stream: bytes | memoryview, tables: Sequence[ModuleTable], count: int
) -> pa.RecordBatch:
    """Read rows of these tables: one per module."""
    import pyarrow as pa
    import zstandard

    from ..registry import rows_schema

    schema = rows_schema(tables)
    try:
        if stream[: len(_ZSTD)] == _ZSTD:
            stream = zstandard.ZstdDecompressor().decompress(stream)
        with pa.ipc.open_stream(stream) as reader:
            if not reader.schema.equals(schema):
                raise DamagedError("these are no results of this version")
            table = reader.read_all()
        table.validate(full=True)
        for column in table.columns:
            for chunk in column.chunks:
                _check_nulls(chunk)
        if len(table) != count:
            raise DamagedError(f"{count} entries, {len(table)} results")
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema)
    except Exception as error:  # whatever Arrow says of bytes that somebody made
        raise DamagedError(f"{name}: {error}") from error


def _check_nulls(lists: pa.ListArray) -> None:
    """Arrow checks all but this: that nothing is null that must not be."""
    rows = lists.flatten()
    required = (rows.field(i) for i, field in enumerate(rows.type) if not field.nullable)
    if lists.null_count or rows.null_count or any(column.null_count for column in required):
        raise DamagedError("something is null that must not be")


def _entry(values: Any) -> Entry:
    for value, types in zip(values, _ENTRY_TYPES, strict=True):
        if not isinstance(value, types):
            raise TypeError(f"{value!r} in an entry")
    return Entry(*values)
