"""Messages between a run and the process that talks to Ray for it, through a pipe."""

from __future__ import annotations

import mmap
import os
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

Message = tuple[Any, ...]  # what it is, and what belongs to it


def send(pipe: Connection, message: Message, file: int | None = None) -> None:
    """Send a message. Bytes at its end, which may be many, go as they are. Raises OSError.

    file  descriptor of a file in memory, for what is more: nothing of it is copied
    """
    apart = file is None and isinstance(message[-1], bytes)
    pipe.send((apart, file is not None, message[:-1] if apart else message))
    if apart:
        pipe.send_bytes(message[-1])
    if file is not None:
        send_handle(pipe, file, 0)


def receive(pipe: Connection) -> Message:
    """Wait for the next message; at its end a memoryview of the file that came along. Raises
    EOFError at the end, and OSError."""
    apart, has_file, message = pipe.recv()
    if apart:
        return (*message, pipe.recv_bytes())
    if not has_file:
        return message  # type: ignore[no-any-return]
    descriptor = recv_handle(pipe)
    try:
        return (*message, memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)))
    finally:
        os.close(descriptor)
