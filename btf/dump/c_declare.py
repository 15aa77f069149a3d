"""Declarations of the C dump: declarators inside out, parameters, bodies.

A type in BTF reads from the outside in (pointer to array of int), a declarator in C from the inside
out. ``declare`` follows the types from a name to what stands in front and notes the parts of the
declarator on the way: of ``int (*p)[4]`` a pointer and an array. Then ``int``, the parts backwards
up to the name, ``(*p``, and the parts forwards behind it, ``)[4]``, are written.

Bodies and parameters hold declarations in turn. Instead of recursion there is a stack of what is
still to be written, ``tasks``: each row is a task and what it is about, and the last one is next.

Parameters of compiled functions:

d, type_id, name   ``Tables``, ids of a type of any level and of a name: see ``c_tables``
target           the type that is declared
path, length     where in ``paths`` the path to what is declared begins, from the type that
                 assertions are about, and its length; or -1 where its offset is not fixed
offset           its offset in bytes
scope            of the struct around, which members may join; or 0
qualifiers       in order, two bits each: 1 const, 2 volatile, 3 restrict
first, last, end   a row of ``chain`` and where a declarator's rows end; or the same of ``tags``
row              of ``tasks``
level            how many tabs stand before the line that the text begins in
at               in bits: where the compiler is
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format import kinds
from . import c_names as n
from . import c_tables as t
from .c_layout import lay_out, member_align, member_bits, member_number, place_bits, union_end, up
from .c_names import is_taken, make_name, new_scope, note_taken, take
from .c_tables import (
    fault,
    is_composite,
    keyword_of,
    member_place,
    size_of,
    spend,
    third_of,
    vlen_of,
)
from .c_text import (
    WHOLE,
    put,
    put_all,
    put_array,
    put_enum,
    put_line,
    put_macro,
    put_number,
    put_pad_array,
    put_padding,
    put_subject,
    put_tags,
)

MAX_DECLARATOR = 256  # types between a name and what stands in front of it
MAX_DEPTH = 64  # of bodies and parameter lists within one another

_NEVER = -1
_BODY, _MEMBER_END, _DECLARE_END, _PREFIX, _SUFFIX, _PARAMETERS = range(6)
_NUMBERS = 9
TASK = 1 + _NUMBERS
"""Columns of ``tasks``: which task it is, and its numbers."""
MAX_TASKS = 8 * (MAX_DEPTH + 2)
MAX_PARTS = (MAX_DEPTH + 2) * (MAX_DECLARATOR + 1)


@inlined
def _push(d, task, a, b, c, e, f, g, h, i, j):  # type: ignore[no-untyped-def]
    """Put a task before all others, with the numbers that it is about: ``a`` to ``j``, without d,
    in the order a, b, c, e, f, g, h, i, j."""
    row = d.state[t.TASKS]
    d.state[t.TASKS] = row + 1
    d.tasks[row, 0], d.tasks[row, 1], d.tasks[row, 2], d.tasks[row, 3] = task, a, b, c
    d.tasks[row, 4], d.tasks[row, 5], d.tasks[row, 6], d.tasks[row, 7] = e, f, g, h
    d.tasks[row, 8], d.tasks[row, 9] = i, j


@noinline
def _enter(d, type_id):  # type: ignore[no-untyped-def]
    """Go into a body or a list of parameters; a fault when there are too many around it."""
    d.state[t.DEPTH] += 1
    spend(d, type_id, 0)
    if d.state[t.DEPTH] > MAX_DEPTH:
        fault(d, t.DEEP, type_id, 0)


@noinline
def is_incomplete(d, type_id):  # type: ignore[no-untyped-def]
    """Whether a type is a typedef, perhaps a qualified one, whose type C does not know yet."""
    kind = d.rows[type_id, t.KIND]
    while (
        kind == kinds.CONST
        or kind == kinds.VOLATILE
        or kind == kinds.RESTRICT
        or kind == kinds.TYPE_TAG
    ):
        type_id = third_of(d, type_id)
        kind = d.rows[type_id, t.KIND]
    flags = d.rows[type_id, t.FLAGS]
    return kind == kinds.TYPEDEF and (flags & t.INCOMPLETE != 0 or flags & t.WRITTEN == 0)


# ------------------------------------------------------------------ declarators


@inlined
def _with(qualifiers, wanted):  # type: ignore[no-untyped-def]
    """Return qualifiers and one more, ``wanted``, unless they have it."""
    for i in range(3):
        if qualifiers >> 2 * i & 3 == wanted:
            return qualifiers
    return qualifiers << 2 | wanted


@inlined
def _without_restrict(d, type_id, qualifiers):  # type: ignore[no-untyped-def]
    """Return qualifiers without ``restrict`` where C does not allow it: it restricts pointers to
    objects only."""
    target = d.rows[type_id, t.STRIP]
    if d.rows[target, t.KIND] == kinds.PTR:
        target = d.rows[third_of(d, target), t.STRIP]
        if d.rows[target, t.KIND] != kinds.FUNC_PROTO:
            return qualifiers
    kept = np.int64(0)
    for i in range(3):
        one = qualifiers >> 2 * (2 - i) & 3
        if one != 0 and one != 3:
            kept = kept << 2 | one
    return kept


@inlined
def _put_qualifiers(d, qualifiers, before, behind):  # type: ignore[no-untyped-def]
    """Write qualifiers, with the texts ``before`` and ``behind`` around each."""
    for i in range(3):
        one = qualifiers >> 2 * (2 - i) & 3
        if one != 0:
            put_all(d, before, n.CONST_WORD - 1 + one, behind)


@inlined
def _put_type_tags(d, first, last):  # type: ignore[no-untyped-def]
    """Write type tags: the last one is next to what it is a tag of, and the first in C."""
    for i in range(last - first):
        put_macro(d, d.tags[last - 1 - i])


@inlined
def _add_part(d, kind, value, first, last):  # type: ignore[no-untyped-def]
    """Add a part of a ``kind`` to the declarator: a PTR with qualifiers as its ``value``, an ARRAY
    of that many, a FUNC_PROTO by its id."""
    at = d.state[t.CHAIN]
    d.state[t.CHAIN] = at + 1
    d.chain[at, 0], d.chain[at, 1], d.chain[at, 2], d.chain[at, 3] = kind, value, first, last


@noinline
def declare(d, target, name, level, path, length, offset, scope):  # type: ignore[no-untyped-def]
    """Declare ``name``, which may be 0, as of a type: write what stands in front, and put what
    follows among the tasks."""
    rows = d.rows
    chain, tags, start = d.state[t.CHAIN], d.state[t.TAGS], d.state[t.END]
    type_id, qualifiers, first_tag = target, np.int64(0), tags
    array, arrays, ended = np.int64(0), np.int64(0), False
    for _ in range(MAX_DECLARATOR):
        kind = rows[type_id, t.KIND]
        if kind == kinds.CONST:
            qualifiers = _with(qualifiers, 1)
        elif kind == kinds.VOLATILE:
            qualifiers = _with(qualifiers, 2)
        elif kind == kinds.RESTRICT:
            qualifiers = _with(qualifiers, 3)
        elif kind == kinds.TYPE_TAG:
            if rows[type_id, t.MACRO] == 0:
                fault(d, t.NO_TAG, type_id, 0)
                return
            d.tags[d.state[t.TAGS]] = type_id
            d.state[t.TAGS] += 1
        elif kind == kinds.PTR:
            qualifiers = _without_restrict(d, type_id, qualifiers)
            _add_part(d, kinds.PTR, qualifiers, first_tag, d.state[t.TAGS])
            qualifiers, first_tag = np.int64(0), d.state[t.TAGS]
            path, array = np.int64(_NEVER), np.int64(0)
        elif kind == kinds.ARRAY:
            if size_of(d, type_id) < 0:
                fault(d, t.SIZELESS_ARRAY, type_id, 0)
                return
            at = rows[type_id, t.START] + kinds.HEAD_WORDS
            _add_part(d, kinds.ARRAY, np.int64(d.words[at + 2]), 0, 0)
            array, arrays = type_id, arrays + 1
            type_id = np.int64(d.words[at])  # a qualified array is one of such elements
            continue
        elif kind == kinds.FUNC_PROTO:
            _add_part(d, kinds.FUNC_PROTO, type_id, 0, 0)
            # Functions that do not return are volatile in GCC's DWARF.
            qualifiers, first_tag = np.int64(0), d.state[t.TAGS]
            path, array = np.int64(_NEVER), np.int64(0)
            result = rows[rows[third_of(d, type_id), t.STRIP], t.KIND]
            if result == kinds.ARRAY or result == kinds.FUNC_PROTO:
                fault(d, t.RETURNS, type_id, 0)
                return
        else:
            ended = True
            break
        type_id = third_of(d, type_id)
    if not ended:
        fault(d, t.LONG, type_id, 0)
        return
    qualifiers = _without_restrict(d, type_id, qualifiers)
    _push(d, _DECLARE_END, type_id, start, chain, tags, array, 0, 0, 0, 0)
    _push(d, _PREFIX, chain, d.state[t.CHAIN], name, level, first_tag, d.state[t.TAGS], 0, 0, 0)
    _put_qualifiers(d, qualifiers, 0, n.SPACE)
    kind = np.int64(rows[type_id, t.KIND])
    if kind == kinds.TYPEDEF:
        lost = rows[type_id, t.FLAGS] & t.WRITTEN == 0
        d.state[t.LOST] |= lost
        put(d, np.int64(n.LOST_STRUCT) if lost else np.int64(rows[type_id, t.C_NAME]))
    elif kind == kinds.FWD or (
        (is_composite(kind) or kinds.is_enum(kind)) and rows[type_id, t.NAME] != 0
    ):
        put_subject(d, keyword_of(d, type_id), np.int64(rows[type_id, t.C_NAME]))
    elif is_composite(kind):
        for _ in range(arrays if path >= 0 else 0):
            path, length = _longer_path(d, path, length, 0, n.FIRST_ELEMENT)
        put(d, n.STRUCT_WORD + keyword_of(d, type_id))
        if scope == 0:
            scope = new_scope(d)
        put_composite(d, type_id, level, path, length, offset, scope)
    elif kinds.is_enum(kind):
        begin = d.state[t.END]
        put(d, n.ENUM_WORD)
        put_enum(d, type_id, begin, level, False)
    elif kinds.is_scalar(kind):
        spelled = np.int64(rows[type_id, t.SPELLED])
        put(d, spelled if spelled != 0 else np.int64(rows[type_id, t.C_NAME]))
    else:
        put(d, n.VOID_WORD)  # void itself, and what can only be pointed to


@compiled
def _end_declaration(d, row):  # type: ignore[no-untyped-def]
    """End what ``declare`` began."""
    type_id, start = d.tasks[row, 1], d.tasks[row, 2]
    d.state[t.CHAIN], d.state[t.TAGS] = d.tasks[row, 3], d.tasks[row, 4]
    if d.tasks[row, 5] != 0 and is_incomplete(d, type_id):
        fault(d, t.ARRAY_OF_OPEN, d.tasks[row, 5], 0)
    spend(d, type_id, d.state[t.END] - start)


@compiled
def _put_prefix(d, row):  # type: ignore[no-untyped-def]
    """Write a declarator up to its name."""
    first, end, name, level = d.tasks[row, 1], d.tasks[row, 2], d.tasks[row, 3], d.tasks[row, 4]
    _put_type_tags(d, d.tasks[row, 5], d.tasks[row, 6])
    if end > first or name != 0:
        put(d, n.SPACE)
    at = end
    while at > first:
        at -= 1
        if d.chain[at, 0] == kinds.PTR:
            put(d, n.STAR)
            if d.chain[at, 1] != 0 or d.chain[at, 2] < d.chain[at, 3]:
                _put_qualifiers(d, d.chain[at, 1], n.SPACE, 0)
                _put_type_tags(d, d.chain[at, 2], d.chain[at, 3])
                if at > first or name != 0:
                    put(d, n.SPACE)
        elif at > first and d.chain[at - 1, 0] == kinds.PTR:
            put(d, n.OPEN_ROUND)
    put(d, name)
    _push(d, _SUFFIX, first, end, first, level, 0, 0, 0, 0, 0)


@compiled
def _put_suffix(d, row):  # type: ignore[no-untyped-def]
    """Write what stands behind a declarator's name, up to the next parameters."""
    at, end, first, level = d.tasks[row, 1], d.tasks[row, 2], d.tasks[row, 3], d.tasks[row, 4]
    while at < end:
        kind, value = d.chain[at, 0], d.chain[at, 1]
        if kind != kinds.PTR and at > first and d.chain[at - 1, 0] == kinds.PTR:
            put(d, n.CLOSE_ROUND)
        at += 1
        if kind == kinds.ARRAY:
            put(d, n.OPEN_SQUARE)
            put_number(d, value)
            put(d, n.CLOSE_SQUARE)
        elif kind == kinds.FUNC_PROTO:
            put(d, n.OPEN_ROUND)
            vlen = vlen_of(d, value)
            if vlen == 0 or (
                vlen == 1 and d.words[d.rows[value, t.START] + kinds.HEAD_WORDS + 1] == 0
            ):
                put_all(d, n.VOID_WORD, n.CLOSE_ROUND, 0)
            else:
                _enter(d, value)
                _push(d, _SUFFIX, at, end, first, level, 0, 0, 0, 0, 0)
                _push(d, _PARAMETERS, value, 0, level, new_scope(d), 0, 0, 0, 0, 0)
                return


