"""Limits that this process was started with."""

from __future__ import annotations

import resource


def address_limit() -> int | None:
    """Return the bytes of addresses that this process may have (``ulimit -v``); None: no limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
