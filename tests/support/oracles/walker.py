"""Shows that what dedup wrote describes the same graph of types as what it was given.

`walk` follows every type of the inputs through the id map and compares it with the type that it has
become: kind, flags, vlen, size, names, members, offsets, values, and every reference. It reads the
bytes itself (`naive_btf`): nothing here is from `btf/`.

A reference leads where the map leads: the map of what the input's type refers to is what the
output's type refers to. Not always: a forward declaration agrees with every definition of its name,
and the map knows but one. Where a reference leads elsewhere, the input's type that it had led to is
compared with the one that it leads to now, and with all that both lead to in turn: only a
declaration may have become a definition. A pair is compared once, and there are few beyond those of
the map.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from support.oracles.naive_btf import (
    ANY_ENUM,
    COMPOSITE,
    ELEMENT_WORDS,
    ENUM,
    EXTRA_WORDS,
    FWD,
    KIND_NAMES,
    STRUCT,
    UNION,
    Btf,
    Words,
    id_words,
    kind_flag_of,
    kind_of,
    string_words,
    vlen_of,
)  # fmt: skip

DECLARABLE = (*COMPOSITE, *ANY_ENUM)


class NotTheSame(AssertionError):
    """Output and input describe different graphs; the message names the types."""


@dataclass
class Walked:
    """What was looked at, and what was found."""

    types: int = 0
    references: int = 0
    resolved: int = 0  # declarations that have become definitions
    elsewhere: int = 0  # pairs beside those of the map: references that lead to another equal
    undeclared: int = 0  # of these, definitions of which the base's types know the declaration only
    ambiguous: int = 0  # see `walk`


def walk(
    inputs: Iterable[tuple[Btf, Sequence[int]]],
    output: Btf,
    *,
    added: bool = True,
    strict: bool = True,
) -> Walked:
    """Follow every own type of the inputs through its id map into the output.

    inputs   each with its id map: by type id (void and the base's types included), the id in the
             output
    added    as ``dedup_split`` and ``merge``: inputs are standalone and the output may have a base.
             False: an input is split on the same base as the output, or both have none
    strict   False where one name is declared and has several definitions, which no program can
             have: libbpf then takes one of them for another (see docs/differences.md), and so do
             we. Such types are counted, not compared

    Raises NotTheSame.
    """
    found = _Walk(output)
    if not strict:
        inputs = list(inputs)
        found.ambiguous = _ambiguous_names([source for source, _ in inputs], output)
    for source, id_map in inputs:
        found.follow(source, list(id_map), added)
    found.finish()
    return found.walked


class _Walk:
    def __init__(self, output: Btf) -> None:
        self.output = output
        self.types = output.all_types()
        self.text = functools.cache(output.text)
        self.reached = bytearray(output.end_id)
        self.ambiguous: set[tuple[int, bytes]] = set()
        self.walked = Walked()

    def follow(self, source: Btf, id_map: list[int], added: bool) -> None:
        """Compare every own type of an input with what the map says it has become."""
        unchanged = 1 if added else source.start_id
        below = (self.output.start_id, self.output.start_str, self.output.order)
        if len(id_map) != source.end_id:
            raise NotTheSame(f"the map has {len(id_map)} ids for {source.end_id}")
        if id_map[:unchanged] != list(range(unchanged)):
            raise NotTheSame("the map changes ids of the base")
        if not added and below != (source.start_id, source.start_str, source.order):
            raise NotTheSame("the output has another base or byte order than the input")
        types, text = source.all_types(), functools.cache(source.text)
        pairs = list(enumerate(id_map))[source.start_id :]
        for _, new_id in pairs:
            if not 0 < new_id < len(self.types):
                raise NotTheSame(f"[{new_id}] of {len(self.types)} types")
            self.reached[new_id] = 1
        self.walked.types += len(pairs)
        compared: set[tuple[int, int]] = set()  # of those that are not in the map
        while pairs:
            old_id, new_id = pairs.pop()
            old, new = types[old_id], self.types[new_id]
            doubtful = _declared(old, text(old[0])) in self.ambiguous
            try:
                if not self._same_declaration(old, text, new):
                    continue
            except NotTheSame as error:
                in_base = new_id < self.output.start_id and new_id != id_map[old_id]
                if in_base and _is_declaration_of(new, self.text(new[0]), old, text(old[0])):
                    self.walked.undeclared += 1
                elif doubtful and _declared(new, self.text(new[0])) in self.ambiguous:
                    self.walked.ambiguous += 1
                else:
                    kind = KIND_NAMES[kind_of(old)]
                    raise NotTheSame(f"{kind} [{old_id}] → [{new_id}]: {error}") from None
                continue
            references = _positions(old[1])[1]
            self.walked.references += len(references)
            for word in references:
                if id_map[old[word]] != new[word]:
                    pair = (old[word], new[word])
                    if doubtful:
                        self.walked.ambiguous += 1
                    elif pair not in compared:
                        compared.add(pair)
                        pairs.append(pair)
        self.walked.elsewhere += len(compared)

    def finish(self) -> None:
        """Every own type of the output comes from an input."""
        start = self.output.start_id
        if 0 in (own := self.reached[start:]):
            raise NotTheSame(f"[{start + own.index(0)}] comes from no type of an input")

    def _same_declaration(self, old: Words, text: Text, new: Words) -> bool:
        """Compare two types but for their references. False if there are none to compare, since a
        declaration has become a definition. Raises NotTheSame."""
        if old[1] == new[1] and (vlen_of(old) or kind_of(old) not in ANY_ENUM):
            texts, _, others = _positions(old[1])
            for word in texts:
                if text(old[word]) != self.text(new[word]):
                    raise NotTheSame(f"{text(old[word])!r} is now {self.text(new[word])!r}")
            for word in others:
                if old[word] != new[word]:
                    raise NotTheSame(f"word {word} was {old[word]:#x}, is {new[word]:#x}")
            return True
        if not _is_declaration_of(old, text(old[0]), new, self.text(new[0])):
            raise NotTheSame(f"info {old[1]:#x} is now {new[1]:#x}")
        self.walked.resolved += 1
        return False


Text = Callable[[int], bytes]


def _declared(t: Words, name: bytes) -> tuple[int, bytes] | None:
    """What a struct, union or enum, and its forward declaration, are found by."""
    kind = kind_of(t)
    if kind == FWD:
        kind = (STRUCT, UNION)[kind_flag_of(t)]
    return (ENUM if kind in ANY_ENUM else kind, name) if kind in DECLARABLE else None


def _ambiguous_names(inputs: Sequence[Btf], output: Btf) -> set[tuple[int, bytes]]:
    """Names that are declared, and have definitions of more than one shape, or several that were
    not merged."""
    shapes: dict[tuple[int, bytes], tuple[object, ...]] = {}
    declared, found = set(), set()
    for source in [*inputs, output]:
        defined = set()
        for t in source.all_types():
            key = _declared(t, source.text(t[0]))
            if key is not None and not _is_definition(t):
                declared.add(key)
            elif key is not None:
                shape = _shape(source, t)
                if shapes.setdefault(key, shape) != shape or (source is output and key in defined):
                    found.add(key)
                defined.add(key)
    return found & declared


def _shape(source: Btf, t: Words) -> tuple[object, ...]:
    """A definition by itself: its words but for references, names as text."""
    texts, references, _ = _positions(t[1])
    shape: list[object] = list(t)
    for word in texts:
        shape[word] = source.text(t[word])
    for word in references:
        shape[word] = 0
    return tuple(shape)


def _is_definition(t: Words) -> bool:
    return kind_of(t) in COMPOSITE or (kind_of(t) in ANY_ENUM and vlen_of(t) > 0)


def _is_declaration_of(t: Words, name: bytes, other: Words, other_name: bytes) -> bool:
    same = _declared(t, name) == _declared(other, other_name)
    return same and not _is_definition(t) and _declared(t, name) is not None


@functools.cache
def _positions(info: int) -> tuple[list[int], list[int], list[int]]:
    """Words of a type with this info: string offsets, type ids, and the rest behind the info."""
    kind, vlen = kind_of([0, info]), vlen_of([0, info])
    length = 3 + EXTRA_WORDS.get(kind, 0) + ELEMENT_WORDS.get(kind, 0) * vlen
    blank = [0, info, *[0] * (length - 2)]
    texts, references = string_words(blank), id_words(blank)
    others = set(range(2, length)) - {*texts, *references}
    return texts, references, sorted(others)
