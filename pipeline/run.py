"""The main job: kernels in, committed split BTF and tables out.

    discover -> what has changed? -> the engine starts while the first base is indexed
             -> batches of one kernel after the other -> tables -> commit

Three threads: this one hands out batches, one prepares the next kernel, one puts tables together
and commits. How far a kernel is: ``kernel``; who works: ``schedule``; where it goes: ``output``.
"""

from __future__ import annotations

import contextlib
import datetime
import platform
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import btf

from . import __version__
from .commit import KernelReport, RunContext, lost_report
from .engine.calls import IsolatedCalls, IsolatedWorkforce
from .engine.malloc import release_memory, system_pool
from .engine.registry import ENGINES
from .engine.scheduler import run_jobs
from .files.remote import shown
from .files.scratch import remove_abandoned
from .kernel import KernelJob, UnchangedJob
from .model.base import Announce, IndexedBase, SharedBase
from .model.engine import Executor, Workforce
from .model.errors import (
    BaseError,
    CallError,
    CommandError,
    EngineError,
    InternalError,
    OutputError,
    PlaceError,
)
from .model.options import ENCODE_NONE, RunOptions
from .model.program import versions
from .model.records import FileInput, KernelInput
from .model.steps import STEPS
from .plan import Plan, base_memory, kernel_context
from .sources.debuginfod import NotFoundError, keep_debug_info
from .sources.discover import find_kernels
from .sources.names import printable
from .sources.unpack import PackageUnpacker
from .store.cached_results import find_cached
from .store.input_cache import remote_signatures
from .store.output import OutputFolder
from .work.base import Unusable, load_first, load_shared
from .work.batch import prepare, work

BASE_ENCODE_FACTOR = 10  # a vmlinux holds that much more than a large module, and is worth it

_ALONE = threading.Lock()  # a run forks, which is safe where no other thread does its work

Job = KernelJob | UnchangedJob
T = TypeVar("T")
# Label of a kernel, its modules: done, failed, of; modules of kernels that are to come.
Overall = Callable[[str, int, int, int, int], None]


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
    options: RunOptions, *, announce: Announce | None = None, progress: Overall | None = None
) -> RunReport:
    """Do it. Raises CommandError if nothing could be done, or the output cannot be written.

    May be called by any program, also by one that uses Ray, from any thread; one run in a process
    at a time: another one waits for it.
    """
    if not _ALONE.acquire(blocking=False):
        STEPS.info("waiting for another run in this process")
        _ALONE.acquire()
    try:
        with system_pool():  # before there are workers, which then do the same
            return _run(options, announce, progress)
    finally:
        _ALONE.release()


