"""Memory that compiled functions work in: each thread keeps its own from one call to the next."""

from __future__ import annotations

import threading

from .jit import drop_all_flattened

#: The memory of the calling thread: an attribute for each kind of work.
per_thread = threading.local()


def release_workspaces() -> None:
    """Free what this thread keeps for its next module: 10 to 60 MB, by the largest so far.

    That module then takes some milliseconds more.
    """
    per_thread.__dict__.clear()
    drop_all_flattened()
