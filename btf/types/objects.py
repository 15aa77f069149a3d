"""Types as objects, for people who explore by hand: one class per kind, made when asked for.

``btf[type_id]`` makes one object from the few words of that type's record; whatever it refers to
is made when it is asked for in turn. Looking at vmlinux costs what is looked at.

Objects are frozen, and equal when they are the same type of the same BTF. ``id`` is a type's own
id, ``type_id`` that of the type it refers to and ``type`` that type itself. A type of the base
belongs to the base, from whichever split BTF it was reached.

What does not live here: what all classes share (``typebase``), how records are laid out
(``kinds``), sizes and alignments (``layout``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..arguments import require
from ..format import kinds
from ..format.text import printable
from ..nearest import hint, nearest_names
from .typebase import Encoding, Linkage, Reference, Type, enum_values, signed, type_at

if TYPE_CHECKING:
    from .btf import BTF


class Void(Type):
    """No type: id 0."""

    __slots__ = ()
    KIND = kinds.VOID

    def _spell(self, depth: int) -> str:
        return "void"


class Sized:
    """What kinds have in common whose third word is their size."""

    __slots__ = ()
    _third: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self._third


class Int(Sized, Type):
    """An integer."""

    __slots__ = ()
    KIND = kinds.INT

    @property
    def encoding(self) -> Encoding:
        """SIGNED, CHAR, BOOL, or none of them."""
        return Encoding(self._word(0) >> 24 & 0xF)

    @property
    def offset(self) -> int:
        """Bits before the value begins: 0 but in BTF of very old encoders."""
        return self._word(0) >> 16 & 0xFF

    @property
    def bits(self) -> int:
        """Bits of the value: 8 * size but for bit fields of very old encoders."""
        return self._word(0) & 0xFF

    @property
    def is_signed(self) -> bool:
        return bool(self.encoding & Encoding.SIGNED)

    def _details(self) -> str:
        flags = [str(flag.name).lower() for flag in Encoding if flag in self.encoding]
        odd = [f"{self.bits} bits at {self.offset}"] if self.bits != 8 * self.size else []
        return ", ".join([f"size={self.size}", *(flags or ["unsigned"]), *odd])


class Float(Sized, Type):
    """A floating point number."""

    __slots__ = ()
    KIND = kinds.FLOAT

    def _details(self) -> str:
        return f"size={self.size}"


class Ptr(Reference):
    """A pointer."""

    __slots__ = ()
    KIND = kinds.PTR

    def _spell_around(self, target: str) -> str:
        return f"{target}*" if target.endswith("*") else f"{target} *"


class Typedef(Reference):
    """Another name for a type."""

    __slots__ = ()
    KIND = kinds.TYPEDEF

    def _spell(self, depth: int) -> str:
        return self.name or "..."


class _Qualifier(Reference):
    """A qualifier: C's word for it stands before the type, but after a ``*``."""

    __slots__ = ()

    def _spell_around(self, target: str) -> str:
        word = kinds.KEYWORDS[self.KIND]
        return f"{target} {word}" if target.endswith("*") else f"{word} {target}"


class Volatile(_Qualifier):
    """``volatile``."""

    __slots__ = ()
    KIND = kinds.VOLATILE


class Const(_Qualifier):
    """``const``."""

    __slots__ = ()
    KIND = kinds.CONST


class Restrict(_Qualifier):
    """``restrict``."""

    __slots__ = ()
    KIND = kinds.RESTRICT


class TypeTag(Reference):
    """``btf_type_tag("…")``; with ``is_attribute`` any attribute. The name is the tag's text."""

    __slots__ = ()
    KIND = kinds.TYPE_TAG

    @property
    def is_attribute(self) -> bool:
        return self.kind_flag


class DeclTag(Reference):
    """``btf_decl_tag("…")`` on a declaration or one part of it. The name is the tag's text."""

    __slots__ = ()
    KIND = kinds.DECL_TAG

    @property
    def component_index(self) -> int:
        """Which member or parameter is tagged; -1 for the type itself."""
        return signed(self._word(0))

    @property
    def is_attribute(self) -> bool:
        return self.kind_flag

    def _details(self) -> str:
        part = "" if self.component_index < 0 else f", part {self.component_index}"
        return f"on {self.type.brief()}{part}"


class _Linked(Reference):
    """A function or a variable."""

    __slots__ = ()

    @property
    def linkage(self) -> int:
        """See ``Linkage``. A FUNC has it in place of its vlen."""
        return self._word(0) if self.KIND == kinds.VAR else self.vlen

    def _details(self) -> str:
        known = self.linkage in tuple(Linkage)
        word = Linkage(self.linkage).name.lower() if known else f"linkage {self.linkage}"
        return f"{word}, {self.type.brief()}"


