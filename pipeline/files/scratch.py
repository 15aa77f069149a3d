"""Folders of this machine for what a process needs for a while, gone when it has ended, however.

A folder is its user's alone, and whoever made it holds a lock on it until it ends. So the next one
that makes such a folder can tell what was left by a process that was killed, and removes it.
Process ids would not tell: containers share folders for temporary files, and not process ids.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from typing import Self

SHORT = "/tmp"  # for what needs a short path
_PREFIX, _SUFFIX = "splitbtf-", ".tmp"


class ScratchFolder:
    """A new folder, until it is closed. Raises OSError."""

    def __init__(self, parent: str | None = None) -> None:
        """``parent``: None for the usual folder for temporary files."""
        import tempfile  # late, as below: most files need none

        remove_abandoned(parent)
        lock = None
        while lock is None:  # somebody may take it for abandoned before it is locked
            self.path = tempfile.mkdtemp(_SUFFIX, _PREFIX, parent)
            try:
                lock = _lock(self.path)
            except OSError:  # a file system without locks, where nobody can take it for abandoned
                break
        self._lock = lock

    def close(self) -> None:
        """Remove it, with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_abandoned(parent: str | None = None) -> None:
    """Remove the folders in ``parent`` whose makers have not come to do so; None: wherever they
    are by default."""
    import tempfile

    for place in (parent,) if parent is not None else {tempfile.gettempdir(), SHORT}:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                    _remove_if_abandoned(entry)


def _remove_if_abandoned(entry: os.DirEntry[str]) -> None:
    with contextlib.suppress(OSError):
        status = entry.stat(follow_symlinks=False)
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
        if not ours or stat.S_IMODE(status.st_mode) != 0o700:
            return
        lock = _lock(entry.path)
        if lock is not None:
            shutil.rmtree(entry.path, ignore_errors=True)  # follows no links
            os.close(lock)


def _lock(folder: str) -> int | None:
    """Lock a folder; None if another process has, or it is gone. Raises OSError if that cannot
    be."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        lock = os.open(folder, flags)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.lstat(folder)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None
