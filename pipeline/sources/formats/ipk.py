"""opkg's packages (OpenWrt, Yocto): Debian's in a compressed tar instead of an ``ar`` archive.

Others are ``ar`` archives, and read as Debian's.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..archive import PackageFormat, Stored
from ..tar import read_tar
from .deb import read_data, read_members


def _members(stored: Stored) -> Iterator[tuple[str, Stored]]:
    for found in read_tar(stored):
        yield found.name.split(".tar")[0], Stored.of_member(found, stored)


FORMAT = PackageFormat(
    suffixes=(".ipk", ".opk"),
    in_folders=(".ipk", ".opk"),
    magic=b"",
    read=lambda stored: read_members(stored, _members),
    read_files=lambda stored: read_data(stored, _members),
)
