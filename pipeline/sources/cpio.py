"""cpio archives as RPM has them, read in one pass; damage is told from the end.

Read are the "new ASCII" formats: with names and sizes in the archive (``070701``, ``070702`` with a
sum of each file), or with the number of the file in a list kept elsewhere (``07070X``, which RPM
writes where a file has 4 GiB or more, and always since version 6).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .archive import (
    BYTES_PER_FILE,
    MANY_FILES,
    FileContent,
    PackagedFile,
    PackageError,
    Part,
    Stored,
    check_end,
    plain_name,
)
from .names import printable

_MAGIC_BYTES = 6
_WITH_NAMES, _BY_NUMBER = (b"070701", b"070702"), b"07070X"
_FIELDS = 13  # after the magic number, of eight digits each
_SIZE, _NAME_BYTES = 6, 11  # which of the fields
_UNIT = 4  # headers and contents are filled up to it
_MAX_NAME_BYTES = 64 << 10
_END = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file in the list of a package.

    name     without a leading slash
    node     what all names of one file have in common (device and inode)
    digest   as in ``PackagedFile``
    is_ghost whether the package only owns the file, and does not bring it
    """

    name: str
    mode: int
    size: int
    node: tuple[int, int]
    digest: tuple[str, str] | None
    is_ghost: bool


def read_cpio(stored: Stored, files: Sequence[ListedFile]) -> Iterator[PackagedFile]:
    """Yield the regular files of an archive, of which ``files`` is the list.

    Names that are links to each other are given as one file. Raises PackageError, where it is
    damaged or does not agree with the list; and OSError.
    """
    with contextlib.closing(Part(stored)) as part:
        yield from _files(part, _List(files), MANY_FILES + stored.size // BYTES_PER_FILE)


class _List:
    """The list of files, by name and by number."""

    def __init__(self, files: Sequence[ListedFile]) -> None:
        self.files = files
        self.by_name = {file.name: file for file in files}
        self._last: dict[tuple[int, int], ListedFile] = {}  # of several names of one file
        self._names: dict[tuple[int, int], int] = defaultdict(int)
        for file in files:
            if stat.S_ISREG(file.mode) and not file.is_ghost:
                self._last[file.node] = file
                self._names[file.node] += 1

    def has_links(self, file: ListedFile) -> bool:
        """Whether a file has other names."""
        return self._names[file.node] > 1

    def size_in_archive(self, file: ListedFile) -> int:
        """The size of a file's content in an archive that does not say it: of several names of one
        file the last has it; a symbolic link has the path that it leads to."""
        if stat.S_ISREG(file.mode):
            return file.size if self._last.get(file.node, file) is file else 0
        return file.size if stat.S_ISLNK(file.mode) else 0


def _files(part: Part, files: _List, most: int) -> Iterator[PackagedFile]:
    """Yield regular files. ``most``: headers that are read."""
    waiting: dict[tuple[int, int], list[str]] = defaultdict(list)
    for _ in range(most):
        at = part.at
        found = _header(part, files)
        if found is None:
            check_end(part)
            return
        file, size = found
        content = FileContent(part, file.name, size, _UNIT)
        said = f"damaged: {printable(file.name)}, whose header is at byte {at}, has {size} bytes, "
        if size > part.most - part.at:
            raise PackageError(f"{said}more than there can be")
        if stat.S_ISREG(file.mode) and not file.is_ghost:  # rpm before 4.11 packed some
            if file.size and not size and files.has_links(file):
                waiting[file.node].append(file.name)  # the last has the content
            elif file.size != size:
                raise PackageError(f"{said}but its package says {file.size}")
            else:
                also = tuple(waiting.pop(file.node, ()))
                yield PackagedFile(file.name, size, content, digest=file.digest, also=also)
        content.skip()
    raise PackageError(f"damaged: more than {most} files, more than fit into a file of its size")


def _header(part: Part, files: _List) -> tuple[ListedFile, int] | None:
    """Read the next header: which file it is of, and the bytes of content that follow; None for the
    mark of the end. Raises PackageError."""
    at = part.at
    magic = _exactly(part, _MAGIC_BYTES, at)
    if magic == _BY_NUMBER:
        number = _number(_exactly(part, 8, at), at)
        _exactly(part, -(_MAGIC_BYTES + 8) % _UNIT, at)
        if number >= len(files.files):
            raise PackageError(
                f"damaged: the cpio header at byte {at} is of file {number}, but the package "
                f"says that it has {len(files.files)}"
            )
        file = files.files[number]
        return file, files.size_in_archive(file)
    if magic not in _WITH_NAMES:
        raise PackageError(f"damaged: no cpio header at byte {at}")
    digits = _exactly(part, 8 * _FIELDS, at)
    fields = [_number(digits[8 * n : 8 * n + 8], at) for n in range(_FIELDS)]
    name_bytes = fields[_NAME_BYTES]
    if not 0 < name_bytes <= _MAX_NAME_BYTES:
        raise PackageError(f"damaged: a name of {name_bytes} bytes in the cpio header at byte {at}")
    raw = _exactly(part, name_bytes, at)
    _exactly(part, -(_MAGIC_BYTES + 8 * _FIELDS + name_bytes) % _UNIT, at)
    if raw[-1:] != b"\0" or b"\0" in raw[:-1]:
        raise PackageError(f"damaged: no name in the cpio header at byte {at}")
    name = plain_name(os.fsdecode(raw[:-1]))
    if name == _END:
        return None
    if name not in files.by_name:
        raise PackageError(f"damaged: the package's list of files lacks {printable(name)}")
    return files.by_name[name], fields[_SIZE]


def _exactly(part: Part, size: int, at: int) -> bytes:
    data = part.read(size) if size else b""
    if len(data) < size:
        raise PackageError(
            f"damaged: cut off at byte {part.at}, in the cpio header at byte {at}, without the "
            "mark of the end"
        )
    return data


def _number(digits: bytes, at: int) -> int:
    """A number of eight hexadecimal digits. Raises PackageError."""
    if digits.strip(b"0123456789abcdefABCDEF"):
        raise PackageError(f"damaged: no number in the cpio header at byte {at}")
    return int(digits, 16)
