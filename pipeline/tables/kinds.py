"""Kinds of types in tables: their names, and how many of each a BTF has."""

from __future__ import annotations

from functools import cache

import numpy as np

import btf
from btf.types.columns import kind_totals


@cache
def kind_name(number: int) -> str:
    """Return ``STRUCT`` for 4; a kind without a name stays a number: ``KIND31``."""
    if number < len(btf.KIND_NAMES):
        return str(btf.KIND_NAMES[number])
    return f"KIND{number}"


def kind_counts(types: btf.BTF) -> tuple[dict[str, int], dict[str, int]]:
    """Count own types of each kind that occurs, and the bytes of their records."""
    count, size = kind_totals(types)
    present = np.flatnonzero(count).tolist()
    names = [kind_name(number) for number in present]
    return (
        dict(zip(names, count[present].tolist(), strict=True)),
        dict(zip(names, size[present].tolist(), strict=True)),
    )
