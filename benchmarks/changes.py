"""Section about what changed: ``splitbtf diff`` of two whole kernels, ``history`` over all of them.

The kernels are those of an output folder that SPLITBTF_BENCH_OUT names; without it the two demo
kernels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

from inputs import Input
from measure import BUILD, BenchError, Sides, run, splitbtf
from report import ROOT, Sample, Table, seconds

DEMOS = ("demo", "demo-6.12")
NAMES = ("task_struct", "task_struct.pid", "vfs_read", "no_such_name")


def changes(sides: Sides, source: Input) -> list[Table]:
    """Whole processes, warm, from tables; the peer's on the BTF of both vmlinux."""
    out = os.environ.get("SPLITBTF_BENCH_OUT") or _demo_kernels()
    rows = run(splitbtf("ls", out, "--json")).json()
    kernels = [row["kernel"] for row in rows]
    types = sum(row["base_types"] + (row["types_out"] or 0) for row in rows)
    modules = sum(row["modules"] for row in rows)
    measured = []
    for old, new in pairwise(kernels):
        command = splitbtf("diff", "--in", out, old, new)
        measured.append((f"diff {old} {new}", _several(sides, command)))
        measured.append(("the same, --json", _several(sides, [*command, "--json"])))
    folders = [ROOT / "datasets" / name for name in DEMOS]
    measured.append(
        ("diff of two folders: the demo's", _several(sides, splitbtf("diff", *folders)))
    )
    for name in NAMES:
        measured.append((f"history {name}", _several(sides, splitbtf("history", name, out))))
    lines = [(name, sample.show(seconds)) for name, sample in measured]
    notes = (
        f"{len(kernels)} kernels, {modules:,} modules, {types:,} types in the tables.",
        "There is no peer for this: abidiff of Debian 12 reads DWARF alone, and pahole compares no "
        "two files.",
    )
    title = "What changed: two kernels with their modules, and a name in all kernels"
    return [Table(title, ("", "process"), tuple(lines), notes)]


def _demo_kernels() -> str:
    out = BUILD / "kernels"
    if not out.exists():
        sources = ROOT / "datasets"
        for name in DEMOS:
            done = run(splitbtf("run", sources / name, "-o", out, "--engine", "local", "--json"))
            if done.code:
                raise BenchError(done.err.strip())
    return str(out)


def _several(sides: Sides, command: Sequence[str]) -> Sample:
    """The first one only fills caches."""
    times = [run(command).seconds for _ in range(sides.repeat + 1)]
    return Sample(tuple(times[1:]))
