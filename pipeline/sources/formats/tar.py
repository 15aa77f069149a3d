"""Tar files, and packages that are tars with a file of facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..archive import Package, PackagedFile, PackageFormat, Stored, listed
from ..tar import read_tar

SUFFIXES = tuple(
    f".tar{compression}" for compression in ("", ".xz", ".zst", ".gz", ".bz2", ".lzma")
)


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


FORMAT = PackageFormat(
    suffixes=(*SUFFIXES, ".tgz", ".txz", ".tzst", ".tbz2"),
    in_folders=tuple(f".btf{suffix}" for suffix in SUFFIXES),
    magic=b"",
    read=None,
    read_files=read_tar,
)
