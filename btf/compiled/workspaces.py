"""Memory that kernels work in, kept from one call to the next, for each thread its own."""

from __future__ import annotations

import threading

from .arguments import forget_all

#: What a thread keeps, under a name for each kind of work.
kept = threading.local()


def release_workspaces() -> None:
    """Give back what this thread keeps for its next module: 10 to 60 MB, by the largest so far.
    That module then takes some milliseconds more."""
    kept.__dict__.clear()
    forget_all()
