"""The first pass of the kernel's verifier: each record alone (``btf_check_all_metas``).

It is all that the kernel asks of its own BTF and of that of modules, but for chains of modifiers.
The order of the checks is the kernel's: the first fault is the one that it reports.

Parameters used throughout:

words    uint32, shape (W,): the type section in native byte order, untrusted
at       int64: the first word of a record that lies whole in it
names    ``Names``
limit    the most bytes that a name may have in the release
manner   how the release sees names of sections: 0 as identifiers; 1 as anything printable
active   uint8, by rule: whether the release has it
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import (
    ARRAY,
    DATASEC,
    DECL_TAG,
    ELEMENT_WORDS,
    ENUM,
    ENUM64,
    FIXED_WORDS,
    FLOAT,
    FUNC,
    FUNC_PROTO,
    FWD,
    HEAD_WORDS,
    INFO_KIND_FLAG,
    INFO_VLEN_MASK,
    INT,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    VAR,
    kind_of,
)
from . import rules

_FIRST, _LATER, _PRINTABLE = 1, 2, 4
_GOOD, _BAD = 1, 2  # in Names.known


def _characters() -> np.ndarray:
    """What the kernel's <linux/ctype.h> says of each byte: it takes the upper half for Latin-1."""
    out = np.zeros(256, np.uint8)
    for byte in range(256):
        letter = chr(byte).isalpha() if byte < 128 else byte >= 0xC0 and byte not in (0xD7, 0xF7)
        if letter or byte in b"_.":
            out[byte] |= _FIRST | _LATER
        if chr(byte).isdigit() and byte < 128:
            out[byte] |= _LATER
        if 32 <= byte < 127 or byte >= 0xA0:
            out[byte] |= _PRINTABLE
    out.setflags(write=False)
    return out


CHARACTERS = _characters()


class Names(NamedTuple):
    """Strings, and what is known of them.

    base    uint8, shape (B,): the base's string section, empty without one; ends with NUL
    own     uint8, shape (S,): the own string section; empty, or ends with NUL
    known   uint8, shape (S,): of each own offset whether it is a good identifier; 0: not looked at
    """

    base: np.ndarray
    own: np.ndarray
    known: np.ndarray


@compiled
def _has_place(names, offset):  # type: ignore[no-untyped-def]
    """Whether ``offset`` (int64) is that of a string."""
    return offset <= rules.MAX_NAME_OFFSET and offset < len(names.base) + len(names.own)


@compiled
def first_byte(names, offset):  # type: ignore[no-untyped-def]
    """The first byte of the string at ``offset`` (int64), which is that of a string; int64."""
    own = offset - len(names.base)
    return np.int64(names.own[own]) if own >= 0 else np.int64(names.base[offset])


@compiled
def _is_made_of(text, at, first, later, limit):  # type: ignore[no-untyped-def]
    """Whether the string at ``at`` (int64) in ``text`` (uint8, ends with NUL) has a first byte of
    the classes ``first``, others of the classes ``later``, and ``limit`` bytes at most."""
    if CHARACTERS[text[at]] & first == 0:
        return False
    end = at + limit
    at += 1
    while text[at] != 0:
        if at >= end or CHARACTERS[text[at]] & later == 0:
            return False
        at += 1
    return True


@compiled
def is_identifier(names, offset, limit):  # type: ignore[no-untyped-def]
    """Whether the string at ``offset`` (int64) is an identifier of ``limit`` bytes at most
    (``btf_name_valid_identifier``)."""
    own = offset - len(names.base)
    if own < 0:
        return _is_made_of(names.base, offset, _FIRST, _LATER, limit)
    if names.known[own] == 0:
        good = _is_made_of(names.own, own, _FIRST, _LATER, limit)
        names.known[own] = _GOOD if good else _BAD
    return names.known[own] == _GOOD


@compiled
def _is_section_name(names, offset, limit, manner):  # type: ignore[no-untyped-def]
    """Whether the string at ``offset`` (int64) may name a DATASEC (``btf_name_valid_section``)."""
    if manner == 0:
        return is_identifier(names, offset, limit)
    own = offset - len(names.base)
    text = names.own if own >= 0 else names.base
    at = own if own >= 0 else offset
    return _is_made_of(text, at, _PRINTABLE, _PRINTABLE, limit)


