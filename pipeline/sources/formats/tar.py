"""Tar files, and packages that are tars with a file of facts; packages in tars are opened too."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator

from btf.files.decompress import limit_of

from ..archive import Package, PackagedFile, PackageError, PackageFormat, Stored, listed
from ..names import printable
from ..tar import read_tar

SUFFIXES = tuple(
    f".tar{compression}" for compression in ("", ".xz", ".zst", ".gz", ".bz2", ".lzma")
)
_MAX_DEPTH = 3  # packages in packages in packages


def packages_with_facts(
    suffixes: tuple[str, ...],
    name: str,
    facts: Callable[[str], tuple[str, str, str]],
    *,
    several: bool = False,
    check: Callable[[Stored], None] = lambda _: None,
) -> PackageFormat:
    """Describe packages that are tars in which a file says what the package is.

    suffixes  how such packages are called
    name      of that file
    facts     takes its text, and gives the package's name, version and architecture
    several   as in ``read_tar``
    check     raises PackageError for what is called so and cannot be read
    """

    def read(stored: Stored) -> Package:
        check(stored)
        told = ("", "", "")

        def files() -> Iterator[PackagedFile]:
            nonlocal told
            for file in read_tar(stored, several):
                if file.name == name:
                    told = facts(file.text())
                yield file

        found, problem = listed(files())
        return Package(found, *told, problem)

    def read_files(stored: Stored) -> Iterator[PackagedFile]:
        check(stored)
        return read_tar(stored, several)

    return PackageFormat(suffixes, suffixes, b"", read, read_files)


def _read(stored: Stored) -> Package:
    inner: list[tuple[str, Package]] = []

    def files() -> Iterator[PackagedFile]:
        for file in read_tar(stored):
            opened = _inner(file, stored)
            if opened is None:
                yield file
                continue
            try:
                inner.append((file.name, opened[0].read(opened[1])))
            except PackageError as error:
                inner.append((file.name, Package((), problem=str(error))))

    names, problem = listed(files())
    return Package(names, problem=problem, inner=tuple(inner))


def _read_files(stored: Stored) -> Iterator[PackagedFile]:
    """Yield files, those of packages by the name of the package and their name in it."""
    problem = None
    for file in read_tar(stored):
        opened = _inner(file, stored)
        if opened is None:
            yield file
            continue
        try:
            for found in opened[0].read_files(opened[1]):
                yield dataclasses.replace(
                    found,
                    name=f"{file.name}/{found.name}",
                    also=tuple(f"{file.name}/{other}" for other in found.also),
                    link=None if found.link is None else f"{file.name}/{found.link}",
                )
        except PackageError as error:
            problem = problem or PackageError(f"{printable(file.name)}: {error}")
    if problem is not None:
        raise problem


def _inner(file: PackagedFile, outer: Stored) -> tuple[PackageFormat, Stored] | None:
    """The format and the bytes of a file that is a package itself; None if it is none."""
    from . import MAGIC_BYTES, format_of, is_package  # which need this module

    if file.link is not None or file.problem is not None or not is_package(file.name):
        return None
    outer.budget = outer.budget or [2 * limit_of(outer.size)]
    stored = Stored.of_member(file, outer)
    if stored.depth == _MAX_DEPTH:
        raise PackageError(f"{printable(file.name)}: too many packages in each other")
    return format_of(stored.read_at(0, MAGIC_BYTES), os.path.basename(file.name)), stored


FORMAT = PackageFormat(
    suffixes=(*SUFFIXES, ".tgz", ".txz", ".tzst", ".tbz2"),
    in_folders=tuple(f".btf{suffix}" for suffix in SUFFIXES),
    magic=b"",
    read=_read,
    read_files=_read_files,
)
