"""Compile all compiled functions before the first module, where they were never compiled before.

Two other processes compile, so that this one never imports the compiler: it has 150 MB, which this
process's own workers would inherit. The work is divided into parts, and each process takes the next
one. Deduplication is one part, which takes nearly as long as all others together.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from .compiled.code_cache import CACHE_VARIABLE, bundled_folder, cache_folder, kept_folder
from .compiled.target import FOREIGN, INTERPRETED
from .deduplication.core import prepare
from .deduplication.index import BaseIndex
from .deduplication.module import make_ready
from .edit.permute import is_sorted_by_name, sort_by_name
from .files.open import open_module
from .format import kinds
from .format.header import pack
from .types.btf import BTF, NATIVE, parse
from .types.columns import check_name_bytes

_DEDUP = "dedup"
_MERGE = "merge"
_ALL = "tables"  # names of files that mark a folder in which this code is complete
_COMPILERS = 2
_PATIENCE_SECONDS = 120.0


def warm_up(
    announce: Callable[[str], None] | None = None, *, tables: bool = False, merge: bool = False
) -> None:
    """Compile what was never compiled before, so that the first module does not wait for it.

    announce  called with a sentence for the user before something is compiled
    tables    whether to include what describes a module's types, not only what deduplicates it
    merge     whether to include what merges several BTF
    """
    complete = _ALL if tables else _MERGE if merge else _DEDUP
    if INTERPRETED or _is_warm(complete):
        return
    kept = _make_cache()
    if announce is not None:
        announce(f"compiling splitbtf's own machine code once, about 15 s ({kept})")
    with _one_at_a_time(cache_folder(__name__)):
        if _is_warm(complete):  # another process has just done it
            return
        parts = [name for name in _PARTS if tables or name in _PARTS_OF[complete]]
        _compile_elsewhere(parts)
        for name in parts:
            _PARTS[name]()  # what no other process could compile is compiled now
        with contextlib.suppress(OSError):
            mark = kept_folder(__name__) / complete
            mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            mark.touch()


def warm_up_all(announce: Callable[[str], None] | None = None) -> None:
    """Compile everything that any function of this package needs, to be shipped with it."""
    from .dump.c import dump_c
    from .edit.append import StringPool
    from .kernel_rules.check import check_kernel_rules
    from .layers.rebase import rebase

    warm_up(announce, tables=True)
    split = _module()[1]
    assert split.base is not None
    pool = StringPool(split.base)
    pool.add(b"new")
    pool.add_all(np.zeros(1, np.int64), split.strings)
    pool.add_types(split, split.start_id)
    rebase(split, split.base, np.zeros(split.type_count, np.uint32))
    check_kernel_rules(split)
    check_kernel_rules(split.base)
    deque(dump_c(split), 0)


def _is_warm(complete: str) -> bool:
    folder = kept_folder(__name__)
    if (folder / complete).exists() or (folder / _ALL).exists():
        return True
    bundled = bundled_folder(__name__) if not FOREIGN else None
    return bundled is not None and (bundled / _ALL).exists()


def _make_cache() -> str:
    """Make the folder for machine code; if it cannot be written to, a temporary one for this
    process and those that it starts. Returns words for the user on which it is."""
    folder = cache_folder(__name__)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            return f"kept in {folder.parent} for later runs"
    except OSError as error:
        reason = error.strerror
    with contextlib.suppress(OSError):
        os.environ[CACHE_VARIABLE] = tempfile.mkdtemp(".tmp", "splitbtf-")
        # Held until this process ends: a folder of such a name that nobody holds is removed.
        fcntl.flock(os.open(os.environ[CACHE_VARIABLE], os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)
        cache_folder.cache_clear()
        cache_folder(__name__).mkdir()
        atexit.register(_remove, os.environ[CACHE_VARIABLE], os.getpid())
    return (
        f"not kept for later runs: {folder.parent} cannot be written to, {reason}; "
        f"{CACHE_VARIABLE} names another folder"
    )


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, so that of several processes that start at once only one compiles.

    Waits no longer than two minutes, since the holder may have been stopped, and not at all where
    files cannot be locked.
    """
    lock = folder / "lock"
    try:
        file = lock.open("w")
    except OSError:
        yield
        return
    with file:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _compile_elsewhere(parts: Iterable[str]) -> None:
    """Run ``parts`` in other processes, each of which takes the next one that none has taken.

    A process that cannot be started, or fails, leaves its part undone.
    """
    waiting = deque(parts)
    compilers: list[subprocess.Popen[str]] = []

    def feed_compiler() -> None:
        compiler = _start("from btf.warmup import compile_parts; compile_parts()")
        if compiler is None:
            return
        compilers.append(compiler)
        with compiler:
            assert compiler.stdin is not None and compiler.stdout is not None
            try:
                while waiting:
                    compiler.stdin.write(waiting.popleft() + "\n")
                    compiler.stdin.flush()
                    if not compiler.stdout.readline():
                        return
            except (OSError, IndexError):  # the process died; another thread took the last part
                return

    with ThreadPoolExecutor(_COMPILERS) as threads:
        running = [threads.submit(feed_compiler) for _ in range(_COMPILERS)]
        try:
            wait(running)
        except BaseException:  # an interrupt: the compilers' work is not wanted any more
            waiting.clear()
            for compiler in compilers:
                compiler.kill()
            raise


