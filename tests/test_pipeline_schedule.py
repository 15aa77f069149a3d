"""Protects: every input is accounted for once, whatever dies; batches do not shape results."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import btf
from pipeline.batches import MAX_BATCH_BYTES, cut
from pipeline.errors import InternalError
from pipeline.local import Forked, InProcess
from pipeline.on_ray import OnRay
from pipeline.records import CRASHED, DONE, FAILED, ModuleInput, ModuleRecord, WorkOptions
from pipeline.schedule import Crash, ScheduleFacts, run_batches
from pipeline.worker import BatchResult

INDEX: Any = None  # the batch functions here need none


def inputs(count: int, size: int = 1 << 20) -> list[ModuleInput]:
    return [ModuleInput(f"m{n:04}", f"/m{n:04}", f"m{n:04}", n + 1, size) for n in range(count)]


def done(batch: Sequence[ModuleInput]) -> BatchResult:
    records = (ModuleRecord(m.name, m.object_id, m.source, m.path, DONE) for m in batch)
    return BatchResult(tuple(records), None, 0.0, os.getpid())


class Fake:
    """Finishes the newest batch first; dies on poison."""

    name = "fake"

    def __init__(self, workers: int, poison: frozenset[str], hiccups: int = 0) -> None:
        self.workers = workers
        self.poison = poison
        self.hiccups = hiccups
        self.most_at_once = 0
        self.tries: Counter[str] = Counter()
        self._running: list[tuple[int, Sequence[ModuleInput]]] = []
        self._tickets = 0

    def share(self, index: btf.BaseIndex) -> None:
        return None

    def submit(self, batch: Sequence[ModuleInput], shared: Any, options: WorkOptions) -> int:
        self._tickets += 1
        self._running.append((self._tickets, batch))
        self.most_at_once = max(self.most_at_once, len(self._running))
        return self._tickets

    def wait(self) -> tuple[int, BatchResult | Crash]:
        ticket, batch = self._running.pop()
        self.tries.update(module.name for module in batch)
        if self.hiccups:
            self.hiccups -= 1
            return ticket, Crash("node lost")
        if any(module.name in self.poison for module in batch):
            return ticket, Crash("killed")
        return ticket, done(batch)

    def close(self) -> None:
        pass


def run(executor: Any, modules: Sequence[ModuleInput]) -> tuple[list[ModuleRecord], ScheduleFacts]:
    facts = ScheduleFacts()
    batches = cut(modules, executor.workers)
    results = run_batches(executor, batches, executor.share(INDEX), WorkOptions(), facts)
    in_order = sorted(results, key=lambda result: result.records[0].object_id)
    return [record for result in in_order for record in result.records], facts


@given(st.lists(st.integers(0, 40 << 20), max_size=60), st.integers(1, 9))
def test_batches_hold_every_input_once_in_order(sizes: list[int], workers: int) -> None:
    modules = [ModuleInput(str(n), "", "", n + 1, size) for n, size in enumerate(sizes)]
    batches = cut(modules, workers)
    assert [module for batch in batches for module in batch] == modules
    assert all(batches)
    for batch in batches:
        assert len(batch) == 1 or sum(m.file_bytes for m in batch) < 2.5 * MAX_BATCH_BYTES


@given(st.integers(1, 80), st.sets(st.integers(0, 79), max_size=4), st.integers(0, 2))
def test_poison_is_isolated(count: int, poison: set[int], hiccups: int) -> None:
    names = frozenset(f"m{n:04}" for n in poison if n < count)
    fake = Fake(2, names, hiccups)
    records, facts = run(fake, inputs(count))
    assert [record.object_id for record in records] == list(range(1, count + 1))
    failed = {record.module for record in records if record.status == FAILED}
    assert failed == names  # deaths that have other reasons are not blamed on a module
    assert fake.most_at_once <= 4
    assert max(fake.tries.values()) <= 2 * count.bit_length() + 5
    assert facts.crashes >= 2 * len(names)


def kills_itself(
    batch: Sequence[ModuleInput], index: btf.BaseIndex, options: WorkOptions
) -> BatchResult:
    for module in batch:
        if module.name == "m0005":
            os.kill(os.getpid(), signal.SIGKILL)
        if module.name == "m0017":
            os._exit(3)
    return done(batch)


@pytest.fixture(params=["forked", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    def on_ray() -> OnRay:
        # By value: Ray's workers do not know the modules of the tests.
        def function(*arguments: Any) -> BatchResult:
            import os
            import signal

            from pipeline.records import DONE, ModuleRecord
            from pipeline.worker import BatchResult

            for module in arguments[0]:
                if module.name in ("m0005", "m0017"):
                    os.kill(os.getpid(), signal.SIGKILL)
            records = (
                ModuleRecord(m.name, m.object_id, m.source, m.path, DONE) for m in arguments[0]
            )
            return BatchResult(tuple(records), None, 0.0, os.getpid())

        return OnRay(2, None, function)

    made = Forked(2, kills_itself) if request.param == "forked" else on_ray()
    yield made
    made.close()


def test_real_workers_that_die(executor: Any) -> None:
    records, facts = run(executor, inputs(24))
    assert len(records) == 24
    failed = {r.module: r.failure for r in records if r.failure is not None}
    assert set(failed) == {"m0005", "m0017"}
    for failure in failed.values():
        assert failure.kind == CRASHED and "please report" in failure.message
    assert facts.crashes >= 4


def has_a_bug(*_: Any) -> BatchResult:
    raise InternalError("the bug")


@pytest.mark.parametrize("make", [lambda: InProcess(has_a_bug), lambda: Forked(2, has_a_bug)])
def test_a_bug_ends_the_run(make: Any) -> None:
    executor = make()
    with pytest.raises(InternalError, match="the bug"):
        run(executor, inputs(8))
    executor.close()
