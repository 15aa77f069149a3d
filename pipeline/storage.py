"""Where files lie: a folder of this machine, or anything that has a pyarrow.fs URI.

A ``Storage`` is a folder; all paths are relative to it, with slashes. It can be pickled, so that
workers write where the run writes. Everything raises OSError.

What both kinds promise: ``publish`` replaces a file in one step, so that a reader has the old
content or the new one. An object store has no folders and renames nothing; ``move_folder`` copies
there, and is no single step.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

_URI = re.compile(r"[a-z][a-z0-9+.-]*://")
_OBJECT_STORES = ("s3", "gcs", "abfs")  # a file appears there when it is complete
_COPY_BYTES = 8 << 20
_REQUESTS_AT_ONCE = 16


class Storage(Protocol):
    """A folder somewhere."""

    place: str  # the folder as its user named it, but for secrets

    @property
    def local(self) -> str | None:
        """Its path, if it is on this machine."""

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a file that nobody reads before something else says that it is there.

        The folder must have been made. A file of that name is replaced, not written into: it may
        have other names, see ``link``.
        """

    def publish(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Replace a file in one step, and, if durable, for good."""

    def upload(self, source: str, path: str) -> None:
        """Move a file of this machine here."""

    def read(self, path: str) -> bytes:
        """The content of a file."""

    def open(self, path: str) -> Any:
        """The file for pyarrow to read."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Files below a folder, by their path relative to it. Empty if there is no folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""

    def link(self, source: str, target: str) -> None:
        """Have a file under a second name, without copying it where that can be."""

    def move_folder(self, source: str, target: str) -> None:
        """Give a folder another place, where nothing is yet."""

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; it does not matter whether they are there."""

    def delete_folder(self, path: str) -> None:
        """Remove a folder, if it is there, with all that is in it."""

    def sync(self, folder: str) -> None:
        """Have a folder's entries on the disk."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file or folder in a storage; whoever gets this can read it."""

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


def is_uri(text: str) -> bool:
    """Whether a source or an output is named by a URI, not by a path."""
    return _URI.match(text) is not None


def open_storage(place: str | os.PathLike[str]) -> Storage:
    """The folder that a path or a URI names. Raises OSError for a URI that cannot be used."""
    text = os.fspath(place)
    if not is_uri(text):
        return LocalFolder(text)
    if text.startswith("file://"):
        return LocalFolder(unquote(urlsplit(text).path))
    return RemoteFolder(text)


class LocalFolder:
    """A folder of this machine, or one that is mounted here."""

    def __init__(self, path: str) -> None:
        self.place = path
        self.local = os.path.abspath(path)

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
        temporary = f"{target}.{os.getpid()}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            _fill(descriptor, temporary, data, durable)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if durable:
            self.sync(os.path.dirname(path))

    def upload(self, source: str, path: str) -> None:
        _sync(source)
        target = f"{self.local}/{path}"
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(source, f"{target}.tmp")
            _sync(f"{target}.tmp")
            os.replace(f"{target}.tmp", target)
            os.unlink(source)

    def read(self, path: str) -> bytes:
        return Path(self.local, path).read_bytes()

    def open(self, path: str) -> str:
        return f"{self.local}/{path}"

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

    def sync(self, folder: str) -> None:
        _sync(f"{self.local}/{folder}")


def _sizes(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield f"{prefix}{entry.name}", entry.stat().st_size


def _fill(descriptor: int, path: str, data: bytes | memoryview, durable: bool) -> None:
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
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


class RemoteFolder:
    """A folder, or the prefix of an object store, that pyarrow reaches by a URI."""

    local: str | None = None

    def __init__(self, uri: str) -> None:
        self.place = plain_uri(uri)
        self._uri = uri
        self._fs, self._root = remote(uri)
        self._atomic = self._fs.type_name in _OBJECT_STORES

    def __reduce__(self) -> tuple[Callable[[str], RemoteFolder], tuple[str]]:
        return RemoteFolder, (self._uri,)

    def write(self, path: str, data: bytes | memoryview) -> None:
        with _named(self._at(path)), self._fs.open_output_stream(self._at(path)) as stream:
            stream.write(data)

    def publish(self, path: str, data: bytes, *, durable: bool = True) -> None:
        if self._atomic:
            self.write(path, data)
            return
        self.write(f"{path}.tmp", data)
        with _named(self._at(path)):
            self._fs.move(self._at(f"{path}.tmp"), self._at(path))

    def upload(self, source: str, path: str) -> None:
        with (
            _named(self._at(path)),
            open(source, "rb") as file,  # noqa: PTH123
            self._fs.open_output_stream(self._at(path)) as stream,
        ):
            while data := file.read(_COPY_BYTES):
                stream.write(data)
        os.unlink(source)

    def read(self, path: str) -> bytes:
        return read_remote(self._fs, self._at(path))

    def dataset(self, path: str) -> Any:
        """A Parquet file as a data set of Arrow: what is asked for is read when it is."""
        import pyarrow.dataset as ds  # late, as below

        with _named(self._at(path)):
            return ds.dataset(self._at(path), filesystem=self._fs, format="parquet")

    def open(self, path: str) -> Any:
        return self._fs.open_input_file(self._at(path))

    def sizes(self, folder: str) -> dict[str, int]:
        return {path: info.size for path, info in list_remote(self._fs, self._at(folder))}

    def folders(self, folder: str) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        with _named(self._at(folder)):
            found = self._fs.get_file_info(FileSelector(self._at(folder), allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.Directory)

    def make_folder(self, path: str) -> None:
        if not self._atomic:
            self._fs.create_dir(self._at(path), recursive=True)

    def link(self, source: str, target: str) -> None:
        with _named(self._at(target)):
            self._fs.copy_file(self._at(source), self._at(target))

    def move_folder(self, source: str, target: str) -> None:
        if not self._atomic:
            self.make_folder(os.path.dirname(target))
            self._fs.move(self._at(source), self._at(target))
            return
        names = self.sizes(source)
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            for _ in pool.map(lambda n: self.link(f"{source}/{n}", f"{target}/{n}"), names):
                pass
        self.delete_folder(source)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self._fs.delete_file(self._at(path))

    def delete_folder(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(self._at(path))

    def sync(self, folder: str) -> None:
        pass

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


@lru_cache(maxsize=64)
def _file_system(scheme: str, netloc: str, query: str) -> Any:
    from pyarrow.fs import FileSystem  # late: a plain path does without Arrow

    if scheme == "s3" and "allow_delayed_open" not in query:
        # A small file is one request then, not three.
        query = f"{query}&allow_delayed_open=true".lstrip("&")
    try:
        return FileSystem.from_uri(f"{scheme}://{netloc}/{'?' + query if query else ''}")[0]
    except (ValueError, NotImplementedError) as error:
        raise OSError(errno.EINVAL, f"cannot use a {scheme}:// URI: {error}") from error


# How to reach what plain URIs name: (user and password, query) by scheme and bucket or host.
_access: dict[tuple[str, str], tuple[str, str]] = {}


def plain_uri(uri: str) -> str:
    """A URI without what only says how to reach it, which may be secret; ``remote`` finds it again.

    ``s3://key:secret@bucket/folder?region=x`` becomes ``s3://bucket/folder``.
    """
    parts = urlsplit(uri)
    user, _, host = parts.netloc.rpartition("@")
    if user or parts.query:
        _access[parts.scheme, host] = (user, parts.query)
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def known_access() -> Mapping[tuple[str, str], tuple[str, str]]:
    """What ``plain_uri`` has left out, for ``learn_access`` in another process."""
    return dict(_access)


def learn_access(access: Mapping[tuple[str, str], tuple[str, str]]) -> None:
    """Know what another process knows."""
    _access.update(access)


def remote(uri: str) -> tuple[Any, str]:
    """(pyarrow file system, path in it) of a URI. Raises OSError."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc and not parts.query:
        user, query = _access.get((parts.scheme, parts.netloc), ("", ""))
        netloc = f"{user}@{parts.netloc}" if user else parts.netloc
        parts = parts._replace(netloc=netloc, query=query)
    fs = _file_system(parts.scheme, parts.netloc, parts.query)
    bucket = parts.netloc.rpartition("@")[2] if fs.type_name in _OBJECT_STORES else ""
    return fs, f"{bucket}{unquote(parts.path)}".rstrip("/")


def read_remote(fs: Any, path: str) -> bytes:
    """A whole file. Raises OSError."""
    with _named(path), fs.open_input_stream(path, buffer_size=0) as stream:
        data: bytes = stream.read()
        return data


def open_stored(path: str) -> Any:
    """A file to be read from any place in it, by its path or URI. Raises OSError."""
    if not is_uri(path):
        return open(path, "rb")  # noqa: PTH123
    fs, place = remote(path)
    with _named(place):
        return fs.open_input_file(place)


def list_remote(fs: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(relative path, pyarrow FileInfo) of all files below a folder."""
    from pyarrow.fs import FileSelector, FileType

    with _named(path):
        found = fs.get_file_info(FileSelector(path, allow_not_found=True, recursive=True))
    for info in found:
        if info.type == FileType.File:
            yield info.path[len(path) + 1 :], info


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Have an error of pyarrow say which file it is about."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        reason = error.strerror or " ".join(str(error).split())
        raise type(error)(error.errno or errno.EIO, reason, path) from error
