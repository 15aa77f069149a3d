"""What the C dump knows of the types of all levels, in arrays for compiled functions.

Parameters of compiled functions, here and in the other files of the C dump:

d         ``Tables``
type_id   id of a type of any level, void included
name      id of a name: a row of ``Tables.names``
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format import kinds
from ..format.kinds import is_enum, is_scalar

MAX_GROWTH = 20  # characters of C for each byte of BTF; vmlinux has about one
STEP = 40  # characters that take as long as one type that is looked at
SMALL = 1_000_000  # however small the BTF is

_MOST = (1 << 63) - 1  # elements: more are not told apart
_NOT_DONE, _ON_THE_WAY = -1, -2


class Tables(NamedTuple):
    """T types of all levels, N names, and room to work.

    words    uint32: the records, those of void first
    rows     int32 (T, COLUMNS): see the columns below
    many     int64 (T,): how many elements an array has in all, or what is named so; else 1
    text     uint8: the strings of all levels, ``TEXTS`` and other texts, each ending with NUL
    seen     int32, one for each byte of ``text``: the name that begins there; 0 unless it was met
    slots    uint64: table of the names, as in ``format.strings``
    names    int32 (N, NAME_COLUMNS): see there
    tag_keys, tag_ids   uint64, int64: declaration tags by type (upper half) and component, sorted
    order    int32, one for each word: of a struct whose members are not in order, their numbers in
             order, beginning where its record does
    merged   int32, as long: room to sort in
    spare    int64 (2 T,): room for one thing at a time
    stamps   int32 (T, 4): the last walk that came to a type, see ``c_order``
    pending  int64, twice the words and 16: what a walk has still to come to
    needs    int64: steps needed by those that are open
    open     int64 (2 T, 3): steps that are open; where among needs its own go on, and end
    steps    int64 (2 T + kfuncs,): what to write, in order
    state    int64 (STATES,): counters, see below
    locals_keys, locals_values, locals_used   int64, int32, int32: names in use in structs that are
             being written; a table whose length is a power of two, and which places are taken
    tasks    int64 (n, TASK): what is to be written behind what is being written
    chain    int64 (n, 4): parts of declarators
    tags     int64: type tags of declarators
    facts    int64 (n, 3): where a path begins in ``paths`` and ends, and its offset in bytes
    paths    uint8: of members, for assertions
    out      uint8: the text
    """

    words: np.ndarray
    rows: np.ndarray
    many: np.ndarray
    text: np.ndarray
    seen: np.ndarray
    slots: np.ndarray
    names: np.ndarray
    tag_keys: np.ndarray
    tag_ids: np.ndarray
    order: np.ndarray
    merged: np.ndarray
    spare: np.ndarray
    stamps: np.ndarray
    pending: np.ndarray
    needs: np.ndarray
    open: np.ndarray
    steps: np.ndarray
    state: np.ndarray
    locals_keys: np.ndarray
    locals_values: np.ndarray
    locals_used: np.ndarray
    tasks: np.ndarray
    chain: np.ndarray
    tags: np.ndarray
    facts: np.ndarray
    paths: np.ndarray
    out: np.ndarray


# Columns of ``rows``.
START, KIND, NAME, STRIP, ELEMENT = 0, 1, 2, 3, 4
"""First word of the record, kind, name as BTF has it; the types that ``read_rows`` finds."""
C_NAME, FLAGS, ALIGN = 5, 6, 7
"""Name in C, bits (see below), alignment in C in bytes of a struct, union or scalar."""
LAYOUT, OPAQUE, CULPRIT = 8, 9, 10  # of structs and unions: see ``c_layout``
WIDTH, SPELLED, STAND_IN = 8, 9, 10
"""Of INT and FLOAT: the most bits of a bit-field, and names: in keywords, what C has instead."""
MACRO = 9
"""Of TYPE_TAG and DECL_TAG: how C writes it; 0 if it cannot."""
COLUMNS = 12

# Bits of FLAGS.
MENTIONED, INLINED, NO_VALUES, EMBEDDED = 1, 2, 4, 8
"""A named type that the text speaks of; a nameless one that is written in place; of enums: one that
only needs to be declared, one whose size matters."""
WRITTEN, INCOMPLETE = 16, 32
"""Typedefs that were declared, and those of them that need themselves to be complete."""
PACKED, UNSORTED = 64, 128
DONE, OPEN = 256, 1024
"""Of a step that only declares; shifted left by one, of a step that completes."""
BOOL, TAGGED, FAST_CALL = 4096, 8192, 16384
"""Of INT: C's _Bool; of anything: there are declaration tags of it or of a part of it; of FUNC: a
kfunc that leaves registers alone."""

# Columns of ``names``.
AT, LENGTH, IDENTIFIER, SAFE, SECOND = 0, 1, 2, 3, 4
"""Where in ``text``, how long; names: the identifier nearest to it, how it stands in a comment, the
identifier nearest to that and ``_``, or 0 where that is one."""
TAG, PLAIN = 5, 6
"""Among tags, and among typedefs and enumerators: 0 while free, else the number after ``___`` that
the next one gets."""
FIRST = 7
"""Three columns, of "struct x", "union x", "enum x": the tag that a declaration of it means."""
DECLARED = 10
"""Bits: whether "struct x", "union x", "enum x" were declared."""
NAME_COLUMNS = 12

# Places of ``state``.
END, LEFT, NAMES, TEXT_END, SCOPES, WALKS, STEPS, NEEDS, DEPTH, TASKS, CHAIN, TAGS = range(12)
"""Of ``out`` what is written; characters that may still be written; how much of each is in use."""
FACTS, PATHS, LOCALS, FAULT, SUBJECT, DETAIL, POINTER, LEAST, ASSERTS, LOST = range(12, 22)
"""A fault, the type that it is of, another one; bytes of a pointer; the least alignment of what is
larger; whether to assert; whether the step at hand has a type that cannot be expressed."""
KFUNCS, FACTOR = 22, 23
"""Where in ``out`` the prototypes of kfuncs begin; an odd number that is another one each time."""
STATES = 24

# Faults.
FULL, ITSELF, HUGE, BEFORE_ITSELF, SIZELESS_ARRAY, RETURNS, LONG, ARRAY_OF_OPEN, VOID_PARAMETER = (
    range(1, 10)
)
DEEP, MEMBER_OF_OPEN, ENUM_SIZE, NO_TAG, REPEATED = range(10, 15)

_24, _8, _FF = np.uint32(24), np.uint32(8), np.uint32(0xFF)


@noinline
def fault(d, code, type_id, detail):  # type: ignore[no-untyped-def]
    """Note what is wrong with a type, unless something was before: ``code``, one of the faults, and
    another type, ``detail``."""
    if d.state[FAULT] == 0:
        d.state[FAULT], d.state[SUBJECT], d.state[DETAIL] = code, type_id, detail


@inlined
def spend(d, type_id, characters):  # type: ignore[no-untyped-def]
    """Count a type that was looked at, and the ``characters`` that came of it: a fault when it
    becomes far more than the BTF has.

    C repeats what BTF says once: a type without a name wherever it is used, and so all in it.
    """
    d.state[LEFT] -= STEP + characters
    if d.state[LEFT] < 0:
        fault(d, REPEATED, type_id, 0)


@inlined
def vlen_of(d, type_id):  # type: ignore[no-untyped-def]
    """Number of elements of a type."""
    return np.int64(d.words[d.rows[type_id, START] + 1] & kinds.INFO_VLEN_MASK)


@inlined
def flag_of(d, type_id):  # type: ignore[no-untyped-def]
    """Whether kind_flag is set."""
    return d.words[d.rows[type_id, START] + 1] & kinds.INFO_KIND_FLAG != 0


@inlined
def third_of(d, type_id):  # type: ignore[no-untyped-def]
    """Return the word after info: a size, or the id of the type that it refers to."""
    return np.int64(d.words[d.rows[type_id, START] + 2])


@inlined
def is_composite(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` is a struct or union."""
    return kind == kinds.STRUCT or kind == kinds.UNION


