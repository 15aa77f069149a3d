"""What the raw and the JSON dump say of each kind, in bpftool's words and order.

Both formats name the same facts by the same keys. The keys of each kind are in the table of kinds
(``format.kinds``), where their values stand in a record is written here; ``raw`` and ``json``
differ in how they print them. Nothing is built per type but the tuple of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..format import kinds
from ..format.kinds import DumpKeys
from ..types.btf import BTF
from ..types.columns import check_name_bytes
from ..types.typebase import enum_values, locate, signed

PARTS_PER_CHUNK = 20_000
ANONYMOUS = "(anon)"

INT_ENCODINGS = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}
LINKAGES = {0: "static", 1: "global", 2: "extern"}  # of FUNC and of VAR alike

Values = tuple[int | str, ...]


class Record(NamedTuple):
    """One type: its place in the words, the info word taken apart."""

    words: list[int]
    at: int
    kind: int
    vlen: int
    kind_flag: bool


BITFIELD_SIZE = "bitfield_size"
"""A fourth key of a member that is a bit-field."""

UNKNOWN_KIND = "UNKNOWN"
# Of a kind that only the layout section describes: the parts of info, then every word after it.
UNKNOWN_KEYS = DumpKeys(("kind", "vlen", "kind_flag"), "words")


def _int(r: Record) -> Values:
    word = r.words[r.at + 3]
    encoding = INT_ENCODINGS.get(word >> 24 & 0xF, "UNKN")
    return r.words[r.at + 2], word >> 16 & 0xFF, word & 0xFF, encoding


def _third(r: Record) -> Values:
    return (r.words[r.at + 2],)


def _array(r: Record) -> Values:
    return tuple(r.words[r.at + 3 : r.at + 6])


def _third_and_vlen(r: Record) -> Values:
    return r.words[r.at + 2], r.vlen


def _enum(r: Record) -> Values:
    return "SIGNED" if r.kind_flag else "UNSIGNED", r.words[r.at + 2], r.vlen


def _fwd(r: Record) -> Values:
    return ("union" if r.kind_flag else "struct",)


def _linkage(r: Record) -> Values:
    linkage = r.words[r.at + 3] if r.kind == kinds.VAR else r.vlen
    return r.words[r.at + 2], LINKAGES.get(linkage, "(unknown)")


def _decl_tag(r: Record) -> Values:
    return r.words[r.at + 2], signed(r.words[r.at + 3])


# What gives the values of these keys of a type.
_VALUES: dict[tuple[str, ...], Callable[[Record], Values]] = {
    ("size", "bits_offset", "nr_bits", "encoding"): _int,
    ("type_id",): _third,
    ("size",): _third,
    ("type_id", "index_type_id", "nr_elems"): _array,
    ("size", "vlen"): _third_and_vlen,
    ("ret_type_id", "vlen"): _third_and_vlen,
    ("encoding", "size", "vlen"): _enum,
    ("fwd_kind",): _fwd,
    ("type_id", "linkage"): _linkage,
    ("type_id", "component_idx"): _decl_tag,
}
KEYS = {spec.kind: spec.keys for spec in kinds.SPECS}
HEAD_VALUES = {kind: _VALUES[keys.head] for kind, keys in KEYS.items()}


class Names(dict[int, str]):
    """Strings by global offset, looked up once each; ``as_text`` makes text of their bytes."""

    def __init__(self, btf: BTF, anonymous: str, as_text: Callable[[bytes], str]):
        for level in btf.levels:
            check_name_bytes(level)
        super().__init__({0: anonymous})
        self._strings = btf.chain_strings.tobytes()
        self._as_text = as_text

    def __missing__(self, offset: int) -> str:
        name = self[offset] = self._as_text(self._strings[offset : self._strings.index(0, offset)])
        return name


def elements(r: Record, names: Names) -> Iterator[Values]:
    """Return the values of the elements of a type whose kind has some, by ``KEYS[kind].element``.

    A member that is a bit-field has one more value, its size in bits.
    """
    words, first = r.words, r.at + kinds.HEAD_WORDS
    if r.kind in kinds.COMPOSITES:
        for at in range(first, first + 3 * r.vlen, 3):
            offset = words[at + 2]
            if not r.kind_flag:
                yield names[words[at]], words[at + 1], offset
            elif offset >> 24:
                yield names[words[at]], words[at + 1], offset & 0xFFFFFF, offset >> 24
            else:
                yield names[words[at]], words[at + 1], offset
    elif r.kind in kinds.ENUMS:
        for name, value in enum_values(words, first, r.kind, r.vlen, r.kind_flag):
            yield names[name], value
    elif r.kind == kinds.DATASEC:
        for at in range(first, first + 3 * r.vlen, 3):
            yield words[at], words[at + 1], words[at + 2]
    else:  # FUNC_PROTO
        for at in range(first, first + 2 * r.vlen, 2):
            yield names[words[at]], words[at + 1]


def element_texts(r: Record, names: Names, template: str, bitfield: str) -> list[str]:
    """Put the elements of a type into a template; members that are bit-fields into ``bitfield``."""
    if r.kind in kinds.COMPOSITES and r.kind_flag:
        by_length = {3: template, 4: bitfield}
        return [by_length[len(values)] % values for values in elements(r, names)]
    return [template % values for values in elements(r, names)]


def valid_roots(btf: BTF, roots: Sequence[int] | None) -> list[int] | None:
    """The ids in ``roots``, each once; void is none. Raises NotFoundError for what is no type."""
    if roots is None:
        return None
    return list(dict.fromkeys(btf[root].id for root in roots if root != 0))


def _places(btf: BTF, roots: Sequence[int] | None) -> Iterator[tuple[int, list[int], int]]:
    """Go through the own types, or those with the ids in ``roots``: id, words of the level, place
    in them."""
    if roots is None:
        words: list[int] = btf.words.tolist()
        starts: list[int] = btf.offsets.tolist()
        for type_id, at in enumerate(starts[:-1], btf.start_id):
            yield type_id, words, at
        return
    words_of: dict[int, list[int]] = {}
    for type_id in roots:
        owner, at = locate(btf, type_id)
        if owner.start_id not in words_of:
            words_of[owner.start_id] = owner.words.tolist()
        yield type_id, words_of[owner.start_id], at


def records(btf: BTF, roots: Sequence[int] | None) -> Iterator[tuple[int, Record]]:
    """Go through the own types, or those with the ids in ``roots``: (id, record) of each."""
    kind_mask, vlen_mask = kinds.INFO_KIND_MASK, kinds.INFO_VLEN_MASK
    for type_id, words, at in _places(btf, roots):
        info = words[at + 1]
        kind = info >> kinds.INFO_KIND_SHIFT & kind_mask
        yield type_id, Record(words, at, kind, info & vlen_mask, info > 0x7FFFFFFF)


def pieces(
    btf: BTF,
    text_of: Callable[[int, Record, Names], str],
    names: Names,
    roots: Sequence[int] | None,
    separator: str = "",
) -> Iterator[str]:
    """Write the own types, or those with the ids in ``roots``, as ``text_of`` puts them, in pieces
    that are neither small nor huge."""
    parts: list[str] = []
    for number, (type_id, record) in enumerate(records(btf, roots)):
        if number:
            parts.append(separator)
        parts.append(text_of(type_id, record, names))
        if len(parts) > PARTS_PER_CHUNK:
            yield "".join(parts)
            parts.clear()
    yield "".join(parts)


def unknown_record(btf: BTF, type_id: int, r: Record) -> tuple[Values, list[int]]:
    """Of a kind that we do not know: the values of UNKNOWN_KEYS, and all words after info."""
    end = int(btf.offsets[type_id - btf.start_id + 1])
    return (r.kind, r.vlen, int(r.kind_flag)), r.words[r.at + 2 : end]


def head_of(btf: BTF, type_id: int) -> tuple[str, int]:
    """Return the kind in words and name offset of any type, base included."""
    if type_id == 0:
        return kinds.KIND_NAMES[0], 0
    owner, at = locate(btf, type_id)
    kind = int(owner.words[at + 1]) >> kinds.INFO_KIND_SHIFT & kinds.INFO_KIND_MASK
    name = kinds.KIND_NAMES[kind] if kind <= kinds.MAX_KIND else UNKNOWN_KIND
    return name, int(owner.words[at])
