"""Working on one module in a process of its own, so that what it does to it harms nobody else.

``isolated`` costs some milliseconds, so it is for modules that are suspected: those of a batch on
which a worker has died. ``time_limit`` is for all: it kills this very process. So does
``end_without_memory``: what a process still holds that could get no more goes with it.
``die_with`` is for whatever is started: nothing outlives who waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..model.engine import TRIES_ALONE, Item, Outcome, Raised, WorkFunction
from ..model.errors import CommandError, InternalError, explain
from ..model.limits import ENDING

T = TypeVar("T")
NO_MEMORY = 71  # exit status of a process that got no memory
_OUT_OF_ADDRESSES = (127, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36  # prctl(2)
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


def become_subreaper() -> None:
    """Have what this process's descendants leave behind become its children."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_children() -> None:
    """Kill all children, and what they leave behind where ``become_subreaper`` was called."""
    while children := _children():
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def _children() -> list[int]:
    found, parent = [], str(os.getpid())
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            status = Path("/proc", process, "stat").read_text()
            if status.rpartition(")")[2].split()[1] == parent:
                found.append(int(process))
    return found


def name_process(name: bytes) -> None:
    """Have this process be seen, by ``ps`` for one, under a name of up to 15 bytes."""
    _LIBC.prctl(_PR_SET_NAME, name)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[Callable[[], object]]:
    """Have the kernel kill this process (SIGALRM) if the block takes longer; yields what lets the
    time begin anew.

    That works whatever the process is doing, machine code included. Only a main thread can ask
    for it, as that of each worker is; elsewhere there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield bool
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    begin = functools.partial(signal.setitimer, signal.ITIMER_REAL, seconds)
    begin()
    try:
        yield begin
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def end_without_memory() -> Iterator[None]:
    """End this process (status NO_MEMORY) if the block raises MemoryError."""
    try:
        yield
    except MemoryError:
        os._exit(NO_MEMORY)


def attempt(function: WorkFunction, item: Item, shared: Any, options: Any) -> Outcome:
    """Call the work function, as a worker does. Ends the process if that is out of memory."""
    with end_without_memory():
        try:
            return function(item, shared, options)
        except MemoryError:
            raise
        except CommandError as error:
            return Raised(error)
        except Exception as error:
            return Raised(InternalError(explain(error)))


def watch() -> int | None:
    """Fork, before there are threads: the child gets None, and goes on; the parent waits for it,
    hands signals on to it, and returns its exit status.

    For a process whose address space is limited (``ulimit -v``). Where that is too little for one
    more thread, the C library or C++ ends the process at once, and
    that is a MemoryError here.
    """
    parent = os.getpid()
    awaited = {signal.SIGCHLD, *(n for n in ENDING if signal.getsignal(n) is not signal.SIG_IGN)}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # none comes of what is ignored
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if not child:
        die_with(parent)
        os.setpgid(0, 0)  # what a terminal sends, the parent hands on
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return None

    # No handlers beside waitpid(): of a signal right before that call they would be run only after
    # it, and the child may wait for nothing else.
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if (number := signal.sigwait(awaited)) != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code in _OUT_OF_ADDRESSES:
        raise MemoryError
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL cannot be handled
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(parent, -code)
    return code


@contextlib.contextmanager
def no_time_limit() -> Iterator[None]:
    """Have the time that the block takes not count: it has a limit of its own."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


def isolated(function: Callable[[], T], seconds: float) -> T | WorkerExit:
    """Call ``function`` in a child process: returns or raises what it does, or says how it died.

    seconds  the ``time_limit`` that it is called under
    """
    ours, theirs = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        die_with(parent)
        _be_the_child(function, seconds, theirs)
    os.close(theirs)
    try:
        data = _read(ours)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(ours)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGALRM:
        return WorkerExit(f"it took more than {seconds:g} s", timed_out=True)
    if code:
        return WorkerExit(how_it_ended(code))
    raised, value = pickle.loads(data)
    if raised:
        raise value
    result: T = value
    return result


def isolated_again(function: Callable[[], T], seconds: float) -> T | WorkerExit | InternalError:
    """Call ``function`` as ``isolated`` does, again where its process dies, unless of the time: one
    death may have other reasons. Returns a bug of ours that it raises."""
    done: T | WorkerExit = WorkerExit("")
    for _ in range(TRIES_ALONE):
        try:
            done = isolated(function, seconds)
        except InternalError as error:
            return error
        if not isinstance(done, WorkerExit) or done.timed_out:
            break
    return done


def how_it_ended(code: int) -> str:
    """An exit status in words; negative for a signal."""
    if code == NO_MEMORY:
        return "out of memory"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _be_the_child(function: Callable[[], T], seconds: float, pipe: int) -> None:
    """Never returns: nothing of the parent's is to be cleaned up here."""
    code = 70
    try:
        with end_without_memory():
            try:
                with time_limit(seconds):
                    said = (False, function())
            except MemoryError:
                raise
            except CommandError as error:
                said = (True, error)  # type: ignore[assignment]
            except Exception as error:
                said = (True, InternalError(explain(error)))  # type: ignore[assignment]
            view = memoryview(pickle.dumps(said, protocol=5))
            while view:
                view = view[os.write(pipe, view) :]
        code = 0
    finally:
        os._exit(code)


def _read(pipe: int) -> bytes:
    """All that comes through a pipe until its other end is closed."""
    parts: list[bytes] = []
    while part := os.read(pipe, 1 << 20):
        parts.append(part)
    return b"".join(parts)