@compiled
def check_records(words, left, names, max_kind, info_mask, limit, manner, active, offsets):  # type: ignore[no-untyped-def]
    """Check each record of a type section: (rule broken or 0, own type from 0, word of the fault).

    left       bytes of the section after the last whole word
    max_kind, info_mask   of the release: the last kind, the bits of info
    offsets    uint32, shape (W // 3 + 2,): filled with where each type begins, and their end, or
               that of the type at fault

    Without a fault the second number is that of the types.
    """
    end = len(words)
    at = 0
    count = 0
    while at < end or (at == end and left > 0):
        offsets[count] = at
        if at + HEAD_WORDS > end:
            return rules.META_LEFT, count, at
        info = words[at + 1]
        kind = kind_of(info)
        if active[rules.INFO] and info & ~np.uint32(info_mask) != 0:
            return rules.INFO, count, at + 1
        if kind > max_kind or kind == 0:
            return rules.KIND, count, at + 1
        name = np.int64(words[at])
        if not _has_place(names, name):
            return rules.NAME_OFFSET, count, at
        vlen = np.int64(info & INFO_VLEN_MASK)
        body = at + HEAD_WORDS
        following = body + np.int64(FIXED_WORDS[kind]) + vlen * np.int64(ELEMENT_WORDS[kind])
        if following > end:
            return rules.META_LEFT, count, at
        if kind == STRUCT or kind == UNION:
            rule, word = _check_struct(words, at, kind == UNION, names, limit)
        elif kind == ENUM or kind == ENUM64:
            rule, word = _check_enum(words, at, ELEMENT_WORDS[kind], names, limit, active)
        elif kind == DATASEC:
            rule, word = _check_section(words, at, names, limit, manner, active)
        else:
            rule, word = _check_plain(words, at, kind, names, limit, active)
        if rule != 0:
            return rule, count, word
        count += 1
        at = following
    offsets[count] = at
    return 0, count, at


@compiled
def _check_struct(words, at, is_union, names, limit):  # type: ignore[no-untyped-def]
    """Check the STRUCT or UNION record at word ``at`` (a union if ``is_union``): (rule broken or 0,
    word of the fault)."""
    info = words[at + 1]
    name = np.int64(words[at])
    size = np.int64(words[at + 2])
    flagged = info & INFO_KIND_FLAG != 0
    if name != 0 and not is_identifier(names, name, limit):
        return rules.STRUCT_NAME, at
    last = 0
    vlen = np.int64(info & INFO_VLEN_MASK)
    for index in range(vlen):
        word = at + HEAD_WORDS + 3 * index
        name = np.int64(words[word])
        if not _has_place(names, name):
            return rules.MEMBER_NAME_OFFSET, word
        if name != 0 and not is_identifier(names, name, limit):
            return rules.MEMBER_NAME, word
        target = np.int64(words[word + 1])
        if target == 0 or target > rules.MAX_TYPE_ID:
            return rules.MEMBER_TYPE, word + 1
        offset = np.int64(words[word + 2])
        if flagged:
            offset &= 0xFFFFFF
        if is_union and offset != 0:
            return rules.UNION_OFFSET, word + 2
        if last > offset:
            return rules.MEMBER_ORDER, word + 2
        if (offset + 7) >> 3 > size:
            return rules.MEMBER_BEYOND, word + 2
        last = offset
    return 0, at


@compiled
def _check_enum(words, at, step, names, limit, active):  # type: ignore[no-untyped-def]
    """Check an ENUM or ENUM64 record at word ``at``, with ``step`` words an enumerator: (rule
    broken or 0, word of the fault)."""
    info = words[at + 1]
    name = np.int64(words[at])
    size = np.int64(words[at + 2])
    if active[rules.ENUM_KIND_FLAG] and info & INFO_KIND_FLAG != 0:
        return rules.ENUM_KIND_FLAG, at + 1
    if size != 1 and size != 2 and size != 4 and size != 8:
        return rules.ENUM_SIZE, at + 2
    if name != 0 and not is_identifier(names, name, limit):
        return rules.ENUM_NAME, at
    vlen = np.int64(info & INFO_VLEN_MASK)
    for index in range(vlen):
        word = at + HEAD_WORDS + np.int64(step) * index
        name = np.int64(words[word])
        if not _has_place(names, name):
            return rules.ENUMERATOR_NAME_OFFSET, word
        if name == 0 or not is_identifier(names, name, limit):
            return rules.ENUMERATOR_NAME, word
    return 0, at


@compiled
def _check_section(words, at, names, limit, manner, active):  # type: ignore[no-untyped-def]
    """Check a DATASEC record at word ``at``: (rule broken or 0, word of the fault)."""
    info = words[at + 1]
    name = np.int64(words[at])
    size = np.int64(words[at + 2])
    vlen = np.int64(info & INFO_VLEN_MASK)
    if active[rules.SECTION_VLEN] and vlen == 0:
        return rules.SECTION_VLEN, at + 1
    if size == 0:
        return rules.SECTION_SIZE, at + 2
    if info & INFO_KIND_FLAG != 0:
        return rules.SECTION_KIND_FLAG, at + 1
    if name == 0 or not _is_section_name(names, name, limit, manner):
        return rules.SECTION_NAME, at
    last_end = 0
    total = 0
    for index in range(vlen):
        word = at + HEAD_WORDS + 3 * index
        target = np.int64(words[word])
        offset = np.int64(words[word + 1])
        length = np.int64(words[word + 2])
        if target == 0 or target > rules.MAX_TYPE_ID:
            return rules.VARIABLE_TYPE, word
        if offset < last_end or offset >= size:
            return rules.VARIABLE_OFFSET, word + 1
        if length == 0 or length > size:
            return rules.VARIABLE_SIZE, word + 2
        last_end = (offset + length) & 0xFFFFFFFF  # the kernel adds 32 bits
        if last_end > size:
            return rules.VARIABLE_END, word + 2
        total += length
    if size < total:
        return rules.SECTION_SUM, at + 2
    return 0, at


