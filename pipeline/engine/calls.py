"""Calls functions in processes of their own, so that what these come to harms nobody else.

For what a run does with one kernel, beside its batches: its base is read and indexed here, and its
tables are made here where there are no workers yet and nothing else for them to do, or where they
cannot reach the output.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from ..model.engine import (
    TRIES_ALONE,
    Call,
    Function,
    Raised,
    Result,
    WorkerDied,
    Workforce,
    workers_die,
)
from ..model.errors import CallError, EngineError
from .forker import Forker, Handle, get_from_memory, put_in_memory, release_from_memory


class IsolatedCalls:
    """Makes a process for each call. To be made before this process has threads; then any of them
    may call."""

    def __init__(self) -> None:
        self._forker = Forker(_answer)
        self._lock = threading.Lock()
        self._is_closed = False

    def call(
        self, function: Function, argument: Any, base: Handle | None = None, *, seconds: float
    ) -> Any:
        """Return what ``function(base, argument)`` does; its arrays are read-only.

        base     what ``put_in_memory`` made, or None
        seconds  how long it may take; then its process is killed

        Raises the CommandError or InternalError that it raises, and CallError where the process
        takes too long, or dies each time.
        """
        for attempt in range(1, TRIES_ALONE + 1):
            done = self._try(Call(function, argument), base, seconds)
            if isinstance(done, Result):
                return done.value
            if isinstance(done, Raised):
                raise done.error
            if attempt == TRIES_ALONE:
                raise CallError(done.reason)

    def _try(self, call: Call, base: Handle | None, seconds: float) -> Result | Raised | WorkerDied:
        from multiprocessing.connection import Pipe  # late: no other command needs it

        ours, theirs = Pipe()
        with ours:
            with theirs, self._open_forker() as forker:
                process = forker.fork(theirs.fileno())
            how = None
            try:
                ours.send((call, base, None))
                if not ours.poll(seconds):
                    raise CallError(f"it took more than {seconds:g} s")
                done: Result | Raised = ours.recv()
                if isinstance(done, Result):
                    done = Result(get_from_memory(done.value), done.busy_seconds, done.process_id)
                return done
            except (EOFError, OSError):
                pass
            finally:
                with self._open_forker() as forker:
                    how = forker.end(process)
            return WorkerDied(how)

    @contextlib.contextmanager
    def _open_forker(self) -> Iterator[Forker]:
        with self._lock:
            if self._is_closed:
                raise EngineError("the run has ended")
            yield self._forker

    def close(self) -> None:
        """End all calls: whoever waits for one gets an EngineError."""
        with self._lock:
            self._is_closed = True
            self._forker.close()


def _answer(item: Call, base: Any, _: Any) -> Result:
    """What a process does: the value is in its memory, for the one that asked to map."""
    return Result(put_in_memory(item.function(base, item.argument)), 0.0, os.getpid())


class IsolatedWorkforce(Workforce):
    """A workforce of one process at a time, for which the caller waits."""

    workers = 1

    def __init__(self, calls: IsolatedCalls, base: Any, seconds: float) -> None:
        """``seconds``: how long a call may take."""
        self._calls = calls
        self._base = base
        self._seconds = seconds

    def submit(self, function: Function, argument: Any) -> Future[Any]:
        done: Future[Any] = Future()
        base = put_in_memory(self._base)
        try:
            done.set_result(self._calls.call(function, argument, (0, base), seconds=self._seconds))
        except CallError as error:
            done.set_exception(workers_die(function, str(error)))
        except Exception as error:
            done.set_exception(error)
        finally:
            release_from_memory(base)
        return done
