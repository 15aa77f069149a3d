"""Protects: what a killed process has left for a while is removed by the next one, and nothing else
is: neither what somebody holds, nor what is another's, nor where a link leads."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.files import scratch
from pipeline.files.scratch import ScratchFolder, remove_abandoned
from support.paths import ROOT


def left_by_a_killed_process(parent: Path) -> Path:
    """One that had written something."""
    code = (
        "import os, signal, sys; from pathlib import Path; "
        "from pipeline.files.scratch import ScratchFolder; "
        "folder = ScratchFolder(sys.argv[1]); Path(folder.path, 'file').touch(); "
        "Path(folder.path, 'below').mkdir(); print(folder.path, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code, str(parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return Path(done.stdout.strip())


def test_it_is_private_and_goes(tmp_path: Path) -> None:
    with ScratchFolder(str(tmp_path)) as folder:
        assert os.stat(folder.path).st_mode & 0o777 == 0o700
        Path(folder.path, "file").touch()
    assert not list(tmp_path.iterdir())


def test_the_next_one_removes_what_was_left(tmp_path: Path) -> None:
    left = left_by_a_killed_process(tmp_path)
    assert left.is_dir()
    with ScratchFolder(str(tmp_path)) as folder:
        assert [str(path) for path in tmp_path.iterdir()] == [folder.path]


def test_what_somebody_holds_stays(tmp_path: Path) -> None:
    with ScratchFolder(str(tmp_path)) as first, ScratchFolder(str(tmp_path)) as second:
        remove_abandoned(str(tmp_path))
        assert {str(path) for path in tmp_path.iterdir()} == {first.path, second.path}


def test_what_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"splitbtf-wide.tmp", "splitbtf-file.tmp", "splitbtf-link.tmp", "splitbtf-x", "other"}
    (tmp_path / "splitbtf-wide.tmp").mkdir(mode=0o755)
    (tmp_path / "splitbtf-file.tmp").touch(mode=0o700)
    (tmp_path / "splitbtf-x").mkdir(mode=0o700)
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "splitbtf-link.tmp").symlink_to(tmp_path / "other")
    remove_abandoned(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == names
    left = left_by_a_killed_process(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_abandoned(str(tmp_path))
    assert left.is_dir(), "it is another user's"


def test_links_in_it_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "here").mkdir()
    left = left_by_a_killed_process(tmp_path / "here")
    (left / "link").symlink_to(tmp_path / "elsewhere")
    remove_abandoned(str(tmp_path / "here"))
    assert not left.exists() and (tmp_path / "elsewhere" / "file").exists()


def test_one_that_is_removed_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process that takes it for abandoned; then there is another one."""
    made: list[str] = []
    original = scratch._lock

    def lock(folder: str) -> int | None:
        made.append(folder)
        if len(made) == 1:
            os.rmdir(folder)
        if len(made) == 2:  # the other is about to remove it
            fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
        return original(folder)

    monkeypatch.setattr(scratch, "_lock", lock)
    with ScratchFolder(str(tmp_path)) as folder:
        assert folder.path == made[2]
