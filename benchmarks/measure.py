"""Runs the two sides as processes of their own, each pinned to one core."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import ROOT, Sample

BUILD = ROOT / "build" / "bench"
SOURCES = Path(__file__).parent
PROBE = Path(__file__).with_name("probe.py")


class BenchError(Exception):
    """Something could not be measured; says why."""


@dataclass(frozen=True)
class Finished:
    """A process that has ended."""

    seconds: float
    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output; a process that reports failed inputs (status 1) has one too."""
        if self.code not in (0, 1) or not self.out:
            last = self.err.strip().splitlines()[-1:] or ["no message"]
            raise BenchError(f"status {self.code}: {last[0]}")
        return json.loads(self.out)


def run(
    command: Sequence[str],
    *,
    core: int | None = None,
    timeout: float | None = None,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
) -> Finished:
    """Run to the end, on ``core`` alone if one is given. Raises BenchError after ``timeout``."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [*pinned, *command],
            cwd=ROOT,
            env={**_environment(), **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"not finished after {timeout:.0f} s") from None
    return Finished(time.perf_counter() - began, done.returncode, done.stdout, done.stderr)


def _environment() -> dict[str, str]:
    """Without what would have Python compile its own sources again each time."""
    return {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def build_program(name: str = "peer") -> str:
    """Compile a C program of this folder where that is still to be done; the program's path."""
    source, program = SOURCES / f"{name}.c", BUILD / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return str(program)
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BenchError("no C compiler for the peer; on Debian: apt-get install gcc libbpf-dev")
    BUILD.mkdir(parents=True, exist_ok=True)
    done = run([compiler, "-O2", "-o", str(program), str(source), "-lbpf", "-lelf", "-lz"])
    if done.code:
        raise BenchError("cannot compile the peer; on Debian: apt-get install libbpf-dev")
    return str(program)


def splitbtf(*arguments: object) -> list[str]:
    """The command line as a command."""
    return [sys.executable, "-m", "jobs.cli", *map(str, arguments)]


# What is over so soon says little if it is run but a few times.
QUICK_SECONDS = 0.3
QUICK_RUNS = 5


@dataclass(frozen=True)
class Sides:
    """How both sides are run."""

    peer: str
    core: int
    repeat: int

    def peer_once(self, base: Path, files: Sequence[Path], timeout: float | None = None) -> Any:
        """The peer's line of JSON."""
        command = [self.peer, str(base), *map(str, files)]
        return run(command, core=self.core, timeout=timeout).json()

    def ours_once(self, base: Path, files: Sequence[Path]) -> Any:
        """``splitbtf dedup --no-output --json``."""
        command = splitbtf("dedup", "-B", base, "--no-output", "--json", *files)
        return run(command, core=self.core).json()

    def alternate(self, base: Path, files: Sequence[Path]) -> tuple[Any, Any, Sample, Sample]:
        """Both, in turns: the last output of each (peer, ours), and their times. Of ours there are
        ``QUICK_RUNS`` in a turn if one takes less than ``QUICK_SECONDS``."""
        peer_times, our_times = [], []
        for _ in range(self.repeat):
            peer = self.peer_once(base, files)
            peer_times.append(peer["total_s"])
            for _ in range(QUICK_RUNS):
                ours = self.ours_once(base, files)
                our_times.append(ours["work_seconds"])
                if ours["work_seconds"] >= QUICK_SECONDS:
                    break
        return peer, ours, Sample(tuple(peer_times)), Sample(tuple(our_times))

    def probe(
        self, what: str, *, pinned: bool = True, timeout: float | None = None, **arguments: Any
    ) -> Any:
        """One of the measurements in probe.py, in a process of its own."""
        command = [sys.executable, str(PROBE), what]
        core = self.core if pinned else None
        return run(command, core=core, timeout=timeout, stdin=json.dumps(arguments)).json()
