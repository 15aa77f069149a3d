"""Debian packages and tar files: what is in them, and some of it unpacked, in one pass.

A Debian package is an ``ar`` archive of three members (deb(5)): its format, ``control.tar.*`` with
facts about the package, and ``data.tar.*`` with the files. The first two are small. The last is
one compressed stream, read from front to back: memory does not grow with it, and nothing is
written but the files that were asked for, where the caller says, whatever they are called inside.

The ``ar`` reader is ours because it is 20 lines: three members with fixed headers, of which two
are wanted. Compression and tar are the standard library's and zstandard's.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..files.read import out_of_reach, unreadable
from ..files.storage import open_stored
from ..files.xz import open_blocks
from ..model.errors import NoRoomError
from .names import printable

MAX_FILE_BYTES = 8 << 30  # of one file in a package: a vmlinux with debug information has 1 GB
SPARE_BYTES = 64 << 20  # what unpacking leaves free on the disk
_MAX_FACTS_BYTES = 64 << 20  # of the lists in a control member
_COPY_BYTES = 1 << 20
_BLOCK_BYTES = 64 << 10  # what is lost before the place where a package is damaged, at most
_AR_MAGIC = b"!<arch>\n"


class PackageError(Exception):
    """A package that cannot be read, or not to its end: bad input."""


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says of itself and the names of its regular files.

    Of a tar file, package, version and architecture are empty.
    """

    path: str
    package: str
    version: str
    architecture: str
    files: tuple[str, ...]


def read_package(path: str) -> Package:
    """The facts about a package. Raises PackageError.

    The names come from the package's own list (``md5sums``) where it has one, which spares
    unfolding all its data; else from the data.
    """
    with _reading(path) as file:
        members = _members(file)
        if members is None:
            data = _Slice(file, 0, _size(file))
            return Package(path, "", "", "", _names_in(io.BufferedReader(data, _COPY_BYTES)))
        facts: dict[str, str] = {}
        files = None
        control = _Slice(file, *members["control"])
        with _tar(io.BufferedReader(control)) as tar:
            for entry in _regular(tar):
                if _plain(entry.name) == "control":
                    facts = _fields(_text(tar, entry))
                elif _plain(entry.name) == "md5sums":
                    lines = _text(tar, entry).splitlines()
                    files = tuple(_plain(line[34:]) for line in lines if len(line) > 34)
        control.check()
        if files is None:
            data = _Slice(file, *members["data"])
            files = _names_in(io.BufferedReader(data, _COPY_BYTES))
            data.check()
        name, version, architecture = (
            facts.get(key, "") for key in ("package", "version", "architecture")
        )
        return Package(path, name, version, architecture, files)


def unpack(
    path: str, wanted: Mapping[str, str], stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, str | None]]:
    """Write files of a package where ``wanted`` says: name in the package -> path.

    Yields each name, with what is wrong with the file if it could not be had, as soon as that is
    known. A package that is damaged part of the way gives what comes before; when ``stopped``, the
    rest is not had either. Raises NoRoomError.
    """
    left = dict(wanted)
    reason = "the package does not hold this file"
    try:
        with _reading(path) as file:
            members = _members(file)
            start, size = members["data"] if members is not None else (0, _size(file))
            data = _Slice(file, start, size)
            blocks = open_blocks(file, start, size)
            with (
                contextlib.closing(blocks or io.BufferedReader(data, _COPY_BYTES)) as content,
                _tar(content) as tar,
            ):
                for entry in _regular(tar, stopped):
                    if (target := left.get(name := _plain(entry.name))) is None:
                        continue
                    problem = _unpack_one(tar, entry, target)
                    del left[name]
                    yield name, problem
                    if not left:
                        return
            data.check()
    except PackageError as error:
        reason = f"cannot be read from its package: {error}"
    if stopped():
        reason = "stopped before it was unpacked"
    for name in left:
        yield name, reason


