"""Debian packages: an ``ar`` archive of three members (deb(5)).

They are the format's version, ``control.tar.*`` with facts about the package, and ``data.tar.*``
with the files. The ``ar`` reader is ours because it is 20 lines: fixed headers, and two members
that are wanted.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from ..archive import Package, PackagedFile, PackageError, PackageFormat, listed, plain_name
from ..names import looks_like_input, printable
from ..tar import read_tar

_MAGIC = b"!<arch>\n"
_FEW_BYTES = 1 << 20  # of data, compressed: they are read in no time
_SUM = re.compile(r"\\?([0-9a-f]{32}) [ *](.+)")  # a backslash: it has some in its name


def _read(file: BinaryIO) -> Package:
    """The facts, and the names from the package's own list (``md5sums``) where it has one, which
    spares decompressing all its data; from the data where it has none, and where these are few."""
    members, problem = _members(file)
    facts, sums, damage = _control(file, members)
    problem = problem or damage
    names = tuple(sums or ())
    if not sums or members["data"][1] <= _FEW_BYTES:
        found, damage = listed(read_tar(file, *members["data"]))
        names = tuple(dict.fromkeys((*names, *found)))
        problem = problem or damage
    package, version, architecture = (
        facts.get(key, "") for key in ("package", "version", "architecture")
    )
    return Package(names, package, version, architecture, problem)


def _read_files(file: BinaryIO) -> Iterator[PackagedFile]:
    members, _ = _members(file)
    _, sums, _ = _control(file, members)
    for found in read_tar(file, *members["data"]):
        if sums and found.name not in sums and looks_like_input(os.path.basename(found.name)):
            raise PackageError(f"damaged: its md5sums lack {printable(found.name)}")
        yield dataclasses.replace(found, md5=(sums or {}).get(found.name))


def _control(
    file: BinaryIO, members: dict[str, tuple[int, int]]
) -> tuple[dict[str, str], dict[str, str] | None, str | None]:
    """The facts, the md5 sums of files by their names, if there are any, and what is damaged."""
    facts: dict[str, str] = {}
    sums: dict[str, str] | None = None
    try:
        for found in read_tar(file, *members["control"]):
            if found.name == "control":
                facts = _fields(found.text())
            elif found.name == "md5sums":
                sums = _sums(found.text())
    except PackageError as error:
        return facts, None, f"control.tar: {error}"
    return facts, sums, None


def _sums(text: str) -> dict[str, str]:
    """md5 sums by names. Raises PackageError if there is anything else."""
    sums: dict[str, str] = {}
    for line in re.finditer(r"[^\n]+", text):
        found = _SUM.fullmatch(line[0])
        if found is None:
            raise PackageError(f"damaged: no md5 sum at byte {line.start()} of md5sums")
        sums[plain_name(found[2])] = found[1]
    return sums


def _members(file: BinaryIO) -> tuple[dict[str, tuple[int, int]], str | None]:
    """(start, bytes) of ``control`` and ``data``, of which both are there, and whether one of them
    is cut off."""
    members: dict[str, tuple[int, int]] = {}
    problem = None
    total = file.seek(0, io.SEEK_END)
    at = len(_MAGIC)
    while at < total:
        file.seek(at)
        header = file.read(60)
        size = header[48:58].strip()
        if len(header) < 60 or header[58:] != b"`\n" or not size.isdigit():
            problem = problem or f"damaged: no ar header at {at}"
            break
        at += len(header)
        name = header[:16].decode("ascii", "replace").rstrip(" /").split(".tar")[0]
        if name in members:
            raise PackageError(f"damaged: it holds {name}.tar twice, again at byte {at}")
        members[name] = (at, int(size))
        at += int(size) + int(size) % 2
        if at > total + 1:
            problem = f"truncated: {at - total} bytes are missing of the last member, {name}"
    for wanted in ("control", "data"):
        if wanted not in members:
            raise PackageError(problem or f"no Debian package, or truncated: it lacks {wanted}.tar")
    return members, problem


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
