"""Checks of what public functions are given, once, before compiled functions see it.

What is wrong with an argument is a TypeError or a ValueError; what is wrong with BTF is a BtfError.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

Bytes = bytes | bytearray | memoryview | np.ndarray


def require(value: object, expected: type | tuple[type, ...], name: str) -> None:
    """Raise TypeError unless ``value``, the argument ``name``, is an ``expected`` one."""
    if not isinstance(value, expected):
        classes = expected if isinstance(expected, tuple) else (expected,)
        listed = " or ".join("None" if c is type(None) else c.__name__ for c in classes)
        raise TypeError(f"{name} is to be {listed}, not {type(value).__name__}")


def number(value: object, name: str) -> int:
    """Return ``value``, the argument ``name``, as int. Raises TypeError for what is none."""
    if isinstance(value, bool | np.bool_) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} is to be a whole number, not {type(value).__name__}")
    return operator.index(value)  # type: ignore[arg-type]


def takes(**expected: type | tuple[type, ...]) -> Callable[[F], F]:
    """Have a function check its arguments of these names, as ``require``, where they are given."""

    def wrap(function: F) -> F:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        checks = [(names.index(n) if n in names else None, n, c) for n, c in expected.items()]

        @functools.wraps(function)
        def checked(*args: Any, **named: Any) -> Any:
            for position, name, classes in checks:
                if position is not None and position < len(args):
                    require(args[position], classes, name)
                elif name in named:
                    require(named[name], classes, name)
            return function(*args, **named)

        return checked  # type: ignore[return-value]

    return wrap


def octets(data: Bytes) -> memoryview:
    """A view of bytes that nobody can change: of ``data`` if that is ``bytes``, else of a copy.

    Raises TypeError for what is no buffer, or none that lies in one piece.
    """
    view = memoryview(data.data if isinstance(data, np.ndarray) else data).cast("B")
    return view if isinstance(view.obj, bytes) else memoryview(bytes(view))


def integers(values: Any, name: str, end: int, count: int | None = None) -> np.ndarray:
    """Make a one-dimensional int64 array of whole numbers from 0 on and below ``end``.

    count   how many there are to be; None: any number

    Raises TypeError for what is no whole number, ValueError for one that is out of range.
    """
    given = np.asarray(values)
    if given.size == 0 and given.dtype.kind == "f":
        given = given.astype(np.int64)  # an empty list
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} is to be whole numbers, not {given.dtype}")
    if given.ndim != 1:
        raise ValueError(f"{name} is to have one dimension, not {given.ndim}")
    if count is not None and len(given) != count:
        raise ValueError(f"{name} is to have {count} entries, not {len(given)}")
    if len(given) and (int(given.min()) < 0 or int(given.max()) >= end):
        wrong = int(given.min()) if int(given.min()) < 0 else int(given.max())
        raise ValueError(f"{name} is to be from 0 to {end - 1}, not {wrong}")
    return np.ascontiguousarray(given, np.int64)


def brief_repr(record: Any) -> str:
    """Represent a dataclass that holds arrays: how large they are, not what is in them."""
    shown = (f"{f.name}={_brief(getattr(record, f.name))}" for f in fields(record) if f.repr)
    return f"{type(record).__name__}({', '.join(shown)})"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {value.shape}>"
    if isinstance(value, bytes | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, tuple | list):
        return f"<{len(value)} of {type(value).__name__}>"
    return repr(value)
