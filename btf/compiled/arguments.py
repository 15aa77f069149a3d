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
    """Lay ``args`` out in 64-bit words, added to ``frame``; returns their types, as ``compiler``
    reads them.

    An array is its address and its length; a number is itself; a named tuple is its fields. Types:
    the dtype's code (with the row's length, if there are rows) for an array, the name of Numba's
    type for a number, ``TupleTypes`` for a named tuple.
    """
    key: list[Any] = []
    for value in args:
        if isinstance(value, np.ndarray):
            flags = value.flags
            if not flags.c_contiguous or not flags.aligned:
                raise TypeError("kernels take arrays that are contiguous and aligned")
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
            raise TypeError(f"kernels do not take {type(value).__name__}")
    return tuple(key)


_codes: dict[np.dtype[Any], str] = {}


def _address_by_interface(value: np.ndarray) -> int:
    return int(value.ctypes.data)


def _address_in_object(value: np.ndarray) -> int:
    """As the macro PyArray_DATA of NumPy's C interface: ten times as fast as its Python one."""
    return _pointer_at(id(value) + object.__basicsize__).value or 0


_pointer_at = ctypes.c_void_p.from_address
_probe = np.zeros(1, np.uint8)
address = (
    _address_in_object
    if sys.implementation.name == "cpython"
    and _address_in_object(_probe) == _address_by_interface(_probe)
    else _address_by_interface
)


# The last named tuples that were laid out: those of a workspace come again with every module.
_laid_out: dict[int, tuple[Any, array[int], TupleTypes]] = {}
_LAID_OUT = 8


class TupleTypes:
    """(class, types of the fields) of a named tuple: one object for all that are equal."""

    def __init__(self, types: tuple[Any, ...]) -> None:
        self.types = types


_tuple_types: dict[tuple[Any, ...], TupleTypes] = {}


def _flatten_tuple(value: tuple[Any, ...], frame: array[int]) -> TupleTypes:
    known = _laid_out.get(id(value))
    if known is None or known[0] is not value:
        inner = array("q")
        types = (type(value), flatten(value, inner))
        known = (value, inner, _tuple_types.setdefault(types, TupleTypes(types)))
        if len(_laid_out) >= _LAID_OUT:
            _laid_out.clear()
        _laid_out[id(value)] = known
    frame.extend(known[1])
    return known[2]


def forget(value: tuple[Any, ...]) -> None:
    """Let go of a named tuple that will not be given to kernels again."""
    _laid_out.pop(id(value), None)


def forget_all() -> None:
    """Let go of all of them, in all threads; those that come again are laid out anew."""
    _laid_out.clear()


def describe(key: Any) -> str:
    """A text for argument types that is the same in every process."""
    if isinstance(key, TupleTypes):
        key = key.types
    if isinstance(key, tuple):
        return "(" + ",".join(map(describe, key)) + ")"
    return key.__qualname__ if isinstance(key, type) else str(key)
