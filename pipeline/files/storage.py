"""Folders that files are read from and written to: of this machine, or of a URI (see ``remote``).

A ``Storage`` is a folder; all paths are relative to it, with slashes. It can be pickled, so that
workers write where the run writes. All methods raise OSError.

What both kinds promise: ``publish`` replaces a file in one step, so that a reader has the old
content or the new one, and leaves nothing behind if it fails. An object store has no folders and
renames nothing; ``move_folder`` copies there, and is no single step.

A command that writes one file or folder where its user says does it by ``publish_file`` or
``publish_folder``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from ..model.errors import OutputError
from .remote import RemoteFolder, is_uri, open_remote


class Storage(Protocol):
    """A folder somewhere."""

    place: str  # the folder as its user named it, but for secrets

    @property
    def local(self) -> str | None:
        """Its path, if it is on this machine."""

    def lock(self) -> Callable[[], None]:
        """Make the folder, check that files can be written there, and keep other runs away until
        the returned function is called. Raises BlockingIOError if another run is there.

        An object store keeps nobody away.
        """

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a file that nobody reads until something else is published that lists it.

        The folder must exist. A file of that name is replaced, not overwritten: it may have other
        names, see ``link``.
        """

    def publish(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Replace a file in one step; ``durable``: it is on the disk when this returns."""

    def upload(self, source: str, path: str) -> None:
        """Move a file of this machine here; it may not be on the disk before ``sync``."""

    def read(self, path: str) -> bytes:
        """The content of a file."""

    def read_all(self, paths: Sequence[str]) -> Iterator[bytes]:
        """The contents of many files, in their order."""

    def open(self, path: str) -> Any:
        """The file for pyarrow to read."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Files below a folder, by their path relative to it. Empty if there is no folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; it is copied only where links cannot be made."""

    def move_folder(self, source: str, target: str) -> None:
        """Move a folder to a path where nothing is yet."""

    def delete(self, paths: Iterable[str]) -> None:
        """Remove those of the files that are there."""

    def delete_folder(self, path: str) -> None:
        """Remove a folder, if it is there, with all that is in it."""

    def sync(self, path: str) -> None:
        """Wait until a file's content, or a folder's entries, are on the disk."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file or folder in a storage."""

    storage: Storage
    path: str

    def open(self) -> Any:
        """The file for pyarrow to read."""
        return self.storage.open(self.path)

    def read(self, name: str) -> bytes:
        """A file in the folder."""
        return self.storage.read(f"{self.path}/{name}")

    def __str__(self) -> str:
        return f"{self.storage.place}/{self.path}"


def open_storage(place: str | os.PathLike[str]) -> Storage:
    """The folder that a path or a URI names. Raises OSError for one that cannot be used."""
    text = os.fspath(place)
    if not is_uri(text):
        try:
            os.path.abspath(text).encode()
        except UnicodeEncodeError as error:
            why = "its path is no UTF-8, so tables could not be in it"
            raise OSError(errno.EILSEQ, why, text) from error
        return LocalFolder(text)
    if text.startswith("file://"):
        return LocalFolder(unquote(urlsplit(text).path))
    return RemoteFolder(text)


def open_stored(path: str) -> Any:
    """A file to be read from any place in it, by its path or URI. Raises OSError."""
    return open_remote(path) if is_uri(path) else open(path, "rb")  # noqa: PTH123


def write_all(descriptor: int, data: bytes | memoryview | mmap.mmap) -> None:
    """Write all of ``data``: the system may take only a part at a time. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def publish_file(path: str, data: bytes) -> None:
    """Replace a file of this machine in one step. Raises OutputError; then it is as before."""
    try:
        LocalFolder(os.path.dirname(path)).publish(os.path.basename(path), data, durable=False)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def publish_folder(path: str) -> Iterator[LocalFolder]:
    """Fill a new folder, which takes the place of ``path`` when the block ends.

    Raises OutputError if the folder cannot be written; then ``path`` is as before. What an
    exception or an earlier, killed process has left of the new folder is removed.
    """
    staged = LocalFolder(os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.tmp"))
    try:
        staged.delete_folder("")
        staged.make_folder("")
        yield staged
        shutil.rmtree(path, ignore_errors=True)
        os.replace(staged.local, path)
    except BaseException as error:
        shutil.rmtree(staged.local, ignore_errors=True)
        if isinstance(error, OSError):
            where = error.filename or path
            raise OutputError(f"cannot write {where}: {error.strerror or error}") from error
        raise


class LocalFolder:
    """A folder of this machine, or one that is mounted here."""

    def __init__(self, path: str) -> None:
        self.place = path
        self.local = os.path.abspath(path)

    def lock(self) -> Callable[[], None]:
        os.makedirs(self.local, exist_ok=True)
        lock = os.open(f"{self.local}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        return lambda: os.close(lock)

    def write(self, path: str, data: bytes | memoryview) -> None:
        target = f"{self.local}/{path}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(target, flags, 0o666)
        except FileExistsError:
            os.unlink(target)
            descriptor = os.open(target, flags, 0o666)
        _fill(descriptor, target, data, durable=False)

    def publish(self, path: str, data: bytes, *, durable: bool = True) -> None:
        target = f"{self.local}/{path}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with _replacing(target, f"{target}.{os.getpid()}.tmp") as temporary:
            _fill(os.open(temporary, flags, 0o666), temporary, data, durable)
        if durable:
            self.sync(os.path.dirname(path))

    def upload(self, source: str, path: str) -> None:
        target = f"{self.local}/{path}"
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with _replacing(target, f"{target}.tmp") as temporary:
                shutil.copyfile(source, temporary)
            os.unlink(source)

    def read(self, path: str) -> bytes:
        return Path(self.local, path).read_bytes()

    def read_all(self, paths: Sequence[str]) -> Iterator[bytes]:
        return map(self.read, paths)

    def open(self, path: str) -> Any:
        import pyarrow as pa  # late: Arrow takes a while

        return pa.OSFile(f"{self.local}/{path}")

    def sizes(self, folder: str) -> dict[str, int]:
        return dict(_sizes(f"{self.local}/{folder}", ""))

    def folders(self, folder: str) -> list[str]:
        try:
            with os.scandir(f"{self.local}/{folder}") as entries:
                return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def make_folder(self, path: str) -> None:
        os.makedirs(f"{self.local}/{path}", exist_ok=True)

    def link(self, source: str, target: str) -> None:
        old, new = f"{self.local}/{source}", f"{self.local}/{target}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        try:
            os.link(old, new)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV):
                raise
            shutil.copyfile(old, new)

    def move_folder(self, source: str, target: str) -> None:
        os.makedirs(os.path.dirname(f"{self.local}/{target}"), exist_ok=True)
        os.rename(f"{self.local}/{source}", f"{self.local}/{target}")
        self.sync(os.path.dirname(target))

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.local}/{path}")

    def delete_folder(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(f"{self.local}/{path}")

    def sync(self, path: str) -> None:
        _sync(f"{self.local}/{path}")


@contextlib.contextmanager
def _replacing(target: str, temporary: str) -> Iterator[str]:
    """``temporary`` takes the place of ``target`` when the block ends; if it fails, it is removed
    and an OSError names the target."""
    try:
        yield temporary
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, target) from error
        raise


def _sizes(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield f"{prefix}{entry.name}", entry.stat().st_size


def _fill(descriptor: int, path: str, data: bytes | memoryview, durable: bool) -> None:
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
