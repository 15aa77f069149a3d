"""Debian packages: an ``ar`` archive of three members (deb(5)).

They are the format's version, ``control.tar.*`` with facts about the package, and ``data.tar.*``
with the files. The ``ar`` reader is ours because it is 20 lines: fixed headers, and two members
that are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ..archive import Package, PackagedFile, PackageError, PackageFormat, plain_name, read_tar

_MAGIC = b"!<arch>\n"


def _read(file: BinaryIO) -> Package:
    """The facts, and the names from the package's own list (``md5sums``) where it has one, which
    spares decompressing all its data; else from the data."""
    members = _members(file)
    facts: dict[str, str] = {}
    names = None
    for found in read_tar(file, *members["control"]):
        if found.name == "control":
            facts = _fields(found.text())
        elif found.name == "md5sums":
            lines = found.text().splitlines()
            names = tuple(plain_name(line[34:]) for line in lines if len(line) > 34)
    if names is None:
        names = tuple(found.name for found in read_tar(file, *members["data"]))
    return Package(names, *(facts.get(key, "") for key in ("package", "version", "architecture")))


def _read_files(file: BinaryIO) -> Iterator[PackagedFile]:
    return read_tar(file, *_members(file)["data"])


def _members(file: BinaryIO) -> dict[str, tuple[int, int]]:
    """(start, bytes) of ``control`` and ``data``, of which both are there."""
    members = {}
    at = len(_MAGIC)
    file.seek(at)
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


def _fields(text: str) -> dict[str, str]:
    """``Key: value`` lines, keys in lower case; lines that go on are left out."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            fields.setdefault(key.lower(), value.strip())
    return fields


FORMAT = PackageFormat(
    suffixes=(".deb", ".ddeb"),
    in_folders=(".deb", ".ddeb"),
    magic=_MAGIC,
    read=_read,
    read_files=_read_files,
)
