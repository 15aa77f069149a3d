"""Protects: modules without BTF get it from debuginfod servers by build id; whatever a server does
costs that module only, with an error that says what it was."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest

from btf.files.decompress import MAX_DECOMPRESSED_BYTES
from pipeline.files.storage import LocalFolder
from pipeline.model.options import Debuginfod
from pipeline.sources import debuginfod
from pipeline.sources.debuginfod import NotFoundError, find_debug_info, settings_of
from pipeline.store.output import read_table
from support.commands import PATIENCE, splitbtf, wait_for
from support.writers.elfwriter import elf, modinfo

ID, OTHER = b"\xab\xcd\xef" * 5, b"\x12\x34" * 8


def note(build_id: bytes) -> bytes:
    return struct.pack("<III4s", 4, len(build_id), 3, b"GNU") + build_id


def stripped(build_id: bytes = ID) -> bytes:
    info = modinfo(name="m", vermagic="6.1.0-50-cloud-amd64 SMP")
    return elf({".modinfo": info, ".note.gnu.build-id": note(build_id)})


def served(btf: bytes, build_id: bytes = ID) -> bytes:
    return elf({".BTF": btf, ".note.gnu.build-id": note(build_id)})


class Server:
    """Answers GET with what a test says for a path: a file, a status, or a function."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                answer = server.answers.get(self.path, 404)
                if callable(answer):
                    answer(self)
                elif isinstance(answer, int):
                    self.send_error(answer)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(debuginfod, "_off", {})
    monkeypatch.setenv("no_proxy", "127.0.0.1,name.invalid")
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    return tmp_path / "cache"


def path_of(build_id: bytes = ID) -> str:
    return f"/buildid/{build_id.hex()}/debuginfo"


def told(*urls: str, seconds: float = PATIENCE, **more: Any) -> str:
    """What is said where no server gives the file."""
    settings = Debuginfod(
        urls, **{"seconds": PATIENCE, "max_seconds": None, "max_bytes": 1 << 20, **more}
    )
    with pytest.raises(NotFoundError) as caught:
        find_debug_info(ID.hex(), settings, seconds)
    return str(caught.value)


def test_what_the_environment_says() -> None:
    assert settings_of({}) is settings_of({"DEBUGINFOD_URLS": " "}) is None
    words = {"DEBUGINFOD_URLS": "ima:enforcing https://one/ ima:ignore http://two:8002/x"}
    most = MAX_DECOMPRESSED_BYTES
    assert settings_of(words) == Debuginfod(("https://one", "http://two:8002/x"), 90, None, most)
    more = {"DEBUGINFOD_TIMEOUT": "7", "DEBUGINFOD_MAXTIME": "9", "DEBUGINFOD_MAXSIZE": "1000"}
    assert settings_of(words | more) == Debuginfod(("https://one", "http://two:8002/x"), 7, 9, 1000)
    junk = {
        "DEBUGINFOD_TIMEOUT": "-1",
        "DEBUGINFOD_MAXTIME": "soon",
        "DEBUGINFOD_MAXSIZE": "9" * 99,
    }
    assert settings_of(words | junk) == settings_of(words)


def test_by_build_id(server: Server, own_cache: Path) -> None:
    first = Server()
    content = served(b"btf")
    server.answers[path_of()] = content
    settings = Debuginfod((first.url, server.url), PATIENCE, None, 1 << 20)
    assert find_debug_info(ID.hex(), settings, PATIENCE) == (server.url + path_of(), content)
    assert first.asked == server.asked == [path_of()]
    kept = own_cache / ID.hex() / "debuginfo"
    assert find_debug_info(ID.hex(), settings, PATIENCE) == (str(kept), content)
    assert server.asked == [path_of()], "it is kept"
    for other in (b"", b"junk", served(b"btf", OTHER)):  # and used only if it is what it should be
        kept.write_bytes(other)
        assert find_debug_info(ID.hex(), settings, PATIENCE)[1] == content
    kept.unlink()
    os.mkfifo(kept)
    assert find_debug_info(ID.hex(), settings, PATIENCE)[1] == content
    assert kept.is_file() and kept.read_bytes() == content
    first.close()


