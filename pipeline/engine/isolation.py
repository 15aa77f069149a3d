"""Working on one module in a process of its own, so that what it does to it harms nobody else.

``isolated`` costs some milliseconds, so it is for modules that are suspected: those of a batch on
which a worker has died. ``time_limit`` is for all: it kills this very process. ``die_with`` is for
whatever is started: nothing outlives who waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How the process ended that was to do the work: ``timed_out`` if it was killed for taking too
    long."""

    reason: str
    timed_out: bool = False


def die_with(parent: int) -> None:
    """Have the kernel kill this process (SIGKILL) when the one that forked it is no more, whatever
    either is doing: for a child, right after the fork. With threads: when that one has ended."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was sooner
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Have the kernel kill this process (SIGALRM) if the block takes longer.

    That works whatever the process is doing, machine code included. Only a main thread can ask
    for it; elsewhere, and for None, there is no limit.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def isolated(function: Callable[[], T], seconds: float | None = None) -> T | WorkerExit:
    """Call ``function`` in a child process: returns or raises what it does, or says how it died."""
    ours, theirs = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        die_with(parent)
        _be_the_child(function, theirs)
    os.close(theirs)
    data = None
    try:
        data = _read(ours, None if seconds is None else time.monotonic() + seconds)
    finally:
        os.close(ours)
        if data is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if data is None:
        return WorkerExit(f"it took more than {seconds:g} s", timed_out=True)
    code = os.waitstatus_to_exitcode(status)
    if code:
        return WorkerExit(how_it_ended(code))
    raised, value = pickle.loads(data)
    if raised:
        raise value
    result: T = value
    return result


def how_it_ended(code: int) -> str:
    """An exit status in words; negative for a signal."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _be_the_child(function: Callable[[], T], pipe: int) -> None:
    """Never returns: nothing of the parent's is to be cleaned up here."""
    code = 70
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            said = (False, function())
        except Exception as error:
            said = (True, error)  # type: ignore[assignment]
        view = memoryview(pickle.dumps(said, protocol=5))
        while view:
            view = view[os.write(pipe, view) :]
        code = 0
    finally:
        os._exit(code)


def _read(pipe: int, deadline: float | None) -> bytes | None:
    """All that comes through a pipe; None if it is still open at the deadline."""
    parts: list[bytes] = []
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            return None
        part = os.read(pipe, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)
