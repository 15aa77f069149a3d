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

``LAYOUT`` of a struct or union is one of the values below, ``OPAQUE`` the name of the text that
says why it is opaque, or 0, and ``CULPRIT`` the member that it is about, from 1, or 0.

Parameters of compiled functions:

d, type_id       ``Tables``, id of a type of any level: see ``c_tables``
number           of a member, from 0
packed           whether the struct is
at               where the compiler is, in bits
bits, type_bits  of a bit-field, and of its type
align, multiple  bits
size             bytes of the whole
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format import kinds
from . import c_names as n
from . import c_tables as t
from .c_tables import fault, is_composite, member_place, size_of, third_of, vlen_of

UNKNOWN, UNDER_WAY, KNOWN = 0, 1, 2
_MOST_BYTES = 1 << 40  # more than any struct has


@inlined
def up(at, multiple):  # type: ignore[no-untyped-def]
    """Return ``at``, rounded up to a multiple."""
    return (at + multiple - 1) // multiple * multiple


@inlined
def is_c_enum(size):  # type: ignore[no-untyped-def]
    """Whether C can give an enum that many bytes."""
    return size == 1 or size == 2 or size == 4 or size == 8


@inlined
def place_bits(at, bits, type_bits, align, packed):  # type: ignore[no-untyped-def]
    """Return where the compiler puts a bit-field."""
    if packed or (at % align + bits + align - 1) // align * align <= type_bits:
        return at
    return up(at, align)


@inlined
def member_bits(d, target):  # type: ignore[no-untyped-def]
    """Bits of a value of type ``target``, which has a size; no more than there can be."""
    return 8 * min(size_of(d, target), np.int64(_MOST_BYTES))


@inlined
def member_align(d, target, packed):  # type: ignore[no-untyped-def]
    """Alignment in bits, in C as we write it, of type ``target``, which has a size: the largest
    that a compiler gives it."""
    if packed:
        return np.int64(8)
    element = np.int64(d.rows[target, t.ELEMENT])
    kind = np.int64(d.rows[element, t.KIND])
    if is_composite(kind) or kinds.is_scalar(kind):
        return 8 * np.int64(d.rows[element, t.ALIGN])
    size = size_of(d, element)
    if kind == kinds.PTR:
        return 8 * size
    return 8 * max(size & -size, np.int64(1))


@inlined
def member_number(d, type_id, place):  # type: ignore[no-untyped-def]
    """Number of the member that stands at ``place``, from 0, when they are in order of offsets."""
    if d.rows[type_id, t.FLAGS] & t.UNSORTED:
        return np.int64(d.order[d.rows[type_id, t.START] + place])
    return place


@noinline
def lay_out(d, root):  # type: ignore[no-untyped-def]
    """Lay out a struct or union, ``root``, and all that it embeds, inner ones first; a fault when
    one contains itself."""
    rows, stack, depth = d.rows, d.spare, 1
    if rows[root, t.LAYOUT] == KNOWN:
        return
    stack[0], stack[1] = root, vlen_of(d, root)
    while depth > 0 and d.state[t.FAULT] == 0:
        top = stack[2 * depth - 2]
        rows[top, t.LAYOUT] = UNDER_WAY
        missing = np.int64(-1)
        number = stack[2 * depth - 1]
        while number > 0 and missing < 0:
            number -= 1
            target, _, _ = member_place(d, top, number)
            element = np.int64(rows[target, t.ELEMENT])
            if is_composite(rows[element, t.KIND]) and rows[element, t.LAYOUT] != KNOWN:
                missing = element
        stack[2 * depth - 1] = number
        if missing < 0:
            _plan(d, top)
            rows[top, t.LAYOUT] = KNOWN
            depth -= 1
        elif rows[missing, t.LAYOUT] == UNDER_WAY:
            fault(d, t.ITSELF, missing, 0)
        else:
            stack[2 * depth], stack[2 * depth + 1] = missing, vlen_of(d, missing)
            depth += 1


@compiled
def _plan(d, type_id):  # type: ignore[no-untyped-def]
    """Fill OPAQUE, CULPRIT, ALIGN and flags of a struct or union whose members are laid out."""
    rows = d.rows
    rows[type_id, t.ALIGN] = 1
    if size_of(d, type_id) < 0:
        fault(d, t.HUGE, type_id, 0)
        return
    for number in range(vlen_of(d, type_id)):
        reason = _impossible(d, type_id, number)
        if reason > 0:
            rows[type_id, t.OPAQUE], rows[type_id, t.CULPRIT] = reason, number + 1
            return
    is_union = rows[type_id, t.KIND] == kinds.UNION
    if not is_union:
        _put_in_order(d, type_id)
    for packed in range(2):
        align = np.int64(8)
        for number in range(vlen_of(d, type_id)):
            target, _, _ = member_place(d, type_id, number)
            align = max(align, member_align(d, target, packed != 0))
        misfit = (
            _union_misfit(d, type_id, align)
            if is_union
            else _struct_misfit(d, type_id, packed != 0, align)
        )
        rows[type_id, t.OPAQUE] = misfit
        if misfit == 0:
            rows[type_id, t.ALIGN] = align // 8
            if packed != 0:
                rows[type_id, t.FLAGS] |= t.PACKED
            return


