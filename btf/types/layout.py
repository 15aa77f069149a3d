"""Sizes, alignments and what is behind names and modifiers, across base and split BTF.

The rules are libbpf's (``btf__resolve_size``, ``btf__align_of``, ``btf__resolve_type``,
``btf__pointer_size``), without its limits: any depth is followed, sizes are not cut at 32 bits,
and types that contain themselves are told as such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BtfError
from ..format.kinds import INT
from .names import ids_by_name
from .objects import (
    AnyEnum,
    Array,
    Composite,
    Const,
    Datasec,
    DeclTag,
    Float,
    Int,
    Ptr,
    Restrict,
    Typedef,
    TypeTag,
    Var,
    Volatile,
)
from .typebase import Type

if TYPE_CHECKING:
    from .btf import BTF

# Spellings of C's long, whose size is that of a pointer in every data model of the kernel.
_LONGS = (
    "long",
    "long int",
    "int long",
    "unsigned long",
    "long unsigned",
    "unsigned long int",
    "unsigned int long",
    "long unsigned int",
    "long int unsigned",
    "int unsigned long",
    "int long unsigned",
)
_DEFAULT_POINTER_SIZE = 8

_QUALIFIERS = (Const, Volatile, Restrict, TypeTag)
_TRANSPARENT = (*_QUALIFIERS, Typedef)


def resolve(start: Type) -> Type:
    """The type behind typedefs, const, volatile, restrict, type tags and a variable's name.

    Raises BtfError when they refer to each other in a circle.
    """
    return _follow(start, (*_TRANSPARENT, Var))


def size_of(start: Type) -> int:
    """Bytes that a value of this type takes.

    Raises BtfError for what has no size: void, functions, forward declarations.
    """
    count = 1
    seen: set[int] = set()
    found = _follow(start, (*_TRANSPARENT, Var, DeclTag))
    while isinstance(found, Array):
        _not_again(found, seen)
        count *= found.nelems
        found = _follow(found.type, (*_TRANSPARENT, Var, DeclTag))
    if isinstance(found, Ptr):
        return count * start.btf.pointer_size
    if isinstance(found, (Int, Float, AnyEnum, Composite, Datasec)):
        return count * found.size
    raise BtfError(f"{found!r} has no size", start.btf.path, "types", None, start.id)


def align_of(start: Type) -> int:
    """Alignment in bytes, as far as BTF tells: 1 for a struct or union that is laid out as packed.

    Scalars are aligned to their size, but no more than a pointer is. Alignment attributes are not
    part of BTF. Raises BtfError for what has no alignment.
    """
    # Depth first, without recursion: a struct's members come before the struct itself.
    known: dict[int, int] = {}
    open_ids: set[int] = set()
    stack = [_aligned_by(start)]
    while stack:
        top = stack[-1]
        if top.id in known:
            stack.pop()
            continue
        if not isinstance(top, Composite):
            known[top.id] = _scalar_alignment(top, start)
            stack.pop()
            continue
        inner = [_aligned_by(member.type) for member in top.members]
        missing = [found for found in inner if found.id not in known]
        if missing:
            if top.id in open_ids:
                raise BtfError(f"{top!r} contains itself", top.btf.path, "types", None, top.id)
            open_ids.add(top.id)
            stack += missing
            continue
        known[top.id] = _composite_alignment(top, [known[found.id] for found in inner])
        stack.pop()
    return known[_aligned_by(start).id]


def pointer_size(btf: BTF) -> int:
    """Bytes of a pointer: those of ``long``, 4 or 8; 8 when no type tells."""
    found = (btf[i] for name in _LONGS for i in ids_by_name(btf, name, (INT,)))
    sizes = [(t.id, t.size) for t in found if isinstance(t, Int) and t.size in (4, 8)]
    return min(sizes)[1] if sizes else _DEFAULT_POINTER_SIZE


def _aligned_by(start: Type) -> Type:
    """The type that decides the alignment: behind names, modifiers and arrays."""
    seen: set[int] = set()
    found = _follow(start, _TRANSPARENT)
    while isinstance(found, Array):
        _not_again(found, seen)
        found = _follow(found.type, _TRANSPARENT)
    return found


def _scalar_alignment(found: Type, start: Type) -> int:
    if isinstance(found, Ptr):
        return start.btf.pointer_size
    if isinstance(found, (Int, Float, AnyEnum)) and found.size:
        return min(found.size, start.btf.pointer_size)
    raise BtfError(f"{found!r} has no alignment", start.btf.path, "types", None, start.id)


def _composite_alignment(found: Composite, inner: list[int]) -> int:
    for member, align in zip(found.members, inner, strict=True):
        if member.bitfield_size == 0 and member.bit_offset % (8 * align):
            return 1
    largest = max(inner, default=1)
    return 1 if found.size % largest else largest


def _follow(start: Type, through: tuple[type[Type], ...]) -> Type:
    found, seen = start, set[int]()
    while isinstance(found, through):
        _not_again(found, seen)
        found = found.type  # type: ignore[attr-defined]
    return found


def _not_again(found: Type, seen: set[int]) -> None:
    if found.id in seen:
        raise BtfError("refers to itself in a circle", found.btf.path, "types", None, found.id)
    seen.add(found.id)
