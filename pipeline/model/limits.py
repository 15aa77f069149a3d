"""What the system does to this process: signals that end it, limits that it was started with."""

from __future__ import annotations

import resource
import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""By these people, terminals and whatever starts programs have a program end."""


def address_limit() -> int | None:
    """Return the bytes of addresses that this process may have (``ulimit -v``); None: no limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
