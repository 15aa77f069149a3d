"""Columns of numbers between Arrow and numpy, without copies.

Arrow's own functions for this import pandas, where it is installed, which takes long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def as_arrow(numbers: NDArray[np.int64]) -> pa.Int64Array:
    """Make a column of numbers."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(np.ascontiguousarray(numbers, np.int64))]
    return pa.Int64Array.from_buffers(pa.int64(), len(numbers), buffers)


def numbers_of(column: pa.Array | pa.ChunkedArray, absent: int = 0) -> NDArray[Any]:
    """Read a column of whole numbers, of any width; ``absent`` where there is none."""
    if not hasattr(column, "chunks"):
        array = column
    elif column.num_chunks:
        array = column.combine_chunks()
    else:
        return np.empty(0, np.int64)
    data = array.buffers()[1]
    found = np.frombuffer(data or b"", np.dtype(f"i{array.type.bit_width // 8}"))
    found = found[array.offset : array.offset + len(array)]
    return np.where(is_there(array), found, absent) if array.null_count else found


def is_there(array: pa.Array) -> NDArray[np.bool_]:
    """Tell of each value whether there is one."""
    if not array.null_count:
        return np.ones(len(array), np.bool_)
    end = array.offset + len(array)
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    return np.unpackbits(bits, count=end, bitorder="little")[array.offset :].astype(np.bool_)
