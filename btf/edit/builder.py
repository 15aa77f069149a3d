"""Making BTF type by type, or out of parts of other BTF.

The methods are libbpf's ``btf__add_*`` in Python's terms: the same order of arguments, the same
checks. A reference is a type id or a type object, and may name a type that is added later; names
are ``str`` or ``bytes``, and "" where libbpf takes NULL. What is wrong with an argument alone is a
ValueError at once; what only shows in the whole (a reference to a type that was never added, a FUNC
whose type is no FUNC_PROTO) is a BtfError of ``build``.

    b = Builder()
    i = b.add_int("int", 4, Encoding.SIGNED)
    node = b.add_struct("node", 16)
    b.add_field("next", b.next_id, 0)      # a pointer that comes next
    b.add_field("value", i, 64)
    b.add_ptr(node)
    b.build().to_bytes()
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from ..arguments import number, require
from ..errors import UnsupportedError
from ..format import kinds
from ..format.header import MAX_TYPE_ID, pack
from ..format.kinds import INFO_KIND_MASK, INFO_KIND_SHIFT, INFO_VLEN_MASK, Role, info_word
from ..types.btf import BTF, NATIVE, parse
from ..types.objects import DatasecEntry, EnumValue, Member, Param
from ..types.typebase import Linkage, Type
from .append import StringPool, check_addable

Name: TypeAlias = str | bytes
Ref: TypeAlias = int | Type

_ENCODINGS = 7  # SIGNED | CHAR | BOOL
_FLOAT_SIZES = (2, 4, 8, 12, 16)
_FWD_KINDS = ("struct", "union", "enum")
_U32 = 0xFFFFFFFF


def _same(type_id: int) -> int:
    return type_id


class Builder:
    """BTF in the making. Every method that adds a type returns the new type's id."""

    def __init__(self, base: BTF | None = None, *, byteorder: str | None = None) -> None:
        """Begin an empty BTF.

        base       what to continue: the result is split BTF, of any number of levels
        byteorder  "little" or "big"; the base's by default, else this machine's
        """
        require(base, (BTF, type(None)), "base")
        if base is not None and byteorder not in (None, base.byteorder):
            raise ValueError(
                f"{byteorder}-endian BTF cannot continue a {base.byteorder}-endian base"
            )
        if byteorder not in (None, "little", "big"):
            raise ValueError(f"byteorder is 'little' or 'big', not {byteorder!r}")
        self.base = base
        self.byteorder = byteorder or (base.byteorder if base is not None else NATIVE)
        self.start_id = base.type_end if base is not None else 1
        self._pool = StringPool(base)
        self._words = array("I")
        self._starts = array("I")

    @property
    def next_id(self) -> int:
        """Id of the type that is added next."""
        return self.start_id + len(self._starts)

    def build(self, *, path: str | None = None) -> BTF:
        """Check the BTF so far, as a file is checked, and return it. The builder can go on.

        path   a name for error messages. Raises BtfError naming the type that is not sound.
        """
        words = np.frombuffer(self._words.tobytes(), np.uint32)
        if self.byteorder != NATIVE:
            words = words.byteswap()
        data = pack(self.byteorder, 0, words.tobytes(), self._pool.own_strings.tobytes())
        return parse(data, self.base, path=path)

    # ------------------------------------------------------------------ strings

    def find_string(self, text: Name) -> int | None:
        """Return the global offset of a string, base included; None when there is none yet."""
        found = self._pool.find(_text(text))
        return found if found >= 0 else None

    def add_string(self, text: Name) -> int:
        """Global offset of a string: the base's if it has it, else an own one, added if need be."""
        return self._pool.add(_text(text))

    # ------------------------------------------------------------------ other BTF

    def add_type(self, source: Type, ids: Mapping[int, int] | None = None) -> int:
        """Append a copy of a type of another BTF.

        ids   what to make of references: old id -> new id; an id that is not in it, or without
              ``ids`` every id, stays as it is
        """
        require(source, Type, "source")
        if source.kind > kinds.MAX_KIND or source.id == 0:
            raise UnsupportedError(f"{source!r} cannot be copied", source.btf.path, "types")
        new_id: Callable[[int], int] = _same if ids is None else lambda old: ids.get(old, old)
        words = list(source.words)
        spec = kinds.SPECS[source.kind - 1]
        roles, element = spec.roles, spec.element_roles
        for at in range(len(words)):
            inside = at - len(roles)
            role = roles[at] if inside < 0 else element[inside % len(element)]
            if role is Role.NAME and words[at]:
                words[at] = self._pool.add(source.btf.string_bytes(words[at]))
            elif role is Role.REF and words[at]:
                words[at] = self._ref(new_id(words[at]))
        return self._append(*words)

    def add_btf(self, source: BTF) -> int:
        """Append all own types of another BTF; returns the id that its first one gets.

        source   plain BTF, or split BTF on the base of this builder: references to the base stay.
                 Raises UnsupportedError for split BTF on another base, another byte order, or kinds
                 that only a layout section describes.
        """
        require(source, BTF, "source")
        first = self.next_id
        check_addable(source, self.base, self.byteorder, first, len(self._words))
        words = self._pool.add_types(source, first)
        starts = source.offsets[:-1] + np.uint32(len(self._words))
        self._words.frombytes(words.tobytes())
        self._starts.frombytes(starts.astype(np.uint32).tobytes())
        return first

    # ------------------------------------------------------------------ numbers

    def add_int(
        self, name: Name, size: int, encoding: int = 0, *, bits: int | None = None, offset: int = 0
    ) -> int:
        """Append an integer of 1, 2, 4, 8 or 16 bytes; ``encoding``: see ``Encoding``.

        bits, offset   of the value within it, for what only very old encoders wrote
        """
        _named(name)
        _power_of_two(size, 16)
        if number(encoding, "encoding") & ~_ENCODINGS:
            raise ValueError(f"encoding is made of SIGNED, CHAR and BOOL, not {encoding:#x}")
        bits = 8 * size if bits is None else number(bits, "bits")
        if not 0 <= bits <= 128 or number(offset, "offset") < 0 or offset + bits > 8 * size:
            raise ValueError(f"{bits} bits at {offset} are not inside of {size} bytes")
        word = int(encoding) << 24 | offset << 16 | bits
        return self._add(kinds.INT, name, size, (word,))

    def add_float(self, name: Name, size: int) -> int:
        """Append a floating point number of 2, 4, 8, 12 or 16 bytes."""
        _named(name)
        if number(size, "size") not in _FLOAT_SIZES:
            raise ValueError(f"a float has 2, 4, 8, 12 or 16 bytes, not {size}")
        return self._add(kinds.FLOAT, name, size)

    # ------------------------------------------------------------------ references

    def add_ptr(self, target: Ref) -> int:
        """Append a pointer."""
        return self._add(kinds.PTR, "", self._ref(target))

    def add_typedef(self, name: Name, target: Ref) -> int:
        """Append a typedef."""
        return self._add(kinds.TYPEDEF, _named(name), self._ref(target))

    def add_volatile(self, target: Ref) -> int:
        """Append ``volatile``."""
        return self._add(kinds.VOLATILE, "", self._ref(target))

    def add_const(self, target: Ref) -> int:
        """Append ``const``."""
        return self._add(kinds.CONST, "", self._ref(target))

    def add_restrict(self, target: Ref) -> int:
        """Append ``restrict``."""
        return self._add(kinds.RESTRICT, "", self._ref(target))

    def add_type_tag(self, value: Name, target: Ref, *, attribute: bool = False) -> int:
        """Append a type tag; with ``attribute`` the text is any attribute (libbpf's type_attr)."""
        target = self._ref(target)
        return self._add(kinds.TYPE_TAG, _named(value), target, kind_flag=attribute)

    def add_decl_tag(
        self, value: Name, target: Ref, component_index: int = -1, *, attribute: bool = False
    ) -> int:
        """A declaration tag; with ``attribute`` the text is any attribute (libbpf's decl_attr).

        component_index   which member or parameter of ``target`` is tagged; -1: ``target`` itself
        """
        _named(value)
        if not -1 <= number(component_index, "component_index") <= 0x7FFFFFFF:
            raise ValueError(f"a component index is -1 or more, not {component_index}")
        rest = (component_index & _U32,)
        return self._add(kinds.DECL_TAG, value, self._ref(target), rest, kind_flag=attribute)

    def add_array(self, index_type: Ref, element_type: Ref, nelems: int) -> int:
        """Append an array of ``nelems`` elements; mind the order, it is libbpf's."""
        rest = (self._ref(element_type), self._ref(index_type), _unsigned(nelems, "nelems"))
        return self._add(kinds.ARRAY, "", 0, rest)

    def add_fwd(self, name: Name, what: str = "struct") -> int:
        """Append a forward declaration of a "struct", "union" or "enum" (4 bytes, no values)."""
        _named(name)
        if what not in _FWD_KINDS:
            raise ValueError(f"a forward declaration is of {' or '.join(_FWD_KINDS)}, not {what!r}")
        if what == "enum":
            return self.add_enum(name, 4)
        return self._add(kinds.FWD, name, 0, kind_flag=what == "union")

    # ------------------------------------------------------------------ structs and unions

    def add_struct(
        self,
        name: Name,
        size: int,
        members: Iterable[Member | tuple[object, ...]] = (),
        *,
        bit_fields: bool = False,
    ) -> int:
        """Append a struct of ``size`` bytes; "" is anonymous.

        members      Member objects, or arguments of ``add_field``; more can be added afterwards
        bit_fields   set kind_flag even if no member is a bit field
        """
        return self._composite(kinds.STRUCT, name, size, members, bit_fields)

    def add_union(
        self,
        name: Name,
        size: int,
        members: Iterable[Member | tuple[object, ...]] = (),
        *,
        bit_fields: bool = False,
    ) -> int:
        """Append a union of ``size`` bytes; see ``add_struct``."""
        return self._composite(kinds.UNION, name, size, members, bit_fields)

    def add_field(self, name: Name, target: Ref, bit_offset: int, bit_size: int = 0) -> None:
        """Append a member to the struct or union that was added last.

        bit_offset   of the member, in bits; 0 in a union
        bit_size     bits of a bit field, up to 255; 0 for what is none
        """
        at = self._last("struct or union", kinds.STRUCT, kinds.UNION)
        type_id, text = self._ref(target), _text(name)
        info = self._words[at + 1]
        is_union = info >> INFO_KIND_SHIFT & INFO_KIND_MASK == kinds.UNION
        is_field = bool(number(bit_size, "bit_size") or number(bit_offset, "bit_offset") % 8)
        if is_field and not (0 < bit_size <= 255 and 0 <= bit_offset <= 0xFFFFFF):
            raise ValueError(
                f"a bit field has 1 to 255 bits and an offset below {1 << 24}, "
                f"not {bit_size} bits at {bit_offset}"
            )
        if is_union and bit_offset:
            raise ValueError(f"members of a union are at offset 0, not {bit_offset}")
        _unsigned(bit_offset, "bit_offset")
        had_fields = bool(info & kinds.INFO_KIND_FLAG)
        if is_field or had_fields:  # the upper 8 bits of every offset are then a bit field's size
            offsets = [bit_offset, *(() if had_fields else self._words[at + 5 :: 3])]
            if max(offsets) > 0xFFFFFF:
                raise ValueError(
                    f"a {'union' if is_union else 'struct'} with bit fields has no room for a "
                    f"member at bit {max(offsets)}"
                )
        self._extend(at, (self._pool.add(text), type_id, bit_offset | bit_size << 24))
        if is_field:
            self._words[at + 1] |= kinds.INFO_KIND_FLAG

    # ------------------------------------------------------------------ enums

    def add_enum(
        self,
        name: Name,
        size: int,
        values: Iterable[EnumValue | tuple[Name, int]] = (),
        *,
        signed: bool = False,
    ) -> int:
        """Append an enum of 32-bit values in 1, 2, 4 or 8 bytes; a negative value makes it signed.

        Without values it is a forward declaration; more can be added afterwards.
        """
        with self._whole(kinds.ENUM, name, _power_of_two(size, 8), signed) as type_id:
            for value in values:
                self.add_enum_value(*_pair(value))
        return type_id

    def add_enum_value(self, name: Name, value: int) -> None:
        """Append an enumerator to the enum that was added last: -2³¹ up to 2³² - 1."""
        at = self._last("enum", kinds.ENUM)
        _named(name)
        if not -(1 << 31) <= number(value, "value") <= _U32:
            raise ValueError(f"{value} does not fit into 32 bits: use add_enum64")
        self._extend(at, (self._pool.add(_text(name)), value & _U32))
        if value < 0:
            self._words[at + 1] |= kinds.INFO_KIND_FLAG

    def add_enum64(
        self,
        name: Name,
        size: int,
        signed: bool = False,
        values: Iterable[EnumValue | tuple[Name, int]] = (),
    ) -> int:
        """Append an enum of 64-bit values in 1, 2, 4 or 8 bytes; see ``add_enum``."""
        with self._whole(kinds.ENUM64, name, _power_of_two(size, 8), signed) as type_id:
            for value in values:
                self.add_enum64_value(*_pair(value))
        return type_id

    def add_enum64_value(self, name: Name, value: int) -> None:
        """Append an enumerator to the 64-bit enum added last; negative if that is signed."""
        at = self._last("64-bit enum", kinds.ENUM64)
        _named(name)
        signed = bool(self._words[at + 1] & kinds.INFO_KIND_FLAG)
        lowest, highest = (-(1 << 63), (1 << 63) - 1) if signed else (0, (1 << 64) - 1)
        if not lowest <= number(value, "value") <= highest:
            sign = "signed" if signed else "unsigned"
            raise ValueError(f"{value} does not fit into {sign} 64 bits")
        self._extend(at, (self._pool.add(_text(name)), value & _U32, value >> 32 & _U32))

    # ------------------------------------------------------------------ functions and variables

    def add_func_proto(
        self,
        returns: Ref,
        params: Iterable[Param | tuple[Name, Ref]] = (),
        *,
        variadic: bool = False,
    ) -> int:
        """A function's signature; ``variadic`` adds ``...``. More can be added afterwards."""
        with self._whole(kinds.FUNC_PROTO, "", self._ref(returns)) as type_id:
            for param in params:
                name, target = (param.name, param.type_id) if isinstance(param, Param) else param
                self.add_func_param(name, target)
            if variadic:
                self.add_func_param("", 0)
        return type_id

    def add_func_param(self, name: Name, target: Ref) -> None:
        """Append a parameter to the signature added last; ("", 0) in the end stands for ..."""
        at = self._last("function signature", kinds.FUNC_PROTO)
        type_id = self._ref(target)
        self._extend(at, (self._pool.add(_text(name)), type_id))

    def add_func(self, name: Name, linkage: int, proto: Ref) -> int:
        """Append a function; ``linkage``: see ``Linkage``."""
        _named(name)
        return self._add(kinds.FUNC, name, self._ref(proto), vlen=int(Linkage(linkage)))

    def add_var(self, name: Name, linkage: int, target: Ref) -> int:
        """Append a variable; ``linkage``: see ``Linkage``."""
        _named(name)
        return self._add(kinds.VAR, name, self._ref(target), (int(Linkage(linkage)),))

    def add_datasec(
        self,
        name: Name,
        size: int,
        entries: Iterable[DatasecEntry | tuple[Ref, int, int]] = (),
    ) -> int:
        """Append a data section of ``size`` bytes. More entries can be added afterwards."""
        _named(name)
        with self._whole(kinds.DATASEC, name, _unsigned(size, "size")) as type_id:
            for entry in entries:
                if isinstance(entry, DatasecEntry):
                    entry = (entry.type_id, entry.offset, entry.size)
                self.add_datasec_var_info(*entry)
        return type_id

    def add_datasec_var_info(self, var: Ref, offset: int, size: int) -> None:
        """Append a variable to the data section that was added last; offset and size in bytes."""
        at = self._last("data section", kinds.DATASEC)
        words = (self._ref(var), _unsigned(offset, "offset"), _unsigned(size, "size"))
        self._extend(at, words)

    # ------------------------------------------------------------------ records

    def _append(self, *words: int) -> int:
        if self.next_id > MAX_TYPE_ID:
            raise UnsupportedError("too many types")
        record = array("I", words)
        self._starts.append(len(self._words))
        self._words.extend(record)
        return self.next_id - 1

    def _add(
        self,
        kind: int,
        name: Name,
        third: int,
        rest: tuple[int, ...] = (),
        *,
        vlen: int = 0,
        kind_flag: bool = False,
    ) -> int:
        name_off = self._pool.add(_text(name))
        return self._append(name_off, info_word(kind, vlen, kind_flag), third, *rest)

    @contextmanager
    def _whole(self, kind: int, name: Name, third: int, kind_flag: bool = False) -> Iterator[int]:
        """Add a type that elements follow, and take it back when one of those is refused."""
        type_id = self._add(kind, name, third, kind_flag=kind_flag)
        start = self._starts[-1]
        try:
            yield type_id
        except BaseException:
            del self._starts[type_id - self.start_id :]
            del self._words[start:]
            raise

    def _composite(
        self,
        kind: int,
        name: Name,
        size: int,
        members: Iterable[Member | tuple[object, ...]],
        bit_fields: bool,
    ) -> int:
        with self._whole(kind, name, _unsigned(size, "size"), bit_fields) as type_id:
            for member in members:
                if isinstance(member, Member):
                    member = (member.name, member.type_id, member.bit_offset, member.bitfield_size)
                self.add_field(*member)  # type: ignore[arg-type]
        return type_id

    def _last(self, what: str, *allowed: int) -> int:
        """Return first word of the type that was added last, which must be of a kind allowed."""
        if self._starts:
            at = self._starts[-1]
            if self._words[at + 1] >> INFO_KIND_SHIFT & INFO_KIND_MASK in allowed:
                return at
        raise ValueError(f"the type added last is no {what}")

    def _extend(self, at: int, words: tuple[int, ...]) -> None:
        if self._words[at + 1] & INFO_VLEN_MASK == INFO_VLEN_MASK:
            raise ValueError(f"a type has no more than {INFO_VLEN_MASK} elements")
        self._words.extend(words)
        self._words[at + 1] += 1

    def _ref(self, target: Ref) -> int:
        type_id = target.id if isinstance(target, Type) else number(target, "a type id")
        if not 0 <= type_id <= MAX_TYPE_ID:
            raise ValueError(f"{type_id} is no type id")
        return type_id


def _text(name: Name) -> bytes:
    require(name, (str, bytes), "a name")
    text = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    if b"\0" in text:
        raise ValueError(f"there is a NUL in the name {name!r}")
    return text


def _named(name: Name) -> Name:
    if not name:
        raise ValueError("this kind of type has a name")
    return name


def _power_of_two(size: int, largest: int) -> int:
    if not 0 < number(size, "size") <= largest or size & (size - 1):
        raise ValueError(f"the size is a power of two up to {largest}, not {size}")
    return size


def _unsigned(value: int, what: str) -> int:
    if not 0 <= number(value, what) <= _U32:
        raise ValueError(f"{what} is {value}, which is no 32-bit number")
    return value


def _pair(value: EnumValue | tuple[Name, int]) -> tuple[Name, int]:
    return (value.name, value.value) if isinstance(value, EnumValue) else value
