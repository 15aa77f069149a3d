"""The steps of the C dump as text, one after another.

Parameters of compiled functions:

d, type_id, name   ``Tables``, ids of a type of any level and of a name: see ``c_tables``
step      2 * id, and 1 if it completes: see ``c_order``
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format import kinds
from . import c_names as n
from . import c_tables as t
from .c_declare import declare, finish, is_incomplete, put_composite
from .c_layout import is_c_enum
from .c_names import is_taken, leave_scopes, name_types, new_scope, note_taken
from .c_order import put_in_order
from .c_tables import fault, is_composite, keyword_of, size_of, third_of
from .c_text import (
    WHOLE,
    is_boolean,
    put,
    put_all,
    put_assertions,
    put_enum,
    put_number,
    put_subject,
    put_tags,
)

_0 = np.int64(0)


@inlined
def _declare(d, type_id, name, path):  # type: ignore[no-untyped-def]
    """Write a declaration at file scope; ``path`` is 0 if its members can be asserted, else -1."""
    declare(d, type_id, name, _0, path, _0, _0, _0)
    finish(d)


@noinline
def _declare_tag(d, keyword, name):  # type: ignore[no-untyped-def]
    """Write ``struct x;``, of ``keyword`` as in ``keyword_of``, unless it was declared."""
    bit = 1 << keyword
    if d.names[name, t.DECLARED] & bit == 0:
        d.names[name, t.DECLARED] |= bit
        put_subject(d, keyword, name)
        put(d, n.SEMICOLON)


@compiled
def _put_definition(d, type_id):  # type: ignore[no-untyped-def]
    """Define a struct or union."""
    keyword, name = keyword_of(d, type_id), np.int64(d.rows[type_id, t.C_NAME])
    d.names[name, t.DECLARED] |= 1 << keyword
    put_subject(d, keyword, name)
    put(d, n.SPACE)
    put_composite(d, type_id, _0, _0, _0, _0, new_scope(d))
    finish(d)
    put(d, n.SEMICOLON)
    if d.state[t.ASSERTS] != 0:
        put(d, n.EMPTY_LINE)
        put_assertions(d, keyword, name, third_of(d, type_id))


@compiled
def _put_enum(d, type_id):  # type: ignore[no-untyped-def]
    """Define an enum, or declare it if nobody needs more."""
    start, size = d.state[t.END], third_of(d, type_id)
    name = np.int64(d.rows[type_id, t.C_NAME])
    if d.rows[type_id, t.NAME] == 0:
        boolean = is_boolean(d, type_id)
        if boolean:
            put(d, n.BEFORE_C23)
        start = d.state[t.END]
        put(d, n.ENUM_WORD)
        put_enum(d, type_id, start, _0, boolean)
        put(d, n.SEMICOLON)
        if boolean:
            put(d, n.END_IF)
    elif d.rows[type_id, t.FLAGS] & t.NO_VALUES:
        _declare_tag(d, np.int64(2), name)
    else:
        d.names[name, t.DECLARED] |= 1 << 2
        put_subject(d, np.int64(2), name)
        put(d, n.SPACE)
        put_enum(d, type_id, start, _0, False)
        put(d, n.SEMICOLON)
        if d.state[t.ASSERTS] != 0 and is_c_enum(size):
            put(d, n.EMPTY_LINE)
            put_assertions(d, np.int64(2), name, size)


@compiled
def _put_typedef(d, type_id):  # type: ignore[no-untyped-def]
    """Define a typedef."""
    rows, name, target = d.rows, np.int64(d.rows[type_id, t.C_NAME]), third_of(d, type_id)
    if name == n.BOOL_NAME:
        put(d, n.BEFORE_C23)
    start = d.state[t.END]
    put(d, n.TYPEDEF_WORD)
    if target == 0 and name == n.OLD_LIST:  # what old GCCs say of it
        put_all(d, n.BUILT_IN, n.SPACE, name)
    else:
        d.state[t.LOST] = 0
        _declare(d, target, name, _0)
        put_tags(d, type_id, WHOLE)
        if d.state[t.FAULT] == 0 and is_incomplete(d, target):
            rows[type_id, t.FLAGS] |= t.INCOMPLETE
    put(d, n.SEMICOLON)
    rows[type_id, t.FLAGS] |= t.WRITTEN
    if d.state[t.LOST] != 0 and d.state[t.FAULT] == 0:
        _say_lost(d, name, start)
        d.state[t.LOST] = 0
    if name == n.BOOL_NAME:
        put(d, n.END_IF)
    kind = rows[target, t.KIND]
    while d.state[t.FAULT] == 0 and (
        kind == kinds.CONST or kind == kinds.VOLATILE or kind == kinds.RESTRICT
    ):
        target = third_of(d, target)
        kind = rows[target, t.KIND]
    if d.state[t.ASSERTS] != 0 and is_composite(kind) and rows[target, t.NAME] == 0:
        put(d, n.EMPTY_LINE)
        put_assertions(d, np.int64(3), name, third_of(d, target))


@compiled
def _say_lost(d, name, start):  # type: ignore[no-untyped-def]
    """Put before what begins at ``start`` that it speaks of what C cannot express."""
    end = d.state[t.END]
    _declare_tag(d, _0, np.int64(n.LOST_NAME))
    if d.state[t.END] > end:
        put(d, n.NEWLINE)
    put_all(d, n.BEGIN_COMMENT, name, n.NEEDS_ITSELF)
    moved = end - start
    shift = d.state[t.END] - end
    if d.state[t.END] + moved > len(d.out):
        fault(d, t.FULL, 0, 0)
        return
    for i in range(moved):
        d.out[d.state[t.END] + i] = d.out[start + i]
    for i in range(shift + moved):
        d.out[start + i] = d.out[end + i]


@compiled
def _put_stand_in(d, type_id):  # type: ignore[no-untyped-def]
    """Define the name of a scalar that C spells otherwise."""
    name, target = np.int64(d.rows[type_id, t.C_NAME]), np.int64(d.rows[type_id, t.STAND_IN])
    if name == n.BOOL_NAME:
        put(d, n.BEFORE_C23)
    put(d, n.TYPEDEF_WORD)
    if target != 0:
        put(d, target)
    else:
        size = size_of(d, type_id)
        if size < 0:
            fault(d, t.HUGE, type_id, 0)
            return
        put(d, n.STRUCT_OF_BYTES)
        put_number(d, size)
        put(d, n.END_STRUCT_OF_BYTES)
    put_all(d, n.SPACE, name, n.SEMICOLON)
    if name == n.BOOL_NAME:
        put(d, n.END_IF)


@compiled
def _put_kfunc(d, type_id):  # type: ignore[no-untyped-def]
    """Write the prototype of a kfunc, as a weak symbol: programs ask whether the kernel has it.

    Its name cannot be changed: where it is no identifier, or one already, a comment says so.
    """
    name = np.int64(d.rows[type_id, t.NAME])
    if d.names[name, t.IDENTIFIER] != name or is_taken(d, np.int64(t.PLAIN), name) > 0:
        put_all(d, n.NO_FUNCTION, np.int64(d.names[name, t.SAFE]), n.END_COMMENT_LINE)
        return
    note_taken(d, np.int64(t.PLAIN), name, np.int64(2))
    put(d, n.EXTERN)
    if d.rows[type_id, t.FLAGS] & t.FAST_CALL != 0:
        put(d, n.FAST)
    _declare(d, third_of(d, type_id), name, np.int64(-1))
    put(d, n.WEAK)


@compiled
def write_types(d, wanted, whole, kfuncs):  # type: ignore[no-untyped-def]
    """Write the types ``wanted`` (int64), all own ones if ``whole``, with all that they need, and
    the prototypes of ``kfuncs`` (int64)."""
    put_in_order(d, wanted, whole, kfuncs)
    if d.state[t.FAULT] != 0:
        return
    name_types(d)
    first_kfunc = d.state[t.STEPS] - len(kfuncs)
    for i in range(d.state[t.STEPS]):
        if i == first_kfunc:
            d.state[t.KFUNCS] = d.state[t.END]
        d.state[t.FACTS] = d.state[t.PATHS] = 0
        leave_scopes(d)
        start, type_id, complete = d.state[t.END], d.steps[i] >> 1, d.steps[i] & 1 != 0
        kind = np.int64(d.rows[type_id, t.KIND])
        if kind == kinds.FUNC:
            _put_kfunc(d, type_id)
        elif kind == kinds.TYPEDEF:
            if not complete:
                _put_typedef(d, type_id)
        elif is_composite(kind) and complete:
            _put_definition(d, type_id)
        elif is_composite(kind) or kind == kinds.FWD:
            _declare_tag(d, keyword_of(d, type_id), np.int64(d.rows[type_id, t.C_NAME]))
        elif kinds.is_enum(kind):
            _put_enum(d, type_id)
        else:
            _put_stand_in(d, type_id)
        if d.state[t.FAULT] != 0:
            return
        if d.state[t.END] > start and kind != kinds.FUNC:
            if d.out[d.state[t.END] - 1] != 10:
                put(d, n.EMPTY_LINE)
    if len(kfuncs) == 0:
        d.state[t.KFUNCS] = d.state[t.END]
