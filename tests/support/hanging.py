"""Ends a test in which nothing happens any more, and says where it and its processes are.

It would keep the whole suite from ending, and nobody would know which test it was.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic  # tests may put another clock into the module
from types import FrameType

import pytest

from support.ends.disturbing import descendants

LIMIT = 1200.0
"""Seconds for a part of a test: more than ``commands.PATIENCE``, with which tests wait for
one thing. None comes near it, however slow the machine."""
_SIGNAL = signal.SIGUSR2  # nothing in the project uses it


class Watch:
    """A thread that looks after the tests of this process, which run in its main thread.

    limit  seconds for a part of a test: setup, call or teardown
    pause  seconds until one that did not end with its processes is interrupted, again and again
    """

    def __init__(self, limit: float = LIMIT, pause: float = 10.0) -> None:
        self._limit = limit
        self._pause = pause
        self._change = threading.Condition()
        self._name: str | None = None
        self._deadline = 0.0
        self._found = ""
        self._goes_on = False
        threading.Thread(target=self._look, daemon=True, name="watch").start()

    @contextlib.contextmanager
    def over(self, name: str) -> Iterator[None]:
        """Fail if the block, a part of a test, does not end by itself."""
        before = signal.signal(_SIGNAL, self._interrupt)
        self._set(name)
        self._goes_on = True
        try:
            try:
                yield
            finally:
                self._goes_on = False  # from here on nothing is interrupted
        finally:  # also if it was interrupted right before that
            self._goes_on = False
            found = self._found
            self._set(None)
            signal.signal(_SIGNAL, before)
        if found:
            pytest.fail(found)

    def _set(self, name: str | None) -> None:
        with self._change:
            self._name, self._found = name, ""
            self._deadline = monotonic() + self._limit
            self._change.notify()

    def _look(self) -> None:
        with self._change:
            while True:
                left = self._deadline - monotonic()
                if self._name is None or left > 0:
                    self._change.wait(None if self._name is None else left)
                elif not self._found:
                    self._found = f"{self._name} has not ended within {self._limit:g} s\n{where()}"
                    print(self._found, file=sys.__stderr__, flush=True)
                    for process in descendants(os.getpid()):
                        with contextlib.suppress(OSError):
                            os.kill(process, signal.SIGABRT)
                    self._deadline += self._pause
                else:  # may be taken for something else by what is tested
                    signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
                    self._deadline += self._pause

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._goes_on and self._found:  # else it has ended meanwhile
            pytest.fail(self._found)


def where() -> str:
    """What the threads of this process do, and what its processes wait for."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        lines = [file.read()]
    for process in descendants(os.getpid()):
        told = []
        for name in ("cmdline", "wchan", "stack"):
            with contextlib.suppress(OSError):
                told.append(Path(f"/proc/{process}/{name}").read_text().replace("\0", " ").strip())
        lines.append(f"process {process}: " + "\n  ".join(told))
    return "\n".join(lines)
