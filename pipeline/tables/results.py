"""What came of modules, kept in files so that no later run has to work on the same again.

A batch's results are one file, named by their content, written before the batch counts as done:

    magic, length of the header, header (JSON: an Entry per module), zstd of a pickle

The header says under which key a result was obtained, and so whether it is still right: the key
is a digest of all that it depends on, content of the input, base and this program included. The
rest are records and columns, as the worker made them; tables are always put together from them,
be they new or years old. Nothing here is for readers of the output, and all may be deleted.

The pickle can hold plain data, numpy arrays and the data classes of this package. Whatever else is
in it, as somebody may have put there, is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ..model.records import (
    CRASHED,
    ENCODE_TIMEOUT,
    NO_ENCODER,
    TIMED_OUT,
    ModuleRecord,
)

if TYPE_CHECKING:
    from .describe import Rows

_MAGIC = b"splitbtf results 2\n"
_LENGTH = struct.Struct("<Q")
_LEVEL = 1  # of zstd: the next one takes twice the time for a tenth less
_KEY_DIGITS = 32
_ARRAYS = {
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
}


class DamagedError(Exception):
    """A file of results that cannot be used."""


@dataclass(frozen=True, slots=True)
class BatchResults:
    """What came of a batch's modules.

    records  of all
    rows     of those that have any, together; ``row`` says for each module which of these it is,
             and None of those without
    """

    records: Sequence[ModuleRecord]
    rows: Rows | None = None
    row: Sequence[int | None] = ()


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
            or self.error_kind in (CRASHED, TIMED_OUT, ENCODE_TIMEOUT, NO_ENCODER)
        )


def key_of(context: str, name: str, stored_sha256: str, has_debug: bool) -> str:
    """The key of a result.

    context        digest of what all modules of a kernel have in common
    name           what the module is called if it does not say so itself
    stored_sha256  of the input file as it is stored
    has_debug      whether there is a file with debug information to fall back on
    """
    text = f"{context}\0{name}\0{stored_sha256}\0{has_debug}"
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def pack(entries: Sequence[Entry], results: BatchResults) -> bytes:
    """Results as a file, with the entry of each module."""
    import zstandard

    header = json.dumps([_entry_values(entry) for entry in entries], separators=(",", ":")).encode()
    records = [tuple(record) for record in results.records]
    body = pickle.dumps((records, results.rows, results.row), protocol=5)
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(body)
    return b"".join((_MAGIC, _LENGTH.pack(len(header)), header, body))


_entry_values = attrgetter(*(field.name for field in fields(Entry)))


def name_of(packed: bytes, context: str) -> str:
    """What to call a file of results: the context, so that others need not look into it."""
    return f"{context[:16]}-{hashlib.sha256(packed).hexdigest()[:32]}.results"


class Results:
    """A file of results that was read. Raises DamagedError if it is not what its name says."""

    def __init__(self, name: str, packed: bytes) -> None:
        start = len(_MAGIC) + _LENGTH.size
        digest = hashlib.sha256(packed).hexdigest()
        if not packed.startswith(_MAGIC) or digest[:32] not in name:
            raise DamagedError(f"{name}: damaged")
        (length,) = _LENGTH.unpack_from(packed, len(_MAGIC))
        raw = json.loads(packed[start : start + length])
        self.entries = tuple(Entry(*values) for values in raw)
        self._name = name
        self._body = packed[start + length :]

    @cached_property
    def batch(self) -> BatchResults:
        """The results. Raises DamagedError."""
        import zstandard

        from .describe import Rows  # late: only tables need it

        try:
            pickled = io.BytesIO(zstandard.ZstdDecompressor().decompress(self._body))
            records, rows, row = _Unpickler(pickled).load()
            found = BatchResults([ModuleRecord(*values) for values in records], rows, row)
        except Exception as error:  # whatever a pickle can do
            raise DamagedError(f"{self._name}: {error!r}") from error
        if not isinstance(rows, Rows | None) or len(found.records) != len(self.entries):
            raise DamagedError(f"{self._name}: these are no results")
        return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAYS:
            return super().find_class(module, name)
        if module.startswith(("pipeline.", "btf.")) and module in sys.modules:
            found = getattr(sys.modules[module], name, None)
            if isinstance(found, type) and dataclasses.is_dataclass(found):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong here")
