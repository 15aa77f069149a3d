"""The section about loading a BTF: reading the file, checking it, and finding a type in it."""

from __future__ import annotations

from typing import Any

from inputs import Input
from measure import Sides, build_program, run
from report import Sample, Table, seconds, size, times

LOADS = 15  # in each process


def load(sides: Sides, source: Input) -> list[Table]:
    """The base, as raw BTF, loaded by both sides in turns; each side's memory in its own process.

    Time is of one load in a process where everything is compiled, from opening the file to BTF that
    is checked. Memory is how far a process grows at its highest, the file's content included.
    """
    peer = build_program("peer_load")
    ours_times: list[float] = []
    peer_times: list[float] = []
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    for _ in range(sides.repeat):
        theirs = run([peer, str(source.base), str(LOADS)], core=sides.core).json()
        ours = sides.probe("load", base=str(source.base), repeat=LOADS)
        peer_times += theirs["seconds"]
        ours_times += ours["seconds"]
    memory = sides.probe("load_memory", base=str(source.base))
    file_bytes = source.base.stat().st_size
    rows = []
    libbpf = Sample(tuple(peer_times))
    for name, sample, taken, find in (
        ("libbpf", libbpf, theirs["memory"], theirs["find"]),
        ("splitbtf", Sample(tuple(ours_times)), memory["loaded"], ours["find"]),
    ):
        rows.append(
            (
                name,
                sample.show(seconds),
                times(sample.median / libbpf.median),
                f"{size(taken)}, {times(taken / file_bytes)} the file",
                seconds(find),
            )
        )
    notes = [
        f"{size(file_bytes)}, {ours['types']:,} types; {LOADS} loads in each of {sides.repeat} "
        f"processes. The tables for finding by name are made at the first find, and are not in the "
        f"figure for memory: with them splitbtf takes {size(memory['found'])}, "
        f"{times(memory['found'] / file_bytes)} the file."
    ]
    if ours["found"] != theirs["found"]:
        notes.append("The two sides found different types: not the same was loaded.")
    header = ("", "time", "ratio", "memory", "first find by name")
    return [Table("Loading a BTF", header, tuple(rows), tuple(notes))]
