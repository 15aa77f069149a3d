"""Fingerprints of declarations and of layouts, of types whose spelling is known.

A declaration says: of a struct or union its kind, name, size, and of each member the name, bit
offset, bits of a bit field and spelling of its type; of an enum, of any width, name, size and
enumerators; of a typedef, function or variable its name and the spelling of what it stands for,
without linkage and the names of parameters.

A layout is what lies in memory: sizes, offsets, bits, the names of members, how scalars are read,
enumerators, and the layout of what is embedded. Names of types do not count, nor qualifiers. What a
pointer points to counts by kind and name, behind typedefs and qualifiers, and is the same declared
and defined.

Parameters used throughout, as in ``spelled``:

base, own        ``Values`` of the base, by type id, and of the own types
start_id         id of the first own type
type_id          id of a type, of the base or own
v                an own type, counted from 0
count            how many own types there are
words, offsets   uint32: records of the own types, and where in ``words`` each begins
at               where a record begins
number           of a reference of a record, from 0
base_strings, own_strings   uint8: an offset counts through the first and on in the second
graph            ``Graph`` of the types by what they embed: ``members`` are those to be done,
                 ``composite`` is 0 until they are
ordered          whether ``members`` are ordered, and ``component`` tells circles
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..fingerprint.graph import find_components
from ..fingerprint.hashing import (
    LAYOUT,
    SPELLED,
    absorb,
    absorb_two,
    finish,
)
from ..fingerprint.record_hashes import record_label
from ..format.kinds import (
    ARRAY,
    DATASEC,
    DECL_TAG,
    ELEMENT_WORDS,
    FUNC,
    FUNC_PROTO,
    FWD,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    PTR,
    STRUCT,
    TYPEDEF,
    UNION,
    VAR,
    is_enum,
    is_scalar,
    is_transparent,
    kind_of,
)
from ..format.records import record_length, reference_at, reference_count
from .spelled import part_of
from .values import (
    ARRAY_IN_MEMORY,
    CIRCLE,
    DECLARED,
    LAID_OUT,
    NAMELESS,
    SWEEPS,
    VARIADIC,
    WAITING,
    times,
    value_of,
)

_0, _1 = np.uint64(0), np.uint64(1)


@inlined
def _is_many(kind):  # type: ignore[no-untyped-def]
    """Whether a type of ``kind`` (int64) is some number of another one in memory."""
    return kind == ARRAY or is_transparent(kind)


@inlined
def _parts(words, at):  # type: ignore[no-untyped-def]
    """How many of a type's references, from the first on, lead to what it embeds."""
    info = words[at + 1]
    kind = kind_of(info)
    if kind == PTR or kind == FWD or kind == DECL_TAG:
        return np.int64(0)
    return np.int64(1) if kind == ARRAY else reference_count(info)


@inlined
def _embedded(own, v, words, at, number):  # type: ignore[no-untyped-def]
    """Type id, or CIRCLE, of what part ``number`` (from 0) of a type is."""
    if _is_many(kind_of(words[at + 1])):
        return np.int64(own.element[v])
    return reference_at(words, at, number)


@compiled
def _find_elements(base, own, start_id, count, graph, words, offsets):  # type: ignore[no-untyped-def]
    """Fill ``element``, ``many`` and a mark of all arrays, typedefs, qualifiers and tags."""
    way, place_on_way = graph.members, graph.component  # how far one has come, from 1; -1: done
    for v in range(count):
        place_on_way[v] = 0 if _is_many(kind_of(words[np.int64(offsets[v]) + 1])) else -1
    for root in range(count):
        depth, target = 0, root + start_id
        while target >= start_id and place_on_way[target - start_id] == 0:
            row = target - start_id
            way[depth] = row
            depth += 1
            place_on_way[row] = depth
            target = reference_at(words, np.int64(offsets[row]), 0)
        circle = depth  # those on the way from here on contain themselves
        if target >= start_id and place_on_way[target - start_id] > 0:
            circle = place_on_way[target - start_id] - 1
        while depth > 0:
            depth -= 1
            row = way[depth]
            place_on_way[row] = -1
            element, many, mark = np.uint32(CIRCLE), _1, 0
            if depth < circle:
                if target >= start_id:
                    element, many = own.element[target - start_id], own.many[target - start_id]
                    mark = np.int64(own.marks[target - start_id]) & ARRAY_IN_MEMORY
                else:
                    element, many = base.element[target], base.many[target]
                    mark = np.int64(base.marks[target]) & ARRAY_IN_MEMORY
            at = np.int64(offsets[row])
            if kind_of(words[at + 1]) == ARRAY:
                many, mark = times(many, np.uint64(words[at + 5])), ARRAY_IN_MEMORY
            own.element[row], own.many[row] = element, many
            own.marks[row] = np.int64(own.marks[row]) | mark
            target = row + start_id


