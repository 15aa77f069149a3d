"""Compiled functions: hot loops in Python that run as machine code.

Every hot loop is a function under ``@compiled``. The first call with arguments of new types
compiles it (``compiler``, built on Numba) and keeps the machine code in a file (``code_cache``);
every later process loads it and calls it by address. So a warm start imports neither Numba nor
LLVM, and reads sources only to hash them.

What a compiled function may do:

* take and return integers and booleans; take arrays of one or two dimensions, C-contiguous and
  aligned, and named tuples of these (``flatten``);
* read and write elements of arrays, and slice them (``array[start:stop]``), but make none;
* not raise, and never use a negative index: no run-time under it counts references, checks bounds
  or unwinds. Wrappers validate before they call.
"""

from __future__ import annotations

import ctypes
import functools
import json
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .code_cache import blake2b, bundled_folder, cache_folder, kept_folder, read_code, write_code
from .target import CHECKED, FOREIGN, INTERPRETED

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Decorate ``function`` to run as machine code; the module docstring says what it may do."""
    if INTERPRETED:
        return function
    return CompiledFunction(function)  # type: ignore[return-value]


def inlined(function: F) -> F:
    """Decorate a function to be inlined into every compiled function that calls it."""
    function.inlining = "alwaysinline"  # type: ignore[attr-defined]
    return compiled(function)


def noinline(function: F) -> F:
    """Decorate a function for a rare case, never to be inlined: the loop that calls it keeps its
    registers for the common case."""
    function.inlining = "noinline"  # type: ignore[attr-defined]
    return compiled(function)


class CompiledFunction:
    """A function that is compiled once for each combination of argument types it is called with."""

    __name__: str

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function
        functools.update_wrapper(self, function)
        self._entries: dict[Any, _Entry] = {}

    @functools.cached_property
    def _numba_type_(self) -> Any:
        """The type that Numba gives this function where a compiled function calls it."""
        from .compiler import dispatcher_type

        return dispatcher_type(self.function)

    def __call__(self, *args: Any) -> Any:
        frame = array("q")
        entry = self._entry(flatten(args, frame))
        at = len(frame)
        frame.extend(entry.result_slots)
        entry.call(frame.buffer_info()[0])
        return entry.result(frame, at)

    def prepare(self, *args: Any) -> None:
        """Load or compile the machine code for such arguments, without a call."""
        self._entry(flatten(args, array("q")))

    def _entry(self, key: tuple[Any, ...]) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = (_CheckedEntry if CHECKED else _Entry)(self, key)
        return entry


def is_stored(function: Callable[..., object]) -> bool:
    """Whether machine code of a compiled function is kept, for some arguments: it is likely that
    nothing has to be compiled for it."""
    if not isinstance(function, CompiledFunction) or function._entries:
        return True
    module = function.function.__module__
    folders = filter(None, (kept_folder(module), bundled_folder(module)))
    return any(any(folder.glob(f"{module}.{function.__name__}-*")) for folder in folders)


class PreparedCall:
    """A call that is made again and again, where few arguments change and their types never do.

    Flattening ten arguments takes Python longer than some compiled functions take for a module.
    So all are flattened once, and only what changes is written again. Not thread-safe.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = list(args)  # keeps them alive: the frame holds their addresses
        self._frame = frame = array("q")
        self._places: list[int] = []
        if INTERPRETED:
            return
        assert isinstance(function, CompiledFunction)
        key: tuple[Any, ...] = ()
        for value in args:
            self._places.append(len(frame))
            key += flatten((value,), frame)
        self._entry = function._entry(key)
        self._results_at = len(frame)
        frame.extend(self._entry.result_slots)
        self._address = frame.buffer_info()[0]  # it does not grow any more

    def set_argument(
        self,
        number: int,
        value: np.ndarray | int | tuple[Any, ...],
        words: array[int] | None = None,
    ) -> None:
        """Pass ``value`` as argument ``number`` from the next call on.

        words  of a named tuple: what ``flattened`` gave for it

        Unchecked: it must have the type that this argument had at first; an array must have one
        dimension and be contiguous and aligned. The caller keeps it alive until the call is over.
        """
        if INTERPRETED:
            self._args[number] = value
            return
        at = self._places[number]
        if words is not None:
            self._frame[at : at + len(words)] = words
        elif isinstance(value, int):
            self._frame[at] = value
        else:
            assert isinstance(value, np.ndarray)
            self.set_arrays(number, value)

    def set_arrays(self, number: int, *values: np.ndarray) -> None:
        """Pass arrays as arguments from ``number`` on: quicker than one by one."""
        if INTERPRETED:
            self._args[number : number + len(values)] = values
            return
        at = self._places[number]
        frame = self._frame
        for value in values:
            frame[at] = address(value)
            frame[at + 1] = len(value)
            at += 2

    def __call__(self) -> Any:
        if INTERPRETED:
            return self._function(*self._args)
        self._entry.call(self._address)
        return self._entry.result(self._frame, self._results_at)


