"""Getting all kernels ready before the first module, when they were never compiled before."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import kinds
from .deduplication.abi import abi_names, clashing_struct
from .deduplication.index import BaseIndex
from .deduplication.module import make_ready, open_module
from .header import pack
from .jit import INTERPRETED, cache_folder, came_with
from .table import BTF, NATIVE, parse

_ALL = "tables"  # marks a folder of which all kernels are ready


def warm_up(announce: Callable[[str], None] | None = None, *, tables: bool = False) -> None:
    """Have the machine code of the kernels at hand: compile what was never compiled before.

    announce  called with a sentence for the user when kernels have to be compiled, which takes
              some seconds
    tables    also those that describe what is left of a module, not only those that find it
    """
    if INTERPRETED:
        return
    folder = cache_folder(__name__)
    marker = folder / (_ALL if tables else "dedup")
    if marker.exists() or any((f / _ALL).exists() for f in (folder, came_with(__name__)) if f):
        return
    if announce is not None:
        announce(
            "first run of this version: compiling kernels, 10 to 30 s "
            f"(kept in {folder.parent} for later runs)"
        )
    # One kernel takes as long as all others together: another process compiles it.
    helper = _start(f"from btf.warmup import warm_up_beside; warm_up_beside({tables})")
    index, split = _exercise_dedup()
    if tables:
        _exercise_fingerprints(index, split)
        _exercise_misses()
    if helper is not None:
        helper.wait()
    make_ready(index)
    if tables:
        _exercise_rows(split)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def warm_up_all(announce: Callable[[str], None] | None = None) -> None:
    """What any function of this package needs: for machine code that is to come with it."""
    from .edit.adding import StringPool
    from .layers.rebase import rebase

    warm_up(announce, tables=True)
    split = _exercise_dedup()[1]
    assert split.base is not None
    pool = StringPool(split.base)
    pool.add(b"new")
    pool.add_all(np.zeros(1, np.int64), split.strings)
    pool.add_types(split, split.start_id)
    rebase(split, split.base, np.zeros(split.type_count, np.uint32))


def warm_up_beside(tables: bool) -> None:
    """What another process compiles, so that both take about as long."""
    from .deduplication.deduplicate import prepare

    prepare()
    index, split = _exercise_dedup()
    make_ready(index)
    if tables:
        _exercise_rows(split)


def _start(program: str) -> subprocess.Popen[bytes] | None:
    """Run a few words of Python beside this process; None where no process can be started."""
    here = str(Path(__file__).parent.parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def _exercise_dedup() -> tuple[BaseIndex, BTF]:
    """Index a tiny base and open a tiny module on it; returns the two."""

    def struct_of_int(name_off: int, member_off: int) -> bytes:
        info = kinds.info_word(kinds.STRUCT, 1)
        return struct.pack("=6I", name_off, info, 4, member_off, 1, 0)

    integer = struct.pack("=4I", 1, kinds.info_word(kinds.INT), 4, 32)
    base_strings = b"\0int\0module\0m\0"  # a base with struct module, as any vmlinux
    base = parse(pack(NATIVE, 0, integer + struct_of_int(5, 12), base_strings))
    index = BaseIndex.build(base)
    own_struct = struct_of_int(len(base_strings), 12)
    split = open_module(pack(NATIVE, 0, own_struct, b"s\0"), index).btf
    clashing_struct(index.tables, split.words, split.offsets, split.type_count, *abi_names(index))
    return index, split


def _exercise_fingerprints(index: BaseIndex, split: BTF) -> None:
    from .fingerprint.fingerprints import BaseFingerprints, fingerprints, own_fingerprints

    assert index.base is not None
    known = BaseFingerprints.build(index.base)
    fingerprints(split, known)
    own_fingerprints(split)


def _exercise_rows(split: BTF) -> None:
    from .compare import alike
    from .edit.rewrite import fields
    from .edit.side_by_side import side_by_side
    from .own_columns import columns, kind_totals, type_names
    from .own_members import members

    columns(split)
    fields(split.words, split.offsets[:-1], split.offsets[1:])
    kind_totals(split)
    type_names(split)
    members(split)
    side_by_side([split, split])
    alike.prepare()


def _exercise_misses() -> None:
    """A module that defines what its base only declares."""
    from .deduplication.deduplicate import DedupResult
    from .why.find import misses

    declared = struct.pack("=3I", 1, kinds.info_word(kinds.FWD), 0)
    base = parse(pack(NATIVE, 0, declared, b"\0s\0"))
    index = BaseIndex.build(base)
    defined = struct.pack("=3I", 1, kinds.info_word(kinds.STRUCT), 4)
    split = parse(pack(NATIVE, 0, defined, b""), index.base)
    misses(split, DedupResult(split, np.arange(3, dtype=np.uint32)), index)
