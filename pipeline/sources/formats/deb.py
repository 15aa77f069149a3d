"""Debian packages: an ``ar`` archive of three members (deb(5)).

They are the format's version, ``control.tar.*`` with facts about the package, and ``data.tar.*``
with the files. The ``ar`` reader is ours because it is 20 lines: fixed headers, and two members
that are wanted.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator

from ..archive import (
    Package,
    PackagedFile,
    PackageError,
    PackageFormat,
    Stored,
    listed,
    plain_name,
)
from ..names import looks_like_input, printable
from ..tar import read_tar

_MAGIC = b"!<arch>\n"
_FEW_BYTES = 1 << 20  # of data, compressed: they are read in no time
_SUM = re.compile(r"\\?([0-9a-f]{32}) [ *](.+)")  # a backslash: it has some in its name

Members = Callable[[Stored], Iterator[tuple[str, Stored]]]


def read_members(stored: Stored, members: Members) -> Package:
    """The facts, and the names from the package's own list (``md5sums``) where it has one, which
    spares decompressing all its data; from the data where it has none, and where these are few.

    ``members`` yields the members of a package, ``control`` and ``data``, in their order.
    """
    found: dict[str, Stored] = {}
    facts: dict[str, str] = {}
    sums: dict[str, str] | None = None
    names: tuple[str, ...] = ()
    problem = in_control = in_data = None
    try:
        for name, member in members(stored):
            if name in found:
                names, problem = (), f"damaged: it holds {name}.tar twice"
                break
            found[name] = member
            if name == "control":
                facts, sums, in_control = _control(member)
            elif name == "data":
                names = tuple(sums or ())
                if not sums or member.size <= _FEW_BYTES:
                    read, in_data = listed(read_tar(member))
                    names = tuple(dict.fromkeys((*names, *read)))
    except PackageError as error:
        problem = str(error)
    for wanted in ("control", "data"):
        if wanted not in found:
            raise PackageError(problem or f"no Debian package, or truncated: it lacks {wanted}.tar")
    package, version, architecture = (
        facts.get(key, "") for key in ("package", "version", "architecture")
    )
    return Package(names, package, version, architecture, problem or in_control or in_data)


def read_data(stored: Stored, members: Members) -> Iterator[PackagedFile]:
    """Yield the files of a package. Raises PackageError."""
    sums: dict[str, str] = {}
    for name, member in members(stored):
        if name == "control":
            sums = _control(member)[1] or {}
        elif name == "data":
            for found in read_tar(member):
                if (
                    sums
                    and found.name not in sums
                    and looks_like_input(os.path.basename(found.name))
                ):
                    raise PackageError(f"damaged: its md5sums lack {printable(found.name)}")
                md5 = sums.get(found.name)
                yield dataclasses.replace(found, digest=("md5", md5)) if md5 else found
            return


def _control(member: Stored) -> tuple[dict[str, str], dict[str, str] | None, str | None]:
    """The facts, the md5 sums of files by their names, if there are any, and what is damaged."""
    facts: dict[str, str] = {}
    sums: dict[str, str] | None = None
    try:
        for found in read_tar(member):
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


def ar_members(stored: Stored) -> Iterator[tuple[str, Stored]]:
    """Yield the members of an ``ar`` archive. Raises PackageError where it is damaged."""
    at = len(_MAGIC)
    while at < stored.size:
        header = stored.read_at(at, 60)
        size = header[48:58].strip()
        if len(header) < 60 or header[58:] != b"`\n" or not size.isdigit():
            raise PackageError(f"damaged: no ar header at {at}")
        at += len(header)
        name = header[:16].decode("ascii", "replace").rstrip(" /").split(".tar")[0]
        yield name, stored.part(at, int(size))
        at += int(size) + int(size) % 2
        if at > stored.size + 1:
            raise PackageError(
                f"truncated: {at - stored.size} bytes are missing of the last member, {name}"
            )


def _fields(text: str) -> dict[str, str]:
    """``Key: value`` lines, keys in lower case; lines that go on are left out."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            fields.setdefault(key.lower(), value.strip())
    return fields


FORMAT = PackageFormat(
    suffixes=(".deb", ".ddeb", ".udeb"),
    in_folders=(".deb", ".ddeb", ".udeb"),
    magic=_MAGIC,
    read=lambda stored: read_members(stored, ar_members),
    read_files=lambda stored: read_data(stored, ar_members),
)