@compiled
def _is_parameter(kind):  # type: ignore[no-untyped-def]
    """Whether a parameter can be of a ``kind``."""
    if is_composite(kind) or kinds.is_enum(kind) or kinds.is_scalar(kind) or kind == kinds.FWD:
        return True
    return kind == kinds.PTR or kind == kinds.ARRAY or kind == kinds.FUNC_PROTO


@compiled
def _put_parameter(d, row):  # type: ignore[no-untyped-def]
    """Write the next parameter of a prototype."""
    type_id, number, level, scope = (
        d.tasks[row, 1],
        d.tasks[row, 2],
        d.tasks[row, 3],
        d.tasks[row, 4],
    )
    at = d.rows[type_id, t.START] + kinds.HEAD_WORDS + 2 * number
    if number == vlen_of(d, type_id):
        put(d, n.CLOSE_ROUND)
        d.state[t.DEPTH] -= 1
        return
    if number > 0:
        put(d, n.COMMA)
    target = np.int64(d.words[at + 1])
    if target == 0 and number == vlen_of(d, type_id) - 1:
        put_all(d, n.ELLIPSIS, n.CLOSE_ROUND, 0)
        d.state[t.DEPTH] -= 1
        return
    if not _is_parameter(np.int64(d.rows[d.rows[target, t.STRIP], t.KIND])):
        fault(d, t.VOID_PARAMETER, type_id, 0)
        return
    name = np.int64(d.seen[d.words[at]])
    if name != 0:
        name = _parameter_name(d, name, scope)
    _push(d, _PARAMETERS, type_id, number + 1, level, scope, 0, 0, 0, 0, 0)
    declare(d, target, name, level, np.int64(_NEVER), np.int64(0), np.int64(0), np.int64(0))


