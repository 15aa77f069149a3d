"""Keeps runs away from each other in a store that has no locks: raise a flag, then look.

Each run puts an object of its own into OUT/.lock and then lists that folder; who sees the flag of
another takes its own away and is refused. A store lists an object as soon as it was put there (S3,
GCS and Azure promise it), so of two runs at least one sees the other. No request has to be
conditional, which pyarrow cannot do. A flag is put there anew every minute; one that is older than
ten, by the store's clock, is of a run that was killed.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import random
import socket
import threading
import time
import uuid
from typing import Any, Protocol

FOLDER = ".lock"
_REFRESH_SECONDS = 60.0
_EXPIRES_SECONDS = 600.0
_TRIES = 3  # of two runs that begin at once both may see the other
_PAUSE_SECONDS = 1.5


class Flags(Protocol):
    """What a store has to offer."""

    place: str

    def write(self, path: str, data: bytes) -> None:
        """Write an object."""

    def read(self, path: str) -> bytes:
        """Its content."""

    def files(self, folder: str) -> dict[str, Any]:
        """The objects in a folder, by name, with ``mtime_ns``."""

    def delete(self, paths: list[str]) -> None:
        """Remove objects."""


class RemoteLock:
    """A flag that is raised. Raises BlockingIOError if another run's is, OSError if none can be."""

    def __init__(self, store: Flags) -> None:
        self._store = store
        self._path = ""
        self._ended = threading.Event()
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(random.uniform(0.1, _PAUSE_SECONDS))
            others = self._raise_flag()
            if not others:
                break
        else:
            raise BlockingIOError(errno.EWOULDBLOCK, self._about(others[0]), store.place)
        self._refresher = threading.Thread(target=self._refresh, daemon=True, name="lock")
        self._refresher.start()

    def _raise_flag(self) -> list[str]:
        """Raise the flag, if no other is; returns those."""
        name = uuid.uuid4().hex
        self._path = f"{FOLDER}/{name}"
        self._put()
        try:
            flags = self._store.files(FOLDER)
            mine = flags.pop(name).mtime_ns
            expired = [
                each
                for each, found in flags.items()
                if found.mtime_ns and mine - found.mtime_ns > _EXPIRES_SECONDS * 1e9
            ]
            self._store.delete([f"{FOLDER}/{each}" for each in expired])
            others = sorted(flags.keys() - set(expired))
            if others:
                self._store.delete([self._path])
            return others
        except BaseException:
            with contextlib.suppress(OSError):
                self._store.delete([self._path])
            raise

    def _put(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        facts = {"host": socket.gethostname(), "process": os.getpid(), "seen": f"{now:%F %T} UTC"}
        try:
            self._store.write(self._path, json.dumps(facts).encode())
        except OSError as error:
            where = f"{self._store.place}/{FOLDER}"
            raise type(error)(error.errno, error.strerror, where) from error

    def _about(self, name: str) -> str:
        """Whose flag it is, and what to do about it."""
        whose = ""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads(self._store.read(f"{FOLDER}/{name}"))
            whose = f": process {facts['process']} on {facts['host']}, at {facts['seen']}"
        minutes = f"{_EXPIRES_SECONDS / 60:.0f} minutes"
        return (
            f"{whose}. If that was killed, wait for {minutes} after that time, or remove "
            f"{self._store.place}/{FOLDER}/{name}"
        )

    def _refresh(self) -> None:
        while not self._ended.wait(_REFRESH_SECONDS):
            with contextlib.suppress(OSError):  # the next time is soon enough
                self.check()
                self._put()

    def check(self) -> None:
        """Raise OSError if the flag is gone: another run took this one for dead."""
        try:
            self._store.read(self._path)
        except FileNotFoundError:
            raise OSError(
                errno.ESTALE,
                f"{self._path} is gone: another run has taken this one for dead, which had not "
                f"written to the store for {_EXPIRES_SECONDS / 60:.0f} minutes; run again",
                self._store.place,
            ) from None

    def release(self) -> None:
        """Lower the flag."""
        self._ended.set()
        self._refresher.join()
        with contextlib.suppress(OSError):
            self._store.delete([self._path])
