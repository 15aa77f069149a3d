"""Pieces of the C dump that hold no others: names, numbers, tags, enums, padding, assertions.

Parameters of compiled functions:

d, type_id, name   ``Tables``, ids of a type of any level and of a name: see ``c_tables``
number     of an enumerator, from 0
level      how many tabs stand before the line that the text begins in
value      int64, not negative; of an enumerator uint64, without its sign: see ``negative``
size       of an enum, in bytes
least, most   the values of an enum reach from -``least`` to ``most``, uint64
keyword    0 to 2 as ``keyword_of`` says, or 3 for none
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format import kinds
from ..format.search import first_at_least
from ..format.strings import copy_string
from . import c_names as n
from . import c_tables as t
from .c_layout import is_c_enum, up
from .c_names import make_name, put_digits, take
from .c_tables import fault, flag_of, spend, third_of, vlen_of

WHOLE = 0xFFFFFFFF
"""Component index of a tag on the type itself."""
_MAX_PADDING_LINES = 8  # more than these become one array of bytes
_0, _1, _8, _31, _32 = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(31), np.uint64(32)


@noinline
def put(d, name):  # type: ignore[no-untyped-def]
    """Write the text of a name."""
    start, length, at = (
        np.int64(d.names[name, t.AT]),
        np.int64(d.names[name, t.LENGTH]),
        d.state[t.END],
    )
    if at + length + n.MARGIN > len(d.out):
        fault(d, t.FULL, 0, 0)
        return
    copy_string(d.text, start, d.out, at, length)
    d.state[t.END] = at + length


@noinline
def put_all(d, first, second, third):  # type: ignore[no-untyped-def]
    """Write the texts of three names, ``first``, ``second``, ``third``, of which any may be 0."""
    put(d, first)
    put(d, second)
    put(d, third)


@noinline
def put_unsigned(d, value):  # type: ignore[no-untyped-def]
    """Write a number, uint64."""
    put(d, 0)  # makes sure that there is room
    if d.state[t.FAULT] == 0:
        d.state[t.END] = put_digits(d.out, d.state[t.END], value)


@inlined
def put_number(d, value):  # type: ignore[no-untyped-def]
    """Write a number, int64."""
    put_unsigned(d, np.uint64(value))


@noinline
def put_line(d, level):  # type: ignore[no-untyped-def]
    """Begin a line."""
    put(d, n.NEWLINE)
    for _ in range(level):
        put(d, n.TAB)


@noinline
def put_subject(d, keyword, name):  # type: ignore[no-untyped-def]
    """Write ``struct x``."""
    if keyword < 3:
        put(d, n.STRUCT_WORD + keyword)
    put(d, name)


# ------------------------------------------------------------------ tags


@noinline
def put_macro(d, type_id):  # type: ignore[no-untyped-def]
    """Write a DECL_TAG or TYPE_TAG; a fault if C cannot."""
    macro = np.int64(d.rows[type_id, t.MACRO])
    if macro == 0:
        fault(d, t.NO_TAG, type_id, 0)
    spend(d, type_id, d.names[macro, t.LENGTH])
    put_all(d, n.SPACE, macro, 0)


@noinline
def put_tags(d, type_id, component):  # type: ignore[no-untyped-def]
    """Write the declaration tags of a type, if ``component`` is WHOLE, or of one of its members,
    behind it."""
    if d.rows[type_id, t.FLAGS] & t.TAGGED == 0:
        return
    key = np.uint64(type_id) << _32 | np.uint64(component)
    first = first_at_least(d.tag_keys, key)
    while first < len(d.tag_keys) and d.tag_keys[first] == key:
        put_macro(d, d.tag_ids[first])
        first += 1


# ------------------------------------------------------------------ enums


@inlined
def _enumerator(d, type_id, number):  # type: ignore[no-untyped-def]
    """Return an enumerator's value, as (uint64 without its sign, whether it has one)."""
    kind = np.int64(d.rows[type_id, t.KIND])
    at = d.rows[type_id, t.START] + kinds.HEAD_WORDS
    if kinds.ENUM_BITS[kind] == 64:
        at += 3 * number
        value = np.uint64(d.words[at + 1]) | np.uint64(d.words[at + 2]) << _32
        top = np.uint64(63)
    else:
        at += 2 * number
        value = np.uint64(d.words[at + 1])
        top = _31
    if flag_of(d, type_id):
        if value >> top == _0:
            return value, False
        return ((_1 << top) - _1 ^ value & (_1 << top) - _1) + _1, True
    size = third_of(d, type_id)
    if size < 4 and value >> (_8 * np.uint64(size)) != _0 and value >> _31 != _0:
        # Encoders before kind_flag (Linux 6.0) could not say that it is negative.
        if value >> _32 == _0:
            return (_1 << _32) - value, True
        return value - (_1 << _32), False
    return value, False


