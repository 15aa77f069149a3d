"""The memory of each worker of a run, looked at from outside while it runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import ROOT, BenchError
from status import in_status

_EVERY_SECONDS = 0.01


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
            statuses = dict(_statuses())
            # Local workers are children of the process that forks them, which is the run's.
            parents = {number for number, status in statuses.items()
                       if in_status("PPid", status) == process.pid}  # fmt: skip
            for number, status in statuses.items():
                if engine == "ray":
                    is_worker = number in found or _command(number).startswith("ray::splitbtf:work")
                else:
                    is_worker = in_status("PPid", status) in parents
                if is_worker:
                    private = in_status("RssAnon", status)
                    worker = found.setdefault(number, Worker(private, 0, 0))
                    worker.private = max(worker.private, private)
                    worker.resident = max(worker.resident, in_status("VmHWM", status))
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
