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

from pipeline.engine.isolation import WorkerExit, attempt, isolated
from pipeline.engine.local import Local
from pipeline.engine.on_ray import OnRay
from pipeline.engine.scheduler import JobStats, run_jobs
from pipeline.model.engine import (
    TRIES_ALONE,
    Batch,
    Call,
    Executor,
    Item,
    Outcome,
    Result,
    WorkerDied,
    Workforce,
    WorkFunction,
)
from pipeline.model.errors import CallError, EngineError, InternalError, OutputError, SourceError
from pipeline.model.records import ModuleInput
from pipeline.work.batches import MAX_BATCH_BYTES, cut
from support.commands import PATIENCE, wait_for
from support.ends.disturbing import kills_itself, names_of
from support.paths import TESTS


def inputs(count: int, size: int = 1 << 20) -> list[ModuleInput]:
    return [ModuleInput(f"m{n:04}", f"/m{n:04}", f"m{n:04}", n + 1, size) for n in range(count)]


class OneJob:
    """A job of plain module names; what is done of each is kept."""

    shared: Any = "base"
    options = None
    has_work = True
    stall_seconds = module_seconds = PATIENCE

    def __init__(self, modules: Sequence[ModuleInput], calls: Sequence[int] = ()) -> None:
        self.stats = JobStats()
        self.is_done = False
        self.done: list[str] = []
        self.reasons: dict[str, str] = {}
        self.answers: list[Any] = []
        self.error: Exception | None = None
        self.function: Callable[..., Any] = mul
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

    def fail(self, error: Exception) -> None:
        self.error = error

    def complete(self) -> None:
        threading.Thread(target=self._finish).start()

    def _finish(self) -> None:
        try:
            if self._calls:
                assert self._workforce is not None
                self.answers = self._workforce.map(self.function, self._calls)
        except Exception as error:
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


class Fake:
    """Finishes the newest item first; dies on poison, which isolated batches are told from."""

    def __init__(self, workers: int, poison: frozenset[str], hiccups: int = 0) -> None:
        self.workers = workers
        self.poison = poison
        self.hiccups = hiccups
        self.most_at_once = 0
        self.tries: Counter[str] = Counter()
        self.shared: list[Any] = []
        self._running: list[tuple[int, Item, Any]] = []
        self._tickets = 0

    def share(self, value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        self.shared.append(value)
        return value

    def release(self, shared: Any) -> None:
        self.shared.remove(shared)

    def submit(self, item: Item, shared: Any, options: Any) -> int:
        self._tickets += 1
        self._running.append((self._tickets, item, shared))
        self.most_at_once = max(self.most_at_once, len(self._running))
        return self._tickets

    def wait(self, seconds: float) -> tuple[int, Outcome]:
        ticket, item, shared = self._running.pop()
        if callable(shared):
            return ticket, attempt(shared, item, shared, None)
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

    def has_begun(self, ticket: Any) -> bool:
        return True

    def can_read(self, paths: Sequence[str]) -> bool:
        return True

    def log(self) -> bytes:
        return b""

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


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(0, 9), st.integers(0, 2))
def test_calls_are_answered_in_their_order(modules: int, calls: int, hiccups: int) -> None:
    fake = Fake(3, frozenset(), 0)
    job = OneJob(inputs(modules), range(calls))
    begin_with_deaths(job, fake, hiccups)
    run_jobs(lambda: fake, TheseJobs(job))
    assert job.answers == ["base" * n for n in range(calls)]


def test_workers_that_die_of_every_call() -> None:
    """Whoever asked is told, and is not left waiting."""
    job = OneJob(inputs(1), [1])
    fake = Fake(2, frozenset())
    begin_with_deaths(job, fake, 99)
    run_jobs(lambda: fake, TheseJobs(job))
    (error,) = job.answers
    assert isinstance(error, CallError) and str(error) == "workers die of mul: node lost"
    assert job.stats.crashes == TRIES_ALONE


def test_workers_that_die_of_everything() -> None:
    """That is no module's fault, and ends the run."""
    fake = Fake(2, frozenset(), hiccups=10_000)
    with pytest.raises(EngineError, match="whatever they do, 109 one after the other: node lost"):
        run(fake, inputs(1000))


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


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.long)])
def executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))  # where Ray's workers find the function
    made = Local(2, kills_itself) if request.param == "local" else OnRay(2, None, kills_itself)
    yield made
    made.close()


def test_real_workers_that_die(executor: Any, capfd: pytest.CaptureFixture[str]) -> None:
    job = run(executor, inputs(8), range(5))
    assert sorted([*job.done, *job.reasons]) == [module.name for module in inputs(8)]
    assert set(job.reasons) == {"m0005", "m0006"}
    assert job.stats.crashes >= 3 * len(job.reasons)
    assert job.answers == ["base" * n for n in range(5)]
    assert capfd.readouterr().out == ""  # where results go


class Noting(Fake):
    """Notes which batches it is given, by their modules, and whether they are isolated."""

    def __init__(self, hiccups: int) -> None:
        super().__init__(2, frozenset(), hiccups)
        self.given: list[tuple[int, bool]] = []

    def submit(self, item: Item, shared: Any, options: Any) -> int:
        assert isinstance(item, Batch)
        self.given.append((len(item.modules), item.isolated))
        return super().submit(item, shared, options)