@noinline
def _find_circles(own, graph, start_id, count, words, offsets):  # type: ignore[no-untyped-def]
    """Order all types, what is embedded first, and give those of a circle one component."""
    used = 0
    for v in range(count):
        at = np.int64(offsets[v])
        graph.first[v] = used
        for number in range(_parts(words, at)):
            part = _embedded(own, v, words, at, number)
            if part != CIRCLE:
                graph.children[used] = part
                used += 1
    graph.first[count] = used
    find_components(graph, start_id, count)


@inlined
def _pointee(base, own, start_id, type_id):  # type: ignore[no-untyped-def]
    """Kind and name of what a pointer to a type points to, as two numbers."""
    for _ in range(2):
        if type_id == 0:
            return _0, _0
        if type_id >= start_id:
            row = type_id - start_id
            element, marks = np.int64(own.element[row]), np.int64(own.marks[row])
        else:
            element, marks = np.int64(base.element[type_id]), np.int64(base.marks[type_id])
        if marks & ARRAY_IN_MEMORY:
            return np.uint64(ARRAY), _0
        if element == type_id or element == CIRCLE:
            break
        type_id = element
    if element != CIRCLE and marks & NAMELESS:
        return np.uint64(marks & NAMELESS), _0
    return value_of(base.hashes, own.hashes, start_id, element, SPELLED)


