"""The same work for OLD and NEW, side by side: most of it is Arrow's and numpy's, which leave other
threads run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def of_both(make: Callable[[_Given], _Made], old: _Given, new: _Given) -> tuple[_Made, _Made]:
    """Return ``make(old)`` and ``make(new)``.

    The thread is made for this call: a kept one would not be there in a process that was forked.
    """
    with ThreadPoolExecutor(1) as helper:  # nothing goes on when this returns
        first = helper.submit(make, old)
        second = make(new)
    return first.result(), second
