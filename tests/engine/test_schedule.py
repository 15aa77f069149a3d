"""Protects: every input is accounted for once, whatever dies; batches do not shape results."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import mul
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.forked import Forked
from pipeline.engine.inline import Inline
from pipeline.engine.isolation import WorkerExit, isolated
from pipeline.engine.on_ray import OnRay
from pipeline.engine.scheduler import JobStats, run_jobs
from pipeline.model.engine import (
    TRIES_ALONE,
    Batch,
    Call,
    Executor,
    Item,
    Result,
    WorkerDied,
    Workforce,
)
from pipeline.model.errors import CallError, EngineError, InternalError
from pipeline.model.records import ModuleInput
from pipeline.work.batches import MAX_BATCH_BYTES, cut
from support.commands import PATIENCE


def inputs(count: int, size: int = 1 << 20) -> list[ModuleInput]:
    return [ModuleInput(f"m{n:04}", f"/m{n:04}", f"m{n:04}", n + 1, size) for n in range(count)]


class OneJob:
    """A job of plain module names; what is done of each is kept."""

    shared: Any = "base"
    options = None
    has_work = True
    stall_seconds = PATIENCE

    def __init__(self, modules: Sequence[ModuleInput], calls: Sequence[int] = ()) -> None:
        self.stats = JobStats()
        self.is_done = False
        self.done: list[str] = []
        self.reasons: dict[str, str] = {}
        self.answers: list[Any] = []
        self._modules = modules
        self._calls = calls
        self._workforce: Workforce | None = None

    def batches(self, executor: Executor, workforce: Workforce) -> Iterator[Batch]:
        self._workforce = workforce
        return (Batch(modules) for modules in cut(self._modules, executor.workers))

    def finished(self, value: Sequence[str]) -> None:
        self.done += value

    def lost(self, module: ModuleInput, reason: str) -> None:
        self.reasons[module.name] = reason

    def complete(self) -> None:
        threading.Thread(target=self._finish).start()

    def _finish(self) -> None:
        assert self._workforce is not None
        try:
            self.answers = self._workforce.map(mul, self._calls)
        except (CallError, EngineError) as error:
            self.answers = [error]
        self.is_done = True


class TheseJobs:
    def __init__(self, *jobs: Any) -> None:
        self._jobs = list(jobs)
        self.exhausted = False

    def next(self, *, wait: bool) -> Any:
        if not self._jobs:
            self.exhausted = True
            return None
        return self._jobs.pop(0)

    def check(self) -> None:
        pass


def run(executor: Any, modules: Sequence[ModuleInput], calls: Sequence[int] = ()) -> OneJob:
    job = OneJob(modules, calls)
    run_jobs(lambda: executor, TheseJobs(job))
    return job


def names_of(item: Item) -> list[str]:
    assert isinstance(item, Batch)
    return [module.name for module in item.modules]


class Fake:
    """Finishes the newest item first; dies on poison, which isolated batches are told from."""

    def __init__(self, workers: int, poison: frozenset[str], hiccups: int = 0) -> None:
        self.workers = workers
        self.poison = poison
        self.hiccups = hiccups
        self.most_at_once = 0
        self.tries: Counter[str] = Counter()
        self.shared: list[Any] = []
        self._running: list[tuple[int, Item]] = []
        self._tickets = 0

    def share(self, value: Any) -> Any:
        self.shared.append(value)
        return value

    def release(self, shared: Any) -> None:
        self.shared.remove(shared)

    def submit(self, item: Item, shared: Any, options: Any) -> int:
        self._tickets += 1
        self._running.append((self._tickets, item))
        self.most_at_once = max(self.most_at_once, len(self._running))
        return self._tickets

    def wait(self, seconds: float) -> tuple[int, Result | WorkerDied]:
        ticket, item = self._running.pop()
        if self.hiccups:
            self.hiccups -= 1
            return ticket, WorkerDied("node lost")
        if isinstance(item, Call):
            return ticket, Result(item.function("base", item.argument), 0.0, 0)
        names = names_of(item)
        self.tries.update(names)
        if self.poison.intersection(names):
            return ticket, WorkerDied("killed")
        return ticket, Result(names, 0.0, 1)

    def kill_and_forget(self, ticket: int) -> None:
        pass

    def can_read(self, paths: Sequence[str]) -> bool:
        return True

    def close(self) -> None:
        pass


@given(st.lists(st.integers(0, 40 << 20), max_size=60), st.integers(1, 9))
def test_batches_hold_every_input_once_in_order(sizes: list[int], workers: int) -> None:
    modules = [ModuleInput(str(n), "", "", n + 1, size) for n, size in enumerate(sizes)]
    batches = cut(modules, workers)
    assert [module for batch in batches for module in batch] == modules
    assert all(batches)
    for batch in batches:
        assert len(batch) == 1 or sum(m.file_bytes for m in batch) < 2.5 * MAX_BATCH_BYTES


@given(st.integers(1, 80), st.sets(st.integers(0, 79), max_size=4), st.integers(0, 2))
def test_poison_is_isolated_by_bisection(count: int, poison: set[int], hiccups: int) -> None:
    """Here nothing helps but cutting batches in two: the fake dies of isolated ones as well."""
    names = frozenset(f"m{n:04}" for n in poison if n < count)
    fake = Fake(2, names, hiccups)
    job = run(fake, inputs(count))
    assert sorted([*job.done, *job.reasons]) == [module.name for module in inputs(count)]
    assert set(job.reasons) == names  # deaths that have other reasons are not blamed on a module
    assert fake.most_at_once <= 4
    assert max(fake.tries.values()) <= count.bit_length() + 6
    assert job.stats.crashes >= 2 * len(names)
    assert not fake.shared, "not released"


def begin_with_deaths(job: OneJob, fake: Fake, deaths: int) -> None:
    """So many workers die when the job's calls begin."""
    complete = job.complete

    def with_deaths() -> None:
        fake.hiccups = deaths
        complete()

    job.complete = with_deaths  # type: ignore[method-assign]


