"""Reading BTF and its strings, written to be read: what the references are made of.

Standard library only, nothing from btf/: an oracle must not import what it checks.

A type is kept as its list of 32-bit words, just as in the file: words[0] name_off, words[1] info,
words[2] size or type, then what the kind adds. So "rewrite every reference" is a loop over word
positions, and what a position means is said once, in `string_words` and `id_words`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

# fmt: off
KIND_NAMES = (
    "VOID", "INT", "PTR", "ARRAY", "STRUCT", "UNION", "ENUM", "FWD", "TYPEDEF", "VOLATILE", "CONST",
    "RESTRICT", "FUNC", "FUNC_PROTO", "VAR", "DATASEC", "FLOAT", "DECL_TAG", "TYPE_TAG", "ENUM64",
)
(
    VOID, INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST,
    RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64,
) = range(20)
# fmt: on

MAGIC = 0xEB9F

# Words that follow the first three, once per type and once per vlen element.
EXTRA_WORDS = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
ELEMENT_WORDS = {STRUCT: 3, UNION: 3, ENUM: 2, FUNC_PROTO: 2, DATASEC: 3, ENUM64: 3}

COMPOSITE = (STRUCT, UNION)
ANY_ENUM = (ENUM, ENUM64)
# Kinds that are nothing but a name, an info word and one reference. A FUNC's vlen is its linkage.
CHAIN = (PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, TYPE_TAG)

Words = list[int]


class FormatError(ValueError):
    """The bytes are not BTF that can be read."""


# ------------------------------------------------------------------------------------------ types


def kind_of(t: Words) -> int:
    return t[1] >> 24 & 0x7F


def vlen_of(t: Words) -> int:
    return t[1] & 0xFFFFFF


def kind_flag_of(t: Words) -> int:
    return t[1] >> 31


def words_of(head: Words) -> int:
    """Words of a type that begins with these three."""
    kind = kind_of(head)
    return 3 + EXTRA_WORDS.get(kind, 0) + ELEMENT_WORDS.get(kind, 0) * vlen_of(head)


def elements(t: Words) -> list[Words]:
    """The vlen members, enumerators, parameters or section entries, as lists of words."""
    step = ELEMENT_WORDS.get(kind_of(t), 0)
    return [t[3 + step * i : 3 + step * (i + 1)] for i in range(vlen_of(t))] if step else []


def string_words(t: Words) -> list[int]:
    """Positions of the words that are string offsets, in the order in which dedup visits them."""
    step = ELEMENT_WORDS.get(kind_of(t), 0)
    if not step or kind_of(t) == DATASEC:
        return [0]
    return [0, *range(3, len(t), step)]


def id_words(t: Words) -> list[int]:
    """Positions of the words that are type ids. libbpf counts a FWD's unused word as one."""
    kind = kind_of(t)
    if kind in CHAIN or kind in (FWD, VAR, DECL_TAG):
        return [2]
    if kind == ARRAY:
        return [3, 4]
    if kind in COMPOSITE:
        return list(range(4, len(t), 3))
    if kind == FUNC_PROTO:
        return [2, *range(4, len(t), 2)]
    if kind == DATASEC:
        return list(range(3, len(t), 3))
    return []


# ------------------------------------------------------------------------------------------- file


@dataclass
class Btf:
    """One BTF: its own types and strings, and where they begin if it continues a base."""

    order: str = "<"
    types: list[Words] = field(default_factory=list)  # own types; the first one has id start_id
    strings: bytes = b""
    base: Btf | None = None

    @property
    def start_id(self) -> int:
        return self.base.end_id if self.base else 1

    @property
    def end_id(self) -> int:
        return self.start_id + len(self.types)

    @property
    def start_str(self) -> int:
        return self.base.end_str if self.base else 0

    @property
    def end_str(self) -> int:
        return self.start_str + len(self.strings)

    def text(self, offset: int) -> bytes:
        """The string at an offset, which may lie inside another string."""
        if self.base and offset < self.start_str:
            return self.base.text(offset)
        at = offset - self.start_str
        return self.strings[at : self.strings.index(b"\0", at)]

    def all_types(self) -> list[Words]:
        """Index is the type id; void is id 0."""
        below = self.base.all_types() if self.base else [[0, 0, 0]]
        return below + self.types

    def string_index(self) -> dict[bytes, int]:
        """Content -> offset, for whole strings only; the first of several equal strings wins."""
        index = dict(self.base.string_index()) if self.base else {}
        at = 0
        while at < len(self.strings):
            text = self.text(self.start_str + at)
            index.setdefault(text, self.start_str + at)
            at += len(text) + 1
        return index