@compiled
def _parameter_name(d, name, scope):  # type: ignore[no-untyped-def]
    """Return what a parameter called ``name`` is called in C; 0 if it has to have no name."""
    wanted = np.int64(d.names[name, t.IDENTIFIER])
    if is_taken(d, np.int64(t.PLAIN), wanted):  # would hide the typedef
        second = np.int64(d.names[name, t.SECOND])
        if second == 0:
            second = make_name(d, wanted, np.int64(n.UNDERSCORE), np.int64(_NEVER))
        wanted = second
    if is_taken(d, scope, wanted) or is_taken(d, np.int64(t.PLAIN), wanted):
        return np.int64(0)
    note_taken(d, scope, wanted, np.int64(2))
    return wanted


# ------------------------------------------------------------------ bodies


@noinline
def _longer_path(d, path, length, name, last):  # type: ignore[no-untyped-def]
    """Return a path with a name behind it, or if that is 0 the text ``last``: (where, length)."""
    dot = np.int64(name != 0 and length > 0)
    more = np.int64(d.names[name if name != 0 else last, t.LENGTH]) + dot
    if d.state[t.ASSERTS] == 0:
        return path, length + more
    start = d.state[t.PATHS]
    if start + length + more > len(d.paths):
        fault(d, t.FULL, 0, 0)
        return path, length
    for i in range(length):
        d.paths[start + i] = d.paths[path + i]
    at = start + length
    if dot != 0:
        d.paths[at] = d.text[d.names[n.DOT, t.AT]]
        at += 1
    text = np.int64(d.names[name if name != 0 else last, t.AT])
    for i in range(more - dot):
        d.paths[at + i] = d.text[text + i]
    d.state[t.PATHS] = start + length + more
    return start, length + more


