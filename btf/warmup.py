"""Getting all kernels ready before the first module: loaded from the cache, or compiled once."""

from __future__ import annotations

import struct
from collections.abc import Callable

from . import kinds
from .columns import columns, type_names
from .deduplication.deduplicate import dedup
from .deduplication.index import BaseIndex
from .deduplication.module import dedup_module, open_module
from .distilled.distill import distill_base
from .distilled.relocate import relocate
from .fingerprint.fingerprints import BaseFingerprints, fingerprints, own_fingerprints
from .header import pack
from .jit import INTERPRETED, cache_folder
from .table import NATIVE, parse

_DONE = "complete"


def warm_up(announce: Callable[[str], None] | None = None) -> None:
    """Have every kernel ready to run in this process.

    announce  called with a sentence for the user when kernels have to be compiled, which takes
              some seconds; not called when they come from the cache
    """
    if INTERPRETED:
        return
    folder = cache_folder(__name__)
    marker = folder / _DONE
    if announce is not None and not marker.exists():
        announce(
            "first run of this version: compiling kernels, 10 to 30 s "
            f"(kept in {folder.parent} for later runs)"
        )
    _exercise()
    if not marker.exists():
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()


def _exercise() -> None:
    """Take a tiny base and two tiny modules through all that is compiled."""

    def struct_of_int(name_off: int, member_off: int) -> bytes:
        info = kinds.info_word(kinds.STRUCT, 1)
        return struct.pack("=6I", name_off, info, 4, member_off, 1, 0)

    integer = struct.pack("=4I", 1, kinds.info_word(kinds.INT), 4, 32)
    base_strings = b"\0int\0module\0m\0"  # a base with struct module, as any vmlinux
    base = parse(pack(NATIVE, 0, integer + struct_of_int(5, 12), base_strings))
    index = BaseIndex.build(base)
    standalone = pack(NATIVE, 0, integer + struct_of_int(5, 7), b"\0int\0s\0m\0")
    result = dedup_module(open_module(standalone, index), index).btf
    dedup_module(open_module(result.to_bytes(), index), index)
    relocate(distill_base(result).split, index)
    dedup(parse(standalone))
    columns(result)
    type_names(result)
    fingerprints(result, BaseFingerprints.build(base))
    own_fingerprints(result)