@pytest.mark.parametrize(
    ("deaths", "module_seconds", "given"),
    [
        (1, PATIENCE, [(7, False)] * 2),
        (2, PATIENCE, [(7, False)] * 2 + [(4, True), (3, True)]),
        (1, 0.0, [(7, False), (4, True), (3, True)]),
    ],
)
def test_a_lost_batch_is_tried_again_as_it_is_and_then_in_pieces_on_all_workers(
    deaths: int, module_seconds: float, given: list[tuple[int, bool]]
) -> None:
    fake, job = Noting(deaths), OneJob(inputs(7, 1))
    job.module_seconds = module_seconds  # for as long as that it was not out
    run_jobs(lambda: fake, TheseJobs(job))
    assert fake.given == given
    assert sorted(job.done) == [module.name for module in inputs(7)]


class Queued(Fake):
    """Whose workers are in use elsewhere for long."""

    waits = 0

    def wait(self, seconds: float) -> Any:
        self.waits += 1
        return super().wait(seconds) if self.waits > 50 else None

    def has_begun(self, ticket: Any) -> bool:
        return False

    def kill_and_forget(self, ticket: int) -> None:
        raise AssertionError("nobody works on it")


def test_what_waits_for_a_worker_is_not_silent() -> None:
    job = OneJob(inputs(3))
    job.stall_seconds = 0.0
    run_jobs(lambda: Queued(2, frozenset()), TheseJobs(job))
    assert len(job.done) == 3 and not job.stats.crashes


class OneHangs(Local):
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

    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
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


@pytest.mark.slow
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


def out_of_memory(*_: Any) -> Result:
    raise MemoryError


def no_room(*_: Any) -> Result:
    raise OutputError("no room")


def stop(*_: Any) -> Result:
    raise SourceError("out of reach")


@pytest.mark.parametrize(
    ("function", "reason"), [(has_a_bug, "the bug"), (out_of_memory, "out of memory")]
)
def test_a_bug_or_too_little_memory_is_like_a_death(function: WorkFunction, reason: str) -> None:
    executor = Local(2, function)
    try:
        job = run(executor, inputs(2))
    finally:
        executor.close()
    assert job.reasons == {module.name: reason for module in inputs(2)}


@pytest.mark.parametrize("function", [has_a_bug, no_room, stop])
def test_what_a_call_raises_is_for_whoever_asked(function: Callable[..., Result]) -> None:
    executor = Local(1, calls_only)
    job = OneJob(inputs(1), [1])
    job.function = function
    try:
        run_jobs(lambda: executor, TheseJobs(job))
    finally:
        executor.close()
    (answer,) = job.answers
    with pytest.raises(type(answer)) as caught:
        function()
    assert type(answer) is caught.type and str(answer) == str(caught.value)


def calls_only(item: Item, shared: Any, options: Any) -> Result:
    value = item.function(shared, item.argument) if isinstance(item, Call) else names_of(item)
    return Result(value, 0.0, os.getpid())


def test_an_output_that_cannot_be_written_ends_the_run() -> None:
    executor = Local(2, no_room)
    with pytest.raises(OutputError, match="no room"):
        run(executor, inputs(8))
    executor.close()


@pytest.mark.parametrize("where", ["worker", "share", "batches", "cut"])
def test_a_job_that_cannot_be_done_does_not_stop_the_next(where: str) -> None:
    """Whatever it is that cannot be done: nothing more of it is handed out, and it comes to its
    end like any other."""
    fake = Fake(2, frozenset())
    first, second = OneJob(inputs(20)), OneJob(inputs(20))

    def fails(*_: Any) -> Any:
        if where == "batches":
            raise MemoryError
        return cut_off()

    def cut_off() -> Iterator[Batch]:
        yield Batch(tuple(inputs(1)))
        raise MemoryError

    if where in ("batches", "cut"):
        first.batches = fails  # type: ignore[method-assign,assignment]
    if where == "share":
        first.shared = MemoryError()
    if where == "worker":
        first.shared = stop
    run_jobs(lambda: fake, TheseJobs(first, second))
    wait_for(lambda: first.is_done and second.is_done, "the end of both")
    assert type(first.error) is (SourceError if where == "worker" else MemoryError)
    assert len(first.done) == (where == "cut") and not first.reasons
    assert len(second.done) == 20 and second.error is None
    assert not fake.shared, "not released"


def echo(item: Any, shared: Any, options: Any) -> Result:
    return Result(shared, 0.0, os.getpid())


def test_workers_get_what_is_shared_now() -> None:
    """What the first kernel shared is released, and the second's may lie where that was."""
    executor = Local(1, echo)
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


@pytest.mark.slow
def test_isolation() -> None:
    def alone(function: Callable[[], Any]) -> Any:
        return isolated(function, PATIENCE)

    assert alone(lambda: 7) == 7
    assert alone(lambda: b"x" * (1 << 22)) == b"x" * (1 << 22)  # more than a pipe holds
    with pytest.raises(InternalError, match="the bug"):
        alone(has_a_bug)
    with pytest.raises(InternalError, match=r"report it: KeyError\('x'\) in test_schedule.py:\d+"):
        alone(lambda: dict[str, int]()["x"])
    assert alone(dies_quietly) == WorkerExit("killed by SIGSEGV")
    assert alone(lambda: os._exit(3)) == WorkerExit("exit status 3")
    assert alone(out_of_memory) == WorkerExit("out of memory")
    assert alone(lambda: bytearray(1 << 62)) == WorkerExit("out of memory")
    for never_ends in (lambda: time.sleep(PATIENCE), counts_for_ever):
        late = isolated(never_ends, 0.2)
        assert late == WorkerExit("it took more than 0.2 s", timed_out=True)


def counts_for_ever() -> None:
    while True:
        pass
