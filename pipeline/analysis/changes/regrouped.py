"""Members that another anonymous struct or union holds now, or none, or that one held no longer.

To C they are members of the type around it as before: they are not gone, but at most moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from .detail import Detail, bits_text, place_text

if TYPE_CHECKING:
    from .rows import Rows

_MAX_MEMBERS = 200_000  # of anonymous structs and unions that are looked into


class Gone(NamedTuple):
    """A member that only one side has in the type at hand.

    detail      what is told of it
    of_new      whether that side is NEW
    path        what C says before its name; that of the type it is in
    name        empty if it has none
    type        how C spells its type, and
    type_id     the global id of that
    bit_offset  from the beginning of what was asked about
    bits        of a bit field, or 0
    """

    detail: Detail
    of_new: bool
    path: str
    name: str
    type: str
    type_id: int
    bit_offset: int
    bits: int


def details_of(
    found: Sequence[Sequence[Detail | Gone]], sides: tuple[Rows, Rows]
) -> list[list[Detail]]:
    """Of several types, what is told of each in the end. Raises OutputError.

    found  of each what changed
    sides  OLD and NEW
    """
    some = []  # in which a member may be on both sides
    for number, one in enumerate(found):
        gone = [entry for entry in one if isinstance(entry, Gone)]
        if any(entry.of_new for entry in gone) and not all(entry.of_new for entry in gone):
            some.append((number, gone))
    inside = _look_into([entry for _, gone in some for entry in gone if not entry.name], sides)
    instead: dict[int, list[Detail]] = {}  # of a Gone, by its identity
    for _, gone in some:
        instead.update(_regrouped(gone, inside))
    return [
        [
            detail
            for entry in one
            for detail in (
                instead.get(id(entry), [entry.detail]) if isinstance(entry, Gone) else [entry]
            )
        ]
        for one in found
    ]


def _look_into(anonymous: Sequence[Gone], sides: tuple[Rows, Rows]) -> dict[int, list[Gone]]:
    """The members with names of anonymous structs and unions, by the identity of each."""
    found: dict[int, list[Gone]] = {id(one): [] for one in anonymous}
    composites: list[tuple[Gone, int]] = []
    for number, rows in enumerate(sides):  # together: one by one takes longer
        ours = [one for one in anonymous if one.of_new == bool(number)]
        inside = rows.seen_through((one.type, one.type_id) for one in ours)
        some = [(one, to) for one, to in zip(ours, inside, strict=True) if to is not None]
        rows.look_up_flat(inner for _, inner in some)
        composites += some
    left = _MAX_MEMBERS
    for one, inner in composites:
        members = found[id(one)]
        for member in islice(sides[one.of_new].flat_members(inner), left):
            place = one.bit_offset + member.bit_offset
            members.append(
                one._replace(
                    name=member.name,
                    type=member.type,
                    type_id=member.type_global_id,
                    bit_offset=place,
                    bits=member.bitfield_size,
                )
            )
        left -= len(members)
    return found


def _regrouped(
    gone: Sequence[Gone], inside: Mapping[int, Sequence[Gone]]
) -> Iterator[tuple[int, list[Detail]]]:
    """Of those members of a type that are told otherwise: the identity of each, and what is."""
    sides: tuple[dict[str, tuple[Gone, Gone]], ...] = {}, {}
    for entry in gone:
        for member in (entry,) if entry.name else inside[id(entry)]:
            sides[entry.of_new].setdefault(member.path + member.name, (entry, member))
    more: dict[int, list[Detail]] = {}
    for name, (owner, old) in sides[False].items():
        if name not in sides[True]:
            continue
        other, new = sides[True][name]
        told = list(_differences(name, old, new))
        if owner.name:
            yield id(owner), told
            told = []
        if other.name:
            yield id(other), told
        elif told:
            more.setdefault(id(owner), [owner.detail]).extend(told)
    yield from more.items()


def _differences(name: str, old: Gone, new: Gone) -> Iterator[Detail]:
    if old.type != new.type:
        yield Detail("member retyped", name, f"`{old.type}`", f"`{new.type}`")
    if old.bits != new.bits:
        yield Detail("bit field", name, bits_text(old.bits), bits_text(new.bits))
    if old.bit_offset != new.bit_offset:
        places = place_text(old.bit_offset, old.bits), place_text(new.bit_offset, new.bits)
        yield Detail("member moved", name, *places)
