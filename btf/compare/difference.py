"""The difference between two types: in which type it is, how one gets there, and what it is.

Two graphs are walked side by side, nearest first. What matters is the innermost *named* type: if
``struct a`` differs only because it points to ``struct b`` and that has another size, the
difference is that of ``struct b``. What has no name (pointers, arrays, prototypes, anonymous
structs) belongs to the named type that it is a part of. A struct whose members only lie elsewhere
because a type that it embeds has another size is passed over for that type, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..arguments import require
from ..types.objects import AnyEnum, Composite, Func, Fwd, Struct, Union
from ..types.typebase import Type, spell
from . import reasons
from .paths import MAX_STEPS, Key, called, joined, parts, written
from .shallow import (
    ARRAYS_WORDS,
    Finding,
    Labels,
    both,
    namesakes,
    only_declared,
    shallow,
    size_or_none,
)

Same = Callable[[Type, Type], bool]

_LABELS = ("the first", "the second")
_HALF = MAX_STEPS // 2 - 1  # steps at either end of a long way


@dataclass(frozen=True, slots=True)
class Step:
    """A pair of named types on the way to a difference, and how one goes on: ``.dev``, ``[]``."""

    first: Type
    second: Type
    accessor: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Where and how two types differ.

    reason         a code, see ``btf.compare.reasons``
    words          what differs: ``48 bytes in the first, 16 in the second``
    first, second  the innermost named types that the difference is in
    steps          the way there from the types that were asked about; empty if they are the same
    accessor       the part of ``first`` that differs where it is another type's, else empty
    left_out       steps in the middle of a long way that are not in ``steps``
    """

    reason: str
    words: str
    first: Type
    second: Type
    steps: tuple[Step, ...] = ()
    accessor: str = ""
    left_out: int = 0

    @property
    def path(self) -> str:
        """The way as C says it: ``sk_buff.dev → net_device.foo → struct bar``. Of a long one the
        middle is left out."""
        steps = [f"{called(s.second)}{s.accessor}" for s in self.steps]
        if self.left_out:
            steps.insert(_HALF, "…")
        return joined(steps, self.second)

    def __str__(self) -> str:
        return f"{self.path}: {self.words}"


def difference(
    first: Type,
    second: Type,
    *,
    labels: Labels = _LABELS,
    same: Same | None = None,
) -> Difference | None:
    """The nearest difference between two types, of one BTF or of any two; None if there is none.

    labels  what the words call the two sides: ("vmlinux", "the module")
    same    tells of a pair of types that it is known to be equal, and need not be walked. The
            same type of the same BTF always is. Worth giving where equal types can be told (by
            fingerprint, say): else the walk goes through all that hangs on equal types, each pair
            once

    A forward declaration differs from a definition. Names, offsets, sizes and order of members all
    count, as in deduplication; type ids do not.
    """
    require(first, Type, "first")
    require(second, Type, "second")
    if len(labels) != 2:
        raise ValueError(f"labels are two words, not {labels!r}")
    return _Walk(labels, same).search(first, second)


class Differences:
    """``difference`` for many pairs that lead to the same ones: each is looked at only once.

    key    gives, for a BTF and a type id, a value that is equal for equal types and for these
           alone: the type's fingerprint. Where two types are the same, nothing below them is
           walked; and what was found out about two types holds for all others with the same two
           values
    ahead  where there is no difference before the next namesakes: these, see ``btf.compare.alike``
    declared_is_same   whether a forward declaration is as good as the definition
    like   others with the same labels, key and ahead: what these have looked at is known
    """

    def __init__(
        self,
        labels: Labels,
        key: Key,
        ahead: Ahead | None = None,
        *,
        declared_is_same: bool = False,
        like: Differences | None = None,
    ) -> None:
        self._walk = _Walk(labels, None, key, ahead, declared_is_same)
        if like is not None:
            self._walk.looked = like._walk.looked

    def between(self, first: Type, second: Type) -> Difference | None:
        """The nearest difference between two types; None if there is none."""
        return self._walk.search(first, second)


def own_difference(
    first: Type, second: Type, *, labels: Labels = _LABELS, same: Same | None = None
) -> Difference | None:
    """As ``difference``, but of these two types alone: types of the same name that they refer to
    are taken for equal."""
    return _Walk(labels, same).search(first, second, deep=False)


class Neighbour(Protocol):
    """A pair of types next to another one, and the way there, as C says it."""

    @property
    def types(self) -> tuple[Type, Type]: ...

    @property
    def way(self) -> str: ...


