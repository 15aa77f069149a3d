"""What a build left in split BTF, worked out anew: nothing from btf/, and no dedup either.

Types are equal when nothing tells them apart, however far one looks: all types of vmlinux and of
all modules are coloured by what they say of themselves, and then, round after round, by the
colours of what they refer to, until a round tells no more of them apart. What an own type of a
module shares its colour with decides what it is: left by the build if that is a type of vmlinux, or
an earlier one of the same module.

A forward declaration counts as the struct or union of its name where there is one alone; where
vmlinux has several, as the one that stands in its place in a struct of vmlinux that is the same
otherwise. Where vmlinux itself only declares what a module defines, it depends on the order of
types whether dedup finds a type of vmlinux that leads there: such types are counted by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from support.oracles.naive_btf import (
    ANY_ENUM,
    COMPOSITE,
    DATASEC,
    FWD,
    KIND_NAMES,
    TYPEDEF,
    VAR,
    Btf,
    Words,
    elements,
    id_words,
    kind_flag_of,
    kind_of,
    parse,
    string_words,
    vlen_of,
)

Found = Counter[tuple[str, str]]  # by cause and kind
_NEVER_EQUAL = (VAR, DATASEC)
_MASK = (1 << 64) - 1
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Sizes:
    """Types, and bytes of their records."""

    types: Found = field(default_factory=Counter)
    bytes: Found = field(default_factory=Counter)

    def add(self, cause: str, t: Words) -> None:
        self.types[cause, KIND_NAMES[kind_of(t)]] += 1
        self.bytes[cause, KIND_NAMES[kind_of(t)]] += 4 * len(t)


@dataclass
class _Module:
    """Where a module's types stand among all, and a record of each that was kept for its size."""

    first: int
    kinds: list[int]
    lengths: list[int]


@dataclass
class Left:
    """What is in vmlinux twice; what the build left in modules; and what it may have left there,
    depending on the order of types."""

    in_base: Sizes = field(default_factory=Sizes)
    in_modules: Sizes = field(default_factory=Sizes)
    perhaps: Sizes = field(default_factory=Sizes)


def leftovers(base: bytes, modules: Iterable[bytes]) -> Left:
    """Look at vmlinux and all its modules, which are split BTF."""
    graph = _Graph(parse(base))
    of_modules = [graph.add_module(content) for content in modules]
    graph.bind_declarations()
    colours, loose = graph.colours(), graph.colours(graph.declared_only())
    below = graph.base.end_id
    found = Left()
    seen: set[int] = set()
    for number, t in enumerate(graph.base.types, 1):
        if kind_of(t) not in _NEVER_EQUAL:
            if int(colours[number]) in seen:
                found.in_base.add("repeated", t)
            seen.add(int(colours[number]))
    loosely_seen = set(loose[1:below].tolist())
    typedefs = [
        place
        for place in range(below, len(graph.kinds))
        if graph.kinds[place] == TYPEDEF and int(colours[place]) in seen
    ]
    leads = graph.leads_to(typedefs)
    for module in of_modules:
        earlier: set[int] = set()
        for place, kind in enumerate(module.kinds, module.first):
            meant = graph.stands_for.get(place, place)
            colour = int(colours[meant])
            if kind in _NEVER_EQUAL:
                continue
            record = [0, kind << 24] + [0] * (module.lengths[place - module.first] - 2)
            cause = "typedef" if kind == TYPEDEF else "refers" if leads[place] else "in_base"
            if colour in seen:
                found.in_modules.add(cause, record)
            elif int(loose[meant]) in loosely_seen and kind != FWD:
                found.perhaps.add(cause, record)
            elif colour in earlier:
                found.in_modules.add("repeated", record)
            earlier.add(colour)
    return found


