"""What two types of one kind say of themselves: sizes, members, values; not what they refer to.

``shallow`` finds the first difference that needs no look at other types; ``paths.parts`` lists the
types that have to be looked at next. Both work on the object view and on names as text, so that the
two types may be of BTFs that have nothing in common.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..errors import BtfError
from ..format.kinds import NAME_SPACE, NameSpace
from ..types.objects import (
    AnyEnum,
    Array,
    Composite,
    Datasec,
    DeclTag,
    Func,
    FuncProto,
    Int,
    Member,
    Sized,
    TypeTag,
    Var,
)
from ..types.typebase import Type, Unknown, spell
from . import reasons

_SPACES: list[int] = NAME_SPACE.tolist()  # by kind
_NO_SPACE = int(NameSpace.NONE)
ARRAYS_WORDS = "one array, written as pahole does since version 1.32, and as it did before"
_MOST_DIMENSIONS = 32
NAMED_AT_MOST = 3  # members listed in a sentence

Labels = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference: a code of ``reasons``, and the same in words.

    follows   whether it may be no more than the consequence of an embedded type's size
    """

    reason: str
    words: str
    follows: bool = False


def both(labels: Labels, first: object, second: object, after: str = "") -> str:
    """``48 bytes in vmlinux, 16 in the module``."""
    return f"{first}{after} in {labels[0]}, {second} in {labels[1]}"


def only_declared(declares: str, defines: str) -> Finding:
    """One side has only a forward declaration, the other the definition."""
    words = f"{declares} has only a forward declaration, {defines} the definition"
    return Finding(reasons.DECLARED, words)


def shallow(first: Type, second: Type, labels: Labels) -> Finding | None:
    """The first difference of two types of one kind beside their names and references."""
    if isinstance(first, Composite) and isinstance(second, Composite):
        return _composites(first, second, labels)
    if isinstance(first, AnyEnum) and isinstance(second, AnyEnum):
        return _enums(first, second, labels)
    if isinstance(first, Func) and isinstance(second, Func) and first.linkage != second.linkage:
        return Finding(
            reasons.LINKAGE, both(labels, _linkage(first.linkage), _linkage(second.linkage))
        )
    if isinstance(first, FuncProto) and isinstance(second, FuncProto):
        return _prototypes(first, second, labels)
    if isinstance(first, Sized) and isinstance(second, Sized) and first.size != second.size:
        return Finding(reasons.SIZE, both(labels, first.size, second.size, " bytes"))
    if isinstance(first, Array) and isinstance(second, Array):
        found = _arrays(first, second, labels)
        if found is not None:
            return found
    if isinstance(first, (TypeTag, DeclTag)) and first.name != second.name:
        return Finding(reasons.TARGET, both(labels, f'tag "{first.name}"', f'"{second.name}"'))
    if isinstance(first, Datasec) and isinstance(second, Datasec):
        if [e[1:] for e in _entries(first)] != [e[1:] for e in _entries(second)]:
            return Finding(reasons.TARGET, "its variables lie elsewhere")
    if first.kind_flag != second.kind_flag or first.vlen != second.vlen:
        return Finding(reasons.ENCODING, "encoded differently")
    if isinstance(first, Int) and first._word(0) != second._word(0):
        return Finding(reasons.ENCODING, both(labels, first._details(), second._details()))
    if isinstance(first, (Var, DeclTag)) and first._word(0) != second._word(0):
        return Finding(reasons.LINKAGE, both(labels, first._word(0), second._word(0)))
    if isinstance(first, Unknown) and first.words[1:] != second.words[1:]:
        return Finding(reasons.ENCODING, "of a kind that is not known, with other words")
    return None


def parameter(name: str, number: int) -> str:
    """``(file)``, or ``(#1)`` for the first one where it has no name; numbers start with 0."""
    return f"({name or f'#{number + 1}'})"


def size_or_none(found: Type) -> int | None:
    """Bytes of a value of this type, None for what has no size."""
    try:
        return found.btf.size_of(found)
    except BtfError:
        return None


def _entries(section: Datasec) -> list[tuple[int, int, int]]:
    return [(entry.type_id, entry.offset, entry.size) for entry in section.entries]


def _linkage(value: int) -> str:
    return {0: "static", 1: "global", 2: "extern"}.get(value, f"linkage {value}")


def _arrays(first: Array, second: Array, labels: Labels) -> Finding | None:
    (ours, one), (others, other) = _dimensions(first), _dimensions(second)
    if len(ours) != len(others) and prod(ours) == prod(others) and spell(one) == spell(other):
        words = both(labels, spell(first), spell(second))
        return Finding(reasons.ARRAYS, f"{words}: {ARRAYS_WORDS}")
    if first.nelems != second.nelems:
        words = f"elements: {both(labels, first.nelems, second.nelems)}"
        return Finding(reasons.MEMBER_TYPE, words)
    return None


def _dimensions(array: Array) -> tuple[list[int], Type]:
    """Numbers of elements, from the outermost array on, and what the innermost has."""
    found: list[int] = []
    at: Type = array
    while isinstance(at, Array) and len(found) < _MOST_DIMENSIONS:
        found.append(at.nelems)
        at = at.type
    return found, at


# -- structs and unions


