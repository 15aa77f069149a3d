"""Sections about processes: the index, the first module, memory."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from inputs import Input
from measure import BenchError, Finished, Sides, run, splitbtf
from report import Sample, Table, seconds, size, times
from resident import watch

WORKERS = (1, 2, 4)


def index(sides: Sides, source: Input) -> list[Table]:
    """How long the index takes, how large it is, and how many of it there are."""
    facts = sides.probe("index", base=str(source.base), repeat=max(5, sides.repeat))
    build = Sample(tuple(facts["seconds"]))
    rows = (
        ("base", f"{size(facts['base_bytes'])}, {facts['types']:,} types", ""),
        ("build", build.show(seconds), f"{seconds(build.median / facts['types'])} per type"),
        ("the first in a process", seconds(facts["first"]), ""),
        ("size", size(facts["bytes"]), f"{times(facts['bytes'] / facts['base_bytes'])} the base"),
    )
    return [Table("Index", ("", "", "ratio"), rows), _store(sides, source)]


def _store(sides: Sides, source: Input) -> Table:
    rows = []
    files = [str(path) for path in source.modules[: 2 * max(WORKERS)]]
    for workers in WORKERS:
        try:
            facts = sides.probe(
                "store", pinned=False, base=str(source.base), files=files, workers=workers
            )
        except BenchError as error:
            rows.append((str(workers), "", f"failed: {error}", "", ""))
            continue
        rows.append(
            (
                str(workers),
                str(facts["processes"]),
                size(facts["used"]),
                times(facts["used"] / facts["index_bytes"]),
                f"{facts['mapped'] / facts['index_bytes']:.0%}",
            )
        )
    header = (
        "workers",
        "worked",
        "object store in use",
        "of the index",
        "mapped by each",
    )
    note = "The batches and results that pass through the store are in the figure too."
    return Table("The index in Ray's object store", header, tuple(rows), (note,))


def start(sides: Sides, source: Input) -> list[Table]:
    """From the start of a process to its end with one module done, seen from outside."""
    # The middle one: a start should not be measured on a module that takes long by itself.
    middle = source.modules[len(source.modules) // 2]
    command = splitbtf("dedup", "-B", source.base, "--no-output", "--json", middle)
    run(command, core=sides.core).json()
    warm = Sample(tuple(run(command, core=sides.core).seconds for _ in range(max(5, sides.repeat))))
    dedup, whole = _cold(command), _cold(_run_of_one(source, middle))
    peer = Sample(
        tuple(
            run([sides.peer, str(source.base), str(middle)], core=sides.core).seconds
            for _ in range(max(5, sides.repeat))
        )
    )
    rows = (
        ("splitbtf, warm", warm.show(seconds), times(warm.median / peer.median)),
        ("splitbtf, first run", seconds(dedup.seconds), times(dedup.seconds / peer.median)),
        ("splitbtf run, first run", seconds(whole.seconds), times(whole.seconds / peer.median)),
        ("libbpf", peer.show(seconds), times(1)),
    )
    announced = all("compiling" in cold.finished.err for cold in (dedup, whole))
    said = "this is announced" if announced else "this is NOT announced"
    note = (
        f"The first run compiles, on all cores; {said}. It leaves {size(dedup.kept_bytes)} in the "
        f"cache, and `run --engine local` {size(whole.kept_bytes)}."
    )
    return [Table("Process start to end, one module", ("", "time", "ratio"), rows, (note,))]


@dataclass(frozen=True)
class Cold:
    """A command that found nothing compiled, and what it left."""

    finished: Finished
    kept_bytes: int

    @property
    def seconds(self) -> float:
        return self.finished.seconds


def _cold(command: list[str]) -> Cold:
    with tempfile.TemporaryDirectory(prefix="splitbtf-bench-") as folder:
        out = ["-o", f"{folder}/out"] if "run" in command else []
        finished = run([*command, *out], env={"SPLITBTF_CACHE_DIR": f"{folder}/cache"})
        finished.json()
        files = [path for path in Path(folder, "cache").rglob("*") if path.is_file()]
        return Cold(finished, sum(path.stat().st_size for path in files))


def _run_of_one(source: Input, module: Path) -> list[str]:
    return splitbtf("run", module, "-B", source.base, "--engine", "local", "--json")


def memory(sides: Sides, source: Input) -> list[Table]:
    """What a process takes beyond what it has when the base is indexed."""
    files = [str(path) for path in source.modules]
    sets = (
        ("the largest module", files[-1:]),
        ("a tenth of the modules, the largest too", [*files[:-1:10], files[-1]]),
        ("ten times as many", [*files[:-1:10], files[-1]] * 10),
    )
    rows = []
    with tempfile.TemporaryDirectory(prefix="splitbtf-bench-") as folder:
        for what, out in (("dedup", None), ("run", folder)):
            first = 0
            for name, chosen in sets:
                if out is not None:
                    out = tempfile.mkdtemp(dir=folder)
                facts = sides.probe("memory", base=str(source.base), files=chosen, out=out)
                extra = facts["peak"] - facts["before"]
                first = first or extra
                rows.append((f"{what}: {name}", f"{len(chosen):,}", size(facts["before"]),
                             size(extra), times(extra / first)))  # fmt: skip
    header = ("", "modules", "resident with index", "peak beyond that", "ratio")
    notes = (
        f"The largest module has {size(source.modules[-1].stat().st_size)}. 'run' is a worker's "
        "share of it: fingerprints, rows of tables and files too, a batch of modules at a time.",
    )
    return [Table("Memory of a worker", header, tuple(rows), notes), _whole_run(source)]


def _whole_run(source: Input) -> Table:
    """All that a worker does in a run: batches, slices of the tables, parts of the analyses."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="splitbtf-bench-") as folder:
        for engine in ("local", "ray"):
            out = tempfile.mkdtemp(dir=folder)
            command = splitbtf("run", source.modules[0].parent, "-B", source.base, "-o", out)
            found = watch([*command, "--engine", engine, "--workers", "2"], engine)
            for number, worker in enumerate(found, 1):
                rows.append((f"{engine}, worker {number}", size(worker.first_private),
                             size(worker.private), size(worker.resident)))  # fmt: skip
    header = ("", "private at its start", "private at most", "resident at most")
    notes = (
        "Of a whole run on two workers, looked at every 10 ms. 'Private' is all that no file backs "
        "and nobody shares: Python's and Ray's own too, the index not. 'Resident' has the index "
        "and the libraries' files too, of which the machine holds one copy.",
    )
    return Table("Memory of a worker over a whole run", header, tuple(rows), notes)
