"""The memory of each worker of a run, looked at from outside while it runs."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import ROOT, BenchError

_EVERY_SECONDS = 0.01
_PARENT = re.compile(r"^PPid:\s+(\d+)$", re.M)
_PRIVATE = re.compile(r"^RssAnon:\s+(\d+) kB$", re.M)
_HIGHEST = re.compile(r"^VmHWM:\s+(\d+) kB$", re.M)


@dataclass
class Worker:
    """One worker process. ``private`` is memory of no file and shared with nobody, in bytes: when
    it was first seen, and at most; ``resident`` is all, index and libraries too, at most."""

    first_private: int
    private: int
    resident: int


def watch(command: Sequence[str], engine: str) -> list[Worker]:
    """Run a command that has workers of that engine, to its end; the workers that did the work.
    Raises BenchError."""
    found: dict[int, Worker] = {}
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            for number, status in _statuses():
                if engine == "ray":
                    is_worker = number in found or _command(number).startswith("ray::work")
                else:
                    is_worker = _kilobytes(_PARENT, status) == process.pid
                if is_worker:
                    private = _kilobytes(_PRIVATE, status) << 10
                    worker = found.setdefault(number, Worker(private, 0, 0))
                    worker.private = max(worker.private, private)
                    worker.resident = max(worker.resident, _kilobytes(_HIGHEST, status) << 10)
            time.sleep(_EVERY_SECONDS)
    if process.returncode not in (0, 1):
        raise BenchError(f"status {process.returncode} of {' '.join(command)}")
    return list(found.values())


def _statuses() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "status").read_text()
            except OSError:
                continue  # it has ended


def _command(number: int) -> str:
    try:
        return Path("/proc", str(number), "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _kilobytes(wanted: re.Pattern[str], status: str) -> int:
    found = wanted.search(status)
    return int(found[1]) if found is not None else 0