def _composites(first: Composite, second: Composite, labels: Labels) -> Finding | None:
    sizes = both(labels, first.size, second.size, " bytes") if first.size != second.size else ""
    names = _names(first), _names(second)
    if names[0] != names[1]:
        return Finding(reasons.MEMBERS, _join(sizes, _membership(first, *names, labels)))
    ours, others = first.members, second.members
    for one, other in zip(ours, others, strict=True):
        if one.bitfield_size != other.bitfield_size:
            words = f"{_called(one)}: {both(labels, _bits(one), _bits(other))}"
            return Finding(reasons.BITFIELD, _join(sizes, words))
    for index, (one, other) in enumerate(zip(ours, others, strict=True)):
        if one.bit_offset != other.bit_offset:
            bitfield = bool(one.bitfield_size) or (one.bit_offset | other.bit_offset) % 8 > 0
            reason = reasons.BITFIELD if bitfield else reasons.OFFSET
            places = [_place(member, bitfield) for member in (one, other)]
            words = _join(sizes, f"{_called(one)}: {both(labels, *places)}")
            return Finding(reason, words, follows=_grown(ours[: index + 1], others))
    if sizes:
        return Finding(reasons.SIZE, sizes, follows=_grown(ours, others))
    if first.kind_flag != second.kind_flag:
        fields = [f"{'bit' if t.kind_flag else 'no bit'} fields" for t in (first, second)]
        return Finding(reasons.ENCODING, f"encoded to hold {both(labels, *fields)}")
    return None


def _names(found: Composite) -> list[str]:
    """Those of all members; ``Member`` objects would take longer."""
    return [found.btf.string(name) if name else "" for name, _, _ in found._rows(3)]


def _grown(ours: Sequence[Member], others: Sequence[Member]) -> bool:
    """Whether a member's type has another size on the other side."""
    return any(
        not one.bitfield_size and size_or_none(one.type) != size_or_none(other.type)
        for one, other in zip(ours, others, strict=False)
    )


def _called(member: Member) -> str:
    if member.name:
        return f"`{member.name}`"
    return f"the anonymous member at byte {member.byte_offset}"


def _bits(member: Member) -> str:
    return f"{member.bitfield_size} bits" if member.bitfield_size else "no bit field"


def _place(member: Member, bitfield: bool) -> str:
    return f"at bit {member.bit_offset}" if bitfield else f"at byte {member.byte_offset}"


def _membership(
    first: Composite, names: Sequence[str], other_names: Sequence[str], labels: Labels
) -> str:
    count, other_count = Counter(names), Counter(other_names)
    only = [
        [name for name in dict.fromkeys(source) if name and mine[name] > theirs[name]]
        for source, mine, theirs in (
            (names, count, other_count),
            (other_names, other_count, count),
        )
    ]
    said = []
    if len(names) != len(other_names):
        said.append(f"members: {both(labels, len(names), len(other_names))}")
    if names and other_names and not (set(names) & set(other_names)) - {""}:
        said.append("no member in common" + (": another type of this name" if first.name else ""))
    else:
        said += [f"{listed(o)} only in {label}" for o, label in zip(only, labels, strict=True) if o]
    if not said:
        at = next(i for i, (a, b) in enumerate(zip(names, other_names, strict=True)) if a != b)
        said.append(f"members in another order from {_called(first.members[at])} on")
    return "; ".join(said)


def listed(names: Sequence[str]) -> str:
    """```a`, `b`, `c` and 4 more``."""
    shown = ", ".join(f"`{name}`" for name in names[:NAMED_AT_MOST])
    more = len(names) - NAMED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown


def _join(*sentences: str) -> str:
    return "; ".join(sentence for sentence in sentences if sentence)


# -- enums and prototypes


def _enums(first: AnyEnum, second: AnyEnum, labels: Labels) -> Finding | None:
    if not first.vlen or not second.vlen:
        if first.vlen or second.vlen:
            return only_declared(*(labels if second.vlen else labels[::-1]))
    sizes = both(labels, first.size, second.size, " bytes") if first.size != second.size else ""
    if first.values != second.values:
        return Finding(reasons.VALUES, _join(sizes, _values(first, second, labels)))
    if sizes:
        return Finding(reasons.SIZE, sizes)
    if first.is_signed != second.is_signed:
        signs = ["signed" if enum.is_signed else "unsigned" for enum in (first, second)]
        return Finding(reasons.ENCODING, both(labels, *signs))
    return None


def _values(first: AnyEnum, second: AnyEnum, labels: Labels) -> str:
    ours = {value.name: value.value for value in first.values}
    others = {value.name: value.value for value in second.values}
    if not set(ours) & set(others):
        return "no enumerator in common" + (": another enum of this name" if first.name else "")
    only = [[name for name in a if name not in b] for a, b in ((ours, others), (others, ours))]
    said = [f"{listed(o)} only in {label}" for o, label in zip(only, labels, strict=True) if o]
    for name, value in ours.items():
        if others.get(name, value) != value:
            said.append(f"`{name}` is {both(labels, value, others[name])}")
            break
    return "; ".join(said) or "enumerators in another order"


def _prototypes(first: FuncProto, second: FuncProto, labels: Labels) -> Finding | None:
    ours, others = first.params, second.params
    if len(ours) != len(others) or first.is_variadic != second.is_variadic:
        counts = [f"{len(f.params)}{' and ...' if f.is_variadic else ''}" for f in (first, second)]
        return Finding(reasons.PROTOTYPE, f"parameters: {both(labels, *counts)}")
    for number, (one, other) in enumerate(zip(ours, others, strict=True), start=1):
        if one.name != other.name:
            names = [f"`{param.name}`" if param.name else "nameless" for param in (one, other)]
            return Finding(reasons.PROTOTYPE, f"parameter {number} is {both(labels, *names)}")
    return None


def namesakes(first: Type, second: Type) -> bool:
    """Whether two types have the same name, not empty, in one name space: ``kinds.NameSpace``."""
    space = _SPACES[first.kind]
    return space != _NO_SPACE and space == _SPACES[second.kind] and first.name == second.name != ""