def test_a_cache_that_cannot_be_written(
    server: Server, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.write_bytes(b"no folder")
    server.answers[path_of()] = served(b"btf")
    settings = Debuginfod((server.url,), PATIENCE, None, 1 << 20)
    assert find_debug_info(ID.hex(), settings, PATIENCE)[1] == served(b"btf")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (404, "does not have it"),
        (410, "answered 410 Gone"),
        (503, "answered 503 Service Unavailable"),
        (b"<html>please log in</html>", "gave no ELF file"),
        (b"\x7fELF junk", "gave a file that cannot be used: .*damaged ELF file"),
        (served(b"btf", OTHER), f"gave a file of another build id, {OTHER.hex()}"),
        (elf({".BTF": b"btf"}), "gave a file of another build id, none"),
        (served(bytes(2 << 20)), "has one of more than 1 MiB"),
    ],
)
def test_what_servers_say(answer: Any, words: str, server: Server, own_cache: Path) -> None:
    server.answers[path_of()] = answer
    assert re.fullmatch(f"{server.url} {words}.*", told(server.url))
    assert not own_cache.exists()


def raw(*parts: bytes, forever: bytes = b"") -> Callable[[Any], None]:
    """An answer as it goes over the wire; then ``forever``, again and again."""

    def answer(handler: Any) -> None:
        for part in parts:
            handler.wfile.write(part)
        try:
            while forever:
                handler.wfile.write(forever)
        except OSError:
            pass
        handler.close_connection = True

    return answer


