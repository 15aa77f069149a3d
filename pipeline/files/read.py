"""From a path to the bytes that count: regular files only, decompressed by content.

Nothing here knows BTF or ELF.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from btf.compiled.huge_pages import alloc_huge
from btf.files import decompress as compressions
from btf.files.decompress import FOR_FILES, DecompressError, find
from btf.files.readable import read_at
from btf.format.header import BYTE_ORDERS, VERSION
from btf.nearest import hint, nearest_names

from ..model.errors import InputError, SourceError
from ..model.records import COMPRESSION, UNREADABLE
from .remote import is_uri, open_remote, read_remote

_CHUNK_BYTES = 64 << 10
_LARGE_BYTES = 1 << 20  # from here on a file is read in parts where that will do


class ReadError(InputError):
    """A file that cannot be read or decompressed."""


def read_input(path: str) -> bytes:
    """Read a file and decompress it if it is zstd, xz or gzip. Raises ReadError."""
    return bytes(decompress(read_stored(path)))


def read_stored(path: str) -> memoryview:
    """Read a file as it is stored, into a buffer that this thread's next call may overwrite.

    One buffer for all files spares the system giving out new pages for every module. A path may
    be a URI that pyarrow knows. Raises ReadError.
    """
    preloaded = _thread.preloaded.get(path)
    if preloaded is not None:
        return memoryview(preloaded)
    if "://" in path and is_uri(path):
        try:
            return memoryview(read_remote(path, compressions.MAX_DECOMPRESSED_BYTES))
        except ConnectionError as error:  # says nothing of this file: the others fare no better
            raise out_of_reach(path, error) from error
        except OSError as error:
            raise ReadError(UNREADABLE, unreadable(path, error)) from error
    return _read_file(path)


def release_buffer() -> None:
    """Free the buffer that this thread reads files into: the next one gets another."""
    _thread.buffer = memoryview(b"")


@contextlib.contextmanager
def preloaded(contents: Mapping[str, bytes] | None) -> Iterator[None]:
    """Have this thread take these files from memory while the block runs: they lie on a machine
    whose files cannot be reached from here."""
    _thread.preloaded = contents or {}
    try:
        yield
    finally:
        _thread.preloaded = {}


def decompress(stored: memoryview) -> bytes | memoryview:
    """Decompress content if it is zstd, xz or gzip. Raises ReadError."""
    compression = find(stored, FOR_FILES)
    if compression is None:
        return stored
    try:
        return compression.decompress(stored)
    except DecompressError as error:
        what = "the {} data {}" if error.too_large else "damaged {}: {}"
        raise ReadError(COMPRESSION, what.format(compression.name, error)) from error


def open_content(path: str) -> bytes | LargeFile:
    """Read a file, decompressed; one as large as a kernel when it is asked for parts.

    Raises ReadError.
    """
    if not is_uri(path):
        try:
            if os.path.isfile(path) and os.path.getsize(path) >= _LARGE_BYTES:
                file = LargeFile(path)
                if find(file[:8], FOR_FILES) is None:
                    return file
        except OSError as error:
            raise ReadError(UNREADABLE, unreadable(path, error)) from error
    return read_input(path)


class LargeFile:
    """A file whose parts are read when they are asked for, as slices.

    It is not mapped: of a mapped file that somebody cuts off, the process that reads it dies.
    Slices raise ReadError.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._path = path
        descriptor, self._size = _open(path)
        self._file = open(descriptor, "rb", buffering=0)  # noqa: PTH123, SIM115

    def __len__(self) -> int:
        return self._size

    def fileno(self) -> int:
        return self._file.fileno()

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(self._size)
        size = max(0, end - start)
        if size > compressions.MAX_DECOMPRESSED_BYTES:
            raise too_large()
        try:
            content = read_at(self._file.fileno(), start, size)
        except OSError as error:
            raise ReadError(UNREADABLE, unreadable(self._path, error)) from error
        if len(content) < size:
            raise ReadError(UNREADABLE, f"the file was cut off at {start + len(content)} meanwhile")
        return content


def too_large() -> ReadError:
    """What to say of a file that is not read because of its size."""
    limit = compressions.MAX_DECOMPRESSED_BYTES >> 20
    return ReadError(UNREADABLE, f"larger than {limit} MiB: no file that holds BTF is")


class _Thread(threading.local):
    """A thread's buffer for reading, and files that it has in memory."""

    buffer = memoryview(b"")
    preloaded: Mapping[str, bytes] = MappingProxyType({})


_thread = _Thread()


def _open(path: str) -> tuple[int, int]:
    """Open a regular file for reading: (descriptor, size). Raises OSError for any other."""
    # O_NONBLOCK: opening a pipe or a device for reading must not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status.st_size
    os.close(descriptor)
    what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
    raise OSError(errno.EINVAL, f"this is {what}; only files can be read", path)


def open_stored(path: str) -> Any:
    """A file to be read from any place in it, by its path or URI. Raises OSError."""
    return open_remote(path) if is_uri(path) else open(_open(path)[0], "rb")  # noqa: PTH123


def _read_file(path: str) -> memoryview:
    try:
        descriptor, expected = _open(path)
        try:
            # sysfs says 4096 for attributes that are longer: read to the end, whatever the size.
            size, room = 0, expected + _CHUNK_BYTES
            if room - _CHUNK_BYTES > compressions.MAX_DECOMPRESSED_BYTES:
                raise too_large()
            if len(_thread.buffer) < room:
                _thread.buffer = alloc_huge(2 * room).data
            while count := os.readv(descriptor, [_thread.buffer[size:]]):
                size += count
                if size > compressions.MAX_DECOMPRESSED_BYTES:
                    raise too_large()
                if size == len(_thread.buffer):
                    larger = alloc_huge(2 * size).data
                    larger[:size] = _thread.buffer
                    _thread.buffer = larger
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ReadError(UNREADABLE, unreadable(path, error)) from error
    return _thread.buffer[:size].toreadonly()


def out_of_reach(path: str, error: ConnectionError) -> SourceError:
    """What to say where sources lie and nobody answers."""
    return SourceError(
        f"cannot read {path}: {error.strerror or error}. Run again: what is done is kept"
    )


def begins_like_btf(path: str, unreadable: bool = False) -> bool:
    """Whether a file is raw BTF by its magic number and version, in either byte order.

    ``unreadable`` is the answer for a file that cannot be read.
    """
    try:
        if not os.path.isfile(path):
            return False
        with open_stored(path) as file:
            start = file.read(3)
            return start[:2] in BYTE_ORDERS and start[2:] == bytes([VERSION])
    except OSError:
        return unreadable


def unreadable(path: str, error: OSError) -> str:
    """What to say about a file that the system refuses to open or read."""
    reason = error.strerror or str(error)
    if os.path.islink(path) and isinstance(error, FileNotFoundError):
        reason += f" (a symbolic link to {os.readlink(path)!r})"
    elif isinstance(error, FileNotFoundError):
        reason += near_files(path)
    return f"cannot read the file: {reason}"


def near_files(path: str) -> str:
    """The end of a message about a file that is not there: those in its folder called like it."""
    folder, name = os.path.split(path)
    with contextlib.suppress(OSError):
        near = nearest_names(name, os.listdir(folder or "."))
        return hint(each if each.isprintable() else ascii(each) for each in near)
    return ""
