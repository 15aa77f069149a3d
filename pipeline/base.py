"""From a base's path to its BTF and its index: once per kernel, shared by all its modules."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import btf
from btf import elf

from .names import printable
from .read import ReadError, read_input


class BaseError(Exception):
    """A base that cannot be used: nothing can be done for its modules."""


@dataclass(frozen=True, slots=True)
class IndexedBase:
    """A base, its index, and what making the index took. ``release`` is known of a vmlinux."""

    types: btf.BTF
    index: btf.BaseIndex
    content: bytes
    sha256: str
    index_seconds: float
    release: str | None = None


Announce = Callable[[str], None]


def load_base(path: str, announce: Announce | None = None) -> IndexedBase:
    """Read and index a base. ``announce`` hears of a compilation. Raises BaseError."""
    shown = printable(path)
    try:
        data, release = read_input(path), None
        if elf.is_elf(data):
            file = elf.read_elf(data, shown)
            data, release = elf.btf_section(file, shown), file.release
        base = btf.load_base(data, path=shown)
    except ReadError as error:
        raise BaseError(f"{shown}: {error.message}") from error
    except btf.BtfError as error:
        raise BaseError(f"cannot use the base: {error}") from error
    btf.warm_up(announce)
    began = time.perf_counter()
    index = btf.BaseIndex.build(base)
    seconds = time.perf_counter() - began
    content = base.to_bytes()
    return IndexedBase(base, index, content, hashlib.sha256(content).hexdigest(), seconds, release)
