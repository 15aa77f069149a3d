"""The main job: kernels in, committed split BTF and tables out.

    discover -> start the engine while the base is indexed -> batches -> tables -> commit

A kernel is done after the other; each is committed by itself.
"""

from __future__ import annotations

import datetime
import platform
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from . import __version__
from .base import Announce, IndexedBase, load_base
from .batches import cut
from .describe import describe_base, type_columns
from .discover import find_kernels
from .local import Forked, InProcess
from .output import (
    Manifest,
    OutputFolder,
    btf_folder,
    folder_facts,
    manifest_facts,
    write_base,
)
from .records import KernelInput, ModuleRecord, WorkOptions
from .schedule import Executor, ScheduleFacts, in_order, run_batches
from .summary import WorkSummary, summarize
from .worker import BatchResult

LIBRARIES = ("numba", "numpy", "pyarrow", "pyelftools", "ray", "zstandard")
Progress = Callable[[str, int, int, int], None]  # kernel, done, failed, of


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user asked for."""

    sources: tuple[str, ...]
    out: str
    base: str | None = None
    kernel: str | None = None
    engine: str = "ray"
    workers: int | None = None
    ray_address: str | None = None


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What came of one kernel."""

    kernel: str
    summary: WorkSummary
    tables: dict[str, list[str]]
    btf_folder: str
    index_seconds: float
    work_seconds: float
    tables_seconds: float


@dataclass(frozen=True, slots=True)
class RunReport:
    """What came of a run."""

    out: str
    run_id: str
    engine: str
    workers: int
    kernels: tuple[KernelReport, ...]
    start_seconds: float
    total_seconds: float


def run(
    options: RunOptions, *, announce: Announce | None = None, progress: Progress | None = None
) -> RunReport:
    """Do it. Raises SourceError, BaseError, OutputError; InternalError for a bug of ours."""
    began = time.perf_counter()
    started_at = datetime.datetime.now(datetime.UTC)
    kernels = find_kernels(
        options.sources, base=options.base, kernel=options.kernel, skip_folder=options.out
    )
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    out = OutputFolder(options.out, run_id)
    try:
        executor, first = _start(options, kernels[0], announce)
        try:
            run_ = _Run(options, run_id, started_at, began, executor, out, announce, progress)
            reports = tuple(
                run_.kernel(kernel, first if number == 0 else None)
                for number, kernel in enumerate(kernels)
            )
        finally:
            executor.close()
    finally:
        out.close()  # after the executor: nobody writes there any more
    return RunReport(
        out=options.out,
        run_id=run_id,
        engine=executor.name,
        workers=executor.workers,
        kernels=reports,
        start_seconds=run_.start_seconds,
        total_seconds=time.perf_counter() - began,
    )


def _start(
    options: RunOptions, kernel: KernelInput, announce: Announce | None
) -> tuple[Executor, IndexedBase]:
    """The engine, and the first kernel's base."""
    if options.engine == "local":
        base = load_base(kernel.base_path, announce)
        workers = options.workers or 1
        return (Forked(workers) if workers > 1 else InProcess()), base

    from .on_ray import OnRay  # late: nothing of Ray is imported for the local engine

    def prepare() -> IndexedBase:
        base = load_base(kernel.base_path, announce)
        from . import tables  # noqa: F401  (Arrow takes a while to import)

        return base

    # Starting Ray is mostly waiting for other processes: do the rest meanwhile.
    with ThreadPoolExecutor(1, "base") as background:
        loading = background.submit(prepare)
        executor = OnRay(options.workers, options.ray_address)
        try:
            return executor, loading.result()
        except BaseException:
            executor.close()
            raise


