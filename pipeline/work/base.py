"""From a base's file to its BTF and its index: once per kernel, shared by all its modules."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import btf

from ..files.read import open_content
from ..model.base import Announce, IndexedBase, SharedBase
from ..model.errors import BaseError, InputError
from ..model.records import FileInput
from ..model.steps import STEPS
from ..sources.names import printable, release_of_base
from ..sources.packages import opens_as_package
from ..sources.unpack import unpacked
from .open import build_id_of, open_path

T = TypeVar("T")


def load_base(path: str, announce: Announce | None = None) -> IndexedBase:
    """Read and index a base: raw BTF, a vmlinux, a kernel image, or a package with one of these.

    Raises BaseError.
    """
    bases = _bases(path)
    btf.warm_up(announce)
    with unpacked(bases) as readable:
        return load_first(readable, lambda base: base, load_file, 0, announce)


def load_base_types(path: str) -> tuple[btf.BTF, str | None]:
    """Read a base as ``load_base`` does, without an index: (types, its kernel's release if known).

    Raises BaseError.
    """
    with unpacked(_bases(path)) as readable:
        load = partial(_load_file, make=_types_and_release)
        return load_first(readable, lambda base: base, load, 0)


def _bases(path: str) -> list[FileInput]:
    if not opens_as_package(path):
        return [FileInput(path, path)]
    from ..sources.discover import file_input
    from ..sources.listing import find_base

    bases = [file_input(found) for found in find_base(path)]
    if not bases:
        raise BaseError(f"{printable(path)} holds no vmlinux")
    return bases


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a file is no base.

    only_dwarf   it would be one if BTF were made of its DWARF
    build_id     of a file that has neither, by which a server may have one that does
    """

    reason: str
    only_dwarf: bool = False
    build_id: str | None = None


def load_file(base: FileInput, encode_seconds: float) -> IndexedBase | Unusable:
    """Read and index one base; with ``encode_seconds``, the BTF that pahole makes of its DWARF."""
    return _load_file(base, encode_seconds, _index)


def _load_file(base: FileInput, encode_seconds: float, make: Callable[..., T]) -> T | Unusable:
    """Read one base, and ``make`` what is wanted of its BTF and of facts about it."""
    shown = printable(base.path)
    named = release_of_base(os.path.basename(base.path))
    try:
        if encode_seconds:
            from .encode import encode

            path = base.content_path
            made = encode(None, path=path, release=named, seconds=encode_seconds)
            types = btf.parse(made.content, path=shown)
            return make(types, release=named, file=base, encoder=made.encoder)
        found = open_path(base.content_path, shown=shown)
        if found.form != btf.STANDALONE:
            raise btf.WrongBaseError("split BTF on a distilled base, not a kernel's base", shown)
        return make(found.btf, release=found.release or named, file=base)
    except InputError as error:
        return Unusable(f"{shown}: {error}")
    except btf.DwarfOnlyError:
        return Unusable(f"{shown}: no .BTF section, only DWARF", only_dwarf=True)
    except btf.NoBtfError as error:
        return Unusable(
            f"cannot use the base: {error}", build_id=build_id_of(open_content(base.content_path))
        )
    except btf.BtfError as error:
        return Unusable(f"cannot use the base: {error}")


def load_shared(
    _: None, arguments: tuple[FileInput, float]
) -> tuple[IndexedBase, SharedBase] | Unusable:
    """Load a base, see ``load_file``, and work out what all workers share of it: for a call."""
    base = load_file(*arguments)
    return base if isinstance(base, Unusable) else (base, SharedBase.of(base.types, base.index))


def load_first(
    bases: Sequence[FileInput],
    unpack: Callable[[FileInput], FileInput],
    load: Callable[[FileInput, float], T | Unusable],
    encode_seconds: float,
    announce: Announce | None = None,
    fetch: Callable[[str], str] | None = None,
) -> T:
    """Read and index the first of a kernel's bases that has BTF.

    unpack          makes a file that can be read of one that is in a package
    load            does the work, as ``load_file`` does
    encode_seconds  how long pahole may take to make BTF of a vmlinux that has only DWARF, where
                    no other base is better; 0: none is made
    fetch           gets the path of a file with debug information, by build id, of a vmlinux that
                    has none; raises NotFoundError

    Raises BaseError, which says of each base what is wrong with it.
    """
    reasons: list[str] = []
    only_dwarf: list[FileInput] = []
    stripped: list[tuple[FileInput, str]] = []
    for packed in bases:
        base = unpack(packed)
        if base.problem is not None:
            found: T | Unusable = Unusable(f"{printable(base.path)}: {base.problem}")
        else:
            STEPS.debug("reading %s", base.path)
            found = load(base, 0)
        if not isinstance(found, Unusable):
            return found
        reasons.append(found.reason)
        if found.only_dwarf:
            only_dwarf.append(base)
        if found.build_id is not None:
            stripped.append((base, found.build_id))
    for base, build_id in stripped if fetch is not None and not only_dwarf else ():
        assert fetch is not None
        from ..sources.debuginfod import NotFoundError

        if announce is not None:
            announce(f"{printable(base.path)} has no BTF: asking debuginfod servers")
        try:
            fetched = replace(base, unpacked=fetch(build_id))
        except NotFoundError as error:
            reasons.append(f"debuginfod: {error}")
            continue
        found = load(fetched, 0)
        if not isinstance(found, Unusable):
            return found
        reasons.append(f"debuginfod: {found.reason}")
        if found.only_dwarf:
            only_dwarf.append(fetched)
    for base in only_dwarf if encode_seconds else ():
        if announce is not None:
            announce(f"{printable(base.path)} has no BTF: making it of its DWARF")
        found = load(base, encode_seconds)
        if not isinstance(found, Unusable):
            return found
        reasons.append(found.reason)
    raise BaseError("; ".join(reasons) or "no vmlinux of this kernel among the sources")


def _types_and_release(types: btf.BTF, release: str | None, **_: Any) -> tuple[btf.BTF, str | None]:
    return types, release


def _index(types: btf.BTF, **facts: Any) -> IndexedBase:
    """Index a base. ``facts``: other fields of IndexedBase. Raises BtfError."""
    import hashlib  # late: it loads OpenSSL

    STEPS.debug("indexing it")
    btf.check_name_bytes(types)
    began = time.perf_counter()
    index = btf.BaseIndex.build(types)
    seconds = time.perf_counter() - began
    content = types.to_bytes()
    digest = hashlib.sha256(content).hexdigest()
    is_sorted = btf.is_sorted_by_name(types)
    return IndexedBase(types, index, content, digest, seconds, is_sorted, **facts)
