"""Kernels: hot loops in Python that run as machine code, without Numba once they are compiled.

Every hot loop is a function under ``@kernel``. The first call with arguments of new types compiles
it (``compiler``) and keeps the machine code in a file; every later process puts it into memory
and calls it by address. So a warm start imports neither Numba nor LLVM, and looks at no source but
to hash it.

A kernel may take and return integers and booleans, and take arrays (one or two dimensions, each
row after the other) and named tuples of these. It may read and write elements of arrays and take
parts of them (``array[start:stop]``), but make none, must not raise, and never uses a negative
index: there is no run-time under it that could count, check or unwind. Wrappers validate before
they call.

The machine code of a kernel can never be stale: the name of its file holds a hash of the source
of its module and of all sources of this package that this one imports, and of the versions and
the processor. Several processes may fill the folder at once: a file is written under a temporary
name and renamed, and says by a digest of its own that it is whole.

``SPLITBTF_CACHE_DIR`` moves the folder; the default is ``$XDG_CACHE_HOME/splitbtf``.

A wheel can bring machine code along, made for processors of a level (x86-64-v3: with AVX2) and
found by the hash of the sources alone; where it can be used, nothing is ever compiled.
``SPLITBTF_BUILT_FOR`` has it made, see the Makefile's ``wheel``.
``NUMBA_DISABLE_JIT=1`` runs the same functions interpreted, for debugging and for the tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import json
import mmap
import os
import re
import struct
import sys
import tempfile
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., object])

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")

_PACKAGE = Path(__file__).parent
_CAME_WITH = _PACKAGE / "machine_code"
CACHE_VARIABLE = "SPLITBTF_CACHE_DIR"
BUILDS = ("x86-64-v3",)
BUILT_FOR = os.environ.get("SPLITBTF_BUILT_FOR", "")
if BUILT_FOR and BUILT_FOR not in BUILDS:
    raise ImportError(f"SPLITBTF_BUILT_FOR={BUILT_FOR}: only {', '.join(BUILDS)} can be built for")
# The flags of Linux that make out this level.
_X86_64_V3 = {"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe", "abm"}
_IMPORT = re.compile(
    rb"^[ \t]*from (\.+)([\w.]*) import ([^#\n(]*)(\([^)]*\))?[ \t]*(?:#.*)?$", re.MULTILINE
)
_DIGEST_BYTES = 16


def kernel(function: F) -> F:
    """Have ``function`` run as machine code; what it may do is said above."""
    if INTERPRETED:
        return function
    return Kernel(function)  # type: ignore[return-value]


def inlined(function: F) -> F:
    """A kernel that is made part of every kernel that calls it."""
    function.inlining = "alwaysinline"  # type: ignore[attr-defined]
    return kernel(function)


def apart(function: F) -> F:
    """A kernel for the rare case: it stays a function of its own, so that the loop that may call
    it keeps the registers for the common one."""
    function.inlining = "noinline"  # type: ignore[attr-defined]
    return kernel(function)


class Kernel:
    """A function that is compiled for each combination of argument types it is called with."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function
        functools.update_wrapper(self, function)
        self._entries: dict[Any, _Entry] = {}

    @functools.cached_property
    def _numba_type_(self) -> Any:
        """What Numba makes of this kernel where another one calls it."""
        from .compiler import dispatcher_type

        return dispatcher_type(self.function)

    def __call__(self, *args: Any) -> Any:
        frame = array("q")
        entry = self._entry(_flatten(args, frame))
        at = len(frame)
        frame.extend(entry.room)
        entry.call(frame.buffer_info()[0])
        return entry.result(frame, at)

    def prepare(self, *args: Any) -> None:
        """Have the machine code for such arguments ready, without a call."""
        self._entry(_flatten(args, array("q")))

    def _entry(self, key: tuple[Any, ...]) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(self, key)
        return entry


