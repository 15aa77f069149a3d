"""A change in C's terms: ``member added: `int cpu` at 16``, ``parameter 2: `int` → `long```."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, islice, zip_longest
from typing import NamedTuple

from ..format import kinds
from ..types.c_text import c_text
from ..types.objects import AnyEnum, Array, Composite, Func, FuncProto, Member
from ..types.typebase import Reference, Type, spell, type_at
from .diff import CHANGED, EMBEDDED, Change
from .named import KINDS, SideOfDiff

MAX_DETAILS = 10_000  # of one name
_MAX_NESTED = 8
_MAX_EMBEDDED = 1000  # pairs of types that are looked at for what is embedded


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing that changed.

    what      ``size``, ``member added``, ``member removed``, ``member moved``, ``member retyped``,
              ``bit field``, ``order``, ``enumerator added``, ``enumerator removed``,
              ``enumerator value``, ``parameter added``, ``parameter removed``,
              ``parameter retyped``, ``returns``, ``target``, ``declaration added``,
              ``declaration removed``, ``embeds``
    subject   the member, enumerator or type that it is about; of parameters the number
    old, new  what it was and is; empty where there is none
    until     of several members in a row that moved alike, the last one
    members   and how many these are
    """

    what: str
    subject: str
    old: str
    new: str
    until: str = ""
    members: int = 1

    @property
    def text(self) -> str:
        """The same as words."""
        if self.what == "order":
            return f"members{f' of `{self.subject}`' if self.subject else ''} in another order"
        if self.what == "embeds":
            return f"embeds {self.subject}, which changed"
        if self.what.startswith(("member added", "member removed")):  # its text has the name
            return f"{self.what}: {self.old or self.new}"
        subject = f" `{self.subject}`" if self.subject else ""
        if self.until:
            subject += f" … `{self.until}` ({self.members} members)"
        if self.old and self.new:
            return f"{self.what}{subject}: {self.old} → {self.new}"
        return f"{self.what}{subject}: {self.old or self.new}"


def details(change: Change, old: SideOfDiff, new: SideOfDiff) -> list[Detail]:
    """What changed in a name; of one that was added or removed, its declarations."""
    before = [type_at(old.btf, type_id) for type_id in change.old_ids]
    after = [type_at(new.btf, type_id) for type_id in change.new_ids]
    if change.change == EMBEDDED:
        return _embedded(old, new, before, after)
    ours = _distinct(before, old, new, change.new_ids)
    theirs = _distinct(after, new, old, change.old_ids)
    if change.change == CHANGED and len(ours) == len(theirs) == 1:
        return list(islice(_differences(ours[0], theirs[0], Sides(old, new)), MAX_DETAILS))
    return [
        *(Detail("declaration removed", "", declaration(found), "") for found in ours),
        *(Detail("declaration added", "", "", declaration(found)) for found in theirs),
    ]


def _distinct(
    types: Sequence[Type], side: SideOfDiff, other: SideOfDiff, other_ids: Sequence[int]
) -> list[Type]:
    """One type of each declaration that the other object lacks."""
    theirs = {other.declaration(type_id) for type_id in other_ids}
    ours = {side.declaration(found.id): found for found in reversed(types)}
    return [found for key, found in reversed(ours.items()) if key not in theirs]


def declaration(found: Type) -> str:
    """A named type on one line: with its size where it has one."""
    if isinstance(found, Func):
        return f"`{c_text(found.type, found.name)}`"
    if isinstance(found, (Composite, AnyEnum)):
        what = "values" if isinstance(found, AnyEnum) else "members"
        return f"`{spell(found)}` of {found.size} bytes, {what}: {found.vlen}"
    if isinstance(found, Reference) and found.kind in KINDS:
        return f"`{c_text(found.type, found.name)}`"
    return f"`{spell(found)}`"


class Sides(NamedTuple):
    """The two objects that are compared."""

    old: SideOfDiff
    new: SideOfDiff

    def alike(self, old_id: int, new_id: int) -> bool:
        """Whether a type of the old object and one of the new are spelled alike."""
        return self.old.spelled(old_id) == self.new.spelled(new_id)


def _differences(old: Type, new: Type, sides: Sides) -> Iterator[Detail]:
    if isinstance(old, Composite) and isinstance(new, Composite):
        yield from _composites(old, new, sides)
    elif isinstance(old, AnyEnum) and isinstance(new, AnyEnum):
        yield from _enums(old, new)
    elif isinstance(old, Func) and isinstance(new, Func):
        yield from _prototypes(old.type, new.type, sides)
    elif isinstance(old, Reference) and isinstance(new, Reference):
        yield Detail("target", "", f"`{c_text(old.type)}`", f"`{c_text(new.type)}`")


