"""Files beyond this machine: those of URIs that pyarrow knows, and how to reach them.

Keys, endpoint and region of a store come from the environment or from the URI. Paths in tables and
messages do not show them. They are sent along with the work, so that workers on other machines
find the store too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .remote_lock import RemoteLock

_URI = re.compile(r"[a-z][a-z0-9+.-]*://")
_OBJECT_STORES = ("s3", "gcs", "abfs")  # a file appears there when it is complete
_COPY_BYTES = 8 << 20
_PIECE_BYTES = 4 << 20  # of each of many files
_REQUESTS_AT_ONCE = 16


def is_uri(text: str) -> bool:
    """Whether a source or an output is named by a URI, not by a path."""
    return _URI.match(text) is not None


# ------------------------------------------------------------------ how to reach a store

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_OTHER_KEYS = (  # a machine that has one of these has keys of its own
    "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
_PLACES = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach what plain URIs name.

    uris         (user and password, query) by scheme and bucket or host
    environment  variables for S3
    """

    uris: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


_access: dict[tuple[str, str], tuple[str, str]] = {}
_file_systems: dict[tuple[str | None, ...], Any] = {}
_of_parents: list[Any] = []


def without_secrets(uri: str) -> str:
    """Strip user, password and query from a URI; ``remote`` remembers them.

    ``s3://key:secret@bucket/folder?region=x`` becomes ``s3://bucket/folder``.
    """
    parts = urlsplit(uri)
    user, _, host = parts.netloc.rpartition("@")
    if user or parts.query:
        _access[parts.scheme, host] = (user, parts.query)
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def shown(path: str) -> str:
    """A path or URI as it may be shown, without what gives access."""
    return without_secrets(path) if is_uri(path) else path


def export_access() -> Access:
    """How this process reaches its stores, for ``import_access`` of another process."""
    names = (*_KEYS, *_PLACES) if any(scheme == "s3" for scheme, *_ in _file_systems) else ()
    return Access(dict(_access), {name: os.environ[name] for name in names if name in os.environ})


def import_access(access: Access) -> None:
    """Reach stores as another process does, but for what this machine's environment says."""
    _access.update(access.uris)
    has_keys = any(name in os.environ for name in (*_KEYS, *_OTHER_KEYS))
    for name, value in access.environment.items():
        if name not in os.environ and not (has_keys and name in _KEYS):
            os.environ[name] = value


def _file_system(scheme: str, netloc: str, query: str) -> Any:
    """This process's connection to a store, made once for each environment."""
    which = (scheme, netloc, query, *map(os.environ.get, (*_KEYS, *_PLACES)))
    if which not in _file_systems:
        _file_systems[which] = _connected(scheme, netloc, query)
    return _file_systems[which]


def _connected(scheme: str, netloc: str, query: str) -> Any:
    from pyarrow.fs import FileSystem  # late: a plain path does without Arrow

    if scheme == "s3" and "allow_delayed_open" not in query:
        # A small file is one request then, not three.
        query = f"{query}&allow_delayed_open=true".lstrip("&")
    try:
        with readable_errors(f"{scheme}://{netloc.rpartition('@')[2]}"):
            return FileSystem.from_uri(f"{scheme}://{netloc}/{'?' + query if query else ''}")[0]
    except (ValueError, NotImplementedError) as error:
        raise OSError(errno.EINVAL, f"cannot use a {scheme}:// URI: {error}") from error


def _forget_connections() -> None:
    """In a forked process: neither use nor close the parent's connections."""
    global _file_systems
    _of_parents.append(_file_systems)
    _file_systems = {}


os.register_at_fork(after_in_child=_forget_connections)


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


def uri_below(uri: str, relative: str) -> str:
    """The URI of a file below a folder, with reserved characters quoted."""
    return f"{uri}/{quote(relative, safe='/+@~,=!$&()*;: ')}"


# ------------------------------------------------------------------ reading


def read_remote(uri: str, most: int) -> bytes:
    """A whole file of ``most`` bytes or fewer. Raises OSError."""
    fs, path = remote(uri)
    with readable_errors(uri):
        return _content(fs, path, most)


def _content(fs: Any, path: str, most: int | None = None) -> bytes:
    with fs.open_input_file(path) as file:
        size = file.size()
        if most is not None and size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        data: bytes = file.read(size)  # in one request: without a size it would be many
        return data