class _Run:
    """One run's parameters, and the stages of a kernel."""

    def __init__(
        self,
        options: RunOptions,
        run_id: str,
        started_at: datetime.datetime,
        began: float,
        executor: Executor,
        out: OutputFolder,
        announce: Announce | None,
        progress: Progress | None,
    ) -> None:
        self.options = options
        self.run_id = run_id
        self.started_at = started_at
        self.executor = executor
        self.out = out
        self.announce = announce
        self.progress = progress
        self.start_seconds = time.perf_counter() - began

    def kernel(self, kernel: KernelInput, base: IndexedBase | None) -> KernelReport:
        """Work on one kernel and commit it."""
        if base is None:
            base = load_base(kernel.base_path, self.announce)
        staging = self.out.stage_btf(kernel.name)
        facts = ScheduleFacts()
        began = time.perf_counter()
        results = self._work(kernel, base, staging, facts)
        work_seconds = time.perf_counter() - began
        records = [record for result in results for record in result.records]
        summary = summarize(records)
        began = time.perf_counter()
        manifest = self._write(kernel, base, staging, results, records)
        tables_seconds = time.perf_counter() - began
        row = {
            "start_seconds": self.start_seconds,
            "index_seconds": base.index_seconds,
            "work_seconds": work_seconds,
            "busy_seconds": facts.busy_seconds,
            "tables_seconds": tables_seconds,
            "batches": facts.batches,
            "crashes": facts.crashes,
            "modules": summary.modules,
            "failed": summary.failed,
        }
        manifest = self._with_run(manifest, row)
        self.out.commit(manifest)
        return KernelReport(
            kernel=kernel.name,
            summary=summary,
            tables=manifest_facts(manifest),
            btf_folder=manifest.btf_folder,
            index_seconds=base.index_seconds,
            work_seconds=work_seconds,
            tables_seconds=tables_seconds,
        )

    def _work(
        self, kernel: KernelInput, base: IndexedBase, staging: Path, facts: ScheduleFacts
    ) -> list[BatchResult]:
        options = WorkOptions(str(staging), describe=True, release=base.release or kernel.release)
        batches = cut(kernel.modules, self.executor.workers)
        shared = self.executor.share(base.index)
        results, done, failed = [], 0, 0
        for result in run_batches(self.executor, batches, shared, options, facts):
            results.append(result)
            done += len(result.records)
            failed += sum(record.failure is not None for record in result.records)
            if self.progress is not None:
                self.progress(kernel.name, done, failed, len(kernel.modules))
        return in_order(results)

    def _write(
        self,
        kernel: KernelInput,
        base: IndexedBase,
        staging: Path,
        results: Sequence[BatchResult],
        records: Sequence[ModuleRecord],
    ) -> Manifest:
        """Stage everything that the same input always gives."""
        from . import tables  # late: Arrow

        base_record = describe_base(
            base.types,
            path=kernel.base_path,
            source=kernel.base_source,
            sha256=base.sha256,
        )
        names = ["", *(module.name for module in kernel.modules)]
        built = {
            "kernels": tables.kernels_table(base_record, records),
            "modules": tables.modules_table(records),
            "types": tables.types_table(type_columns([(0, base.types)]), results, names),
        }
        parts = {
            name: (self.out.stage_table(kernel.name, name, table),) for name, table in built.items()
        }
        write_base(staging, base.content)
        done = [record.module for record in records if record.failure is None]
        files, size = folder_facts(staging, ["vmlinux", *done])
        return Manifest(
            kernel=kernel.name,
            splitbtf_version=__version__,
            base_sha256=base.sha256,
            btf_folder=btf_folder(kernel.name),
            btf_files=files,
            btf_bytes=size,
            tables=parts,
        )

    def _with_run(self, manifest: Manifest, facts: dict[str, Any]) -> Manifest:
        """The manifest with this run's row after those of the runs before it."""
        from .tables import runs_table

        row = {
            "run_id": self.run_id,
            "started_at": self.started_at,
            "splitbtf_version": __version__,
            "versions": versions(),
            "machine": platform.machine(),
            "engine": self.executor.name,
            "ray_address": self.options.ray_address,
            "workers": self.executor.workers,
            **facts,
        }
        part = self.out.stage_table(manifest.kernel, "runs", runs_table(row))
        earlier = self.out.committed_parts(manifest.kernel, "runs")
        return replace(manifest, tables={**manifest.tables, "runs": (*earlier, part)})


def versions() -> dict[str, str]:
    """Of Python and of the libraries that the result could depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        found[name] = metadata.version(name)
    return found