def sections(data: bytes) -> tuple[str, bytes, bytes]:
    """Byte order, types and strings of a BTF file whose header is sound."""
    if len(data) < 24:
        raise FormatError("file is shorter than a header")
    order = next((o for o in "<>" if struct.unpack_from(o + "H", data)[0] == MAGIC), None)
    if order is None:
        raise FormatError("magic is not BTF's")
    hdr_len, type_off, type_len, str_off, str_len = struct.unpack_from(order + "5I", data, 4)
    layout_off = layout_len = 0
    if hdr_len < 24 or hdr_len > len(data):
        raise FormatError(f"header length {hdr_len}")
    if hdr_len >= 32:
        layout_off, layout_len = struct.unpack_from(order + "2I", data, 24)
    if str_off + str_len > len(data) - hdr_len:
        raise FormatError("string section ends after the file")
    if type_off + type_len > str_off:
        raise FormatError("type section runs into the string section")
    if type_off % 4 or type_len % 4:
        raise FormatError("type section is not made of 4-byte words")
    if layout_len and not type_off + type_len <= layout_off <= layout_off + layout_len <= str_off:
        raise FormatError("layout section is not between types and strings")
    types, strings = hdr_len + type_off, hdr_len + str_off
    return order, data[types : types + type_len], data[strings : strings + str_len]


def parse(data: bytes, base: Btf | None = None) -> Btf:
    """Reads a BTF file; raises FormatError for whatever would later be read out of bounds."""
    order, types, strings = sections(data)
    if not (base and not strings):
        if not strings.endswith(b"\0"):
            raise FormatError("string section does not end in NUL")
        if base is None and strings[0]:
            raise FormatError("string section does not begin with the empty string")

    words = struct.unpack(f"{order}{len(types) // 4}I", types)
    btf = Btf(order, [], strings, base)
    at = 0
    while at < len(words):
        head = list(words[at : at + 3])
        if len(head) < 3:
            raise FormatError(f"type {btf.end_id}: record is cut off")
        kind = kind_of(head)
        if not INT <= kind <= ENUM64:
            raise FormatError(f"type {btf.end_id}: kind {kind} is not known")
        size = words_of(head)
        if at + size > len(words):
            raise FormatError(f"type {btf.end_id}: {KIND_NAMES[kind]} is cut off")
        btf.types.append(list(words[at : at + size]))
        at += size
    check_references(btf)
    return btf


def check_references(btf: Btf) -> None:
    below = btf.base.all_types() if btf.base else [[0, 0, 0]]
    for type_id, t in enumerate(btf.types, btf.start_id):
        for word in string_words(t):
            if t[word] >= btf.end_str:
                raise FormatError(f"type {type_id}: string offset {t[word]} is out of range")
        for word in id_words(t):
            if t[word] >= btf.end_id:
                raise FormatError(f"type {type_id}: type id {t[word]} is out of range")
        if kind_of(t) == FUNC:
            target = below[t[2]] if t[2] < btf.start_id else btf.types[t[2] - btf.start_id]
            if kind_of(target) != FUNC_PROTO:
                raise FormatError(f"type {type_id}: FUNC of a type that is no FUNC_PROTO")


# ---------------------------------------------------------------------------------------- strings


def intern(btf: Btf, words: Words, text_of: Btf, keep_below: int, index: dict[bytes, int]) -> None:
    """Gives the string offsets of one type their final value; new strings are appended to `btf`.

    Offset 0 and offsets below `keep_below` stay. The text of the others is looked up in the base
    and in what was appended so far (`index` knows both).
    """
    for word in string_words(words):
        if words[word] == 0 or words[word] < keep_below:
            continue
        text = text_of.text(words[word])
        if text not in index:
            index[text] = btf.end_str
            btf.strings += text + b"\0"
        words[word] = index[text]


def add(target: Btf, source: Btf, index: dict[bytes, int]) -> None:
    """Appends a standalone BTF's types: ids move up, strings are interned in order of use."""
    shift = target.end_id - 1
    for t in source.types:
        words = list(t)
        intern(target, words, source, 0, index)
        for word in id_words(words):
            if words[word]:
                words[word] += shift
        target.types.append(words)


def rebuild_strings(btf: Btf) -> Btf:
    """The strings pass for a parsed file: own strings anew, in order of first use."""
    out = Btf(btf.order, [list(t) for t in btf.types], b"" if btf.base else b"\0", btf.base)
    index = out.string_index()
    for words in out.types:
        intern(out, words, btf, btf.start_str, index)
    return out
