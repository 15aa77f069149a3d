"""Structure-aware mutation of BTF: what is changed is a reference, a name, a member, a type, a
size, a section, and at times just bytes. Most mutants are sound, to get past the first check.

All randomness is from the `random.Random` given: a seed gives the same mutant always.
"""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from support import btfwriter as bw
from support.oracles import naive_btf
from support.oracles.naive_btf import (
    ARRAY,
    CONST,
    DATASEC,
    DECL_TAG,
    ELEMENT_WORDS,
    ENUM,
    ENUM64,
    EXTRA_WORDS,
    FLOAT,
    FUNC,
    FUNC_PROTO,
    FWD,
    INT,
    PTR,
    RESTRICT,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    VAR,
    VOLATILE,
    Words,
    kind_of,
    vlen_of,
)  # fmt: skip

ODD_NUMBERS = (
    0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF,
    0x10000, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF,
)  # fmt: skip
ODD_NAMES = (
    b"int", b"a", b"x" * 300, b"\xff\xfe", b"caf\xc3\xa9", b"\x1b[2J", b"two\nlines", b"tab\there",
    b'a"b', b"a\\b", b"a'b", b"*/ int evil; /*", b"x; int y", b"1st", b"struct", b"a b", b"a.b",
    b"%s%n", b"../../etc/passwd", b"?", b".data..percpu", b"\x7f", b"__attribute__((x))", b"a=1",
)  # fmt: skip
ALIKE = (  # kinds whose records have the same length
    (PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG, FWD, FLOAT, FUNC), (STRUCT, UNION, ENUM64),
    (ENUM, FUNC_PROTO), (INT, VAR, DECL_TAG), (STRUCT, DATASEC),
)  # fmt: skip
CHAINED = (PTR, TYPEDEF, CONST, VOLATILE, TYPE_TAG, ARRAY, STRUCT, FUNC_PROTO)


@dataclass
class Draft:
    """A file being changed: types as words, strings, and what of the header is said otherwise."""

    types: list[Words]
    strings: bytearray
    order: str
    start_id: int = 1
    start_str: int = 0
    header: dict[str, Any] = field(default_factory=dict)

    @property
    def end_id(self) -> int:
        return self.start_id + len(self.types)

    def to_bytes(self) -> bytes:
        words = [word & bw.U32 for t in self.types for word in t]
        types = struct.pack(f"{self.order}{len(words)}I", *words)
        return bw.assemble(types, bytes(self.strings), self.order, **self.header)


def draft(data: bytes, start_id: int = 1, start_str: int = 0) -> Draft:
    """Reads a sound file."""
    order, types, strings = _read(data)
    return Draft([list(t) for t in types], bytearray(strings), order, start_id, start_str)


@functools.lru_cache(64)
def _read(data: bytes) -> tuple[str, list[Words], bytes]:
    order, types, strings = naive_btf.sections(data)
    words = list(struct.unpack(f"{order}{len(types) // 4}I", types))
    found, at = [], 0
    while at < len(words):
        head = words[at : at + 3]
        size = 3 + EXTRA_WORDS.get(kind_of(head), 0)
        size += ELEMENT_WORDS.get(kind_of(head), 0) * vlen_of(head)
        found.append(words[at : at + size])
        at += size
    return order, found, strings


