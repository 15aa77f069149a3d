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
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import btf

from . import __version__
from .base import Announce, IndexedBase, SharedBase, load_first
from .batches import cut
from .describe import describe_base
from .discover import find_kernels
from .errors import BaseError
from .kernel_tables import KernelTables
from .local import Forked, InProcess
from .names import printable
from .output import (
    Manifest,
    OutputFolder,
    btf_folder,
    folder_facts,
    manifest_facts,
    write_base,
)
from .records import (
    ENCODE_MISSING,
    ENCODE_NONE,
    ENCODE_SECONDS,
    FAILED,
    NO_BASE,
    BaseRecord,
    Failure,
    KernelInput,
    ModuleRecord,
    WorkOptions,
)
from .schedule import Executor, ScheduleFacts, run_batches
from .staging import Staging
from .summary import WorkSummary, summarize

LIBRARIES = ("numba", "numpy", "pyarrow", "pyelftools", "ray", "zstandard")
Progress = Callable[[str, int, int, int], None]  # kernel, done, failed, of
BASE_ENCODE_FACTOR = 10  # a vmlinux holds that much more than a large module, and is worth it


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
    encode: str = ENCODE_MISSING
    encode_seconds: float = ENCODE_SECONDS
    work_folder: str | None = None


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
    btf.warm_up(announce, tables=True)
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    out = OutputFolder(options.out, run_id)
    staging = Staging(options.work_folder or str(out.scratch), options.encode)
    try:
        bases = _Bases(options, staging, announce)
        executor, first = _start(options, bases, kernels[0])
        try:
            run_ = _Run(options, run_id, started_at, began, executor, out, announce, progress)
            reports = _kernels(run_, kernels, bases, first)
        finally:
            executor.close()
    finally:
        staging.close()
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


def _kernels(
    run_: _Run,
    kernels: Sequence[KernelInput],
    bases: _Bases,
    first: IndexedBase | BaseError,
) -> tuple[KernelReport, ...]:
    """Work on all kernels. Those without a base come last, unless there is none with one."""
    reports: dict[str, KernelReport] = {}
    unusable: list[tuple[KernelInput, BaseError]] = []
    for number, kernel in enumerate(kernels):
        base = first if number == 0 else bases.try_load(kernel)
        if number + 1 < len(kernels):  # while this one is worked on
            bases.staging.prepare(kernels[number + 1])
        if isinstance(base, BaseError):
            unusable.append((kernel, base))
        else:
            reports[kernel.name] = run_.kernel(bases.staging.modules(kernel), base)
        bases.staging.drop(kernel)
    if not reports:
        raise unusable[0][1]
    for kernel, error in unusable:
        reports[kernel.name] = run_.without_base(kernel, error)
    return tuple(reports[kernel.name] for kernel in kernels)


class _Bases:
    """How kernels get their bases."""

    def __init__(self, options: RunOptions, staging: Staging, announce: Announce | None) -> None:
        self.staging = staging
        self._seconds = options.encode_seconds * BASE_ENCODE_FACTOR
        if options.encode == ENCODE_NONE:
            self._seconds = 0.0
        self._announce = announce

    def try_load(self, kernel: KernelInput) -> IndexedBase | BaseError:
        """The kernel's base, or why there is none."""
        self.staging.prepare(kernel)
        unpack = partial(self.staging.base, kernel)
        try:
            return load_first(kernel.bases, unpack, self._seconds, self._announce)
        except BaseError as error:
            return error