@inlined
def keyword_of(d, type_id):  # type: ignore[no-untyped-def]
    """0 for what C calls struct, 1 union, 2 enum."""
    kind = d.rows[type_id, KIND]
    if kind == kinds.ENUM or kind == kinds.ENUM64:
        return 2
    return 1 if kind == kinds.UNION or (kind == kinds.FWD and flag_of(d, type_id)) else 0


@compiled
def read_rows(d):  # type: ignore[no-untyped-def]
    """Where START is known, fill KIND, STRIP (what is behind qualifiers, tags and typedefs),
    ELEMENT (behind arrays too) and ``many``; void is what leads to nothing but itself. Clear the
    rest."""
    rows, way = d.rows, d.spare
    for type_id in range(len(rows)):
        for column in range(NAME, COLUMNS):
            rows[type_id, column] = 0
        rows[type_id, KIND] = kinds.kind_of(d.words[rows[type_id, START] + 1])
        rows[type_id, STRIP], rows[type_id, ELEMENT], d.many[type_id] = _NOT_DONE, _NOT_DONE, 0
    for root in range(len(rows)):
        depth, type_id = 0, root
        while rows[type_id, STRIP] == _NOT_DONE:
            if kinds.is_transparent(rows[type_id, KIND]):
                rows[type_id, STRIP] = _ON_THE_WAY
                way[depth] = type_id
                depth += 1
                type_id = third_of(d, type_id)
            else:
                rows[type_id, STRIP] = type_id
        found = max(rows[type_id, STRIP], 0)
        for i in range(depth):
            rows[way[i], STRIP] = found
    for root in range(len(rows)):
        depth, type_id = 0, np.int64(rows[root, STRIP])
        while rows[type_id, ELEMENT] == _NOT_DONE:
            if rows[type_id, KIND] == kinds.ARRAY:
                rows[type_id, ELEMENT] = _ON_THE_WAY
                way[depth] = type_id
                depth += 1
                element = np.int64(d.words[rows[type_id, START] + kinds.HEAD_WORDS])
                type_id = np.int64(rows[element, STRIP])
            else:
                rows[type_id, ELEMENT], d.many[type_id] = type_id, 1
        found, many = max(rows[type_id, ELEMENT], 0), d.many[type_id]
        while depth > 0:
            depth -= 1
            array = way[depth]
            count = np.int64(d.words[rows[array, START] + kinds.HEAD_WORDS + 2])
            if count == 0:
                many = 0
            elif many > _MOST // count:
                many = _MOST
            else:
                many *= count
            rows[array, ELEMENT], d.many[array] = found, many
        rows[root, ELEMENT], d.many[root] = found, many