def compile_parts() -> None:
    """Compile the parts that standard input names, a line each, and answer each with a line."""
    for line in sys.stdin:
        _PARTS[line.strip()]()
        print("done", flush=True)


def _start(program: str) -> subprocess.Popen[str] | None:
    """Start a Python process that runs ``program``; None where no process can be started."""
    here = str(Path(__file__).parent.parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", program],  # -P: take nothing from the current folder
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError:
        return None


def _compile_dedup() -> None:
    prepare()
    make_ready(_module()[0])


def _module() -> tuple[BaseIndex, BTF]:
    """Index a tiny base and open a tiny module on it."""

    def struct_of_int(name_off: int, member_off: int) -> bytes:
        info = kinds.info_word(kinds.STRUCT, 1)
        return struct.pack("=6I", name_off, info, 4, member_off, 1, 0)

    integer = struct.pack("=4I", 1, kinds.info_word(kinds.INT), 4, 32)
    base_strings = b"\0int\0module\0m\0"  # a base with struct module, as any vmlinux
    base = parse(pack(NATIVE, 0, integer + struct_of_int(5, 12), base_strings))
    index = BaseIndex.build(base)
    own_struct = struct_of_int(len(base_strings), 12)
    split = open_module(pack(NATIVE, 0, own_struct, b"s\0"), index).btf
    check_name_bytes(split)
    is_sorted_by_name(sort_by_name(split).btf)
    return index, split


def _compile_fingerprints() -> None:
    from .fingerprint.fingerprints import BaseFingerprints, fingerprints, own_fingerprints

    index, split = _module()
    assert index.base is not None
    known = BaseFingerprints.build(index.base)
    fingerprints(split, known)
    own_fingerprints(split)


def _compile_declarations() -> None:
    from .declaration.fingerprints import declarations

    declarations(_module()[1], spell=True).spellings()


def _compile_rows() -> None:
    from .compare import alike
    from .edit.concat import concat_split
    from .types.columns import both_kind_totals, columns, kind_totals
    from .types.members import members

    split = _module()[1]
    columns(split)
    kind_totals(split)
    both_kind_totals(split, split)
    members(split)
    concat_split([split, split])
    alike.prepare()


def _compile_merge() -> None:
    from . import merging

    split = _module()[1]
    merging.merge([split], split.base, standalone=True)
    merging.prepare()


def _compile_misses() -> None:
    """Explain a module that defines what its base only declares, and has another integer."""
    from .deduplication.deduplicate import DedupResult
    from .unmerged.arrays import BaseArrays, nested_arrays
    from .unmerged.find import unmerged_types

    declared = struct.pack("=3I", 1, kinds.info_word(kinds.FWD), 0)
    integers = [struct.pack("=4I", 3, kinds.info_word(kinds.INT), n, 8 * n) for n in (4, 8)]
    base = parse(pack(NATIVE, 0, declared + integers[0], b"\0s\0i\0"))
    index = BaseIndex.build(base)
    defined = struct.pack("=3I", 1, kinds.info_word(kinds.STRUCT), 4)
    split = parse(pack(NATIVE, 0, defined + integers[1], b""), index.base)
    ids = np.arange(5, dtype=np.uint32)
    unmerged_types(split, DedupResult(split, ids), index)
    nested_arrays(split)
    BaseArrays(True, split.words[:0]).kept_types(split, DedupResult(split, ids), index)


# By name: the longest first, and each after what it builds on.
_PARTS: dict[str, Callable[[], object]] = {
    "dedup": _compile_dedup,
    "index": _module,
    "fingerprints": _compile_fingerprints,
    "declarations": _compile_declarations,
    "misses": _compile_misses,
    "merge": _compile_merge,
    "rows": _compile_rows,
}
_PARTS_OF = {_DEDUP: ("dedup", "index"), _MERGE: ("dedup", "index", "merge")}
