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
import hashlib
import mmap
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from ..model.errors import OutputError, PlaceError
from .remote import RemoteFolder, is_uri

NO_FILE = -1  # instead of a size


class Lock(Protocol):
    """What keeps other runs away."""

    def check(self) -> None:
        """Raise OSError if it does so no longer."""

    def release(self) -> None:
        """Let others write."""


class Storage(Protocol):
    """A folder somewhere."""

    place: str  # the folder as its user named it, but for secrets

    @property
    def local(self) -> str | None:
        """Its path, if it is on this machine."""

    def lock(self) -> Lock:
        """Make the folder, check that files can be written there, and keep other runs away until
        the lock is released. Raises BlockingIOError if another run is there."""

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a file that nobody reads until something else is published that lists it.

        The folder must exist. A file of that name is replaced, not overwritten: it may have other
        names, see ``link``.
        """

    def write_files(self, folder: str, files: Mapping[str, bytes]) -> None:
        """``write`` many files of one folder, by name."""

    def publish(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Replace a file in one step; ``durable``: it is on the disk when this returns."""

    def upload(self, source: str, path: str) -> None:
        """Move a file of this machine here; it may not be on the disk before ``sync``."""

    def read(self, path: str) -> bytes:
        """The content of a file."""

    def read_all(self, paths: Sequence[str]) -> Iterator[bytes]:
        """The contents of many files, in their order."""

    def digests(self, folder: str, names: Sequence[str]) -> list[str]:
        """The SHA-256 of each of these files of a folder, in hexadecimal."""

    def open(self, path: str) -> Any:
        """The file for pyarrow to read."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Sizes of what is below a folder, by its path relative to it; NO_FILE for links, pipes and
        the like, which cannot be read here. Empty if there is no folder."""

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


# A file where a folder should be, a link, no permission; not a disk that is full or fails.
_OF_A_PLACE = {
    errno.EACCES, errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EROFS,
}  # fmt: skip


def cannot_read(where: object, error: OSError) -> OutputError:
    """The error of a folder or file of an output that cannot be read."""
    which = f"{error.filename} is " if error.errno == errno.ELOOP else ""
    return _error(f"cannot read {where}: {which}{error.strerror or error}", error)


def cannot_write(where: object, error: OSError) -> OutputError:
    """The error of a folder or file that cannot be written."""
    why = error.strerror or str(error)
    if why == os.strerror(errno.EEXIST):
        why = "it is a file, not a folder"
    elif why == os.strerror(errno.ENOTDIR):
        why = "a part of this path is a file, not a folder"
    return _error(f"cannot write {where}: {why}", error)


def _error(message: str, error: OSError) -> OutputError:
    return (PlaceError if error.errno in _OF_A_PLACE else OutputError)(message)