def test_answers_that_are_none(server: Server) -> None:
    ok = b"HTTP/1.1 200 OK\r\n"
    for answer, words in (
        (raw(b"hello\r\n\r\n"), "does not answer"),
        (raw(), "does not answer"),
        (raw(ok, b"Content-Length: 99\r\n\r\n", b"\x7fELF"), "gave only 4 of 99 bytes"),
        (raw(ok, b"Content-Length: 99999999999999\r\n\r\n"), "more than 1 MiB"),
        (raw(ok, b"Content-Length: 1" + b"0" * 5000 + b"\r\n\r\n"), "gave no ELF file"),
        (raw(ok, b"\r\n", forever=b"\x7fELF" * 5000), "more than 1 MiB"),
        (raw(ok, b"Content-Encoding: gzip\r\n\r\n"), "encoding that was not asked for"),
        (raw(ok, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "does not answer"),
        (raw(ok, forever=b"X: y\r\n"), "does not answer: got more than 100 headers"),
        (raw(ok, forever=b"X" * 999), "does not answer: got more than 65536 bytes"),
        (raw(b"HTTP/1.1 302 Found\r\nLocation: " + path_of().encode() + b"\r\n\r\n"), "302"),
        (raw(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n"), "302"),
    ):
        debuginfod._off.clear()
        server.answers[path_of()] = answer
        assert words in told(server.url), words


def test_slow_servers(server: Server) -> None:
    """Each byte in time, and never an end; headers that never end; nothing at all."""

    def slowly(head: bytes, piece: bytes) -> Callable[[Any], None]:
        def answer(handler: Any) -> None:
            handler.wfile.write(head)
            while not server.over.wait(0.01):
                try:
                    handler.wfile.write(piece)
                except OSError:
                    return

        return answer

    ok = b"HTTP/1.1 200 OK\r\n"
    for answer, limits in (
        (slowly(ok + b"\r\n", b"x"), {"seconds": PATIENCE, "max_seconds": 0.2}),
        (slowly(ok, b"X"), {"seconds": PATIENCE, "max_seconds": 0.2}),
        (slowly(b"", b""), {"seconds": 0.2}),
    ):
        debuginfod._off.clear()
        server.answers[path_of()] = answer
        timeout = limits.pop("seconds")
        settings = Debuginfod((server.url,), timeout, limits.get("max_seconds"), 1 << 20)
        with pytest.raises(NotFoundError, match="is too slow"):
            find_debug_info(ID.hex(), settings, PATIENCE)
    debuginfod._off.clear()
    server.answers[path_of()] = slowly(ok + b"\r\n", b"x")
    settings = Debuginfod((server.url,), 0.2, None, 1 << 20)
    with pytest.raises(NotFoundError, match=r"is too slow: \d+ bytes in"):
        find_debug_info(ID.hex(), settings, PATIENCE)


def test_servers_that_are_not_there(server: Server) -> None:
    gone = Server()
    gone.close()
    words = told(gone.url, "http://user:secret@name.invalid", "ftp://x", "nonsense", server.url)
    assert words.startswith(f"{gone.url} does not answer: Connection refused; ")
    assert "secret" not in words and "http://name.invalid does not answer" in words
    assert "ftp://x is not asked: only http and https are known" in words
    assert "nonsense is not asked" in words and words.endswith(f"{server.url} does not have it")
    server.answers[path_of()] = 503
    told(server.url)
    asked = len(server.asked)
    assert f"{server.url} was not asked again: answered 503" in told(server.url)
    assert len(server.asked) == asked


def test_a_server_with_a_password(server: Server) -> None:
    def answer(handler: Any) -> None:
        said = handler.headers["Authorization"], handler.headers["Host"]
        assert said == ("Basic bWU6cEBzcw==", server.url.removeprefix("http://"))
        handler.send_error(410)

    server.answers[path_of()] = answer
    assert told(server.url.replace("//", "//me:p%40ss@")) == f"{server.url} answered 410 Gone"


def test_a_password_is_for_the_server_alone(server: Server) -> None:
    seen: list[str | None] = []

    def send_elsewhere(handler: Any) -> None:
        seen.append(handler.headers["Authorization"])
        handler.send_response(302)
        handler.send_header("Location", f"{server.url}/elsewhere")
        handler.end_headers()

    def elsewhere(handler: Any) -> None:
        seen.append(handler.headers["Authorization"])
        handler.send_error(404)

    server.answers |= {path_of(): send_elsewhere, "/elsewhere": elsewhere}
    assert "does not have it" in told(server.url.replace("//", "//me:secret@"))
    assert seen == ["Basic bWU6c2VjcmV0", None]


def test_no_redirection_from_https_to_http() -> None:
    follow = debuginfod._redirects().redirect_request
    for asked, target, followed in (
        ("https://a/x", "http://a/x", False),
        ("https://a/x", "https://b/x", True),
        ("http://a/x", "https://b/x", True),
        ("http://a/x", "http://b/x", True),
    ):
        made = follow(Request(asked), None, 302, "Found", {}, target)
        assert (made is not None) == followed, asked


# ------------------------------------------------------------------ kernels


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    return {row["module"]: row for row in read_table(str(out), "modules").to_pylist()}


@pytest.mark.slow
def test_modules_get_it(
    server: Server,
    tmp_path: Path,
    demo_btf: Callable[[str], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "k"
    root.mkdir()
    (root / "vmlinux.btf").write_bytes(demo_btf("act_bpf"))  # small
    (root / "has.ko").write_bytes(stripped())
    (root / "lacks.ko").write_bytes(stripped(OTHER))
    (root / "nameless.ko").write_bytes(elf({".modinfo": modinfo(name="nameless")}))
    server.answers[path_of()] = served(demo_btf("hid-elecom"))
    arguments = ("run", root, "-o", tmp_path / "out", "--engine", "local", "--workers", 1)
    done = splitbtf(*arguments)
    assert done.code == 1
    assert {name for name, row in rows_of(tmp_path / "out").items() if row["error"]} == {
        "has", "lacks", "nameless",
    }  # fmt: skip

    monkeypatch.setenv("DEBUGINFOD_URLS", server.url)
    done = splitbtf(*arguments)
    assert done.code == 1, done.err
    rows = rows_of(tmp_path / "out")
    assert rows["has"]["form"] == "standalone" and rows["has"]["types_out"] > 0
    assert rows["lacks"]["error_kind"] == rows["nameless"]["error_kind"] == "no_btf"
    assert f"debuginfod: {server.url} does not have it" in rows["lacks"]["error"]
    assert "debuginfod" not in rows["nameless"]["error"]
    assert sorted(server.asked) == sorted([path_of(), path_of(OTHER)])

    server.answers[path_of(OTHER)] = served(demo_btf("hid-elecom"), OTHER)
    done = splitbtf(*arguments)  # by now it has it
    assert rows_of(tmp_path / "out")["lacks"]["error"] is None
    assert server.asked.count(path_of()) == 1


SOURCE = (
    "struct mine { struct mine *next; long value; }; long f(struct mine *m) { return m->value; }\n"
)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(shutil.which, ("debuginfod", "gcc", "objcopy", "pahole"))),
    reason="debuginfod, gcc, objcopy or pahole is not installed",
)
def test_the_server_of_elfutils(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    demo_btf: Callable[[str], bytes],
) -> None:
    """A module whose DWARF only the server has."""
    (tmp_path / "m.c").write_text(SOURCE)
    folder = tmp_path / "debug"
    folder.mkdir()
    for command in (
        ["gcc", "-g", "-c", "m.c", "-o", "m.o"],
        ["ld", "-r", "--build-id", "m.o", "-o", "debug/m.ko"],
        ["objcopy", "--strip-debug", "debug/m.ko", "m.ko"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    root = tmp_path / "k"
    root.mkdir()
    (root / "vmlinux.btf").write_bytes(demo_btf("act_bpf"))
    (tmp_path / "m.ko").rename(root / "m.ko")
    server.close()  # its port is free now
    port = server.url.rpartition(":")[2]
    command = ["debuginfod", "-F", "-d", ":memory:", "-p", port, "-v", str(folder)]
    log = tmp_path / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        wait_for(lambda: b"groomed" in log.read_bytes(), "the server has looked through its folder")
        monkeypatch.setenv("DEBUGINFOD_URLS", server.url)
        done = splitbtf("run", root, "-o", tmp_path / "out", "--engine", "local", "--workers", 1)
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert done.code == 0, done.err
    row = rows_of(tmp_path / "out")["m"]
    assert row["form"] == "dwarf" and row["encoder"].startswith("pahole ")
    found = LocalFolder(str(tmp_path / "cache")).sizes("")
    assert list(found) == [f"{row['build_id']}/debuginfo"]


@pytest.mark.slow
def test_a_vmlinux_without_btf(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    demo_btf: Callable[[str], bytes],
) -> None:
    """It is had by its build id, and what a server has instead of it is said."""
    root = tmp_path / "k"
    root.mkdir()
    (root / "vmlinux-6.1.0").write_bytes(elf({".note.gnu.build-id": note(ID)}))
    (root / "m.btf").write_bytes(demo_btf("act_bpf"))
    command = "run", root, "-o", tmp_path / "out", "--engine", "local", "--workers", 1
    monkeypatch.setenv("DEBUGINFOD_URLS", server.url)
    for answer, reason in (
        (404, "does not have it"),
        (503, "answered 503"),
        (served(demo_btf("act_bpf"), OTHER), f"of another build id, {OTHER.hex()}"),
        (served(b"none"), "debuginfod: cannot use the base: "),
    ):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        server.answers[path_of()] = answer
        done = splitbtf(*command)
        assert done.code == 2 and reason in done.err, done.err
    shutil.rmtree(tmp_path / "cache")
    server.answers[path_of()] = served(demo_btf("act_bpf"))
    done = splitbtf(*command)
    assert done.code == 0, done.err
    assert "has no BTF: asking debuginfod servers" in done.err
    assert (tmp_path / "out/btf/kernel=6.1.0/m.btf").exists()
