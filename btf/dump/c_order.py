"""In which order the C dump has to declare types, and which ones it needs.

C wants a type complete where it is embedded, and a name declared where it is used. A *step* is one
thing that the dump writes:

    (id, False)  of a struct, union or FWD: the tag alone; of a typedef: its definition
    (id, True)   of a struct, union or enum: its definition; of a typedef: all that is behind it,
                 so that it can be embedded; of a FUNC: its prototype

``put_in_order`` puts every step after the steps it needs, by depth-first search from the types
wanted. What is only pointed to needs no definition, and no forward declaration either: C declares a
tag where it is first used, at file scope even inside the braces of another struct. Only in the
parameters of a function it would be declared for that function alone, so there the tag is needed
beforehand.

Types from C have no cycles of steps; BTF can. A typedef that needs itself is not repeated, and the
declaration has to do without. A struct that has to be complete before itself is an error, whether
it embeds itself (which ``lay_out`` finds) or is an element of an array that it points to.

Parameters of compiled functions:

d, type_id   ``Tables``, id of a type of any level: see ``c_tables``
step      2 * id, and 1 if it completes
use       4 * id, and 1 where the size of the type matters, 2 in the parameters of a function
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format import kinds
from . import c_names as n
from . import c_tables as t
from .c_layout import lay_out
from .c_tables import fault, is_composite, spend, third_of, vlen_of

_COMPLETE, _IN_FUNCTION = 1, 2


@inlined
def _need(d, type_id, complete):  # type: ignore[no-untyped-def]
    """Add to ``needs`` the step of a type that completes it if ``complete`` is 1, and not if 0."""
    d.needs[d.state[t.NEEDS]] = 2 * type_id + complete
    d.state[t.NEEDS] += 1


@compiled
def _walk(d, use):  # type: ignore[no-untyped-def]
    """Add to ``needs`` what a use of a type needs."""
    rows, words, pending = d.rows, d.words, d.pending
    d.state[t.WALKS] += 1
    walk = d.state[t.WALKS]
    pending[0] = use
    count = 1
    while count > 0 and d.state[t.FAULT] == 0:
        count -= 1
        use = pending[count]
        type_id, manner = use >> 2, use & 3
        spend(d, type_id, 0)
        if d.stamps[type_id, manner] == walk:
            continue
        d.stamps[type_id, manner] = walk
        complete, in_function = manner & _COMPLETE, manner & _IN_FUNCTION
        kind, named = np.int64(rows[type_id, t.KIND]), rows[type_id, t.NAME] != 0
        at = rows[type_id, t.START]
        if kind == kinds.TYPEDEF:
            rows[type_id, t.FLAGS] |= t.MENTIONED
            if rows[type_id, t.NAME] != n.BUILT_IN:
                _need(d, type_id, complete)
        elif kinds.is_transparent(kind):
            pending[count] = 4 * third_of(d, type_id) + manner
            count += 1
        elif kind == kinds.PTR:
            pending[count] = 4 * third_of(d, type_id) + in_function
            count += 1
        elif kind == kinds.ARRAY:
            pending[count] = 4 * np.int64(words[at + kinds.HEAD_WORDS]) + _COMPLETE + in_function
            count += 1
        elif kind == kinds.FUNC_PROTO:
            vlen = vlen_of(d, type_id)
            for number in range(vlen):
                target = np.int64(words[at + kinds.HEAD_WORDS + 2 * (vlen - 1 - number) + 1])
                pending[count + number] = 4 * target + _IN_FUNCTION
            pending[count + vlen] = 4 * third_of(d, type_id) + _IN_FUNCTION
            count += vlen + 1
        elif is_composite(kind) and not named:
            rows[type_id, t.FLAGS] |= t.INLINED
            lay_out(d, type_id)
            if rows[type_id, t.OPAQUE] == 0:
                vlen = vlen_of(d, type_id)
                for number in range(vlen):
                    target = np.int64(words[at + kinds.HEAD_WORDS + 3 * (vlen - 1 - number) + 1])
                    pending[count + number] = 4 * target + _COMPLETE + in_function
                count += vlen
        elif is_composite(kind) or kind == kinds.FWD:
            rows[type_id, t.FLAGS] |= t.MENTIONED
            if complete or in_function:
                _need(d, type_id, complete if kind != kinds.FWD else np.int64(0))
        elif kinds.is_enum(kind) and not named:
            rows[type_id, t.FLAGS] |= t.INLINED
        elif kinds.is_enum(kind):
            _need(d, type_id, np.int64(1))
            if complete:
                rows[type_id, t.FLAGS] = rows[type_id, t.FLAGS] & ~t.NO_VALUES | t.EMBEDDED
        elif kinds.is_scalar(kind) and rows[type_id, t.SPELLED] == 0:
            _need(d, type_id, np.int64(1))


@compiled
def _find_needs(d, step):  # type: ignore[no-untyped-def]
    """Add to ``needs`` what a step needs."""
    rows, type_id, complete = d.rows, step >> 1, step & 1
    kind = np.int64(rows[type_id, t.KIND])
    rows[type_id, t.FLAGS] |= t.MENTIONED
    if kind == kinds.TYPEDEF:
        if complete:
            _need(d, type_id, np.int64(0))
        _walk(d, 4 * third_of(d, type_id) + complete)
    elif complete and is_composite(kind):
        lay_out(d, type_id)
        if rows[type_id, t.OPAQUE] != 0:
            return
        first = d.state[t.NEEDS]
        for number in range(vlen_of(d, type_id)):
            target = np.int64(d.words[rows[type_id, t.START] + kinds.HEAD_WORDS + 3 * number + 1])
            _walk(d, 4 * target + _COMPLETE)
        kept = first
        for i in range(first, d.state[t.NEEDS]):
            if d.needs[i] != 2 * type_id:  # "struct x {" declares x
                d.needs[kept] = d.needs[i]
                kept += 1
        d.state[t.NEEDS] = kept
    elif (
        kinds.is_enum(kind)
        and vlen_of(d, type_id) == 0
        and rows[type_id, t.FLAGS] & t.EMBEDDED == 0
    ):
        rows[type_id, t.FLAGS] |= t.NO_VALUES


@inlined
def _open(d, depth, step):  # type: ignore[no-untyped-def]
    """Begin with a step, as number ``depth`` of those that are open."""
    d.rows[step >> 1, t.FLAGS] |= (t.DONE | t.OPEN) << (step & 1)
    first = d.state[t.NEEDS]
    _find_needs(d, step)
    d.open[depth, 0], d.open[depth, 1], d.open[depth, 2] = step, first, d.state[t.NEEDS]


@noinline
def _add(d, root):  # type: ignore[no-untyped-def]
    """Append step ``root`` and all that it needs and that is not there yet."""
    rows, begin = d.rows, d.state[t.NEEDS]
    if rows[root >> 1, t.FLAGS] & (t.DONE << (root & 1)):
        return
    _open(d, np.int64(0), root)
    depth = np.int64(1)
    while depth > 0 and d.state[t.FAULT] == 0:
        step, at = d.open[depth - 1, 0], d.open[depth - 1, 1]
        if at == d.open[depth - 1, 2]:
            depth -= 1
            rows[step >> 1, t.FLAGS] &= ~(t.OPEN << (step & 1))
            d.steps[d.state[t.STEPS]] = step
            d.state[t.STEPS] += 1
            d.state[t.NEEDS] = d.open[depth - 1, 2] if depth > 0 else begin
            continue
        d.open[depth - 1, 1] = at + 1
        need = d.needs[at]
        flags, complete = rows[need >> 1, t.FLAGS], need & 1
        if complete and flags & (t.OPEN << 1) and is_composite(rows[need >> 1, t.KIND]):
            fault(d, t.BEFORE_ITSELF, need >> 1, step >> 1)
        elif flags & (t.DONE << complete) == 0:
            _open(d, depth, need)
            depth += 1


@noinline
def _add_use(d, type_id):  # type: ignore[no-untyped-def]
    """Append all that a use of a type as in a prototype needs and that is not there yet."""
    first = d.state[t.NEEDS]
    _walk(d, 4 * type_id)
    for i in range(first, d.state[t.NEEDS]):
        _add(d, d.needs[i])
    d.state[t.NEEDS] = first


@compiled
def put_in_order(d, wanted, whole, kfuncs):  # type: ignore[no-untyped-def]
    """Fill ``steps`` with those of the types ``wanted`` (int64), all own ones if ``whole``, and of
    ``kfuncs`` (int64), with all that they need."""
    rows = d.rows
    for i in range(len(wanted)):
        if d.state[t.FAULT] != 0:
            return
        type_id = wanted[i]
        kind, name = np.int64(rows[type_id, t.KIND]), rows[type_id, t.NAME]
        if kind == kinds.TYPEDEF:
            if name != n.BUILT_IN:
                _add(d, 2 * type_id)
        elif name != 0 and (is_composite(kind) or kinds.is_enum(kind) or kind == kinds.FWD):
            _add(d, 2 * type_id + (kind != kinds.FWD))
        elif not whole and not kinds.is_enum(kind):
            refers = kind == kinds.FUNC or kind == kinds.VAR
            _add_use(d, third_of(d, type_id) if refers else np.int64(type_id))
    for i in range(len(wanted)):  # constants that no type refers to
        type_id = wanted[i]
        if kinds.is_enum(np.int64(rows[type_id, t.KIND])) and rows[type_id, t.NAME] == 0:
            if rows[type_id, t.FLAGS] & t.INLINED == 0 and vlen_of(d, type_id) > 0:
                _add(d, 2 * type_id + 1)
    for i in range(len(kfuncs)):
        _add_use(d, third_of(d, kfuncs[i]))
    for i in range(len(kfuncs)):
        d.steps[d.state[t.STEPS]] = 2 * kfuncs[i]
        d.state[t.STEPS] += 1
