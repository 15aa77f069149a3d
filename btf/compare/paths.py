"""Ways from type to type, as C says them: ``sk_buff.dev → net_device.ops[] → struct bar``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..format.kinds import FEWEST_REFS, FIRST_REF, HEAD_WORDS, REF_EACH, REF_STEP
from ..types.objects import Array, Composite, Datasec, FuncProto, Fwd
from ..types.typebase import Type, spell, type_at
from .shallow import namesakes, parameter

MAX_STEPS = 24  # of a way that are said

if TYPE_CHECKING:
    from ..types.btf import BTF

Key = Callable[["BTF", int], Hashable]
"""Gives a value for a type, by its BTF and id, that equal types have and no others."""

Hop = tuple[Type, int]
"""A type, and which word of its record refers to the next one."""


def called(found: Type) -> str:
    """The name alone, to be followed by an accessor."""
    return found.name or spell(found)


def accessor(found: Type, word: int) -> str:
    """How C goes on from a type to what a word of its record refers to: ``.dev``, ``[]``, ``()``.

    Empty where nothing is written: pointers, modifiers, typedefs, anonymous members.
    """
    if isinstance(found, Array):
        return "[]"
    if isinstance(found, FuncProto) and word < HEAD_WORDS:
        return "()"
    if isinstance(found, (Composite, FuncProto)):  # the name is the word before the type
        name_off = found._word(word - 1 - HEAD_WORDS)
        name = found.btf.string(name_off) if name_off else ""
        if isinstance(found, FuncProto):
            return parameter(name, (word - HEAD_WORDS) // 2)
        return f".{name}" if name else ""
    if isinstance(found, Datasec):
        return f".{found.entries[(word - HEAD_WORDS) // 3].type.name}"
    return ""


def way_as_c(hops: Iterable[Hop], last: Type) -> str:
    """A way through types to ``last``; those without a name are part of the one before."""
    said: list[list[str]] = []
    for found, word in hops:
        if not said or namesakes(found, found):
            said.append([called(found)])
        said[-1].append(accessor(found, word))
    return joined([name + written(accessors) for name, *accessors in said], last)


def written(accessors: Iterable[str]) -> str:
    """Accessors one behind another. Of very many the middle is left out."""
    said = [accessor for accessor in accessors if accessor]
    return "".join(_without_middle(said))


def _without_middle(steps: Sequence[str]) -> Sequence[str]:
    if len(steps) <= MAX_STEPS:
        return steps
    return [*steps[: MAX_STEPS // 2], "…", *steps[-MAX_STEPS // 2 :]]


def joined(steps: Sequence[str], last: Type) -> str:
    """Steps and what they lead to. Of a long way the middle is left out."""
    return " → ".join([*_without_middle(steps), spell(last)])


def _references(found: Type) -> range:
    """Which words of a type's record refer to other types, in order."""
    kind = found.kind
    count = int(FEWEST_REFS[kind]) + int(REF_EACH[kind]) * found.vlen
    first, step = int(FIRST_REF[kind]), int(REF_STEP[kind])
    return range(first, first + step * count, step or 1)


class Part(NamedTuple):
    """A pair of types that a pair refers to, and how C gets there: ``.dev``, ``[]``."""

    accessor: str
    first: Type
    second: Type


def parts(first: Type, second: Type, key: Key | None = None) -> Iterator[Part]:
    """List what two types that do not differ by themselves refer to, in the order of the record.

    With ``key``, what has the same key may be left out: it is the same.
    """
    if isinstance(first, Fwd):  # refers to nothing, whatever its third word is called
        return
    words, other_words = first.words, second.words
    for word in _references(first):
        one, other = words[word], other_words[word]
        if key is None or key(first.btf, one) != key(second.btf, other):
            text = accessor(first, word)
            yield Part(text, type_at(first.btf, one), type_at(second.btf, other))


def way_to(start: Type, targets: Collection[int]) -> tuple[Type | None, str]:
    """The nearest of some types of one split BTF that another of its own types leads to, by way of
    types without a name; and that way as C says it. (None, "") if it leads to none."""
    if start.id in targets:
        return start, spell(start)
    split = start.btf
    reached: dict[int, Hop | None] = {start.id: None}  # by id, from where
    todo = deque([start])
    while todo:
        found = todo.popleft()
        words = found.words
        for word in _references(found):
            type_id = words[word]
            if type_id in targets:
                hops: list[Hop] = []
                hop: Hop | None = (found, word)
                while hop is not None:
                    hops.append(hop)
                    hop = reached[hop[0].id]
                return split[type_id], way_as_c(reversed(hops), split[type_id])
            if type_id < split.start_id or type_id in reached:  # void too
                continue
            reached[type_id] = found, word
            child = split[type_id]
            if not namesakes(child, child):
                todo.append(child)
    return None, ""
