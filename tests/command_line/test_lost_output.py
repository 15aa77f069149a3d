"""Protects: in every command a reader that goes away, or a closed standard output, is silence and
status 0; an output that is full is a message and status 2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.commands import commands
from support.paths import DEMO, ROOT
from support.runs import run_on, small_kernel

pytestmark = pytest.mark.slow

# Ways to call each command so that it prints something.
WAYS: dict[str, tuple[str, ...]] = {
    "run": ("run", "k", "-o", "out", "--engine", "local", "-q"),
    "dedup": ("dedup", "-B", "k/vmlinux.btf", "--no-output", "k/one.btf", "-q"),
    "merge": ("merge", "k/one.btf", "-o", "merged.btf"),
    "dump": ("dump", "k/one.btf"),
    "fetch": ("fetch", "--list"),
    "find": ("find", "int", "out"),
    "explain": ("explain", "out"),
    "query": ("query", "out", "FROM types"),
    "layers": ("layers", "out", "-o", "layers"),
    "verify": ("verify", "out"),
    "diff": ("diff", "k/vmlinux.btf", "k/vmlinux.btf"),
    "report": ("report", "out", "-o", "report.html"),
    "audit": ("audit", "out"),
    "slim": ("slim", "k", "-o", "slim", "-q"),
    "history": ("history", "driver", "out"),
    "ls": ("ls", "out"),
    "check": ("check", "k/one.btf"),
    "show": ("show", "int", "k/vmlinux.btf"),
    "help": ("help", "run"),
    "completion": ("completion", "bash"),
    "--version": ("--version",),
    "--help": ("--help",),
    "find --help": ("find", "--help"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    small_kernel(folder / "k")
    run_on(folder / "k", folder / "out")
    return folder


def command(place: Path, way: str, rest: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, with redirections."""
    line = f'"$0" -m jobs.cli "$@" {rest}; echo status ${{PIPESTATUS[0]}} > status'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *WAYS[way]],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


def status(place: Path) -> str:
    return (place / "status").read_text()


def test_every_command_has_a_way() -> None:
    assert commands().keys() <= WAYS.keys()


def cases() -> Iterator[Any]:
    """Every command with every redirection. All are for test-long; before that, all of those that
    print text, bytes, and what argparse says, and one of what a run says, rows and other files."""
    for number, way in enumerate(WAYS):
        for at, rest in enumerate(("| true", ">&-", "> /dev/full")):
            alike = way not in ("dump", "find", "--help")
            alike &= way not in ("run", "merge", "query", "layers") or number % 3 != at
            yield pytest.param(way, rest, marks=pytest.mark.long if alike else ())


@pytest.mark.parametrize(("way", "rest"), list(cases()))
def test_output_that_nobody_gets(way: str, rest: str, place: Path) -> None:
    done = command(place, way, rest)
    assert done.stdout == ""
    if rest != "> /dev/full":
        assert done.stderr == "" and status(place) == "status 0\n"
        return
    assert done.stderr == (
        "splitbtf: error: cannot write standard output: No space left on device\n"
    )
    assert status(place) == "status 2\n"


@pytest.mark.parametrize("rest", ["2> /dev/full", "2>&-", "2>&1 | true", "> /dev/full 2>&1"])
def test_errors_that_nobody_reads(rest: str, place: Path) -> None:
    WAYS["no such"] = ("find", "int", "nowhere")
    try:
        done = command(place, "no such", rest)
    finally:
        del WAYS["no such"]
    assert done.stderr == "" and done.stdout == "" and status(place) == "status 2\n"


def test_a_reader_of_a_part(place: Path) -> None:
    line = f"{sys.executable} -m jobs.cli dump {DEMO / 'vmlinux.btf.zst'} | head -1"
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("[1] ") and (done.returncode, done.stderr) == (0, "")
