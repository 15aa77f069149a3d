"""Sections about the algorithm: throughput, cost of the base, growth, hostile inputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inputs import Input, larger_base
from measure import BUILD, BenchError, Sides
from report import ROOT, Sample, Table, seconds, size, times

sys.path.insert(0, str(ROOT / "tests"))

from support.writers import hostile

BASE_FACTOR = 4
CLASSES = 6
LIMIT_SECONDS = 8.0  # for one hostile input
NOT_FINISHED = "not finished"


def throughput(sides: Sides, source: Input) -> list[Table]:
    """All modules, nothing written: ``work_seconds`` against the peer's ``total_s``."""
    peer, ours, peer_time, our_time = sides.alternate(source.base, source.modules)
    rows = []
    for name, time, facts in (("libbpf", peer_time, peer), ("splitbtf", our_time, ours)):
        rows.append(
            (
                name,
                time.show(seconds),
                f"{size(facts['bytes_in'] / time.median)}/s",
                f"{len(source.modules) / time.median:,.0f}",
                f"{facts['types_out']:,}",
                times(peer_time.median / time.median),
            )
        )
    agree = all(peer[name] == ours[name] for name in ("bytes_in", "bytes_out", "types_out"))
    notes = []
    if not agree:
        notes.append(
            f"The two results differ in size. This libbpf is {peer['libbpf']}; splitbtf's results "
            "equal those of the version that docs/differences.md names."
        )
    if peer["failed"] or ours["failed"]:
        notes.append(f"Failed: libbpf {peer['failed']}, splitbtf {ours['failed']}.")
    header = ("", "time", "input", "modules/s", "types kept", "speed")
    return [Table("Dedup throughput, one core", header, tuple(rows), tuple(notes))]


def base_size(sides: Sides, source: Input) -> list[Table]:
    """Every second module, against the base and against one several times as large.

    The other half of the modules is part of the larger base; see ``inputs.larger_base``.
    """
    measured = source.modules[1::2]
    larger, types, plain_types = larger_base(Input(source.base, source.modules[::2]), BASE_FACTOR)
    once, bases = replace(sides, repeat=1), (source.base, larger)
    found: dict[str, list[list[float]]] = {"libbpf": [[], []], "splitbtf": [[], []]}
    for _ in range(sides.repeat):  # in turns: what is slow for a minute is so for both bases
        for which, base in enumerate(bases):
            _, _, peer, ours = once.alternate(base, measured)
            found["libbpf"][which] += peer.values
            found["splitbtf"][which] += ours.values
    rows = []
    for name, values in found.items():
        small, large = (Sample(tuple(each)) for each in values)
        cells = (_each(sample, len(measured)).show(seconds) for sample in (small, large))
        rows.append((name, *cells, times(large.median / small.median)))
    title = f"Cost per module against the size of the base ({len(measured)} modules)"
    header = ("", f"{plain_types:,} types", f"{types:,} types", "ratio")
    return [Table(title, header, tuple(rows))]


def _each(sample: Sample, count: int) -> Sample:
    return Sample(tuple(value / count for value in sample.values))


def growth(sides: Sides, source: Input) -> list[Table]:
    """Cost per type by size of module, and cost per module by number of modules."""
    return [_by_size(sides, source), _by_number(sides, source)]