@noinline
def _put_reason(d, type_id):  # type: ignore[no-untyped-def]
    """Write why a struct is opaque."""
    rows, reason = d.rows, np.int64(d.rows[type_id, t.OPAQUE])
    put(d, n.NOT_EXPRESSIBLE)
    if rows[type_id, t.CULPRIT] > 0:
        number = np.int64(rows[type_id, t.CULPRIT]) - 1
        at = rows[type_id, t.START] + kinds.HEAD_WORDS + 3 * number
        name = np.int64(d.seen[d.words[at]])
        put(d, np.int64(d.names[name, t.SAFE]) if name != 0 else np.int64(n.A_MEMBER))
        target, _, bits = member_place(d, type_id, number)
        if reason == n.TOO_MANY_BITS:
            put(d, n.HAS)
            put_number(d, bits)
        put(d, reason)
        if reason == n.IS_ENUM_OF:
            put_number(d, third_of(d, np.int64(rows[target, t.ELEMENT])))
            put(d, n.BYTES_WORD)
    else:
        put(d, reason)
    put(d, n.END_COMMENT)


@noinline
def put_composite(d, type_id, level, path, length, offset, scope):  # type: ignore[no-untyped-def]
    """Begin the body of a struct or union, behind ``struct x``; the rest goes among the tasks."""
    _enter(d, type_id)
    lay_out(d, type_id)
    put(d, n.BEGIN)
    opaque = d.rows[type_id, t.OPAQUE] != 0
    if opaque:
        put_line(d, level + 1)
        _put_reason(d, type_id)
        put_array(d, level + 1, take(d, scope, np.int64(n.OPAQUE_NAME)), third_of(d, type_id))
    _push(
        d, _BODY, type_id, level, 0, 0, path, length, offset, scope, np.int64(opaque),
    )  # fmt: skip


