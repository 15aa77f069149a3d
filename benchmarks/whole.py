"""Sections about ``splitbtf run``: one worker against two, and the whole job against the peer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from inputs import Input
from measure import BUILD, Sides, run, splitbtf
from report import Sample, Table, seconds, times

OUT = BUILD / "out"


def _run(source: Input, engine: str, count: int) -> tuple[float, Any]:
    """A whole run into an empty folder: wall-clock seconds and the summary."""
    shutil.rmtree(OUT, ignore_errors=True)
    command = splitbtf("run", source.modules[0].parent, "-B", source.base, "-o", OUT, "--json")
    finished = run([*command, "--engine", engine, "--workers", str(count)])
    facts = finished.json()
    facts["busy_seconds"] = _busy_seconds()
    facts["tables_seconds"] = sum(kernel["tables_seconds"] for kernel in facts["kernels"])
    return finished.seconds, facts


def _busy_seconds() -> float:
    """Of all workers together, from the table ``runs``."""
    import pyarrow.parquet as parquet

    (file,) = Path(OUT, "tables", "runs").rglob("*.parquet")
    return float(parquet.read_table(file, columns=["busy_seconds"]).column(0)[0].as_py())


def workers(sides: Sides, source: Input) -> list[Table]:
    """The dedup phase on one and two workers, and what of it is not in the workers."""
    rows = []
    for engine in ("local", "ray"):
        first = 0.0
        for count in (1, 2):
            runs = [_run(source, engine, count) for _ in range(sides.repeat)]
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
                    seconds(facts["tables_seconds"]),
                    Sample(tuple(wall for wall, _ in runs)).show(seconds),
                )
            )
    header = ("engine, workers", "dedup phase", "speed", "workers busy", "not in workers",
              "tables", "process")  # fmt: skip
    notes = (
        "'workers busy' is the sum over the workers; 'not in workers' is the dedup phase less "
        "that sum by the number of workers: handing out, waiting for the last, collecting.",
    )
    return [Table("One worker and two", header, tuple(rows), notes)]


def job(sides: Sides, source: Input) -> list[Table]:
    """Process start to exit, everything written, against the peer's dedup alone on one core."""
    peers: list[float] = []
    walls: dict[str, list[float]] = {"ray": [], "local": []}
    last: dict[str, Any] = {}
    for _ in range(sides.repeat):
        peers.append(sides.peer_once(source.base, source.modules)["total_s"])
        for engine, found in walls.items():
            wall, last[engine] = _run(source, engine, 2)
            found.append(wall)
    peer = Sample(tuple(peers))
    rows = [("libbpf, dedup alone, one core", peer.show(seconds), times(1), "", "", "", "")]
    for engine, found in walls.items():
        wall, facts = Sample(tuple(found)), last[engine]
        rows.append(
            (
                f"splitbtf run, {engine}, two workers",
                wall.show(seconds),
                times(wall.median / peer.median),
                *(seconds(facts[name]) for name in ("start_seconds", "work_seconds")),
                seconds(facts["tables_seconds"]),
                seconds(found[-1] - facts["total_seconds"]),
            )
        )
    header = ("", "time", "ratio", "start", "dedup", "tables", "before and after")
    note = "'before and after' is imports and, with Ray, what its end takes beyond the summary."
    return [Table("The whole job", header, tuple(rows), (note,))]