# A way: the way before, and the accessor that it goes on by. Not text, so that deep ones take no
# more time and memory than others.
_Hops = tuple["_Hops | None", str]


class _DirectNeighbour(NamedTuple):
    """One that was found by looking at the types."""

    types: tuple[Type, Type]
    hops: _Hops | None

    @property
    def way(self) -> str:
        return _as_text(self.hops)


# Two types by their keys; what differs in a pair, where, and the pairs next to it.
_Pair = tuple[Hashable, Hashable]
_Seen = tuple[Finding | None, str, Sequence[tuple[_Pair, Neighbour]]]
Ahead = Callable[[Type, Type], Sequence[tuple[_Pair, Neighbour]] | None]


class _Reached(NamedTuple):
    """A pair that a search came to: from which one (its number, -1: none), by how many hops."""

    place: Neighbour
    before: int
    hops: int
    pair: _Pair


class _Way(NamedTuple):
    """From a pair to the nearest difference.

    onward   the first step and the pair that it leads to; None where the difference is
    last     the last steps, not more than ``_HALF``
    types    the pair that the difference is in
    """

    hops: int
    onward: tuple[Step, _Pair] | None
    last: tuple[Step, ...]
    finding: Finding
    accessor: str
    types: tuple[Type, Type]


def _comes_before(pairs: list[_Reached], one: int, other: int) -> bool:
    """Whether the way to a pair comes before that to another one, at the fork between them."""
    while pairs[one].hops > pairs[other].hops:
        one = pairs[one].before
    while pairs[other].hops > pairs[one].hops:
        other = pairs[other].before
    return one < other