def _sizes(old: Composite | AnyEnum, new: Composite | AnyEnum, path: str = "") -> Iterator[Detail]:
    if old.size != new.size:
        yield Detail("size", path.rstrip("."), f"{old.size}", f"{new.size} bytes")


# -- structs and unions


class Within(NamedTuple):
    """Where the members lie that are told of: in the type itself, or in what is written out there.

    path      what C says before their names
    old, new  bit offset of the type that they are members of
    depth     how many written-out types are around them
    """

    path: str = ""
    old: int = 0
    new: int = 0
    depth: int = 0

    def inside(self, one: Member, other: Member) -> Within:
        """The members of a member."""
        path = f"{self.path}{one.name}." if one.name else self.path
        old, new = self.old + one.bit_offset, self.new + other.bit_offset
        return Within(path, old, new, self.depth + 1)


_WHOLE = Within()


def place(member: Member, outer: int = 0) -> str:
    """Where a member lies: ``16``, of what begins inside a byte ``16:3``; ``outer`` is the bit
    offset of the type that it is a member of."""
    whole, bits = divmod(outer + member.bit_offset, 8)
    return f"{whole}:{bits}" if bits or member.bitfield_size else str(whole)


def _text(member: Member, path: str) -> str:
    bits = f" : {member.bitfield_size}" if member.bitfield_size else ""
    return f"`{c_text(member.type, path + member.name)}{bits}`"


Pair = tuple[Member | None, Member | None]


def _matched(old: Composite, new: Composite, sides: Sides) -> list[Pair]:
    """Members of one name; those without a name by their type's spelling, then in their order. In
    the order of the old ones, then those that only the new ones have."""
    after: dict[str | bytes, list[Member]] = {}
    for member in new.members:
        after.setdefault(member.name or sides.new.spelled(member.type_id), []).append(member)
    pairs: list[list[Member | None]] = []
    for member in old.members:
        same = after.get(member.name or sides.old.spelled(member.type_id))
        pairs.append([member, same.pop(0) if same else None])
    left = {id(member): member for members in after.values() for member in members}
    unnamed = [member for member in new.members if id(member) in left and not member.name]
    for pair in pairs:
        if pair[0] is not None and not pair[0].name and pair[1] is None and unnamed:
            pair[1] = unnamed.pop(0)
            del left[id(pair[1])]
    return [*((one, other) for one, other in pairs), *((None, member) for member in left.values())]


def _composites(
    old: Composite, new: Composite, sides: Sides, within: Within = _WHOLE
) -> Iterator[Detail]:
    path = within.path
    if not within.depth:
        yield from _sizes(old, new)
    pairs = _matched(old, new, sides)
    for one, other in pairs:
        if one is not None and other is None:
            text = f"{_text(one, path)} at {place(one, within.old)}"
            yield Detail("member removed", path + one.name, text, "")
        if one is None and other is not None:
            text = f"{_text(other, path)} at {place(other, within.new)}"
            yield Detail("member added", path + other.name, "", text)
    kept = [(one, other) for one, other in pairs if one is not None and other is not None]
    for one, other in kept:
        if not sides.alike(one.type_id, other.type_id):
            yield from _retyped(one, other, sides, within)
        if one.bitfield_size != other.bitfield_size:
            yield Detail("bit field", path + _called(one), _bits(one), _bits(other))
    yield from _moved(kept, within)
    position = {id(member): at for at, member in enumerate(new.members)}
    order = [position[id(other)] for _, other in kept]
    if order != sorted(order):
        yield Detail("order", path.rstrip("."), "", "")


def _retyped(one: Member, other: Member, sides: Sides, within: Within) -> Iterator[Detail]:
    """A member of another type; of a type that is written out, what changed in it."""
    first, second = one.type, other.type
    written_out = not first.name and not second.name and within.depth < _MAX_NESTED
    if written_out and isinstance(first, Composite) and isinstance(second, Composite):
        if first.kind == second.kind:
            yield from _composites(first, second, sides, within.inside(one, other))
            return
    texts = f"`{c_text(first)}`", f"`{c_text(second)}`"
    yield Detail("member retyped", within.path + _called(one), *texts)


