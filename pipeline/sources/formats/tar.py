"""Tar files: any that is named; in folders only collections of BTF (``.btf.tar.xz``, as BTFHub's),
since a tar may be anything."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from ..archive import Package, PackagedFile, PackageFormat, listed
from ..tar import read_tar

_SUFFIXES = tuple(f".tar{compression}" for compression in ("", ".xz", ".zst", ".gz", ".bz2"))


def _read(file: BinaryIO) -> Package:
    files, problem = listed(_read_files(file))
    return Package(files, problem=problem)


def _read_files(file: BinaryIO) -> Iterator[PackagedFile]:
    return read_tar(file, 0, file.seek(0, io.SEEK_END))


FORMAT = PackageFormat(
    suffixes=(*_SUFFIXES, ".tgz", ".txz"),
    in_folders=tuple(f".btf{suffix}" for suffix in _SUFFIXES),
    magic=b"",
    read=_read,
    read_files=_read_files,
)
