"""From a base's file to its BTF and its index: once per kernel, shared by all its modules."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import btf
from btf import elf, images

from ..files.read import ReadError, map_or_read
from ..model.base import Announce, IndexedBase
from ..model.errors import BaseError
from ..model.records import FileInput
from ..sources.formats import is_package
from ..sources.listing import find_base
from ..sources.names import printable, release_of_base
from ..sources.unpack import unpacked
from .encode import EncodeError, encode


class _OnlyDwarf(BaseError):
    """A vmlinux without BTF, but with DWARF to make it from."""


def load_base(path: str, announce: Announce | None = None) -> IndexedBase:
    """Read and index a base: raw BTF, a vmlinux, a kernel image, or a package with one of these.

    Raises BaseError.
    """
    if not is_package(os.path.basename(path)):
        types, release = _read(path, printable(path))
        return _index(types, release or release_of_base(os.path.basename(path)), announce)
    bases = [FileInput(f.path, f.source, f.problem, f.package) for f in find_base(path)]
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
        if base.problem is not None:
            reasons.append(f"{printable(base.path)}: {base.problem}")
            continue
        try:
            types, release = _read(base.content_path, printable(base.path))
        except _OnlyDwarf as error:
            only_dwarf.append(base)
            reasons.append(str(error))
        except BaseError as error:
            reasons.append(str(error))
        else:
            release = release or release_of_base(os.path.basename(base.path))
            return replace(_index(types, release, announce), file=base)
    for base in only_dwarf if encode_seconds else ():
        release = release_of_base(os.path.basename(base.path))
        if announce is not None:
            announce(f"{printable(base.path)} has no BTF: making it of its DWARF")
        try:
            made = encode(None, path=base.content_path, release=release, seconds=encode_seconds)
            types = btf.parse(made.content, path=printable(base.path))
        except (EncodeError, btf.BtfError) as error:
            reasons.append(f"{printable(base.path)}: {error}")
            continue
        return replace(_index(types, release, announce), file=base, encoder=made.encoder)
    raise BaseError("; ".join(reasons) or "no vmlinux of this kernel among the sources")


def _read(path: str, shown: str) -> tuple[btf.BTF, str | None]:
    """The BTF of a base, and its release if the file says so."""
    try:
        data, release = map_or_read(path), None
        if images.is_image(data):
            data, release = images.btf_from_image(data, path=shown)
        if elf.is_elf(data):
            file = elf.read_elf(data, shown)
            if file.btf is None and file.has_dwarf:
                raise _OnlyDwarf(f"{shown}: no .BTF section, only DWARF")
            data, release = elf.btf_section(file, shown), file.release
        return btf.load_base(bytes(data), path=shown), release
    except ReadError as error:
        raise BaseError(f"{shown}: {error.message}") from error
    except btf.BtfError as error:
        raise BaseError(f"cannot use the base: {error}") from error


def _index(types: btf.BTF, release: str | None, announce: Announce | None) -> IndexedBase:
    btf.warm_up(announce)
    began = time.perf_counter()
    index = btf.BaseIndex.build(types)
    seconds = time.perf_counter() - began
    content = types.to_bytes()
    return IndexedBase(types, index, content, hashlib.sha256(content).hexdigest(), seconds, release)
