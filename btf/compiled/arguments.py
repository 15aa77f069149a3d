"""Arguments of compiled functions, laid out in 64-bit words.

An array is its address and its length; a number is itself; a named tuple is its fields.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from typing import Any

import numpy as np


def flatten(args: Any, frame: array[int]) -> tuple[Any, ...]:
    """Append ``args`` to ``frame`` as 64-bit words; returns their types for ``compiler``.

    Types: the dtype's code (with the row's length, if there are rows) for an array, the name of
    Numba's type for a number, ``TupleTypes`` for a named tuple. Raises TypeError for what compiled
    functions do not take.
    """
    key: list[Any] = []
    for value in args:
        if isinstance(value, np.ndarray):
            flags = value.flags
            if not flags.c_contiguous or not flags.aligned:
                raise TypeError("compiled functions take arrays that are contiguous and aligned")
            frame.append(address(value))
            frame.append(len(value))
            code = _codes.get(value.dtype)
            if code is None:
                code = _codes[value.dtype] = value.dtype.str
            key.append(code if value.ndim == 1 else (code, *value.shape[1:]))
        elif isinstance(value, tuple):
            key.append(_flatten_tuple(value, frame))
        elif isinstance(value, bool | np.bool_):
            frame.append(bool(value))
            key.append("boolean")
        elif isinstance(value, int):
            frame.append(value)
            key.append("int64")
        elif isinstance(value, np.uint64):
            frame.append(int(value) - (1 << 64 if value >> np.uint64(63) else 0))
            key.append("uint64")
        elif isinstance(value, np.integer):
            frame.append(int(value))
            key.append(type(value).__name__)
        else:
            raise TypeError(f"compiled functions do not take {type(value).__name__}")
    return tuple(key)


_codes: dict[np.dtype[Any], str] = {}


def _address_by_interface(value: np.ndarray) -> int:
    return int(value.ctypes.data)


def _address_in_object(value: np.ndarray) -> int:
    """Read what NumPy's C macro PyArray_DATA reads: ten times as fast as by way of ``ctypes``."""
    return _pointer_at(id(value) + object.__basicsize__).value or 0


_pointer_at = ctypes.c_void_p.from_address
_probe = np.zeros(1, np.uint8)
address = (
    _address_in_object
    if sys.implementation.name == "cpython"
    and _address_in_object(_probe) == _address_by_interface(_probe)
    else _address_by_interface
)


# The named tuples flattened last, by id: those of a workspace come again with every module.
_flattened: dict[int, tuple[Any, array[int], TupleTypes]] = {}
_MAX_FLATTENED = 8


class TupleTypes:
    """(class, types of the fields) of a named tuple: one object for equal ones, quick to hash."""

    def __init__(self, types: tuple[Any, ...]) -> None:
        self.types = types


_tuple_types: dict[tuple[Any, ...], TupleTypes] = {}


def _flatten_tuple(value: tuple[Any, ...], frame: array[int]) -> TupleTypes:
    known = _flattened.get(id(value))
    if known is None or known[0] is not value:
        inner = array("q")
        types = (type(value), flatten(value, inner))
        known = (value, inner, _tuple_types.setdefault(types, TupleTypes(types)))
        if len(_flattened) >= _MAX_FLATTENED:
            _flattened.clear()
        _flattened[id(value)] = known
    frame.extend(known[1])
    return known[2]


def drop_flattened(value: tuple[Any, ...]) -> None:
    """Forget the words of a named tuple that no compiled function will be given again."""
    _flattened.pop(id(value), None)


def drop_all_flattened() -> None:
    """Forget the words of all named tuples, in all threads; those used again are flattened anew."""
    _flattened.clear()


def describe(key: Any) -> str:
    """Describe argument types by a text that is the same in every process."""
    if isinstance(key, TupleTypes):
        key = key.types
    if isinstance(key, tuple):
        return "(" + ",".join(map(describe, key)) + ")"
    return key.__qualname__ if isinstance(key, type) else str(key)