class _Walk:
    def __init__(
        self,
        labels: Labels,
        same: Same | None,
        key: Key | None = None,
        ahead: Ahead | None = None,
        declared_is_same: bool = False,
    ) -> None:
        self.labels = labels
        self.known = same
        self.key = key
        self.ahead = ahead
        self.declared_is_same = declared_is_same
        self.alike: set[_Pair] = set()  # between which nothing was found, where pairs have keys
        self.looked: dict[_Pair, _Seen] = {}
        self.ways: dict[_Pair, _Way] = {}  # to the nearest difference, where pairs have keys

    def search(self, first: Type, second: Type, deep: bool = True) -> Difference | None:
        start = self.pair(first, second)
        if self.same(start, first, second) or start in self.alike:
            return None
        # A queue of pairs of namesakes: where, number of the one it was reached from, hops, which.
        pairs: list[_Reached] = [_Reached(_DirectNeighbour((first, second), None), -1, 0, start)]
        todo = deque([0])
        consequence: tuple[int, Finding, str] | None = None
        seen = {start}
        best, best_hops = -1, 0
        while todo:
            number = todo.popleft()
            place, _, hops, pair = pairs[number]
            if best >= 0 and hops > best_hops:
                break
            known = self.ways.get(pair)
            finding, accessor, next_pairs = self.look_once(pair, place)
            if known is not None or (finding is not None and not finding.follows):
                hops += known.hops if known is not None else 0
                if (
                    best < 0
                    or hops < best_hops
                    or (hops == best_hops and _comes_before(pairs, number, best))
                ):
                    best, best_hops = number, hops
                continue
            if finding is not None and consequence is None:
                consequence = number, finding, accessor
            if not deep:
                break
            for pair, place in next_pairs:
                if pair not in seen and pair not in self.alike:
                    seen.add(pair)
                    todo.append(len(pairs))
                    pairs.append(_Reached(place, number, pairs[number].hops + 1, pair))
        if best < 0 and consequence is None and deep and self.key is not None:
            self.alike |= seen
        return self.nearest(pairs, best, consequence)

    def nearest(
        self, pairs: list[_Reached], best: int, consequence: tuple[int, Finding, str] | None
    ) -> Difference | None:
        """What a search found: a difference in pair ``best``, else what may be the consequence of
        one that is nowhere to be found."""
        if best >= 0 and self.key is not None:
            return self.by_known_way(pairs, best)
        if best >= 0:
            finding, accessor, _ = self.looked[pairs[best].pair]
            assert finding is not None
            return self.made(pairs, best, finding, accessor)
        return self.made(pairs, *consequence) if consequence is not None else None

    def look_once(self, pair: _Pair, place: Neighbour) -> _Seen:
        """``look_at`` a pair that was perhaps looked at before."""
        looked = self.looked.get(pair)
        if looked is None:
            looked = self.looked[pair] = self.look_at(*place.types)
        if self.declared_is_same and looked[0] and looked[0].reason == reasons.DECLARED:
            return None, "", []
        return looked

    def by_known_way(self, pairs: list[_Reached], number: int) -> Difference:
        """What was found from the first pair, and for all on the way there the way from there on.

        It is the nearest for them too; and of several as near, the one that comes first by the
        order of members at the first fork. So it does not matter who was asked about before.
        """
        end = pairs[number]
        way = self.ways.get(end.pair)
        if way is None:
            finding, accessor, _ = self.looked[end.pair]
            assert finding is not None
            way = self.ways[end.pair] = _Way(0, None, (), finding, accessor, end.place.types)
        while end.before >= 0:
            reached = pairs[end.before]
            step = Step(*reached.place.types, end.place.way)
            last = way.last if way.hops >= _HALF else (step, *way.last)
            way = _Way(way.hops + 1, (step, end.pair), last, way.finding, way.accessor, way.types)
            self.ways[reached.pair] = way
            end = reached
        steps: list[Step] = []
        at = way
        while at.onward is not None and len(steps) < min(_HALF, way.hops - len(way.last)):
            step, pair = at.onward
            steps.append(step)
            at = self.ways[pair]
        steps += way.last
        return Difference(
            way.finding.reason, way.finding.words, *way.types, tuple(steps), way.accessor,
            way.hops - len(steps),
        )  # fmt: skip

    def made(
        self, pairs: list[_Reached], number: int, finding: Finding, accessor: str
    ) -> Difference:
        end = at = pairs[number]
        steps: list[Step] = []
        while at.before >= 0:
            reached = pairs[at.before]
            steps.append(Step(*reached.place.types, at.place.way))
            at = reached
        return Difference(
            finding.reason, finding.words, *end.place.types, tuple(reversed(steps)), accessor
        )

    def pair(self, first: Type, second: Type) -> _Pair:
        if self.key is None:
            return (id(first.btf), first.id), (id(second.btf), second.id)
        return self.key(first.btf, first.id), self.key(second.btf, second.id)

    def same(self, pair: _Pair, first: Type, second: Type) -> bool:
        """Whether two types, which ``pair`` stands for, are known to be equal."""
        return pair[0] == pair[1] or (self.known is not None and self.known(first, second))

    def look_at(self, first: Type, second: Type) -> _Seen:
        """What differs in this pair itself and in what has no name below it, and the way there;
        and the pairs of namesakes next to it that are not the same."""
        if self.ahead is not None and (ahead := self.ahead(first, second)) is not None:
            return None, "", ahead
        found = self.by_themselves(first, second)
        if found is not None and not found.follows:
            return found, "", []
        namesake_pairs: list[tuple[_Pair, Neighbour]] = []
        seen: set[_Pair] = set()
        # What has no name: (way, the pair, the pair of whole types that the way leads to).
        stack = [(_onward(None, part.accessor), part.first, part.second, part.first, part.second)
                 for part in parts(first, second, self.key)][::-1]  # fmt: skip
        while stack:
            way, one, other, whole, other_whole = stack.pop()
            pair = self.pair(one, other)
            if self.same(pair, one, other):
                continue
            if namesakes(one, other):
                namesake_pairs.append((pair, _DirectNeighbour((one, other), way)))
                continue
            if one.kind != other.kind or _label(one) != _label(other):
                text = _as_text(way)
                return self.unlike(first, text, whole, other_whole, one, other), text, []
            if pair in seen:
                continue
            seen.add(pair)
            inner = shallow(one, other, self.labels)
            if inner is not None and not inner.follows:
                text = _as_text(way)
                return self.inside(first, text, whole, other_whole, one, inner), text, []
            stack += [
                (_onward(way, p.accessor), p.first, p.second,
                 p.first if p.accessor else whole, p.second if p.accessor else other_whole)
                for p in parts(one, other, self.key)
            ][::-1]  # fmt: skip
        if found is not None:  # what grew explains it best
            namesake_pairs.sort(key=lambda pair: _of_one_size(*pair[1].types))
        return found, "", namesake_pairs

    def by_themselves(self, first: Type, second: Type) -> Finding | None:
        if first.kind != second.kind:
            declared = self.declared(first, second)
            if declared is not None:
                return declared
            return Finding(reasons.KIND, both(self.labels, _kind(first), _kind(second)))
        if isinstance(first, Fwd) and isinstance(second, Fwd) and first.is_union != second.is_union:
            return Finding(reasons.KIND, both(self.labels, spell(first), spell(second)))
        if first.name != second.name and _label(first) != _label(second):
            return Finding(reasons.NAME, self.names(first, second))
        return shallow(first, second, self.labels)

    def declared(self, first: Type, second: Type) -> Finding | None:
        """Whether one of two types declares what the other one defines."""
        by_label = (first, second, *self.labels), (second, first, *self.labels[::-1])
        for declaration, definition, label, other_label in by_label:
            fits = (
                isinstance(declaration, Fwd)
                and isinstance(definition, Union if declaration.is_union else Struct)
            ) or (
                isinstance(declaration, AnyEnum)
                and isinstance(definition, AnyEnum)
                and definition.vlen > declaration.vlen == 0
            )
            if fits:
                return only_declared(label, other_label)
        return None

    def names(self, first: Type, second: Type) -> str:
        words = both(self.labels, spell(first), spell(second))
        return f"{words}, of the same shape" if self.same_shape(first, second) else words

    def same_shape(self, first: Type, second: Type) -> bool:
        """Whether two types look the same but for their names, as far as one reads them."""
        if first.kind != second.kind or not isinstance(first, (Composite, AnyEnum)):
            return False
        if shallow(first, second, self.labels) is not None:
            return False
        return all(spell(part.first) == spell(part.second) for part in parts(first, second))

    def unlike(
        self, owner: Type, way: str, whole: Type, other_whole: Type, one: Type, other: Type
    ) -> Finding:
        """A part of ``owner`` is another type on the other side."""
        spelled = spell(whole), spell(other_whole)
        if spelled[0] == spelled[1]:  # too deep to be spelled
            spelled = spell(one), spell(other)
        said = both(self.labels, *spelled)
        if self.same_shape(one, other):
            said += ", of the same shape"
        return Finding(_reason_of_part(owner), f"{_way(owner, way)}{said}")

    def inside(
        self, owner: Type, way: str, whole: Type, other_whole: Type, one: Type, inner: Finding
    ) -> Finding:
        """Something without a name, a part of ``owner``, differs."""
        if isinstance(one, (Composite, AnyEnum)):
            place = way.lstrip(".") or "itself"
            kind = spell(one).split()[0]
            words = f"in the anonymous {kind} `{place}`: {inner.words}"
            if place == "itself" or not isinstance(owner, (Composite, Func)):
                words = f"in an anonymous {kind}: {inner.words}"
            return Finding(inner.reason, words)
        spelled = spell(whole), spell(other_whole)
        said = inner.words if spelled[0] == spelled[1] else both(self.labels, *spelled)
        if inner.reason == reasons.ARRAYS:
            return Finding(inner.reason, f"{_way(owner, way)}{said}: {ARRAYS_WORDS}")
        return Finding(_reason_of_part(owner), f"{_way(owner, way)}{said}")