def _regular(
    tar: tarfile.TarFile, stopped: Callable[[], bool] = lambda: False
) -> Iterator[tarfile.TarInfo]:
    """The files of a tar that is read once; it remembers none of them."""
    while not stopped() and (entry := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        if entry.isreg():
            yield entry


def _unpack_one(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: str) -> str | None:
    content = tar.extractfile(entry)
    assert content is not None  # a regular file has content
    if entry.size > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES >> 30} GiB"
    folder = os.path.dirname(target)
    if shutil.disk_usage(folder).free < entry.size + SPARE_BYTES:
        raise NoRoomError(
            f"not enough room in {folder} to unpack {printable(entry.name)} "
            f"({entry.size >> 20} MB); --work-folder names another folder"
        )
    file = _made(target)
    with file:
        while data := content.read(_COPY_BYTES):
            try:
                file.write(data)
            except OSError as error:
                raise NoRoomError(f"cannot write {target}: {error.strerror}") from error
    return None


def _made(target: str) -> BinaryIO:
    try:
        return open(target, "wb", buffering=0)  # noqa: PTH123
    except OSError as error:
        raise NoRoomError(f"cannot write {target}: {error.strerror}") from error


@contextlib.contextmanager
def _reading(path: str) -> Iterator[BinaryIO]:
    """The open package; whatever is wrong with it is a PackageError."""
    try:
        with open_stored(path) as file:
            yield file
    except (lzma.LZMAError, zlib.error, EOFError, tarfile.TarError) as error:
        raise PackageError(f"damaged: {error}") from error
    except ConnectionError as error:
        raise out_of_reach(path, error) from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 say so of damaged data
            raise PackageError(f"damaged: {error}") from error
        raise PackageError(unreadable(path, error)) from error
    except Exception as error:
        if type(error).__module__.startswith("zstandard"):
            raise PackageError(f"damaged: {error}") from error
        raise


# ------------------------------------------------------------------ ar


class _Slice(io.RawIOBase):
    """Part of a file, read from front to back. ``missing`` are bytes that should be there."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file = file
        self._at = start
        self._left = size
        self.missing = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._at)  # others may have read elsewhere meanwhile
        data = self._file.read(min(len(view), self._left))
        self._at += len(data)
        if not data and len(view):
            self.missing = self._left
        view[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def check(self) -> None:
        """Raise PackageError if the file was shorter than it should be."""
        if self.missing:
            raise PackageError(f"truncated: the last {self.missing} bytes are missing")


def _members(file: BinaryIO) -> dict[str, tuple[int, int]] | None:
    """(start, bytes) of ``control`` and ``data`` in a Debian package; None if it is no ``ar``."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        file.seek(0)
        return None
    members = {}
    at = len(_AR_MAGIC)
    while header := file.read(60):
        size = header[48:58].strip()
        if len(header) < 60 or header[58:] != b"`\n" or not size.isdigit():
            raise PackageError(f"damaged: no ar header at {at}")
        at += len(header)
        name = header[:16].decode("ascii", "replace").rstrip(" /")
        members[name.split(".tar")[0]] = (at, int(size))
        at += int(size) + int(size) % 2
        file.seek(at)
    for wanted in ("control", "data"):
        if wanted not in members:
            raise PackageError(f"no Debian package, or truncated: it lacks {wanted}.tar")
    return members


def _size(file: BinaryIO) -> int:
    return file.seek(0, io.SEEK_END)


# ------------------------------------------------------------------ tar


def _tar(file: BinaryIO) -> tarfile.TarFile:
    """A tar, compressed or not, to be read in one pass."""
    return tarfile.open(fileobj=_unfolded(file), mode="r|", bufsize=_BLOCK_BYTES)


def _unfolded(file: BinaryIO) -> Any:
    """What a compressed stream holds, by its magic number."""
    magic = file.peek(6)[:6]  # type: ignore[attr-defined]
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(file)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard  # late: few packages need it

        unfold = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        return unfold.stream_reader(file, read_across_frames=True)
    return file


def _names_in(file: BinaryIO) -> tuple[str, ...]:
    with _tar(file) as tar:
        return tuple(_plain(entry.name) for entry in _regular(tar))


def _plain(name: str) -> str:
    return name.removeprefix("./").lstrip("/")


def _text(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    content = tar.extractfile(entry)
    if content is None or entry.size > _MAX_FACTS_BYTES:
        raise PackageError(f"its {_plain(entry.name)} cannot be read")
    return os.fsdecode(content.read())


def _fields(text: str) -> dict[str, str]:
    """``Key: value`` lines, keys in lower case; lines that go on are left out."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            fields.setdefault(key.lower(), value.strip())
    return fields
