"""How C spells each type, as text: what ``spelled`` has a hash of, and in the same words.

A type is a left part and a right part, between which a name stands: ``int (*`` and ``)(void)``.
Each is made of those of what the type refers to, so that no declarator has to be followed to its
end. A text of more bytes than ``most`` is cut there, ends in ``…``, and has no right part. ``…``
also stands where a type would contain itself, and for what is no type of C.

A function's text is its whole prototype, a variable's its declaration, both with names. Sections
and tags of declarations have none.

Parameters used throughout, as in ``spelled``:

base, own        ``Values`` of the base, by type id, and of the own types
below, texts     ``Texts`` of the base, by type id, and of the own types, which are being written
data             uint8: that of ``texts``
at, end          int64: where the next byte of the text comes to stand, and where none may: beyond
                 it is all that is too long
first            int64: where the text begins
start_id         id of the first own type
type_id          id of a type, of the base or own
v                an own type, counted from 0
words, offsets   uint32: records of the own types, and where in ``words`` each begins
base_words, base_offsets   uint32: the same of the base's types
record           where a record begins
base_strings, own_strings   uint8: an offset counts through the first and on in the second
graph            ``Graph`` of the types, see ``spelled``: ``composite`` is 0 until they are written
ordered          whether ``spell_types`` took an order of the types, and ``component`` tells circles
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..errors import BtfError
from ..fingerprint.graph import Graph
from ..format.kinds import (
    DATASEC,
    DECL_TAG,
    ELEMENT_WORDS,
    ENUM,
    FUNC,
    FUNC_PROTO,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    PTR,
    STRUCT,
    UNION,
    VAR,
    is_enum,
    kind_of,
)
from ..format.records import reference_at
from ..types.btf import BTF, freeze
from ..types.columns import MAX_TEXT_BYTES
from .pieces import (
    BEGIN,
    BLANK,
    CLOSE,
    CLOSE_LENGTH,
    COLON,
    ELLIPSIS,
    END,
    ENUM_WORD,
    EQUALS,
    LEFT_OUT,
    NEXT,
    NO_TYPE,
    OPEN,
    OPEN_LENGTH,
    OPEN_POINTER,
    POINTER,
    SEMICOLON,
    STRUCT_WORD,
    UNION_WORD,
    VOID_WORD,
    Texts,
    put,
    put_declaration,
    put_left,
    put_name,
    put_number,
    put_qualifiers,
    put_right,
    put_space,
    takes_parentheses,
)
from .spelled import (
    enumerator,
    find_circles,
    has_no_name,
    is_wrapper,
    name_class,
    part_of,
    parts_spelled,
    place,
)
from .values import ARRAY_SPELLED, CIRCLE, NAMELESS, NAMELESS_POINTER, WAITING, Values

MAX_SPELLING_BYTES = 1024  # of one type
SHORT_SPELLING_BYTES = 32  # where all in all would be far more than a compiler's types have
MAX_SPELLING_FACTOR = 16  # of the BTF itself: bytes of all spellings
SMALL_SPELLING_BYTES = 1 << 20  # however small the BTF is

_0 = np.uint64(0)

# ------------------------------------------------------------------ types
# Each of these returns (where the text ends, where its left part does).


@inlined
def _write_wrapper(data, at, end, base, own, below, texts, start_id, v):  # type: ignore[no-untyped-def]
    """Write a type with qualifiers, or an array."""
    inner, marks = np.int64(own.inner[v]), np.int64(own.marks[v])
    pointer = False
    if inner != CIRCLE:
        row = inner - start_id
        of_inner = np.int64(own.marks[row] if inner >= start_id else base.marks[inner])
        pointer = of_inner & NAMELESS == NAMELESS_POINTER
    if pointer:
        at = put_left(data, at, end, below, texts, start_id, inner)
        at = put_qualifiers(data, at, end, marks)
        if marks & 7 and at < end:
            at -= 1  # the last one's space
    else:
        at = put_qualifiers(data, at, end, marks)
        at = put_left(data, at, end, below, texts, start_id, inner)
    split = at
    if marks & ARRAY_SPELLED:
        at = put(data, at, end, OPEN_LENGTH)
        at = put_number(data, at, end, own.length[v], _0)
        at = put(data, at, end, CLOSE_LENGTH)
    return put_right(data, at, end, below, texts, start_id, inner), split


@inlined
def _write_pointer(data, at, end, below, texts, start_id, type_id):  # type: ignore[no-untyped-def]
    """Write a pointer to a type, or to CIRCLE."""
    first, opens = at, False
    if type_id != CIRCLE:
        opens = takes_parentheses(below, texts, start_id, type_id)
    at = put_left(data, at, end, below, texts, start_id, type_id)
    at = put_space(data, at, end, first)
    at = put(data, at, end, OPEN_POINTER) if opens else put(data, at, end, POINTER)
    split = at
    if opens:
        at = put(data, at, end, CLOSE)
    return put_right(data, at, end, below, texts, start_id, type_id), split


@noinline
def _put_parameters(  # type: ignore[no-untyped-def]
    data, at, end, below, texts, start_id, graph, ordered, v, words, record, base_strings,
    own_strings,
):  # fmt: skip
    """Append the parameters of the prototype at word ``record`` of ``words``: without names, those
    of own type ``v``; with names if ``v`` is -1."""
    vlen = np.int64(words[record + 1] & INFO_VLEN_MASK)
    at = put(data, at, end, OPEN)
    if vlen == 0:
        at = put(data, at, end, VOID_WORD)
    for number in range(vlen):
        if at == end:
            break
        if number > 0:
            at = put(data, at, end, NEXT)
        word = record + HEAD_WORDS + 2 * number
        type_id = np.int64(words[word + 1])
        if type_id == 0 and number == vlen - 1 and words[word] == 0:
            at = put(data, at, end, ELLIPSIS)
            continue
        name = np.int64(words[word])
        if v >= 0:
            type_id, name = part_of(graph, start_id, ordered, v, type_id), np.int64(0)
        at = put_declaration(
            data, at, end, below, texts, start_id, type_id, base_strings, own_strings, name
        )
    return put(data, at, end, CLOSE)


@noinline
def _put_body(  # type: ignore[no-untyped-def]
    data, at, end, below, texts, start_id, graph, ordered, v, words, record, base_strings,
    own_strings,
):  # fmt: skip
    """Append the members or enumerators of own type ``v``, at word ``record``, in braces."""
    info = words[record + 1]
    kind = kind_of(info)
    at = put(data, at, end, BEGIN)
    body = record + HEAD_WORDS
    for number in range(np.int64(info & INFO_VLEN_MASK)):
        if at == end:
            break
        name = np.int64(words[body])
        if is_enum(kind):
            at = put(data, at, end, NEXT) if number > 0 else put(data, at, end, BLANK)
            at = put_name(data, at, end, base_strings, own_strings, name)
            at = put(data, at, end, EQUALS)
            value, negative = enumerator(words, body, info)
            at = put_number(data, at, end, value, negative)
        else:
            at = put(data, at, end, BLANK)
            type_id = part_of(graph, start_id, ordered, v, np.int64(words[body + 1]))
            at = put_declaration(
                data, at, end, below, texts, start_id, type_id, base_strings, own_strings, name
            )
            _, bits = place(words[body + 2], info)
            if bits != _0:
                at = put(data, at, end, COLON)
                at = put_number(data, at, end, bits, _0)
            at = put(data, at, end, SEMICOLON)
        body += np.int64(ELEMENT_WORDS[kind])
    return put(data, at, end, END)


@inlined
def _write_type(  # type: ignore[no-untyped-def]
    data, at, end, base, own, below, texts, start_id, graph, ordered, v, words, record,
    base_strings, own_strings,
):  # fmt: skip
    """Write a type of C, whose parts are written, at word ``record``."""
    info, first = words[record + 1], at
    kind = kind_of(info)
    if is_wrapper(kind):
        return _write_wrapper(data, at, end, base, own, below, texts, start_id, v)
    if kind == PTR:
        part = part_of(graph, start_id, ordered, v, np.int64(words[record + 2]))
        return _write_pointer(data, at, end, below, texts, start_id, part)
    if kind == FUNC_PROTO:
        part = part_of(graph, start_id, ordered, v, np.int64(words[record + 2]))
        at = put_left(data, at, end, below, texts, start_id, part)
        at = put_space(data, at, end, first)
        split = at
        at = _put_parameters(
            data, at, end, below, texts, start_id, graph, ordered, v, words, record, base_strings,
            own_strings,
        )  # fmt: skip
        return put_right(data, at, end, below, texts, start_id, part), split
    word = name_class(info)
    if word == STRUCT:
        at = put(data, at, end, STRUCT_WORD)
    elif word == UNION:
        at = put(data, at, end, UNION_WORD)
    elif word == ENUM:
        at = put(data, at, end, ENUM_WORD)
    if (kind == STRUCT or kind == UNION or is_enum(kind)) and has_no_name(
        words, record, base_strings, own_strings
    ):
        at = _put_body(
            data, at, end, below, texts, start_id, graph, ordered, v, words, record, base_strings,
            own_strings,
        )  # fmt: skip
    else:
        at = put_name(data, at, end, base_strings, own_strings, np.int64(words[record]))
    return at, at


@inlined
def _is_ready(own, start_id, graph, ordered, v, words, record, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Whether all is written that the text of type ``v``, at word ``record``, is made of."""
    if ordered:
        return True
    if is_wrapper(kind_of(words[record + 1])):
        return part_of(graph, start_id, ordered, v, np.int64(own.inner[v])) != WAITING
    for number in range(parts_spelled(words, record, base_strings, own_strings)):
        if part_of(graph, start_id, ordered, v, reference_at(words, record, number)) == WAITING:
            return False
    return True


