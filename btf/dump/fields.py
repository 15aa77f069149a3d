"""What the raw and the JSON dump say of each kind, in bpftool's words and order.

Both formats name the same facts by the same keys, so the keys and where their values stand in a
record are written once, here; ``as_raw`` and ``as_json`` differ in how they print them.
Nothing is built per type but the tuple of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..format import kinds
from ..types.btf import BTF

PARTS_PER_CHUNK = 20_000
ANONYMOUS = "(anon)"

INT_ENCODINGS = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}
LINKAGES = {0: "static", 1: "global", 2: "extern"}  # of FUNC and of VAR alike

Values = tuple[int | str, ...]


class Fields(NamedTuple):
    """The keys of one kind: of the type itself, and of its elements."""

    head: tuple[str, ...]
    elements: str = ""
    """What the list of elements is called; "" when the kind has none."""
    element: tuple[str, ...] = ()


class Record(NamedTuple):
    """One type: its place in the words, the info word taken apart."""

    words: list[int]
    at: int
    kind: int
    vlen: int
    kind_flag: bool


_REFERENCE = Fields(("type_id",))
_COMPOSITE = Fields(("size", "vlen"), "members", ("name", "type_id", "bits_offset"))
_ENUM = Fields(("encoding", "size", "vlen"), "values", ("name", "val"))

FIELDS: dict[int, Fields] = {
    kinds.INT: Fields(("size", "bits_offset", "nr_bits", "encoding")),
    kinds.PTR: _REFERENCE,
    kinds.ARRAY: Fields(("type_id", "index_type_id", "nr_elems")),
    kinds.STRUCT: _COMPOSITE,
    kinds.UNION: _COMPOSITE,
    kinds.ENUM: _ENUM,
    kinds.FWD: Fields(("fwd_kind",)),
    kinds.TYPEDEF: _REFERENCE,
    kinds.VOLATILE: _REFERENCE,
    kinds.CONST: _REFERENCE,
    kinds.RESTRICT: _REFERENCE,
    kinds.FUNC: Fields(("type_id", "linkage")),
    kinds.FUNC_PROTO: Fields(("ret_type_id", "vlen"), "params", ("name", "type_id")),
    kinds.VAR: Fields(("type_id", "linkage")),
    kinds.DATASEC: Fields(("size", "vlen"), "vars", ("type_id", "offset", "size")),
    kinds.FLOAT: Fields(("size",)),
    kinds.DECL_TAG: Fields(("type_id", "component_idx")),
    kinds.TYPE_TAG: _REFERENCE,
    kinds.ENUM64: _ENUM,
}

BITFIELD_SIZE = "bitfield_size"
"""A fourth key of a member that is a bit-field."""

UNKNOWN_KIND = "UNKNOWN"
# Of a kind that only the layout section describes: the parts of info, then every word after it.
UNKNOWN_FIELDS = Fields(("kind", "vlen", "kind_flag"), "words")


def signed(value: int, bits: int = 32) -> int:
    """The two's complement reading of an unsigned word."""
    return value - (1 << bits) if value >> (bits - 1) else value


def _int(r: Record) -> Values:
    word = r.words[r.at + 3]
    encoding = INT_ENCODINGS.get(word >> 24 & 0xF, "UNKN")
    return r.words[r.at + 2], word >> 16 & 0xFF, word & 0xFF, encoding


def _reference(r: Record) -> Values:
    return (r.words[r.at + 2],)


def _array(r: Record) -> Values:
    return tuple(r.words[r.at + 3 : r.at + 6])


def _sized(r: Record) -> Values:
    return r.words[r.at + 2], r.vlen


def _enum(r: Record) -> Values:
    return "SIGNED" if r.kind_flag else "UNSIGNED", r.words[r.at + 2], r.vlen


def _fwd(r: Record) -> Values:
    return ("union" if r.kind_flag else "struct",)


def _func(r: Record) -> Values:
    return r.words[r.at + 2], LINKAGES.get(r.vlen, "(unknown)")


def _var(r: Record) -> Values:
    return r.words[r.at + 2], LINKAGES.get(r.words[r.at + 3], "(unknown)")


def _decl_tag(r: Record) -> Values:
    return r.words[r.at + 2], signed(r.words[r.at + 3])


HEAD_VALUES: dict[int, Callable[[Record], Values]] = {
    kinds.INT: _int,
    kinds.PTR: _reference,
    kinds.ARRAY: _array,
    kinds.STRUCT: _sized,
    kinds.UNION: _sized,
    kinds.ENUM: _enum,
    kinds.FWD: _fwd,
    kinds.TYPEDEF: _reference,
    kinds.VOLATILE: _reference,
    kinds.CONST: _reference,
    kinds.RESTRICT: _reference,
    kinds.FUNC: _func,
    kinds.FUNC_PROTO: _sized,
    kinds.VAR: _var,
    kinds.DATASEC: _sized,
    kinds.FLOAT: _reference,
    kinds.DECL_TAG: _decl_tag,
    kinds.TYPE_TAG: _reference,
    kinds.ENUM64: _enum,
}


