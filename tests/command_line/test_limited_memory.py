"""Protects: with limited memory (``ulimit -v``) a command ends with a message, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import under
from support.paths import ROOT

pytestmark = pytest.mark.slow

LIMIT = "-v 4194304"  # KiB
JOBS = [sys.executable, "-m", "jobs"]
COMMAND = (
    "import os, signal, sys, time\nfrom jobs import cli\n"
    "cli._run = lambda _: {}\nsys.exit(cli.main())"
)
# Until a signal comes, which may do so before or between any two of these.
WAIT = "any(time.sleep(0.01) for _ in iter(int, 1))"


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("3", 3, ""),
        ("os.abort()", 2, "out of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 2, "out of memory"),
        ("os._exit(127)", 2, "out of memory"),
        ("bytes(1 << 40)", 2, "out of memory"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        (f"os.kill(os.getppid(), signal.SIGTERM) or {WAIT}", 143, "ended by SIGTERM"),
        (f"os.kill(os.getppid(), signal.SIGINT) or {WAIT}", 130, "interrupted"),
    ],
)
def test_however_it_ends(what: str, code: int, said: str) -> None:
    done = subprocess.run(
        under(LIMIT, command=[sys.executable, "-c", COMMAND.format(what)]),
        cwd=ROOT, capture_output=True, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == code and said in done.stderr, done.stderr
    assert bool(said) == bool(done.stderr)


def test_ray_needs_more(tmp_path: Path) -> None:
    done = subprocess.run(
        under("-v 2097152", command=[*JOBS, "run", "datasets/demo-s390x", "-o", tmp_path / "out"]),
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert "Ray needs 3 GiB of address space, and `ulimit -v` allows 2048 MiB" in done.stderr


def test_charts_need_all_addresses(tmp_path: Path) -> None:
    done = subprocess.run(
        under(LIMIT, command=[*JOBS, "report", tmp_path, "-o", tmp_path / "report.html"]),
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert "ulimit -v unlimited" in done.stderr and len(done.stderr.splitlines()) == 1
