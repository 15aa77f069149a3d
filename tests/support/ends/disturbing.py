"""Runs that are disturbed: processes that go wrong, or are killed from outside."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.model.engine import Batch, Call, Item, Result
from pipeline.store.output import read_table
from support.commands import take_all_signals, wait_for
from support.paths import DEMO, ROOT, TESTS

FAULTY = TESTS / "support" / "faulty"
LOCAL = ("--engine", "local", "--workers", 2)
ENGINES: dict[str, tuple[object, ...]] = {
    "local, 1 worker": ("--engine", "local", "--workers", 1),
    "local": LOCAL,
    "ray": ("--engine", "ray", "--workers", 2),
}
# Enough for several batches; two of them are to make trouble.
MODULES = tuple(
    path.name.removesuffix(".btf.zst")
    for path in sorted((DEMO / "modules").iterdir())
    if path.stat().st_size < 36_000
)


def faults(**what: Any) -> dict[str, str]:
    """The environment in which they happen."""
    return {"PYTHONPATH": f"{FAULTY}{os.pathsep}{ROOT}", "SPLITBTF_FAULTS": json.dumps(what)}


def start(
    *arguments: object,
    env: Mapping[str, str],
    said: Path | None = None,
    command: Sequence[object] = (sys.executable, "-m", "jobs.cli"),
) -> subprocess.Popen[bytes]:
    """Begin a command, the leader of a group of processes; ``said`` gets its standard error."""
    whole = list(map(str, (*command, *arguments)))
    take_all_signals()
    with Path(said or os.devnull).open("w") as stderr:
        return subprocess.Popen(
            whole, cwd=ROOT, env={**os.environ, **env}, stderr=stderr,
            stdout=subprocess.DEVNULL, process_group=0,
        )  # fmt: skip


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    def seen() -> bool:
        if condition():
            return True
        assert process.poll() is None, "it ended before it could be disturbed"
        return False

    wait_for(seen, "what was to be disturbed")


def last_run(out: str | Path, kernel: str) -> dict[str, Any]:
    rows = [row for row in read_table(out, "runs").to_pylist() if row["kernel"] == kernel]
    return max(rows, key=lambda row: row["started_at"])


def wait_for_lock(out: Path) -> None:
    """Until none of the processes of a run that was killed holds an output folder any more: they
    die at once, and not before the next line of a test."""

    def is_free() -> bool:
        with (out / ".lock").open("rb") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    if (out / ".lock").exists():
        wait_for(is_free, f"the end of all that writes to {out}")


def descendants(process: int) -> set[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(entry.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found, todo = set(), [process]
    while todo:
        below = children.get(todo.pop(), [])
        found.update(below)
        todo += below
    return found


def working(process: int) -> list[int]:
    """Workers of a run that are at work: their names say so; for local ones, that they exist."""
    return named(process, "splitbtf:work")


def named(process: int, *names: str) -> list[int]:
    """The processes below one that have one of these in their names."""
    found = []
    for below in descendants(process):
        with contextlib.suppress(OSError):
            of = Path(f"/proc/{below}")
            name = of.joinpath("comm").read_bytes() + of.joinpath("cmdline").read_bytes()
            if any(wanted.encode() in name for wanted in names):
                found.append(below)
    return found


def names_of(item: Item) -> list[str]:
    assert isinstance(item, Batch)
    return [module.name for module in item.modules]


def kills_itself(item: Item, shared: Any, options: Any) -> Result:
    if isinstance(item, Call):
        return Result(item.function(shared, item.argument), 0.0, os.getpid())
    for name in names_of(item):
        if name == "m0005":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "m0006":
            os._exit(3)
    return Result(names_of(item), 0.0, os.getpid())
