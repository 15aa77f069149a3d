"""An executor without workers: items are worked on one at a time, in this process.

What kills the worker kills the test: for what is asked of jobs, not of engines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from pipeline.model.engine import Function, Item, Result, Workforce, WorkFunction


class Inline:
    """One item at a time, here."""

    workers = 1

    def __init__(self, function: WorkFunction) -> None:
        self._function = function
        self._queue: deque[tuple[int, Item, Any, Any]] = deque()
        self._tickets = 0

    def share(self, value: Any) -> Any:
        return value

    def release(self, shared: Any) -> None:
        pass

    def submit(self, item: Item, shared: Any, options: Any) -> int:
        self._tickets += 1
        self._queue.append((self._tickets, item, shared, options))
        return self._tickets

    def wait(self, seconds: float) -> tuple[int, Result]:
        ticket, item, shared, options = self._queue.popleft()
        return ticket, self._function(item, shared, options)

    def kill_and_forget(self, ticket: int) -> None:
        pass

    def has_begun(self, ticket: Any) -> bool:
        return True

    def can_read(self, paths: Sequence[str]) -> bool:
        return True

    def log(self) -> bytes:
        return b""

    def close(self) -> None:
        self._queue.clear()


class InlineWorkforce(Workforce):
    """Calls functions here."""

    workers = 1

    def __init__(self, base: Any, seconds: float) -> None:
        self._base = base

    def submit(self, function: Function, argument: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(self._base, argument))
        return done