@noinline
def _finish(texts, data, v, first, at, split, most):  # type: ignore[no-untyped-def]
    """Note where the text of type ``v`` is, which ends at ``at``, and its left part at ``split``
    (int64); cut it if it has more bytes than ``most``. Returns where the next text may begin."""
    if at - first > most:
        at = first + most
        split = at if split >= 0 else split
        for i in range(len(LEFT_OUT)):
            data[at - len(LEFT_OUT) + i] = LEFT_OUT[i]
    texts.first[v], texts.length[v] = first, at - first
    texts.split[v] = NO_TYPE if split < 0 else split - first
    return at


@noinline
def _write_named(  # type: ignore[no-untyped-def]
    data, at, end, below, texts, start_id, graph, v, words, offsets, base_words, base_offsets,
    base_strings, own_strings,
):  # fmt: skip
    """Append the declaration of a function or variable, own type ``v``."""
    record, first = np.int64(offsets[v]), at
    type_id, name = np.int64(words[record + 2]), np.int64(words[record])
    if kind_of(words[record + 1]) == FUNC and type_id > 0:
        proto, source = np.int64(0), words
        if type_id >= start_id:
            proto = np.int64(offsets[type_id - start_id])
        else:
            proto, source = np.int64(base_offsets[type_id - 1]), base_words
        if kind_of(source[proto + 1]) == FUNC_PROTO:
            result = np.int64(source[proto + 2])
            at = put_left(data, at, end, below, texts, start_id, result)
            at = put_space(data, at, end, first)
            at = put_name(data, at, end, base_strings, own_strings, name)
            at = _put_parameters(
                data, at, end, below, texts, start_id, graph, False, -1, source, proto,
                base_strings, own_strings,
            )  # fmt: skip
            return put_right(data, at, end, below, texts, start_id, result)
    return put_declaration(
        data, at, end, below, texts, start_id, type_id, base_strings, own_strings, name
    )


