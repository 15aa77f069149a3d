"""Where machine code is kept, and when it may be used again.

Machine code can never be stale: the name of its folder holds a hash of the source of its module
and of all sources of this package that this one imports, of the versions of Python, NumPy, Numba
and LLVM, and of the processor. Several processes may fill a folder at once: a file is written
under a temporary name and renamed, and holds a digest of its content and its place.

``SPLITBTF_CACHE_DIR`` moves the folder; the default is ``$XDG_CACHE_HOME/splitbtf``. A wheel can
bundle machine code for a level of processors, found by the hash of the sources alone; where it
can be used, nothing is compiled.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import sys
from pathlib import Path

import numpy as np

try:  # by itself: hashlib loads OpenSSL
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

from .target import BUILT_FOR, CHECKED, FOREIGN, build_for_this, processor

_PACKAGE = Path(__file__).parent.parent  # btf: where all compiled functions are
_BUNDLED = _PACKAGE / "machine_code"
CACHE_VARIABLE = "SPLITBTF_CACHE_DIR"
_IMPORT = re.compile(
    rb"^[ \t]*from (\.+)([\w.]*) import ([^#\n(]*)(\([^)]*\))?[ \t]*(?:#.*)?$", re.MULTILINE
)
_DIGEST_BYTES = 16


@functools.cache
def _environment() -> bytes:
    """Everything but sources that machine code depends on."""
    versions = [_version(name) for name in ("numba", "llvmlite")]
    return repr((sys.version, np.__version__, versions, processor(), bool(CHECKED))).encode()


def _version(package: str) -> bytes:
    """Bytes that change with a package's version, without importing it or importlib.metadata."""
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        with contextlib.suppress(OSError):
            return Path(folder, "_version.py").read_bytes()
    from importlib import metadata

    try:
        return metadata.version(package).encode()
    except metadata.PackageNotFoundError:
        return b""  # what is bundled does without


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
    """A source file's content, and the paths of this package's files that it imports."""
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
    """Contents by path: a source file, and all of this package that it imports in any way."""
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
    """The folder for the machine code of a module's compiled functions.

    module   dotted name; "" for what depends on the compiler only
    """
    if BUILT_FOR and not FOREIGN:
        return _built_folder(BUILT_FOR, module)
    root = os.environ.get(CACHE_VARIABLE)
    if not root:
        cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = str(Path(cache_home) / "splitbtf")
    return Path(root) / f"compiled-{_sources_digest(module, _environment())}"


@functools.cache
def bundled_folder(module: str) -> Path | None:
    """The folder of machine code that came with the package, or None where it cannot be used."""
    if CHECKED or not _BUNDLED.is_dir() or (build := build_for_this()) is None:
        return None
    return _built_folder(build, module)


def kept_folder(module: str) -> Path:
    """The folder that machine code is made for: ``cache_folder``, but where it is made for other
    processors than this one."""
    return _built_folder(BUILT_FOR, module) if FOREIGN else cache_folder(module)


def _built_folder(build: str, module: str) -> Path:
    return _BUNDLED / f"{build}-{_sources_digest(module, b'')}"


def _sources_digest(module: str, more: bytes) -> str:
    """Digest of ``more`` and of all sources that a module's compiled functions are made of."""
    digest = blake2b(more, digest_size=10)
    origin = getattr(sys.modules.get(module), "__file__", None) or f"{_PACKAGE}/compiled/jit.py"
    for source, text in sorted({**_sources(origin), **_compiler_sources()}.items()):
        name = source.removeprefix(f"{_PACKAGE}/")
        digest.update(name.encode() + b"\0" + text + b"\0")
    return digest.hexdigest()


@functools.cache
def _compiler_sources() -> dict[str, bytes]:
    folder = f"{_PACKAGE}/compiled/compiler/"
    paths = [path for path in _package_sources() if path.startswith(folder)]
    return {path: _source(path)[0] for path in [f"{_PACKAGE}/compiled/jit.py", *paths]}


def read_code(path: Path, *, bundled: bool = False) -> bytes | None:
    """Read stored machine code; None if there is none, it is damaged, or not to be trusted.

    bundled   whether it came with this package, which is trusted as its sources are. Other machine
              code counts only if the file and its folder belong to this user, or to root, and
              nobody else can write them: whoever can write it has it run.
    """
    try:
        with path.open("rb") as file:
            if not bundled and not (
                _is_private(os.fstat(file.fileno())) and _is_private(os.stat(path.parent))
            ):
                return None
            content = file.read()
    except OSError:
        return None
    digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return rest if _digest(path, rest) == digest else None


def _digest(path: Path, content: bytes) -> bytes:
    """Digest machine code and what it is of: under another name it is damaged."""
    digest = blake2b(f"{path.parent.name}/{path.name}\0".encode(), digest_size=_DIGEST_BYTES)
    digest.update(content)
    return digest.digest()


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


def write_code(path: Path, content: bytes) -> None:
    """Store machine code. Where that is not possible, the next process compiles it again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        import tempfile  # late: it takes long, and little is written

        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(_digest(path, content) + content)
        os.replace(file.name, path)
    except OSError:
        pass