@compiled
def _put_next_member(d, row):  # type: ignore[no-untyped-def]
    """Write the next member of a body, and the padding before it; or what ends the body."""
    rows = d.rows
    type_id, level, place, at = d.tasks[row, 1], d.tasks[row, 2], d.tasks[row, 3], d.tasks[row, 4]
    path, length, offset = d.tasks[row, 5], d.tasks[row, 6], d.tasks[row, 7]
    scope, lines = d.tasks[row, 8], d.tasks[row, 9]
    opaque, is_union = rows[type_id, t.OPAQUE] != 0, rows[type_id, t.KIND] == kinds.UNION
    if opaque or place == vlen_of(d, type_id):
        if not opaque:
            lines |= _pad_end(d, type_id, level + 1, scope, at)
        if lines:
            put_line(d, level)
        put(d, n.CLOSE_BRACE)
        d.state[t.DEPTH] -= 1
        if rows[type_id, t.FLAGS] & t.PACKED:
            put(d, n.PACKED_TEXT)
        put_tags(d, type_id, WHOLE)
        return
    number = member_number(d, type_id, place)
    target, wanted, bits = member_place(d, type_id, number)
    if not is_union:
        packed = rows[type_id, t.FLAGS] & t.PACKED != 0
        own = member_bits(d, target)
        least = min(member_align(d, target, packed), 8 * d.state[t.LEAST])
        natural = place_bits(at, bits, own, least, packed) if bits > 0 else up(at, least)
        if natural < wanted:
            put_padding(d, type_id, level + 1, scope, at, wanted)
        at = wanted + (bits if bits > 0 else own)
    put_line(d, level + 1)
    _push(d, _BODY, type_id, level, place + 1, at, path, length, offset, scope, 1)
    _push(d, _MEMBER_END, type_id, number, bits, 0, 0, 0, 0, 0, 0)
    name = np.int64(d.seen[d.words[rows[type_id, t.START] + kinds.HEAD_WORDS + 3 * number]])
    offset += wanted // 8
    if name == 0 and bits == 0 and _put_nameless(d, target, level + 1, path, length, offset, scope):
        return
    if name == 0:
        name = make_name(d, np.int64(n.ANONYMOUS_NUMBER), np.int64(0), number)
    elif name != n.BOOL_NAME and name != n.TRUE_NAME and name != n.FALSE_NAME:
        # C23 refuses members called "bool", but relocations go by this name.
        name = np.int64(d.names[name, t.IDENTIFIER])
    name = take(d, scope, name)
    if is_incomplete(d, target):
        fault(d, t.MEMBER_OF_OPEN, target, 0)
        return
    if bits > 0:
        path = np.int64(_NEVER)
    if path >= 0:
        path, length = _longer_path(d, path, length, name, 0)
        spend(d, target, length)
        _note_fact(d, path, length, offset)
    declare(d, target, name, level + 1, path, length, offset, np.int64(0))


