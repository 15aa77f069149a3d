"""Messages between a run and the process that talks to Ray for it, through a pipe."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

Message = tuple[Any, ...]  # what it is, and what belongs to it


def send(pipe: Connection, message: Message) -> None:
    """Send a message. Bytes at its end, which may be many, go as they are. Raises OSError."""
    apart = isinstance(message[-1], bytes)
    pipe.send((apart, message[:-1] if apart else message))
    if apart:
        pipe.send_bytes(message[-1])


def receive(pipe: Connection) -> Message:
    """Wait for the next message. Raises EOFError at the end, and OSError."""
    apart, message = pipe.recv()
    return (*message, pipe.recv_bytes()) if apart else message
