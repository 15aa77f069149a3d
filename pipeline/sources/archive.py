"""What package formats are made of: how a format describes itself, and compressed parts of files.

A package is read from front to back: memory does not grow with it, and nothing is written. What
each format adds is in ``formats``, how a tar is read in ``tar``, a cpio archive in ``cpio``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from btf.files.decompress import FOR_PACKAGES, DecompressError, Reader, find, limit_of

from . import names

COPY_BYTES = 1 << 20
_MAX_TEXT_BYTES = 16 << 20  # of a list of files in a package
_PIECE_BYTES = 64 << 10  # what is lost before the place where a package is damaged, at most
MANY_FILES, BYTES_PER_FILE = 10_000, 16  # packages that hold more are made to harm


class PackageError(Exception):
    """A package that cannot be read, or not to its end: bad input."""


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says of itself and the names of its regular files.

    ``package``, ``version`` and ``architecture`` are empty where the format does not tell them.
    ``problem`` says why not all of it could be read. ``inner`` are packages in it, each by its
    name in it: their files are called so too, and a slash comes between.
    """

    files: tuple[str, ...]
    package: str = ""
    version: str = ""
    architecture: str = ""
    problem: str | None = None
    inner: tuple[tuple[str, Package], ...] = ()


class Content(Protocol):
    """The content of a file, to be read from front to back."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A regular file in a package: its name without a leading slash, its size, its content, which
    can be read until the next file is asked for.

    digest   of the content, where the package says it: (name of the algorithm, hex)
    also     other names of this file (hard links to it)
    link     the file that has the content, where this is another name of one that came before
    problem  why the content cannot be read, if that is known
    """

    name: str
    size: int
    content: Content
    digest: tuple[str, str] | None = None
    also: tuple[str, ...] = ()
    link: str | None = None
    problem: str | None = None

    def text(self) -> str:
        """The whole content. Raises PackageError if it is too large for a text."""
        if self.size > _MAX_TEXT_BYTES:
            raise PackageError(f"its {self.name} cannot be read")
        return os.fsdecode(self.content.read())


class Stored:
    """The bytes of a package: a file, or a part of a file.

    size    in bytes
    depth   how many packages it lies in
    budget  one number: how many bytes may still come of it and of all packages in it; None: as
            many as its parts may have
    """

    def __init__(
        self,
        read_at: Callable[[int, int], bytes],
        size: int,
        file: tuple[BinaryIO, int, str | None] | None = None,
        budget: list[int] | None = None,
        depth: int = 0,
    ) -> None:
        """``read_at`` reads so many bytes at a place, fewer at the end. ``file``: the file, where
        in it this begins, and the folder for what is decompressed ahead, if it can be read at any
        place."""
        self._read_at = read_at
        self._file = file
        self.size = size
        self.budget = budget
        self.depth = depth

    @classmethod
    def of_file(cls, file: BinaryIO, folder: str | None = None) -> Stored:
        """All of a file that can be read at any place; ``folder``: for what is decompressed
        ahead, None for memory."""

        def read_at(at: int, size: int) -> bytes:
            file.seek(at)  # others may have read elsewhere meanwhile
            return file.read(size)

        return cls(read_at, file.seek(0, io.SEEK_END), (file, 0, folder))

    @classmethod
    def of_member(cls, found: PackagedFile, outer: Stored) -> Stored:
        """A file in a package: it can be read from front to back, and once."""
        read_at = _Forward(found.content).read_at
        return cls(read_at, found.size, budget=outer.budget, depth=outer.depth + 1)

    def read_at(self, at: int, size: int) -> bytes:
        """Read so many bytes, fewer at the end; not before a place that was read already."""
        return self._read_at(at, max(0, min(size, self.size - at)))

    def part(self, start: int, size: int) -> Stored:
        """A part of it, which may say that it is longer than this is."""
        file = self._file and (self._file[0], self._file[1] + start, self._file[2])
        return Stored(
            lambda at, most: self.read_at(start + at, most), size, file, self.budget, self.depth
        )

    def open_blocks(self) -> io.BufferedReader | None:
        """Read its blocks on several threads, where it is xz and has some."""
        if self._file is None:
            return None
        from ..files.xz import open_blocks  # late: not to recognise a package

        file, start, folder = self._file
        return open_blocks(file, start, self.size, folder)


