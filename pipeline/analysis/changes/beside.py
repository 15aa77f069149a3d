"""The same work for OLD and NEW, side by side: most of it is Arrow's and numpy's, which leave other
threads run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def of_both(make: Callable[[_Given], _Made], old: _Given, new: _Given) -> tuple[_Made, _Made]:
    """Return ``make(old)`` and ``make(new)``. ``make`` must not call this itself."""
    first = _helper().submit(make, old)
    try:
        second = make(new)
    finally:
        first.exception()  # nothing goes on when this returns
    return first.result(), second


@cache
def _helper() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)
