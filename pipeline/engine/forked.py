"""The executor of local worker processes, and the engine that needs nothing else.

Workers are forked once, at the start, and again where one dies. What is shared with them (a base's
index) is a file in memory, which they map: one copy, whatever the number of workers.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import struct
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..model.base import Announce
from ..model.engine import Executor, Item, Result, WorkerDied, WorkFunction
from ..model.options import RunOptions
from .inline import Inline
from .isolation import die_with, how_it_ended
from .registry import Engine

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_WORD = struct.Struct("<Q")
_ALIGNMENT = 64
_Handle = tuple[int, str]  # of what is shared: its number, and the path of its file


class Forked:
    """A fixed number of child processes; one that dies is replaced."""

    def __init__(self, workers: int, function: WorkFunction) -> None:
        self.workers = workers
        self._function = function
        self._queue: deque[tuple[int, Item, Any, Any]] = deque()
        self._children: dict[Connection, _Child] = {}
        self._tickets = self._handles = 0
        for _ in range(workers):  # now, before this process has threads
            self._fork()

    def share(self, value: Any) -> _Handle:
        # A number of its own: the path of one that was released is used again.
        self._handles += 1
        return self._handles, _put(value)

    def release(self, shared: _Handle) -> None:
        os.close(int(shared[1].rpartition("/")[2]))

    def submit(self, item: Item, shared: _Handle, options: Any) -> int:
        self._tickets += 1
        self._queue.append((self._tickets, item, shared, options))
        self._hand_out()
        return self._tickets

    def wait(self, seconds: float) -> tuple[int, Result | WorkerDied] | None:
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
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, Result)
        return ticket, outcome

    def kill_and_forget(self, ticket: int) -> None:
        self._queue = deque(entry for entry in self._queue if entry[0] != ticket)
        for child in list(self._children.values()):
            if child.ticket == ticket:
                self._reap(child)

    def can_read(self, paths: Sequence[str]) -> bool:
        return True

    def close(self) -> None:
        self._queue.clear()
        for child in self._children.values():
            child.end()
        self._children.clear()

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
        return child.end()

    def _fork(self) -> _Child:
        import multiprocessing

        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        inherited = [ours, *self._children]
        process = context.Process(
            target=_serve, args=(theirs, inherited, self._function, os.getpid()), daemon=True
        )
        with warnings.catch_warnings():
            # Python warns of threads that fork. Where a child is replaced there may be some; the
            # new one uses neither their locks nor what they have begun.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        child = _Child(process, ours)
        self._children[ours] = child
        return child


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
        return how_it_ended(self.process.exitcode)


def _serve(
    pipe: Connection, inherited: list[Connection], function: WorkFunction, parent: int
) -> None:
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    for other in inherited:  # else nobody would ever see the end of a pipe
        other.close()
    mapped: tuple[_Handle | None, Any] = (None, None)
    while True:
        try:
            item, shared, options = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # nothing of the parent's is to be cleaned up here
        try:
            if mapped[0] != shared:
                mapped = (None, None)
                mapped = (shared, _get(shared[1]))
            outcome: Result | BaseException = function(item, mapped[1], options)
        except Exception as error:
            outcome = error
        pipe.send(outcome)


def _put(value: Any) -> str:
    """A value as a file in memory that child processes can map, arrays and all."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    descriptor = os.memfd_create("splitbtf-shared")
    sizes = [len(views), *(view.nbytes for view in views)]
    os.write(descriptor, b"".join(map(_WORD.pack, sizes)))
    at = _aligned(len(sizes) * _WORD.size)
    for view in views:
        written = 0
        while written < view.nbytes:
            written += os.pwrite(descriptor, view[written:], at + written)
        at = _aligned(at + view.nbytes)
    os.ftruncate(descriptor, at)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _get(path: str) -> Any:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        whole = memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
    finally:
        os.close(descriptor)
    count = _WORD.unpack_from(whole)[0]
    sizes = [_WORD.unpack_from(whole, (n + 1) * _WORD.size)[0] for n in range(count)]
    at = _aligned((count + 1) * _WORD.size)
    views = []
    for size in sizes:
        views.append(whole[at : at + size])
        at = _aligned(at + size)
    return pickle.loads(views[0], buffers=views[1:])


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _start(
    options: RunOptions,
    function: WorkFunction,
    prepare: Callable[[], None],
    announce: Announce | None,
) -> Executor:
    workers = options.workers or 1
    return Forked(workers, function) if workers > 1 else Inline(function)


ENGINE = Engine(
    name="local",
    help="this machine's processes alone",
    isolates=lambda options: (options.workers or 1) > 1,
    start=_start,
    background=False,
)