class _Forward:
    """Reads from front to back what can be read so only; keeps what was read last."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._at, self._kept = 0, b""

    def read_at(self, at: int, size: int) -> bytes:
        """Raises PackageError for a place before the one that was read last."""
        if at < self._at:
            raise PackageError("a package in a package whose parts are not in their order")
        while at > self._at + len(self._kept):
            self._at += len(self._kept)
            self._kept = self._content.read(min(COPY_BYTES, at - self._at))
            if not self._kept:
                return b""
        self._kept = self._kept[at - self._at :]
        self._at = at
        if len(self._kept) < size:
            self._kept += self._content.read(size - len(self._kept))
        return self._kept[:size]


@dataclass(frozen=True, slots=True)
class PackageFormat:
    """A kind of package.

    suffixes     how files are called that are opened as such a package when they are named
    in_folders   the same for files that are found in a folder
    magic        how the content begins; empty: the name tells
    read         says what is in a package; raises PackageError. None of a plain archive, which
                 says nothing of itself, and of which files may be packages
    read_files   yields the regular files of a package in their order; raises PackageError

    Both functions may also raise OSError.
    """

    suffixes: tuple[str, ...]
    in_folders: tuple[str, ...]
    magic: bytes
    read: Callable[[Stored], Package] | None
    read_files: Callable[[Stored], Iterator[PackagedFile]]


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


class FileContent:
    """The content of a file in an archive, and the zeros that fill its last unit."""

    def __init__(self, part: Part, name: str, size: int, unit: int) -> None:
        """``unit``: content is filled up to a multiple of so many bytes."""
        self._part, self._name, self._size = part, name, size
        self._left, self._unit = size, unit

    def read(self, size: int = -1) -> bytes:
        """Read as many bytes, or all there are. Raises PackageError."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._part.read(wanted) if wanted else b""
        if len(data) < wanted:
            raise PackageError(
                f"damaged: cut off at byte {self._part.at}, {self._left - len(data)} bytes before "
                f"the end of {names.printable(self._name)}"
            )
        self._check(data)
        self._left -= wanted
        return data

    def _check(self, data: bytes) -> None:
        """Raise PackageError if this cannot be content."""

    def skip(self) -> None:
        """Go to the next header. Raises PackageError."""
        while self._left:
            self.read(COPY_BYTES)
        at = self._part.at
        padding = self._part.read(-self._size % self._unit)
        if padding.strip(b"\0") or len(padding) != -self._size % self._unit:
            raise PackageError(
                f"damaged: no zeros at byte {at}, after the {self._size} bytes that "
                f"{names.printable(self._name)} is said to have"
            )


def check_end(part: Part) -> None:
    """Read what follows the mark of an archive's end. Raises PackageError if it is not zeros."""
    while True:
        at = part.at
        data = part.read(COPY_BYTES)
        if not data:
            return
        if data.strip(b"\0"):
            at += len(data) - len(data.lstrip(b"\0"))
            raise PackageError(f"damaged: data at byte {at}, after the mark of the end")


class Part:
    """A part of a package, compressed or not, that is read from front to back.

    at            how many bytes were read of what it decompresses to
    most          how many there may be

    Everything raises PackageError, which says what is damaged and where.
    """

    def __init__(self, stored: Stored) -> None:
        self.at = 0
        self.most = limit_of(stored.size)
        self._budget = stored.budget
        self._stored = _StoredReader(stored)
        self._name = "xz"
        self._failed: PackageError | None = None
        blocks = stored.open_blocks()
        self._content = blocks or io.BufferedReader(self._stored, COPY_BYTES)
        if blocks is not None:
            return
        compression = find(self._content.peek(8), FOR_PACKAGES)
        if compression is None:
            self.most = stored.size
        else:
            self._name = compression.name
            self._content = io.BufferedReader(Reader(compression, self._content), _PIECE_BYTES)

    def read(self, size: int) -> bytes:
        """Read as many bytes; fewer at the end."""
        if self._failed is not None:
            raise self._failed
        try:
            return self._read(size)
        except PackageError as error:
            self._failed = error  # what follows damage is not read
            raise

    def _read(self, size: int) -> bytes:
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
        if self._budget is not None:
            self._budget[0] -= len(data)
            if self._budget[0] < 0:
                raise PackageError("packages in it unfold to more than there can be")
        return data

    def close(self) -> None:
        self._content.close()


class _StoredReader(io.RawIOBase):
    """Reads a part of a package from front to back. ``missing``: bytes that should be there."""

    def __init__(self, stored: Stored) -> None:
        super().__init__()
        self._source = stored
        self._at = 0
        self.missing = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._source.read_at(self._at, len(view))
        self._at += len(data)
        if not data and len(view):
            self.missing = self._source.size - self._at
        view[: len(data)] = data
        return len(data)