def _start(
    options: RunOptions, bases: _Bases, kernel: KernelInput
) -> tuple[Executor, IndexedBase | BaseError]:
    """The engine, and the first kernel's base."""
    if options.engine == "local":
        base = bases.try_load(kernel)
        workers = options.workers or 1
        return (Forked(workers) if workers > 1 else InProcess()), base

    from .on_ray import OnRay  # late: nothing of Ray is imported for the local engine

    def prepare() -> IndexedBase | BaseError:
        base = bases.try_load(kernel)
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

    def kernel(self, kernel: KernelInput, base: IndexedBase) -> KernelReport:
        """Work on one kernel and commit it."""
        staging = self.out.stage_btf(kernel.name)
        facts = ScheduleFacts()
        known = SharedBase.of(base)
        shared = self.executor.share(known)
        tables = KernelTables(self.out, kernel, known)
        began = time.perf_counter()
        records = self._work(kernel, base, shared, tables, staging, facts)
        work_seconds = time.perf_counter() - began
        summary = summarize(records)
        began = time.perf_counter()
        manifest = self._write(kernel, base, shared, tables, staging, records)
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
        return self._commit(manifest, row, summary)

    def without_base(self, kernel: KernelInput, error: BaseError) -> KernelReport:
        """Commit a kernel of which no module could be worked on, each with the reason."""
        records = [
            ModuleRecord(
                module=module.name,
                object_id=module.object_id,
                source=module.source,
                path=printable(module.path),
                status=FAILED,
                failure=Failure(NO_BASE, f"{kernel.name} has no base that can be used: {error}"),
            )
            for module in kernel.modules
        ]
        summary = summarize(records)
        staging, tables = self.out.stage_btf(kernel.name), KernelTables(self.out, kernel, None)
        manifest = self._write(kernel, None, None, tables, staging, records)
        row = {"start_seconds": self.start_seconds, "modules": summary.modules}
        return self._commit(manifest, {**row, "failed": summary.failed}, summary)

    def _commit(
        self, manifest: Manifest, row: dict[str, Any], summary: WorkSummary
    ) -> KernelReport:
        manifest = self._with_run(manifest, row)
        self.out.commit(manifest)
        return KernelReport(
            kernel=manifest.kernel,
            summary=summary,
            tables=manifest_facts(manifest),
            btf_folder=manifest.btf_folder,
            index_seconds=row.get("index_seconds", 0.0),
            work_seconds=row.get("work_seconds", 0.0),
            tables_seconds=row.get("tables_seconds", 0.0),
        )

    def _work(
        self,
        kernel: KernelInput,
        base: IndexedBase,
        shared: Any,
        tables: KernelTables,
        staging: Path,
        facts: ScheduleFacts,
    ) -> list[ModuleRecord]:
        options = WorkOptions(
            str(staging),
            describe=True,
            release=base.release or kernel.release,
            encode=self.options.encode,
            encode_seconds=self.options.encode_seconds,
        )
        batches = cut(kernel.modules, self.executor.workers)
        records: list[ModuleRecord] = []
        failed = 0
        work = run_batches(self.executor, batches, shared, options, facts, tables.begin)
        for result in work:
            tables.add(result)
            records += result.records
            failed += sum(record.failure is not None for record in result.records)
            if self.progress is not None:
                self.progress(kernel.name, len(records), failed, len(kernel.modules))
        return sorted(records, key=lambda record: record.object_id)

    def _write(
        self,
        kernel: KernelInput,
        base: IndexedBase | None,
        shared: Any,
        tables: KernelTables,
        staging: Path,
        records: Sequence[ModuleRecord],
    ) -> Manifest:
        """Stage everything that the same input always gives."""
        described = _describe(kernel, base)
        parts = tables.finish(described, records, staging, self.executor, shared)
        expected = [record.module for record in records if record.failure is None]
        if base is not None:
            write_base(staging, base.content)
            expected.append("vmlinux")
        files, size = folder_facts(staging, expected)
        return Manifest(
            kernel=kernel.name,
            splitbtf_version=__version__,
            base_sha256=base.sha256 if base is not None else "",
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


def _describe(kernel: KernelInput, base: IndexedBase | None) -> BaseRecord | None:
    if base is None or base.file is None:
        return None
    return describe_base(
        base.types,
        path=base.file.path,
        source=base.file.source,
        sha256=base.sha256,
        release=base.release or kernel.release,
        encoder=base.encoder,
    )


def versions() -> dict[str, str]:
    """Of Python and of the libraries that the result could depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        found[name] = metadata.version(name)
    return found
