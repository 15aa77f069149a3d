"""Standard output and standard error as commands use them.

What cannot be written to standard output is an OSError that names it, once; a reader that went away
is a BrokenPipeError. What cannot be written to standard error is lost: nobody could be told.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

OUTPUT = "standard output"


class _Stream(io.FileIO):
    """The raw file under a standard stream. ``must``: whether it is an error to lose something."""

    def __init__(self, number: int, must: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self._must = must

    def write(self, data: Any) -> int:
        try:
            written: int = super().write(data)
            return written
        except OSError as error:
            if self._must:
                self._must = False  # Python tries again when it ends
                raise OSError(error.errno, error.strerror, OUTPUT) from None
            return memoryview(data).nbytes


def open_streams() -> None:
    """Have ``sys.stdout`` and ``sys.stderr`` behave as said above, also where they are closed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # else the next file that is opened would be taken for standard output
    os.close(number)
    if sys.stdout is sys.__stdout__:  # not what a caller has put there
        sys.stdout = _text(1, sys.stdout, must=True)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(2, sys.stderr, must=False)


def _text(number: int, before: TextIO | None, must: bool) -> TextIO:
    raw = _Stream(number, must)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        before.encoding if before is not None else "utf-8",
        "backslashreplace",  # the encoding may not have all characters
        line_buffering=not must or raw.isatty(),
    )