class Call:
    """A call that is made again and again, with arguments of the same types of which few change.

    To lay ten arguments out takes Python longer than some kernels take for a module, so all are
    laid out once, and what changes is put in its place. Not for several threads at once.
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._function = function
        self._args = list(args)  # the frame has addresses of them
        self._frame = frame = array("q")
        self._places: list[int] = []
        if INTERPRETED:
            return
        assert isinstance(function, Kernel)
        key: tuple[Any, ...] = ()
        for value in args:
            self._places.append(len(frame))
            key += _flatten((value,), frame)
        self._entry = function._entry(key)
        self._results_at = len(frame)
        frame.extend(self._entry.room)
        self._address = frame.buffer_info()[0]  # it does not grow any more

    def put(self, number: int, values: np.ndarray, start: int, count: int) -> None:
        """Have ``values[start : start + count]`` as an argument, by its number. As the one before
        it is of one dimension and contiguous, and of the same type: that is not looked at. Whoever
        calls keeps ``values`` until the call is over."""
        if INTERPRETED:
            self._args[number] = values[start : start + count]
            return
        at = self._places[number]
        self._frame[at] = address(values) + start * values.itemsize
        self._frame[at + 1] = count

    def __call__(self) -> Any:
        if INTERPRETED:
            return self._function(*self._args)
        self._entry.call(self._address)
        return self._entry.result(self._frame, self._results_at)


def _flatten(args: Any, frame: array[int]) -> tuple[Any, ...]:
    """Lay ``args`` out in 64-bit words, added to ``frame``; returns their types, as ``compiler``
    reads them.

    An array is its address and its length; a number is itself; a named tuple is its fields. Types:
    the dtype's code (with the row's length, if there are rows) for an array, the name of Numba's
    type for a number, ``_TupleTypes`` for a named tuple.
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
_laid_out: dict[int, tuple[Any, array[int], _TupleTypes]] = {}
_LAID_OUT = 8


class _TupleTypes:
    """(class, types of the fields) of a named tuple: one object for all that are equal."""

    def __init__(self, types: tuple[Any, ...]) -> None:
        self.types = types


_tuple_types: dict[tuple[Any, ...], _TupleTypes] = {}


def _flatten_tuple(value: tuple[Any, ...], frame: array[int]) -> _TupleTypes:
    known = _laid_out.get(id(value))
    if known is None or known[0] is not value:
        inner = array("q")
        types = (type(value), _flatten(value, inner))
        known = (value, inner, _tuple_types.setdefault(types, _TupleTypes(types)))
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


class _Entry:
    """The machine code of a kernel for one combination of argument types.

    call    takes the address of a frame: the words of the arguments, then room for the results
    room    as many words as there are results
    """

    def __init__(self, owner: Kernel, key: tuple[Any, ...]) -> None:
        function = owner.function
        name = f"{function.__module__}.{function.__qualname__}"
        signature = hashlib.blake2b(_describe(key).encode(), digest_size=6).hexdigest()
        path = cache_folder(function.__module__) / f"{name}-{signature}"
        stored = _read(path)
        if stored is None and (came := came_with(function.__module__)) is not None:
            stored = _read(came / path.name)
        if stored is None:
            from .compiler import compile_entry

            facts, made = compile_entry(owner, key, f"{name}-{signature}")
            stored = json.dumps(facts).encode() + b"\n" + made
            _write(path, stored)
        line, code = stored.split(b"\n", 1)
        head = json.loads(line)
        self._results: str | list[str] | None = head["results"]
        one = isinstance(self._results, str)
        self._as_they_are = not {"bool", "uint64"} & set(self._results or ())
        self.room = array("q", [0] * (1 if one else len(self._results or ())))
        self.call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_load(head, code))

    def result(self, frame: array[int], at: int) -> Any:
        """The results from position ``at`` of the frame on, as Python numbers."""
        if self._results is None:
            return None
        if isinstance(self._results, str):
            return _number(self._results, frame[at])
        if self._as_they_are:
            return tuple(frame[at:])
        return tuple(_number(kind, frame[at + i]) for i, kind in enumerate(self._results))


def _number(kind: str, word: int) -> int | bool:
    if kind == "bool":
        return bool(word)
    return word & 0xFFFFFFFFFFFFFFFF if kind == "uint64" else word


def _describe(key: Any) -> str:
    """A text for argument types that is the same in every process."""
    if isinstance(key, _TupleTypes):
        key = key.types
    if isinstance(key, tuple):
        return "(" + ",".join(map(_describe, key)) + ")"
    return key.__qualname__ if isinstance(key, type) else str(key)


def _load(head: dict[str, Any], code: bytes) -> int:
    """Put machine code into memory, for as long as this process lives; returns the address of its
    function. ``head`` is what ``compiler.compile_entry`` says of it."""
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
    _loaded.append(memory)
    return place + int(head["start"])


_loaded: list[mmap.mmap] = []


