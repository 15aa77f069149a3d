"""Packages in archives: of a file that is a package itself, the files are had too."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

from btf.files.decompress import limit_of

from .archive import Package, PackagedFile, PackageError, PackageFormat, Stored, listed
from .formats import MAGIC_BYTES, format_of, is_package
from .names import printable

_MAX_DEPTH = 3  # packages in packages in packages


def read(package_format: PackageFormat, stored: Stored) -> Package:
    """Say what is in a package, and in those in it. Raises PackageError or OSError."""
    if package_format.read is not None:
        return package_format.read(stored)
    inner: list[tuple[str, Package]] = []

    def files() -> Iterator[PackagedFile]:
        for file in package_format.read_files(stored):
            opened = _inner(file, stored)
            if opened is None:
                yield file
                continue
            try:
                inner.append((file.name, read(*opened)))
            except PackageError as error:
                inner.append((file.name, Package((), problem=str(error))))

    names, problem = listed(files())
    return Package(names, problem=problem, inner=tuple(inner))


def read_files(package_format: PackageFormat, stored: Stored) -> Iterator[PackagedFile]:
    """Yield files, those of packages in it by the name of the package and their name there.

    Raises PackageError or OSError.
    """
    if package_format.read is not None:
        yield from package_format.read_files(stored)
        return
    problem = None
    for file in package_format.read_files(stored):
        opened = _inner(file, stored)
        if opened is None:
            yield file
            continue
        try:
            for found in read_files(*opened):
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
    if file.link is not None or file.problem is not None or not is_package(file.name):
        return None
    outer.budget = outer.budget or [2 * limit_of(outer.size)]
    stored = Stored.of_member(file, outer)
    if stored.depth == _MAX_DEPTH:
        raise PackageError(f"{printable(file.name)}: too many packages in each other")
    return format_of(stored.read_at(0, MAGIC_BYTES), os.path.basename(file.name)), stored