@given(st.integers(1, 40), st.integers(0, 9), st.integers(0, 2))
def test_calls_are_answered_in_their_order(modules: int, calls: int, hiccups: int) -> None:
    fake = Fake(3, frozenset(), 0)
    job = OneJob(inputs(modules), range(calls))
    begin_with_deaths(job, fake, hiccups)
    run_jobs(lambda: fake, TheseJobs(job))
    assert job.answers == ["base" * n for n in range(calls)]


def test_workers_that_die_of_every_call_are_said_to_whoever_waits_for_it() -> None:
    job = OneJob(inputs(1), [1])
    fake = Fake(2, frozenset())
    begin_with_deaths(job, fake, 99)
    run_jobs(lambda: fake, TheseJobs(job))
    (error,) = job.answers
    assert isinstance(error, CallError) and str(error).startswith("workers die of mul: ")
    assert job.stats.crashes == TRIES_ALONE


def test_the_next_job_is_begun_before_the_last_is_done() -> None:
    """Workers are not idle at the border between two kernels."""
    first, second = OneJob(inputs(20)), OneJob(inputs(20))
    fake = Fake(2, frozenset())
    begun: list[int] = []
    batches = second.batches

    def noted(executor: Executor, workforce: Workforce) -> Iterator[Batch]:
        begun.append(len(first.done))
        return batches(executor, workforce)

    second.batches = noted  # type: ignore[method-assign]
    run_jobs(lambda: fake, TheseJobs(first, second))
    assert len(first.done) == len(second.done) == 20
    assert begun[0] < 20


def test_no_engine_is_started_for_nothing() -> None:
    job = OneJob([])
    job.has_work = False
    job.complete = lambda: setattr(job, "is_done", True)  # type: ignore[method-assign]

    def engine() -> Executor:
        raise AssertionError

    run_jobs(engine, TheseJobs(job))
    assert job.is_done


def kills_itself(item: Item, shared: Any, options: Any) -> Result:
    if isinstance(item, Call):
        return Result(item.function(shared, item.argument), 0.0, os.getpid())
    for name in names_of(item):
        if name == "m0005":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "m0006":
            os._exit(3)
    return Result(names_of(item), 0.0, os.getpid())