class Func(_Linked):
    """A function; ``type`` is its FuncProto."""

    __slots__ = ()
    KIND = kinds.FUNC

    @property
    def params(self) -> tuple[Param, ...]:
        """The parameters of its FuncProto."""
        proto = self.type
        return proto.params if isinstance(proto, FuncProto) else ()

    def _spell(self, depth: int) -> str:
        return f"{self.name}()" if depth else self.name or "..."


class Var(_Linked):
    """A variable."""

    __slots__ = ()
    KIND = kinds.VAR

    def _spell(self, depth: int) -> str:
        return self.name or "..."


class Array(Type):
    """An array; ``type`` is that of its elements."""

    __slots__ = ()
    KIND = kinds.ARRAY

    @property
    def type_id(self) -> int:
        """Id of the elements' type."""
        return self._word(0)

    @property
    def type(self) -> Type:
        """The elements' type."""
        return type_at(self.btf, self.type_id)

    @property
    def index_type_id(self) -> int:
        """Id of the type that counts the elements."""
        return self._word(1)

    @property
    def index_type(self) -> Type:
        """The type that counts the elements."""
        return type_at(self.btf, self.index_type_id)

    @property
    def nelems(self) -> int:
        """Number of elements; 0 for a flexible array."""
        return self._word(2)

    def _details(self) -> str:
        return f"{self.nelems} of {self.type.brief()}"

    def _spell(self, depth: int) -> str:
        dimensions = ""
        at: Type = self
        while depth and isinstance(at, Array):  # C says the outermost first
            dimensions += f"[{at.nelems}]"
            at, depth = at.type, depth - 1
        return f"{at._spell(depth)}{dimensions}" if dimensions else "..."


@dataclass(frozen=True, slots=True)
class _NamedRef:
    """What a member and a parameter have in common: a name and a type."""

    name: str
    type_id: int
    btf: BTF = field(repr=False, compare=False, kw_only=True)

    @property
    def type(self) -> Type:
        """The type that ``type_id`` names."""
        return type_at(self.btf, self.type_id)


@dataclass(frozen=True, slots=True, repr=False)
class Member(_NamedRef):
    """A member of a struct or union.

    bit_offset      from the beginning of the struct, in bits
    bitfield_size   bits; 0 for what is no bit field
    """

    bit_offset: int
    bitfield_size: int = 0

    @property
    def byte_offset(self) -> int:
        """The byte in which the member begins."""
        return self.bit_offset // 8

    def __repr__(self) -> str:
        where = f"offset {self.byte_offset}"
        if self.bitfield_size:
            where = f"bits {self.bit_offset}..{self.bit_offset + self.bitfield_size - 1}"
        return printable(f"<Member {self.name or '(anon)'} {self.type.brief()}, {where}>")


class Composite(Sized, Type):
    """A struct or a union."""

    __slots__ = ()

    @property
    def members(self) -> tuple[Member, ...]:
        """The members, in the order of the declaration."""
        if self._parts is not None:
            return self._parts
        owner, fields = self.btf, self.kind_flag
        return self._keep(
            tuple(
                Member(
                    owner.string(name) if name else "",
                    type_id,
                    where & 0xFFFFFF if fields else where,
                    where >> 24 if fields else 0,
                    btf=owner,
                )
                for name, type_id, where in self._rows(3)
            )
        )

    def member(self, name: str) -> Member:
        """Find the member of a name, also inside anonymous structs and unions; with dots, as
        ``se.load.weight``, a member of a member.

        The ``bit_offset`` of what is returned is from the beginning of this type. Raises KeyError,
        which names the nearest members.
        """
        require(name, str, "name")
        outer: Composite = self
        start, rest = 0, name
        while True:
            found, tail = outer._member(rest), ""
            if found is None:
                first, _, tail = rest.partition(".")
                found = outer._member(first) if tail else None
                if found is None:
                    raise KeyError(outer._no_member(first))
            start += found.bit_offset
            if not tail:
                return replace(found, bit_offset=start)
            within = found.type.resolve()
            if not isinstance(within, Composite):
                raise KeyError(f"{found!r} has no members, so no {tail!r}")
            outer, rest = within, tail

    def _member(self, name: str) -> Member | None:
        for found, at in self._reached():
            if found.name == name:
                return replace(found, bit_offset=at)
        return None

    def _no_member(self, name: str) -> str:
        like = nearest_names(name, (member.name for member, _ in self._reached()))
        return f"{self!r} has no member {name!r}{hint(like)}"

    def _reached(self) -> Iterator[tuple[Member, int]]:
        """Go through the members, also those inside anonymous ones, with their bit offsets."""
        todo: list[tuple[Composite, int]] = [(self, 0)]
        seen: set[tuple[int, int]] = set()
        while todo:
            outer, start = todo.pop()
            if (outer.id, start) in seen or start >= 8 * max(self.size, 1):
                continue
            seen.add((outer.id, start))
            for inner in outer.members:
                at = start + inner.bit_offset
                yield inner, at
                if not inner.name:
                    behind = inner.type.resolve()
                    if isinstance(behind, Composite):
                        todo.append((behind, at))

    def _details(self) -> str:
        return f"size={self.size}, {_count(self.vlen, 'member')}"

    def _spell(self, depth: int) -> str:
        return f"{kinds.KEYWORDS[self.KIND]} {self.name or '{...}'}"