@compiled
def write_types(  # type: ignore[no-untyped-def]
    base, own, below, texts, most, start_id, count, graph, ordered, words, offsets, base_words,
    base_offsets, base_strings, own_strings,
):  # fmt: skip
    """Fill ``texts`` of the own types, of which ``Values`` are known; returns the bytes of all, or
    -1 if there is no room for them: nothing holds of ``texts`` then.

    most     bytes that a text may have, less than NO_TYPE
    count    how many own types there are
    """
    data, used = texts.data, np.int64(0)
    for v in range(count):
        graph.members[v] = v
        graph.composite[v] = 0
    if ordered:
        find_circles(graph, start_id, count, words, offsets, base_strings, own_strings)
    waiting = count
    while waiting > 0:
        left = 0
        for i in range(waiting):
            v = graph.members[i]
            record = np.int64(offsets[v])
            kind = kind_of(words[record + 1])
            if kind == FUNC or kind == VAR or kind == DATASEC or kind == DECL_TAG:
                used = _finish(texts, data, v, used, used, np.int64(-1), most)
            elif _is_ready(
                own, start_id, graph, ordered, v, words, record, base_strings, own_strings
            ):
                end = used + most + 1
                if end > len(data):
                    return np.int64(-1)
                at, split = _write_type(
                    data, used, end, base, own, below, texts, start_id, graph, ordered, v, words,
                    record, base_strings, own_strings,
                )  # fmt: skip
                used = _finish(texts, data, v, used, at, split, most)
            else:
                graph.members[left] = v
                left += 1
                continue
            graph.composite[v] = 1
        waiting = left
    for v in range(count):
        kind = kind_of(words[np.int64(offsets[v]) + 1])
        if kind == FUNC or kind == VAR:
            end = used + most + 1
            if end > len(data):
                return np.int64(-1)
            at = _write_named(
                data, used, end, below, texts, start_id, graph, v, words, offsets, base_words,
                base_offsets, base_strings, own_strings,
            )  # fmt: skip
            used = _finish(texts, data, v, used, at, np.int64(-1), most)
    return used


