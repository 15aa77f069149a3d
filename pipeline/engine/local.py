"""The engine of this machine's processes, which needs nothing else.

Workers are forked at the start, and again where one dies. What is shared with them (a base's
index) is a file in memory, which they map: one copy, whatever the number of workers.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import socket
import struct
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..model.base import Announce
from ..model.engine import Item, Outcome, Raised, Result, WorkerDied, WorkFunction
from ..model.errors import EngineError
from ..model.options import RunOptions
from .isolation import attempt, die_with, end_without_memory, how_it_ended, name_process

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_WORD = struct.Struct("<Q")
_ANSWER = struct.Struct("<q")
_ALIGNMENT = 64
_Handle = tuple[int, str]  # of what is shared: its number, and the path of its file


class Local:
    """A fixed number of child processes; one that dies is replaced."""

    def __init__(self, workers: int, function: WorkFunction) -> None:
        self.workers = workers
        self._forker = _Forker(function)  # now, before this process has threads
        self._queue: deque[tuple[int, Item, Any, Any]] = deque()
        self._children: dict[Connection, _Child] = {}
        self._tickets = self._handles = 0
        for _ in range(workers):
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

    def kill_and_forget(self, ticket: int) -> None:
        self._queue = deque(entry for entry in self._queue if entry[0] != ticket)
        for child in list(self._children.values()):
            if child.ticket == ticket:
                self._reap(child)

    def can_read(self, paths: Sequence[str]) -> bool:
        return True

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


class _Forker:
    """A process that was forked before this one had threads, and does nothing but fork workers.

    A process with threads cannot fork safely: what another thread has locked at that moment, such
    as a module that it imports, stays locked for ever in the new process.
    """

    def __init__(self, function: WorkFunction) -> None:
        self._function = function
        self._start()

    def _start(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # if there are threads, see fork()
            self._process = os.fork()
        if not self._process:
            self._requests.close()
            _fork_on_request(theirs, self._function, parent)
        theirs.close()

    def fork(self, pipe: int) -> int:
        """Start a worker at the end of a pipe; returns its process id. Raises EngineError."""
        try:
            answer = self._ask(pipe)
        except OSError:  # somebody has killed it, and with it all workers
            self.close()
            self._start()  # there may be threads now, but most likely they hold no lock
            answer = self._ask(pipe)
        if answer < 0:
            raise EngineError(f"cannot start a worker process: {os.strerror(-answer)}")
        return answer

    def _ask(self, pipe: int) -> int:
        socket.send_fds(self._requests, [_WORD.pack(0)], [pipe])
        return self._answer()

    def end(self, worker: int) -> str:
        """End a worker, if it is not dead, and say how it died."""
        try:
            os.kill(worker, signal.SIGKILL)
            self._requests.send(_WORD.pack(worker))
            if (status := self._answer()) >= 0:
                return how_it_ended(os.waitstatus_to_exitcode(status))
        except OSError:
            pass
        return how_it_ended(-signal.SIGKILL)  # it went with who had forked it, see fork()

    def _answer(self) -> int:
        answer = self._requests.recv(_ANSWER.size)
        if not answer:
            raise ConnectionError
        number: int = _ANSWER.unpack(answer)[0]
        return number

    def close(self) -> None:
        """End it. No worker outlives it."""
        self._requests.close()
        os.waitpid(self._process, 0)


def _fork_on_request(requests: socket.socket, function: WorkFunction, parent: int) -> None:
    """What the process of ``_Forker`` does; never returns."""
    _become(b"splitbtf:fork", parent)
    me = os.getpid()
    while True:
        message, pipes, _, _ = socket.recv_fds(requests, _WORD.size, 1)
        if not message:
            os._exit(0)  # nothing of the parent's is to be cleaned up here
        try:
            if not pipes:
                answer = os.waitpid(_WORD.unpack(message)[0], 0)[1]
            elif not (answer := os.fork()):
                requests.close()
                _serve(pipes[0], function, me)
        except OSError as error:
            answer = -(error.errno or 1)
        for pipe in pipes:
            os.close(pipe)
        requests.send(_ANSWER.pack(answer))


def _serve(descriptor: int, function: WorkFunction, parent: int) -> None:
    """What a worker does; never returns."""
    from multiprocessing.connection import Connection

    _become(b"splitbtf:work", parent)
    pipe = Connection(descriptor)
    mapped: tuple[_Handle | None, Any] = (None, None)
    try:
        with end_without_memory():
            while True:
                item, shared, options = pipe.recv()
                if mapped[0] != shared:
                    mapped = (None, None)
                    mapped = (shared, _get(shared[1]))
                pipe.send(attempt(function, item, mapped[1], options))
    except (EOFError, OSError):
        os._exit(0)  # the parent wants no more, or is gone
    finally:
        os._exit(os.EX_SOFTWARE)


def _become(name: bytes, parent: int) -> None:
    """Be a process that is seen under a name, and that ends when its parent or a signal says so."""
    die_with(parent)
    name_process(name)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):  # whole groups get these: the parent decides
        signal.signal(number, signal.SIG_IGN)


def _put(value: Any) -> str:
    """A value as a file in memory that child processes can map, arrays and all."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    sizes = [len(views), *(view.nbytes for view in views)]
    descriptor = os.memfd_create("splitbtf-shared")
    try:
        os.write(descriptor, b"".join(map(_WORD.pack, sizes)))
        at = _aligned(len(sizes) * _WORD.size)
        for view in views:
            written = 0
            while written < view.nbytes:
                written += os.pwrite(descriptor, view[written:], at + written)
            at = _aligned(at + view.nbytes)
        os.ftruncate(descriptor, at)
    except OSError as error:  # a limit to files' sizes (ulimit -f) is one to this too
        os.close(descriptor)
        raise EngineError(f"cannot hand a base to the workers: {error.strerror}") from error
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


def start(
    options: RunOptions,
    function: WorkFunction,
    prepare: Callable[[], None],
    announce: Announce | None,
) -> Local:
    """See ``registry.Engine``. Workers have what this process has loaded: nothing to prepare."""
    return Local(options.workers or 1, function)