def write_all(descriptor: int, data: bytes | bytearray | memoryview | mmap.mmap) -> None:
    """Write all of ``data``: the system may take only a part at a time. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def publish_file(path: str, data: bytes | mmap.mmap) -> None:
    """Replace a file of this machine in one step. Raises OutputError; then it is as before.

    A pipe or a device, as /dev/null and what /dev/stdout leads to, is written to.
    """
    try:
        if _is_written_to(path):
            with (
                contextlib.suppress(BrokenPipeError),  # whoever reads has seen enough
                open(path, "wb", buffering=0) as file,  # noqa: PTH123
            ):
                write_all(file.fileno(), data)
            return
        LocalFolder(os.path.dirname(path)).publish(os.path.basename(path), data, durable=False)
    except OSError as error:
        raise cannot_write(path, error) from error


def _is_written_to(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    of_a_process = os.path.islink(path) and os.path.abspath(path).startswith(("/dev/", "/proc/"))
    return of_a_process or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


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
            raise cannot_write(error.filename or path, error) from error
        raise


@dataclass(frozen=True, slots=True)
class _LocalLock:
    """A file that is locked for as long as its descriptor is open; the system closes it with the
    process, however that ends."""

    descriptor: int

    def check(self) -> None:
        pass

    def release(self) -> None:
        os.close(self.descriptor)


class LocalFolder:
    """A folder of this machine, or one that is mounted here.

    Its user may name a link to it. Below it no link is followed, neither on the way to a file nor
    to its content, and no path leads out of it: every step is an open relative to the one before,
    so that nobody can put a link there meanwhile.
    """

    def __init__(self, path: str) -> None:
        self.place = path
        self.local = os.path.abspath(path)

    def lock(self) -> Lock:
        with self._within("", make=True) as folder, self._naming(".lock"):
            lock = os.open(
                ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder
            )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        return _LocalLock(lock)

    def write(self, path: str, data: bytes | memoryview) -> None:
        with self._beside(path) as (folder, name):
            _write_new(folder, name, data)

    def write_files(self, folder: str, files: Mapping[str, bytes]) -> None:
        with self._within(folder) as descriptor:
            for name, data in files.items():
                with self._naming(f"{folder}/{name}"):
                    _check_name(name)
                    _write_new(descriptor, name, data)

    def publish(self, path: str, data: bytes | mmap.mmap, *, durable: bool = True) -> None:
        with self._beside(path) as (folder, name):
            temporary = f"{name}.{os.getpid()}.tmp"
            with _replacing(folder, name, temporary):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)  # of a process that was killed
                _fill(os.open(temporary, _NEW, 0o666, dir_fd=folder), data, durable)
            if durable:
                os.fsync(folder)

    def upload(self, source: str, path: str) -> None:
        with self._beside(path) as (folder, name):
            try:
                os.replace(source, name, dst_dir_fd=folder)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with (
                    open(source, "rb") as file,  # noqa: PTH123
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                ):
                    self.publish(path, content, durable=False)
                os.unlink(source)

    def read(self, path: str) -> bytes:
        with (
            self._opened(path) as descriptor,
            open(descriptor, "rb", closefd=False) as file,
        ):
            return file.read()

    def read_all(self, paths: Sequence[str]) -> Iterator[bytes]:
        return map(self.read, paths)

    def digests(self, folder: str, names: Sequence[str]) -> list[str]:
        with self._within(folder) as descriptor:
            return [self._digest(descriptor, folder, name) for name in names]

    def _digest(self, above: int, folder: str, name: str) -> str:
        with self._naming(f"{folder}/{name}"), _opened_in(above, name) as descriptor:
            digest = hashlib.sha256()
            while data := os.read(descriptor, _PIECE_BYTES):
                digest.update(data)
            return digest.hexdigest()

    def open(self, path: str) -> Any:
        import pyarrow as pa  # late: Arrow takes a while

        with self._opened(path) as descriptor:
            return pa.OSFile(f"/dev/fd/{descriptor}")

    def sizes(self, folder: str) -> dict[str, int]:
        with contextlib.suppress(FileNotFoundError), self._within(folder) as descriptor:
            return dict(_sizes(descriptor, ""))
        return {}

    def folders(self, folder: str) -> list[str]:
        with (
            contextlib.suppress(FileNotFoundError),
            self._within(folder) as descriptor,
            os.scandir(descriptor) as entries,
        ):
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        return []

    def make_folder(self, path: str) -> None:
        with self._within(path, make=True):
            pass

    def link(self, source: str, target: str) -> None:
        with self._beside(source) as (old, old_name), self._beside(target) as (new, new_name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new_name, dir_fd=new)
            try:
                os.link(old_name, new_name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV):
                    raise
                self.write(target, self.read(source))

    def move_folder(self, source: str, target: str) -> None:
        self.make_folder(os.path.dirname(target))
        with self._beside(source) as (old, old_name), self._beside(target) as (new, new_name):
            os.rename(old_name, new_name, src_dir_fd=old, dst_dir_fd=new)
            os.fsync(new)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with (
                contextlib.suppress(FileNotFoundError),
                self._beside(path) as (folder, name),
            ):
                os.unlink(name, dir_fd=folder)

    def delete_folder(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not path:
                shutil.rmtree(self.local)
                return
            with self._beside(path) as (folder, name):
                if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                    shutil.rmtree(name, dir_fd=folder)
                else:  # a link, which is not followed
                    os.unlink(name, dir_fd=folder)

    def point(self, path: str, target: str) -> None:
        """Make a link, or replace one in one step, where there can be links."""
        self.make_folder(os.path.dirname(path))
        with self._beside(path) as (folder, name):
            with contextlib.suppress(OSError):
                if os.readlink(name, dir_fd=folder) == target:
                    return
            temporary = f"{name}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            try:
                os.symlink(target, temporary, dir_fd=folder)
            except PermissionError:  # a file system without them
                return
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)

    def check_point(self, path: str) -> None:
        """Raise OSError where ``point`` could not put its link."""
        self.make_folder(os.path.dirname(path))
        with self._beside(path) as (folder, name), contextlib.suppress(FileNotFoundError):
            if not stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode):
                why = "in the place of a link that splitbtf makes: remove it"
                raise OSError(errno.EEXIST, why, f"{self.local}/{path}")

    def sync(self, path: str) -> None:
        with self._opened(path) as descriptor:
            os.fsync(descriptor)

    @contextlib.contextmanager
    def _within(self, path: str, *, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder; ``make``: it is made, with those above it."""
        descriptor = -1
        try:
            with self._naming(path):
                if make:
                    os.makedirs(self.local, exist_ok=True)
                descriptor = os.open(self.local, _FOLDER)
                for name in path.split("/") if path else ():
                    above, descriptor = descriptor, _step(descriptor, name, make)
                    os.close(above)
            yield descriptor
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    @contextlib.contextmanager
    def _beside(self, path: str) -> Iterator[tuple[int, str]]:
        """The folder that a file is in, or may come to be in, and its name there."""
        folder, _, name = path.rpartition("/")
        with self._within(folder) as descriptor, self._naming(path):
            _check_name(name)
            yield descriptor, name

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """A descriptor to read a file with, or to sync a folder."""
        with self._beside(path) as (folder, name), _opened_in(folder, name) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Errors name the whole path, and say of a link that it is one."""
        try:
            yield
        except OSError as error:
            where = f"{self.local}/{path}" if path else self.local
            if error.errno is None or str(error.filename or "").startswith("/"):
                raise
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and (link := self._link_in(path)):
                raise OSError(
                    errno.ELOOP, "a link, which is not followed here: remove it", link
                ) from error
            raise OSError(error.errno, error.strerror, where) from error

    def _link_in(self, path: str) -> str | None:
        """The first link on the way to a file, for a message."""
        at = self.local
        for name in path.split("/"):
            at = f"{at}/{name}"
            if os.path.islink(at):
                return at
        return None


_PIECE_BYTES = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # O_EXCL: through no link either


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, f"not the name of a file: {name!r}")


@contextlib.contextmanager
def _opened_in(folder: int, name: str) -> Iterator[int]:
    """A descriptor of what is to be read in the folder with this one."""
    _check_name(name)
    descriptor = os.open(name, _READ, dir_fd=folder)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _step(above: int, name: str, make: bool) -> int:
    """A descriptor of a folder in the folder with the descriptor ``above``."""
    _check_name(name)
    while True:
        try:
            return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)


@contextlib.contextmanager
def _replacing(folder: int, name: str, temporary: str) -> Iterator[None]:
    """``temporary`` takes the place of ``name`` when the block ends; if it fails, it is removed."""
    try:
        yield
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _write_new(folder: int, name: str, data: bytes | memoryview) -> None:
    """Write a file of this name in place of any that is there."""
    try:
        descriptor = os.open(name, _NEW, 0o666, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        descriptor = os.open(name, _NEW, 0o666, dir_fd=folder)
    try:
        _fill(descriptor, data, durable=False)
    except OSError:
        os.unlink(name, dir_fd=folder)  # a part of it is of no use
        raise


def _sizes(folder: int, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                if entry.is_dir(follow_symlinks=False):
                    below = os.open(entry.name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                    try:
                        yield from _sizes(below, f"{prefix}{entry.name}/")
                    finally:
                        os.close(below)
                else:
                    is_file = entry.is_file(follow_symlinks=False)
                    size = entry.stat(follow_symlinks=False).st_size if is_file else NO_FILE
                    yield f"{prefix}{entry.name}", size


def _fill(descriptor: int, data: bytes | memoryview | mmap.mmap, durable: bool) -> None:
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
