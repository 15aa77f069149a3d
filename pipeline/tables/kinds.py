"""Names of kinds of types, as tables have them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

import btf

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


@cache
def kind_name(number: int) -> str:
    """Return ``STRUCT`` for 4; a kind without a name stays a number: ``KIND31``."""
    if number < len(btf.KIND_NAMES):
        return str(btf.KIND_NAMES[number])
    return f"KIND{number}"


@cache
def _by_name() -> tuple[list[int], list[str]]:
    """All kinds and their names, ordered by name."""
    order = sorted(range(btf.kinds.KIND_COUNT), key=kind_name)
    return order, list(map(kind_name, order))


def counts_by_name(totals: NDArray[np.int64]) -> pa.MapArray:
    """Make a map of each row of ``totals``, int64 of shape (n, KIND_COUNT): count by kind's name,
    ordered by name, of the kinds that occur."""
    import pyarrow as pa  # late: `dedup` starts without it

    order, names = _by_name()
    totals = totals[:, order]
    row, kind = np.nonzero(totals)
    ends = np.zeros(len(totals) + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=len(totals)), out=ends[1:])
    keys = pa.array(names, pa.string()).take(pa.array(kind))
    return pa.MapArray.from_arrays(pa.array(ends), keys, pa.array(totals[row, kind]))