class _File:
    """A file to be read at any offset. All methods raise OSError, see ``readable_errors``."""

    def __init__(self, uri: str) -> None:
        fs, path = remote(uri)
        self._uri = uri
        with readable_errors(uri):
            self._file = fs.open_input_file(path)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        with readable_errors(self._uri):
            data: bytes = self._file.read(None if size < 0 else size)
            return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def open_remote(uri: str) -> Any:
    """A file to be read from any place in it. Raises OSError."""
    return _File(uri)


def list_remote(uri: str) -> Iterator[tuple[str, Any]]:
    """(relative path, pyarrow FileInfo) of a file, whose path is empty, or of all files below a
    folder. Raises OSError."""
    fs, path = remote(uri)
    with readable_errors(uri):
        here = fs.get_file_info(path)
        if here.is_file:
            yield "", here
        else:
            yield from _files_below(fs, path)


def _files_below(fs: Any, path: str) -> Iterator[tuple[str, Any]]:
    from pyarrow.fs import FileSelector, FileType

    for info in fs.get_file_info(FileSelector(path, allow_not_found=True, recursive=True)):
        if info.type == FileType.File:
            yield info.path[len(path) + 1 :], info


# ------------------------------------------------------------------ a folder


class RemoteFolder:
    """A folder, or the prefix of an object store, that pyarrow reaches by a URI: a ``Storage``.

    An object store has no folders, renames nothing, and has a file when it is complete.
    """

    local: str | None = None

    def __init__(self, uri: str) -> None:
        self.place = without_secrets(uri)
        self._uri = uri
        self._fs, self._root = remote(uri)
        self._is_object_store = self._fs.type_name in _OBJECT_STORES

    def __reduce__(self) -> tuple[Callable[[str, Access], RemoteFolder], tuple[str, Access]]:
        return _reopened, (self._uri, export_access())

    def lock(self) -> RemoteLock:
        from .remote_lock import FOLDER, RemoteLock  # late: few sources are remote

        self.make_folder(FOLDER)
        return RemoteLock(self)

    def write(self, path: str, data: bytes | memoryview) -> None:
        # None: else Arrow compresses what a name seems to ask for.
        with self._errors(path), self._fs.open_output_stream(self._at(path), None) as stream:
            stream.write(data)

    def write_files(self, folder: str, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self.write(f"{folder}/{name}", data)

    def publish(self, path: str, data: bytes, *, durable: bool = True) -> None:
        if self._is_object_store:
            self.write(path, data)
            return
        try:
            self.write(f"{path}.tmp", data)
            with self._errors(path):
                self._fs.move(self._at(f"{path}.tmp"), self._at(path))
        except BaseException:
            with contextlib.suppress(OSError):
                self.delete([f"{path}.tmp"])
            raise

    def upload(self, source: str, path: str) -> None:
        with (
            open(source, "rb") as file,  # noqa: PTH123
            self._errors(path),
            self._fs.open_output_stream(self._at(path), None) as stream,
        ):
            while data := file.read(_COPY_BYTES):
                stream.write(data)
        os.unlink(source)

    def read(self, path: str) -> bytes:
        with self._errors(path):
            return _content(self._fs, self._at(path))

    def read_all(self, paths: Sequence[str]) -> Iterator[bytes]:
        with _requests() as pool:
            for start in range(0, len(paths), 4 * _REQUESTS_AT_ONCE):  # not all in memory at once
                yield from pool.map(self.read, paths[start : start + 4 * _REQUESTS_AT_ONCE])

    def digests(self, folder: str, names: Sequence[str]) -> list[str]:
        with _requests() as pool:
            return list(pool.map(self._digest, (f"{folder}/{name}" for name in names)))

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self._errors(path), self._fs.open_input_file(self._at(path)) as file:
            while data := file.read(_PIECE_BYTES):
                digest.update(data)
        return digest.hexdigest()

    def dataset(self, paths: Sequence[str]) -> Any:
        """Parquet files as a data set of Arrow: what is asked for is read when it is."""
        import pyarrow.dataset as ds  # late, as above

        with self._errors(paths[0]):
            return ds.dataset([*map(self._at, paths)], filesystem=self._fs, format="parquet")

    def open(self, path: str) -> Any:
        with self._errors(path):
            return self._fs.open_input_file(self._at(path))

    def sizes(self, folder: str) -> dict[str, int]:
        return {path: info.size for path, info in self.files(folder).items()}

    def files(self, folder: str) -> dict[str, Any]:
        """What pyarrow knows of the files below a folder, by their path relative to it."""
        with self._errors(folder):
            return dict(_files_below(self._fs, self._at(folder)))

    def folders(self, folder: str) -> list[str]:
        from pyarrow.fs import FileSelector, FileType

        with self._errors(folder):
            found = self._fs.get_file_info(FileSelector(self._at(folder), allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == FileType.Directory)

    def make_folder(self, path: str) -> None:
        if not self._is_object_store:
            with self._errors(path):
                self._fs.create_dir(self._at(path), recursive=True)

    def link(self, source: str, target: str) -> None:
        with self._errors(target):
            self._fs.copy_file(self._at(source), self._at(target))

    def move_folder(self, source: str, target: str) -> None:
        if not self._is_object_store:
            self.make_folder(os.path.dirname(target))
            with self._errors(target):
                self._fs.move(self._at(source), self._at(target))
            return
        names = list(self.sizes(source))
        _each(lambda name: self.link(f"{source}/{name}", f"{target}/{name}"), names)
        self.delete_folder(source)

    def delete(self, paths: Iterable[str]) -> None:
        def delete_one(path: str) -> None:
            with contextlib.suppress(FileNotFoundError), self._errors(path):
                self._fs.delete_file(self._at(path))

        _each(delete_one, list(paths))

    def delete_folder(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._errors(path):
            self._fs.delete_dir(self._at(path))

    def sync(self, path: str) -> None:
        pass

    def _at(self, path: str) -> str:
        if ".." in path.split("/"):
            raise OSError(errno.EINVAL, "not a path below this folder", f"{self.place}/{path}")
        return f"{self._root}/{path}" if path else self._root

    def _errors(self, path: str) -> contextlib.AbstractContextManager[None]:
        return readable_errors(f"{self.place}/{path}" if path else self.place)


def _reopened(uri: str, access: Access) -> RemoteFolder:
    import_access(access)
    return RemoteFolder(uri)


def _requests() -> Executor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_REQUESTS_AT_ONCE)


def _each(function: Callable[[str], None], names: Sequence[str]) -> None:
    """Make many requests at a time: even a small one takes long."""
    if names:
        with _requests() as pool:
            for _ in pool.map(function, names):
                pass


# ------------------------------------------------------------------ errors

# As Arrow words what S3 says: a code, sometimes a status, the operation, the store's own words.
_S3_ERROR = re.compile(
    r"AWS Error (?P<code>\w+)(?: \(HTTP status (?P<status>\d+)\))? during (?P<operation>\w+) "
    r"operation: ?(?P<words>.*?)(?: \(Request ID: .*\))?"
)
_NOTHING_SAID = "No response body."
_DENIED = {
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN", "UNRECOGNIZED_CLIENT", "EXPIRED_TOKEN", "REQUEST_EXPIRED",
    "INVALID_SIGNATURE", "NOT_AUTHORIZED", "OPT_IN_REQUIRED", "ACCOUNT_PROBLEM",
}  # fmt: skip
_NOT_ANSWERING = {
    "NETWORK_CONNECTION", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "THROTTLING",
    "REQUEST_TIMEOUT", "REQUEST_TIME_TOO_SKEWED",
}  # fmt: skip


@contextlib.contextmanager
def readable_errors(where: str) -> Iterator[None]:
    """Turn pyarrow's errors into ones that say what is wrong with ``where``.

    ConnectionError: the store cannot be reached or is out of order, which says nothing about the
    file. PermissionError: it refuses. Else an OSError of the same class.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise _in_plain_words(error, where) from error


def _in_plain_words(error: OSError, where: str) -> OSError:
    said = " ".join(str(error).split())
    found = _S3_ERROR.fullmatch(said[max(0, said.find("AWS Error ")) :])
    if found is None:
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where)
        return type(error)(error.errno or errno.EIO, error.strerror or said, where)
    code, status, words = found["code"], int(found["status"] or 0), found["words"]
    words = "" if words == _NOTHING_SAID else words.replace("Unable to parse ExceptionName: ", "")
    if code == "NO_SUCH_BUCKET":
        return OSError(errno.EIO, "there is no such bucket", where)
    if code in _DENIED or status in (401, 403):
        told = f" ({words})" if words else ""
        return PermissionError(
            errno.EACCES,
            f"the store refuses access{told}; it goes by AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or whatever else gives S3 clients their keys",
            where,
        )
    if code in _NOT_ANSWERING or status >= 500:
        _, _, details = words.rpartition("Details: ")
        return ConnectionError(
            errno.ECONNABORTED,
            f"the store cannot be reached, or is out of order ({details or code}); it was tried "
            "several times",
            where,
        )
    return OSError(errno.EIO, f"{found['operation']}: {words or code}", where)