def mutated(start: Draft, roll: random.Random) -> bytes:
    """A file with one to a few changes."""
    for _ in range(roll.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        roll.choices(_CHANGES, _WEIGHTS)[0](start, roll)
    data = start.to_bytes()
    return noise(data, roll) if roll.random() < 0.06 else data


def noise(data: bytes, roll: random.Random) -> bytes:
    """Changes that know nothing of what they change."""
    out = bytearray(data)
    for _ in range(roll.choice((1, 1, 2, 4))):
        at = roll.randrange(len(out)) if out else 0
        match roll.randrange(7):
            case 0 if out:
                out[at] ^= 1 << roll.randrange(8)
            case 1 if len(out) >= 4:
                where = min(at // 4 * 4, len(out) - 4)
                struct.pack_into(roll.choice("<>") + "I", out, where, roll.choice(ODD_NUMBERS))
            case 2:
                del out[at:]
            case 3:
                out[at:at] = roll.randbytes(roll.choice((1, 4, 12, 200)))
            case 4:
                del out[at : at + roll.choice((1, 4, 12, 100))]
            case 5:
                end = at + roll.choice((4, 12, 512))
                out[at:at] = out[at:end]
            case 6:
                out[at : at + 16] = bytes(16)
    return bytes(out)


# ------------------------------------------------------------------------------------------ changes


def _ids(t: Words) -> list[int]:
    """Words that are type ids, of those that are there: a kind may have been changed."""
    return [word for word in naive_btf.id_words(t) if word < len(t)]


def _names(t: Words) -> list[int]:
    """The same of words that are string offsets."""
    return [word for word in naive_btf.string_words(t) if word < len(t)]


def _any_type(d: Draft, roll: random.Random) -> Words:
    if not d.types:
        d.types.append([0, PTR << 24, 0])
    return roll.choice(d.types)


def _any_id(d: Draft, roll: random.Random) -> int:
    """Nearly always one that exists."""
    choice = roll.random()
    if choice < 0.02:
        return roll.choice((d.end_id, d.end_id + 1, *ODD_NUMBERS))
    if choice < 0.15:
        return 0
    if choice < 0.3 and d.start_id > 1:
        return roll.randrange(d.start_id)
    return roll.randrange(d.start_id, max(d.end_id, d.start_id + 1))


def _any_name(d: Draft, roll: random.Random) -> int:
    choice = roll.random()
    if choice < 0.01:
        return roll.choice((d.start_str + len(d.strings), *ODD_NUMBERS))
    if choice < 0.1:
        return 0
    if choice < 0.2:
        return _new_name(d, roll.choice(ODD_NAMES))
    if choice < 0.4:  # in the middle of another
        return roll.randrange(d.start_str + len(d.strings) or 1)
    t = _any_type(d, roll)
    return t[roll.choice(_names(t))]


def _new_name(d: Draft, text: bytes) -> int:
    offset = d.start_str + len(d.strings)
    d.strings += text + b"\0"
    return offset


def _retarget(d: Draft, roll: random.Random) -> None:
    t = _any_type(d, roll)
    if words := _ids(t):
        t[roll.choice(words)] = _any_id(d, roll)


def _rename(d: Draft, roll: random.Random) -> None:
    t = _any_type(d, roll)
    t[roll.choice(_names(t))] = _any_name(d, roll)


def _rename_string(d: Draft, roll: random.Random) -> None:
    """Changes the strings, whoever uses them."""
    at = roll.randrange(len(d.strings)) if d.strings else 0
    match roll.randrange(4):
        case 0 if d.strings:
            d.strings[at] = roll.choice(b'\0aAz_0 \n"\\\x80\xff')
        case 1:
            d.strings[at:at] = roll.choice(ODD_NAMES)
        case 2:
            _new_name(d, bytes(d.strings[at : at + 8]).replace(b"\0", b"_"))
        case 3:
            t = _any_type(d, roll)
            t[0] = _new_name(d, roll.choice((b"n" * 5000, roll.randbytes(9).replace(b"\0", b"0"))))


def _other_kind(d: Draft, roll: random.Random) -> None:
    t = _any_type(d, roll)
    kinds = [kind for alike in ALIKE if kind_of(t) in alike for kind in alike]
    if kinds:
        kind = roll.choice(kinds)
        if kind in ELEMENT_WORDS or kind == FUNC:
            t[1] = t[1] & 0x80FFFFFF | kind << 24
        else:
            t[1] = t[1] & 0x80000000 | kind << 24


def _flag(d: Draft, roll: random.Random) -> None:
    _any_type(d, roll)[1] ^= 1 << 31


def _number(d: Draft, roll: random.Random) -> None:
    """A size, an offset, a value, an encoding."""
    t = _any_type(d, roll)
    others = sorted(set(range(2, len(t))) - {*_ids(t), *_names(t)})
    if others:
        word = roll.choice(others)
        near = t[word] + roll.choice((-8, -1, 1, 8, 32))
        t[word] = roll.choice((near, near, roll.choice(ODD_NUMBERS))) & bw.U32


def _elements(d: Draft, roll: random.Random) -> None:
    """One member, value, parameter or entry more or fewer, or two in each other's place."""
    t = _any_type(d, roll)
    step = ELEMENT_WORDS.get(kind_of(t), 0)
    if not step:
        return
    rows = naive_btf.elements(t)
    match roll.randrange(5):
        case 0 if rows:
            del rows[roll.randrange(len(rows))]
        case 1 if rows:
            rows.insert(roll.randrange(len(rows) + 1), list(roll.choice(rows)))
        case 2:
            row = [_any_name(d, roll), _any_id(d, roll), roll.choice(ODD_NUMBERS)][-step:]
            if kind_of(t) in (ENUM, FUNC_PROTO):
                row = [_any_name(d, roll), _any_id(d, roll)]
            rows.insert(roll.randrange(len(rows) + 1), row)
        case 3:
            roll.shuffle(rows)
        case 4:
            rows = rows * roll.choice((2, 3, 40)) if len(rows) < 40 else rows[:1]
    t[1] = t[1] & 0xFF000000 | len(rows)
    t[3:] = [word for row in rows for word in row]


def _vlen(d: Draft, roll: random.Random) -> None:
    """The count alone: the record that follows begins elsewhere."""
    t = _any_type(d, roll)
    t[1] = t[1] & 0xFF000000 | roll.choice(
        (vlen_of(t) + 1, max(vlen_of(t), 1) - 1, 0xFFFF, 0xFFFFFF)
    )


def _info(d: Draft, roll: random.Random) -> None:
    _any_type(d, roll)[1] ^= 1 << roll.randrange(32)


def _again(d: Draft, roll: random.Random) -> None:
    """A copy at the end; some references lead to it."""
    old = roll.randrange(len(d.types)) if d.types else 0
    d.types.append(list(_any_type(d, roll) if not d.types else d.types[old]))
    for t in d.types:
        for word in _ids(t):
            if t[word] == d.start_id + old and roll.random() < 0.5:
                t[word] = d.end_id - 1


def _all_again(d: Draft, roll: random.Random) -> None:
    """All own types once more, which refer to each other: what several units give."""
    if len(d.types) > 400:
        return
    shift = len(d.types)
    for t in [list(t) for t in d.types]:
        for word in _ids(t):
            if t[word] >= d.start_id and roll.random() < 0.97:
                t[word] += shift
        d.types.append(t)


def _move(d: Draft, roll: random.Random) -> None:
    """Another order; references follow, or do not."""
    if len(d.types) < 2:
        return
    order = list(range(len(d.types)))
    a, b = (roll.randrange(len(order)) for _ in range(2))
    order[a], order[b] = order[b], order[a]
    if roll.random() < 0.2:
        roll.shuffle(order)
    reorder(d, order, follow=roll.random() < 0.8)


def _drop(d: Draft, roll: random.Random) -> None:
    if d.types:
        order = list(range(len(d.types)))
        del order[roll.randrange(len(order))]
        reorder(d, order, follow=roll.random() < 0.9)


def reorder(d: Draft, order: list[int], follow: bool) -> None:
    new_ids = {d.start_id + old: d.start_id + new for new, old in enumerate(order)}
    d.types = [d.types[old] for old in order]
    if follow:
        for t in d.types:
            for word in _ids(t):
                if t[word] >= d.start_id:
                    t[word] = new_ids.get(t[word], 0)


def any_record(kind: int, name: int, size: int, ids: list[int], flag: int) -> Words:
    """A record of a kind with up to two elements."""
    info = flag << 31 | kind << 24
    first, second = ids
    if kind in (STRUCT, UNION):
        return [name, info | 2, size, name, first, 0, 0, second, 32]
    if kind in (ENUM, ENUM64):
        return [name, info | 1, 4 if kind == ENUM else 8, name, 1, *[0] * (kind == ENUM64)]
    if kind == FUNC_PROTO:
        return [0, info & 0x7FFFFFFF | 1, first, 0, second]
    if kind == DATASEC:
        return [name, info | 1, size, first, 0, 4]
    if kind == ARRAY:
        return [0, info, 0, first, second, size & 0xFF]
    extra = {INT: [32], VAR: [1], DECL_TAG: [bw.U32]}.get(kind, [])
    return [name, info, 4 if kind in (INT, FLOAT) else 0 if kind == FWD else first, *extra]


def _insert(d: Draft, roll: random.Random) -> None:
    kind = roll.randrange(INT, ENUM64 + 1)
    unnamed = kind in (PTR, CONST, VOLATILE, RESTRICT, ARRAY, FUNC_PROTO)
    name = 0 if unnamed else _any_name(d, roll)
    ids = [_any_id(d, roll), _any_id(d, roll)]
    if kind == FUNC:
        protos = [i for i, t in enumerate(d.types, d.start_id) if kind_of(t) == FUNC_PROTO]
        if protos:
            ids[0] = roll.choice(protos)
    d.types.append(any_record(kind, name, roll.choice((4, 8, 64)), ids, int(roll.random() < 0.1)))
    _lead_to(d, roll, d.end_id - 1)


def _lead_to(d: Draft, roll: random.Random, type_id: int) -> None:
    t = _any_type(d, roll)
    if (words := _ids(t)) and roll.random() < 0.7:
        t[roll.choice(words)] = type_id


def _declared(d: Draft, roll: random.Random) -> None:
    """Only declared what was defined, and the other way."""
    t = _any_type(d, roll)
    if kind_of(t) in (STRUCT, UNION):
        t[1:] = [FWD << 24 | (kind_of(t) == UNION) << 31, 0]
    elif kind_of(t) in (ENUM, ENUM64):
        t[1:] = [t[1] & 0xFF000000, t[2]]
    elif kind_of(t) == FWD:
        t[1:] = any_record(STRUCT, t[0], 8, [_any_id(d, roll), _any_id(d, roll)], 0)[1:]


def _chain(d: Draft, roll: random.Random) -> None:
    """A long way from one type to another."""
    kind, name = roll.choice(CHAINED), _any_name(d, roll)
    length = roll.choice((3, 3, 16, 16, 17, 17, 40, 40, 200, 1200))
    target = _any_id(d, roll)
    downwards = roll.random() < 0.5
    for step in range(length):
        if downwards:
            ahead = d.end_id + 1 if step < length - 1 else target
        else:
            ahead = target if step == 0 else d.end_id - 1
        record = any_record(kind, name, 8, [ahead, 0], 0)
        if kind in (STRUCT, FUNC_PROTO) and roll.random() < 0.5:
            record = any_record(kind, name, 8, [ahead, ahead], 0)
        d.types.append(record)
    _lead_to(d, roll, d.end_id - (length if downwards else 1))


def _circle(d: Draft, roll: random.Random) -> None:
    """A circle of a few types, sound or not."""
    kinds = [roll.choice(CHAINED) for _ in range(roll.choice((1, 2, 3, 5)))]
    first = d.end_id
    for at, kind in enumerate(kinds, 1):
        ahead = first + at % len(kinds)
        name = _any_name(d, roll) if kind in (TYPEDEF, STRUCT, TYPE_TAG) else 0
        d.types.append(any_record(kind, name, 8, [ahead, _any_id(d, roll)], 0))
    _lead_to(d, roll, first)


def _sections(d: Draft, roll: random.Random) -> None:
    """What the header says, or how it is laid out."""
    match roll.randrange(6):
        case 0:
            names = ("magic", "version", "flags", "hdr_len", "type_off", "type_len", "str_off",
                     "str_len", "layout_off", "layout_len")  # fmt: skip
            bits = {"magic": 16, "version": 8, "flags": 8}
            name = roll.choice(names)
            d.header[name] = roll.choice(ODD_NUMBERS) & (1 << bits.get(name, 32)) - 1
        case 1:
            d.header |= {"header_bytes": 32, "layout": bw.full_layout()}
        case 2:
            rows = [(roll.choice((0, 4, 12, 255)), roll.choice((0, 8, 12)), 0) for _ in range(3)]
            d.header |= {"header_bytes": 32, "layout": [*bw.full_layout(), *rows]}
            d.types.append([0, roll.randrange(20, 24) << 24 | roll.randrange(3), 0])
        case 3:
            d.header[roll.choice(("gap", "tail", "header_extra"))] = bytes(roll.choice((4, 8, 3)))
        case 4:
            d.order = {"<": ">", ">": "<"}[d.order]
        case 5:
            del d.strings[roll.randrange(len(d.strings) or 1) :]


Change = Callable[[Draft, random.Random], None]
CHANGES: Mapping[Change, int] = {
    _retarget: 12, _rename: 8, _rename_string: 2, _other_kind: 5, _flag: 3, _number: 8,
    _elements: 8, _vlen: 1, _info: 1, _again: 6, _all_again: 4, _move: 4, _drop: 4, _insert: 8,
    _declared: 6, _chain: 2, _circle: 4, _sections: 2,
}  # fmt: skip
_CHANGES, _WEIGHTS = list(CHANGES), list(CHANGES.values())
