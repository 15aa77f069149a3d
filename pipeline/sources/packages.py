"""Packages of any format: what is in one, and some of it unpacked, in one pass.

Only the files that were asked for are written, to paths that the caller names: their names in the
package do not matter.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping

from btf.files.decompress import FOR_PACKAGES, find
from btf.format.foreign import START_BYTES, what_is

from ..files.read import open_stored, out_of_reach, unreadable
from ..files.remote import is_uri
from ..model.errors import NoRoomError
from . import nested, tar
from .archive import COPY_BYTES, Package, PackagedFile, PackageError, PackageFormat, Stored
from .formats import FORMATS, MAGIC_BYTES, format_of, is_package
from .names import printable

MAX_FILE_BYTES = 8 << 30  # of one file in a package: a vmlinux with debug information has 1 GB
SPARE_BYTES = 64 << 20  # what unpacking leaves free on the disk


def read_package(path: str) -> Package:
    """Read what a package says of itself, and what is in it as far as it can be read.

    Raises PackageError if nothing can be.
    """
    with _opened(path) as (stored, package_format):
        try:
            package = nested.read(package_format, stored)
            if package.problem is not None and not package.files and not package.inner:
                raise PackageError(package.problem)
        except PackageError as error:
            start = stored.read_at(0, START_BYTES)
            what = what_is(start) if find(start, FOR_PACKAGES) is None else None
            if what in (None, "a tar") or package_format.magic or what in str(error):
                raise
            raise PackageError(f"{error} (it is {what})") from error
        return package


def opens_as_package(path: str) -> bool:
    """Whether a file that is named itself is a package: by its name, or as it begins."""
    if is_package(os.path.basename(path)):
        return True
    try:
        with contextlib.nullcontext() if is_uri(path) else open_stored(path) as file:
            start = file.read(MAGIC_BYTES) if file is not None else b""
    except OSError:
        return False  # it is reported when it is read
    return any(known.magic and start.startswith(known.magic) for known in FORMATS)


def begins_like_tar(path: str) -> bool:
    """Whether a file is a tar, compressed or not, as far as its beginning tells."""
    try:
        with _opened(path) as (stored, _):
            return tar.begins_like_tar(stored)
    except PackageError:
        return False


def unpack(
    path: str, wanted: Mapping[str, str], stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, str | None]]:
    """Write files of a package where ``wanted`` says: name in the package -> path.

    Yields each name, with what is wrong with the file if it could not be had, as soon as that is
    known. A package that is damaged part of the way gives what comes before; when ``stopped``, the
    rest is not had either. Raises NoRoomError.
    """
    left = dict(wanted)
    folder = next((os.path.dirname(target) for target in wanted.values()), None)
    reason = "the package does not hold this file"
    try:
        with (
            _opened(path, folder) as (stored, package_format),
            contextlib.closing(nested.read_files(package_format, stored)) as files,  # type: ignore[type-var]
        ):
            while left and not stopped() and (found := next(files, None)) is not None:
                first = found.link
                problem = None
                for name in (found.name, *found.also):
                    if name not in left:
                        continue
                    if first is not None:
                        problem = problem or _copy(first, wanted, left, wanted[name])
                    else:
                        problem = _unpack_one(found, wanted[name])
                        first = name
                    del left[name]
                    yield name, problem
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
    import hashlib  # late, as it loads OpenSSL; as what writes, which a look does not need

    from ..files.storage import write_all

    algorithm, expected = found.digest or ("md5", None)
    digest = hashlib.new(algorithm, usedforsecurity=False)
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
    if expected is not None and expected != digest.hexdigest():
        os.unlink(target)
        return f"damaged: its {algorithm} is {digest.hexdigest()}, but the package says {expected}"
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
def _opened(path: str, folder: str | None = None) -> Iterator[tuple[Stored, PackageFormat]]:
    """An open package and its format. All that is wrong with it is raised as PackageError.

    folder   see ``Stored.of_file``
    """
    try:
        with open_stored(path) as file:
            stored = Stored.of_file(file, folder)
            yield stored, format_of(stored.read_at(0, MAGIC_BYTES), os.path.basename(path))
    except ConnectionError as error:
        raise out_of_reach(path, error) from error
    except OSError as error:
        raise PackageError(unreadable(path, error)) from error
