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
from .columns import columns, type_names
from .deduplication.deduplicate import DedupResult
from .deduplication.index import BaseIndex
from .deduplication.module import clashing_struct, dedup_module, open_module
from .distilled.distill import distill_base
from .distilled.relocate import relocate
from .edit.builder import Builder
from .fingerprint.fingerprints import BaseFingerprints, fingerprints, own_fingerprints
from .header import pack
from .jit import INTERPRETED, cache_folder
from .members import members
from .misses.find import misses
from .table import BTF, NATIVE, parse

_DONE = "complete"


def warm_up(announce: Callable[[str], None] | None = None) -> None:
    """Have the machine code of every kernel at hand: compile what was never compiled before.

    announce  called with a sentence for the user when kernels have to be compiled, which takes
              some seconds
    """
    if INTERPRETED:
        return
    folder = cache_folder(__name__)
    marker = folder / _DONE
    if marker.exists():
        return
    if announce is not None:
        announce(
            "first run of this version: compiling kernels, 10 to 30 s "
            f"(kept in {folder.parent} for later runs)"
        )
    # One kernel takes longer than all others together: another process compiles it.
    helper = _start("from btf.deduplication.deduplicate import prepare; prepare()")
    base, split = _exercise_others()
    if helper is not None:
        helper.wait()
    index = BaseIndex.build(base)
    dedup_module(open_module(split.to_bytes(), index), index)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


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


def _exercise_others() -> tuple[BTF, BTF]:
    """Take a tiny base and a tiny module through all other kernels; returns the two."""

    def struct_of_int(name_off: int, member_off: int) -> bytes:
        info = kinds.info_word(kinds.STRUCT, 1)
        return struct.pack("=6I", name_off, info, 4, member_off, 1, 0)

    integer = struct.pack("=4I", 1, kinds.info_word(kinds.INT), 4, 32)
    base_strings = b"\0int\0module\0m\0"  # a base with struct module, as any vmlinux
    base = parse(pack(NATIVE, 0, integer + struct_of_int(5, 12), base_strings))
    index = BaseIndex.build(base)
    own_struct = struct_of_int(len(base_strings), 12)
    split = open_module(pack(NATIVE, 0, own_struct, b"s\0"), index).btf
    relocate(distill_base(split).split, index)
    Builder().add_btf(base)
    columns(split)
    type_names(split)
    members(split)
    fingerprints(split, BaseFingerprints.build(base))
    own_fingerprints(split)
    clashing_struct(index, split)
    _exercise_misses()
    return base, split


def _exercise_misses() -> None:
    """A module that defines what its base only declares."""
    declared = struct.pack("=3I", 1, kinds.info_word(kinds.FWD), 0)
    base = parse(pack(NATIVE, 0, declared, b"\0s\0"))
    index = BaseIndex.build(base)
    defined = struct.pack("=3I", 1, kinds.info_word(kinds.STRUCT), 4)
    split = parse(pack(NATIVE, 0, defined, b""), index.base)
    misses(split, DedupResult(split, np.arange(3, dtype=np.uint32)), index)
