"""From a base's file to its BTF and its index: once per kernel, shared by all its modules."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import btf

from ..files.read import ReadError
from ..model.base import Announce, IndexedBase
from ..model.errors import BaseError
from ..model.records import FileInput
from ..model.steps import STEPS
from ..sources.discover import file_input
from ..sources.formats import is_package
from ..sources.listing import find_base
from ..sources.names import printable, release_of_base
from ..sources.unpack import unpacked
from .encode import EncodeError, encode
from .open import open_path


def load_base(path: str, announce: Announce | None = None) -> IndexedBase:
    """Read and index a base: raw BTF, a vmlinux, a kernel image, or a package with one of these.

    Raises BaseError.
    """
    bases = [FileInput(path, path)]
    if is_package(os.path.basename(path)):
        bases = [file_input(found) for found in find_base(path)]
        if not bases:
            raise BaseError(f"{printable(path)} holds no vmlinux")
    with unpacked(bases) as readable:
        return load_first(readable, lambda base: base, 0, announce)


def load_first(
    bases: Sequence[FileInput],
    unpack: Callable[[FileInput], FileInput],
    encode_seconds: float,
    announce: Announce | None = None,
) -> IndexedBase:
    """Read and index the first of a kernel's bases that has BTF.

    unpack          makes a file that can be read of one that is in a package
    encode_seconds  how long pahole may take to make BTF of a vmlinux that has only DWARF, where
                    no other base is better; 0: none is made

    Raises BaseError, which says of each base what is wrong with it.
    """
    reasons: list[str] = []
    only_dwarf: list[FileInput] = []
    for packed in bases:
        base = unpack(packed)
        shown = printable(base.path)
        if base.problem is not None:
            reasons.append(f"{shown}: {base.problem}")
            continue
        STEPS.debug("reading %s", shown)
        try:
            found = open_path(base.content_path, shown=shown)
            if found.form != btf.STANDALONE:
                raise btf.WrongBaseError(
                    "split BTF on a distilled base, not a kernel's base", shown
                )
            release = found.release or release_of_base(os.path.basename(base.path))
            return _index(found.btf, announce, release=release, file=base)
        except ReadError as error:
            reasons.append(f"{shown}: {error.message}")
        except btf.DwarfOnlyError:
            only_dwarf.append(base)
            reasons.append(f"{shown}: no .BTF section, only DWARF")
        except btf.BtfError as error:
            reasons.append(f"cannot use the base: {error}")
    for base in only_dwarf if encode_seconds else ():
        shown = printable(base.path)
        release = release_of_base(os.path.basename(base.path))
        if announce is not None:
            announce(f"{shown} has no BTF: making it of its DWARF")
        try:
            made = encode(None, path=base.content_path, release=release, seconds=encode_seconds)
            types = btf.parse(made.content, path=shown)
            return _index(types, announce, release=release, file=base, encoder=made.encoder)
        except (EncodeError, btf.BtfError) as error:
            reasons.append(f"{shown}: {error}")
    raise BaseError("; ".join(reasons) or "no vmlinux of this kernel among the sources")


def _index(types: btf.BTF, announce: Announce | None, **facts: Any) -> IndexedBase:
    """Index a base. ``facts``: other fields of IndexedBase. Raises BtfError."""
    btf.warm_up(announce)
    STEPS.debug("indexing it")
    btf.check_name_bytes(types)
    began = time.perf_counter()
    index = btf.BaseIndex.build(types)
    seconds = time.perf_counter() - began
    content = types.to_bytes()
    digest = hashlib.sha256(content).hexdigest()
    is_sorted = btf.is_sorted_by_name(types)
    return IndexedBase(types, index, content, digest, seconds, is_sorted, **facts)