@compiled
def _fits(least, most, size):  # type: ignore[no-untyped-def]
    """Whether an enum of ``size`` bytes, 8 at most, can have values from -``least`` to ``most``."""
    if least > _1 << np.uint64(8 * size - 1):
        return False
    bits = np.uint64(8 * size - (least > _0))
    return bits > np.uint64(63) or most >> bits == _0


@compiled
def _needs_64_bits(least, most):  # type: ignore[no-untyped-def]
    """Whether the values, from -``least`` to ``most``, make GNU C choose 64 bits for an enum."""
    return least > _1 << _31 or most >> (_31 if least > _0 else _32) != _0


@compiled
def _put_value(d, value, negative, literal):  # type: ignore[no-untyped-def]
    """Write an enumerator's value, as C writes it if ``literal``."""
    if negative:
        if literal and value >> np.uint64(63) != _0:
            put(d, n.LOWEST)
            return
        put(d, n.MINUS)
    put_unsigned(d, value)
    if literal and value >> np.uint64(63) != _0:
        put(d, n.UNSIGNED_LONG_LONG)
    elif literal and (value > _1 << _31 if negative else value >> _32 != _0):
        put(d, n.LONG_LONG)


@compiled
def is_boolean(d, type_id):  # type: ignore[no-untyped-def]
    """Whether an enum has the values ``false`` and ``true`` and no others."""
    found = 0
    for number in range(vlen_of(d, type_id)):
        value, negative = _enumerator(d, type_id, number)
        name = _enumerator_name(d, type_id, number)
        if name == n.FALSE_NAME and value == _0:
            found |= 1
        elif name == n.TRUE_NAME and value == _1 and not negative:
            found |= 2
        else:
            return False
    return found == 3


@inlined
def _enumerator_name(d, type_id, number):  # type: ignore[no-untyped-def]
    """Return the name of enumerator ``number``."""
    step = 3 if kinds.ENUM_BITS[np.int64(d.rows[type_id, t.KIND])] == 64 else 2
    at = d.rows[type_id, t.START] + kinds.HEAD_WORDS + step * number
    return np.int64(d.seen[d.words[at]])


@compiled
def put_enum(d, type_id, start, level, reserved):  # type: ignore[no-untyped-def]
    """Write the values of an enum and what stands behind them.

    start     where in ``out`` its declaration begins
    reserved  whether names stay as they are although C23 reserves them
    """
    size = third_of(d, type_id)
    put(d, n.BEGIN)
    if not is_c_enum(size):
        if size == 0 or size > 8:
            fault(d, t.ENUM_SIZE, type_id, 0)
            return
        put_line(d, level + 1)
        put_all(d, n.NOT_EXPRESSIBLE, n.ENUM_OF, 0)
        put_number(d, size)
        put_all(d, n.BYTES_WORD, n.END_COMMENT, 0)
    least, most, empty = _0, _0, True
    for number in range(vlen_of(d, type_id)):
        value, negative = _enumerator(d, type_id, number)
        name = _enumerator_name(d, type_id, number)
        if name == 0:
            name = np.int64(n.ANONYMOUS)
        new_least = max(least, value) if negative else least
        new_most = most if negative else max(most, value)
        put_line(d, level + 1)
        if not _fits(new_least, new_most, size):
            put_all(d, n.BEGIN_COMMENT, np.int64(d.names[name, t.SAFE]), n.EQUALS)
            _put_value(d, value, negative, False)
            put(d, n.TOO_LARGE)
            continue
        least, most, empty = new_least, new_most, False
        if not reserved:
            name = np.int64(d.names[name, t.IDENTIFIER])
        put_all(d, take(d, np.int64(t.PLAIN), name), n.EQUALS, 0)
        _put_value(d, value, negative, True)
        put(d, n.END_VALUE)
        if d.state[t.FAULT] != 0:
            return
    if empty:  # C wants one
        put_line(d, level + 1)
        put_all(d, take(d, np.int64(t.PLAIN), np.int64(n.NO_VALUE_NAME)), n.END_VALUE, 0)
    put_line(d, level)
    put(d, n.CLOSE_BRACE)
    spend(d, type_id, d.state[t.END] - start)
    if size == 1 or size == 2 or (size == 8 and not _needs_64_bits(least, most)):
        put_all(d, n.MODE, n.MODE_1 if size == 1 else n.MODE_2 if size == 2 else n.MODE_8, 0)
        put(d, n.END_MODE)
    put_tags(d, type_id, WHOLE)