def _bits(member: Member) -> str:
    bits = member.bitfield_size
    return f"{bits} bit{'s' * (bits > 1)}" if bits else "no bit field"


def _moved(kept: Sequence[tuple[Member, Member]], within: Within) -> Iterator[Detail]:
    """Members that lie elsewhere in their type; those in a row that moved by the same are told
    together."""
    moved = [pair for pair in kept if _distance(pair)]
    for _, row in groupby(moved, _distance):
        pairs = list(row)
        one, other = pairs[0]
        last = _called(pairs[-1][0]) if len(pairs) > 1 else ""
        places = place(one, within.old), place(other, within.new)
        yield Detail("member moved", within.path + _called(one), *places, last, len(pairs))


def _distance(pair: tuple[Member, Member]) -> int:
    return pair[1].bit_offset - pair[0].bit_offset


def _called(member: Member) -> str:
    return member.name or f"anonymous {kinds.KEYWORDS.get(member.type.kind, 'member')}"


# -- enums, prototypes


def _enums(old: AnyEnum, new: AnyEnum) -> Iterator[Detail]:
    yield from _sizes(old, new)
    before = {value.name: value.value for value in old.values}
    after = {value.name: value.value for value in new.values}
    for name in before.keys() - after.keys():
        yield Detail("enumerator removed", name, str(before[name]), "")
    for name, value in after.items():
        if name not in before:
            yield Detail("enumerator added", name, "", str(value))
    for name, value in before.items():
        if name in after and after[name] != value:
            yield Detail("enumerator value", name, str(value), str(after[name]))


def _prototypes(old: Type, new: Type, sides: Sides) -> Iterator[Detail]:
    if not isinstance(old, FuncProto) or not isinstance(new, FuncProto):
        return
    if not sides.alike(old.type_id, new.type_id):
        yield Detail("returns", "", f"`{c_text(old.type)}`", f"`{c_text(new.type)}`")
    ours, theirs = _parameters(old), _parameters(new)
    keys = [
        [side.spelled(param.type_id) for param in proto.params] + [b"..."] * proto.is_variadic
        for proto, side in ((old, sides.old), (new, sides.new))
    ]
    for tag, i, end, j, stop in SequenceMatcher(None, keys[0], keys[1], False).get_opcodes():
        if tag == "equal":
            continue
        for number, (one, other) in enumerate(zip_longest(ours[i:end], theirs[j:stop]), 1):
            what = "removed" if other is None else "added" if one is None else "retyped"
            at = number + (i if other is None else j)
            yield Detail(f"parameter {what}", str(at), one or "", other or "")


def _parameters(found: FuncProto) -> list[str]:
    texts = [f"`{c_text(param.type)}`" for param in found.params]
    return [*texts, "`...`"] if found.is_variadic else texts


# -- what embeds a change


def _embedded(
    old: SideOfDiff, new: SideOfDiff, before: Sequence[Type], after: Sequence[Type]
) -> list[Detail]:
    """The types that a type embeds, by value, and that changed themselves: nearest first."""
    found: dict[str, Detail] = {}
    seen: set[tuple[int, int]] = set()
    todo = deque(zip(before, after, strict=False))
    while todo and len(seen) < _MAX_EMBEDDED:
        one, other = todo.popleft()
        if (one.id, other.id) in seen or old.layout(one.id) == new.layout(other.id):
            continue
        seen.add((one.id, other.id))
        named = one.name and one.kind in KINDS and one.kind not in (kinds.FUNC, kinds.VAR)
        if named and old.declaration(one.id) != new.declaration(other.id):
            found.setdefault(spell(one), Detail("embeds", _tagged(one), "", ""))
            continue
        inner = list(zip(by_value(one), by_value(other), strict=False))
        if not inner:  # an integer, a pointer
            found.setdefault(spell(one), Detail("embeds", c_text(one), "", ""))
        todo.extend(inner)
    return list(found.values())


def _tagged(found: Type) -> str:
    return f"typedef {found.name}" if found.kind == kinds.TYPEDEF else spell(found)


def by_value(found: Type) -> list[Type]:
    """What a type embeds, in the order of its record."""
    if isinstance(found, Composite):
        return [member.type for member in found.members]
    if isinstance(found, FuncProto):
        return [found.type, *(param.type for param in found.params)]
    if isinstance(found, (Array, Reference)) and found.kind != kinds.PTR:
        return [found.type]
    return []
