"""What package formats are made of: how a format describes itself, and compressed parts of files.

A package is read from front to back: memory does not grow with it, and nothing is written. What
each format adds is in ``formats``, how a tar is read in ``tar``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from btf.files.decompress import FOR_PACKAGES, DecompressError, Reader, find, limit_of

from ..files.xz import open_blocks
from . import names

COPY_BYTES = 1 << 20
_MAX_TEXT_BYTES = 16 << 20  # of a list of files in a package
_PIECE_BYTES = 64 << 10  # what is lost before the place where a package is damaged, at most


class PackageError(Exception):
    """A package that cannot be read, or not to its end: bad input."""


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says of itself and the names of its regular files.

    ``package``, ``version`` and ``architecture`` are empty where the format does not tell them.
    ``problem`` says why not all of it could be read.
    """

    files: tuple[str, ...]
    package: str = ""
    version: str = ""
    architecture: str = ""
    problem: str | None = None


class Content(Protocol):
    """The content of a file, to be read from front to back."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A regular file in a package: its name without a leading slash, its size, its content, which
    can be read until the next file is asked for.

    md5      of the content, in hex, where the package says it
    link     the file that has the content, where this is another name of it
    problem  why the content cannot be read, if that is known
    """

    name: str
    size: int
    content: Content
    md5: str | None = None
    link: str | None = None
    problem: str | None = None

    def text(self) -> str:
        """The whole content. Raises PackageError if it is too large for a text."""
        if self.size > _MAX_TEXT_BYTES:
            raise PackageError(f"its {self.name} cannot be read")
        return os.fsdecode(self.content.read())


@dataclass(frozen=True, slots=True)
class PackageFormat:
    """A kind of package.

    suffixes     how files are called that are opened as such a package when they are named
    in_folders   the same for files that are found in a folder
    magic        how the content begins; empty: it is tried when no other format fits
    read         says what is in an open package; raises PackageError
    read_files   yields the regular files of an open package in their order; raises PackageError

    Both functions may also raise OSError.
    """

    suffixes: tuple[str, ...]
    in_folders: tuple[str, ...]
    magic: bytes
    read: Callable[[BinaryIO], Package]
    read_files: Callable[[BinaryIO], Iterator[PackagedFile]]


def plain_name(name: str) -> str:
    """A name in a package as all formats give it: ``boot/vmlinuz`` of ``./boot/vmlinuz``."""
    return name.removeprefix("./").lstrip("/")


def listed(files: Iterable[PackagedFile]) -> tuple[tuple[str, ...], str | None]:
    """The names of files as far as they can be read, and what ended that or is wrong with them."""
    found: dict[str, None] = {}
    problem = None
    try:
        for file in files:
            if file.name in found and names.looks_like_input(os.path.basename(file.name)):
                problem = f"it holds {names.printable(file.name)} more than once"
            found[file.name] = None
    except ConnectionError:
        raise
    except (PackageError, OSError) as error:
        problem = getattr(error, "strerror", None) or str(error)
    return tuple(found), problem


class Part:
    """Part of a file, compressed or not, that is read from front to back.

    start, size   in the file
    at            how many bytes were read of what it decompresses to
    most          how many there may be

    Everything raises PackageError, which says what is damaged and where.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.at = 0
        self.most = limit_of(size)
        self._stored = _FilePart(file, start, size)
        self._name = "xz"
        blocks = open_blocks(file, start, size)
        self._content = blocks or io.BufferedReader(self._stored, COPY_BYTES)
        if blocks is not None:
            return
        compression = find(self._content.peek(8), FOR_PACKAGES)
        if compression is None:
            self.most = size
        else:
            self._name = compression.name
            self._content = io.BufferedReader(Reader(compression, self._content), _PIECE_BYTES)

    def read(self, size: int) -> bytes:
        """Read as many bytes; fewer at the end."""
        try:
            data = self._content.read(size)
        except DecompressError as error:
            if not self._stored.missing:
                raise PackageError(f"damaged {self._name}: {error}") from error
            data = b""
        if self._stored.missing:
            raise PackageError(f"truncated: the last {self._stored.missing} bytes are missing")
        self.at += len(data)
        if self.at > self.most:
            raise PackageError(f"the {self._name} data unfolds to more than {self.most >> 20} MiB")
        return data

    def close(self) -> None:
        self._content.close()


class _FilePart(io.RawIOBase):
    """Part of a file, read from front to back. ``missing``: bytes that should be there."""

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
