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
from multiprocessing.connection import Connection, wait
from typing import Any

import btf

from .records import WorkOptions
from .schedule import Batch, BatchFunction, Crash
from .worker import BatchResult, run_batch


class InProcess:
    """One batch at a time, here."""

    name = "local"
    workers = 1

    def __init__(self, function: BatchFunction = run_batch) -> None:
        self._function = function
        self._queue: deque[tuple[int, Batch, btf.BaseIndex, WorkOptions]] = deque()
        self._tickets = 0

    def share(self, index: btf.BaseIndex) -> btf.BaseIndex:
        return index

    def submit(self, batch: Batch, shared: btf.BaseIndex, options: WorkOptions) -> int:
        self._tickets += 1
        self._queue.append((self._tickets, batch, shared, options))
        return self._tickets

    def wait(self) -> tuple[int, BatchResult]:
        ticket, batch, shared, options = self._queue.popleft()
        return ticket, self._function(batch, shared, options)

    def close(self) -> None:
        self._queue.clear()


class Forked:
    """A fixed number of child processes; one that dies is replaced."""

    name = "local"

    def __init__(self, workers: int, function: BatchFunction = run_batch) -> None:
        self.workers = workers
        self._function = function
        self._queue: deque[tuple[int, Batch, btf.BaseIndex, WorkOptions]] = deque()
        self._children: dict[Connection, _Child] = {}
        self._tickets = 0

    def share(self, index: btf.BaseIndex) -> btf.BaseIndex:
        self._end_children()  # a child knows the index that was there when it was forked
        return index

    def submit(self, batch: Batch, shared: btf.BaseIndex, options: WorkOptions) -> int:
        self._tickets += 1
        self._queue.append((self._tickets, batch, shared, options))
        self._hand_out()
        return self._tickets

    def wait(self) -> tuple[int, BatchResult | Crash]:
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
        assert isinstance(outcome, BatchResult)
        return ticket, outcome

    def close(self) -> None:
        self._queue.clear()
        self._end_children()

    def _hand_out(self) -> None:
        while self._queue:
            idle = [child for child in self._children.values() if child.ticket is None]
            if not idle and len(self._children) >= self.workers:
                return
            ticket, batch, index, options = self._queue.popleft()
            child = idle[0] if idle else self._fork(index)
            child.ticket = ticket
            try:
                child.pipe.send((batch, options))
            except OSError:  # it died while idle: wait() sees the end of the pipe
                continue

    def _fork(self, index: btf.BaseIndex) -> _Child:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        inherited = [ours, *self._children]
        process = context.Process(
            target=_serve, args=(theirs, inherited, self._function, index), daemon=True
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
    index: btf.BaseIndex,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    for other in inherited:  # else nobody would ever see the end of a pipe
        other.close()
    while True:
        try:
            batch, options = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # nothing of the parent's is to be cleaned up here
        try:
            outcome: BatchResult | BaseException = function(batch, index, options)
        except Exception as error:
            outcome = error
        pipe.send(outcome)
