"""What came of modules, kept in files so that no later run has to work on the same again.

A batch's results are one file, named by their content, written before the batch counts as done:

    magic, length of the header, header (JSON: an Entry per module), zstd of pickles end to end

The header says under which key a result was obtained, and so whether it is still right: the key
is a digest of all that it depends on, content of the input, base and this program included. The
rest are records and columns, as the worker made them; tables are always put together from them,
be they new or years old. Nothing here is for readers of the output, and all may be deleted.

The pickles can hold plain data, numpy arrays and the data classes of this package. Whatever else
is in them, as somebody may have put there, is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .encode import EncodeError, find_encoder
from .records import (
    CRASHED,
    ENCODE_TIMEOUT,
    NO_ENCODER,
    TIMED_OUT,
    ModuleRecord,
    WorkOptions,
)

_MAGIC = b"splitbtf results 1\n"
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
class ModuleResult:
    """A module's record, and its rows of the tables that have rows by module."""

    record: ModuleRecord
    rows: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """What must be known of a result to use it again.

    ``encoder`` had a say in it; so had the file with debug information, if there is a digest of
    it. ``seconds`` is the limit that the work ran into. ``start`` and ``end`` are its place among
    the pickles.
    """

    key: str
    module: str
    error_kind: str | None
    bytes_out: int | None
    output_sha256: str | None
    encoder: str | None = None
    debug_sha256: str | None = None
    seconds: float | None = None
    start: int = 0
    end: int = 0

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


def is_valid(entry: Entry, options: WorkOptions, retry: bool = False) -> bool:
    """Whether the same would come of it today. ``retry``: not if time or chance had a say."""
    kind = entry.error_kind
    if kind in (CRASHED, TIMED_OUT, ENCODE_TIMEOUT):
        limit = options.encode_seconds if kind == ENCODE_TIMEOUT else options.module_seconds
        if retry or (entry.seconds is not None and limit is not None and limit > entry.seconds):
            return False
    if kind == NO_ENCODER:
        return installed_encoder() is None
    return entry.encoder is None or installed_encoder() in (entry.encoder, None)


def installed_encoder() -> str | None:
    """The pahole that would be used now."""
    try:
        return str(find_encoder())
    except EncodeError:
        return None


def pack(results: Sequence[tuple[Entry, ModuleResult]]) -> bytes:
    """Results as a file."""
    import zstandard

    entries, pickles, at = [], [], 0
    for entry, result in results:
        pickles.append(pickle.dumps(result, protocol=5))
        end = at + len(pickles[-1])
        entries.append(asdict(dataclasses.replace(entry, start=at, end=end)))
        at = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(pickles))
    return b"".join((_MAGIC, _LENGTH.pack(len(header)), header, body))


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
        self.entries = tuple(Entry(**entry) for entry in raw)
        self._body = packed[start + length :]
        self._pickles: bytes | None = None

    def __getitem__(self, number: int) -> ModuleResult:
        if self._pickles is None:
            import zstandard

            self._pickles = zstandard.ZstdDecompressor().decompress(self._body)
        entry = self.entries[number]
        try:
            result = _Unpickler(io.BytesIO(self._pickles[entry.start : entry.end])).load()
        except Exception as error:  # whatever a pickle can do
            raise DamagedError(f"results of {entry.module}: {error!r}") from error
        if not isinstance(result, ModuleResult):
            raise DamagedError(f"results of {entry.module}: not a result")
        return result


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAYS:
            return super().find_class(module, name)
        if module.startswith(("pipeline.", "btf.")) and module in sys.modules:
            found = getattr(sys.modules[module], name, None)
            if isinstance(found, type) and dataclasses.is_dataclass(found):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong here")