@compiled
def _check_plain(words, at, kind, names, limit, active):  # type: ignore[no-untyped-def]
    """Check a record of a ``kind`` (int64) without members at word ``at``: (rule broken or 0, word
    of the fault)."""
    info = words[at + 1]
    name = np.int64(words[at])
    third = np.int64(words[at + 2])
    vlen = np.int64(info & INFO_VLEN_MASK)
    flagged = info & INFO_KIND_FLAG != 0
    if kind == INT:
        data = np.int64(words[at + 3])
        bits = (data & 0xFF) + ((data >> 16) & 0xFF)
        encoding = (data >> 24) & 0xF
        if vlen != 0:
            return rules.INT_VLEN, at + 1
        if flagged:
            return rules.INT_KIND_FLAG, at + 1
        if data >> 28 != 0:
            return rules.INT_DATA, at + 3
        if bits > 128:
            return rules.INT_BITS, at + 3
        if (bits + 7) >> 3 > third:
            return rules.INT_SIZE, at + 2
        if encoding != 0 and encoding != 1 and encoding != 2 and encoding != 4:
            return rules.INT_ENCODING, at + 3
    elif kind == ARRAY:
        element = np.int64(words[at + 3])
        index = np.int64(words[at + 4])
        if name != 0:
            return rules.ARRAY_NAME, at
        if vlen != 0:
            return rules.ARRAY_VLEN, at + 1
        if flagged:
            return rules.ARRAY_KIND_FLAG, at + 1
        if third != 0:
            return rules.ARRAY_SIZE, at + 2
        if element == 0 or element > rules.MAX_TYPE_ID:
            return rules.ARRAY_ELEMENT, at + 3
        if index == 0 or index > rules.MAX_TYPE_ID:
            return rules.ARRAY_INDEX, at + 4
    elif kind == FWD:
        if vlen != 0:
            return rules.FWD_VLEN, at + 1
        if third != 0:
            return rules.FWD_TYPE, at + 2
        if name == 0 or not is_identifier(names, name, limit):
            return rules.FWD_NAME, at
    elif kind == FUNC:
        if name == 0 or not is_identifier(names, name, limit):
            return rules.FUNC_NAME, at
        if vlen > 1:
            return rules.FUNC_LINKAGE, at + 1
        if flagged:
            return rules.FUNC_KIND_FLAG, at + 1
    elif kind == FUNC_PROTO:
        if name != 0:
            return rules.PROTO_NAME, at
        if flagged:
            return rules.PROTO_KIND_FLAG, at + 1
    elif kind == VAR:
        if vlen != 0:
            return rules.VAR_VLEN, at + 1
        if flagged:
            return rules.VAR_KIND_FLAG, at + 1
        if name == 0 or not is_identifier(names, name, limit):
            return rules.VAR_NAME, at
        if third == 0 or third > rules.MAX_TYPE_ID:
            return rules.VAR_TYPE, at + 2
        if words[at + 3] > 1:
            return rules.VAR_LINKAGE, at + 3
    elif kind == FLOAT:
        if vlen != 0:
            return rules.FLOAT_VLEN, at + 1
        if flagged:
            return rules.FLOAT_KIND_FLAG, at + 1
        if third != 2 and third != 4 and third != 8 and third != 12 and third != 16:
            return rules.FLOAT_SIZE, at + 2
    elif kind == DECL_TAG:
        if first_byte(names, name) == 0:
            return rules.DECL_TAG_VALUE, at
        if vlen != 0:
            return rules.DECL_TAG_VLEN, at + 1
        if active[rules.DECL_TAG_KIND_FLAG] and flagged:
            return rules.DECL_TAG_KIND_FLAG, at + 1
        if words[at + 3] >= 0x80000000 and words[at + 3] != 0xFFFFFFFF:
            return rules.DECL_TAG_INDEX, at + 3
    else:  # PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG
        if vlen != 0:
            return rules.REF_VLEN, at + 1
        if flagged and kind != TYPE_TAG:
            return rules.REF_KIND_FLAG, at + 1
        if flagged and active[rules.TYPE_TAG_KIND_FLAG]:
            return rules.TYPE_TAG_KIND_FLAG, at + 1
        if third > rules.MAX_TYPE_ID:
            return rules.REF_TYPE, at + 2
        if kind == TYPEDEF:
            if name == 0 or not is_identifier(names, name, limit):
                return rules.TYPEDEF_NAME, at
        elif kind == TYPE_TAG:
            if first_byte(names, name) == 0:
                return rules.TYPE_TAG_NAME, at
        elif name != 0:
            return rules.REF_NAME, at
    return 0, at
