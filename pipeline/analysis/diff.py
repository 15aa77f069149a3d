"""What changed between two files with BTF: of vmlinux or of a module."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import btf
from btf.changes.details import Detail, by_value, details
from btf.changes.diff import Change, KindCounts, diff_objects
from btf.changes.named import KINDS, SideOfDiff

from ..files.read import ReadError, read_input
from ..model.base import Announce
from ..model.errors import SourceError
from ..model.steps import STEPS
from ..sources import names
from ..sources.discover import find_one
from ..sources.lookup import Name
from ..sources.names import printable
from ..sources.unpack import unpacked
from ..work.base import load_base
from ..work.open import open_types

BOTH = "both"
VMLINUX = "vmlinux"

_SYMVERS = re.compile(r"0x[0-9a-fA-F]+\s+(\S+)\s+\S+")  # checksum, symbol, module, …


@dataclass(frozen=True, slots=True)
class Filters:
    """What is asked about; all where it is empty.

    kinds    of ``sources.lookup.KIND_WORDS``
    names    names with wildcards
    symbols  names of functions, variables and types: these, and what they reach by value
    """

    kinds: Collection[str] = ()
    names: Sequence[Name] = ()
    symbols: Sequence[Name] | None = None


@dataclass(frozen=True, slots=True)
class NamedChange:
    """What became of a name of an object, and what changed in it."""

    object: str
    change: Change
    details: Sequence[Detail]


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """An object that was compared; ``status``: ``both``, ``added`` or ``removed``."""

    object: str
    status: str
    kinds: dict[str, KindCounts]


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between ``old`` and ``new``; of the symbols asked for, those in neither."""

    old: str
    new: str
    objects: Sequence[ObjectCounts]
    changes: Sequence[NamedChange]
    unknown_symbols: Sequence[str] = ()


def diff_files(
    old: str,
    new: str,
    bases: Sequence[str] = (),
    filters: Filters | None = None,
    announce: Announce | None = None,
) -> Diff:
    """Compare the types that two files hold themselves.

    old, new  a file, or a package with one kernel's BTF
    bases     of split BTF: of both, or of the old one and of the new one

    Raises SourceError or BaseError.
    """
    filters = filters or Filters()
    btf.warm_up(announce, tables=True)
    (before, _), (after, name) = (
        open_side(path, bases[min(at, len(bases) - 1)] if bases else None)
        for at, path in enumerate((old, new))
    )
    unknown: list[str] = []
    wanted = _wanted(filters, before, after, unknown)
    found = diff_objects(before, after, wanted)
    changes = [NamedChange(name, one, details(one, before, after)) for one in found.changes]
    return Diff(old, new, [ObjectCounts(name, BOTH, found.kinds)], changes, unknown)


def open_side(path: str, base_path: str | None) -> tuple[SideOfDiff, str]:
    """Read a file and fingerprint its types; returns also the object's name: the module's, or
    VMLINUX. Raises SourceError or BaseError."""
    types, name = open_object(path, base_path)
    try:
        below = btf.declarations(types.base.flat) if types.base is not None else None
        known, deep = btf.declarations(types, below), btf.fingerprints(types)
    except btf.BtfError as error:
        raise SourceError(str(error)) from error
    return SideOfDiff(types, known, below, deep), name


def open_object(path: str, base_path: str | None) -> tuple[btf.BTF, str]:
    """Read a file; returns also the object's name. Raises SourceError or BaseError."""
    STEPS.debug("reading %s", path)
    base = load_base(base_path) if base_path is not None else None
    with unpacked([find_one(path)]) as (file,):
        types = open_types(file, base)
    if base is not None and types.base is None:
        shown = printable(file.path)
        raise SourceError(f"{shown}: standalone BTF, not split: leave its base (-B) out")
    file_name = os.path.basename(file.path)
    is_base = names.looks_like_base(file_name)
    return types, VMLINUX if is_base else names.stem(file_name)


def read_symbols(path: str) -> list[Name]:
    """Names out of a file: one a line, or a ``Module.symvers``. Raises SourceError."""
    try:
        text = read_input(path).decode("utf-8", "surrogateescape")
    except ReadError as error:
        raise SourceError(f"{printable(path)}: {error.message}") from error
    found = []
    for line in text.splitlines():
        match = _SYMVERS.match(line)
        line = match[1] if match else line.partition("#")[0].strip()
        if line:
            found.append(Name.of(line))
    if not found:
        raise SourceError(f"{printable(path)}: no names in it: write one a line")
    return found


def _wanted(
    filters: Filters, before: SideOfDiff, after: SideOfDiff, unknown: list[str]
) -> Callable[[str, str], bool] | None:
    """Whether a kind and name are asked about; fills ``unknown``."""
    if not filters.kinds and not filters.names and filters.symbols is None:
        return None
    reached: set[tuple[str, str]] | None = None
    if filters.symbols is not None:
        reached = set()
        for symbol in filters.symbols:
            roots = [found for side in (before, after) for found in _named(side, symbol)]
            if not roots:
                unknown.append(symbol.name)
            _add_reached(roots, reached)

    def wanted(kind: str, name: str) -> bool:
        return (
            (not filters.kinds or kind in filters.kinds)
            and (not filters.names or any(one.fits(kind, name) for one in filters.names))
            and (reached is None or (kind, name) in reached)
        )

    return wanted


def _named(side: SideOfDiff, symbol: Name) -> list[btf.Type]:
    return [
        found
        for found in side.btf.find_all(symbol.name)
        if found.kind in KINDS and symbol.kind in (None, KINDS[found.kind])
    ]


def _add_reached(roots: Sequence[btf.Type], reached: set[tuple[str, str]]) -> None:
    """Add the kinds and names of types and of all that they hold by value."""
    todo, seen = list(roots), set[btf.Type]()
    while todo:
        found = todo.pop()
        if found in seen:
            continue
        seen.add(found)
        if found.kind in KINDS and found.name:
            reached.add((KINDS[found.kind], found.name))
        todo += by_value(found)
