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
    array = column.combine_chunks() if hasattr(column, "chunks") else column
    there, data = array.buffers()
    some = slice(array.offset, array.offset + len(array))
    found = np.frombuffer(data or b"", np.dtype(f"i{array.type.bit_width // 8}"))[some]
    if array.null_count:
        bits = np.unpackbits(np.frombuffer(there, np.uint8), count=some.stop, bitorder="little")
        found = np.where(bits[some] != 0, found, absent)
    return found
