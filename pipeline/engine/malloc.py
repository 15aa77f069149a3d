"""Memory that is not needed any more, given back to the system.

The C library keeps what was freed, in one heap for each thread, and Arrow does the same. Over many
kernels a process would come to hold the sum of what its threads needed at their worst moments.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from functools import lru_cache
from typing import Any


def keep_little() -> None:
    """Have Arrow, once it is loaded, take memory from the C library: what its own allocator keeps
    of what was freed is 25 MB a process."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def give_back() -> None:
    """Give free pages back. Takes some 20 milliseconds."""
    gc.collect()  # a BTF and the objects made of it point to each other, and are few but large
    trim()


def trim() -> None:
    """The same but for what points to itself. Takes a few milliseconds."""
    # Another thread may be importing it just now.
    pool = getattr(sys.modules.get("pyarrow"), "default_memory_pool", None)
    if pool is not None:
        pool().release_unused()
    malloc_trim = _malloc_trim()
    if malloc_trim is not None:
        malloc_trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Any | None:
    """That of glibc; other C libraries have none."""
    with contextlib.suppress(OSError, AttributeError):
        return ctypes.CDLL(None).malloc_trim
    return None
