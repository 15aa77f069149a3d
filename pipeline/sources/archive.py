"""What package formats are made of: how a format describes itself, and tar files read in one pass.

A package is read from front to back: memory does not grow with it, and nothing is written. What
each format adds is in ``formats``.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from btf.files.decompress import FOR_PACKAGES, find

from ..files.xz import open_blocks

COPY_BYTES = 1 << 20
_MAX_TEXT_BYTES = 64 << 20  # of a list of files in a package
_BLOCK_BYTES = 64 << 10  # what is lost before the place where a package is damaged, at most


class PackageError(Exception):
    """A package that cannot be read, or not to its end: bad input."""


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says of itself and the names of its regular files.

    ``package``, ``version`` and ``architecture`` are empty where the format does not tell them.
    """

    files: tuple[str, ...]
    package: str = ""
    version: str = ""
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A regular file in a package: its name without a leading slash, its size, its content, which
    can be read until the next file is asked for."""

    name: str
    size: int
    content: IO[bytes]

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

    Both functions may also raise what decompressors and tarfile do.
    """

    suffixes: tuple[str, ...]
    in_folders: tuple[str, ...]
    magic: bytes
    read: Callable[[BinaryIO], Package]
    read_files: Callable[[BinaryIO], Iterator[PackagedFile]]


def plain_name(name: str) -> str:
    """A name in a package as all formats give it: ``boot/vmlinuz`` of ``./boot/vmlinuz``."""
    return name.removeprefix("./").lstrip("/")


def read_tar(file: BinaryIO, start: int, size: int) -> Iterator[PackagedFile]:
    """The regular files of a tar, compressed or not, that is ``size`` bytes of a file at ``start``.

    Raises PackageError if the file ends before that.
    """
    part = _FilePart(file, start, size)
    blocks = open_blocks(file, start, size)
    with (
        contextlib.closing(blocks or io.BufferedReader(part, COPY_BYTES)) as stored,
        tarfile.open(fileobj=_decompressed(stored), mode="r|", bufsize=_BLOCK_BYTES) as tar,
    ):
        while (entry := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # it would remember every one
            if entry.isreg():
                content = tar.extractfile(entry)
                assert content is not None  # a regular file has content
                yield PackagedFile(plain_name(entry.name), entry.size, content)
    if part.missing:
        raise PackageError(f"truncated: the last {part.missing} bytes are missing")


def _decompressed(stored: io.BufferedReader) -> BinaryIO:
    compression = find(stored.peek(8), FOR_PACKAGES)
    return compression.open(stored) if compression is not None else stored


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
