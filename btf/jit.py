"""How kernels are compiled and where the machine code is kept.

Every hot loop is a function under ``@kernel``. Numba compiles it on first use and keeps the code
on disk. Numba's own cache looks at the file of the called function only: when a kernel that it
calls changes in another file, stale machine code is used. So the cache folder's name holds a hash
of *all* sources with kernels and of the versions that matter; a change of any starts a new one.
Several processes may fill one folder at once: entries are written under a temporary name and
renamed.

``SPLITBTF_CACHE_DIR`` moves the cache; the default is ``$XDG_CACHE_HOME/splitbtf``.
``NUMBA_DISABLE_JIT=1`` runs the same functions interpreted, for debugging and for the tests.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import llvmlite
import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., object])

# Sources without kernels that kernels take constants from.
_CONSTANTS = ("kinds.py", "bits.py", "tables.py", "jit.py")

INTERPRETED = bool(numba.config.DISABLE_JIT)


@functools.cache
def cache_folder() -> Path:
    """The folder that holds the machine code of exactly these sources and versions."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for source in sorted(package.rglob("*.py")):
        text = source.read_bytes()
        if source.name in _CONSTANTS or b"jit import" in text:
            digest.update(str(source.relative_to(package)).encode() + b"\0" + text + b"\0")
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr((versions, platform.machine(), numba.config.CPU_NAME)).encode())
    root = os.environ.get("SPLITBTF_CACHE_DIR")
    if not root:
        cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = str(Path(cache_home) / "splitbtf")
    return Path(root) / f"kernels-{digest.hexdigest()[:20]}"


def kernel(function: F) -> F:
    """Compile ``function`` in nopython mode, without the GIL, cached on disk.

    Without reference counting either: counting the users of the arrays that kernels hand to each
    other took more time than the work (measured: a third of all instructions of the match). So a
    kernel may read and write arrays, and take slices of them, but not make any.
    """
    return _compile(function, counted=False)


def allocating(function: F) -> F:
    """As ``kernel``, for those that make arrays: they pay for reference counting."""
    return _compile(function, counted=True)


def _compile(function: F, counted: bool) -> F:
    if INTERPRETED:
        return function
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        # _nrt is Numba's own switch for functions that do not touch its run-time's counters.
        return numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=counted)(function)
    finally:
        numba.config.CACHE_DIR = before
