"""The main job: kernels in, committed split BTF and tables out.

    discover -> what has changed? -> the engine starts while the first base is indexed
             -> batches of one kernel after the other -> tables -> commit

Three threads: this one hands out batches, one prepares the next kernel, one puts tables together
and commits. How far a kernel is: ``kernel``; who works: ``schedule``; where it goes: ``output``.
"""

from __future__ import annotations

import datetime
import platform
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import btf

from . import __version__
from .engine.local import Forked, InProcess
from .engine.malloc import give_back, keep_little
from .engine.scheduler import Executor, run_jobs
from .kernel import Context, KernelJob, KernelReport, Progress, UnchangedJob
from .model.base import Announce, IndexedBase
from .model.errors import BaseError
from .model.program import versions
from .model.records import ENCODE_MISSING, ENCODE_NONE, ENCODE_SECONDS, MODULE_SECONDS, KernelInput
from .plan import Plan, Settings, base_memory, work_options
from .sources.discover import find_kernels
from .sources.unpack import PackageUnpacker
from .store.cached_results import find_known
from .store.input_cache import read_memory, remote_looks
from .store.output import OutputFolder
from .work.base import load_first
from .work.worker import prepare, work

BASE_ENCODE_FACTOR = 10  # a vmlinux holds that much more than a large module, and is worth it

