"""Keeps an executor busy with the batches of many kernels, and finds out what kills workers.

Knows nothing of processes or Ray: an ``Executor`` is whatever takes an item and later says what
came of it, or that the worker died. Memory is bounded: no more batches are handed out than can be
worked on soon, and no more kernels are begun than have batches handed out. While the last batches
of a kernel are worked on, those of the next one are handed out.

A worker that dies takes a batch with it. The batch is tried once more as it is: most deaths are the
worker's, or its node's, and not the batch's. Is it lost again, or was a module at work for as long
as it may, it is cut in as many pieces as there are workers, which are *isolated*: the worker takes
each module to a process of its own, so a module that kills is found at once and recorded by the
worker. If a worker dies of an isolated piece all the same, the piece is cut in two, and the halves
are treated the same way, down to the one module that cannot be done. A batch that a lost node or a
full memory took with it comes out of this unharmed. The same happens to a batch on which the work
function fails in a way that nobody has thought of.

What cannot be done for a whole kernel, its tables for one, is that kernel's failure: the others go
on, and so it is with a place in the output that cannot be used (PlaceError). Only if nothing can be
written there (other OutputErrors), or there are no workers, or none that lives (EngineErrors), the
run ends.

When all batches of a kernel are done, its tables are put together in another thread, which may
have functions called on workers (``Workforce``) between the batches of the next kernel.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..model.engine import (
    TRIES_ALONE,
    Batch,
    Call,
    Executor,
    Function,
    Item,
    Outcome,
    Raised,
    WorkerDied,
    Workforce,
    workers_die,
)
from ..model.errors import CommandError, EngineError, OutputError, PlaceError
from ..model.records import ModuleInput
from ..model.stages import TABLES, add_seconds
from ..model.steps import STEPS

_POLL_SECONDS = 0.02  # while other threads prepare or finish a kernel and workers are idle
_LONG_SECONDS = 60.0
_HOPELESS = 100  # deaths one after the other, beside four for each worker


@dataclass(slots=True)
class JobStats:
    """What happened while a job's batches ran. ``work_seconds`` is from its first to its last, and
    ``busy_seconds`` what workers did for it in that time, calls included; ``stages``: s of all that
    they did for it, by stage."""

    batches: int = 0
    crashes: int = 0
    busy_seconds: float = 0.0
    work_seconds: float = 0.0
    processes: set[int] = field(default_factory=set)
    stages: dict[str, float] = field(default_factory=dict)

    def add_call(self, function: Function, seconds: float) -> None:
        """Add what a worker took for a function: the stage of the table that it belongs to."""
        module = function.__module__.rpartition(".")[2]
        add_seconds(self.stages, {TABLES if module == "slices" else module: seconds})


class Job(Protocol):
    """One kernel's worth of batches."""

    stats: JobStats

    @property
    def has_work(self) -> bool:
        """Whether there will be any batch."""

    @property
    def shared(self) -> Any:
        """For ``Executor.share``."""

    @property
    def options(self) -> Any:
        """For the work function; asked for after ``batches``."""

    @property
    def stall_seconds(self) -> float:
        """How long nothing may be finished before workers count as dead."""

    @property
    def module_seconds(self) -> float:
        """How long a module may take before its worker is ended."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to come, after ``complete``."""

    def batches(self, executor: Executor, workforce: Workforce) -> Iterator[Batch]:
        """The batches, made when they are to be handed out. Only asked for if there is work."""

    def finished(self, value: Any) -> None:
        """A batch is done; in any order."""

    def lost(self, module: ModuleInput, reason: str) -> None:
        """Nothing can be had of a module."""

    def fail(self, error: Exception) -> None:
        """The kernel cannot be done: there will be no more batches. ``complete`` is called yet."""

    def complete(self) -> None:
        """All batches are done: begin to finish the kernel, in another thread."""


class Jobs(Protocol):
    """The kernels to come."""

    @property
    def exhausted(self) -> bool:
        """Whether there will be no more."""

    def next(self, *, wait: bool) -> Job | None:
        """The next job; None if there is none, or none yet and ``wait`` is false."""

    def check(self) -> None:
        """Raise what other threads could not cope with."""


def run_jobs(engine: Callable[[], Executor], jobs: Jobs) -> None:
    """Work on all jobs, each in its order, the next begun when a worker would be idle.

    ``engine`` is asked for the executor when there is work for it, not before.
    """
    loop = _Loop(engine, jobs)
    try:
        loop.run()
    finally:
        loop.end_calls()


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Running:
    """A job that is not done."""

    job: Job
    batches: Iterator[Batch] = field(default_factory=lambda: iter(()))
    handle: Any = None
    out: int = 0
    completed: bool = False
    failed: bool = False
    retries: deque[tuple[Batch, int]] = field(default_factory=deque)
    began: float = field(default_factory=time.perf_counter)

    def next_batch(self) -> tuple[Batch, int] | None:
        """The next batch to hand out, and which attempt it is, from 1."""
        if self.failed:
            return None
        if self.retries:
            return self.retries.popleft()
        try:
            batch = next(self.batches, None)
        except Exception as error:
            self.fail(error)
            return None
        return (batch, 1) if batch is not None else None

    def fail(self, error: Exception) -> None:
        """The kernel cannot be done. Raises EngineErrors, and OutputErrors but PlaceError: no other
        can be either."""
        if isinstance(error, EngineError | OutputError) and not isinstance(error, PlaceError):
            raise error
        self.failed = True
        self.job.fail(error)


