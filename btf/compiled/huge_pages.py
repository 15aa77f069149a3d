"""Memory for tables that are read at random: on large pages where the system has them.

A look-up in a table of megabytes costs a walk through the processor's page tables beside the
access itself, and in a virtual machine two of them. With pages of 2 MiB there is none.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

_LARGE_PAGE = 2 << 20
_APART = 64  # bytes: no two arrays share a cache line

Shape = int | tuple[int, ...]


def power_of_two(at_least: int) -> int:
    """The smallest power of two that is no less, and at least 16: a length for a hash table."""
    return 1 << max(4, (at_least - 1).bit_length())


def spacious(size: int) -> np.ndarray:
    """``size`` bytes of zeros: uint8. Memory is taken as it is touched."""
    if not hasattr(mmap, "MADV_HUGEPAGE") or size < _LARGE_PAGE // 4:
        return np.zeros(size, np.uint8)
    # Aligned here, since not every kernel does it.
    pages = -(-size // _LARGE_PAGE) + 1
    room = mmap.mmap(-1, pages * _LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        room.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(room, np.uint8)
    start = -memory.ctypes.data % _LARGE_PAGE
    return memory[start : start + size]


def zeros(layout: Mapping[str, tuple[Shape, DTypeLike]]) -> dict[str, np.ndarray]:
    """Arrays of zeros by name, side by side: shape and dtype of each are given."""
    sizes = {
        name: math.prod((shape,) if isinstance(shape, int) else shape) * np.dtype(dtype).itemsize
        for name, (shape, dtype) in layout.items()
    }
    memory = spacious(sum(-(-size // _APART) * _APART for size in sizes.values()))
    arrays, at = {}, 0
    for name, (shape, dtype) in layout.items():
        arrays[name] = memory[at : at + sizes[name]].view(dtype).reshape(shape)
        at += -(-sizes[name] // _APART) * _APART
    return arrays


def together(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Read-only copies of arrays, side by side."""
    copies = zeros({str(i): (array.shape, array.dtype) for i, array in enumerate(arrays)})
    for copy, array in zip(copies.values(), arrays, strict=True):
        copy[...] = array
        copy.setflags(write=False)
    return list(copies.values())
