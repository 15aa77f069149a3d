"""What can stop a command, each with a message for the user."""

from __future__ import annotations


class CommandError(Exception):
    """Nothing could be done, for a reason that the user can do something about."""


class SourceError(CommandError):
    """The sources cannot be worked on as they were given; the message says what to change."""


class BaseError(CommandError):
    """A base that cannot be used: nothing can be done for its modules."""


class EngineError(CommandError):
    """The engine that was asked for cannot be had; the message says what to change."""


class NoRoomError(CommandError):
    """The folder that files are unpacked to is full, or would be."""


class OutputError(CommandError):
    """The output cannot be written (disk full, no permission): nothing to do with the input."""


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
    """A bug in splitbtf: the run stops. Carries the module and the traceback as text."""


class CallError(Exception):
    """A call that cannot be done: workers die of it, every time."""