# ------------------------------------------------------------------ padding


@noinline
def put_array(d, level, name, count):  # type: ignore[no-untyped-def]
    """Write a line that declares ``name`` as an array of ``count`` bytes."""
    put_line(d, level)
    put_all(d, n.BYTES, name, n.OPEN_SQUARE)
    put_number(d, count)
    put_all(d, n.CLOSE_SQUARE, n.SEMICOLON, 0)


@compiled
def put_pad_array(d, level, scope, first, count):  # type: ignore[no-untyped-def]
    """Write ``count`` bytes of padding from byte ``first`` on, in a struct with that ``scope``."""
    name = make_name(d, np.int64(n.PAD_NUMBER), np.int64(0), first)
    put_array(d, level, take(d, scope, name), count)


@inlined
def _put_pad(d, level, unit, bits):  # type: ignore[no-untyped-def]
    """Write a line with a bit-field without a name, of 8 << ``unit`` bits, if it has any."""
    if bits > 0:
        put_line(d, level)
        put_all(d, n.UNIT_8 + unit, n.COLON, 0)
        put_number(d, bits)
        put(d, n.SEMICOLON)


@compiled
def _put_pads(d, level, at, end, largest, quiet):  # type: ignore[no-untyped-def]
    """Write bit-fields from bit ``at`` to ``end``, of units up to 8 << ``largest``; nothing if
    ``quiet``. Returns how many."""
    count = 0
    while at < end:
        unit = np.int64(0)
        while unit < largest and (end - 1) // (8 << unit) != at // (8 << unit):
            unit += 1
        stop = min(end, up(at + 1, 8 << unit))
        if not quiet:
            _put_pad(d, level, unit, stop - at)
        count += 1
        at = stop
    return count


@compiled
def put_padding(d, type_id, level, scope, at, end):  # type: ignore[no-untyped-def]
    """Fill the bits from ``at`` to ``end`` of a struct with that ``scope``.

    Units are no larger than the struct's alignment: some ABIs (arm, arm64) let unnamed bit-fields
    align the struct that they are in.
    """
    limit = 8 * min(np.int64(d.rows[type_id, t.ALIGN]), d.state[t.LEAST])
    if d.rows[type_id, t.FLAGS] & t.PACKED:
        limit = np.int64(64)
    largest = np.int64(0)
    while (16 << largest) <= min(limit, 8 * d.state[t.POINTER]):
        largest += 1
    if end - at <= _MAX_PADDING_LINES * (8 << largest):
        if _put_pads(d, level, at, end, largest, True) <= _MAX_PADDING_LINES:
            _put_pads(d, level, at, end, largest, False)
            return
    first, last = up(at, 8), end // 8 * 8
    _put_pad(d, level, np.int64(0), first - at)
    put_pad_array(d, level, scope, first // 8, (last - first) // 8)
    _put_pad(d, level, np.int64(0), end - last)


# ------------------------------------------------------------------ assertions


@compiled
def _put_expression(d, keyword, name, fact):  # type: ignore[no-untyped-def]
    """Write what an assertion is about: the size of a subject, or the offset in row ``fact``."""
    put(d, n.OFFSETOF if fact >= 0 else n.SIZEOF)
    put_subject(d, keyword, name)
    if fact >= 0:
        put(d, n.COMMA)
        for at in range(d.facts[fact, 0], d.facts[fact, 1]):
            put(d, 0)
            if d.state[t.FAULT] == 0:
                d.out[d.state[t.END]] = d.paths[at]
                d.state[t.END] += 1
    put(d, n.CLOSE_ROUND)


@compiled
def put_assertions(d, keyword, name, size):  # type: ignore[no-untyped-def]
    """Write static assertions that a subject has ``size`` bytes, and of ``facts``."""
    for fact in range(-1, d.state[t.FACTS]):
        put(d, n.ASSERT)
        _put_expression(d, keyword, name, fact)
        put(d, n.IS)
        put_number(d, d.facts[fact, 2] if fact >= 0 else size)
        put(d, n.SAYING)
        _put_expression(d, keyword, name, fact)
        put(d, n.END_ASSERT)
    put(d, n.NEWLINE)
