"""The one table of compressions, and the one limit to what data may decompress to.

``find`` names the compression by its magic number. Whatever is decompressed anywhere goes through a
``Reader``: piece by piece, so that no input takes more memory than what was asked for, and to the
end. Streams that follow each other (gzip's members, zstd's frames) are read one after the other,
zeros behind them are passed over where the format knows padding, and anything else is an error, as
are data that stop before their end. Libraries beyond Python's own are imported when needed.

A kernel image may use any of ``COMPRESSIONS``. Modules and BTF files are installed with those of
``FOR_FILES`` (kmod's), packages are built with those of ``FOR_PACKAGES``; other bytes are
taken as they are there, since a file may well begin with ``BZ`` or ``]``.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ..format.foreign import COMPRESSED
from .readable import Part, Readable

MAX_DECOMPRESSED_BYTES = 1 << 30
"""What a file, the sections of an ELF file or a kernel image may decompress to, and how many bytes
a file may have that is read into memory as it is."""
_SMALL_BYTES, _MAX_RATIO = 64 << 20, 200  # what small data may decompress to, see limit_of

_MAX_WINDOW_BYTES = 1 << 30  # what zstd (--long) and xz may look back, in memory of their own
_PIECE_BYTES = 1 << 20
_DEVICE_TREE, _DEVICE_TREE_HEADER_BYTES = b"\xd0\x0d\xfe\xed", 40
_FIRST_STEP, _MAX_STEP = 4 << 10, 256 << 10  # streams that follow another may be many, and short
_ZSTD_STEP = 512  # zstd's decompressor has no limit, and may make 128 KiB of 4 bytes
_ZSTD_RATIO = 1 << 15
_LZ4_BLOCK_BYTES = 8 << 20  # lz4's legacy frame: what each block but the last decompresses to


class DecompressError(Exception):
    """Data that cannot be decompressed: damaged, cut off, or more than the limit (``too_large``).

    ``message`` goes on from the name of the compression: ``unfolds to more than 1024 MiB``.
    ``work`` is how many bytes were read and made before that was known.
    """

    def __init__(self, message: str, too_large: bool = False, work: int = 0) -> None:
        super().__init__(message, too_large, work)
        self.message = message
        self.too_large = too_large
        self.work = work

    def __str__(self) -> str:
        return self.message


def limit_of(stored_bytes: int) -> int:
    """How many bytes may come of so many compressed ones: 200 times as many and 64 MiB.

    What decompresses to more was made to harm. ``MAX_DECOMPRESSED_BYTES`` applies beside it where
    all is held in memory.
    """
    return _SMALL_BYTES + _MAX_RATIO * stored_bytes


class _Stream(Protocol):
    """Decompresses one stream, in the way that bz2 and lzma do."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, most: int, /) -> bytes: ...


class Source(Protocol):
    """Compressed data that are read from front to back."""

    def read(self, size: int, /) -> bytes | memoryview: ...


@dataclass(frozen=True)
class Compression:
    """One compression.

    name     as users know it: ``zstd``
    magic    the bytes that compressed data begins with
    padding  zeros that may follow it come in multiples of this; 0: none may
    start    makes what decompresses one stream; None: it is decompressed as a whole
    step     bytes that are handed to the decompressor at once, at most
    """

    name: str
    magic: bytes
    start: Callable[[], _Stream] | None
    padding: int = 0
    step: int = _MAX_STEP

    def begins(self, data: bytes | memoryview) -> bool:
        """Whether ``data`` begins with the magic number."""
        return bytes(data[: len(self.magic)]) == self.magic

    def goes_on(self, data: bytes) -> bool:
        """Whether ``data``, which follow a stream, begin another."""
        skippable = self is ZSTD and data[0] & 0xF0 == 0x50 and data[1:4] == b"\x2a\x4d\x18"
        return bool(self.magic and self.begins(data)) or skippable

    def decompress(self, data: bytes | memoryview, limit: int | None = None) -> bytes:
        """Decompress all of ``data``.

        limit  bytes: more is an error, as is more than the limit for all

        Raises DecompressError.
        """
        view = memoryview(data)
        most = min(MAX_DECOMPRESSED_BYTES, limit_of(len(view)))
        limit = most if limit is None else min(limit, most)
        if self is ZSTD and (content := _zstd_at_once(view, limit)) is not None:
            return content
        return Reader(self, view).read_all(limit)

    def decompress_first(self, data: memoryview | Part, limit: int) -> bytes:
        """Decompress the one stream that ``data`` begins with, whatever follows it.

        limit  bytes: more is an error

        Raises DecompressError.
        """
        content = io.BytesIO()  # which gives back its buffer, not a copy
        for part in self.first_pieces(data, limit):
            content.write(part)
        return content.getvalue()

    def first_pieces(self, data: memoryview | Part, limit: int) -> Iterator[bytes]:
        """Decompress like ``decompress_first``, piece by piece. Raises DecompressError."""
        if self is LZ4:
            yield from _lz4(data, limit)
        else:
            yield from Reader(self, data, only_first=True).pieces(limit)


