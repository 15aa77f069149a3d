"""Which names of a kernel are asked about."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from typing import TYPE_CHECKING

import numpy as np

from btf.nearest import nearest_names

from ...files.read import ReadError, read_input
from ...model.errors import SourceError
from ...sources.lookup import KIND_WORDS, Name
from ...sources.names import kernel_name, printable
from .embedded import held_by_value
from .names import NamedTypes, parts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .rows import Rows

# Checksum, symbol, module, kind of export, name space; in Linux 5.4 that is before the module.
_SYMVERS = re.compile(r"0x[0-9a-fA-F]+\t(\S+)\t(?:[^\t]*\t(?=\S+\tEXPORT_))?(\S+)\t")
_HEADING = re.compile(r"\[.*\]")  # of a list of symbols, as distributions publish them


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function, variable or type that is asked about.

    object  of an exported symbol: the module that exports it, or VMLINUX
    """

    name: Name
    object: str | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """What is asked about; all where it is empty.

    kinds    of KIND_WORDS
    names    names with wildcards
    objects  names of modules, or VMLINUX, with wildcards
    symbols  names of functions, variables and types: these, and what they hold by value
    """

    kinds: Collection[str] = ()
    names: Sequence[Name] = ()
    objects: Sequence[str] = ()
    symbols: Sequence[Symbol] | None = None

    @property
    def empty(self) -> bool:
        """Whether all is asked about."""
        return not (self.of_names or self.objects)

    @property
    def of_names(self) -> bool:
        """Whether only some names of an object are asked about."""
        return bool(self.kinds or self.names) or self.symbols is not None

    def has_object(self, name: str) -> bool:
        """Whether an object is asked about."""
        return not self.objects or any(_is_meant(name, pattern) for pattern in self.objects)


def _is_meant(name: str, pattern: str) -> bool:
    """Whether an object is meant, whose name may be given with wildcards."""
    return fnmatchcase(kernel_name(name), kernel_name(pattern))


class Unmet:
    """Of what is asked about, what no kernel has so far."""

    def __init__(self, filters: Filters) -> None:
        self.objects = set(filters.objects)
        self.names = set(filters.names)
        self.symbols = set(filters.symbols or ())

    def nearest(self, sides: Sequence[NamedTypes]) -> list[tuple[str, tuple[str, ...]]]:
        """What is asked for by a name or a module's name that neither has, and the nearest names
        of these kernels; a module's only, where it is missing."""
        if self.objects:
            objects = {name for side in sides for name in (*side.objects, *side.unread) if name}
            return [(text, nearest_names(text, objects)) for text in sorted(self.objects)]
        if not self.names:
            return []
        known = {text for side in sides for text in side.names.to_pylist()}
        return sorted(
            (str(name), nearest_names(name.name, known - {name.name})) for name in self.names
        )


def chosen(filters: Filters, types: NamedTypes, rows: Rows, unmet: Unmet) -> NDArray[np.bool_]:
    """Of each name whether it is asked about.

    unmet  what no kernel has so far: what this one has is taken out
    """
    object_id, kind, code = parts_of(types.keys)
    some = np.ones(len(types.keys), np.bool_)
    if filters.kinds:
        some &= np.isin(kind, [KIND_WORDS.index(word) for word in filters.kinds])
    if filters.objects:
        fit = [filters.has_object(name) for name in types.objects]
        some &= np.array(fit, np.bool_)[object_id]
        there = [name for name in (*types.objects, *types.unread) if name]
        unmet.objects -= {g for g in unmet.objects if any(_is_meant(one, g) for one in there)}
    if filters.names:
        fits = np.zeros(len(some), np.bool_)
        texts = types.names.to_pylist()
        for name in filters.names:
            match = re.compile(translate(name.name)).match
            those = np.array([match(text) is not None for text in texts], np.bool_)[code]
            if name.kind is not None:
                those &= kind == KIND_WORDS.index(name.kind)
            fits |= those
            if (some & those).any():
                unmet.names.discard(name)
        some &= fits
    if filters.symbols is not None:
        some &= _held(filters.symbols, types, rows, unmet.symbols)
    return some


def _held(
    symbols: Sequence[Symbol], types: NamedTypes, rows: Rows, unknown: set[Symbol]
) -> NDArray[np.bool_]:
    """The names of symbols, and of all that they hold by value."""
    object_id, kind, code = parts_of(types.keys)
    number = {text: at for at, text in enumerate(types.names.to_pylist())}
    objects = {kernel_name(name): at for at, name in enumerate(types.objects) if name}
    by_name = np.argsort(code, kind="stable")
    ordered = code[by_name]
    roots = []
    for symbol in symbols:
        at = number.get(symbol.name.name)
        if at is None:
            continue
        low, high = np.searchsorted(ordered, [at, at + 1])
        those = by_name[low:high]
        if symbol.name.kind is not None:
            those = those[kind[those] == KIND_WORDS.index(symbol.name.kind)]
        if symbol.object is not None:
            exported = np.isin(kind[those], [KIND_WORDS.index("func"), KIND_WORDS.index("var")])
            those = those[
                exported & (object_id[those] == objects.get(kernel_name(symbol.object), -1))
            ]
        if len(those):
            unknown.discard(symbol)
            roots += those.tolist()
    held = held_by_value(rows, [type_id for ids in types.ids(roots) for type_id in ids])
    is_held = np.isin(types.global_ids, list(held))
    return np.logical_or.reduceat(is_held, types.first[:-1]) if len(types.keys) else is_held


def read_symbols(path: str) -> list[Symbol]:
    """Names out of a file: one a line, or a ``Module.symvers``. Raises SourceError."""
    try:
        text = read_input(path).decode("utf-8", "surrogateescape")
        if "\0" in text:
            raise SourceError(f"{printable(path)}: this is no text: write a name a line")
    except ReadError as error:
        raise SourceError(f"{printable(path)}: {error.message}") from error
    found = []
    for line in text.splitlines():
        match = _SYMVERS.match(line)
        if match:
            found.append(Symbol(Name(match[1]), match[2].rpartition("/")[2]))
        elif (name := line.partition("#")[0].strip()) and not _HEADING.fullmatch(name):
            found.append(Symbol(Name.of(name)))
    if not found:
        raise SourceError(f"{printable(path)}: no names in it: write one a line")
    return found
