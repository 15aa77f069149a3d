"""A change in C's terms: ``member added: `int cpu` at 16``, ``parameter 2: `int` → `long```."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby, islice, zip_longest
from typing import NamedTuple

from .compare import ADDED, CHANGED, EMBEDDED, REMOVED, Change
from .embedded import MAX_EMBEDDED, Embedding, Pair
from .names import KINDS
from .rows import VOID, MemberRow, Rows, TypeRow
from .spelled import ANONYMOUS, CUT, declared, written_out

MAX_DETAILS = 10_000  # of one name
_MAX_NESTED = 8
_COMPOSITES = ("STRUCT", "UNION")
_ENUMS = ("ENUM", "ENUM64")


class Detail(NamedTuple):
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

    def facts(self) -> dict[str, str | int]:
        """All fields, and ``text``."""
        return {
            "what": self.what,
            "subject": self.subject,
            "old": self.old,
            "new": self.new,
            "until": self.until,
            "members": self.members,
            "text": self.text,
        }

    @property
    def text(self) -> str:
        """The same as words."""
        if self.what == "order":
            return f"members{f' of `{self.subject}`' if self.subject else ''} in another order"
        if self.what == "enumerator order":
            return "enumerators in another order"
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


def details(changes: Sequence[Change], old: Rows, new: Rows) -> list[list[Detail]]:
    """What changed in each of some names; of those that were added or removed, what they declare.

    old, new  where the types of the changes are found
    """
    # What is the same change in many modules is looked at once.
    keys = [change.same if change.same >= 0 else ~at for at, change in enumerate(changes)]
    once = dict(zip(keys, changes, strict=True))
    embedded = [one for one in once.values() if one.change == EMBEDDED]
    others = [one for one in once.values() if one.change != EMBEDDED]
    _look_up(old, [(change.change, change.old_ids) for change in others])
    _look_up(new, [(change.change, change.new_ids) for change in others])
    sides = Sides(old, new)
    sides.embedding.look(
        pair for one in embedded for pair in zip(one.old_ids, one.new_ids, strict=False)
    )
    old.types(pair[0] for pair in sides.embedding.changed)
    found = {key: _of_change(change, sides) for key, change in once.items()}
    return [found[key] for key in keys]


def _of_change(change: Change, sides: Sides) -> list[Detail]:
    if change.change == REMOVED and len(change.old_ids) == 1:
        return [_removed(sides.old.type(change.old_ids[0]), sides)]
    if change.change == ADDED and len(change.new_ids) == 1:
        return [_added(sides.new.type(change.new_ids[0]), sides)]
    return list(islice(_details(change, sides), MAX_DETAILS))


def _removed(found: TypeRow, sides: Sides) -> Detail:
    return Detail("declaration removed", "", declaration(found, sides.old), "")


def _added(found: TypeRow, sides: Sides) -> Detail:
    return Detail("declaration added", "", "", declaration(found, sides.new))


def _look_up(rows: Rows, changes: Sequence[tuple[str, Sequence[int]]]) -> None:
    """Read all at once what nearly all details are made of; the rest is read when it is needed."""
    found = rows.types(type_id for _, ids in changes for type_id in ids)
    named = [found[type_id] for _, ids in changes for type_id in ids]
    changed = [found[type_id] for change, ids in changes if change == CHANGED for type_id in ids]
    typedefs = (one for one in named if one.kind == "TYPEDEF")
    rows.types(one.target_global_id for one in (*changed, *typedefs))
    targets = [(one.kind, found[one.target_global_id]) for one in changed]
    protos = [target for kind, target in targets if kind == "FUNC"]
    rows.types(target.target_global_id for target in protos)
    have_members = (*_COMPOSITES, *_ENUMS)
    inner = [one.global_id for one in changed if one.kind in have_members]
    inner += [target.global_id for _, target in targets if target.kind in have_members]
    members, written = rows.members([*(target.global_id for target in protos), *inner]), set()
    for _ in range(_MAX_NESTED):
        inner = [
            member.type_global_id
            for type_id in inner
            for member in members[type_id]
            if member.type.startswith(ANONYMOUS) and written_out(member.type)
        ]
        if not inner:
            break
        rows.members(inner)
        written.update(inner)
    rows.types(written)


class Sides:
    """The two kernels that are compared, and how what they embed differs."""

    def __init__(self, old: Rows, new: Rows) -> None:
        self.old, self.new = old, new
        self.embedding = Embedding(old, new)

    def alike(self, one: MemberRow, other: MemberRow) -> bool:
        """Whether the types of two members are spelled alike."""
        if one.type != other.type or not one.type.endswith(CUT):
            return one.type == other.type
        ours, theirs = self.old.type(one.type_global_id), self.new.type(other.type_global_id)
        return ours.declaration_fingerprint == theirs.declaration_fingerprint


def _details(change: Change, sides: Sides) -> Iterator[Detail]:
    if change.change == EMBEDDED:
        yield from embeds(change.old_ids, change.new_ids, sides)
        return
    before = [sides.old.type(type_id) for type_id in change.old_ids]
    after = [sides.new.type(type_id) for type_id in change.new_ids]
    ours, theirs = _lacking(before, after), _lacking(after, before)
    if len(ours) == len(theirs) == 1:
        told = False
        for detail in _differences(ours[0], theirs[0], sides):
            yield detail
            told = True
        if told:
            return  # else they differ in what C cannot spell, such as a member that is a section
    yield from (_removed(found, sides) for found in ours)
    yield from (_added(found, sides) for found in theirs)


def _lacking(types: Sequence[TypeRow], others: Sequence[TypeRow]) -> list[TypeRow]:
    """One type of each declaration that ``others`` lack."""
    theirs = {found.declaration_fingerprint for found in others}
    ours = {found.declaration_fingerprint: found for found in reversed(types)}
    return [found for key, found in reversed(ours.items()) if key not in theirs]


def declaration(found: TypeRow, rows: Rows) -> str:
    """A named type on one line: with its size where it has one."""
    if found.kind in (*_COMPOSITES, *_ENUMS):
        what = "values" if found.kind in _ENUMS else "members"
        return f"`{found.spelling}` of {found.size} bytes, {what}: {found.vlen}"
    if found.kind == "TYPEDEF":
        return f"`{declared(rows.type(found.target_global_id).spelling, found.name)}`"
    return f"`{found.spelling}`"


def _differences(old: TypeRow, new: TypeRow, sides: Sides) -> Iterator[Detail]:
    if old.kind in _COMPOSITES:
        yield from _sizes(old, new)
        yield from _composites(old, new, sides)
    elif old.kind in _ENUMS:
        yield from _sizes(old, new)
        yield from _enums(sides.old.members_of(old.global_id), sides.new.members_of(new.global_id))
    else:
        ours, theirs = (
            rows.type(found.target_global_id)
            for rows, found in ((sides.old, old), (sides.new, new))
        )
        if ours.kind == theirs.kind == "FUNC_PROTO" and old.kind == "FUNC":
            yield from _prototypes(ours, theirs, sides)
        elif written_out(ours.spelling) and _keyword(ours) == _keyword(theirs):
            yield from _differences(ours, theirs, sides)
        else:
            yield Detail("target", "", f"`{ours.spelling}`", f"`{theirs.spelling}`")


def _keyword(found: TypeRow) -> str | None:
    """What C calls a struct, union or enum without a name; None for all else."""
    return None if found.name else KINDS.get(found.kind)


def _sizes(old: TypeRow, new: TypeRow) -> Iterator[Detail]:
    if old.size != new.size:
        yield Detail("size", "", f"{old.size}", f"{new.size} bytes")


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

    def inside(self, one: MemberRow, other: MemberRow) -> Within:
        """The members of a member."""
        path = f"{self.path}{one.name}." if one.name else self.path
        old, new = self.old + one.bit_offset, self.new + other.bit_offset
        return Within(path, old, new, self.depth + 1)


_WHOLE = Within()


def place(member: MemberRow, outer: int = 0) -> str:
    """Where a member lies: ``16``, of what begins inside a byte ``16:3``; ``outer`` is the bit
    offset of the type that it is a member of."""
    whole, bits = divmod(outer + member.bit_offset, 8)
    return f"{whole}:{bits}" if bits or member.bitfield_size else str(whole)


def _text(member: MemberRow, path: str) -> str:
    bits = f" : {member.bitfield_size}" if member.bitfield_size else ""
    return f"`{declared(member.type, path + member.name)}{bits}`"


Matched = tuple[MemberRow | None, MemberRow | None]


def _alike(old: Sequence[MemberRow], new: Sequence[MemberRow]) -> int:
    """How many members, from the first on, match one another in their order, as most do."""
    alike = 0
    for one, other in zip(old, new, strict=False):
        if one.name != other.name or (not one.name and one.type != other.type):
            break
        alike += 1
    return alike


def _matched(old: Sequence[MemberRow], new: Sequence[MemberRow]) -> list[Matched]:
    """Members of one name; those without a name by their type's spelling, then in their order. In
    the order of the old ones, then those that only the new ones have."""
    pairs: list[list[MemberRow | None]] = []
    after: dict[tuple[str, str], list[MemberRow]] = {}
    for member in new:
        after.setdefault(_key(member), []).append(member)
    for member in old:
        same = after.get(_key(member))
        pairs.append([member, same.pop(0) if same else None])
    left = {id(member): member for members in after.values() for member in members}
    unnamed = deque(member for member in new if id(member) in left and not member.name)
    for pair in pairs:
        if pair[0] is not None and not pair[0].name and pair[1] is None and unnamed:
            pair[1] = unnamed.popleft()
            del left[id(pair[1])]
    return [*((one, other) for one, other in pairs), *((None, member) for member in left.values())]


def _key(member: MemberRow) -> tuple[str, str]:
    return (member.name, "") if member.name else ("", member.type)


def _composites(
    old: TypeRow, new: TypeRow, sides: Sides, within: Within = _WHOLE
) -> Iterator[Detail]:
    path = within.path
    before, after = sides.old.members_of(old.global_id), sides.new.members_of(new.global_id)
    alike = _alike(before, after)
    pairs = _matched(before[alike:], after[alike:])
    for one, other in pairs:
        if one is not None and other is None:
            text = f"{_text(one, path)} at {place(one, within.old)}"
            yield Detail("member removed", path + one.name, text, "")
        if one is None and other is not None:
            text = f"{_text(other, path)} at {place(other, within.new)}"
            yield Detail("member added", path + other.name, "", text)
    rest = [(one, other) for one, other in pairs if one is not None and other is not None]
    kept = [
        (one, other)
        for one, other in zip(before[:alike], after, strict=False)
        if one.bit_offset != other.bit_offset
        or one.bitfield_size != other.bitfield_size
        or not sides.alike(one, other)
    ]
    kept += rest
    for one, other in kept:
        if not sides.alike(one, other):
            yield from _retyped(one, other, sides, within)
        if one.bitfield_size != other.bitfield_size:
            yield Detail("bit field", path + _called(one), bits_of(one), bits_of(other))
    yield from _moved(kept, within)
    if _reordered(rest, after):
        yield Detail("order", path.rstrip("."), "", "")


def _reordered(kept: Sequence[tuple[MemberRow, MemberRow]], after: Sequence[MemberRow]) -> bool:
    """Whether members of both stand in another order in ``after``."""
    if len(kept) < 2:
        return False
    position = {id(member): at for at, member in enumerate(after)}
    order = [position[id(other)] for _, other in kept]
    return order != sorted(order)


def _retyped(one: MemberRow, other: MemberRow, sides: Sides, within: Within) -> Iterator[Detail]:
    """A member of another type; of a type that is written out, what changed in it."""
    word = written_out(one.type)
    if word and word == written_out(other.type) and within.depth < _MAX_NESTED:
        first = sides.old.type(one.type_global_id)
        second = sides.new.type(other.type_global_id)
        if word == "enum":
            ours = sides.old.members_of(first.global_id)
            yield from _enums(ours, sides.new.members_of(second.global_id))
        else:
            yield from _composites(first, second, sides, within.inside(one, other))
        return
    texts = f"`{one.type}`", f"`{other.type}`"
    yield Detail("member retyped", within.path + _called(one), *texts)


def bits_of(member: MemberRow) -> str:
    bits = member.bitfield_size
    return f"{bits} bit{'s' * (bits > 1)}" if bits else "no bit field"


def _moved(kept: Sequence[tuple[MemberRow, MemberRow]], within: Within) -> Iterator[Detail]:
    """Members that lie elsewhere in their type; those in a row that moved by the same are told
    together."""
    moved = [pair for pair in kept if _distance(pair)]
    for _, row in groupby(moved, _distance):
        pairs = list(row)
        one, other = pairs[0]
        last = _called(pairs[-1][0]) if len(pairs) > 1 else ""
        places = place(one, within.old), place(other, within.new)
        yield Detail("member moved", within.path + _called(one), *places, last, len(pairs))


def _distance(pair: tuple[MemberRow, MemberRow]) -> int:
    return pair[1].bit_offset - pair[0].bit_offset


def _called(member: MemberRow) -> str:
    return member.name or f"anonymous {written_out(member.type) or 'member'}"


# -- enums, prototypes


def _enums(old: Sequence[MemberRow], new: Sequence[MemberRow]) -> Iterator[Detail]:
    alike = _alike(old, new)
    pairs = _matched(old[alike:], new[alike:])
    for one, other in pairs:
        if one is not None and other is None:
            yield Detail("enumerator removed", one.name, str(one.value), "")
    for one, other in pairs:
        if one is None and other is not None:
            yield Detail("enumerator added", other.name, "", str(other.value))
    rest = [(one, other) for one, other in pairs if one is not None and other is not None]
    for one, other in (*zip(old[:alike], new, strict=False), *rest):
        if one.value != other.value:
            yield Detail("enumerator value", one.name, str(one.value), str(other.value))
    if _reordered(rest, new):
        yield Detail("enumerator order", "", "", "")


def _prototypes(old: TypeRow, new: TypeRow, sides: Sides) -> Iterator[Detail]:
    one = sides.old.type(old.target_global_id).spelling
    other = sides.new.type(new.target_global_id).spelling
    if one != other:
        yield Detail("returns", "", f"`{one}`", f"`{other}`")
    ours = _parameters(sides.old.members_of(old.global_id))
    theirs = _parameters(sides.new.members_of(new.global_id))
    # What is alike before and behind stays in its place, also where a neighbour is alike.
    first = _equal_first(ours, theirs)
    last = _equal_first(ours[first:][::-1], theirs[first:][::-1])
    ours, theirs = ours[first : len(ours) - last], theirs[first : len(theirs) - last]
    ways: Sequence[tuple[str, int, int, int, int]] = [("replace", 0, len(ours), 0, len(theirs))]
    if ours and theirs and len(ours) + len(theirs) > 2:
        ways = SequenceMatcher(None, ours, theirs, False).get_opcodes()
    for tag, i, end, j, stop in ways:
        if tag == "equal":
            continue
        for number, (before, after) in enumerate(zip_longest(ours[i:end], theirs[j:stop]), 1):
            what = "removed" if after is None else "added" if before is None else "retyped"
            at = first + number + (i if after is None else j)
            was, now = ("" if text is None else f"`{text}`" for text in (before, after))
            yield Detail(f"parameter {what}", str(at), was, now)


def _equal_first(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many texts, from the first on, are equal."""
    for at, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return at
    return min(len(ours), len(theirs))


def _parameters(members: Sequence[MemberRow]) -> list[str]:
    texts = [member.type for member in members]
    if members and members[-1].type_global_id == VOID and not members[-1].name:
        texts[-1] = "..."
    return texts


# -- what embeds a change


def embeds(before: Sequence[int], after: Sequence[int], sides: Sides) -> Iterator[Detail]:
    """The types that types embed, by value, and that changed themselves: nearest first.

    before, after  ids of types of OLD, and of those of NEW that they are compared with
    """
    found: set[str] = set()
    seen: set[Pair] = set()
    todo = deque(zip(before, after, strict=False))
    while todo and len(seen) < MAX_EMBEDDED:
        pair = todo.popleft()
        if pair in seen:
            continue
        seen.add(pair)
        inner = sides.embedding.inside(pair)
        if inner is None:
            one = sides.old.type(pair[0])
            word = "typedef " if one.kind == "TYPEDEF" else ""
            text = f"{word}{one.spelling}"
            if text not in found:
                found.add(text)
                yield Detail("embeds", text, "", "")
        else:
            todo.extend(inner)
