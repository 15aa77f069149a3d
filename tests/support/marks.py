"""How much of what is alike is looked at: by the quick suite, the suite, and the long one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from support import dumping, handmade, vectors

# A test with a parameter ``every`` looks at one of so many: of five in ``make test``.
every = pytest.mark.parametrize(
    "every", [pytest.param(1, id="all", marks=pytest.mark.long), pytest.param(5, id="some")]
)


def few_quick(values: Sequence[Any], every: int) -> list[Any]:
    """Parameters of a test of which one of so many is quick, and all others are slow."""
    return [
        pytest.param(value, marks=pytest.mark.slow) if at % every else value
        for at, value in enumerate(values)
    ]


def few(values: Sequence[Any], every: int) -> list[Any]:
    """Parameters of a test of which one of so many is in the suite, and the others are long."""
    return [pytest.param(value, marks=pytest.mark.long) if at % every else value
            for at, value in enumerate(values)]  # fmt: skip


def vector_names() -> list[Any]:
    """All of ``support/vectors.py``; of seeds few are quick, and those of an odd number long, but
    for some of the other byte order. The contract tests run them all."""
    seeds = few_quick([f"seed-{seed}" for seed in vectors.SEEDS], 8)
    for at in vectors.SEEDS:
        if at % 2 and at % 16 != 5:
            seeds[at] = pytest.param(f"seed-{at}", marks=pytest.mark.long)
    return handmade_names() + seeds


def handmade_names() -> list[Any]:
    """Those that are no seeds; the largest of them is slow."""
    slow = pytest.param("deep-graph", marks=pytest.mark.slow)
    return [slow if name == "deep-graph" else name for name in handmade.CASES]


def demo_modules() -> list[Any]:
    """The modules of the demo, of which few are not long."""
    return few(dumping.module_names(), 6)