class Names(dict[int, str]):
    """Strings by global offset, looked up once each.

    Bytes that are no UTF-8 become lone surrogates ("surrogateescape"): text that is encoded in the
    same way is, byte for byte, what the file has.
    """

    def __init__(self, btf: BTF, anonymous: str, escape: Callable[[str], str] | None = None):
        super().__init__({0: anonymous})
        self._strings = btf.chain_strings.tobytes()
        self._escape = escape

    def __missing__(self, offset: int) -> str:
        text = self._strings[offset : self._strings.index(0, offset)]
        name = text.decode("utf-8", "surrogateescape")
        if self._escape is not None:
            name = self._escape(name)
        self[offset] = name
        return name


def elements(r: Record, names: Names) -> Iterator[Values]:
    """Values of the elements of a type whose kind has some, by ``FIELDS[kind].element``.

    A member that is a bit-field has one more value, its size in bits.
    """
    words, first = r.words, r.at + kinds.HEAD_WORDS
    if r.kind in (kinds.STRUCT, kinds.UNION):
        for at in range(first, first + 3 * r.vlen, 3):
            offset = words[at + 2]
            if not r.kind_flag:
                yield names[words[at]], words[at + 1], offset
            elif offset >> 24:
                yield names[words[at]], words[at + 1], offset & 0xFFFFFF, offset >> 24
            else:
                yield names[words[at]], words[at + 1], offset
    elif r.kind == kinds.ENUM:
        for at in range(first, first + 2 * r.vlen, 2):
            value = words[at + 1]
            yield names[words[at]], signed(value) if r.kind_flag else value
    elif r.kind == kinds.ENUM64:
        for at in range(first, first + 3 * r.vlen, 3):
            value = words[at + 2] << 32 | words[at + 1]
            yield names[words[at]], signed(value, 64) if r.kind_flag else value
    elif r.kind == kinds.DATASEC:
        for at in range(first, first + 3 * r.vlen, 3):
            yield words[at], words[at + 1], words[at + 2]
    else:  # FUNC_PROTO
        for at in range(first, first + 2 * r.vlen, 2):
            yield names[words[at]], words[at + 1]


def records(btf: BTF) -> Iterator[tuple[int, Record]]:
    """Every own type, with its id."""
    words: list[int] = btf.words.tolist()
    starts: list[int] = btf.offsets.tolist()
    kind_mask, vlen_mask = kinds.INFO_KIND_MASK, kinds.INFO_VLEN_MASK
    for type_id, at in enumerate(starts[:-1], btf.start_id):
        info = words[at + 1]
        kind = info >> kinds.INFO_KIND_SHIFT & kind_mask
        yield type_id, Record(words, at, kind, info & vlen_mask, info > 0x7FFFFFFF)


def pieces(
    btf: BTF, text_of: Callable[[int, Record, Names], str], names: Names, separator: str = ""
) -> Iterator[str]:
    """All own types as ``text_of`` puts them, in pieces of text that are neither small nor huge."""
    parts: list[str] = []
    for type_id, record in records(btf):
        if parts or type_id > btf.start_id:
            parts.append(separator)
        parts.append(text_of(type_id, record, names))
        if len(parts) > PARTS_PER_CHUNK:
            yield "".join(parts)
            parts.clear()
    yield "".join(parts)


def unknown_record(btf: BTF, type_id: int, r: Record) -> tuple[Values, list[int]]:
    """Of a kind that we do not know: the values of UNKNOWN_FIELDS, and all words after info."""
    end = int(btf.offsets[type_id - btf.start_id + 1])
    return (r.kind, r.vlen, int(r.kind_flag)), r.words[r.at + 2 : end]


def head_of(btf: BTF, type_id: int) -> tuple[str, int]:
    """Kind in words and name offset of any type, base included."""
    if type_id == 0:
        return kinds.KIND_NAMES[0], 0
    level = btf
    while type_id < level.start_id:
        assert level.base is not None
        level = level.base
    at = int(level.offsets[type_id - level.start_id])
    kind = int(level.words[at + 1]) >> kinds.INFO_KIND_SHIFT & kinds.INFO_KIND_MASK
    name = kinds.KIND_NAMES[kind] if kind <= kinds.MAX_KIND else UNKNOWN_KIND
    return name, int(level.words[at])