@inlined
def _note_fact(d, path, length, offset):  # type: ignore[no-untyped-def]
    """Note the offset of a member, to be asserted."""
    if d.state[t.ASSERTS] == 0:
        return
    row = d.state[t.FACTS]
    if row == len(d.facts):
        fault(d, t.FULL, 0, 0)
        return
    d.facts[row, 0], d.facts[row, 1], d.facts[row, 2] = path, path + length, offset
    d.state[t.FACTS] = row + 1


@compiled
def _put_nameless(d, target, level, path, length, offset, scope):  # type: ignore[no-untyped-def]
    """Write a member without a name, if it is a struct or union whose members join those around;
    returns whether it is."""
    behind = target
    kind = d.rows[behind, t.KIND]
    while kind == kinds.CONST or kind == kinds.VOLATILE or kind == kinds.RESTRICT:
        behind = third_of(d, behind)
        kind = d.rows[behind, t.KIND]
    if not is_composite(kind):
        return False
    if d.rows[behind, t.NAME] == 0:
        declare(d, target, np.int64(0), level, path, length, offset, scope)
    else:  # Microsoft's extension: members of a named struct join those of the one around
        put(d, n.STRUCT_WORD + keyword_of(d, behind))
        put_composite(d, behind, level, path, length, offset, scope)
    return True


@compiled
def _pad_end(d, type_id, level, scope, at):  # type: ignore[no-untyped-def]
    """Write the padding behind the last member; returns 1 if there is some, else 0."""
    size, align = third_of(d, type_id), np.int64(d.rows[type_id, t.ALIGN])
    is_union = d.rows[type_id, t.KIND] == kinds.UNION
    if is_union:
        at = union_end(d, type_id)
    if up(at, 8 * min(align, d.state[t.LEAST])) >= 8 * size:
        return np.int64(0)
    if is_union:
        put_pad_array(d, level, scope, np.int64(0), size)
    else:
        put_padding(d, type_id, level, scope, at, 8 * size)
    return np.int64(1)


@compiled
def _end_member(d, row):  # type: ignore[no-untyped-def]
    """End a member."""
    if d.tasks[row, 3] > 0:
        put(d, n.COLON)
        put_number(d, d.tasks[row, 3])
    put_tags(d, d.tasks[row, 1], d.tasks[row, 2])
    put(d, n.SEMICOLON)


@noinline
def finish(d):  # type: ignore[no-untyped-def]
    """Do all tasks."""
    while d.state[t.TASKS] > 0 and d.state[t.FAULT] == 0:
        row = d.state[t.TASKS] - 1
        d.state[t.TASKS] = row
        task = d.tasks[row, 0]
        if task == _BODY:
            _put_next_member(d, row)
        elif task == _MEMBER_END:
            _end_member(d, row)
        elif task == _DECLARE_END:
            _end_declaration(d, row)
        elif task == _PREFIX:
            _put_prefix(d, row)
        elif task == _SUFFIX:
            _put_suffix(d, row)
        else:
            _put_parameter(d, row)
