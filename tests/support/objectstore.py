"""An S3 server on the loopback address, moto's, that can be told to answer wrongly."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ERRORS = {
    500: ("500 Internal Server Error", "InternalError"),
    503: ("503 Service Unavailable", "SlowDown"),
    403: ("403 Forbidden", "AccessDenied"),
}


@dataclass
class Fault:
    """Requests with this method and path go wrong, but for the first ones, and then so many.

    ``what`` is an HTTP status, or "drop": the connection ends in the middle of the request.
    ``hit`` says whether any has gone wrong.
    """

    method: str
    path: re.Pattern[str]
    what: int | str
    after: int
    times: int
    hit: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hits(self, method: str, path: str) -> bool:
        if method != self.method or not self.path.search(path):
            return False
        with self.lock:
            self.after -= 1
            if self.after >= 0 or self.times <= 0:
                return False
            self.times -= 1
            self.hit = True
            return True


@dataclass
class ObjectStore:
    """A running server. ``requests`` are all it got: method and path."""

    endpoint: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    _faults: list[Fault] = field(default_factory=list)
    _buckets: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",  # else it is asked for, outside
        }

    def with_keys(self, uri: str) -> str:
        """A URI that says by itself how to reach the server."""
        host = self.endpoint.removeprefix("http://")
        query = f"region=us-east-1&scheme=http&endpoint_override={host}"
        return f"{uri.replace('s3://', 's3://test:test@')}?{query}"

    def bucket(self) -> str:
        """A new bucket; returns its URI."""
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        self.fs.create_dir(name)
        return f"s3://{name}"

    @property
    def fs(self) -> Any:
        """A file system of pyarrow to look into it with."""
        from pyarrow.fs import S3FileSystem

        return S3FileSystem(
            access_key="test",
            secret_key="test",
            endpoint_override=self.endpoint,
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def upload(self, folder: Path, uri: str) -> str:
        """Put all files of a folder below a URI; returns that."""
        root = uri.removeprefix("s3://")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.write(f"{root}/{path.relative_to(folder)}", path.read_bytes())
        return uri

    def write(self, path: str, content: bytes) -> None:
        """Put an object into a bucket."""
        with self.fs.open_output_stream(path, None) as stream:
            stream.write(content)

    def files(self, uri: str) -> dict[str, bytes]:
        """All files below a URI, by their path relative to it."""
        from pyarrow.fs import FileSelector, FileType

        fs, root, found = self.fs, uri.removeprefix("s3://"), {}
        selector = FileSelector(root, recursive=True, allow_not_found=True)
        for info in fs.get_file_info(selector):
            if info.type == FileType.File:
                with fs.open_input_stream(info.path, None) as stream:
                    found[info.path[len(root) + 1 :]] = stream.read()
        return found

    @contextmanager
    def fault(
        self, method: str, path: str, what: int | str, *, after: int = 0, times: int = 1 << 30
    ) -> Iterator[Fault]:
        """Have requests go wrong while the block runs."""
        fault = Fault(method, re.compile(path), what, after, times)
        self._faults.append(fault)
        try:
            yield fault
        finally:
            self._faults.remove(fault)

    def answer(
        self, app: Any, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """A WSGI application around another one."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        for fault in list(self._faults):
            if fault.hits(method, path):
                return _wrong(fault.what, environ, start_response)
        answered: Iterable[bytes] = app(environ, start_response)
        return answered


def _wrong(
    what: int | str, environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    if what == "drop":
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError
    assert isinstance(what, int)
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    status, code = _ERRORS[what]
    content = f"<Error><Code>{code}</Code><Message>told to fail</Message></Error>".encode()
    if environ["REQUEST_METHOD"] == "HEAD":
        content = b""
    headers = [("Content-Type", "text/xml"), ("Content-Length", str(len(content)))]
    start_response(status, headers)
    return [content]


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A server, while the block runs."""
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept and used again, as the real ones are

        def log(self, *_: Any) -> None:
            pass

    app = DomainDispatcherApplication(create_backend_app)
    store = ObjectStore()
    server = make_server(
        "127.0.0.1", 0, lambda *given: store.answer(app, *given), True, request_handler=Quiet
    )
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.daemon = True
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()


def results_in(store: ObjectStore, uri: str) -> dict[str, bytes]:
    return {
        path: data
        for path, data in store.files(uri).items()
        if path.startswith(("versions/", "tables/")) and "/runs/" not in f"/{path}"
    }