def _by_size(sides: Sides, source: Input) -> Table:
    files = _spread(source.modules, 600)
    found = sides.probe("modules", base=str(source.base), files=files, repeat=sides.repeat + 2)
    found = [one for one in found if one["failure"] is None]
    found.sort(key=lambda one: one["types"])
    fit = _fit(found)
    mean = sum(one["seconds"] for one in found) / sum(one["types"] for one in found)
    rows = []
    for number in range(CLASSES):
        part = found[len(found) * number // CLASSES : len(found) * (number + 1) // CLASSES]
        if part:
            name = f"{part[0]['types']:,}-{part[-1]['types']:,} types"
            rows.append(_size_row(name, part, mean, fit))
    rows.append(_size_row("the largest", found[-1:], mean, fit))
    worst = max(found[len(found) // CLASSES :], key=lambda one: one["seconds"] / one["types"])
    notes = (
        f"The least of {sides.repeat + 2} times for each module. Beyond the smallest class, the "
        f"module that costs most per type has {worst['types']:,} types, keeps "
        f"{worst['types_out']:,} and takes {seconds(worst['seconds'] / worst['types'])} for each.",
        f"What stays costs more than what goes: expected are {seconds(fit[0])} for each module, "
        f"{seconds(fit[1])} for each type and {seconds(fit[2])} more for each that stays, as least "
        "squares over all modules give.",
    )
    header = ("modules of", "number", "types that stay", "time each", "time per type",
              "against the mean", "against what is expected")  # fmt: skip
    return Table("Growth with the size of a module", header, tuple(rows), notes)


def _fit(found: Sequence[dict[str, float]]) -> tuple[float, float, float]:
    """Seconds for each module, type, and type that stays: least squares of the times per type."""
    counts = np.array([(1, one["types"], one["types_out"]) for one in found], float)
    took = np.array([one["seconds"] for one in found])
    types = counts[:, 1]
    fitted, *_ = np.linalg.lstsq(counts / types[:, None], took / types, None)
    each, per_type, per_kept = (float(value) for value in fitted)
    return each, per_type, per_kept


def _size_row(
    name: str, part: Sequence[dict[str, float]], mean: float, fit: tuple[float, float, float]
) -> tuple[str, ...]:
    time, types, kept = (sum(one[key] for one in part) for key in ("seconds", "types", "types_out"))
    each, per_type, per_kept = fit
    return (
        name,
        str(len(part)),
        f"{kept / types:.0%}",
        seconds(time / len(part)),
        seconds(time / types),
        times(time / types / mean),
        times(time / (each * len(part) + per_type * types + per_kept * kept)),
    )


def _spread(files: Sequence[Path], most: int) -> list[str]:
    """At most so many, evenly over all sizes, the smallest and the largest among them."""
    if len(files) <= most:
        return [str(path) for path in files]
    return [str(files[at * (len(files) - 1) // (most - 1)]) for at in range(most)]


def _by_number(sides: Sides, source: Input) -> Table:
    folder = BUILD / "many"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    some = [Path(path) for path in _spread(source.modules, 200)]
    links = []
    for copy in range(4):
        for path in some:
            link = folder / f"{copy}-{path.name}"
            link.symlink_to(path)
            links.append(link)
    found: dict[int, list[float]] = {factor * len(some): [] for factor in (1, 2, 4)}
    for _ in range(3 * sides.repeat):  # in turns, as above
        for count, each in found.items():
            each.append(sides.ours_once(source.base, links[:count])["work_seconds"] / count)
    rows, first = [], 0.0
    for count, each in found.items():
        sample = Sample(tuple(each))
        first = first or sample.median
        rows.append((f"{count:,}", sample.show(seconds), times(sample.median / first)))
    header = ("modules", "time each", "against the first")
    return Table("Growth with the number of modules", header, tuple(rows))


def hostile_inputs(sides: Sides, source: Input) -> list[Table]:
    """Inputs made to be slow, each at three sizes that double."""
    folder = BUILD / "hostile"
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "base.btf"
    base.write_bytes(hostile.base())
    rows = []
    for kind in hostile.HOSTILE:
        ours = Ours("", "", "", 0.0)
        peer = ""
        for n in kind.sizes:
            file = folder / "input.btf"
            file.write_bytes(kind.make(n))
            if ours.time != NOT_FINISHED:
                ours = _ours_alone(sides, base, file, kind, n, ours.seconds)
            if peer != NOT_FINISHED:
                peer = _peer_alone(sides, base, file)
            rows.append((kind.name, f"{n:,}", ours.time, ours.per_type, ours.ratio, peer))
    header = ("input", "n", "time", "per type", "for 2n", "libbpf")
    notes = (
        "'for 2n' is the time against that for half the size: 2 is linear, 4 is quadratic. "
        f"Both sides are stopped after {LIMIT_SECONDS:.0f} s, start included, and then not given "
        "the larger ones. Where n counts members, 'per type' is per member.",
    )
    return [Table("Hostile inputs", header, tuple(rows), notes)]


@dataclass(frozen=True)
class Ours:
    """Our side of a row, as text, and the time as a number."""

    time: str
    per_type: str
    ratio: str
    seconds: float


def _ours_alone(
    sides: Sides, base: Path, file: Path, kind: hostile.Hostile, n: int, before: float
) -> Ours:
    arguments: dict[str, Any] = {"base": str(base), "files": [str(file)], "repeat": 9}
    try:
        (one,) = sides.probe("modules", timeout=LIMIT_SECONDS, **arguments)
    except BenchError as error:
        return Ours(_reason(error), "", "", 0.0)
    if one["failure"] is not None:
        return Ours("refused", "", "", 0.0)
    took = one["seconds"]
    per = took / (n if kind.unit == "members" else one["types"])
    return Ours(seconds(took), seconds(per), times(took / before) if before else "", took)


def _peer_alone(sides: Sides, base: Path, file: Path) -> str:
    try:
        facts = sides.peer_once(base, [file], timeout=LIMIT_SECONDS)
    except BenchError as error:
        return _reason(error)
    return "refused" if facts["failed"] else seconds(facts["total_s"])


def _reason(error: BenchError) -> str:
    return NOT_FINISHED if NOT_FINISHED in str(error) else "crashed"
