"""Memory that is not needed any more, given back to the system.

The C library keeps what was freed, in one heap for each thread, and Arrow does the same. Over many
kernels a process would come to hold the sum of what its threads needed at their worst moments.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_POOL = "ARROW_DEFAULT_MEMORY_POOL"


def use_system_pool() -> None:
    """Have Arrow, once it is loaded, take memory from the C library: what its own allocator keeps
    of what was freed is 25 MB a process."""
    os.environ.setdefault(_POOL, "system")


@contextlib.contextmanager
def system_pool() -> Iterator[None]:
    """Call use_system_pool() for the block and what it starts."""
    before = os.environ.get(_POOL)
    use_system_pool()
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_POOL, None)


@cache
def freeze_imports() -> None:
    """Leave what is there now out of all later garbage collections; once in a process.

    Arrow, NumPy and the rest are 37,000 objects, which each collection would walk for 10 ms and
    more.
    """
    gc.freeze()


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """Collect no garbage while the block runs; then again, if that was so before."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Let the block import without garbage collections, now and later of what it imports: a tenth
    of the time that a command takes to start."""
    with no_collections():
        try:
            yield
        finally:
            freeze_imports()


def map_large_blocks() -> None:
    """Have the C library give arrays of 1 MiB and more pages of their own, now and later: what is
    freed goes back at once. By default it comes to keep up to 32 MiB of each size it has met."""
    import ctypes  # late, as below: not for --help

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)


def release_memory() -> None:
    """Give free pages back, those in reference cycles too. Takes some milliseconds."""
    gc.collect()  # a BTF and the objects made of it point to each other, and are few but large
    malloc_trim()


def malloc_trim() -> None:
    """Like release_memory() without gc.collect(): reference cycles stay. Takes a few
    milliseconds."""
    # Another thread may be importing it just now.
    pool = getattr(sys.modules.get("pyarrow"), "default_memory_pool", None)
    if pool is not None:
        pool().release_unused()
    trim = _libc_malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _libc_malloc_trim() -> Any | None:
    """Return that of glibc; other C libraries have none."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        return ctypes.CDLL(None).malloc_trim
    return None