@inlined
def _lay_out(base, own, start_id, graph, ordered, v, words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Fill the layout of a type that has no members and no enumerators; returns whether its parts
    were done."""
    info = words[at + 1]
    kind = kind_of(info)
    if _is_many(kind) or kind == FUNC or kind == VAR:
        part = part_of(graph, start_id, ordered, v, _embedded(own, v, words, at, 0))
        if part == WAITING:
            return False
        a, b = value_of(base.hashes, own.hashes, start_id, part, LAYOUT)
        if np.int64(own.marks[v]) & ARRAY_IN_MEMORY:
            x, y = absorb_two(LAID_OUT, LAID_OUT, np.uint64(ARRAY), own.many[v])
            a, b = absorb_two(x, y, a, b)
            a, b = finish(a, b)
        own.hashes[v, LAYOUT], own.hashes[v, LAYOUT + 1] = a, b
        return True
    a, b = LAID_OUT, np.uint64(kind)
    if kind == PTR:
        x, y = _pointee(base, own, start_id, np.int64(words[at + 2]))
        a, b = absorb_two(a, b, x, y)
    elif kind == FWD:
        a, b = absorb_two(a, b, own.hashes[v, SPELLED], own.hashes[v, SPELLED + 1])
    elif is_scalar(kind):
        for word in range(2, record_length(info)):
            a, b = absorb(a, b, np.uint64(words[at + word]))
    elif kind == DATASEC or kind == DECL_TAG:
        x, y = record_label(words, at, base_strings, own_strings)
        a, b = absorb_two(a, b, x, y)
    parts = _parts(words, at)
    for number in range(parts):
        part = part_of(graph, start_id, ordered, v, reference_at(words, at, number))
        if part == WAITING:
            return False
        x, y = value_of(base.hashes, own.hashes, start_id, part, LAYOUT)
        if kind == FUNC_PROTO and part == 0 and number == parts - 1 and number > 0:
            if words[at + HEAD_WORDS + 2 * (number - 1)] == 0:
                x, y = VARIADIC
        a, b = absorb_two(a, b, x, y)
    own.hashes[v, LAYOUT], own.hashes[v, LAYOUT + 1] = finish(a, b)
    return True


@inlined
def _declare(base, own, start_id, v, words, at, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Fill the declaration of a type that has no members and no enumerators: what has no name, and
    a forward declaration, says no more than its spelling."""
    info = words[at + 1]
    kind = kind_of(info)
    a, b = own.hashes[v, SPELLED], own.hashes[v, SPELLED + 1]
    if kind != TYPEDEF and kind != FUNC and kind != VAR:
        if not is_scalar(kind) and kind != DATASEC and kind != DECL_TAG:
            own.declaration[v, 0], own.declaration[v, 1] = a, b
            return
        a, b = record_label(words, at, base_strings, own_strings)
    a, b = absorb_two(DECLARED, np.uint64(kind), a, b)
    for number in range(reference_count(info)):
        x, y = value_of(base.hashes, own.hashes, start_id, reference_at(words, at, number), SPELLED)
        a, b = absorb_two(a, b, x, y)
    own.declaration[v, 0], own.declaration[v, 1] = finish(a, b)


@inlined
def _members(base, own, start_id, graph, ordered, v, words, at):  # type: ignore[no-untyped-def]
    """Fill both of a struct, union or enum; returns whether its parts were done."""
    info = words[at + 1]
    kind = kind_of(info)
    vlen = np.int64(info & INFO_VLEN_MASK)
    stride = np.int64(ELEMENT_WORDS[kind])
    # The shape, which counts for both: see ``fingerprint.record_hashes``.
    a, b = own.hashes[v, LAYOUT], own.hashes[v, LAYOUT + 1]
    p, q = DECLARED, DECLARED
    x, y = LAID_OUT, LAID_OUT
    body = at + HEAD_WORDS
    for _ in range(0 if is_enum(kind) else vlen):
        referred = np.int64(words[body + 1])
        r, s = value_of(base.hashes, own.hashes, start_id, referred, SPELLED)
        p, q = absorb_two(p, q, r, s)
        part = part_of(graph, start_id, ordered, v, referred)
        if part == WAITING:
            return False
        r, s = value_of(base.hashes, own.hashes, start_id, part, LAYOUT)
        x, y = absorb_two(x, y, r, s)
        body += stride
    x, y = absorb_two(x, y, a, b)
    own.hashes[v, LAYOUT], own.hashes[v, LAYOUT + 1] = finish(x, y)
    p, q = absorb_two(p, q, a, b)
    if np.int64(own.marks[v]) & NAMELESS == 0:
        p, q = absorb_two(p, q, own.hashes[v, SPELLED], own.hashes[v, SPELLED + 1])
    own.declaration[v, 0], own.declaration[v, 1] = finish(p, q)
    return True


@compiled
def declare_types(base, own, start_id, count, graph, words, offsets, base_strings, own_strings):  # type: ignore[no-untyped-def]
    """Fill ``declaration`` and ``layout`` of the own types, and what ``spell_types`` left out.

    ``own.hashes`` has shapes in place of layouts, see ``fingerprint.record_hashes``.
    """
    _find_elements(base, own, start_id, count, graph, words, offsets)
    for v in range(count):
        graph.members[v] = v
        graph.composite[v] = 0
    waiting = count
    for sweep in range(SWEEPS + 1):
        ordered = sweep == SWEEPS
        if ordered:
            _find_circles(own, graph, start_id, count, words, offsets)
            waiting = count
        left = 0
        for i in range(waiting):
            v = graph.members[i]
            if ordered and graph.composite[v] != 0:
                continue  # done, and its shape is there no more
            at = np.int64(offsets[v])
            kind = kind_of(words[at + 1])
            if kind == STRUCT or kind == UNION or is_enum(kind):
                done = _members(base, own, start_id, graph, ordered, v, words, at)
            else:
                done = _lay_out(
                    base, own, start_id, graph, ordered, v, words, at, base_strings, own_strings
                )
                if done:
                    _declare(base, own, start_id, v, words, at, base_strings, own_strings)
            if done:
                graph.composite[v] = 1
            else:
                graph.members[left] = v
                left += 1
        waiting = left
        if waiting == 0:
            break
