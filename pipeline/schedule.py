"""Keeps an executor busy with batches, and finds out which module kills workers.

Knows nothing of processes or Ray: an ``Executor`` is whatever takes a batch and later says what
came of it, or that the worker died. Memory is bounded: no more batches are handed out than can be
worked on soon.

A worker that dies takes a batch with it. The batch is tried once more as it was (the death may
have had nothing to do with it), then it is cut in two, and the halves are treated the same way,
down to the one module that cannot be done. That one becomes a failed record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .base import SharedBase
from .names import printable
from .records import CRASHED, FAILED, Failure, ModuleInput, ModuleRecord, WorkOptions
from .worker import BatchResult

Batch = tuple[ModuleInput, ...]
BatchFunction = Callable[[Sequence[ModuleInput], Any, WorkOptions], BatchResult]

TRIES_PER_BATCH = 2
TRIES_ALONE = 3  # so that a module is not blamed for two deaths that had other reasons


@dataclass(frozen=True, slots=True)
class Crash:
    """A worker died while it had a batch."""

    reason: str


class Executor(Protocol):
    """Runs batches somewhere. ``submit`` returns at once; ``wait`` gives one finished batch."""

    name: str
    workers: int

    def share(self, base: SharedBase) -> Any:
        """Make a base available to all workers; the result is passed to ``submit``."""

    def submit(self, batch: Batch, shared: Any, options: WorkOptions) -> Any:
        """Hand out a batch; returns a ticket."""

    def wait(self) -> tuple[Any, BatchResult | Crash]:
        """The next batch that is finished, or whose worker died."""

    def map(self, function: Callable[..., Any], shared: Any, each: Sequence[Any]) -> list[Any]:
        """``function(base, one)`` for one after the other of ``each``, on all workers; the results
        in that order. Not while batches are running."""

    def close(self) -> None:
        """End all workers."""


@dataclass(slots=True)
class ScheduleFacts:
    """What happened while batches ran."""

    batches: int = 0
    crashes: int = 0
    busy_seconds: float = 0.0
    processes: set[int] = field(default_factory=set)


def run_batches(
    executor: Executor,
    batches: Sequence[Batch],
    shared: Any,
    options: WorkOptions,
    facts: ScheduleFacts,
    meanwhile: Callable[[], None] | None = None,
) -> Iterator[BatchResult]:
    """Results in the order in which they are finished. Each is of neighbours in object id.

    ``meanwhile`` is called once, when the first batches have been handed out.
    """
    waiting: deque[tuple[Batch, int]] = deque((batch, 1) for batch in batches)
    running: dict[Any, tuple[Batch, int]] = {}
    while waiting or running:
        while waiting and len(running) < 2 * executor.workers:
            batch, attempt = waiting.popleft()
            running[executor.submit(batch, shared, options)] = (batch, attempt)
        if meanwhile is not None:
            meanwhile()
            meanwhile = None
        ticket, outcome = executor.wait()
        batch, attempt = running.pop(ticket)
        if isinstance(outcome, BatchResult):
            facts.batches += 1
            facts.busy_seconds += outcome.busy_seconds
            facts.processes.add(outcome.process_id)
            yield outcome
            continue
        facts.crashes += 1
        if attempt < (TRIES_PER_BATCH if len(batch) > 1 else TRIES_ALONE):
            waiting.appendleft((batch, attempt + 1))
        elif len(batch) > 1:
            middle = len(batch) // 2
            waiting.extendleft([(batch[middle:], 1), (batch[:middle], 1)])
        else:
            yield BatchResult((_crashed(batch[0], outcome),), None, 0.0, 0)


def _crashed(module: ModuleInput, crash: Crash) -> ModuleRecord:
    message = (
        f"the worker died on this module alone, {TRIES_ALONE} times ({crash.reason}); "
        "please report it with the file"
    )
    return ModuleRecord(
        module=module.name,
        object_id=module.object_id,
        source=module.source,
        path=printable(module.path),
        status=FAILED,
        failure=Failure(CRASHED, message),
    )