class Struct(Composite):
    """A struct."""

    __slots__ = ()
    KIND = kinds.STRUCT


class Union(Composite):
    """A union."""

    __slots__ = ()
    KIND = kinds.UNION


@dataclass(frozen=True, slots=True)
class EnumValue:
    """An enumerator."""

    name: str
    value: int


class AnyEnum(Sized, Type):
    """An enum, of either kind. Without values it may be a forward declaration."""

    __slots__ = ()

    @property
    def is_signed(self) -> bool:
        """Whether values are signed (told since Linux 6.0)."""
        return self.kind_flag

    @property
    def values(self) -> tuple[EnumValue, ...]:
        """The enumerators, in the order of the declaration."""
        if self._parts is not None:
            return self._parts
        owner, first = self.btf, self._at + kinds.HEAD_WORDS
        words = owner.words[first : first + self.vlen * int(kinds.ELEMENT_WORDS[self.KIND])]
        numbers = enum_values(words.tolist(), 0, self.KIND, self.vlen, self.kind_flag)
        return self._keep(
            tuple(EnumValue(owner.string(name) if name else "", value) for name, value in numbers)
        )

    def _details(self) -> str:
        signed = ", signed" if self.is_signed else ""
        return f"size={self.size}{signed}, {_count(self.vlen, 'value')}"

    def _spell(self, depth: int) -> str:
        return f"enum {self.name or '{...}'}"


class Enum(AnyEnum):
    """An enum of 32-bit values."""

    __slots__ = ()
    KIND = kinds.ENUM


class Enum64(AnyEnum):
    """An enum of 64-bit values."""

    __slots__ = ()
    KIND = kinds.ENUM64


class Fwd(Type):
    """A forward declaration of a struct or a union."""

    __slots__ = ()
    KIND = kinds.FWD

    @property
    def is_union(self) -> bool:
        return self.kind_flag

    def _details(self) -> str:
        return "union" if self.is_union else "struct"

    def _spell(self, depth: int) -> str:
        return f"{self._details()} {self.name or '{...}'}"


@dataclass(frozen=True, slots=True)
class Param(_NamedRef):
    """A parameter; its name may be empty."""


class FuncProto(Reference):
    """A function's signature; ``type`` is what it returns."""

    __slots__ = ()
    KIND = kinds.FUNC_PROTO

    @property
    def params(self) -> tuple[Param, ...]:
        """The parameters, without the mark for ``...``."""
        if self._parts is not None:
            return self._parts
        owner, rows = self.btf, self._rows(2)
        if rows and rows[-1] == [0, 0]:
            rows.pop()
        return self._keep(
            tuple(Param(owner.string(name) if name else "", ref, btf=owner) for name, ref in rows)
        )

    @property
    def is_variadic(self) -> bool:
        """Whether it takes ``...`` in the end."""
        return self.vlen > len(self.params)

    def _details(self) -> str:
        return self._spell(4)

    def _spell(self, depth: int) -> str:
        if depth == 0:
            return "..."
        params = [param.type._spell(depth - 1) for param in self.params]
        params += ["..."] if self.is_variadic else []
        return f"{self.type._spell(depth - 1)} ({', '.join(params) or 'void'})"


@dataclass(frozen=True, slots=True)
class DatasecEntry:
    """Where a variable lies in its section: offset and size in bytes."""

    type_id: int
    offset: int
    size: int
    btf: BTF = field(repr=False, compare=False, kw_only=True)

    @property
    def type(self) -> Type:
        """The variable (Var)."""
        return type_at(self.btf, self.type_id)


class Datasec(Sized, Type):
    """A data section and the variables in it."""

    __slots__ = ()
    KIND = kinds.DATASEC

    @property
    def entries(self) -> tuple[DatasecEntry, ...]:
        """The variables, in the order of the record."""
        if self._parts is not None:
            return self._parts
        return self._keep(tuple(DatasecEntry(*row, btf=self.btf) for row in self._rows(3)))

    def _details(self) -> str:
        return f"size={self.size}, {_count(self.vlen, 'entry', 'entries')}"


def _count(count: int, noun: str, nouns: str | None = None) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"
