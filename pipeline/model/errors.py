"""What can stop a command, each with a message for the user."""

from __future__ import annotations

import os
import traceback


class CommandError(Exception):
    """Nothing could be done, for a reason that the user can do something about."""


class SourceError(CommandError):
    """The sources cannot be worked on as they were given; the message says what to change."""


class BaseError(CommandError):
    """A base that cannot be used: nothing can be done for its modules."""


class EngineError(CommandError):
    """The engine that was asked for cannot be had; the message says what to change.

    ``log`` is what its processes wrote last, where it may tell more and they are gone.
    """

    log = b""


class NoRoomError(CommandError):
    """The folder that files are unpacked to is full, or would be."""


class OutputError(CommandError):
    """The output cannot be written (disk full, no permission): nothing to do with the input."""


class PlaceError(OutputError):
    """One place in the output cannot be used, where others may be: what belongs there is not done,
    the rest is."""


class QueryError(CommandError):
    """A query that cannot be answered as it was put."""


class InputError(Exception):
    """One input cannot be worked on: bad input, not a bug. ``kind``: see records.ERROR_KINDS."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


class InternalError(Exception):
    """A bug in splitbtf: says where in the program it showed."""


class CallError(Exception):
    """A call that cannot be done: workers die of it, every time."""


def explain(error: BaseException) -> str:
    """Say in a line what went wrong: for the user, or, where nobody has thought of it, for us."""
    if isinstance(error, CommandError | InputError | InternalError | CallError):
        return str(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"a bug in splitbtf, please report it: {error!r}{where}"
