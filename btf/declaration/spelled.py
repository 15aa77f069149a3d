"""A hash of how C spells each type: what declarations that refer to the type say of it.

A type with a name is spelled by it: ``struct x``, declared or defined, ``u32``. What has none is
written out: pointers, prototypes, anonymous structs, unions and enums. As in C, qualifiers of an
array are those of its elements, and their order does not count. Arrays of arrays count as one with
the product of their lengths, for some encoders write them so; tags and the names of parameters do
not count. Types without a name that contain themselves, which C cannot have, are spelled with a
marker where one of them refers to another.

Hashes are made without recursion, what is referred to first, in time and memory that grow with the
records alone, however long the text would be.

Parameters used throughout:

base, own        ``Values`` of the base, by type id, and of the own types
start_id         id of the first own type
type_id          id of a type, of the base or own
v                an own type, counted from 0
count            how many own types there are
words, offsets   uint32: records of the own types, and where in ``words`` each begins
at, info         where a record begins, and its second word
base_strings, own_strings   uint8: an offset counts through the first and on in the second
offset           global string offset
graph            ``Graph`` of the types by what their spelling contains: ``members`` are those to be
                 done, ``composite`` is 0 until they are
ordered          whether ``members`` are ordered, and ``component`` tells circles

Most types follow what their spelling contains, or it follows soon, so that a few sweeps over those
not done yet order them all. What is left after SWEEPS is far from it, or contains itself: then all
are done once more in the order that ``find_components`` finds.
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..fingerprint.graph import find_components
from ..fingerprint.hashing import SPELLED, absorb, absorb_text, absorb_two, finish
from ..format.kinds import (
    ARRAY,
    CONST,
    ELEMENT_WORDS,
    FUNC_PROTO,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    PTR,
    RESTRICT,
    STRUCT,
    TYPE_TAG,
    UNION,
    VOLATILE,
    is_enum,
    kind_of,
)
from ..format.records import enumerator, name_class, place, reference_at, reference_count
from .values import (
    ARRAY_SPELLED,
    CIRCLE,
    NAMELESS_ENUM,
    NAMELESS_POINTER,
    NAMELESS_PROTOTYPE,
    NAMELESS_STRUCT,
    NAMELESS_UNION,
    SWEEPS,
    VARIADIC,
    WAITING,
    WRAPPED,
    WRITTEN_OUT,
    times,
    value_of,
)

_32 = np.uint64(32)
_1 = np.uint64(1)


@inlined
def has_no_name(words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Whether a type's name is empty."""
    offset = np.int64(words[at])
    if offset < len(base_strings):
        return base_strings[offset] == 0
    return own_strings[offset - len(base_strings)] == 0


@inlined
def is_wrapper(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) is part of the spelling of what it refers to."""
    return (
        kind == CONST or kind == VOLATILE or kind == RESTRICT or kind == ARRAY or kind == TYPE_TAG
    )


@inlined
def part_of(graph, start_id, ordered, v, type_id):  # type: ignore[no-untyped-def]
    """``type_id``, to which type ``v`` refers; CIRCLE (as ``type_id`` may be) where that would
    contain ``v``; WAITING if it is not done."""
    if type_id >= start_id and type_id != CIRCLE:
        if ordered:
            if graph.component[type_id - start_id] == graph.component[v]:
                return np.int64(CIRCLE)
        elif graph.composite[type_id - start_id] == 0:
            return np.int64(WAITING)
    return type_id


@inlined
def parts_spelled(words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """How many of a type's references, from the first on, its spelling contains."""
    info = words[at + 1]
    kind = kind_of(info)
    if kind == ARRAY:
        return np.int64(1)
    if kind == STRUCT or kind == UNION:
        if not has_no_name(words, at, base_strings, own_strings):
            return np.int64(0)
    elif kind != PTR and kind != FUNC_PROTO and not is_wrapper(kind):
        return np.int64(0)
    return reference_count(info)


