"""Sizes, alignments and what is behind names and modifiers, across base and split BTF.

The rules are libbpf's (``btf__resolve_size``, ``btf__align_of``, ``btf__resolve_type``,
``btf__pointer_size``), without its limits: any depth is followed, sizes are not cut at 32 bits,
and types that contain themselves are told as such.

A ``Resolver`` works on type ids, with whatever gives the records of these ids (``Records``): the C
dump has tables of all types, the object view takes one record after another out of a BTF.
``align_of`` is libbpf's guess. What a compiler makes of a struct that is written down again as C is
another question: see ``dump.c_layout``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Set
from itertools import permutations
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..errors import BtfError
from ..format import kinds
from ..format.kinds import TRANSPARENT
from .objects import Composite, Member
from .typebase import Type, locate, type_at

if TYPE_CHECKING:
    from .btf import BTF

# Spellings of C's long, whose size is that of a pointer in every data model of the kernel.
_WORDS_OF_LONG = (("long",), ("long", "int"), ("unsigned", "long"), ("unsigned", "long", "int"))
_LONGS = {" ".join(order).encode() for words in _WORDS_OF_LONG for order in permutations(words)}
DEFAULT_POINTER_SIZE = 8
_SCALARS = kinds.SCALARS | kinds.ENUMS
_RESOLVED = TRANSPARENT | {kinds.VAR}  # what ``resolve`` looks behind
_SIZED_AS_TARGET = _RESOLVED | {kinds.DECL_TAG}

MANY = 1 << 64
"""More elements, or bytes, than can be addressed: counts of arrays in arrays go no further."""
_CIRCLE = -1  # instead of the id of what is behind a type


class Records(Protocol):
    """Records of types by global id; id 0 is void."""

    @property
    def pointer_size(self) -> int:
        """Bytes of a pointer."""

    def head(self, type_id: int) -> tuple[int, int]:
        """Return the kind, and the third word of the record: a size, or the id of another type."""

    def array(self, type_id: int) -> tuple[int, int]:
        """Return the id of the elements' type of an ARRAY, and how many there are."""

    def error(self, message: str, type_id: int) -> BtfError:
        """Make the error to be raised about a type."""


class _RecordsOf:
    """Records out of a BTF and its bases."""

    def __init__(self, btf: BTF) -> None:
        self._btf = btf

    @property
    def pointer_size(self) -> int:
        return self._btf.pointer_size

    def head(self, type_id: int) -> tuple[int, int]:
        if type_id == 0:
            return kinds.VOID, 0
        owner, at = locate(self._btf, type_id)
        info, third = owner.words[at + 1 : at + 3].tolist()
        return info >> kinds.INFO_KIND_SHIFT & kinds.INFO_KIND_MASK, third

    def array(self, type_id: int) -> tuple[int, int]:
        owner, at = locate(self._btf, type_id)
        return int(owner.words[at + 3]), int(owner.words[at + 5])

    def error(self, message: str, type_id: int) -> BtfError:
        return BtfError(message, self._btf.path, "types", None, type_id)


class Resolver:
    """What is behind types, and their sizes: each type is looked at once, however many ask for it.

    records   gives the records
    through   kinds that are looked behind
    """

    def __init__(self, records: Records, through: Set[int] = TRANSPARENT) -> None:
        self._records = records
        self._through = through
        self._behind: dict[int, int] = {}  # by id; _CIRCLE
        self._elements: dict[int, tuple[int, int]] = {}  # by id; id _CIRCLE

    def follow(self, type_id: int) -> int:
        """Return the id of the first type behind ``type_id`` whose kind is not in ``through``.

        Raises BtfError when types refer to each other in a circle.
        """
        found = self._follow(type_id)
        if found == _CIRCLE:
            raise self._circle(type_id)
        return found

    def _follow(self, type_id: int) -> int:
        found = self._behind.get(type_id)
        if found is not None:
            return found
        way: dict[int, None] = {}
        while found is None:
            if type_id in way:
                found = _CIRCLE
                break
            way[type_id] = None
            kind, third = self._records.head(type_id)
            if kind not in self._through:
                found = type_id
                break
            type_id = third
            found = self._behind.get(type_id)
        self._behind.update(dict.fromkeys(way, found))
        return found

    def element(self, type_id: int) -> tuple[int, int]:
        """(id, count): the type behind arrays and all of ``through``, and how many of it there are,
        ``MANY`` at most.

        Raises BtfError when types refer to each other in a circle.
        """
        found = self._elements.get(type_id)
        if found is None:
            found = self._elements[type_id] = self._find_element(type_id)
        if found[0] == _CIRCLE:
            raise self._circle(type_id)
        return found

    def _find_element(self, type_id: int) -> tuple[int, int]:
        way: dict[int, int] = {}  # arrays, and how many elements each has
        while True:
            type_id = self._follow(type_id)
            found = self._elements.get(type_id)
            if type_id == _CIRCLE or type_id in way:
                found = _CIRCLE, 0
            elif found is None and self._records.head(type_id)[0] != kinds.ARRAY:
                found = type_id, 1
            if found is not None:
                break
            array = type_id
            type_id, way[array] = self._records.array(array)
        for array, nelems in reversed(way.items()):
            found = self._elements[array] = found[0], min(found[1] * nelems, MANY)
        return found

    def size(self, type_id: int) -> int | None:
        """Return bytes of a value of a type; None for what has no size: void, functions,
        declarations.

        Raises BtfError when types refer to each other in a circle, and for arrays of arrays that
        no machine can address.
        """
        found, count = self.element(type_id)
        kind, third = self._records.head(found)
        if kind == kinds.PTR:
            third = self._records.pointer_size
        elif kind not in kinds.SIZED:
            return None
        if count * third >= MANY:
            raise self._records.error("an array of more bytes than there are addresses", type_id)
        return count * third

    def _circle(self, type_id: int) -> BtfError:
        return self._records.error("refers to itself in a circle", type_id)


