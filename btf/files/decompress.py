"""The one table of compressions: what each begins with, and how it is decompressed.

``find`` names the compression by its magic number. ``Compression.decompress`` takes content that
is in memory, ``Compression.open`` reads a file from front to back. Neither needs to know where the
compressed data ends: what follows it is ignored. Libraries beyond Python's own are imported when
they are needed.

A kernel image may use any of ``COMPRESSIONS``. Modules and BTF files are installed with those of
``FOR_FILES`` (kmod's), packages are built with those of ``FOR_PACKAGES`` (dpkg's); other bytes are
taken as they are there, since a file may well begin with ``BZ`` or ``]``.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

_LZ4_BLOCK_BYTES = 8 << 20  # lz4's legacy frame: what each block but the last decompresses to
_LZ4_LEGACY = 0x184C2102
_LARGEST_WINDOW = 1 << 31  # zstd's, of streams: packages may be made with --long
_STEP = 4096  # bytes of zstd at a time: a few bytes may decompress to a lot


class DecompressError(Exception):
    """Data that cannot be decompressed: damaged, cut off, or more than the limit (``too_large``).

    ``message`` goes on from the name of the compression: ``unfolds to more than 1024 MiB``.
    """

    def __init__(self, message: str, too_large: bool = False) -> None:
        super().__init__(message, too_large)
        self.message = message
        self.too_large = too_large

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Compression:
    """One compression.

    name         as users know it: ``zstd``
    magic        the bytes that compressed data begins with
    """

    name: str
    magic: bytes
    _decompress: Callable[[memoryview, int], bytes]
    _open: Callable[[BinaryIO], object] | None = None

    def begins(self, data: bytes | memoryview) -> bool:
        """Whether ``data`` begins with the magic number."""
        return bytes(data[: len(self.magic)]) == self.magic

    def decompress(self, data: bytes | memoryview, limit: int) -> bytes:
        """Decompress what ``data`` begins with: one stream, frame or member.

        limit   bytes; more is never made

        Raises DecompressError.
        """
        return self._decompress(memoryview(data), limit)

    def open(self, file: BinaryIO) -> BinaryIO:
        """Read a compressed file from front to back, all its streams one after another.

        What reading raises on damaged data, ``is_damage`` tells from errors of the system.
        """
        if self._open is None:
            raise ValueError(f"{self.name} cannot be read as a stream")
        return cast(BinaryIO, self._open(file))


def find(
    data: bytes | memoryview, among: Sequence[Compression] | None = None
) -> Compression | None:
    """The compression that ``data`` begins with, of those given (all by default); or None."""
    return next((c for c in (among or COMPRESSIONS) if c.begins(data)), None)


def is_damage(error: BaseException) -> bool:
    """Whether reading from ``Compression.open`` raised this because the data is damaged."""
    if isinstance(error, OSError):
        return error.errno is None  # gzip and bz2 say so
    return (
        isinstance(error, (lzma.LZMAError, zlib.error, EOFError))
        or type(error).__module__.split(".")[0] == "zstandard"
    )


# What Python's own decompressor objects raise on damaged data.
_ERRORS = (lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)


def _by(start: Callable[[], object]) -> Callable[[memoryview, int], bytes]:
    """Decompress with one of Python's own decompressor objects, which ``start`` makes."""

    def decompress(view: memoryview, limit: int) -> bytes:
        stream = start()
        try:
            content: bytes = stream.decompress(view, limit + 1)  # type: ignore[attr-defined]
        except _ERRORS as error:
            raise DecompressError(str(error)) from error
        _check_limit(len(content), limit)
        if not stream.eof:  # type: ignore[attr-defined]
            raise _cut_off()
        return content

    return decompress


def _check_limit(total: int, limit: int) -> None:
    if total > limit:
        raise DecompressError(f"unfolds to more than {limit >> 20} MiB", True)


def _cut_off() -> DecompressError:
    return DecompressError("the file ends before the compressed data does")


def _zstd(view: memoryview, limit: int) -> bytes:
    """Decompress at once where the frame says how much it holds, else step by step."""
    import zstandard

    unknown = (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)
    parts: list[bytes] = []
    total = 0
    try:
        size = zstandard.get_frame_parameters(view).content_size
        if size not in unknown:
            _check_limit(size, limit)
            return zstandard.ZstdDecompressor().decompress(view)
        stream = zstandard.ZstdDecompressor().decompressobj()
        for at in range(0, len(view), _STEP):
            parts.append(stream.decompress(view[at : at + _STEP]))
            total += len(parts[-1])
            _check_limit(total, limit)
            if stream.eof:
                return b"".join(parts)
    except zstandard.ZstdError as error:
        raise DecompressError(str(error)) from error
    raise _cut_off()


def _open_zstd(file: BinaryIO) -> object:
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    return reader.stream_reader(file, read_across_frames=True)


def _open_gzip(file: BinaryIO) -> object:
    import gzip

    return gzip.GzipFile(fileobj=file)


def _lz4(view: memoryview, limit: int) -> bytes:
    """Decompress lz4's legacy frame: a magic number, then blocks, each with its size before it.

    Nothing marks the end. What follows the last block (in a kernel image the decompressed size of
    the whole) is told by not being the size of a block that fits.
    """
    import lz4.block

    parts: list[bytes] = []
    total, at = 0, 4
    while at + 4 <= len(view):
        (size,) = struct.unpack_from("<I", view, at)
        if size == _LZ4_LEGACY:  # frames may follow each other
            at += 4
            continue
        if not 0 < size <= len(view) - at - 4:
            break
        if parts and len(parts[-1]) != _LZ4_BLOCK_BYTES:
            break  # only the last block is shorter
        try:
            part = lz4.block.decompress(view[at + 4 : at + 4 + size], _LZ4_BLOCK_BYTES)
        except (lz4.block.LZ4BlockError, ValueError, OverflowError) as error:
            if parts:
                break
            raise DecompressError(str(error)) from error
        total += len(part)
        _check_limit(total, limit)
        parts.append(part)
        at += 4 + size
    if not parts:
        raise _cut_off()
    return b"".join(parts)


# The third byte of gzip is the method: 8, deflate, is the only one there is (RFC 1952).
GZIP = Compression("gzip", b"\x1f\x8b\x08", _by(lambda: zlib.decompressobj(wbits=31)), _open_gzip)
XZ = Compression(
    "xz", b"\xfd7zXZ\0", _by(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)), lzma.LZMAFile
)
ZSTD = Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd, _open_zstd)
LZ4 = Compression("lz4", struct.pack("<I", _LZ4_LEGACY), _lz4)
BZIP2 = Compression("bzip2", b"BZh", _by(bz2.BZ2Decompressor), bz2.BZ2File)
LZMA = Compression("lzma", b"\x5d\0\0", _by(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)))

COMPRESSIONS = (GZIP, XZ, ZSTD, LZ4, BZIP2, LZMA)
FOR_FILES = (ZSTD, XZ, GZIP)
FOR_PACKAGES = (XZ, GZIP, BZIP2, ZSTD)
