"""Executors without Ray: this process, or a few forked ones.

``InProcess`` has no isolation: what kills the worker kills the run. ``Forked`` workers inherit
the index and the compiled kernels from this process, so that neither is copied nor loaded again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from .base import SharedBase
from .records import WorkOptions
from .schedule import Batch, BatchFunction, Crash
from .worker import BatchResult, run_batch

# What a child is to call, with the base it knows: None for the batch function, and the arguments.
_Call = tuple[Callable[..., Any] | None, tuple[Any, ...]]


class InProcess:
    """One batch at a time, here."""

    name = "local"
    workers = 1

    def __init__(self, function: BatchFunction = run_batch) -> None:
        self._function = function
        self._queue: deque[tuple[int, Batch, SharedBase, WorkOptions]] = deque()
        self._tickets = 0

    def share(self, base: SharedBase) -> SharedBase:
        return base

    def submit(self, batch: Batch, shared: SharedBase, options: WorkOptions) -> int:
        self._tickets += 1
        self._queue.append((self._tickets, batch, shared, options))
        return self._tickets

    def wait(self) -> tuple[int, BatchResult]:
        ticket, batch, shared, options = self._queue.popleft()
        return ticket, self._function(batch, shared, options)

    def map(
        self, function: Callable[..., Any], shared: SharedBase, each: Sequence[Any]
    ) -> list[Any]:
        return [function(shared, one) for one in each]

    def close(self) -> None:
        self._queue.clear()


class Forked:
    """A fixed number of child processes; one that dies is replaced."""

    name = "local"

    def __init__(self, workers: int, function: BatchFunction = run_batch) -> None:
        self.workers = workers
        self._function = function
        self._queue: deque[tuple[int, SharedBase, _Call]] = deque()
        self._children: dict[Connection, _Child] = {}
        self._tickets = 0

    def share(self, base: SharedBase) -> SharedBase:
        self._end_children()  # a child knows the base that was there when it was forked
        return base

    def submit(self, batch: Batch, shared: SharedBase, options: WorkOptions) -> int:
        return self._submit(shared, (None, (batch, options)))

    def wait(self) -> tuple[int, BatchResult | Crash]:
        ticket, outcome = self._wait()
        assert isinstance(outcome, BatchResult | Crash)
        return ticket, outcome

    def map(
        self, function: Callable[..., Any], shared: SharedBase, each: Sequence[Any]
    ) -> list[Any]:
        tickets = [self._submit(shared, (function, (one,))) for one in each]
        outcomes = dict(self._wait() for _ in each)
        return [
            function(shared, one) if isinstance(outcomes[ticket], Crash) else outcomes[ticket]
            for ticket, one in zip(tickets, each, strict=True)
        ]

    def close(self) -> None:
        self._queue.clear()
        self._end_children()

    def _submit(self, shared: SharedBase, call: _Call) -> int:
        self._tickets += 1
        self._queue.append((self._tickets, shared, call))
        self._hand_out()
        return self._tickets

    def _wait(self) -> tuple[int, Any]:
        self._hand_out()
        busy = [pipe for pipe, child in self._children.items() if child.ticket is not None]
        pipe = wait(busy)[0]
        assert isinstance(pipe, Connection)
        child = self._children[pipe]
        ticket, child.ticket = child.ticket, None
        assert ticket is not None
        try:
            outcome = pipe.recv()
        except (EOFError, OSError):
            del self._children[pipe]
            return ticket, Crash(child.end())
        if isinstance(outcome, BaseException):
            raise outcome
        return ticket, outcome

    def _hand_out(self) -> None:
        while self._queue:
            idle = [child for child in self._children.values() if child.ticket is None]
            if not idle and len(self._children) >= self.workers:
                return
            ticket, shared, call = self._queue.popleft()
            child = idle[0] if idle else self._fork(shared)
            child.ticket = ticket
            try:
                child.pipe.send(call)
            except OSError:  # it died while idle: wait() sees the end of the pipe
                continue

    def _fork(self, base: SharedBase) -> _Child:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        inherited = [ours, *self._children]
        process = context.Process(
            target=_serve, args=(theirs, inherited, self._function, base), daemon=True
        )
        with warnings.catch_warnings():
            # Python warns of threads that fork; numpy's idle BLAS threads are the only ones.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        child = _Child(process, ours)
        self._children[ours] = child
        return child

    def _end_children(self) -> None:
        for child in self._children.values():
            child.end()
        self._children.clear()


class _Child:
    """A worker process, our end of its pipe, and what it is working on."""

    def __init__(self, process: Any, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe
        self.ticket: int | None = None

    def end(self) -> str:
        """End it if it is not dead, and say how it died."""
        self.pipe.close()  # a child that waits for work ends at the end of its pipe
        self.process.join(timeout=0.0 if self.ticket is not None else 5.0)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _serve(
    pipe: Connection,
    inherited: list[Connection],
    function: BatchFunction,
    base: SharedBase,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    for other in inherited:  # else nobody would ever see the end of a pipe
        other.close()
    while True:
        try:
            other_function, args = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # nothing of the parent's is to be cleaned up here
        try:
            if other_function is None:
                batch, options = args
                outcome: Any = function(batch, base, options)
            else:
                outcome = other_function(base, *args)
        except Exception as error:
            outcome = error
        pipe.send(outcome)
