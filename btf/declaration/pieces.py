"""Pieces of C's spelling of types, appended to a text: see ``written``.

Parameters used throughout, as there:

below, texts     ``Texts`` of the base, by type id, and of the own types, which are being written
data             uint8: that of ``texts``
at, end          int64: where the next byte of the text comes to stand, and where none may: beyond
                 it is all that is too long
first            int64: where the text begins
start_id         id of the first own type
type_id          id of a type, of the base or own, or CIRCLE
base_strings, own_strings   uint8: an offset counts through the first and on in the second
offset           global string offset

Functions that append return where the next byte comes to stand.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import inlined, noinline
from .values import CIRCLE

NO_TYPE = 0xFFFF  # in place of a split: of what is no type of C

_0, _1, _10 = np.uint64(0), np.uint64(1), np.uint64(10)
_SPACE, _STAR, _OPEN_BYTE, _BRACKET = 32, 42, 40, 91


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


_CONST, _RESTRICT, _VOLATILE = _bytes("const "), _bytes("restrict "), _bytes("volatile ")
STRUCT_WORD, UNION_WORD, ENUM_WORD = _bytes("struct "), _bytes("union "), _bytes("enum ")
VOID_WORD, ELLIPSIS, LEFT_OUT = _bytes("void"), _bytes("..."), _bytes("…")
BEGIN, END, SEMICOLON, NEXT = _bytes("{"), _bytes(" }"), _bytes(";"), _bytes(", ")
EQUALS, COLON = _bytes(" = "), _bytes(" : ")
POINTER, OPEN_POINTER, CLOSE, CLOSE_LENGTH = _bytes("*"), _bytes("(*"), _bytes(")"), _bytes("]")
OPEN, OPEN_LENGTH, _MINUS, BLANK = _bytes("("), _bytes("["), _bytes("-"), _bytes(" ")


class Texts(NamedTuple):
    """Texts of n types, in any order, one behind the other.

    data    uint8
    first   int64 (n,): where in ``data`` the text of each type begins
    length  uint16 (n,): bytes
    split   uint16 (n,): of these, the left part's, or NO_TYPE
    """

    data: np.ndarray
    first: np.ndarray
    length: np.ndarray
    split: np.ndarray

    @classmethod
    def of(cls, types: int, size: int) -> Texts:
        """Room for that many types, and bytes of text."""
        lengths = [np.zeros(types, np.uint16) for _ in range(2)]
        return cls(np.empty(size, np.uint8), np.empty(types, np.int64), *lengths)

    @classmethod
    def of_void(cls) -> Texts:
        """That of void alone."""
        size = np.full(1, len(VOID_WORD), np.uint16)
        return cls(VOID_WORD, np.zeros(1, np.int64), size, size)


@inlined
def copy(data, at, end, source, begin, count):  # type: ignore[no-untyped-def]
    """Append ``count`` bytes of ``source`` from ``begin`` on; returns where the next one stands."""
    count = min(np.int64(count), end - at)
    for i in range(count):
        data[at + i] = source[begin + i]
    return at + count


@inlined
def put(data, at, end, text):  # type: ignore[no-untyped-def]
    """Append all of ``text``, uint8."""
    return copy(data, at, end, text, 0, len(text))


@noinline
def put_name(data, at, end, base_strings, own_strings, offset):  # type: ignore[no-untyped-def]
    """Append the string at a global offset."""
    if offset < len(base_strings):
        while at < end and base_strings[offset] != 0:
            data[at] = base_strings[offset]
            at += 1
            offset += 1
        return at
    offset -= len(base_strings)
    while at < end and own_strings[offset] != 0:
        data[at] = own_strings[offset]
        at += 1
        offset += 1
    return at


@noinline
def put_number(data, at, end, value, negative):  # type: ignore[no-untyped-def]
    """Append ``value`` (uint64) less 2**64 if ``negative`` is not 0, in decimal digits."""
    if negative != _0:
        at = put(data, at, end, _MINUS)
        value = _0 - value
    digit = _1
    while value // digit >= _10:
        digit *= _10
    while digit != _0 and at < end:
        data[at] = np.uint8(48) + np.uint8(value // digit % _10)
        at += 1
        digit //= _10
    return at


@inlined
def put_left(data, at, end, below, texts, start_id, type_id):  # type: ignore[no-untyped-def]
    """Append what stands left of a name that is of a type, or of CIRCLE."""
    if type_id == CIRCLE:
        return put(data, at, end, LEFT_OUT)
    if type_id >= start_id:
        row = type_id - start_id
        if texts.split[row] == NO_TYPE:
            return put(data, at, end, LEFT_OUT)
        return copy(data, at, end, data, texts.first[row], texts.split[row])
    if below.split[type_id] == NO_TYPE:
        return put(data, at, end, LEFT_OUT)
    return copy(data, at, end, below.data, below.first[type_id], below.split[type_id])


@inlined
def right_size(below, texts, start_id, type_id):  # type: ignore[no-untyped-def]
    """Bytes that stand right of a name that is of a type, or of CIRCLE."""
    if type_id == CIRCLE:
        return np.int64(0)
    if type_id >= start_id:
        row = type_id - start_id
        return np.int64(texts.length[row]) - np.int64(min(texts.split[row], texts.length[row]))
    return np.int64(below.length[type_id]) - np.int64(
        min(below.split[type_id], below.length[type_id])
    )


@inlined
def put_right(data, at, end, below, texts, start_id, type_id):  # type: ignore[no-untyped-def]
    """Append what stands right of a name that is of a type, or of CIRCLE."""
    count = right_size(below, texts, start_id, type_id)
    if count == 0:
        return at
    if type_id >= start_id:
        row = type_id - start_id
        return copy(data, at, end, data, texts.first[row] + np.int64(texts.split[row]), count)
    begin = below.first[type_id] + np.int64(below.split[type_id])
    return copy(data, at, end, below.data, begin, count)


@inlined
def takes_parentheses(below, texts, start_id, type_id):  # type: ignore[no-untyped-def]
    """Whether a type is an array or prototype, so that a pointer to it takes parentheses."""
    if right_size(below, texts, start_id, type_id) == 0:
        return False
    if type_id >= start_id:
        row = type_id - start_id
        byte = texts.data[texts.first[row] + np.int64(texts.split[row])]
    else:
        byte = below.data[below.first[type_id] + np.int64(below.split[type_id])]
    return byte == _OPEN_BYTE or byte == _BRACKET


@inlined
def put_space(data, at, end, first):  # type: ignore[no-untyped-def]
    """Append a space, where C writes one between what is there and a name or a star."""
    if at > first:
        byte = data[at - 1]
        if byte != _STAR and byte != _OPEN_BYTE and byte != _SPACE:
            return put(data, at, end, BLANK)
    return at


@noinline
def put_declaration(  # type: ignore[no-untyped-def]
    data, at, end, below, texts, start_id, type_id, base_strings, own_strings, offset
):
    """Append the declaration of the name at global offset ``offset`` as of a type, or CIRCLE."""
    first = at
    at = put_left(data, at, end, below, texts, start_id, type_id)
    empty = (
        base_strings[offset] == 0
        if offset < len(base_strings)
        else own_strings[offset - len(base_strings)] == 0
    )
    if not empty:
        at = put_space(data, at, end, first)
        at = put_name(data, at, end, base_strings, own_strings, offset)
    return put_right(data, at, end, below, texts, start_id, type_id)


@inlined
def put_qualifiers(data, at, end, marks):  # type: ignore[no-untyped-def]
    """Append the qualifiers in ``marks`` (int64), each with a space behind it."""
    if marks & 1:
        at = put(data, at, end, _CONST)
    if marks & 4:
        at = put(data, at, end, _RESTRICT)
    if marks & 2:
        at = put(data, at, end, _VOLATILE)
    return at
