"""How a compiler lays out the structs that the C dump writes, and what makes it lay them out right.

BTF gives offsets and sizes, not the attributes that led to them. The planner therefore plays the
compiler: it walks the members as the compiler would place them and adds what is missing, explicit
padding where a member or the end comes later than natural alignment puts it, ``packed`` where one
comes earlier. A struct that no C declaration gives (members that overlap, a member of a type
without a size) is *opaque*: an array of bytes of its size, and the reason in a comment.

Alignment that was asked for by attribute is not in BTF and is not guessed. What it did to offsets
and sizes is kept by padding, so containers come out right as well.

Compilers do not all align scalars larger than a pointer alike: to their size, or as a pointer. BTF
does not say which, and BPF's compiler, which reads the headers of every machine, need not agree
with the kernel's. What is written is therefore laid out the same by both, except on 64-bit
little-endian machines, where all agree: ``packed`` where the larger alignment does not fit, padding
where the smaller would not do.

Bit-fields follow the rules of the System V ABIs (GCC's PCC_BITFIELD_TYPE_MATTERS): a field does
not cross a boundary of its type; in packed structs it follows the one before, whatever its type.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..format import kinds
from ..format.kinds import COMPOSITES, ENUMS
from .c_names import is_integer, scalar_align, spelling, stand_in
from .c_types import ENUM_SIZES, MemberRecord, TypeTable

# More lines of padding than this become one array of bytes.
MAX_PADDING_LINES = 8


@dataclass(frozen=True)
class Padding:
    """``kind: bits;`` or, with ``count``, ``unsigned char __pad_AT[count];`` (AT in bytes)."""

    unit: str
    bits: int = 0
    at: int = 0
    count: int = 0


@dataclass
class StructLayout:
    """What to write between the braces of a struct or union, and after them.

    items   members (by index, in order) and padding
    align   the alignment in bytes that the result has in C
    opaque  why no C declaration gives this layout, or ""
    """

    align: int = 1
    packed: bool = False
    opaque: str = ""
    items: list[tuple[int, MemberRecord] | Padding] = field(default_factory=list)


class _Misfit(Exception):
    """The members do not fit at their offsets without ``packed``, or not at all."""


class Planner:
    """Layouts by type id, made once each, inner ones first."""

    def __init__(self, types: TypeTable) -> None:
        self._types = types
        self._layouts: dict[int, StructLayout] = {}
        agreed = types.pointer_size == 8 and not types.big_endian
        self._least_align = 16 if agreed else types.pointer_size  # of what may have a larger one
        self._units = [(8, "char"), (16, "short"), (32, "int")]
        if types.pointer_size == 8:
            self._units.append((64, "long"))

    def layout(self, type_id: int) -> StructLayout:
        """Return the layout of a struct or union. Raises BtfError for one that contains itself."""
        # Depth first, without recursion: what a struct embeds comes before the struct itself.
        stack, open_ids = [type_id], set[int]()
        while type_id not in self._layouts:
            top = stack[-1]
            missing = [] if top in self._layouts else self._missing(top)
            if not missing:
                if top not in self._layouts:
                    self._layouts[top] = self._plan(top)
                stack.pop()
                open_ids.discard(top)
            elif top in open_ids:
                name = self._types.name(top) or "an anonymous type"
                raise self._types.error(f"{name} contains itself: C has no such type", top)
            else:
                open_ids.add(top)
                stack += missing
        return self._layouts[type_id]

    def _missing(self, type_id: int) -> list[int]:
        """Return the structs and unions that one embeds and that have no layout yet."""
        embedded = [self._types.element(m.type_id) for m in self._types.members(type_id)]
        return [
            found
            for found in dict.fromkeys(embedded)
            if self._types.kind(found) in COMPOSITES and found not in self._layouts
        ]

    def _align(self, element: int) -> int:
        """Return the alignment in bytes, in C as we write it, of what is no array, modifier or name
        and has a size.

        It is the largest that a compiler gives it.
        """
        kind = self._types.kind(element)
        if kind == kinds.PTR:
            return self._types.pointer_size
        if kind in COMPOSITES:
            return self.layout(element).align
        return scalar_align(self._types, element)

    def _plan(self, type_id: int) -> StructLayout:
        size = self._types.defined_size(type_id)
        members = self._types.members(type_id)
        elements = [self._types.element(member.type_id) for member in members]
        sizes = [self._types.size(member.type_id) for member in members]
        layout = StructLayout(opaque=self._impossible(members, elements, sizes))
        if layout.opaque:
            return layout
        plan = self._union if self._types.kind(type_id) == kinds.UNION else self._struct
        bits = [8 * (own or 0) for own in sizes]
        aligns = [8 * self._align(element) for element in elements]
        for packed in (False, True):
            try:
                used = [8] * len(members) if packed else aligns
                return plan(members, bits, used, size, packed)
            except _Misfit as misfit:
                layout.opaque = str(misfit)
        return layout

    def _impossible(
        self, members: list[MemberRecord], elements: list[int], sizes: list[int | None]
    ) -> str:
        """Return why no struct can have these members, or ""."""
        for member, element, size in zip(members, elements, sizes, strict=True):
            reason = ""
            if size is None:
                reason = "is of a type without a size"
            elif self._types.kind(element) in ENUMS and (
                self._types.third(element) not in ENUM_SIZES
            ):
                reason = f"is an enum of {self._types.third(element)} bytes"
            elif member.bits:
                width = self._width(self._types.strip(member.type_id))
                if not width:
                    reason = "is a bit-field, but no integer"
                elif member.bits > width:
                    reason = f"has {member.bits} bits, more than its type"
            elif member.bit_offset % 8:
                reason = "is no bit-field, but begins inside a byte"
            if reason:
                return f"{self._types.names[member.name_off] or 'a member'} {reason}"
        return ""

    def _width(self, type_id: int) -> int:
        """Return the most bits that a bit-field of a type can have in C; 0 if there can be none."""
        if self._types.kind(type_id) in ENUMS:
            return 8 * self._types.third(type_id)
        if self._types.kind(type_id) != kinds.INT:
            return 0
        words = spelling(self._types, type_id) or stand_in(self._types, type_id)
        return 1 if words == "_Bool" else 8 * self._types.third(type_id) * is_integer(words)

    def _struct(
        self, members: list[MemberRecord], bits: list[int], aligns: list[int], size: int,
        packed: bool,
    ) -> StructLayout:  # fmt: skip
        """Lay out a struct of ``size`` bytes, with sizes and alignments of members in bits."""
        layout = StructLayout(align=max(aligns, default=8) // 8, packed=packed)
        order = sorted(range(len(members)), key=lambda i: members[i].bit_offset)
        at = 0  # in bits: where the compiler is
        for index in order:
            member, align = members[index], aligns[index]
            least = min(align, 8 * self._least_align)
            wanted = member.bit_offset
            if member.bits:
                natural = _place_bits(at, member.bits, bits[index], least, packed)
                if _place_bits(wanted, member.bits, bits[index], align, packed) != wanted:
                    raise _Misfit("a bit-field crosses a boundary of its type")
            else:
                natural = _up(at, least)
                if wanted % align:
                    raise _Misfit("a member is not aligned")
            if natural > wanted:
                raise _Misfit("members overlap")
            if natural < wanted:
                layout.items += self._pad(at, wanted, layout)
            layout.items.append((index, member))
            at = wanted + (member.bits or bits[index])
        natural = self._whole(at, size, layout.align)
        if natural < 8 * size:
            layout.items += self._pad(at, 8 * size, layout)
        return layout

    def _union(
        self, members: list[MemberRecord], bits: list[int], aligns: list[int], size: int,
        packed: bool,
    ) -> StructLayout:  # fmt: skip
        """As ``_struct``."""
        if any(member.bit_offset for member in members):
            raise _Misfit("a member of the union does not begin where the union does")
        layout = StructLayout(align=max(aligns, default=8) // 8, packed=packed)
        layout.items += enumerate(members)
        end = max((m.bits or own for m, own in zip(members, bits, strict=True)), default=0)
        if self._whole(end, size, layout.align) < 8 * size:
            layout.items.append(Padding("char", at=0, count=size))
        return layout

    def _whole(self, end: int, size: int, align: int) -> int:
        """The bits that the compiler makes of members ending at bit ``end``: at most those of
        size."""
        if size % align:
            raise _Misfit("the size is no multiple of the alignment")
        if end > 8 * size:
            raise _Misfit("the members need more than the size of the whole")
        return _up(end, 8 * min(align, self._least_align))

    def _pad(self, at: int, end: int, layout: StructLayout) -> list[Padding]:
        """Fill the bits from ``at`` to ``end``.

        Units are no larger than the struct's alignment: some ABIs (arm, arm64) let unnamed
        bit-fields align the struct that they are in.
        """
        limit = 64 if layout.packed else 8 * min(layout.align, self._least_align)
        units = [unit for unit in self._units if unit[0] <= limit]
        lines = []
        start = at
        few = end - at <= MAX_PADDING_LINES * units[-1][0]
        while few and at < end:
            for bits, unit in units:
                if (end - 1) // bits == at // bits:
                    break
            stop = min(end, _up(at + 1, bits))
            lines.append(Padding(unit, stop - at))
            at = stop
        if few and len(lines) <= MAX_PADDING_LINES:
            return lines
        first, last = _up(start, 8), end // 8 * 8
        head = [Padding("char", first - start)] if first > start else []
        tail = [Padding("char", end - last)] if end > last else []
        return [*head, Padding("char", at=first // 8, count=(last - first) // 8), *tail]


def _place_bits(at: int, bits: int, type_bits: int, align: int, packed: bool) -> int:
    """Return where the compiler puts a bit-field when it is at bit ``at``."""
    if packed:
        return at
    units = (at % align + bits + align - 1) // align
    return at if units * align <= type_bits else _up(at, align)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
