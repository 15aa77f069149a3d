"""Where the time of a run goes: the stages of a kernel, and how they are measured.

Whoever works through stages notes the end of each in a list of ``Laps``. That costs no call of a
Python function, and what has no end of its own belongs to the stage after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Laps = list[tuple[str, float]]
"""The end of each stage: its name, and what ``time.perf_counter`` said then."""

READ, OPEN, DEDUP, ISOLATED = "read", "open", "dedup", "isolated"
FINGERPRINTS, DESCRIBE, WRITE, TABLES = "fingerprints", "describe", "write", "tables"
BASE, WORK, LAST, COMMIT = "base", "work", "last", "commit"

OF_WORKERS = {
    READ: "input files, their digests, decompression",
    OPEN: "BTF out of its container, by pahole where there is none",
    DEDUP: "parsing, checking, deduplicating, and encoding what is left",
    "leftovers": "what is left over of builds",
    "misses": "why named types stayed, and their root causes",
    FINGERPRINTS: "fingerprints, declarations and spellings",
    DESCRIBE: "the other columns of types, members and modules",
    WRITE: "split BTF files, their digests, and results",
    ISOLATED: "all of modules in processes of their own, after a worker has died",
    TABLES: "parts of the tables, from results",
    "conflicts": "names that mean several types",
    "duplicates": "types that several modules keep",
}
"""Stages of a kernel's modules, by name: what is done. Others are those of further tables."""
OF_RUN = {
    BASE: "indexing vmlinux",
    WORK: "from the first batch of modules handed out to the last one done",
    LAST: "after it: the tables that need all modules",
    COMMIT: "moving files to their places",
}
"""Stages of a run by name, beside what workers do: what is waited for."""


def by_stage(began: float, laps: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Add up the seconds of each stage.

    began  s, of ``time.perf_counter``: when the first stage began
    laps   in the order in which they were noted
    """
    seconds: dict[str, float] = {}
    for stage, ended in laps:
        seconds[stage] = seconds.get(stage, 0.0) + ended - began
        began = ended
    return seconds


def add_seconds(seconds: dict[str, float], more: Mapping[str, float]) -> None:
    """Add seconds by stage to others."""
    for stage, value in more.items():
        seconds[stage] = seconds.get(stage, 0.0) + value
