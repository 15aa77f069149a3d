"""Tables of results, and what has to be known of the machine to read them."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("numba", "llvmlite", "numpy", "pyarrow", "ray")


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def show(self, unit: Callable[[float], str]) -> str:
        """``median (min-max)``; the median alone when there is one value."""
        text = unit(self.median)
        if len(self.values) > 1:
            text += f" ({unit(min(self.values))}-{unit(max(self.values))})"
        return text


@dataclass(frozen=True)
class Table:
    """One section's results. Rows are text, in the order of ``header``."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        cells = [self.header, *self.rows]
        widths = [max(len(row[at]) for row in cells) for at in range(len(self.header))]
        rule = tuple("-" * width for width in widths)
        lines = [_line(row, widths) for row in (self.header, rule, *self.rows)]
        notes = [f"\n{note}" for note in self.notes]
        return "\n".join([f"### {self.title}\n", *lines, *notes]) + "\n"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    return "| " + " | ".join(padded) + " |"


def seconds(value: float) -> str:
    """A duration with three digits or so."""
    for limit, factor, unit in ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (1e-6, 1e6, "µs")):
        if value >= limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.0f} ns"


def size(value: float) -> str:
    """Bytes, in decimal units."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f} B"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.3g}x"


def machine_lines(libbpf: str) -> list[str]:
    """Machine, versions and commit as lines of a list."""
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    load = os.getloadavg()[0]
    return [
        f"machine: {_cpu_model()}, {len(os.sched_getaffinity(0))} cores, {_memory()}, "
        f"Linux {platform.release().split('-')[0]}; load average at the start {load:.1f}",
        f"versions: {', '.join(versions)}, libbpf {libbpf}",
        f"commit: {_commit()}",
    ]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{total / 2**30:.1f} GiB of memory"


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    dirty = git("status", "--porcelain", "--", "btf", "pipeline", "jobs")
    return (git("rev-parse", "HEAD") or "unknown") + (" and changes" if dirty else "")