class _Graph:
    """All types one after the other, each with what it says of itself and what it refers to."""

    def __init__(self, base: Btf) -> None:
        self.base = base
        self.kinds = [0]
        self.own = [0]  # by type: a number for what it says of itself
        self.stands_for: dict[int, int] = {}
        self._unbound: dict[int, object] = {}  # declarations of what vmlinux has several of
        self._defined: dict[int, object] = {}  # what modules define
        self._counts = [0]
        self._targets: list[int] = []
        self._names = _names_alone(base, 1)
        for t in base.types:
            self._add(base, t, 0)

    def add_module(self, content: bytes) -> _Module:
        module = parse(content, self.base)
        first = len(self.kinds)
        shift = first - self.base.end_id
        names = _names_alone(module, first)
        self._defined.update((number, key) for key, number in _definitions(module, first))
        for number, t in enumerate(module.types, first):
            key = _declares(module, t)
            if key is not None:
                meant = self._names.get(key) if key in self._names else names.get(key)
                if meant is not None:
                    self.stands_for[number] = meant
                elif key in self._names:
                    self._unbound[number] = key
            self._add(module, t, shift)
        return _Module(first, [kind_of(t) for t in module.types], [len(t) for t in module.types])

    def _add(self, btf: Btf, t: Words, shift: int) -> None:
        kind, references = kind_of(t), id_words(t) if kind_of(t) != FWD else []
        skipped = {*references, *string_words(t), 1, *([2] if kind == FWD else ())}
        said = (
            kind, vlen_of(t), kind_flag_of(t), *(btf.text(t[word]) for word in string_words(t)),
            *(t[word] for word in range(2, len(t)) if word not in skipped),
        )  # fmt: skip
        self.kinds.append(kind)
        self.own.append(hash(said) & _MASK)
        self._counts.append(len(references))
        below = self.base.end_id
        self._targets += [t[w] + shift if t[w] >= below else t[w] for w in references]

    def _references(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
        """Of each reference: whose it is, to what, and which of its owner's it is."""
        counts = np.array(self._counts)
        owners = np.repeat(np.arange(len(counts)), counts)
        numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        targets = np.array(self._targets, np.int64)
        meant = np.arange(len(counts))
        for place, other in self.stands_for.items():
            meant[place] = other
        return owners, meant[targets], numbers.astype(np.uint64)

    def bind_declarations(self) -> None:
        """Bind what is declared only and has several definitions to the one that stands in its
        place in a struct of vmlinux that looks the same as the module's."""
        if not self._unbound:
            return
        below = self.base.end_id
        leaves = dict(self._unbound)
        names = set(leaves.values())
        leaves.update((n, key) for key, n in _definitions(self.base, 1) if key in names)
        colours = self.colours(leaves)
        alike = {
            int(colours[n]): n for n in range(1, below) if self.kinds[n] in COMPOSITE
        }  # fmt: skip
        owners, targets, _ = self._references()
        starts = np.searchsorted(owners, np.arange(len(self.kinds) + 1))
        for place in np.flatnonzero(self.leads_to(list(self._unbound))).tolist():
            other = alike.get(int(colours[place]))
            if place < below or self.kinds[place] not in COMPOSITE or other is None:
                continue
            pairs, seen = [(place, other)], {(place, other)}
            while pairs:
                own, base = pairs.pop()
                if own in self._unbound:
                    self.stands_for[own] = base
                elif own >= below:
                    ours, theirs = (
                        targets[starts[n] : starts[n + 1]].tolist() for n in (own, base)
                    )
                    new = set(zip(ours, theirs, strict=True)) - seen
                    seen |= new
                    pairs += new

    def colours(self, leaves: dict[int, object] | None = None) -> NDArray[np.uint64]:
        """A number for each type, the same for equal ones; ``leaves`` are what is told here."""
        owners, targets, numbers = self._references()
        first = np.array(self.own, np.uint64)
        inner = np.ones(len(first), np.bool_)
        for place, said in (leaves or {}).items():
            first[place], inner[place] = hash(said) & _MASK, False
        firsts = np.flatnonzero(np.diff(owners, prepend=-1))
        colours, classes = first, 0
        while True:
            of_references = _mixed(colours[targets] + _ODD * (numbers + np.uint64(1)))
            sums = np.zeros(len(first), np.uint64)
            if len(firsts):
                sums[owners[firsts]] = np.add.reduceat(of_references, firsts)
            colours = np.where(inner, _mixed(first ^ _mixed(sums)), first)
            before, classes = classes, len(np.unique(colours))
            if classes == before:
                return colours

    def declared_only(self) -> dict[int, object]:
        """What vmlinux only declares, and what modules define by these names."""
        declared = {_declares(self.base, t) for t in self.base.types} - {None, *self._names}
        found: dict[int, object] = {
            number: key
            for number, t in enumerate(self.base.types, 1)
            if (key := _declares(self.base, t)) in declared
        }
        return found | {n: key for n, key in self._defined.items() if key in declared}

    def leads_to(self, places: list[int]) -> NDArray[np.bool_]:
        """Mark these types, and those that refer to them, directly or not."""
        owners, targets, _ = self._references()
        marked = np.zeros(len(self.kinds), np.bool_)
        marked[places] = True
        count = -1
        while count != np.count_nonzero(marked):
            count = int(np.count_nonzero(marked))
            marked[owners[marked[targets]]] = True
        return marked


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def _declares(btf: Btf, t: Words) -> tuple[object, bytes] | None:
    """What a forward declaration declares: struct, union or enum, and the name."""
    if kind_of(t) == FWD:
        return kind_flag_of(t), btf.text(t[0])
    if kind_of(t) in ANY_ENUM and not elements(t):
        return "enum", btf.text(t[0])
    return None


def _names_alone(btf: Btf, first: int) -> dict[tuple[object, bytes], int | None]:
    """Definitions by name; None where several have it."""
    found: dict[tuple[object, bytes], int | None] = {}
    for key, number in _definitions(btf, first):
        found[key] = number if key not in found else None
    return found


def _definitions(btf: Btf, first: int) -> Iterator[tuple[tuple[object, bytes], int]]:
    for number, t in enumerate(btf.types, first):
        if kind_of(t) in COMPOSITE and btf.text(t[0]):
            yield (int(kind_of(t) != min(COMPOSITE)), btf.text(t[0])), number
        elif kind_of(t) in ANY_ENUM and btf.text(t[0]) and elements(t):
            yield ("enum", btf.text(t[0])), number
