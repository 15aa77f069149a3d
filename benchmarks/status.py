"""What Linux says of a process in /proc/<number>/status."""

from __future__ import annotations

import re


def in_status(name: str, status: str) -> int:
    """A line of such a file: a size in bytes, or a number; 0 if it has no such line."""
    found = re.search(rf"^{name}:\s+(\d+)( kB)?$", status, re.M)
    if found is None:
        return 0
    return int(found[1]) * (1024 if found[2] else 1)
