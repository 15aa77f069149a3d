"""Memory for tables that are read at random: on large pages where the system has them.

A look-up in a table of megabytes costs a walk through the processor's page tables beside the
access itself, and in a virtual machine two of them. With pages of 2 MiB there is none.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_LARGE_PAGE = 2 << 20
_CACHE_LINE = 64  # bytes; no two arrays share one

Shape = int | tuple[int, ...]


def power_of_two(at_least: int) -> int:
    """The smallest power of two >= max(``at_least``, 16): a length for a hash table."""
    return 1 << max(4, (at_least - 1).bit_length())


def alloc_huge(size: int) -> np.ndarray:
    """Allocate ``size`` bytes of zeros (uint8), on huge pages where the system has them.

    The system hands out memory as it is touched. Raises MemoryError.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE") or size < _LARGE_PAGE // 4:
        return np.zeros(size, np.uint8)
    # Aligned here, since not every Linux does it.
    mapped = map_pages((-(-size // _LARGE_PAGE) + 1) * _LARGE_PAGE)
    with contextlib.suppress(OSError):  # Linux built without them
        mapped.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(mapped, np.uint8)
    start = -memory.ctypes.data % _LARGE_PAGE
    return memory[start : start + size]


def map_pages(size: int) -> mmap.mmap:
    """Map ``size`` bytes of zeros, of which the system hands out what is touched.

    Raises MemoryError.
    """
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{size} bytes: {error}") from error


def alloc_zeros(
    layout: Mapping[str, tuple[Shape, DTypeLike]], *, huge: bool = True
) -> dict[str, np.ndarray]:
    """Allocate arrays of zeros in one piece of memory.

    layout   by name of the array: its shape and dtype
    huge     whether on huge pages: not where little is touched of most arrays
    """
    sizes = {
        name: math.prod((shape,) if isinstance(shape, int) else shape) * np.dtype(dtype).itemsize
        for name, (shape, dtype) in layout.items()
    }
    total = sum(-(-size // _CACHE_LINE) * _CACHE_LINE for size in sizes.values())
    memory = alloc_huge(total) if huge else np.frombuffer(map_pages(total), np.uint8)
    arrays, at = {}, 0
    for name, (shape, dtype) in layout.items():
        arrays[name] = memory[at : at + sizes[name]].view(dtype).reshape(shape)
        at += -(-sizes[name] // _CACHE_LINE) * _CACHE_LINE
    return arrays


def pack_contiguous(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Copy arrays into one piece of memory; returns the copies, read-only."""
    copies = alloc_zeros({str(i): (array.shape, array.dtype) for i, array in enumerate(arrays)})
    for copy, array in zip(copies.values(), arrays, strict=True):
        copy[...] = array
        copy.setflags(write=False)
    return list(copies.values())
