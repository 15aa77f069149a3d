"""How kernels are compiled and where the machine code is kept.

Every hot loop is a function under ``@kernel``. Numba compiles it on first use and keeps the code
on disk. Numba's own cache looks at the file of the called function only: when a kernel that it
calls changes in another file, stale machine code is used. So the cache folder's name holds a hash
of *all* sources with kernels and of the versions that matter; a change of any starts an empty folder.
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

# Sources without kernels that kernels take constants or inlined parts from.
_CONSTANTS = ("kinds.py", "bits.py", "tables.py", "jit.py")

INTERPRETED = bool(numba.config.DISABLE_JIT)


@functools.cache
def cache_folder() -> Path:
    """The folder that holds the machine code of exactly these sources and versions."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        text = source.read_bytes()
        if source.name in _CONSTANTS or b"import kernel" in text or b"import inlined" in text:
            digest.update(source.name.encode() + b"\0" + text + b"\0")
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr((versions, platform.machine(), numba.config.CPU_NAME)).encode())
    root = os.environ.get("SPLITBTF_CACHE_DIR")
    if not root:
        cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = str(Path(cache_home) / "splitbtf")
    return Path(root) / f"kernels-{digest.hexdigest()[:20]}"


def kernel(function: F) -> F:
    """Compile ``function`` in nopython mode, without the GIL, cached on disk."""
    return _compile(function, "never")


def inlined(function: F) -> F:
    """As ``kernel``, merged into its callers before compilation.

    For what hot loops call with bundles of arrays: passing those costs more than the work.
    """
    return _compile(function, "always")


def _compile(function: F, inline: str) -> F:
    if INTERPRETED:
        return function
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", inline=inline)(function)
    finally:
        numba.config.CACHE_DIR = before
