"""The engine of this machine's processes, which needs nothing else.

Workers are forked at the start, and again where one dies.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from ..model.base import Announce
from ..model.engine import Item, Outcome, Raised, Result, WorkerDied, WorkFunction
from ..model.options import RunOptions
from .forker import Forker, Handle, put_in_memory, release_from_memory

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Local:
    """A fixed number of child processes; one that dies is replaced."""

    def __init__(self, workers: int, function: WorkFunction) -> None:
        self.workers = workers
        self._forker = Forker(function)  # now, before this process has threads
        self._queue: deque[tuple[int, Item, Any, Any]] = deque()
        self._children: dict[Connection, _Child] = {}
        self._tickets = self._handles = 0
        for _ in range(workers):
            self._fork()

    def share(self, value: Any) -> Handle:
        # A number of its own: the path of one that was released is used again.
        self._handles += 1
        return self._handles, put_in_memory(value)

    def release(self, shared: Handle) -> None:
        release_from_memory(shared[1])

    def submit(self, item: Item, shared: Handle, options: Any) -> int:
        self._tickets += 1
        self._queue.append((self._tickets, item, shared, options))
        self._hand_out()
        return self._tickets

    def wait(self, seconds: float) -> tuple[int, Outcome] | None:
        from multiprocessing.connection import wait  # late: no other command needs it

        self._hand_out()
        busy = [pipe for pipe, child in self._children.items() if child.ticket is not None]
        ready = wait(busy, seconds)
        if not ready:
            return None
        pipe: Connection = ready[0]  # type: ignore[assignment]
        child = self._children[pipe]
        ticket, child.ticket = child.ticket, None
        assert ticket is not None
        try:
            outcome = pipe.recv()
        except (EOFError, OSError):
            return ticket, WorkerDied(self._reap(child))
        assert isinstance(outcome, Result | Raised)
        return ticket, outcome

    def has_begun(self, ticket: int) -> bool:
        return any(child.ticket == ticket for child in self._children.values())

    def kill_and_forget(self, ticket: int) -> None:
        self._queue = deque(entry for entry in self._queue if entry[0] != ticket)
        for child in list(self._children.values()):
            if child.ticket == ticket:
                self._reap(child)

    def can_read(self, paths: Sequence[str]) -> bool:
        return True

    def log(self) -> bytes:
        return b""

    def close(self) -> None:
        self._queue.clear()
        for child in list(self._children.values()):
            self._reap(child)
        self._forker.close()

    def _hand_out(self) -> None:
        while self._queue:
            idle = [child for child in self._children.values() if child.ticket is None]
            if not idle and len(self._children) >= self.workers:
                return
            child = idle[0] if idle else self._fork()
            ticket, *work = self._queue.popleft()
            child.ticket = ticket
            try:
                child.pipe.send(work)
            except OSError:  # it died while idle: wait() sees the end of the pipe
                continue

    def _reap(self, child: _Child) -> str:
        del self._children[child.pipe]
        child.pipe.close()
        return self._forker.end(child.process)

    def _fork(self) -> _Child:
        from multiprocessing.connection import Pipe  # late: no other command needs it

        ours, theirs = Pipe()
        with theirs:
            child = _Child(self._forker.fork(theirs.fileno()), ours)
        self._children[ours] = child
        return child


@dataclass(slots=True, eq=False)
class _Child:
    """A worker process, our end of its pipe, and what it is working on."""

    process: int
    pipe: Connection
    ticket: int | None = None


def start(
    options: RunOptions,
    function: WorkFunction,
    prepare: Callable[[], None],
    announce: Announce | None,
    ended: Event,
) -> Local:
    """See ``registry.Engine``. Workers have what this process has loaded: nothing to prepare."""
    return Local(options.workers or len(os.sched_getaffinity(0)), function)
