"""A file's content, as it is handed over: in memory, or to be read in parts."""

from __future__ import annotations

import contextlib
import os
from typing import BinaryIO, Protocol

import numpy as np

from ..arguments import octets


class Readable(Protocol):
    """Bytes, a memoryview, or what reads the parts of a file that it is asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


def readable(data: object) -> Readable:
    """Return ``data`` as what parts can be read of; TypeError for what is none."""
    if isinstance(data, bytearray | np.ndarray):
        return octets(data)
    if isinstance(data, str | list | tuple | dict) or not (
        hasattr(type(data), "__len__") and hasattr(type(data), "__getitem__")
    ):
        raise TypeError(f"data is to be bytes, not {type(data).__name__}")
    return memoryview(data).cast("B") if isinstance(data, memoryview) else data  # type: ignore[return-value]


class Part:
    """So many bytes of something readable: readable itself, or read from front to back."""

    def __init__(self, data: Readable, start: int, size: int) -> None:
        self._data, self._start, self._size = data, start, size
        self._at = 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes | memoryview:
        start, end, _ = part.indices(self._size)
        return self._data[self._start + start : self._start + max(start, end)]

    def read(self, size: int) -> bytes | memoryview:
        """Read the next ``size`` bytes, fewer at the end."""
        found = self[self._at : self._at + size]
        self._at += len(found)
        return found


class OpenFile:
    """All of an open file. ``for_threads``: whether several may read it at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):  # no file of the system's
            self._descriptor = file.fileno()

    @property
    def for_threads(self) -> bool:
        return self._descriptor is not None

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(self._size)
        if self._descriptor is not None:
            return read_at(self._descriptor, start, end - start)
        self._file.seek(start)  # others may have read elsewhere meanwhile
        return self._file.read(max(0, end - start))


def read_at(descriptor: int, start: int, size: int) -> bytes:
    """Read so many bytes of an open file at a place; fewer at its end. Raises OSError."""
    parts: list[bytes] = []
    while size > 0 and (data := os.pread(descriptor, size, start)):
        parts.append(data)
        start += len(data)
        size -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)
