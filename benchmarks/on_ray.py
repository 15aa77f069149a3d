"""Sections about runs on Ray: what its driver costs, what a lost worker costs, two runs at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inputs import Input
from measure import BenchError, Sides, splitbtf
from report import Sample, Table, seconds, size, times
from whole import outputs

MANY = 1000  # modules, of which what each costs can be told
_EVERY_SECONDS = 0.01
PARTS = {
    ("run",): "the run, but for tables",
    ("tables",): "the run: tables and commit",
    ("driver",): "the process that talks to Ray",
    ("run", "driver"): "both processes, but for tables",
}


def driver(sides: Sides, source: Input) -> list[Table]:
    """CPU of the two processes that hand out the work, and bytes between them and workers."""
    tables = []
    with outputs() as folder:
        modules = _folder(folder / "modules", source)
        for sent, title in ((False, "that workers read themselves"), (True, "that are sent")):
            runs: list[Any] = []
            for _ in range(sides.repeat):
                out = tempfile.mkdtemp(dir=folder)
                base, where = str(source.base), str(modules)
                runs.append(
                    sides.probe("driver", pinned=False, base=base, folder=where, out=out, sent=sent)
                )
            tables.append(_driver_table(title, runs))
    return tables


def _driver_table(title: str, runs: Sequence[Any]) -> Table:
    count = runs[0]["modules"]
    rows: list[tuple[str, ...]] = []
    for parts, name in PARTS.items():
        start, after = (
            tuple(sum(run.get(f"{part}{when}", 0.0) for part in parts) for run in runs)
            for when in ("_start", "")
        )
        each = () if parts == ("tables",) else tuple(value / count for value in after)
        rows.append(
            (name, *(Sample(of).show(seconds) if any(of) else "" for of in (start, after, each)))
        )
    for way, name in (("to_workers", "bytes to workers"), ("back", "bytes back from them")):
        rows.append((name, "", size(runs[0][way]), size(runs[0][way] / count)))
    rows.append(("the index, once", size(runs[0]["shared"]), "", ""))
    header = ("", "start", f"{count:,} modules", "per module")
    note = (
        "CPU, user and system. Start: until the first batch is handed out: imports, Ray's start, "
        "the base; tables are mostly imports, too. 'Sent': a run whose workers see neither the "
        "files nor OUT."
    )
    return Table(f"Driver on Ray, with files {title}", header, tuple(rows), (note,))


def _folder(folder: Path, source: Input) -> Path:
    """At least so many modules in a folder, if need be some under several names."""
    folder.mkdir()
    for turn in range(-(-MANY // len(source.modules))):
        for path in source.modules:
            (folder / f"{path.stem}{f'_{turn}' if turn else ''}.btf").symlink_to(path.resolve())
    return folder


def lost_worker(sides: Sides, source: Input) -> list[Table]:
    """Runs of which a worker is killed when the first results are there, and others, in turns."""
    undisturbed: list[float] = []
    disturbed: list[float] = []
    for _ in range(sides.repeat):
        undisturbed += _runs(source, 1)
        disturbed += _runs(source, 1, _kill_a_worker)
    alone, killed = Sample(tuple(undisturbed)), Sample(tuple(disturbed))
    rows = (
        ("undisturbed", alone.show(seconds), ""),
        ("a worker killed", killed.show(seconds), times(killed.median / alone.median)),
    )
    header = ("ray, two workers", "time", "ratio")
    note = "A worker is sent SIGKILL when the first results are there. Start and end included."
    return [Table("A lost worker", header, rows, (note,))]


def at_once(sides: Sides, source: Input) -> list[Table]:
    """One run, and two at the same time, each with a Ray and an OUT of its own, in turns."""
    rows = []
    for engine in ("ray", "local"):
        alone: list[float] = []
        both: list[float] = []
        for _ in range(sides.repeat):
            alone += _runs(source, 1, engine=engine)
            both += _runs(source, 2, engine=engine)
        one, each = Sample(tuple(alone)), Sample(tuple(both))
        ratio = times(each.median / one.median)
        rows.append((engine, one.show(seconds), each.show(seconds), ratio))
    header = ("two workers each", "alone", "each of two", "ratio")
    note = "Start and end included."
    return [Table("Two runs at once", header, tuple(rows), (note,))]


Disturb = Callable[["subprocess.Popen[bytes]"], None]


def _runs(
    source: Input, count: int, disturb: Disturb | None = None, engine: str = "ray"
) -> list[float]:
    """Seconds that each of so many runs at once takes. Raises BenchError."""
    with outputs() as folder:
        began = time.perf_counter()
        ended: dict[int, float] = {}
        outs = [folder / str(number) for number in range(count)]
        runs = [_begin(source, out, engine) for out in outs]
        while len(ended) < count:
            if disturb is not None and any(outs[0].glob("cache/*/*.results")):
                disturb(runs[0])
                disturb = None
            for number, run in enumerate(runs):
                if number not in ended and run.poll() is not None:
                    ended[number] = time.perf_counter() - began
            time.sleep(_EVERY_SECONDS)
        if disturb is not None:
            raise BenchError("a run was over before it could be disturbed")
        if any(run.returncode not in (0, 1) for run in runs):
            raise BenchError(f"a run has ended with status {runs[0].returncode}")
    return list(ended.values())


def _begin(source: Input, out: Path, engine: str) -> subprocess.Popen[bytes]:
    command = splitbtf("run", source.modules[0].parent, "-B", source.base, "-o", out)
    command += ["--engine", engine, "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _kill_a_worker(run: subprocess.Popen[bytes]) -> None:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_worker = entry.read_bytes().startswith(b"ray::splitbtf:work")
            if is_worker and run.pid in _ancestors(int(entry.parent.name)):
                os.kill(int(entry.parent.name), signal.SIGKILL)
                return
        except OSError:
            continue  # it has ended
    raise BenchError("there is no worker to kill")


def _ancestors(process: int) -> list[int]:
    found: list[int] = []
    while process:
        status = Path(f"/proc/{process}/status").read_text()
        process = int(re.findall(r"^PPid:\t(\d+)", status, re.M)[0])
        found.append(process)
    return found
