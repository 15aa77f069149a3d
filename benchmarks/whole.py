"""Sections about ``splitbtf run``: one worker against two, the whole job, and what tables cost."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from inputs import Input
from measure import BUILD, Sides, run, splitbtf
from pipeline.model.stages import OF_WORKERS
from report import Sample, Table, seconds, times

REPORTED = (1, 2, 5)  # kernels


@contextlib.contextmanager
def outputs() -> Iterator[Path]:
    """A folder for outputs, which goes in the end, not between runs: a file system takes longer to
    make files just after as many were removed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="out-", dir=BUILD)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(source: Input, engine: str, count: int, folder: Path) -> tuple[float, Any]:
    """A whole run into an empty folder: wall-clock seconds and the summary."""
    out = tempfile.mkdtemp(dir=folder)
    command = splitbtf("run", source.modules[0].parent, "-B", source.base, "-o", out, "--json")
    finished = run([*command, "--engine", engine, "--workers", str(count)])
    facts = finished.json()
    facts["busy_seconds"] = _busy_seconds(out)
    facts["after_seconds"] = facts["total_seconds"] - facts["start_seconds"] - facts["work_seconds"]
    return finished.seconds, facts


def _busy_seconds(out: str) -> float:
    """Of all workers together, from the table ``runs``."""
    import pyarrow.parquet as parquet

    (file,) = Path(out, "tables", "runs").rglob("*.parquet")
    return float(parquet.read_table(file, columns=["busy_seconds"]).column(0)[0].as_py())


def workers(sides: Sides, source: Input) -> list[Table]:
    """The dedup phase on one and two workers, and what of it is not in the workers."""
    rows = [_two_peers(sides, source)]
    with outputs() as folder:
        for engine in ("local", "ray"):
            found: dict[int, list[tuple[float, Any]]] = {1: [], 2: []}
            for _ in range(sides.repeat):
                for count, runs in found.items():
                    runs.append(_run(source, engine, count, folder))
            first = 0.0
            for count, runs in found.items():
                work = Sample(tuple(facts["work_seconds"] for _, facts in runs))
                _, facts = min(runs, key=lambda one: abs(one[1]["work_seconds"] - work.median))
                first = first or work.median
                rows.append(
                    (
                        f"{engine}, {count}",
                        work.show(seconds),
                        times(first / work.median),
                        seconds(facts["busy_seconds"]),
                        seconds(max(0.0, facts["work_seconds"] - facts["busy_seconds"] / count)),
                        seconds(facts["after_seconds"]),
                        Sample(tuple(wall for wall, _ in runs)).show(seconds),
                    )
                )
    header = ("engine, workers", "dedup phase", "speed", "workers busy", "not in workers",
              "after it", "process")  # fmt: skip
    notes = (
        "'workers busy' is the sum over the workers; 'not in workers' is the dedup phase less "
        "that sum by the number of workers: handing out, waiting for the last, and with Ray until "
        "its workers have started. Workers make the tables too, as slices of a kernel are done.",
        "The first row is what two cores of this machine are worth: two of the peer at the same "
        "time, which have nothing to do with each other, against one after the other.",
    )
    return [Table("One worker and two", header, tuple(rows), notes)]