def _onward(way: _Hops | None, accessor: str) -> _Hops | None:
    return (way, accessor) if accessor else way


def _as_text(way: _Hops | None) -> str:
    accessors = []
    while way is not None:
        way, accessor = way
        accessors.append(accessor)
    return written(reversed(accessors))


def _of_one_size(first: Type, second: Type) -> bool:
    return size_or_none(first) == size_or_none(second)


def _label(found: Type) -> str:
    """The name, where it is one: a tag's text is not."""
    return found.name if namesakes(found, found) else ""


def _kind(found: Type) -> str:
    """``struct bar``, or ``enum64 mode``: with the word that tells kinds apart."""
    if isinstance(found, (Composite, AnyEnum, Fwd)):
        word = found.kind_name.lower() if not isinstance(found, Fwd) else "forward-declared"
        return f"{word} {found.name}" if found.name else f"an anonymous {word}"
    return f"{found.kind_name.lower()} {spell(found)}"


def _way(owner: Type, way: str) -> str:
    shown = way.lstrip(".")
    return f"`{owner.name if isinstance(owner, Func) else ''}{shown}`: " if shown else ""


def _reason_of_part(owner: Type) -> str:
    if isinstance(owner, Composite):
        return reasons.MEMBER_TYPE
    if isinstance(owner, Func):
        return reasons.PROTOTYPE
    return reasons.TARGET