@pytest.fixture(params=["forked", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    def on_ray() -> OnRay:
        # By value: Ray's workers do not know the modules of the tests.
        def function(item: Any, shared: Any, options: Any) -> Any:
            import os
            import signal

            from pipeline.model.engine import Result

            if not hasattr(item, "modules"):
                return Result(item.function(shared, item.argument), 0.0, os.getpid())
            names = [module.name for module in item.modules]
            if "m0005" in names:  # of more than one this takes long
                os.kill(os.getpid(), signal.SIGKILL)
            return Result(names, 0.0, os.getpid())

        return OnRay(2, None, function)

    made = Forked(2, kills_itself) if request.param == "forked" else on_ray()
    yield made
    made.close()


def test_real_workers_that_die(executor: Any, capfd: pytest.CaptureFixture[str]) -> None:
    job = run(executor, inputs(8), range(5))
    assert sorted([*job.done, *job.reasons]) == [module.name for module in inputs(8)]
    assert set(job.reasons) == ({"m0005"} if isinstance(executor, OnRay) else {"m0005", "m0006"})
    assert job.stats.crashes >= 3 * len(job.reasons)
    assert job.answers == ["base" * n for n in range(5)]
    assert capfd.readouterr().out == ""  # where results go


class OneHangs(Forked):
    """Whoever works on m0003 hangs. ``hanging`` is what of that was handed out, and ``others`` how
    much else is still out."""

    def __init__(self) -> None:
        super().__init__(2, sleeps)
        self.hanging: set[int] = set()
        self.others: set[int] = set()

    def submit(self, item: Item, shared: Any, options: Any) -> int:
        ticket = super().submit(item, shared, options)
        (self.hanging if "m0003" in names_of(item) else self.others).add(ticket)
        return ticket

    def wait(self, seconds: float) -> tuple[int, Result | WorkerDied] | None:
        done = super().wait(min(seconds, 0.02))
        if done is not None:
            self.others.discard(done[0])
        return done


def sleeps(item: Item, shared: Any, options: Any) -> Result:
    if "m0003" in names_of(item):
        time.sleep(PATIENCE)
    return Result(names_of(item), 0.0, os.getpid())


class Impatient(OneJob):
    """Gives up at once when nothing is out but what hangs, and never while there is something that
    may only be slow."""

    def __init__(self, modules: Sequence[ModuleInput], executor: OneHangs) -> None:
        super().__init__(modules)
        self._executor = executor

    @property
    def stall_seconds(self) -> float:  # type: ignore[override]
        return PATIENCE if self._executor.others else 0.1


def test_a_worker_that_gives_no_sign_of_life_is_given_up() -> None:
    """Whatever it is that keeps it, though it should have been killed by its own limit."""
    executor = OneHangs()
    job = Impatient(inputs(4, 1), executor)
    try:
        run_jobs(lambda: executor, TheseJobs(job))
    finally:
        executor.close()
    assert list(job.reasons) == ["m0003"] and "no sign of life" in job.reasons["m0003"]
    assert sorted(job.done) == ["m0000", "m0001", "m0002"]


def has_a_bug(*_: Any) -> Result:
    raise InternalError("the bug")


@pytest.mark.parametrize("make", [lambda: Inline(has_a_bug), lambda: Forked(2, has_a_bug)])
def test_a_bug_ends_the_run(make: Callable[[], Any]) -> None:
    executor = make()
    with pytest.raises(InternalError, match="the bug"):
        run(executor, inputs(8))
    executor.close()


def echo(item: Any, shared: Any, options: Any) -> Result:
    return Result(shared, 0.0, os.getpid())


def test_workers_get_what_is_shared_now() -> None:
    """What the first kernel shared is released, and the second's may lie where that was."""
    executor = Forked(1, echo)
    try:
        for value in ("first base", "second base", "third base"):
            shared = executor.share(value)
            executor.submit(Batch(()), shared, None)
            answer = executor.wait(PATIENCE)
            assert answer is not None and isinstance(answer[1], Result)
            assert answer[1].value == value
            executor.release(shared)
    finally:
        executor.close()


def dies_quietly() -> None:
    faulthandler.disable()  # what pytest has it print looks like pytest's own end
    os.kill(os.getpid(), signal.SIGSEGV)


def test_isolation() -> None:
    assert isolated(lambda: 7) == 7
    assert isolated(lambda: b"x" * (1 << 22)) == b"x" * (1 << 22)  # more than a pipe holds
    with pytest.raises(InternalError, match="the bug"):
        isolated(has_a_bug)
    assert isolated(dies_quietly) == WorkerExit("killed by SIGSEGV")
    assert isolated(lambda: os._exit(3)) == WorkerExit("exit status 3")
    late = isolated(lambda: time.sleep(PATIENCE), 0.2)
    assert isinstance(late, WorkerExit) and late.timed_out