class _Entry:
    """The machine code of a compiled function for one combination of argument types.

    call          takes the address of a frame: the words of the arguments, then the result slots
    result_slots  zeros, one word for each result
    """

    def __init__(self, owner: CompiledFunction, key: tuple[Any, ...]) -> None:
        function = owner.function
        name = f"{function.__module__}.{function.__qualname__}"
        signature = blake2b(describe(key).encode(), digest_size=6).hexdigest()
        path = cache_folder(function.__module__) / f"{name}-{signature}"
        stored = read_code(path)
        kept = kept_folder(function.__module__) / path.name
        if stored is None and (bundled := bundled_folder(function.__module__)) is not None:
            stored = read_code(bundled / path.name, bundled=True)
        if stored is None or (FOREIGN and not kept.exists()):
            from .compiler import compile_entry

            stored, *more = compile_entry(function, key, f"{name}-{signature}")
            write_code(path, stored)
            for code in more:
                write_code(kept, code)
        line, code = stored.split(b"\n", 1)
        head = json.loads(line)
        self._checks: dict[str, str] = head.get("checks", {})
        self._results: str | list[str] | None = head["results"]
        one = isinstance(self._results, str)
        self._all_signed = not {"bool", "uint64"} & set(self._results or ())
        self.result_slots = array("q", [0] * (1 if one else len(self._results or ())))
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_load(head, code))

    def result(self, frame: array[int], at: int) -> Any:
        """Read the results, which begin at position ``at`` of the frame, as Python numbers."""
        if self._results is None:
            return None
        if isinstance(self._results, str):
            return _number(self._results, frame[at])
        if self._all_signed:
            return tuple(frame[at:])
        return tuple(_number(kind, frame[at + i]) for i, kind in enumerate(self._results))


class _CheckedEntry(_Entry):
    """Machine code with checks (see ``compiler.checks``): two more results say what failed."""

    def __init__(self, owner: CompiledFunction, key: tuple[Any, ...]) -> None:
        super().__init__(owner, key)
        self.result_slots.extend((0, 0))

    def result(self, frame: array[int], at: int) -> Any:
        code, number = frame[-2:]
        if code:
            message = f"{self._checks.get(str(code), f'error {code} of Numba')} {number}"
            with open(CHECKED, "a") as file:  # noqa: PTH123
                file.write(message + "\n")
            raise CheckFailedError(message)
        return super().result(frame[:-2], at)


class CheckFailedError(AssertionError):
    """A compiled function was about to leave an array, or cut a number off: a bug of ours."""


def _number(kind: str, word: int) -> int | bool:
    if kind == "bool":
        return bool(word)
    return word & 0xFFFFFFFFFFFFFFFF if kind == "uint64" else word


def _load(head: dict[str, Any], code: bytes) -> int:
    """Map machine code into this process, for good; returns the address of its function.

    head   what ``compiler.compile_entry`` returned beside the code
    """
    if "object" in head:
        from .compiler import load_object

        return load_object(code, head["object"])
    memory = mmap.mmap(-1, len(code), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = code
    library = ctypes.CDLL(None, use_errno=True)
    for name, position in head["imports"].items():
        address = ctypes.cast(library[name], ctypes.c_void_p).value
        memory[position : position + 8] = struct.pack("=Q", address)
    place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    rights = mmap.PROT_READ | mmap.PROT_EXEC
    if library.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(len(code)), rights):
        reason = os.strerror(ctypes.get_errno())
        raise OSError(f"this system lets no process make machine code at run time: {reason}")
    _mapped.append(memory)
    return place + int(head["start"])


_mapped: list[mmap.mmap] = []


# ------------------------------------------------------------------ arguments
#
# They are laid out in 64-bit words: an array is its address and its length, a number is itself, a
# named tuple is its fields.


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
_MAX_FLATTENED = 32


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


def flattened(value: tuple[Any, ...]) -> array[int]:
    """Flatten a named tuple, for ``PreparedCall.set_argument``."""
    words = array("q")
    flatten(value, words)
    return words


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