@dataclass(slots=True, eq=False)
class _Attempt:
    """An item that is handed out, or is to be: which attempt it is, and since when; since a worker
    has begun with it, as soon as that is known."""

    running: _Running
    item: Item
    number: int = 1
    future: Future[Any] | None = None  # of a call
    since: float = 0.0
    begun: bool = False


class _JobWorkforce(Workforce):
    """The workforce of a job: its calls are handed out by the loop, which is another thread."""

    def __init__(
        self,
        running: _Running,
        calls: queue.SimpleQueue[_Attempt],
        ended: threading.Event,
        workers: int,
    ) -> None:
        self.workers = workers
        # Weak: the job has this. In a circle it would stay, with its base, until Python looks for
        # such circles, which it does seldom.
        self._running = weakref.ref(running)
        self._calls = calls
        self._ended = ended

    def submit(self, function: Function, argument: Any) -> Future[Any]:
        running = self._running()
        assert running is not None  # its job waits for this
        future: Future[Any] = Future()
        self._calls.put(_Attempt(running, Call(function, argument), future=future))
        if self._ended.is_set():  # nobody may have seen it
            _give_up_on(future)
        return future


def _give_up_on(future: Future[Any]) -> None:
    """Whoever waits for a call that nobody will do must not wait for ever."""
    with contextlib.suppress(InvalidStateError):
        future.set_exception(EngineError("the run has ended"))