class Reader(io.RawIOBase):
    """Reads what compressed data decompress to, from front to back.

    Reading raises DecompressError. ``at`` counts the compressed bytes that were read.
    """

    def __init__(
        self, compression: Compression, source: Source | memoryview, only_first: bool = False
    ) -> None:
        """``only_first``: whether what follows the first stream is left alone."""
        super().__init__()
        assert compression.start is not None
        self.at = 0
        self._compression, self._only_first = compression, only_first
        self._start = compression.start
        self._stream = self._start()
        self._step = compression.step
        self._file = None if isinstance(source, memoryview) else source
        self._chunk = source if isinstance(source, memoryview) else memoryview(b"")
        self._next = 0  # in the chunk
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if not self._left:
            self._left = memoryview(self.piece(len(view)))
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def read_all(self, limit: int) -> bytes:
        """Read everything, at most ``limit`` bytes. Raises DecompressError."""
        content = io.BytesIO()  # which gives back its buffer, not a copy
        for part in self.pieces(limit):
            content.write(part)
        return content.getvalue()

    def pieces(self, limit: int) -> Iterator[bytes]:
        """Read like ``read_all``, piece by piece. Raises DecompressError."""
        total = 0
        try:
            while part := self.piece(max(1, min(limit + 1 - total, _PIECE_BYTES))):
                total += len(part)
                _check_limit(total, limit)
                yield part
        except DecompressError as error:
            raise DecompressError(error.message, error.too_large, self.at + total) from error

    def piece(self, most: int) -> bytes:
        """Read the next bytes, ``most`` or fewer (of zstd at most 16 MiB); none at the end.

        Raises DecompressError.
        """
        while True:
            if self._stream.eof:
                if self._only_first or not self._follows():
                    return b""
                self._stream = self._start()
                self._step = min(_FIRST_STEP, self._compression.step)
            stored = memoryview(b"")
            if self._stream.needs_input:
                stored = self._take()
                if not stored:
                    raise DecompressError("the file ends before the compressed data does")
            try:
                content = self._stream.decompress(stored, most)
            except _ERRORS as error:
                raise DecompressError(f"{error or 'cut off'} (before byte {self.at})") from error
            if self._stream.eof:  # what it did not use is the end of what was taken last
                unused = len(self._stream.unused_data)
                self._next -= unused
                self.at -= unused
            if content:
                return content

    def _fill(self) -> bool:
        """Read more of the file where nothing of it is left; returns whether there is anything."""
        if self._next == len(self._chunk) and self._file is not None:
            self._chunk, self._next = memoryview(self._file.read(_MAX_STEP)), 0
        return self._next < len(self._chunk)

    def _take(self) -> memoryview:
        """Take the next compressed bytes; none at the end of the file."""
        self._fill()
        taken = self._chunk[self._next : self._next + self._step]
        self._next += len(taken)
        self.at += len(taken)
        self._step = min(2 * self._step, self._compression.step)
        return taken

    def _follows(self) -> bool:
        """Whether another stream follows; passes over padding. Raises DecompressError."""
        end = self.at
        while self._fill():
            begins = bytes(self._chunk[self._next : self._next + _FIRST_STEP])
            rest = begins.lstrip(b"\0")
            self._next += len(begins) - len(rest)
            self.at += len(begins) - len(rest)
            if rest:
                break
        rest = bytes(self._chunk[self._next : self._next + MAGIC_BYTES])
        if self._file is not None and 0 < len(rest) < MAGIC_BYTES:
            self._chunk = memoryview(rest + bytes(self._file.read(_MAX_STEP)))
            self._next, rest = 0, bytes(self._chunk[:MAGIC_BYTES])
        if self._file is None and _are_device_trees(self._chunk[self._next :]):
            return False  # Image.gz-dtb: boards have them behind a kernel
        zeros, unit = self.at - end, self._compression.padding
        if (zeros % unit if unit else zeros) or (rest and not self._compression.goes_on(rest)):
            raise DecompressError(f"what follows byte {end} is neither compressed data nor padding")
        return bool(rest)