def _resolver(btf: BTF, through: Set[int]) -> Resolver:
    """Return that of a BTF, made on first use."""
    if through not in btf.resolvers:
        btf.resolvers[through] = Resolver(_RecordsOf(btf), through)
    return btf.resolvers[through]


def resolve(start: Type) -> Type:
    """See ``BTF.resolve``."""
    found = _resolver(start.btf, _RESOLVED).follow(start.id)
    return start if found == start.id else type_at(start.btf, found)


def size_of(start: Type) -> int:
    """See ``BTF.size_of``."""
    resolver = _resolver(start.btf, _SIZED_AS_TARGET)
    size = resolver.size(start.id)
    if size is None:
        found, _ = resolver.element(start.id)
        message = f"{type_at(start.btf, found)!r} has no size"
        raise BtfError(message, start.btf.path, "types", None, start.id)
    return size


def align_of(start: Type) -> int:
    """See ``BTF.align_of``. Scalars are aligned to their size, but no more than a pointer is."""
    # Depth first, without recursion: a struct's members come before the struct itself.
    records, resolver = _RecordsOf(start.btf), _resolver(start.btf, TRANSPARENT)
    known: dict[int, int] = {}
    open_ids: set[int] = set()
    wanted, _ = resolver.element(start.id)
    stack = [wanted]
    while stack:
        top = stack[-1]
        kind, size = records.head(top)
        if top in known:
            stack.pop()
        elif kind not in kinds.COMPOSITES:
            known[top] = _scalar_alignment(records, top, start)
            stack.pop()
        else:
            struct = type_at(start.btf, top)
            assert isinstance(struct, Composite)
            members = struct.members
            inner = [resolver.element(member.type_id)[0] for member in members]
            missing = [found for found in inner if found not in known]
            if not missing:
                known[top] = _composite_alignment(size, members, [known[i] for i in inner])
                stack.pop()
            elif top in open_ids:
                raise records.error(f"{struct!r} contains itself", top)
            else:
                open_ids.add(top)
                stack += missing
    return known[wanted]


def pointer_size(btf: BTF) -> int:
    """Return the bytes of a pointer: those of ``long``, 4 or 8; where there is none, by the class
    of the ELF file, as libbpf; else 4 where a pointer in a struct has no room for more, or where
    most structs with pointers lie as none of 8 bytes would; else 8."""
    for one in btf.levels:
        if size := size_of_long(one.words, one.offsets, one.own_kinds, btf.chain_strings):
            return size
    level: BTF | None = btf
    while level is not None:
        if level.elf_pointer_size:
            return level.elf_pointer_size
        level = level.base
    wide = 0  # structs that may have pointers of 8 bytes, less those that may not
    for of in btf:
        pointers = _pointers(of) if isinstance(of, Composite) else []
        rooms = [end - at for at, end in pointers]
        if 32 in rooms:
            return 4
        if isinstance(of, Composite) and pointers:
            ends = [8 * of.size, *(at for at, _ in pointers)]
            wide += 1 if 64 in rooms or not any(at % 64 for at in ends) else -1
    return 4 if wide < 0 else DEFAULT_POINTER_SIZE


def size_of_long(
    words: np.ndarray, offsets: np.ndarray, own_kinds: np.ndarray, strings: np.ndarray
) -> int:
    """Return the bytes of the first INT that is C's long and has 4 or 8, or 0."""
    for at in offsets[np.flatnonzero(own_kinds == kinds.INT)].tolist():
        name, _, size = words[at : at + 3].tolist()
        if size in (4, 8) and strings[name : name + 64].tobytes().split(b"\0")[0] in _LONGS:
            return int(size)
    return 0


def _pointers(of: Composite) -> list[tuple[int, int]]:
    """The members that are pointers: (first bit, where the next member begins)."""
    ends = [*(member.bit_offset for member in of.members[1:]), 8 * of.size]
    if of.kind == kinds.UNION:
        ends = [8 * of.size] * len(of.members)
    found = []
    for member, end in zip(of.members, ends, strict=False):
        with contextlib.suppress(BtfError):  # a circle of names
            if not member.bitfield_size and member.type.resolve().kind == kinds.PTR:
                found.append((member.bit_offset, end))
    return found


def _scalar_alignment(records: Records, type_id: int, start: Type) -> int:
    kind, size = records.head(type_id)
    if kind == kinds.PTR:
        return records.pointer_size
    if kind in _SCALARS and size:
        return min(size, records.pointer_size)
    raise records.error(f"{type_at(start.btf, type_id)!r} has no alignment", start.id)


def _composite_alignment(size: int, members: tuple[Member, ...], inner: list[int]) -> int:
    for member, align in zip(members, inner, strict=True):
        if member.bitfield_size == 0 and member.bit_offset % (8 * align):
            return 1
    largest = max(inner, default=1)
    return 1 if size % largest else largest
