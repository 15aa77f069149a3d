"""Forks worker processes from one that has no threads, and shares values with them.

What is shared (a base's index) is a file in memory, which they map: one copy, whatever the number
of workers.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import socket
import struct
import warnings
from collections.abc import Iterator
from typing import Any

from ..model.engine import WorkFunction
from ..model.errors import EngineError
from .isolation import attempt, die_with, end_without_memory, how_it_ended, name_process

_WORD = struct.Struct("<Q")
_ANSWER = struct.Struct("<q")
_ALIGNMENT = 64
Handle = tuple[int, str]  # of what is shared: its number, and the path of its file


class Forker:
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
        with contextlib.suppress(OSError):  # it has ended
            self._requests.shutdown(socket.SHUT_RDWR)  # others that were forked have its end too
        self._requests.close()
        os.waitpid(self._process, 0)


def _fork_on_request(requests: socket.socket, function: WorkFunction, parent: int) -> None:
    """What the process of ``Forker`` does; never returns."""
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
    mapped: tuple[Handle | None, Any] = (None, None)
    try:
        with end_without_memory():
            while True:
                item, shared, options = pipe.recv()
                if mapped[0] != shared:
                    mapped = (None, None)
                    mapped = (shared, get_from_memory(shared[1]))
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


@contextlib.contextmanager
def in_memory(value: Any) -> Iterator[int]:
    """A descriptor of what ``put_in_memory`` makes, while the block runs."""
    path = put_in_memory(value)
    try:
        yield int(path.rpartition("/")[2])
    finally:
        release_from_memory(path)


def put_in_memory(value: Any) -> str:
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
        raise EngineError(f"cannot hand data to the workers: {error.strerror}") from error
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def release_from_memory(path: str) -> None:
    """Close a file that this process has made; who has mapped it keeps it."""
    os.close(int(path.rpartition("/")[2]))


def get_from_memory(path: str) -> Any:
    """Map a value that is in another process's memory, or this one's. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return unpack(memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)))
    finally:
        os.close(descriptor)


def unpack(whole: memoryview) -> Any:
    """Read a value from the bytes of what ``put_in_memory`` has made; its arrays stay there."""
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