@noinline
def find_circles(graph, start_id, count, words, offsets, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Order all types, what is referred to first, and give those of a circle one component."""
    used = 0
    for v in range(count):
        at = np.int64(offsets[v])
        graph.first[v] = used
        for number in range(parts_spelled(words, at, base_strings, own_strings)):
            graph.children[used] = reference_at(words, at, number)
            used += 1
    graph.first[count] = used
    find_components(graph, start_id, count)


@inlined
def _wrap(base, own, start_id, graph, ordered, v, words, at, kind):  # type: ignore[no-untyped-def]
    """Fill what is known of a qualifier, tag or array, a record of ``kind`` (int64); returns
    whether what it is around was done."""
    referred = np.int64(words[at + 2]) if kind != ARRAY else np.int64(words[at + HEAD_WORDS])
    target = part_of(graph, start_id, ordered, v, referred)
    if target == WAITING:
        return False
    inner, length, marks = np.uint32(target), _1, 0
    if target >= start_id and target != CIRCLE:
        row = target - start_id
        inner, length, marks = own.inner[row], own.length[row], np.int64(own.marks[row])
    elif target != CIRCLE:
        inner, length = base.inner[target], base.length[target]
        marks = np.int64(base.marks[target])
    marks &= ARRAY_SPELLED | 7
    if kind == CONST:
        marks |= 1
    elif kind == VOLATILE:
        marks |= 2
    elif kind == RESTRICT:
        marks |= 4
    elif kind == ARRAY:
        marks |= ARRAY_SPELLED
        length = times(length, np.uint64(words[at + 5]))
    own.inner[v], own.length[v], own.marks[v] = inner, length, marks
    a, b = value_of(base.hashes, own.hashes, start_id, np.int64(inner), SPELLED)
    if marks != 0:
        p, q = absorb_two(WRAPPED, WRAPPED, np.uint64(marks), length)
        a, b = absorb_two(p, q, a, b)
        a, b = finish(a, b)
    own.hashes[v, SPELLED], own.hashes[v, SPELLED + 1] = a, b
    return True


@inlined
def _write_out(base, own, start_id, graph, ordered, v, words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Fill what is known of a type that its parts spell, a pointer, prototype, struct or enum;
    returns whether these were done."""
    info = words[at + 1]
    kind = kind_of(info)
    vlen = np.int64(info & INFO_VLEN_MASK)
    if kind == PTR:
        vlen = np.int64(0)  # whatever stands there, which means nothing
    a, b = WRITTEN_OUT, np.uint64(name_class(info)) | np.uint64(vlen) << _32
    if kind == PTR or kind == FUNC_PROTO:
        own.marks[v] = NAMELESS_POINTER if kind == PTR else NAMELESS_PROTOTYPE
        part = part_of(graph, start_id, ordered, v, np.int64(words[at + 2]))
        if part == WAITING:
            return False
        x, y = value_of(base.hashes, own.hashes, start_id, part, SPELLED)
        a, b = absorb_two(a, b, x, y)
        parameters = vlen if kind == FUNC_PROTO else np.int64(0)
        for number in range(parameters):
            word = at + HEAD_WORDS + 2 * number
            part = part_of(graph, start_id, ordered, v, np.int64(words[word + 1]))
            if part == WAITING:
                return False
            x, y = value_of(base.hashes, own.hashes, start_id, part, SPELLED)
            if part == 0 and number == vlen - 1 and words[word] == 0:
                x, y = VARIADIC
            a, b = absorb_two(a, b, x, y)
    else:
        own.marks[v] = NAMELESS_ENUM
        if kind == STRUCT or kind == UNION:
            own.marks[v] = NAMELESS_STRUCT if kind == STRUCT else NAMELESS_UNION
        body = at + HEAD_WORDS
        for _ in range(vlen):
            a, b = absorb_text(a, b, base_strings, own_strings, np.int64(words[body]))
            if is_enum(kind):
                x, y = enumerator(words, body, info)
            else:
                _, bits = place(words[body + 2], info)
                a, b = absorb(a, b, bits)
                part = part_of(graph, start_id, ordered, v, np.int64(words[body + 1]))
                if part == WAITING:
                    return False
                x, y = value_of(base.hashes, own.hashes, start_id, part, SPELLED)
            a, b = absorb_two(a, b, x, y)
            body += np.int64(ELEMENT_WORDS[kind])
    own.hashes[v, SPELLED], own.hashes[v, SPELLED + 1] = finish(a, b)
    return True


@inlined
def _spell(base, own, start_id, graph, ordered, v, words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Fill what is known of a type; returns whether its parts were done."""
    info = words[at + 1]
    kind = kind_of(info)
    if is_wrapper(kind):
        return _wrap(base, own, start_id, graph, ordered, v, words, at, kind)
    own.inner[v], own.length[v], own.marks[v] = v + start_id, _1, 0
    own.element[v], own.many[v] = v + start_id, _1
    nameless = kind == PTR or kind == FUNC_PROTO
    if kind == STRUCT or kind == UNION or is_enum(kind):
        nameless = has_no_name(words, at, base_strings, own_strings)
    if nameless:
        return _write_out(
            base, own, start_id, graph, ordered, v, words, at, base_strings, own_strings
        )
    return True  # its hash is there, see ``record_hashes``


@compiled
def spell_types(base, own, start_id, count, graph, words, offsets, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Fill ``spelled``, ``inner``, ``length`` and ``marks`` of the own types, and of those that
    are no wrappers ``element`` and ``many``. Returns whether that took an order of the types, and
    ``part_of`` tells circles.

    ``own.hashes`` has what ``fingerprint.record_hashes`` says.
    """
    ordered = False
    for v in range(count):
        graph.members[v] = v
        graph.composite[v] = 0
    waiting = count
    for sweep in range(SWEEPS + 1):
        ordered = sweep == SWEEPS
        if ordered:
            find_circles(graph, start_id, count, words, offsets, base_strings, own_strings)
            waiting = count
        left = 0
        for i in range(waiting):
            v = graph.members[i]
            at = np.int64(offsets[v])
            if _spell(base, own, start_id, graph, ordered, v, words, at, base_strings, own_strings):
                graph.composite[v] = 1
            else:
                graph.members[left] = v
                left += 1
        waiting = left
        if waiting == 0:
            break
    return ordered