@compiled
def _impossible(d, type_id, number):  # type: ignore[no-untyped-def]
    """Return why no struct can have a member, as the name of a text, or 0."""
    target, offset, bits = member_place(d, type_id, number)
    element = np.int64(d.rows[target, t.ELEMENT])
    if size_of(d, target) < 0:
        return np.int64(n.SIZELESS)
    if kinds.is_enum(np.int64(d.rows[element, t.KIND])) and not is_c_enum(third_of(d, element)):
        return np.int64(n.IS_ENUM_OF)
    if bits > 0:
        inner = np.int64(d.rows[target, t.STRIP])
        kind, width = np.int64(d.rows[inner, t.KIND]), np.int64(0)
        if kinds.is_enum(kind):
            width = 8 * third_of(d, inner)
        elif kind == kinds.INT:
            width = np.int64(d.rows[inner, t.WIDTH])
        if width == 0:
            return np.int64(n.NO_INTEGER)
        if bits > width:
            return np.int64(n.TOO_MANY_BITS)
    elif offset % 8 != 0:
        return np.int64(n.INSIDE)
    return np.int64(0)


@inlined
def _whole_misfit(d, end, size, align):  # type: ignore[no-untyped-def]
    """Why members that end at bit ``end`` do not make a whole, as the name of a text, or 0."""
    if 8 * size % align != 0:
        return np.int64(n.ODD_SIZE)
    return np.int64(n.TOO_LONG) if end > 8 * size else np.int64(0)


@compiled
def _struct_misfit(d, type_id, packed, align):  # type: ignore[no-untyped-def]
    """Why the members do not fit at their offsets, as the name of a text, or 0."""
    at = np.int64(0)
    for place in range(vlen_of(d, type_id)):
        target, wanted, bits = member_place(d, type_id, member_number(d, type_id, place))
        own, most = member_bits(d, target), member_align(d, target, packed)
        least = min(most, 8 * d.state[t.LEAST])
        if bits > 0:
            natural = place_bits(at, bits, own, least, packed)
            if place_bits(wanted, bits, own, most, packed) != wanted:
                return np.int64(n.CROSSES)
        else:
            natural = up(at, least)
            if wanted % most != 0:
                return np.int64(n.NOT_ALIGNED)
        if natural > wanted:
            return np.int64(n.OVERLAP)
        at = wanted + (bits if bits > 0 else own)
    return _whole_misfit(d, at, third_of(d, type_id), align)


@compiled
def union_end(d, type_id):  # type: ignore[no-untyped-def]
    """Bits of a union's largest member."""
    end = np.int64(0)
    for number in range(vlen_of(d, type_id)):
        target, _, bits = member_place(d, type_id, number)
        end = max(end, bits if bits > 0 else member_bits(d, target))
    return end


@compiled
def _union_misfit(d, type_id, align):  # type: ignore[no-untyped-def]
    """As ``_struct_misfit``, of a union."""
    for number in range(vlen_of(d, type_id)):
        _, offset, _ = member_place(d, type_id, number)
        if offset != 0:
            return np.int64(n.UNION_OFFSET)
    return _whole_misfit(d, union_end(d, type_id), third_of(d, type_id), align)


@compiled
def _put_in_order(d, type_id):  # type: ignore[no-untyped-def]
    """Sort the members by their offsets, stably, if they are not: see ``order``."""
    vlen, sorted_so_far, last = vlen_of(d, type_id), True, np.int64(0)
    for number in range(vlen):
        _, offset, _ = member_place(d, type_id, number)
        sorted_so_far = sorted_so_far and offset >= last
        last = offset
    if sorted_so_far:
        return
    d.rows[type_id, t.FLAGS] |= t.UNSORTED
    first = np.int64(d.rows[type_id, t.START])
    for number in range(vlen):
        d.order[first + number] = number
    width = 1
    while width < vlen:
        _merge_runs(d, type_id, width)
        width *= 2


@compiled
def _merge_runs(d, type_id, width):  # type: ignore[no-untyped-def]
    """Merge each two runs of ``width`` members in order into one."""
    vlen, first = vlen_of(d, type_id), np.int64(d.rows[type_id, t.START])
    for begin in range(0, vlen, 2 * width):
        middle, end = min(begin + width, vlen), min(begin + 2 * width, vlen)
        left, right = begin, middle
        for at in range(begin, end):
            from_right = left >= middle
            if left < middle and right < end:
                _, a, _ = member_place(d, type_id, np.int64(d.order[first + left]))
                _, b, _ = member_place(d, type_id, np.int64(d.order[first + right]))
                from_right = b < a
            if from_right:
                d.merged[at] = d.order[first + right]
                right += 1
            else:
                d.merged[at] = d.order[first + left]
                left += 1
    for at in range(vlen):
        d.order[first + at] = d.merged[at]