def _two_peers(sides: Sides, source: Input) -> tuple[str, ...]:
    """How much faster two processes are that share nothing but the machine."""
    cores = sorted(os.sched_getaffinity(0))[-2:]
    sample = source.modules[:: max(1, len(source.modules) // 160)]
    alone: list[float] = []
    both: list[float] = []
    for _ in range(sides.repeat):
        alone.append(sides.peer_once(source.base, sample)["total_s"])
        with ThreadPoolExecutor(len(cores)) as pool:
            at_once = [
                pool.submit(replace(sides, core=core).peer_once, source.base, sample)
                for core in cores
            ]
        both.append(max(one.result()["total_s"] for one in at_once))
    speed = len(cores) * Sample(tuple(alone)).median / Sample(tuple(both)).median
    return (
        f"libbpf, {len(cores)} at once",
        Sample(tuple(both)).show(seconds),
        times(speed),
        "",
        "",
        "",
        "",
    )


def job(sides: Sides, source: Input) -> list[Table]:
    """Process start to exit, everything written, against the peer's dedup alone on one core."""
    peers: list[float] = []
    walls: dict[str, list[float]] = {"ray": [], "local": []}
    last: dict[str, Any] = {}
    with outputs() as folder:
        for _ in range(sides.repeat):
            peers.append(sides.peer_once(source.base, source.modules)["total_s"])
            for engine, found in walls.items():
                wall, last[engine] = _run(source, engine, 2, folder)
                found.append(wall)
    peer = Sample(tuple(peers))
    rows: list[tuple[str, ...]] = []
    rows += [("libbpf, dedup alone, one core", peer.show(seconds), times(1), "", "", "", "")]
    for engine, found in walls.items():
        sample, facts = Sample(tuple(found)), last[engine]
        rows.append(
            (
                f"splitbtf run, {engine}, two workers",
                sample.show(seconds),
                times(sample.median / peer.median),
                *(seconds(facts[f"{name}_seconds"]) for name in ("start", "work", "after")),
                seconds(found[-1] - facts["total_seconds"]),
            )
        )
    stages = last["local"]["kernels"][0]["stages"]
    busy = {name: stages[name] for name in OF_WORKERS if name in stages}
    parts = [
        (name, seconds(value), f"{value / sum(busy.values()):.0%}", OF_WORKERS[name])
        for name, value in sorted(busy.items(), key=lambda one: -one[1])
    ]
    header = ("", "time", "ratio", "start", "dedup", "after it", "imports and exit")
    costs = Sample(tuple(walls["ray"])).median - Sample(tuple(walls["local"])).median
    notes = (
        "'start' is until the engine is ready, 'dedup' all that is done for each module, its "
        "tables' rows too, 'after it' the tables that need all modules, and the commit.",
        f"Ray costs {seconds(max(0.0, costs))} against the engine without it: start and end of its "
        "processes, and each worker's imports, which are part of 'dedup'.",
    )
    return [
        Table("The whole job", header, tuple(rows), notes),
        Table(
            "What the workers of it do",
            ("stage", "time", "share", ""),
            tuple(parts),
            ("Both workers together, of the last run without Ray: `splitbtf run --profile`.",),
        ),
    ]


def report(sides: Sides, source: Input) -> list[Table]:
    """A report about one kernel and about several, which are this one under other names."""
    rows: list[tuple[str, ...]] = []
    before = (0, 0.0)
    with outputs() as folder:
        out, page = folder / "kernels", folder / "report.html"
        for number in range(1, max(REPORTED) + 1):
            named = ("--kernel", f"kernel-{number}", "--engine", "local")
            files = (source.modules[0].parent, "-B", source.base)
            run(splitbtf("run", *files, "-o", out, *named, "--json")).json()
            if number in REPORTED:
                command = splitbtf("report", out, "-o", page)
                sample = Sample(tuple(run(command).seconds for _ in range(sides.repeat)))
                each = (sample.median - before[1]) / (number - before[0])
                before = (number, sample.median)
                bytes_written = f"{page.stat().st_size / 1e6:.2f} MB"
                rows.append((str(number), sample.show(seconds), seconds(each), bytes_written))
    header = ("kernels", "process", "for each that was added", "size of the page")
    note = "The kernels are the same: that they are compared costs as always, but nothing changed."
    return [Table("Report", header, tuple(rows), (note,))]


def tables(sides: Sides, source: Input) -> list[Table]:
    """What fingerprints and all tables cost: a run less the same without them, two workers."""
    peers: list[float] = []
    alone: list[float] = []
    whole: list[float] = []
    with outputs() as folder:
        for _ in range(sides.repeat):
            peers.append(sides.peer_once(source.base, source.modules)["total_s"])
            whole.append(_run(source, "local", 2, folder)[1]["total_seconds"])
            alone.append(
                sides.probe(
                    "without_tables",
                    pinned=False,
                    base=str(source.base),
                    folder=str(source.modules[0].parent),
                    out=tempfile.mkdtemp(dir=folder),
                    workers=2,
                )["seconds"]
            )
    peer = Sample(tuple(peers))
    cost = Sample(tuple(one - other for one, other in zip(whole, alone, strict=True)))
    rows = [
        (name, sample.show(seconds), times(sample.median / peer.median))
        for name, sample in (
            ("libbpf, dedup alone, one core", peer),
            ("run, local, two workers", Sample(tuple(whole))),
            ("the same without fingerprints and tables", Sample(tuple(alone))),
            ("fingerprints and tables", cost),
        )
    ]
    note = "All of a run is counted that is not needed for the split BTF: commit and all."
    return [Table("What the tables cost", ("", "time", "ratio"), tuple(rows), (note,))]
