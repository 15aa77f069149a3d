"""Protects: a command whose output cannot be written whole says so and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.files.storage import LocalFolder, publish_file, publish_folder
from pipeline.model.errors import OutputError
from support.commands import splitbtf
from support.paths import DEMO, ROOT
from support.trees import files_below
from support.writers.debwriter import deb

pytestmark = pytest.mark.slow

BASE = DEMO / "vmlinux.btf.zst"
LIMIT_BYTES = 1000  # of every file that is written, as `ulimit -f` sets it


def limited(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command that may write no file beyond the limit; what it compiles is there already."""
    code = (
        "import resource, sys, btf; from jobs.cli import main; btf.warm_up(); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES})); "
        "sys.exit(main(sys.argv[1:]))"
    )
    # -B: else Python itself leaves a cut off .pyc of what it imports under the limit.
    command = [sys.executable, "-B", "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_merge(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "all.btf"
    out.parent.mkdir()
    for before in ({}, {"all.btf": b"of yesterday"}):
        for name, content in before.items():
            (out.parent / name).write_bytes(content)
        done = limited("merge", small, "-o", out)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr == f"splitbtf: error: cannot write {out}: File too large\n"
        assert files_below(out.parent) == before


def test_dedup(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = limited("dedup", "-B", BASE, "-o", out, small)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.endswith(".btf: File too large\n")
    assert f"splitbtf: error: cannot write {out}/" in done.stderr
    whole = tmp_path / "whole"
    assert splitbtf("dedup", "-B", BASE, "-o", whole, small).code == 0
    assert files_below(out).items() < files_below(whole).items(), "modules are there whole or not"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_dump(unbuffered: str, tmp_path: Path) -> None:
    command = f"ulimit -f 1; {sys.executable} -m jobs.cli dump {BASE} > {tmp_path / 'out'}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == "splitbtf: error: cannot write standard output: File too large\n"


def test_unpacking(tmp_path: Path) -> None:
    """A file that does not fit is no shorter file."""
    (tmp_path / "x.deb").write_bytes(deb({"vmlinux-1.0": b"x" * (LIMIT_BYTES + 1)}))
    done = limited("dump", tmp_path / "x.deb")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.endswith("/file-0: File too large\n"), done.stderr


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with publish_folder(str(folder)) as fresh:
        fresh.write("file", b"first")
    with (
        pytest.raises(OutputError, match=r"cannot write .*folder"),
        publish_folder(str(folder)) as fresh,
    ):
        fresh.write("file", b"second")
        fresh.write("none/file", b"second")
    with pytest.raises(KeyError), publish_folder(str(folder)):
        raise KeyError
    assert files_below(tmp_path) == {"folder/file": b"first"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    (tmp_path / ".folder.tmp").mkdir()
    (tmp_path / ".folder.tmp" / "killed").write_bytes(b"")
    with publish_folder(str(folder)) as fresh:
        fresh.write("other", b"third")
    assert files_below(tmp_path) == {"folder/other": b"third"}


def test_a_failed_upload_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.replace", _other_device)
    (tmp_path / "source").write_bytes(b"content")
    with pytest.raises(OSError, match="target") as caught:
        LocalFolder(str(tmp_path)).upload(str(tmp_path / "source"), "target")
    assert caught.value.filename == f"{tmp_path}/target"
    assert files_below(tmp_path) == {"source": b"content"}


def _other_device(source: str, target: str, **_: object) -> None:
    raise OSError(18, "Invalid cross-device link", source)


@pytest.mark.parametrize("workers", [1, 2])
def test_run(workers: int, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = limited("run", small, "-o", out, "--engine", "local", "--workers", workers)
    assert done.returncode == 2, done.stderr
    assert "cannot hand data to the workers: File too large" in done.stderr
    assert files_below(out).keys() == {".lock"}


def test_layers(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert splitbtf("run", small, "-o", out, "--engine", "local").code == 0
    done = limited("layers", out, "-o", tmp_path / "layers")
    assert done.returncode == 2 and done.stderr.endswith(".btf: File too large\n"), done.stderr
    assert files_below(tmp_path / "layers") == {}


@pytest.mark.parametrize("method", ["write", "publish"])
def test_a_file_that_does_not_fit_is_not_there(method: str, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pipeline.files.storage import LocalFolder; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES})); "
        f"LocalFolder(sys.argv[1]).{method}('file', bytes({LIMIT_BYTES + 1}))"
    )
    command = [sys.executable, "-B", "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.endswith(f"OSError: [Errno 27] File too large: '{tmp_path}/file'\n")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """As a device would: to replace /dev/null with a file would harm the whole machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    publish_file(str(pipe), b"content")
    assert os.read(reader, 100) == b"content" and pipe.is_fifo()
    os.close(reader)
    (tmp_path / "file").write_bytes(b"before")
    (tmp_path / "link").symlink_to("file")
    publish_file(str(tmp_path / "link"), b"other")
    assert not (tmp_path / "link").is_symlink()
    assert files_below(tmp_path) == {"file": b"before", "link": b"other"}
