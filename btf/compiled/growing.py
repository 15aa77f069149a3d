"""Arrays that grow at their end while they are filled, on pages of their own.

What is allocated and freed by turns, a little larger each time, leaves holes in the C library's
memory that nothing fits into any more. Pages go back to the system, are moved to where there is
room instead of being copied, and cost nothing before they are touched.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np

from .huge_pages import map_pages

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


class GrowingArray:
    """An array of one dimension: ``all``, which is 0 where nothing was put."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._pages = map_pages(mmap.PAGESIZE)
        self.all = np.frombuffer(self._pages, self._dtype)

    def reserve(self, length: int) -> None:
        """Have room for that many entries; earlier views of ``all`` are outdated then.

        Raises MemoryError.
        """
        if length <= len(self.all):
            return
        size = (length + length // 8) * self._dtype.itemsize
        self.all = np.empty(0, self._dtype)
        try:
            self._pages.resize(size)
        except (BufferError, OSError, SystemError, ValueError):  # views are in use, or no mremap
            pages = map_pages(size)
            pages[: len(self._pages)] = self._pages[:]
            self._pages = pages
        self.all = np.frombuffer(self._pages, self._dtype, size // self._dtype.itemsize)
