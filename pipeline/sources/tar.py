"""Tar files, compressed or not, read in one pass; damage is told from the end.

Read are the formats of POSIX (ustar, pax) and GNU. The reader is ours because Python's takes a
damaged header for the end, and follows whatever sizes headers claim: here each block is a header
whose sum is right, or content, or zeros where zeros have to be, to the very end of the file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

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
from .names import looks_like_input, printable

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_MAGIC, _MAGIC_AT = b"ustar", 257
_REGULAR = (b"0", b"\0", b"7")
_LINK, _LONG_NAME, _LONG_LINK, _PAX, _SPARSE = b"1", b"L", b"K", b"x", b"S"
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
_MAX_RECORDS = 100  # of pax, in one header
_MAX_HEADER_BYTES = 1 << 20  # of a long name, or of what pax adds to a header


def read_tar(stored: Stored, several: bool = False) -> Iterator[PackagedFile]:
    """Yield the regular files of a tar. ``several``: it may be more than one, in one file.

    Raises PackageError, where it is damaged; and OSError.
    """
    with contextlib.closing(Part(stored)) as part:
        yield from _files(part, MANY_FILES + stored.size // BYTES_PER_FILE, several)


def begins_like_tar(stored: Stored) -> bool:
    """Whether there is a tar header at the beginning. Raises OSError."""
    try:
        with contextlib.closing(Part(stored)) as part:
            header = part.read(_BLOCK)
    except PackageError:
        return False
    return len(header) == _BLOCK and _has_sum(header)


def _files(part: Part, most: int, several: bool) -> Iterator[PackagedFile]:
    """Yield regular files. ``most``: headers that are read."""
    longer: dict[str, bytes] = {}  # what headers before a file's add to its own
    for _ in range(most):
        at = part.at
        header = part.read(_BLOCK)
        if header == _ZEROS:
            if longer:
                raise PackageError(f"damaged: at byte {at} the file is missing whose name is there")
            if not several:
                check_end(part)
                return
            while header == _ZEROS:
                header = part.read(_BLOCK)
            if not header.strip(b"\0"):
                return
            at = part.at - len(header)
        if len(header) < _BLOCK:
            raise PackageError(f"damaged: cut off at byte {part.at}, without the mark of the end")
        kind, size = _checked(header, at)
        if kind in (_LONG_NAME, _LONG_LINK):
            longer["path" if kind == _LONG_NAME else "linkpath"] = _long_name(part, size, at)
            continue
        if kind in (_PAX, b"g"):
            records = _pax(_added(part, size, at), at)
            longer.update(records if kind == _PAX else {})
            continue
        if "size" in longer:
            size = _number(longer["size"], at, 10)
        name = plain_name(os.fsdecode(longer.get("path", _name(header))))
        sparse = kind == _SPARSE or any(key.startswith("GNU.sparse.") for key in longer)
        linked = plain_name(os.fsdecode(longer.get("linkpath", _text(header[157:257]))))
        longer = {}
        content = _Content(part, name, 0 if kind in _WITHOUT_CONTENT else size)
        if kind not in _WITHOUT_CONTENT and size > part.most - part.at:
            raise PackageError(
                f"damaged: {printable(name)}, whose header is at byte {at}, has {size} bytes, more "
                "than there can be"
            )
        if sparse:
            problem = "packed as a sparse file, which is not read: pack it without --sparse"
            yield PackagedFile(name, size, content, problem=problem)
        elif kind == _LINK:
            yield PackagedFile(name, 0, content, link=linked)
        elif kind in _REGULAR and not name.endswith("/"):
            yield PackagedFile(name, size, content)
        content.skip()
    raise PackageError(f"damaged: more than {most} files, more than fit into a file of its size")


class _Content(FileContent):
    """The content of a file, of which headers are no part."""

    def __init__(self, part: Part, name: str, size: int) -> None:
        super().__init__(part, name, size, _BLOCK)
        self._is_input = looks_like_input(os.path.basename(name))

    def _check(self, data: bytes) -> None:
        """Raise PackageError if a header is in the content: then the size is wrong."""
        found = data.find(_MAGIC) if self._is_input else -1
        while found >= 0:
            start = found - _MAGIC_AT
            at = self._size - self._left + start
            if at % _BLOCK == 0 and start >= 0 and _has_sum(data[start : start + _BLOCK]):
                raise PackageError(
                    f"damaged: {printable(self._name)} goes on over the tar header {at} bytes "
                    f"after its beginning: its size, {self._size}, is wrong"
                )
            found = data.find(_MAGIC, found + 1)


def _checked(header: bytes, at: int) -> tuple[bytes, int]:
    """(kind, size) of a header. Raises PackageError if its sum is wrong."""
    if not _has_sum(header):
        raise PackageError(f"damaged: no tar header at byte {at}")
    return header[156:157], _number(header[124:136], at)


def _has_sum(header: bytes) -> bool:
    """Whether a header says the sum of its bytes, which some programs take as signed."""
    try:
        expected = _number(header[148:156], 0)
    except PackageError:
        return False
    rest = header[:148] + header[156:]
    total = sum(rest) + 8 * ord(" ")
    return expected == total or expected == total - 256 * sum(byte > 127 for byte in rest)


def _number(field: bytes, at: int, base: int = 8) -> int:
    """A number: in digits, or, as GNU writes large ones, in bytes after one of 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0")[0].strip(b" ")
    if not (digits or b"0").isdigit() or len(digits) > 20 or digits.strip(b"0123456789"[:base]):
        raise PackageError(f"damaged: no number in the tar header at byte {at}")
    return int(digits or b"0", base)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(header: bytes) -> bytes:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return (
        prefix + b"/" + name if prefix and header[_MAGIC_AT : _MAGIC_AT + 6] == b"ustar\0" else name
    )


def _added(part: Part, size: int, at: int) -> bytes:
    """The content of a header that adds to the next. Raises PackageError."""
    if size > _MAX_HEADER_BYTES:
        raise PackageError(f"damaged: a tar header of {size} bytes at byte {at}")
    content = _Content(part, "a header", size)
    data = content.read()
    content.skip()
    return data


def _long_name(part: Part, size: int, at: int) -> bytes:
    name = _added(part, size, at).rstrip(b"\0")
    if not name or b"\0" in name:
        raise PackageError(f"damaged: no long name in the {size} bytes after byte {at}")
    return name


def _pax(data: bytes, at: int) -> dict[str, bytes]:
    """The records of a pax header, each ``LENGTH KEY=VALUE`` and a newline, LENGTH of all of it."""
    records: dict[str, bytes] = {}
    start = 0
    for _ in range(_MAX_RECORDS):
        if start == len(data):
            return records
        length, space, _ = data[start : start + 21].partition(b" ")
        end = start + (int(length) if length.isdigit() else 0)
        key, equals, value = data[start + len(length) + 1 : max(0, end - 1)].partition(b"=")
        if not space or not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise PackageError(f"damaged: no pax record {start} bytes after the header at {at}")
        records[key.decode("utf-8", "replace")] = value
        start = end
    raise PackageError(f"damaged: more than {_MAX_RECORDS} pax records after the header at {at}")