@compiled
def put_in_order(texts, ends, data):  # type: ignore[no-untyped-def]
    """Fill ``data``, uint8, with the texts in order of their types, which end at ``ends``: int32
    (n + 1,), from 0 on."""
    for row in range(len(texts.first)):
        begin, at = texts.first[row], np.int64(ends[row])
        for i in range(np.int64(ends[row + 1]) - at):
            data[at + i] = texts.data[begin + i]


def write_texts(
    btf: BTF, flat: BTF, below: Values, own: Values, base_texts: Texts, graph: Graph, ordered: bool
) -> Texts:
    """Write the texts of a BTF's own types; plain BTF has that of void before them.

    flat        the base, or, of plain BTF, that itself
    base_texts  of the base, or of void
    graph       which ``spell_types`` used and returned ``ordered`` of

    Raises BtfError for more text than int32 can count.
    """
    limit = spelling_limit(btf)
    texts = Texts.of(btf.type_count, limit + MAX_SPELLING_BYTES + 1)
    base_strings = flat.strings if btf.base is not None else flat.strings[:0]
    for most in (MAX_SPELLING_BYTES, SHORT_SPELLING_BYTES):
        used = write_types(
            below, own, base_texts, texts, most, btf.start_id, btf.type_count, graph, ordered,
            btf.words, btf.offsets, flat.words, flat.offsets, freeze(base_strings), btf.strings,
        )  # fmt: skip
        if 0 <= used <= limit:
            break
    else:
        raise BtfError(f"spelled, its types have more than {limit} bytes", btf.path, "types")
    texts = texts._replace(data=texts.data[:used].copy())
    if btf.base is not None:
        return texts
    firsts = texts.first + len(VOID_WORD)
    joined = [np.concatenate(pair) for pair in zip(base_texts, texts, strict=True)]
    return Texts._make(joined)._replace(first=np.concatenate([base_texts.first, firsts]))


def spelling_limit(btf: BTF) -> int:
    """Bytes that the texts of a BTF's own types may have. Where they would have more, each is cut
    to SHORT_SPELLING_BYTES."""
    size = btf.words.nbytes + btf.strings.nbytes
    return min(SMALL_SPELLING_BYTES + MAX_SPELLING_FACTOR * size, MAX_TEXT_BYTES)


def in_order(texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    """The texts in order of their types, in Arrow's layout: (ends int32 (n + 1,), data uint8)."""
    ends = np.zeros(len(texts.length) + 1, np.int32)
    np.cumsum(texts.length, out=ends[1:])
    data = np.empty(int(ends[-1]), np.uint8)
    put_in_order(texts, ends, data)
    return ends, data
