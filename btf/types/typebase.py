"""What all types of the object view have in common, and how an object is made from a record.

The classes of the kinds are in ``objects``; they enter themselves here.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from ..errors import NoSuchIdError
from ..format import kinds
from ..format.kinds import (
    HEAD_WORDS,
    INFO_KIND_FLAG,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
    INFO_VLEN_MASK,
)
from ..format.text import printable

if TYPE_CHECKING:
    from .btf import BTF

_classes: dict[int, type[Type]] = {}  # by kind
_kinds: dict[type[Type], tuple[int, ...]] = {}  # what ``kinds_of`` found out


class Encoding(IntFlag):
    """How an INT is read; none of them: unsigned."""

    SIGNED = 1
    CHAR = 2
    BOOL = 4


class Linkage(IntEnum):
    """Of FUNC (BTF_FUNC_*) and VAR (BTF_VAR_*)."""

    STATIC = 0
    GLOBAL = 1
    EXTERN = 2


class _Fields:
    """What a ``Type`` holds; not frozen yet."""

    __slots__ = ("_at", "_info", "_parts", "_third", "btf", "id", "name_off")

    btf: BTF
    id: int
    name_off: int  # global string offset of the name, 0: anonymous
    _info: int
    _third: int  # the record's third word: a size, or the id of another type
    _at: int  # the record's first word in btf.words
    _parts: Any  # members and the like, once they were asked for


class Type(_Fields):
    """Any type. Made by ``type_at``.

    btf   the BTF that holds the type: of a split BTF's types itself, of its base's types the base
    id    its type id, global
    """

    __slots__ = ()

    KIND: ClassVar[int]

    def __new__(cls, *_: object, **__: object) -> Self:
        """Raise TypeError: only a BTF has types."""
        raise TypeError(f"no {cls.__name__} can be made: a BTF has them, b[type_id], b.find(name)")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"types are frozen: cannot set {name!r}")

    def __init_subclass__(cls) -> None:
        if "KIND" in cls.__dict__:
            _classes[cls.KIND] = cls

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"types are frozen: cannot delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.getitem, (self.btf, self.id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Type):
            return NotImplemented
        return self.id == other.id and self.btf is other.btf

    def __hash__(self) -> int:
        return hash((id(self.btf), self.id))

    @property
    def kind(self) -> int:
        """The kind's number, see ``btf.kinds``."""
        return self._info >> INFO_KIND_SHIFT & INFO_KIND_MASK

    @property
    def kind_name(self) -> str:
        """The kind as the kernel's header calls it: ``STRUCT``, ``FUNC_PROTO``, …"""
        known = self.kind < len(kinds.KIND_NAMES)
        return kinds.KIND_NAMES[self.kind] if known else f"KIND_{self.kind}"

    @property
    def name(self) -> str:
        """The name; of tags the tag's text. Empty for what is anonymous."""
        return self.btf.string(self.name_off) if self.name_off else ""

    @property
    def vlen(self) -> int:
        """The element count of the record, as it stands; a FUNC keeps its linkage there."""
        return self._info & INFO_VLEN_MASK

    @property
    def kind_flag(self) -> bool:
        """Bit 31 of ``info``: what it means depends on the kind."""
        return bool(self._info & INFO_KIND_FLAG)

    @property
    def words(self) -> tuple[int, ...]:
        """The whole record as 32-bit words."""
        if self.id == 0:
            return (0, 0, 0)
        index = self.id - self.btf.start_id
        return tuple(self.btf.words[self._at : int(self.btf.offsets[index + 1])].tolist())

    def resolve(self) -> Type:
        """Return what is behind typedefs and modifiers: see ``btf.BTF.resolve``."""
        return self.btf.resolve(self)

    @property
    def c(self) -> str:
        """The type as C text: see ``btf.BTF.c_of``."""
        return self.btf.c_of(self)

    def brief(self) -> str:
        """Return the type in a line about another one: ``[7] struct list_head``."""
        return f"[{self.id}] {spell(self)}"

    def _word(self, position: int) -> int:
        """Return the word at ``position`` after the head."""
        return int(self.btf.words[self._at + HEAD_WORDS + position])

    def _rows(self, width: int) -> list[list[int]]:
        """Return the vlen elements of the record."""
        first = self._at + HEAD_WORDS
        flat = self.btf.words[first : first + self.vlen * width]
        rows: list[list[int]] = flat.reshape(-1, width).tolist()
        return rows

    def _keep(self, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        object.__setattr__(self, "_parts", parts)
        return parts

    def _details(self) -> str:
        return ""

    def _spell(self, depth: int) -> str:
        """Return the spelling, no further than ``depth`` references away; see ``spell``."""
        return self.name or "..."

    def __repr__(self) -> str:
        words = [f"<{type(self).__name__} [{self.id}]", self.name, self._details()]
        return printable(" ".join(word for word in words if word) + ">")

    def _repr_html_(self) -> str:
        return self.btf.html_of(self)


class Reference(Type):
    """Any kind whose third word is the id of another type."""

    __slots__ = ()

    @property
    def type_id(self) -> int:
        """Id of the type referred to; 0 is void."""
        return self._third

    @property
    def type(self) -> Type:
        """The type referred to."""
        return type_at(self.btf, self._third)

    def _details(self) -> str:
        return f"to {self.type.brief()}"

    def _spell(self, depth: int) -> str:
        if depth == 0:
            return self.name or "..."
        return self._spell_around(self.type._spell(depth - 1))

    def _spell_around(self, target: str) -> str:
        """Return the spelling, given that of the type referred to."""
        return target


class Unknown(Type):
    """A kind that only the layout section describes: its words can be read, nothing else."""

    __slots__ = ()

    def _details(self) -> str:
        return f"kind {self.kind}, {4 * len(self.words)} bytes"


def locate(btf: BTF, type_id: int) -> tuple[BTF, int]:
    """Return the BTF that holds the type of a global id, and the first word of its record there.

    Void is held by the first base and has no record. Raises NoSuchIdError when there is none.
    """
    owner = btf
    while type_id < (start := owner.start_id) and owner.base is not None:
        owner = owner.base
    index = type_id - start
    if 0 <= index < len(owner.offsets) - 1:
        return owner, owner.offsets.item(index)
    if type_id == 0:
        return owner, 0
    message = f"no type [{type_id}]: the last one is [{btf.type_end - 1}]"
    raise NoSuchIdError(message, btf.path, "types")


def type_at(btf: BTF, type_id: int) -> Type:
    """Return the type of a global id. Raises NoSuchIdError when there is none."""
    owner, at = locate(btf, type_id)
    found = _Fields()  # each field that is set of a frozen object takes six times as long
    found.btf, found.id, found._at, found._parts = owner, type_id, at, None
    head = owner.words[at : at + HEAD_WORDS].tolist() if type_id else (0, 0, 0)
    found.name_off, info, found._third = head
    found._info = info
    found.__class__ = _classes.get(info >> INFO_KIND_SHIFT & INFO_KIND_MASK, Unknown)
    return cast("Type", found)


def signed(value: int, bits: int = 32) -> int:
    """Return the two's complement reading of an unsigned word."""
    return value - (1 << bits) if value >> (bits - 1) else value


def enum_values(
    words: Sequence[int], first: int, kind: int, vlen: int, kind_flag: bool
) -> Iterator[tuple[int, int]]:
    """Return (name_off, value) of each enumerator, signed where kind_flag says so.

    first   position of the first enumerator in ``words``
    """
    bits, step = int(kinds.ENUM_BITS[kind]), int(kinds.ELEMENT_WORDS[kind])
    for at in range(first, first + step * vlen, step):
        value = words[at + 1] | (words[at + 2] << 32 if bits == 64 else 0)
        yield words[at], signed(value, bits) if kind_flag else value


def kinds_of(wanted: int | str | type[Type] | None) -> tuple[int, ...] | None:
    """Return the kind numbers that a class, a name or a number stands for; None for all."""
    if wanted is None:
        return None
    if isinstance(wanted, str):
        if wanted.upper() not in kinds.KIND_NAMES:
            names = ", ".join(map(str.lower, kinds.KIND_NAMES))
            raise ValueError(f"{wanted!r} is no kind: kinds are {names}")
        return (kinds.KIND_NAMES.index(wanted.upper()),)
    if isinstance(wanted, int):
        if isinstance(wanted, bool) or not 0 <= wanted < kinds.KIND_COUNT:
            raise ValueError(f"{wanted!r} is no kind: see btf.kinds")
        return (wanted,)
    if not (isinstance(wanted, type) and issubclass(wanted, Type)):
        raise TypeError(f"a kind is a number of btf.kinds or a class of types, not {wanted!r}")
    if wanted not in _kinds:
        every = range(kinds.KIND_COUNT)
        matching = (kind for kind in every if issubclass(_classes.get(kind, Unknown), wanted))
        _kinds[wanted] = tuple(matching)
    return _kinds[wanted]


def spell(found: Type, depth: int = 4) -> str:
    """Spell a type much as C does, abbreviated: for ``repr`` and messages, not to be compiled.

    depth   how many references are followed
    """
    return found._spell(depth)
