"""Containers that may hold kernels and are not read: they are named, not passed over."""

from __future__ import annotations

from collections.abc import Iterator

from btf.format.foreign import START_BYTES, what_is

from ..archive import Package, PackagedFile, PackageError, PackageFormat, Stored

_SUFFIXES = (
    ".snap", ".squashfs", ".sqfs", ".zip", ".7z", ".iso", ".wim", ".qcow2", ".flatpak",
    *(f".tar{compression}" for compression in (".lz4", ".lz", ".lzo", ".Z")),
)  # fmt: skip


def _read(stored: Stored) -> Package:
    what = what_is(stored.read_at(0, START_BYTES))
    if what is None:
        return Package(())  # it is only called so
    raise PackageError(f"this is {what}, which is not read: unpack it, and give the folder")


def _read_files(stored: Stored) -> Iterator[PackagedFile]:
    return iter(())


FORMAT = PackageFormat(
    suffixes=_SUFFIXES, in_folders=_SUFFIXES, magic=b"", read=_read, read_files=_read_files
)