@functools.cache
def _everywhere() -> bytes:
    """What machine code depends on besides sources."""
    versions = [_version(name) for name in ("numba", "llvmlite")]
    return repr((sys.version, np.__version__, versions, _processor())).encode()


def _version(package: str) -> bytes:
    """What stands for a package's version, without an import of it or of importlib.metadata."""
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        with contextlib.suppress(OSError):
            return Path(folder, "_version.py").read_bytes()
    from importlib import metadata

    return metadata.version(package).encode()


# Of the first processor in /proc/cpuinfo, on x86, ARM, POWER, RISC-V and s390.
_PROCESSOR_FACTS = (
    "vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer",
    "CPU variant", "CPU part", "cpu", "isa", "uarch", "features", "processor 0",
)  # fmt: skip


def _processor() -> list[str]:
    """The kind of processor that this is, for which machine code is made."""
    return [os.uname().machine, *_processor_facts().values()]


@functools.cache
def _processor_facts() -> dict[str, str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            # There may be hundreds of processors, and each one takes its time.
            text = file.read(8192).partition("\n\n")[0]
    except OSError:
        text = f"model name: {os.uname()}"
    lines = (line.partition(":") for line in text.splitlines())
    facts = {name.strip(): value.strip() for name, _, value in lines}
    return {name: facts.get(name, "") for name in _PROCESSOR_FACTS}


@functools.cache
def _package_sources() -> frozenset[str]:
    return frozenset(
        f"{folder}/{name}"
        for folder, _, names in os.walk(_PACKAGE)
        for name in names
        if name.endswith(".py")
    )


@functools.cache
def _source(path: str) -> tuple[bytes, tuple[str, ...]]:
    """A source, and those of this package that it imports. Read once: a process that takes kernels
    from many modules would else do it for each."""
    text = Path(path).read_bytes()
    imported: list[str] = []
    for dots, dotted, names, more in _IMPORT.findall(text):
        folder = path.rsplit("/", len(dots))[0]
        if dotted:
            folder += "/" + dotted.decode().replace(".", "/")
        imported.append(f"{folder}.py")
        imported += (f"{folder}/{name.decode()}.py" for name in re.findall(rb"\w+", names + more))
    return text, tuple(path for path in imported if path in _package_sources())


def _sources(path: str) -> dict[str, bytes]:
    """A source and all that it imports from the package, by path."""
    found: dict[str, bytes] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path], imported = _source(path)
            waiting += imported
    return found


@functools.cache
def cache_folder(module: str = "") -> Path:
    """The folder for the machine code of the kernels of a module (dotted name)."""
    if BUILT_FOR:
        return _CAME_WITH / f"{BUILT_FOR}-{_sources_digest(module, b'')}"
    root = os.environ.get(CACHE_VARIABLE)
    if not root:
        cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = str(Path(cache_home) / "splitbtf")
    return Path(root) / f"kernels-{_sources_digest(module, _everywhere())}"


@functools.cache
def came_with(module: str) -> Path | None:
    """The folder for machine code that this package was built with, if this processor runs it."""
    flags = set(_processor_facts()["flags"].split())
    if not _CAME_WITH.is_dir() or not flags.issuperset(_X86_64_V3):
        return None
    return _CAME_WITH / f"{BUILDS[0]}-{_sources_digest(module, b'')}"


def _sources_digest(module: str, more: bytes) -> str:
    """Stands for the sources that the kernels of a module are made of."""
    digest = hashlib.blake2b(more, digest_size=10)
    origin = getattr(sys.modules.get(module), "__file__", None) or f"{_PACKAGE}/jit.py"
    for source, text in sorted({**_sources(origin), **_compilers()}.items()):
        name = source.removeprefix(f"{_PACKAGE}/")
        digest.update(name.encode() + b"\0" + text + b"\0")
    return digest.hexdigest()


@functools.cache
def _compilers() -> dict[str, bytes]:
    folder = f"{_PACKAGE}/compiler/"
    paths = [path for path in _package_sources() if path.startswith(folder)]
    return {path: _source(path)[0] for path in [f"{_PACKAGE}/jit.py", *paths]}


def _read(path: Path) -> bytes | None:
    """Stored machine code, or None if there is none that is whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.blake2b(rest, digest_size=_DIGEST_BYTES).digest() != digest:
        return None
    return rest


def _write(path: Path, content: bytes) -> None:
    """Store machine code; where that is not possible, it is compiled again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest() + content)
        os.replace(file.name, path)
    except OSError:
        pass