def _are_device_trees(rest: memoryview) -> bool:
    """Whether there is nothing but flattened device trees, each of the size that it says."""
    while bytes(rest[:4]) == _DEVICE_TREE:
        size = int.from_bytes(rest[4:8], "big")
        if not _DEVICE_TREE_HEADER_BYTES <= size <= len(rest):
            return False
        rest = rest[size:]
        if not rest:
            return True
    return False


# What decompressors raise on damaged data.
_ERRORS = (lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._stream = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes | memoryview, most: int, /) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail or data, most)


class _Zstd:
    needs_input = True

    def __init__(self) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._stream: Any = decompressor.decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof)

    @property
    def unused_data(self) -> bytes:
        return cast(bytes, self._stream.unused_data)

    def decompress(self, data: bytes | memoryview, most: int, /) -> bytes:
        try:
            found: bytes = self._stream.decompress(data)
            return found
        except self._error as error:
            raise ValueError(str(error)) from error


def _zstd_at_once(view: memoryview, limit: int) -> bytes | None:
    """Decompress a single frame that says how much it holds; None if it is anything else.

    Raises DecompressError.
    """
    import zstandard

    try:
        size = zstandard.get_frame_parameters(view).content_size
        if size in (0, zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
            return None  # of an empty frame the library would not see what follows
        _check_limit(size, limit)
        if size > _ZSTD_RATIO * len(view):
            return None
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        return decompressor.decompress(view, allow_extra_data=False)
    except zstandard.ZstdError:
        return None  # several frames, or damage: reading it step by step tells


def _lz4(data: Readable, limit: int) -> Iterator[bytes]:
    """Decompress lz4's legacy frame: a magic number, then blocks, each with its size before it.

    Nothing marks the end. What follows the last block (in a kernel image the decompressed size of
    the whole) is told by not being the size of a block that fits.
    """
    import lz4.block

    at, total = 4, 0
    while at + 4 <= len(data) and total % _LZ4_BLOCK_BYTES == 0:
        (size,) = struct.unpack("<I", data[at : at + 4])
        if not 0 < size <= len(data) - at - 4:
            break
        part = b""  # before there is the next one
        try:
            part = lz4.block.decompress(data[at + 4 : at + 4 + size], _LZ4_BLOCK_BYTES)
        except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
            if at > 4:
                break
            raise DecompressError(str(error), work=_LZ4_BLOCK_BYTES) from error
        total += len(part)
        _check_limit(total, limit)
        yield part
        at += 4 + size
    if at == 4:
        raise DecompressError("the file ends before the compressed data does")


def _check_limit(total: int, limit: int) -> None:
    if total > limit:
        most = f"{limit >> 20} MiB" if limit >> 20 else f"{limit} bytes"
        raise DecompressError(f"unfolds to more than {most}", True, total)


def find(
    data: bytes | memoryview, among: Sequence[Compression] | None = None
) -> Compression | None:
    """The compression that ``data`` begins with, of those given (all by default); or None."""
    if not data or data[0] not in _FIRST_BYTES:
        return None
    start = bytes(data[:MAGIC_BYTES])
    for compression in among or COMPRESSIONS:
        if start.startswith(compression.magic):
            return compression
    return None


# The third byte of gzip is the method: 8, deflate, is the only one there is (RFC 1952).
GZIP = Compression("gzip", COMPRESSED["gzip"] + b"\x08", lambda: _Zlib(wbits=31), padding=1)
XZ = Compression(
    "xz",
    COMPRESSED["xz"],
    lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_WINDOW_BYTES),
    padding=4,
)
ZSTD = Compression("zstd", COMPRESSED["zstd"], _Zstd, step=_ZSTD_STEP)
LZ4 = Compression("lz4", COMPRESSED["lz4"], None)
BZIP2 = Compression("bzip2", COMPRESSED["bzip2"], bz2.BZ2Decompressor)
LZMA = Compression(
    "lzma", b"\x5d\0\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, _MAX_WINDOW_BYTES)
)

ZLIB = Compression("zlib", b"", lambda: _Zlib(wbits=15))  # in sections of ELF files only

COMPRESSIONS = (GZIP, XZ, ZSTD, LZ4, BZIP2, LZMA)
FOR_FILES = (ZSTD, XZ, GZIP)
FOR_PACKAGES = (XZ, GZIP, BZIP2, ZSTD, LZMA)
MAGIC_BYTES = max(len(compression.magic) for compression in COMPRESSIONS)
_FIRST_BYTES = frozenset(compression.magic[0] for compression in COMPRESSIONS)
