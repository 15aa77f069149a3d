"""Looking numbers up in arrays that rise."""

from __future__ import annotations

import numpy as np

from ..compiled.jit import inlined


@inlined
def first_at_least(ordered, value):  # type: ignore[no-untyped-def]
    """Find the place of the first number in ``ordered``, which rises, that is not below ``value``,
    of the same type; as many as there are if all are."""
    low, high = np.int64(0), np.int64(len(ordered))
    while low < high:
        middle = (low + high) >> 1
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low