def _run(options: RunOptions, announce: Announce | None, progress: Overall | None) -> RunReport:
    began = time.perf_counter()
    first, more = options.sources[0], len(options.sources) - 1
    STEPS.info("reading %s%s", shown(first), f" and {more} more" if more else "")
    started_at = datetime.datetime.now(datetime.UTC)
    kernels = find_kernels(
        options.sources, base=options.base, kernel=options.kernel, skip_folder=options.out
    )
    modules = sum(len(kernel.modules) for kernel in kernels)
    STEPS.debug("kernels found: %d, modules: %d", len(kernels), modules)
    remove_abandoned()
    out = OutputFolder(options.out)
    try:
        this = _Run(options, kernels, out, began, started_at, announce, progress)
        try:
            reports = this.work()
        except EngineError as error:
            raise this.with_log(error) from None
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
        self._engine = ENGINES[options.engine]
        self._options = options
        self._began = began
        self._announce = announce
        self._calls: IsolatedCalls | None = None
        self._ended = threading.Event()
        self._thread = ThreadPoolExecutor(1, "engine")
        self._starting: Future[Executor] | None = None

    def start(self) -> None:
        """Begin to start it. Other threads may be started only after this."""
        btf.warm_up(self._announce, tables=True)
        self._calls = IsolatedCalls()
        start = partial(
            self._engine.start, self._options, work, prepare, self._announce, self._ended
        )
        if self._engine.background:  # the first base is read meanwhile
            self._starting = self._thread.submit(start)
        else:
            self._starting = Future()
            self._starting.set_result(start())

    @property
    def is_ready(self) -> bool:
        """Whether nobody has to wait for the executor."""
        starting = self._starting
        return starting is not None and starting.done() and starting.exception() is None

    def get(self) -> Executor:
        """Wait for the executor to be ready."""
        if self._starting is None:
            self.start()
        assert self._starting is not None
        executor = self._starting.result()
        if not self.workers:
            self.workers = executor.workers
            self.start_seconds = time.perf_counter() - self._began
        return executor

    @property
    def calls(self) -> IsolatedCalls:
        """What calls functions in processes of their own, whatever the engine is."""
        assert self._calls is not None  # made where anything is to be done
        return self._calls

    def log(self, error: EngineError) -> bytes:
        """What its processes wrote last, before or after it was ready."""
        if self._starting is None or not self._starting.done() or self._starting.exception():
            return error.log
        return self._starting.result().log()

    def end_calls(self) -> None:
        """Whoever waits for a call waits no longer."""
        if self._calls is not None:
            self._calls.close()

    def close(self) -> None:
        """End it, if it was started, or is being so."""
        self._ended.set()
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
        progress: Overall | None,
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
        self._context = RunContext(
            out=out,
            options=options,
            writer=self._writer,
            run_row=self._run_row,
            note=self._note,
            check=self._written.append,
            workforce=self._workforce,
            has_workers=lambda: self.engine.is_ready,
            progress=self._progress if progress is not None else None,
        )
        self._show = progress
        self._changed: list[KernelInput] = []
        signatures = remote_signatures(kernels)
        self._plans = [Plan(kernel, out, options, signatures) for kernel in kernels]
        self._unusable: list[tuple[Plan, BaseError]] = []
        self._queue: list[tuple[Plan, Callable[[], Job | None]]] = []
        self._coming: Future[Job | None] | None = None

    def work(self) -> dict[str, KernelReport]:
        """All kernels, and then what is left over of others is removed."""
        for plan in self._plans:
            unchanged = self._try(plan, plan.is_unchanged)
            if unchanged is not None:
                make = partial(UnchangedJob, self._context) if unchanged else self._job
                self._queue.append((plan, partial(make, plan)))
                if not unchanged:
                    self._changed.append(plan.kernel)
        if self._changed:
            self.engine.start()
        self._prepare_next()
        run_jobs(self.engine.get, self)
        self._wait_for_writer()
        done = (report for report in self._reports.values() if report.problem is None)
        for problem in self._out.collect_garbage({one.kernel: one.results for one in done}):
            if self._announce is not None:
                self._announce(f"what no kernel needs any more is still there: {problem}")
        return self._reports

    def with_log(self, error: EngineError) -> EngineError:
        """Keep what the engine's processes wrote last in the output; the error that says where."""
        log = self.engine.log(error)
        with contextlib.suppress(OutputError):
            if log:
                where = self._out.keep_log(log)
                return EngineError(f"{error}; the end of Ray's logs is in {where}")
        return error

    def close(self) -> None:
        """End all threads and workers."""
        self._preparer.shutdown(wait=False, cancel_futures=True)
        for _, committed in list(self._in_work.values()):
            committed.set()  # nobody has to wait any more
        self._staging.close()
        self.engine.end_calls()
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
            if len(self._unusable) == len(self._plans):
                raise self._none_usable()
            for plan, error in self._unusable:
                job = partial(KernelJob, self._context, plan, plan.kernel, error, {})
                self._queue.append((plan, job))
            self._unusable = []
        self._coming = None
        if self._queue:
            plan, make = self._queue.pop(0)
            self._coming = self._preparer.submit(lambda: self._try(plan, make))

    def _try(self, plan: Plan, function: Callable[[], T]) -> T | None:
        """Call a function. What goes wrong fails this kernel alone; then None is returned."""
        try:
            return function()
        except Exception as error:
            if isinstance(error, CommandError) and not isinstance(error, PlaceError):
                raise  # of no kernel anything could be done
            self._note(lost_report(plan.kernel, error))
            return None

    def _job(self, plan: Plan) -> Job | None:
        """Prepare a kernel; None if it has no base: then it comes last."""
        kernel = plan.kernel
        STEPS.info(
            "kernel %s of %d: %s, %s modules",
            self._place(kernel.name), len(self._changed), kernel.name, f"{len(kernel.modules):,}",
        )  # fmt: skip
        self._staging.prepare(kernel)
        unpack = partial(self._staging.base, kernel)
        seconds = self._options.encode_seconds * BASE_ENCODE_FACTOR
        if self._options.encode == ENCODE_NONE:
            seconds = 0.0
        try:
            base, shared = load_first(
                kernel.bases, unpack, self._load, seconds, self._announce, self._fetcher()
            )
        except BaseError as error:
            self._unusable.append((plan, error))
            return None
        self._wait_for_same(base.sha256)
        context = kernel_context(self._options, kernel, base_memory(base))
        cached = find_cached(self._out, context)
        modules = self._staging.modules(kernel)
        job = KernelJob(self._context, plan, modules, (base, shared), cached)
        self._in_work[kernel.name] = (base.sha256, threading.Event())
        release_memory()
        return job

    def _fetcher(self) -> Callable[[str], str] | None:
        """What gets a vmlinux's file with debug information from servers, if there are any."""
        settings, seconds = self._options.debuginfod, self._options.encode_seconds
        if settings is None or self._options.encode == ENCODE_NONE:
            return None

        def fetch(build_id: str) -> str:
            arguments = build_id, settings, seconds
            try:
                path, reason = self.engine.calls.call(
                    keep_debug_info, arguments, seconds=2 * seconds
                )
            except (CallError, InternalError) as error:
                raise NotFoundError(str(error)) from error
            if not path:
                raise NotFoundError(reason)
            return str(path)

        return fetch

    def _load(
        self, base: FileInput, encode_seconds: float
    ) -> tuple[IndexedBase, SharedBase] | Unusable:
        """Load a base in a process of its own, so that the run goes on whatever it does."""
        seconds = self._options.module_seconds + encode_seconds
        try:
            loaded: tuple[IndexedBase, SharedBase] | Unusable = self.engine.calls.call(
                load_shared, (base, encode_seconds), seconds=seconds
            )
        except (CallError, InternalError) as error:
            return Unusable(f"{printable(base.path)}: cannot be read and indexed: {error}")
        return loaded

    def _workforce(self, base: SharedBase | None, seconds: float) -> Workforce:
        return IsolatedWorkforce(self.engine.calls, base, seconds)

    def _wait_for_same(self, sha256: str) -> None:
        """What another kernel on the same base has in common with this one is done once."""
        for other, committed in list(self._in_work.values()):
            if other == sha256:
                committed.wait()

    def _place(self, name: str) -> int:
        """Which of the kernels that are worked on it is, from 1 on."""
        return next(at for at, kernel in enumerate(self._changed, 1) if kernel.name == name)

    def _progress(self, name: str, done: int, failed: int, of: int) -> None:
        assert self._show is not None
        at, kernels = self._place(name), len(self._changed)
        label = f"{name} ({at} of {kernels})" if kernels > 1 else name
        later = sum(len(kernel.modules) for kernel in self._changed[at:])
        self._show(label, done, failed, of, later)

    def _none_usable(self) -> BaseError:
        """What to say where of no kernel anything can be done."""
        if len(self._unusable) == 1:
            return self._unusable[0][1]
        told = "; ".join(f"{plan.kernel.name}: {error}" for plan, error in self._unusable)
        return BaseError(f"no kernel has a base that can be used: {told}")

    # -------------------------------------------------------------- in the writer's thread

    def _run_row(self) -> Mapping[str, Any]:
        return {
            "run_id": self.run_id,
            "started_at": self._started_at,
            "splitbtf_version": __version__,
            "versions": versions(),
            "machine": platform.machine(),
            "engine": self._options.engine,
            "ray_address": self._options.ray_address,
            "workers": self.engine.workers,
            "start_seconds": self.engine.start_seconds,
        }

    def _note(self, report: KernelReport) -> None:
        self._reports[report.kernel] = report
        for plan in self._plans:
            if plan.kernel.name == report.kernel:
                self._staging.drop(plan.kernel)
        if report.kernel in self._in_work:  # else nothing was done for it
            release_memory()
            self._in_work[report.kernel][1].set()

    def _wait_for_writer(self) -> None:
        for future in self._written:
            future.result()

    def check(self) -> None:
        """Raise what the writer could not cope with."""
        while self._written and self._written[0].done():
            self._written.pop(0).result()