Job = KernelJob | UnchangedJob


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
    module_seconds: float = MODULE_SECONDS
    retry: bool = False
    work_folder: str | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What came of a run. ``workers`` is 0 if there was no work for any."""

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
    keep_little()  # before there are workers, which then do the same
    started_at = datetime.datetime.now(datetime.UTC)
    kernels = find_kernels(
        options.sources, base=options.base, kernel=options.kernel, skip_folder=options.out
    )
    out = OutputFolder(options.out)
    try:
        this = _Run(options, kernels, out, began, started_at, announce, progress)
        try:
            reports = this.work()
        finally:
            this.close()
    finally:
        out.close()  # after the workers: nobody writes there any more
    return RunReport(
        out=out.storage.place,
        run_id=this.run_id,
        engine=options.engine,
        workers=this.engine.workers,
        kernels=tuple(reports[kernel.name] for kernel in kernels),
        start_seconds=this.engine.start_seconds,
        total_seconds=time.perf_counter() - began,
    )


class _Engine:
    """The executor, which is started when it is known that there may be work for it."""

    def __init__(self, options: RunOptions, began: float, announce: Announce | None) -> None:
        self.start_seconds = 0.0
        self.workers = 0
        self._options = options
        self._began = began
        self._announce = announce
        self._thread = ThreadPoolExecutor(1, "engine")
        self._starting: Future[Executor] | None = None

    def start(self) -> None:
        """Begin to start it. Other threads may be started only after this."""
        btf.warm_up(self._announce, tables=True)
        if self._options.engine == "ray":
            # Mostly waiting for other processes: the first base is read meanwhile.
            self._starting = self._thread.submit(self._on_ray)
            return
        workers = self._options.workers or 1
        self._starting = Future()
        self._starting.set_result(Forked(workers, work) if workers > 1 else InProcess(work))

    def _on_ray(self) -> Executor:
        from .engine.on_ray import OnRay  # late: nothing of Ray is imported for the local engine

        return OnRay(self._options.workers, self._options.ray_address, work, prepare)

    def get(self) -> Executor:
        """The executor, when it is ready."""
        if self._starting is None:
            self.start()
        assert self._starting is not None
        executor = self._starting.result()
        if not self.workers:
            self.workers = executor.workers
            self.start_seconds = time.perf_counter() - self._began
        return executor

    def close(self) -> None:
        """End it, if it was started."""
        if self._starting is not None and self._starting.exception() is None:
            self._starting.result().close()
        self._thread.shutdown()


class _Run:
    """One run: its parameters, its threads, and the kernels that are to come (``Jobs``)."""

    def __init__(
        self,
        options: RunOptions,
        kernels: Sequence[KernelInput],
        out: OutputFolder,
        began: float,
        started_at: datetime.datetime,
        announce: Announce | None,
        progress: Progress | None,
    ) -> None:
        self.run_id = f"{started_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
        self.engine = _Engine(options, began, announce)
        self.exhausted = False
        self._options = options
        self._out = out
        self._started_at = started_at
        self._announce = announce
        self._staging = PackageUnpacker(options.work_folder or out.scratch, options.encode)
        self._preparer = ThreadPoolExecutor(1, "prepare")
        self._writer = ThreadPoolExecutor(1, "write")
        self._written: list[Future[None]] = []
        self._reports: dict[str, KernelReport] = {}
        self._in_work: dict[str, tuple[str, threading.Event]] = {}  # base's digest, committed
        isolated = options.engine == "ray" or (options.workers or 1) > 1
        self._settings = Settings(
            encode=options.encode,
            encode_seconds=options.encode_seconds,
            module_seconds=options.module_seconds if isolated else None,
            retry=options.retry,
        )
        self._context = Context(
            out=out,
            settings=self._settings,
            writer=self._writer,
            runs_row=self._runs_row,
            note=self._note,
            check=self._written.append,
            progress=progress,
        )
        looks = remote_looks(kernels)
        self._plans = [Plan(kernel, out, self._settings, looks) for kernel in kernels]
        self._unusable: list[tuple[Plan, BaseError]] = []
        self._queue: list[Callable[[], Job | None]] = []
        self._coming: Future[Job | None] | None = None

    def work(self) -> dict[str, KernelReport]:
        """All kernels, and then what is left over of others is removed."""
        unchanged = {id(plan) for plan in self._plans if plan.is_unchanged()}
        if len(unchanged) < len(self._plans):
            self.engine.start()
        for plan in self._plans:
            if id(plan) in unchanged:
                self._queue.append(partial(UnchangedJob, self._context, plan))
            else:
                self._queue.append(partial(self._job, plan))
        self._prepare_next()
        run_jobs(self.engine.get, self)
        self._wait_for_writer()
        names = {name: read_memory(self._out.storage, name).results for name in self._reports}
        self._out.sweep(names)
        return self._reports

    def close(self) -> None:
        """End all threads and workers."""
        self._preparer.shutdown(wait=False, cancel_futures=True)
        for _, committed in list(self._in_work.values()):
            committed.set()  # nobody has to wait any more
        self._staging.close()
        self._preparer.shutdown()
        self._writer.shutdown(cancel_futures=True)
        self.engine.close()

    # -------------------------------------------------------------- Jobs

    def next(self, *, wait: bool) -> Job | None:
        """The next kernel; None if there is none, or none yet and ``wait`` is false."""
        while self._coming is not None:
            if not wait and not self._coming.done():
                return None
            job = self._coming.result()
            self._prepare_next()
            if job is not None:
                return job
        self.exhausted = True
        return None

    def _prepare_next(self) -> None:
        if not self._queue and self._unusable:
            self._queue = [partial(self._without_base, *entry) for entry in self._unusable]
            self._unusable = []
        self._coming = self._preparer.submit(self._queue.pop(0)) if self._queue else None

    def _job(self, plan: Plan) -> Job | None:
        """Prepare a kernel; None if it has no base: then it comes last."""
        kernel = plan.kernel
        self._staging.prepare(kernel)
        base = self._load(kernel)
        if isinstance(base, BaseError):
            self._unusable.append((plan, base))
            return None
        self._wait_for_same(base.sha256)
        job = self._made(plan, base)
        self._in_work[kernel.name] = (base.sha256, threading.Event())
        give_back()
        return job

    def _load(self, kernel: KernelInput) -> IndexedBase | BaseError:
        unpack = partial(self._staging.base, kernel)
        seconds = self._options.encode_seconds * BASE_ENCODE_FACTOR
        if self._options.encode == ENCODE_NONE:
            seconds = 0.0
        try:
            return load_first(kernel.bases, unpack, seconds, self._announce)
        except BaseError as error:
            return error

    def _wait_for_same(self, sha256: str) -> None:
        """What another kernel on the same base has in common with this one is done once."""
        for other, committed in list(self._in_work.values()):
            if other == sha256:
                committed.wait()

    def _made(self, plan: Plan, base: IndexedBase) -> KernelJob:
        options = work_options(self._settings, plan.kernel, base_memory(base))
        known = find_known(self._out, options, self._settings.retry)
        return KernelJob(self._context, plan, self._staging.modules(plan.kernel), base, known)

    def _without_base(self, plan: Plan, error: BaseError) -> Job:
        if not self._reports and not self._in_work:
            raise error  # of no kernel can anything be done
        return KernelJob(self._context, plan, plan.kernel, None, {}, error)

    # -------------------------------------------------------------- in the writer's thread

    def _runs_row(self, facts: Mapping[str, Any]) -> Any:
        from .tables.arrow import runs_table

        return runs_table(
            {
                "run_id": self.run_id,
                "started_at": self._started_at,
                "splitbtf_version": __version__,
                "versions": versions(),
                "machine": platform.machine(),
                "engine": self._options.engine,
                "ray_address": self._options.ray_address,
                "workers": self.engine.workers,
                "start_seconds": self.engine.start_seconds,
                **facts,
            }
        )

    def _note(self, report: KernelReport) -> None:
        self._reports[report.kernel] = report
        for plan in self._plans:
            if plan.kernel.name == report.kernel:
                self._staging.drop(plan.kernel)
        give_back()
        if report.kernel in self._in_work:
            self._in_work[report.kernel][1].set()

    def _wait_for_writer(self) -> None:
        for future in self._written:
            future.result()

    def check(self) -> None:
        """Raise what the writer could not cope with."""
        while self._written and self._written[0].done():
            self._written.pop(0).result()
