"""One member of a struct or union by its path, ``pid`` or ``se.load``, and what changed in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .detail import Detail, bits_text, place_text
from .details import Sides, embeds
from .rows import QUALIFYING, MemberRow, Rows
from .spelled import declared


class FoundMember(NamedTuple):
    """A member of a type, or of what that holds by value.

    path   as it was asked for
    row    of the table ``members``, with its bit offset from the beginning of the outermost type
    layout fingerprint of its type's layout
    """

    path: str
    row: MemberRow
    layout: bytes

    @property
    def declaration(self) -> tuple[str, int, int]:
        """What the outermost type's declaration would say of it, were all written out there."""
        return self.row.type, self.row.bit_offset, self.row.bitfield_size

    @property
    def text(self) -> str:
        """Its declaration, and where it lies."""
        bits = f" : {self.row.bitfield_size}" if self.row.bitfield_size else ""
        return f"`{declared(self.row.type, self.path)}{bits}` at {_place(self.row)}"


def find_member(rows: Rows, type_id: int, path: str) -> FoundMember | None:
    """Find a member of a struct or union, through anonymous ones; None where there is none."""
    name, _, rest = path.partition(".")
    composite = _composite(rows, type_id)
    row = _named(rows, composite, name) if composite is not None else None
    if row is None:
        return None
    if not rest:
        return FoundMember(path, row, rows.type(row.type_global_id).layout_fingerprint)
    inner = find_member(rows, row.type_global_id, rest)
    if inner is None:
        return None
    place = row.bit_offset + inner.row.bit_offset
    return FoundMember(path, inner.row._replace(bit_offset=place), inner.layout)


def _composite(rows: Rows, type_id: int) -> int | None:
    """The struct or union behind names, qualifiers and lengths of arrays."""
    return rows.composites([type_id], (*QUALIFYING, "ARRAY")).get(type_id)


def _named(rows: Rows, type_id: int, name: str) -> MemberRow | None:
    """A member by its name, with its bit offset in this type."""
    return next((member for member in rows.flat_members(type_id) if member.name == name), None)


def _place(row: MemberRow) -> str:
    return place_text(row.bit_offset, row.bitfield_size)


def member_names(rows: Rows, type_id: int) -> list[str]:
    """Names of a struct's or union's members, through anonymous ones."""
    composite = _composite(rows, type_id)
    return [] if composite is None else [member.name for member in rows.flat_members(composite)]


def member_details(old: FoundMember, new: FoundMember, sides: Sides) -> Iterator[Detail]:
    """What changed in a member; if its declaration did not, what it embeds that did."""
    one, other = old.row, new.row
    if one.type != other.type:
        yield Detail("member retyped", old.path, f"`{one.type}`", f"`{other.type}`")
    if one.bitfield_size != other.bitfield_size:
        yield Detail(
            "bit field", old.path, bits_text(one.bitfield_size), bits_text(other.bitfield_size)
        )
    if one.bit_offset != other.bit_offset:
        yield Detail("member moved", old.path, _place(one), _place(other))
    if one.type == other.type and old.layout != new.layout:
        yield from embeds([one.type_global_id], [other.type_global_id], sides)
