"""What an engine works on, and what it has to offer: see ``pipeline/engine``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import CallError
from .records import ModuleInput

TRIES_ALONE = 3  # so that a module is not blamed for two deaths that had other reasons

Function = Callable[[Any, Any], Any]  # base, argument -> value


@dataclass(frozen=True, slots=True)
class Batch:
    """Modules of one kernel.

    isolated  whether each module is worked on in a process of its own
    contents  files that the worker cannot reach, by path
    """

    modules: tuple[ModuleInput, ...]
    isolated: bool = False
    contents: dict[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """``function(base, argument)``, to be called on a worker. What it raises is for whoever waits
    for it."""

    function: Function
    argument: Any


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker died while it had an item."""

    reason: str


@dataclass(frozen=True, slots=True)
class Raised:
    """The work function raised an error."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an item. ``value`` is for whoever made the item."""

    value: Any
    busy_seconds: float
    process_id: int


Item = Batch | Call
Outcome = Result | Raised | WorkerDied
WorkFunction = Callable[[Any, Any, Any], Result]  # item, shared, options


class Executor(Protocol):
    """Works on items somewhere. ``submit`` returns at once; ``wait`` gives one that is finished."""

    workers: int

    def share(self, value: Any) -> Any:
        """Make a value available to all workers; the result is passed to ``submit``."""

    def release(self, shared: Any) -> None:
        """Let go of a shared value: nothing with it runs or will be submitted."""

    def submit(self, item: Item, shared: Any, options: Any) -> Any:
        """Hand out an item; returns a ticket."""

    def wait(self, seconds: float) -> tuple[Any, Outcome] | None:
        """Wait for what comes of the next item; None after ``seconds``."""

    def has_begun(self, ticket: Any) -> bool:
        """Whether a worker has begun with an item: it may wait for one for long."""

    def kill_and_forget(self, ticket: Any) -> None:
        """End the worker that has an item, if it still has it; the ticket is forgotten."""

    def can_read(self, paths: Sequence[str]) -> bool:
        """Whether all workers can read these files of this machine, under the same paths."""

    def log(self) -> bytes:
        """What its processes wrote last, without secrets, where it may tell why they ended."""

    def close(self) -> None:
        """End all workers."""


class Workforce(Protocol):
    """Calls functions with a kernel's base, many at a time."""

    workers: int

    def submit(self, function: Function, argument: Any) -> Future[Any]:
        """Have ``function(base, argument)`` called."""

    def map(self, function: Function, each: Sequence[Any]) -> list[Any]:
        """Have ``function(base, one)`` called for each; the results in that order."""
        futures = [self.submit(function, one) for one in each]
        wait(futures)  # all of them, also where one fails: the base is let go of then
        return [future.result() for future in futures]


def workers_die(function: Function, reason: str) -> CallError:
    """The error of a call that nobody survives."""
    return CallError(f"workers die of {function.__name__}: {reason}")
