"""Packages of any format: what is in one, and some of it unpacked, in one pass.

Only the files that were asked for are written, to paths that the caller names: their names in the
package do not matter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from ..files.read import open_stored, out_of_reach, unreadable
from ..files.storage import write_all
from ..model.errors import NoRoomError
from .archive import COPY_BYTES, Package, PackagedFile, PackageError, PackageFormat
from .formats import MAGIC_BYTES, format_of
from .names import printable

MAX_FILE_BYTES = 8 << 30  # of one file in a package: a vmlinux with debug information has 1 GB
SPARE_BYTES = 64 << 20  # what unpacking leaves free on the disk


def read_package(path: str) -> Package:
    """Read what a package says of itself, and what is in it as far as it can be read.

    Raises PackageError if nothing can be.
    """
    with _opened(path) as (file, package_format):
        package = package_format.read(file)
        if package.problem is not None and not package.files:
            raise PackageError(package.problem)
        return package


def unpack(
    path: str, wanted: Mapping[str, str], stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, str | None]]:
    """Write files of a package where ``wanted`` says: name in the package -> path.

    Yields each name, with what is wrong with the file if it could not be had, as soon as that is
    known. A package that is damaged part of the way gives what comes before; when ``stopped``, the
    rest is not had either. Raises NoRoomError.
    """
    left = dict(wanted)
    reason = "the package does not hold this file"
    try:
        with (
            _opened(path) as (file, package_format),
            contextlib.closing(package_format.read_files(file)) as files,  # type: ignore[type-var]
        ):
            while left and not stopped() and (found := next(files, None)) is not None:
                if (target := left.get(found.name)) is not None:
                    if found.link is not None:
                        problem = _copy(found.link, wanted, left, target)
                    else:
                        problem = _unpack_one(found, target)
                    del left[found.name]
                    yield found.name, problem
    except PackageError as error:
        reason = f"cannot be read from its package: {error}"
    if stopped():
        reason = "stopped before it was unpacked"
    for name in left:
        yield name, reason


def _unpack_one(found: PackagedFile, target: str) -> str | None:
    """Write a file to ``target``; returns what is wrong with it, if anything."""
    if found.problem is not None:
        return found.problem
    if found.size > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES >> 30} GiB"
    folder = os.path.dirname(target)
    if shutil.disk_usage(folder).free < found.size + SPARE_BYTES:
        raise NoRoomError(
            f"not enough room in {folder} to unpack {printable(found.name)} "
            f"({found.size >> 20} MB); --work-folder names another folder"
        )
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with _writing(target):
            file = open(target, "wb", buffering=0)  # noqa: PTH123, SIM115
        with file:
            while data := found.content.read(COPY_BYTES):
                digest.update(data)
                with _writing(target):
                    write_all(file.fileno(), data)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(target)
        raise
    if found.md5 is not None and found.md5 != digest.hexdigest():
        os.unlink(target)
        return f"damaged: its md5 is {digest.hexdigest()}, but the package says {found.md5}"
    return None


def _copy(name: str, wanted: Mapping[str, str], left: Mapping[str, str], target: str) -> str | None:
    """Write the content of another file of the package, which came before."""
    if name not in wanted or name in left or not os.path.exists(wanted[name]):
        return f"a hard link to {printable(name)}, which was not unpacked before"
    with _writing(target):
        shutil.copyfile(wanted[name], target)
    return None


@contextlib.contextmanager
def _writing(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoRoomError(f"cannot write {target}: {error.strerror}") from error


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, PackageFormat]]:
    """An open package and its format. All that is wrong with it is raised as PackageError."""
    try:
        with open_stored(path) as file:
            package_format = format_of(file.read(MAGIC_BYTES))
            file.seek(0)
            yield file, package_format
    except ConnectionError as error:
        raise out_of_reach(path, error) from error
    except OSError as error:
        raise PackageError(unreadable(path, error)) from error
