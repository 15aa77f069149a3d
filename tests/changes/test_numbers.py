"""Protects what passes between Arrow and numpy without Arrow's own functions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.analysis.changes.numbers import as_arrow, numbers_of

VALUES = [5, None, -(1 << 31), None, 7, 8, 9, None, 11, 12]


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64()])
@pytest.mark.parametrize("start", range(len(VALUES) + 1))
def test_numbers(kind: pa.DataType, start: int) -> None:
    expected = [-1 if value is None else value for value in VALUES]
    array = pa.array(VALUES, kind)
    assert numbers_of(array[start:], -1).tolist() == expected[start:]
    chunked = pa.chunked_array([array[:start], array[start:]])
    assert numbers_of(chunked, -1).tolist() == expected
    numbers = np.array(expected)[start:][::2]
    assert as_arrow(numbers).to_pylist() == numbers.tolist()