@compiled
def size_of(d, type_id):  # type: ignore[no-untyped-def]
    """Bytes, or -1 for what has no size in C: void, functions, sections, declarations, circles, and
    arrays larger than a pointer can span."""
    element, many = d.rows[type_id, ELEMENT], d.many[type_id]
    kind = d.rows[element, KIND]
    if kind == kinds.PTR:
        size = d.state[POINTER]
    elif is_composite(kind) or is_scalar(kind) or is_enum(kind):
        size = third_of(d, element)
    else:
        return np.int64(-1)
    if size == 0 or many == 0:
        return np.int64(0)
    most = ((np.int64(1) << (8 * d.state[POINTER] - 2)) - 1) * 2 + 1  # half of all addresses
    if many == _MOST or many > most // size:
        return np.int64(-1)
    return many * size


@compiled
def member_place(d, type_id, number):  # type: ignore[no-untyped-def]
    """Of a struct's or union's member ``number``: (type, bit offset, bits of a bit-field or 0).

    Encoders before kind_flag (Linux 5.0) said the width of a bit-field in its INT; such members
    come out as the bit-fields that they are.
    """
    at = d.rows[type_id, START] + kinds.HEAD_WORDS + 3 * number
    target, offset = np.int64(d.words[at + 1]), d.words[at + 2]
    if flag_of(d, type_id):
        return target, np.int64(offset & kinds.INFO_VLEN_MASK), np.int64(offset >> _24)
    inner = d.rows[target, STRIP]
    if d.rows[inner, KIND] == kinds.INT:
        encoding = d.words[d.rows[inner, START] + kinds.HEAD_WORDS]
        bits = np.int64(encoding & _FF)
        if 0 < bits < 8 * third_of(d, inner):
            return target, np.int64(offset) + np.int64(encoding >> _8 >> _8 & _FF), bits
    return target, np.int64(offset), np.int64(0)
