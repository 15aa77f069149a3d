"""An S3 server of our own on the loopback address (moto's), which can be told to fail."""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",  # else it is asked for, outside
}


@dataclass
class ObjectStore:
    """A running server. ``requests`` are all it got: method and path."""

    endpoint: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    _failing: list[tuple[str, re.Pattern[str], list[int]]] = field(default_factory=list)

    def bucket(self) -> str:
        """A new bucket; returns its URI."""
        from pyarrow.fs import FileSystem

        name = f"bucket-{secrets.token_hex(4)}"
        uri = f"s3://{name}{self.query}"
        FileSystem.from_uri(f"{uri}&allow_bucket_creation=true")[0].create_dir(name)
        return f"s3://{name}"

    @property
    def query(self) -> str:
        """What has to follow a URI of this server."""
        return f"?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    @contextmanager
    def fails(self, method: str, path: str, times: int = 1 << 30) -> Iterator[None]:
        """Answer requests with an error of the server's, while the block runs."""
        entry = (method, re.compile(path), [times])
        self._failing.append(entry)
        try:
            yield
        finally:
            self._failing.remove(entry)

    def answer(
        self, app: Any, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """A WSGI application around another one."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        for wanted, pattern, left in self._failing:
            if method == wanted and pattern.search(path) and left[0] > 0:
                left[0] -= 1
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response("500 Internal Server Error", [("Content-Type", "text/xml")])
                return [b"<Error><Code>InternalError</Code><Message>told to fail</Message></Error>"]
        answered: Iterable[bytes] = app(environ, start_response)
        return answered


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """A server, while the block runs."""
    os.environ.update(ENVIRONMENT)
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            pass

    app = DomainDispatcherApplication(create_backend_app)
    store = ObjectStore("")
    server = make_server(
        "127.0.0.1",
        0,
        lambda *given: store.answer(app, *given),
        threaded=True,
        request_handler=Quiet,
    )
    store.endpoint = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()


def upload(folder: Path, uri: str, query: str) -> None:
    """Put all files of a folder below a URI."""
    from pyarrow.fs import FileSystem

    fs, root = FileSystem.from_uri(f"{uri}{query}")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with fs.open_output_stream(f"{root}/{path.relative_to(folder)}") as stream:
                stream.write(path.read_bytes())


def download(uri: str, query: str) -> dict[str, bytes]:
    """All files below a URI, by their path relative to it."""
    from pyarrow.fs import FileSelector, FileSystem, FileType

    fs, root = FileSystem.from_uri(f"{uri}{query}")
    found = {}
    for info in fs.get_file_info(FileSelector(root, recursive=True)):
        if info.type == FileType.File:
            with fs.open_input_stream(info.path) as stream:
                found[info.path[len(root) + 1 :]] = stream.read()
    return found
