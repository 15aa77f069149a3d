"""Deduplicate an opened module against its base, as the form of its BTF asks for."""

from __future__ import annotations

import numpy as np

from ..errors import WrongBaseError
from ..files.open import DISTILLED, SPLIT, Module, open_module
from ..format.header import pack
from .abi import abi_names, clashing_struct
from .deduplicate import DedupResult, dedup, dedup_split
from .fast_path import dedup_bytes
from .index import BaseIndex


def dedup_module(module: Module, index: BaseIndex) -> DedupResult:
    """Deduplicate an opened module against its base, as its form asks for.

    Raises WrongBaseError when a standalone module turns out to be of another kernel.
    """
    if module.form in (SPLIT, DISTILLED):
        return dedup(module.btf, index)
    result = dedup_split(module.btf, index)
    split = result.btf
    at = int(
        clashing_struct(
            index.tables, split.words, split.offsets, split.type_count, *abi_names(index)
        )
    )
    if at >= 0:
        struct = split.words[int(split.offsets[at]) :]
        raise WrongBaseError(
            f"its struct {split.string(int(struct[0]))} ({struct[2]} bytes) is laid out "
            "unlike the base's: the module was built for another kernel or configuration",
            module.btf.path,
            "types",
            None,
            int(np.flatnonzero(result.id_map == index.type_end + at)[0]),
        )
    return result


def make_ready(index: BaseIndex) -> None:
    """Do now what this thread's first module on ``index`` would have to wait for."""
    nothing = pack(index.byteorder, 0, b"", b"\0")
    dedup_module(open_module(nothing, index), index)
    dedup_bytes(nothing, index)
