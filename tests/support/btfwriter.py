"""Writes BTF for tests, sound or broken, without any of the library's own code.

A `Writer` collects types (every one of the 19 kinds) and strings and lays them out as a file:

    w = Writer()
    i = w.int("int", 4, encoding=SIGNED)
    node = w.next_id                                  # refer to a type before it is written
    w.struct("node", 16, [("next", node + 1, 0), ("value", i, 64)])
    w.ptr(node)
    data = w.to_bytes()

Split BTF goes on where another writer, or a (type count, string bytes) pair, ends:

    s = Writer(base=w)
    s.const(i)

Nothing is checked: ids may point anywhere, names may be raw string offsets, `raw` appends any
words,
`assemble` and `Writer.to_bytes` take any header field by its name in `struct btf_header`. That is
the point: a broken file is a valid one with a field said otherwise.

What does not live here: reading BTF (see naive.py) and random programs (see vectors.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

# Kinds, numbered as in the kernel's include/uapi/linux/btf.h (19 of them since Linux 6.0).
(
    INT,
    PTR,
    ARRAY,
    STRUCT,
    UNION,
    ENUM,
    FWD,
    TYPEDEF,
    VOLATILE,
    CONST,
    RESTRICT,
    FUNC,
    FUNC_PROTO,
    VAR,
    DATASEC,
    FLOAT,
    DECL_TAG,
    TYPE_TAG,
    ENUM64,
) = range(1, 20)

# Bits of an INT's encoding.
SIGNED, CHAR, BOOL = 1, 2, 4

# Linkage of FUNC and VAR.
STATIC, GLOBAL, EXTERN = 0, 1, 2
BYTE_ORDERS = ("<", ">")

MAGIC = 0xEB9F
U32 = 0xFFFFFFFF

# By kind: bytes that follow the 12-byte type, and bytes per vlen element.
RECORD_LAYOUT: dict[int, tuple[int, int]] = {
    INT: (4, 0),
    ARRAY: (12, 0),
    STRUCT: (0, 12),
    UNION: (0, 12),
    ENUM: (0, 8),
    FUNC_PROTO: (0, 8),
    VAR: (4, 0),
    DATASEC: (0, 12),
    DECL_TAG: (4, 0),
    ENUM64: (0, 12),
}

# Inside Writer, `int` is a method; annotations use these.
Num: TypeAlias = int
Name: TypeAlias = "str | bytes | int"  # text, or a raw string offset


def full_layout(kinds: Num = 20) -> list[tuple[Num, Num, Num]]:
    """Rows (info_sz, elem_sz, flags) of a layout section that describes kinds 0 … kinds-1."""
    return [(*RECORD_LAYOUT.get(kind, (0, 0)), 0) for kind in range(kinds)]


def assemble(
    types: bytes,
    strings: bytes,
    order: str = "<",
    header_bytes: Num = 24,
    layout: Sequence[tuple[Num, Num, Num]] | None = None,
    gap: bytes = b"",
    tail: bytes = b"",
    header_extra: bytes = b"",
    **fields: Num,
) -> bytes:
    """A BTF file out of finished sections: header, types, [layout], gap, strings, tail.

    `header_bytes` is 24 or 32; `header_extra` is appended to the header and counted in hdr_len.
    `fields` overrides header fields by name: magic, version, flags, hdr_len, type_off, type_len,
    str_off, str_len, layout_off, layout_len. Overrides change the header only, never the body.
    """
    rows = b"" if layout is None else b"".join(struct.pack(order + "BBH", *row) for row in layout)
    header = {
        "magic": MAGIC,
        "version": 1,
        "flags": 0,
        "hdr_len": header_bytes + len(header_extra),
        "type_off": 0,
        "type_len": len(types),
        "str_off": len(types) + len(rows) + len(gap),
        "str_len": len(strings),
        "layout_off": len(types) if rows else 0,
        "layout_len": len(rows),
    }
    unknown = set(fields) - set(header)
    if unknown:
        raise TypeError(f"no such header field: {sorted(unknown)}")
    header.update(fields)
    packed = struct.pack(order + "HBB7I", *(value & U32 for value in header.values()))
    return packed[:header_bytes] + header_extra + types + rows + gap + strings + tail


class Writer:
    """Types and strings of one BTF in the making. Every type method returns the new type's id."""

    def __init__(self, order: str = "<", base: Writer | tuple[Num, Num] | None = None) -> None:
        """`order` is '<' or '>', `base` what to go on from: a writer or (type count, string bytes).

        The type count includes void.
        """
        self.order = order
        self.base = base if isinstance(base, Writer) else None
        if base is None:
            self.start_id, self.start_str = 1, 0
        elif isinstance(base, Writer):
            self.start_id, self.start_str = base.next_id, base.end_str
        else:
            self.start_id, self.start_str = base
        self.records: list[list[Num]] = []
        self.strings = bytearray(b"\0" if base is None else b"")
        self.offsets: dict[bytes, Num] = {b"": 0}

    # ------------------------------------------------------------------ numbering and strings

    @property
    def next_id(self) -> Num:
        """Id of the type that the next call will add."""
        return self.start_id + len(self.records)

    @property
    def end_str(self) -> Num:
        """String offset at which a split BTF on top of this one begins."""
        return self.start_str + len(self.strings)

    def find_string(self, text: bytes) -> Num | None:
        """Offset of a string written so far, here or in the base."""
        found = self.base.find_string(text) if self.base else None
        return self.offsets.get(text) if found is None else found

    def string(self, text: str | bytes, fresh: bool = False) -> Num:
        """Offset of a string, added if need be; `fresh` adds another copy even if there is one."""
        raw = text.encode() if isinstance(text, str) else text
        found = None if fresh else self.find_string(raw)
        if found is not None:
            return found
        offset = self.end_str
        self.strings += raw + b"\0"
        self.offsets.setdefault(raw, offset)
        return offset

    def _name(self, name: Name) -> Num:
        return self.string(name) if isinstance(name, (str, bytes)) else name

    # ------------------------------------------------------------------ any type

    def raw(self, *words: Num) -> Num:
        """Appends a record word by word: name_off, info, size or type, then what follows."""
        self.records.append([word & U32 for word in words])
        return self.next_id - 1

    def type(
        self,
        kind: Num,
        name: Name = 0,
        size_or_type: Num = 0,
        rest: Iterable[Num] = (),
        vlen: Num = 0,
        kind_flag: Num = 0,
    ) -> Num:
        """Appends a type with `info` put together from kind, vlen and kind_flag."""
        info = (kind_flag & 1) << 31 | (kind & 0x7F) << 24 | (vlen & 0xFFFFFF)
        return self.raw(self._name(name), info, size_or_type, *rest)

    def patch(self, type_id: Num, word: Num, value: Num) -> None:
        """Overwrites one word of a record: 0 name_off, 1 info, 2 size or type, 3 … the rest."""
        self.records[type_id - self.start_id][word] = value & U32

    # ------------------------------------------------------------------ the 19 kinds

    def int(
        self,
        name: Name,
        size: Num,
        encoding: Num = SIGNED,
        bits: Num | None = None,
        offset: Num = 0,
    ) -> Num:
        width = size * 8 if bits is None else bits
        return self.type(INT, name, size, [encoding << 24 | offset << 16 | width])

    def float(self, name: Name, size: Num) -> Num:
        return self.type(FLOAT, name, size)

    def ptr(self, target: Num) -> Num:
        return self.type(PTR, 0, target)

    def const(self, target: Num) -> Num:
        return self.type(CONST, 0, target)

    def volatile(self, target: Num) -> Num:
        return self.type(VOLATILE, 0, target)

    def restrict(self, target: Num) -> Num:
        return self.type(RESTRICT, 0, target)

    def typedef(self, name: Name, target: Num) -> Num:
        return self.type(TYPEDEF, name, target)

    def type_tag(self, value: Name, target: Num, attribute: bool = False) -> Num:
        return self.type(TYPE_TAG, value, target, kind_flag=attribute)

    def decl_tag(
        self, value: Name, target: Num, component: Num = -1, attribute: bool = False
    ) -> Num:
        return self.type(DECL_TAG, value, target, [component], kind_flag=attribute)

    def array(self, element: Num, index: Num, count: Num) -> Num:
        return self.type(ARRAY, 0, 0, [element, index, count])

    def struct(
        self,
        name: Name,
        size: Num,
        members: Sequence[tuple[Name, Num, Num]] = (),
        kind_flag: Num = 0,
        kind: Num = STRUCT,
    ) -> Num:
        """Members are (name, type, offset); with kind_flag the offset is `bitfield(bits, at)`."""
        name_off = self._name(name)
        rest = [word for m in members for word in (self._name(m[0]), m[1], m[2])]
        return self.type(kind, name_off, size, rest, vlen=len(members), kind_flag=kind_flag)

    def union(
        self,
        name: Name,
        size: Num,
        members: Sequence[tuple[Name, Num, Num]] = (),
        kind_flag: Num = 0,
    ) -> Num:
        return self.struct(name, size, members, kind_flag, kind=UNION)

    def fwd(self, name: Name, union: bool = False, word: Num = 0) -> Num:
        """`word` is the size/type word, 0 in every sound file."""
        return self.type(FWD, name, word, kind_flag=union)

    def enum(
        self,
        name: Name,
        size: Num = 4,
        values: Sequence[tuple[Name, Num]] = (),
        signed: bool = False,
    ) -> Num:
        """Without values: a forward declaration."""
        name_off = self._name(name)
        rest = [word for value in values for word in (self._name(value[0]), value[1])]
        return self.type(ENUM, name_off, size, rest, vlen=len(values), kind_flag=signed)

    def enum64(
        self,
        name: Name,
        size: Num = 8,
        values: Sequence[tuple[Name, Num]] = (),
        signed: bool = False,
    ) -> Num:
        name_off = self._name(name)
        rest = [word for v in values for word in (self._name(v[0]), v[1] & U32, v[1] >> 32)]
        return self.type(ENUM64, name_off, size, rest, vlen=len(values), kind_flag=signed)

    def func_proto(
        self, returns: Num, params: Sequence[tuple[Name, Num]] = (), variadic: bool = False
    ) -> Num:
        listed = [*params, (0, 0)] if variadic else list(params)
        rest = [word for param in listed for word in (self._name(param[0]), param[1])]
        return self.type(FUNC_PROTO, 0, returns, rest, vlen=len(listed))

    def func(self, name: Name, proto: Num, linkage: Num = STATIC) -> Num:
        return self.type(FUNC, name, proto, vlen=linkage)

    def var(self, name: Name, target: Num, linkage: Num = GLOBAL) -> Num:
        return self.type(VAR, name, target, [linkage])

    def datasec(self, name: Name, size: Num, entries: Sequence[tuple[Num, Num, Num]] = ()) -> Num:
        """Entries are (id of a VAR, offset, size)."""
        rest = [word for entry in entries for word in entry]
        return self.type(DATASEC, name, size, rest, vlen=len(entries))

    # ------------------------------------------------------------------ bytes

    def type_section(self) -> bytes:
        words = [word for record in self.records for word in record]
        return struct.pack(f"{self.order}{len(words)}I", *words)

    def type_offset(self, type_id: Num) -> Num:
        """Byte offset of a record within the type section."""
        return 4 * sum(len(record) for record in self.records[: type_id - self.start_id])

    def string_section(self) -> bytes:
        return bytes(self.strings)

    def to_bytes(self, header_bytes: Num = 24, **options: Any) -> bytes:
        """The file; `options` as in `assemble` (types= and strings= replace the sections)."""
        types = options.pop("types", None)
        strings = options.pop("strings", None)
        return assemble(
            self.type_section() if types is None else types,
            self.string_section() if strings is None else strings,
            self.order,
            header_bytes,
            **options,
        )


def bitfield(bits: Num, at: Num) -> Num:
    """Member offset of a struct or union that has kind_flag set."""
    return bits << 24 | at
