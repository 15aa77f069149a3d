"""From a path to the bytes that count: regular files only, decompressed by content.

Nothing here knows BTF or ELF.
"""

from __future__ import annotations

import contextlib
import lzma
import mmap
import os
import stat
import threading
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from btf.compiled.huge_pages import spacious

from ..model.errors import SourceError
from ..model.records import COMPRESSION, UNREADABLE
from .remote import is_uri, read_remote

MAX_UNFOLDED_BYTES = 1 << 30
_CHUNK_BYTES = 64 << 10
_LARGE_BYTES = 64 << 20  # from here on a file is mapped where that will do
_ZSTD, _GZIP, _XZ = b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"\xfd7zXZ\0"


class ReadError(Exception):
    """An input that cannot be read: bad input, not a bug. ``kind``: see records.ERROR_KINDS."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def read_input(path: str) -> bytes:
    """The content of a file, decompressed if it is zstd, xz or gzip. Raises ReadError."""
    return bytes(read_passing(path))


def read_passing(path: str) -> bytes | memoryview:
    """As ``read_input``, but what is returned may change with this thread's next call: the memory
    is used again, which spares the system giving out new pages for every module."""
    return unfold(read_stored(path))


def read_stored(path: str) -> memoryview:
    """The content of a file as it is stored, for as long as ``read_passing`` says. A path may be
    a URI that pyarrow knows. Raises ReadError."""
    shipped = _buffer.shipped.get(path)
    if shipped is not None:
        return memoryview(shipped)
    if is_uri(path):
        try:
            return memoryview(read_remote(path))
        except ConnectionError as error:  # says nothing of this file: the others fare no better
            raise out_of_reach(path, error) from error
        except OSError as error:
            raise ReadError(UNREADABLE, unreadable(path, error)) from error
    return _read_file(path)


@contextlib.contextmanager
def shipped(contents: Mapping[str, bytes] | None) -> Iterator[None]:
    """Have these files read from memory, in this thread, while the block runs: they lie on a
    machine whose files cannot be seen from here."""
    _buffer.shipped = contents or {}
    try:
        yield
    finally:
        _buffer.shipped = {}


def unfold(stored: memoryview) -> bytes | memoryview:
    """Stored content, decompressed if it is zstd, xz or gzip. Raises ReadError."""
    start = bytes(stored[: len(_XZ)])
    if start.startswith(_ZSTD):
        return _unzstd(bytes(stored))
    if start.startswith(_XZ):
        return _unfold(lzma.LZMADecompressor(lzma.FORMAT_XZ), bytes(stored), "xz")
    if start.startswith(_GZIP):
        return _unfold(zlib.decompressobj(wbits=31), bytes(stored), "gzip")
    return stored


def map_or_read(path: str) -> bytes | mmap.mmap:
    """The content of a file; a vmlinux of a gigabyte is mapped, not read. Raises ReadError."""
    try:
        if os.path.isfile(path) and os.path.getsize(path) >= _LARGE_BYTES:
            with open(path, "rb") as file:  # noqa: PTH123
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if not content[: len(_XZ)].startswith((_ZSTD, _XZ, _GZIP)):
                return content
    except OSError as error:
        raise ReadError(UNREADABLE, unreadable(path, error)) from error
    return read_input(path)


class _Buffer(threading.local):
    """A thread's memory for reading, and files that it already has."""

    content = memoryview(b"")
    shipped: Mapping[str, bytes] = MappingProxyType({})


_buffer = _Buffer()


def _read_file(path: str) -> memoryview:
    # O_NONBLOCK: opening a pipe or a device for reading must not wait for a writer.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
                raise ReadError(UNREADABLE, f"this is {what}; only files can be read")
            # sysfs says 4096 for attributes that are longer: read to the end, whatever the size.
            size, room = 0, status.st_size + _CHUNK_BYTES
            if len(_buffer.content) < room:
                _buffer.content = spacious(2 * room).data
            while count := os.readv(descriptor, [_buffer.content[size:]]):
                size += count
                if size == len(_buffer.content):
                    larger = spacious(2 * size).data
                    larger[:size] = _buffer.content
                    _buffer.content = larger
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ReadError(UNREADABLE, unreadable(path, error)) from error
    return _buffer.content[:size].toreadonly()


def out_of_reach(path: str, error: ConnectionError) -> SourceError:
    """What to say where sources lie and nobody answers."""
    return SourceError(
        f"cannot read {path}: {error.strerror or error}. Run again: what is done is kept"
    )


def begins_like_btf(path: str) -> bool:
    """Whether a file is raw BTF by its magic number and version, in either byte order."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.read(3) in (b"\x9f\xeb\x01", b"\xeb\x9f\x01")
    except OSError:
        return False


def unreadable(path: str, error: OSError) -> str:
    """What to say about a file that the system refuses to open or read."""
    reason = error.strerror or str(error)
    if os.path.islink(path) and isinstance(error, FileNotFoundError):
        reason += f" (a symbolic link to {os.readlink(path)!r})"
    return f"cannot read the file: {reason}"


def _unzstd(data: bytes) -> bytes:
    import zstandard  # late: only compressed inputs need it

    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
            if size > MAX_UNFOLDED_BYTES:
                raise ReadError(COMPRESSION, _too_large("zstd"))
            content: bytes = zstandard.ZstdDecompressor().decompress(data)
            return content
        return _unzstd_stream(data)
    except zstandard.ZstdError as error:
        raise ReadError(COMPRESSION, f"damaged zstd: {error}") from error


def _unzstd_stream(data: bytes) -> bytes:
    import zstandard

    parts, total, stream = [], 0, zstandard.ZstdDecompressor().decompressobj()
    view = memoryview(data)
    for start in range(0, len(data), 4096):  # small steps: a few bytes may unfold to a lot
        part = stream.decompress(view[start : start + 4096])
        total += len(part)
        if total > MAX_UNFOLDED_BYTES:
            raise ReadError(COMPRESSION, _too_large("zstd"))
        parts.append(part)
        if stream.eof:
            break
    if not stream.eof:
        raise ReadError(COMPRESSION, "damaged zstd: the file ends before the compressed data does")
    return b"".join(parts)


def _unfold(stream: lzma.LZMADecompressor | zlib._Decompress, data: bytes, name: str) -> bytes:
    try:
        content = stream.decompress(data, MAX_UNFOLDED_BYTES + 1)
    except (lzma.LZMAError, zlib.error) as error:
        raise ReadError(COMPRESSION, f"damaged {name}: {error}") from error
    if len(content) > MAX_UNFOLDED_BYTES:
        raise ReadError(COMPRESSION, _too_large(name))
    if not stream.eof:
        raise ReadError(
            COMPRESSION, f"damaged {name}: the file ends before the compressed data does"
        )
    return content


def _too_large(name: str) -> str:
    return f"the {name} data unfolds to more than {MAX_UNFOLDED_BYTES >> 20} MiB"