class _Loop:
    """Hands out batches and calls, and takes what comes of them."""

    def __init__(self, engine: Callable[[], Executor], jobs: Jobs) -> None:
        self._engine = engine
        self._jobs = jobs
        self._executor: Executor | None = None
        self._current: deque[_Running] = deque()
        self._calls: queue.SimpleQueue[_Attempt] = queue.SimpleQueue()
        self._again: deque[_Attempt] = deque()  # calls whose worker died
        self._ended = threading.Event()
        self._out: dict[Any, _Attempt] = {}
        self._heard = self._looked = time.monotonic()
        self._deaths = 0  # since the last item that was done

    @property
    def _room(self) -> int:
        """How much may be handed out: that no worker is idle, however many there are now."""
        return 2 * self._executor.workers if self._executor is not None else 1

    def run(self) -> None:
        """Until all jobs are done."""
        while True:
            self._jobs.check()
            self._hand_out()
            self._retire()
            if self._out:
                self._take_one()
            elif self._jobs.exhausted and not self._current:
                return
            else:
                self._heard = time.monotonic()
                self._pause()

    def end_calls(self) -> None:
        """Nothing more is handed out."""
        self._ended.set()
        waiting = [*self._out.values(), *self._again]
        while not self._calls.empty():
            waiting.append(self._calls.get())
        for attempt in waiting:
            if attempt.future is not None:
                _give_up_on(attempt.future)

    def _hand_out(self) -> None:
        while len(self._out) < self._room:
            attempt = self._next_call() or self._next_batch()
            if attempt is None:
                self._retire()  # the next job may have to wait for one of these
                idle = not self._out and not self._current
                job = self._jobs.next(wait=idle)
                if job is None:
                    return
                self._begin(job)
                continue
            assert self._executor is not None
            attempt.since, attempt.begun = time.monotonic(), False
            running = attempt.running
            ticket = self._executor.submit(attempt.item, running.handle, running.job.options)
            self._out[ticket] = attempt
            running.out += 1

    def _begin(self, job: Job) -> None:
        running = _Running(job)
        if job.has_work:
            if self._executor is None:
                self._executor = self._engine()
            try:
                running.handle = self._executor.share(job.shared)
                workforce = _JobWorkforce(running, self._calls, self._ended, self._executor.workers)
                running.batches = job.batches(self._executor, workforce)
            except Exception as error:
                running.fail(error)
            running.began = time.perf_counter()  # not while the engine was starting
        self._current.append(running)

    def _next_call(self) -> _Attempt | None:
        if self._again:
            return self._again.popleft()
        return self._calls.get() if not self._calls.empty() else None

    def _next_batch(self) -> _Attempt | None:
        for running in self._current:
            if (found := running.next_batch()) is not None:
                return _Attempt(running, *found)
        return None

    def _retire(self) -> None:
        """Complete jobs whose batches are done, and take leave of those that are done."""
        for running in list(self._current):
            if not running.completed:
                if running.out:
                    continue
                if (batch := running.next_batch()) is not None:
                    running.retries.append(batch)
                    continue
                running.job.stats.work_seconds = time.perf_counter() - running.began
                running.completed = True
                running.job.complete()
            if running.job.is_done:
                self._current.remove(running)
                if self._executor is not None and running.handle is not None:
                    self._executor.release(running.handle)

    def _pause(self) -> None:
        """Nothing is out, but other threads are at work: wait for what they come up with."""
        with contextlib.suppress(queue.Empty):
            self._again.append(self._calls.get(timeout=_POLL_SECONDS))

    def _take_one(self) -> None:
        assert self._executor is not None
        # With all workers busy there is nothing to do before something is finished.
        others = not self._jobs.exhausted or any(running.completed for running in self._current)
        idle = len(self._out) < self._room and others
        stall = max(attempt.running.job.stall_seconds for attempt in self._out.values())
        done = self._executor.wait(_POLL_SECONDS if idle else min(stall, _LONG_SECONDS))
        if done is None:
            if time.monotonic() - self._looked > min(stall, _LONG_SECONDS):
                self._look_for_life(stall)
            return
        self._heard = time.monotonic()
        ticket, outcome = done
        self._take(self._out.pop(ticket), outcome)

    def _look_for_life(self, stall: float) -> None:
        """Nothing came back for a while: what is worked on for too long is lost, and its workers
        ended. What waits for a worker is not silent."""
        assert self._executor is not None
        self._looked = now = time.monotonic()
        for ticket, attempt in list(self._out.items()):
            if not attempt.begun:
                attempt.begun, attempt.since = self._executor.has_begun(ticket), now
            elif now - max(attempt.since, self._heard) > stall:
                self._executor.kill_and_forget(ticket)
                del self._out[ticket]
                self._take(attempt, WorkerDied(f"no sign of life for {stall:.0f} s"))

    def _take(self, attempt: _Attempt, outcome: Outcome) -> None:
        attempt.running.out -= 1
        stats = attempt.running.job.stats
        if isinstance(outcome, Raised):
            if attempt.future is not None:
                attempt.future.set_exception(outcome.error)
                return
            if isinstance(outcome.error, CommandError):
                attempt.running.fail(outcome.error)
                return
            outcome = WorkerDied(str(outcome.error))
        if isinstance(outcome, WorkerDied):
            STEPS.info("a worker was lost (%s): what it had is tried again", outcome.reason)
            stats.crashes += 1
            self._count_death(outcome)
            self._try_again(attempt, outcome)
            return
        self._deaths = 0
        if not attempt.running.completed:
            stats.busy_seconds += outcome.busy_seconds
        if attempt.future is not None:
            assert isinstance(attempt.item, Call)
            stats.add_call(attempt.item.function, outcome.busy_seconds)
            attempt.future.set_result(outcome.value)
            return
        stats.batches += 1
        stats.processes.add(outcome.process_id)
        attempt.running.job.finished(outcome.value)

    def _count_death(self, death: WorkerDied) -> None:
        """Raise EngineError where workers die whatever they do: that is no module's fault."""
        assert self._executor is not None
        self._deaths += 1
        if self._deaths > _HOPELESS + 4 * self._executor.workers:
            raise EngineError(
                f"workers die whatever they do, {self._deaths:,} one after the other: "
                f"{death.reason}; what is done is kept for the next run"
            )

    def _try_again(self, attempt: _Attempt, death: WorkerDied) -> None:
        item, retries = attempt.item, attempt.running.retries
        if isinstance(item, Call):
            attempt.number += 1
            if attempt.number <= TRIES_ALONE:
                self._again.append(attempt)
            else:
                assert attempt.future is not None
                attempt.future.set_exception(workers_die(item.function, death.reason))
            return
        modules = item.modules
        if not item.isolated:
            took = time.monotonic() - attempt.since
            if attempt.number == 1 and took < attempt.running.job.module_seconds:
                retries.append((item, 2))
                return
            assert self._executor is not None
            retries.extend(_parts(item, self._executor.workers))
        elif len(modules) > 1:
            retries.extend(_parts(item, 2))
        elif attempt.number < TRIES_ALONE:
            retries.append((item, attempt.number + 1))
        else:
            attempt.running.job.lost(modules[0], death.reason)


def _parts(batch: Batch, count: int) -> Iterator[tuple[Batch, int]]:
    """Cut a batch in so many, or one for each module, isolated, to be tried for the first time."""
    size = -(-len(batch.modules) // count)
    for start in range(0, len(batch.modules), size):
        modules = batch.modules[start : start + size]
        yield Batch(modules, isolated=True, contents=batch.contents), 1
