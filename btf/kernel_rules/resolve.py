"""The second pass of the kernel's verifier: what types refer to (``btf_check_all_types``).

Only BTF that a program brings gets it. A walk over references with a stack of 32 types at most: a
type that is pushed while it is on the stack is a loop. How far a walk goes depends on what it began
with, the *mode*: behind a pointer, structs and arrays are not followed; within a struct or an
array, pointers are not. So the order in which types are looked at matters, and is the kernel's.

Parameters used throughout:

graph         ``Graph``
type_id       int64: id of a type that there is, void included
word          int64: first word of that type's record
pointer_bytes 4 or 8
names, limit, active   see ``metas``
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import (
    ARRAY,
    DATASEC,
    DECL_TAG,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC,
    FUNC_PROTO,
    FWD,
    HAS_SIZE,
    HEAD_WORDS,
    INFO_KIND_FLAG,
    INFO_VLEN_MASK,
    INT,
    PTR,
    STRUCT,
    TYPEDEF,
    UNION,
    VAR,
    VOID,
    is_transparent,
    kind_of,
)
from . import rules
from .metas import is_identifier

_NOT_VISITED, _VISITED, _RESOLVED = 0, 1, 2  # states
_ANY, _POINTER, _COMPOSITE = 0, 1, 2  # modes
_TOP, _MODE, _END, _FUNC_RESOLVES = 0, 1, 2, 3  # entries of Graph.now
_PUSHED = -1  # instead of a rule: another type comes first


class Graph(NamedTuple):
    """Types, and what is known of each.

    words     uint32: the type section; its records have passed ``check_records``
    offsets   uint32, shape (T + 2,): the first word of the type with id i + 1
    states    uint8, shape (T + 1,) as the next two, by id: one of the states
    targets   uint32: what stands behind a modifier, pointer, variable (0: void)
    sizes     uint32: bytes of an array
    stack     int64, shape (rules.MAX_RESOLVE_DEPTH,): ids of the types that wait for others
    nexts     int64, of the same shape: the member at which each goes on
    now       int64, shape (4,): how many are on the stack; the mode; one more than the last id;
              whether FUNC is a type that is resolved
    """

    words: np.ndarray
    offsets: np.ndarray
    states: np.ndarray
    targets: np.ndarray
    sizes: np.ndarray
    stack: np.ndarray
    nexts: np.ndarray
    now: np.ndarray

    @classmethod
    def of(cls, words: np.ndarray, offsets: np.ndarray, count: int, func_resolves: int) -> Graph:
        """Make one of ``count`` types of which nothing is known."""
        return cls(
            words,
            offsets,
            np.zeros(count + 1, np.uint8),
            np.zeros(count + 1, np.uint32),
            np.zeros(count + 1, np.uint32),
            np.zeros(rules.MAX_RESOLVE_DEPTH, np.int64),
            np.zeros(rules.MAX_RESOLVE_DEPTH, np.int64),
            np.array([0, _ANY, count + 1, func_resolves], np.int64),
        )


@compiled
def _record(graph, type_id):  # type: ignore[no-untyped-def]
    """The first word of a type that is not void."""
    return np.int64(graph.offsets[type_id - 1])


@compiled
def _kind(graph, type_id):  # type: ignore[no-untyped-def]
    """The kind of a type."""
    return VOID if type_id == 0 else kind_of(graph.words[_record(graph, type_id) + 1])


@compiled
def _is_composite(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) is STRUCT or UNION."""
    return kind == STRUCT or kind == UNION


@compiled
def _has_no_size(kind):  # type: ignore[no-untyped-def]
    """Whether types of a ``kind`` (int64) have no size (``btf_type_nosize``)."""
    return kind == VOID or kind == FWD or kind == FUNC or kind == FUNC_PROTO or kind == DECL_TAG


@compiled
def _is_source_only(kind):  # type: ignore[no-untyped-def]
    """Whether nothing may refer to a ``kind`` (int64) but what is made for it
    (``btf_type_is_resolve_source_only``)."""
    return kind == VAR or kind == DECL_TAG or kind == DATASEC


@compiled
def _has_own_size(kind):  # type: ignore[no-untyped-def]
    """Whether the record of a ``kind`` (int64) has its size (``btf_type_has_size``)."""
    return HAS_SIZE[kind] != 0


@compiled
def _needs_resolving(graph, kind):  # type: ignore[no-untyped-def]
    """Whether a ``kind`` (int64) refers to types that come first (``btf_type_needs_resolve``)."""
    return (
        is_transparent(kind)
        or _is_composite(kind)
        or _is_source_only(kind)
        or kind == PTR
        or kind == ARRAY
        or (kind == FUNC and graph.now[_FUNC_RESOLVES] != 0)
    )


@compiled
def _is_sink(graph, kind):  # type: ignore[no-untyped-def]
    """Whether a walk in the present mode ends at a ``kind``: int64
    (``env_type_is_resolve_sink``)."""
    mode = graph.now[_MODE]
    if mode == _ANY:
        return not _needs_resolving(graph, kind)
    if is_transparent(kind):
        return False
    if mode == _POINTER:
        return kind != PTR
    return kind != ARRAY and not _is_composite(kind)


@compiled
def _is_open(graph, type_id):  # type: ignore[no-untyped-def]
    """Whether a type has to be resolved before what refers to it."""
    return not _is_sink(graph, _kind(graph, type_id)) and graph.states[type_id] != _RESOLVED


@compiled
def _push(graph, type_id):  # type: ignore[no-untyped-def]
    """Have a type resolved next; returns _PUSHED, TOO_DEEP or LOOP (``env_stack_push``)."""
    top = graph.now[_TOP]
    if top == rules.MAX_RESOLVE_DEPTH:
        return rules.TOO_DEEP
    if graph.states[type_id] != _NOT_VISITED:
        return rules.LOOP
    graph.states[type_id] = _VISITED
    graph.stack[top] = type_id
    graph.nexts[top] = 0
    graph.now[_TOP] = top + 1
    if graph.now[_MODE] == _ANY:
        kind = _kind(graph, type_id)
        if kind == PTR:
            graph.now[_MODE] = _POINTER
        elif _is_composite(kind) or kind == ARRAY:
            graph.now[_MODE] = _COMPOSITE
    return _PUSHED


@compiled
def _pop(graph, target, size):  # type: ignore[no-untyped-def]
    """End with the type on top: ``target`` and ``size`` (int64) are what is known of it now."""
    top = graph.now[_TOP] - 1
    type_id = graph.stack[top]
    graph.now[_TOP] = top
    graph.targets[type_id] = target
    graph.sizes[type_id] = size
    graph.states[type_id] = _RESOLVED
    return 0


@compiled
def _sized(graph, type_id, pointer_bytes):  # type: ignore[no-untyped-def]
    """The type behind modifiers, and its size in bytes; (-1, 0) if it has none
    (``btf_type_id_size``). What is not resolved yet has void behind it."""
    for step in range(2):
        kind = _kind(graph, type_id)
        if _has_no_size(kind):
            return -1, 0
        if _has_own_size(kind):
            return type_id, np.int64(graph.words[_record(graph, type_id) + 2])
        if kind == ARRAY:
            return type_id, np.int64(graph.sizes[type_id])
        if kind == PTR:
            return type_id, pointer_bytes
        type_id = np.int64(graph.targets[type_id])  # a modifier or a variable
    return -1, 0


@compiled
def _is_regular(graph, type_id):  # type: ignore[no-untyped-def]
    """Whether an INT has 1, 2, 4, 8 or 16 whole bytes (``btf_type_int_is_regular``)."""
    data = np.int64(graph.words[_record(graph, type_id) + HEAD_WORDS])
    bits = data & 0xFF
    regular = bits == 8 or bits == 16 or bits == 32 or bits == 64 or bits == 128
    return regular and (data >> 16) & 0xFF == 0


@compiled
def _resolve_reference(graph, kind, word, pointer_bytes):  # type: ignore[no-untyped-def]
    """Go on with a modifier, pointer or variable of that ``kind`` (int64): _PUSHED, a rule, or 0
    (``btf_modifier_resolve``, ``btf_ptr_resolve``, ``btf_var_resolve``)."""
    target = np.int64(graph.words[word + 2])
    if target >= graph.now[_END] or _is_source_only(_kind(graph, target)):
        return rules.VAR_TARGET if kind == VAR else rules.NO_SUCH_TARGET
    if _is_open(graph, target):
        return _push(graph, target)
    if (kind == PTR or kind == VAR) and is_transparent(_kind(graph, target)):
        # Resolved within a struct, where a walk ends at pointers: it goes on from that pointer.
        behind = np.int64(graph.targets[target])
        if _kind(graph, behind) == PTR and _is_open(graph, behind):
            return _push(graph, behind)
    sized, _ = _sized(graph, target, pointer_bytes)
    if sized >= 0:
        return _pop(graph, sized, 0)
    if kind == VAR:
        return rules.VAR_TARGET
    if graph.states[target] == _RESOLVED:
        target = np.int64(graph.targets[target])
    last = _kind(graph, target)
    if last != VOID and last != FWD and last != FUNC_PROTO:
        return rules.SIZELESS_TARGET
    return _pop(graph, target, 0)


@compiled
def _resolve_array(graph, word, pointer_bytes):  # type: ignore[no-untyped-def]
    """Go on with an ARRAY: _PUSHED, a rule, or 0 (``btf_array_resolve``)."""
    index = np.int64(graph.words[word + 4])
    if index >= graph.now[_END]:
        return rules.INDEX_TARGET
    kind = _kind(graph, index)
    if _has_no_size(kind) or _is_source_only(kind):
        return rules.INDEX_TARGET
    if _is_open(graph, index):
        return _push(graph, index)
    index, _ = _sized(graph, index, pointer_bytes)
    if index < 0 or _kind(graph, index) != INT or not _is_regular(graph, index):
        return rules.INDEX_TARGET
    element = np.int64(graph.words[word + 3])
    if element >= graph.now[_END]:
        return rules.ELEMENT_TARGET
    kind = _kind(graph, element)
    if _has_no_size(kind) or _is_source_only(kind):
        return rules.ELEMENT_TARGET
    if _is_open(graph, element):
        return _push(graph, element)
    element, size = _sized(graph, element, pointer_bytes)
    if element < 0:
        return rules.ELEMENT_TARGET
    if _kind(graph, element) == INT and not _is_regular(graph, element):
        return rules.ELEMENT_INT
    length = size * np.int64(graph.words[word + 5])
    if length > 0xFFFFFFFF:
        return rules.ARRAY_OVERFLOW
    return _pop(graph, element, length)


@compiled
def _check_member(graph, word, member, pointer_bytes):  # type: ignore[no-untyped-def]
    """Check a member whose type is resolved: a rule, or 0 (the ``check_member`` and
    ``check_kflag_member`` of each kind).

    member   int64: the first of the member's words
    """
    target = np.int64(graph.words[member + 1])
    if is_transparent(_kind(graph, target)):
        target, _ = _sized(graph, target, pointer_bytes)
        if target < 0:
            return rules.MEMBER_TARGET
    kind = _kind(graph, target)
    record = _record(graph, target)
    struct_bytes = np.int64(graph.words[word + 2])
    offset = np.int64(graph.words[member + 2])
    bits = np.int64(-1)  # of a bit field; -1 without kind_flag
    if graph.words[word + 1] & INFO_KIND_FLAG != 0:
        bits = offset >> 24
        offset &= 0xFFFFFF
    if kind == INT:
        data = np.int64(graph.words[record + HEAD_WORDS])
        if bits < 0:
            offset += (data >> 16) & 0xFF
            if offset > 0xFFFFFFFF:
                return rules.MEMBER_INT_OFFSET
        elif not _is_regular(graph, target):
            return rules.MEMBER_BASE_TYPE
        elif bits == 0 and offset & 7 != 0:
            return rules.MEMBER_INT_UNALIGNED
        elif bits > data & 0xFF:
            return rules.MEMBER_BITFIELD
        if bits <= 0:
            bits = data & 0xFF
        if bits + (offset & 7) > 128:
            return rules.MEMBER_COPY_BITS
        return rules.MEMBER_EXCEEDS if (offset + bits + 7) >> 3 > struct_bytes else 0
    if kind == ENUM or kind == ENUM64:
        if bits > 32:
            return rules.MEMBER_BITFIELD
        if bits <= 0 and offset & 7 != 0:
            return rules.MEMBER_UNALIGNED
        if bits < 0:
            bits = 8 * np.int64(graph.words[record + 2])
        elif bits == 0:
            bits = 32  # whatever the enum's size is
        return rules.MEMBER_EXCEEDS if (offset + bits + 7) >> 3 > struct_bytes else 0
    if bits > 0:
        return rules.MEMBER_BITFIELD
    _, size = _sized(graph, target, pointer_bytes)
    if kind == FLOAT:
        if offset % (8 * min(pointer_bytes, size)) != 0:
            return rules.MEMBER_FLOAT_ALIGNMENT
    elif kind != PTR and kind != ARRAY and not _is_composite(kind):
        return rules.MEMBER_UNSUPPORTED
    elif offset & 7 != 0:
        return rules.MEMBER_UNALIGNED
    return rules.MEMBER_EXCEEDS if (offset >> 3) + size > struct_bytes else 0


@compiled
def _resolve_struct(graph, word, pointer_bytes):  # type: ignore[no-untyped-def]
    """Go on with a STRUCT or UNION: (_PUSHED, a rule, or 0; word of the member at fault)
    (``btf_struct_resolve``)."""
    top = graph.now[_TOP] - 1
    vlen = np.int64(graph.words[word + 1] & INFO_VLEN_MASK)
    first = graph.nexts[top]
    for index in range(max(0, first - 1), vlen):
        member = word + HEAD_WORDS + 3 * index
        if index >= first:  # else its type was pushed, and is resolved by now
            target = np.int64(graph.words[member + 1])
            if target >= graph.now[_END]:
                return rules.MEMBER_TARGET, member
            kind = _kind(graph, target)
            if _has_no_size(kind) or _is_source_only(kind):
                return rules.MEMBER_TARGET, member
            if _is_open(graph, target):
                graph.nexts[top] = index + 1
                return _push(graph, target), member
        rule = _check_member(graph, word, member, pointer_bytes)
        if rule != 0:
            return rule, member
    return _pop(graph, 0, 0), word


@compiled
def _resolve_section(graph, word, pointer_bytes):  # type: ignore[no-untyped-def]
    """Go on with a DATASEC: (_PUSHED, a rule, or 0; word of the entry at fault)
    (``btf_datasec_resolve``)."""
    graph.now[_MODE] = _ANY
    top = graph.now[_TOP] - 1
    vlen = np.int64(graph.words[word + 1] & INFO_VLEN_MASK)
    for index in range(graph.nexts[top], vlen):
        entry = word + HEAD_WORDS + 3 * index
        variable = np.int64(graph.words[entry])
        if variable >= graph.now[_END] or _kind(graph, variable) != VAR:
            return rules.SECTION_TARGET, entry
        if _is_open(graph, variable):
            graph.nexts[top] = index + 1
            return _push(graph, variable), entry
        target = np.int64(graph.words[_record(graph, variable) + 2])
        sized, size = _sized(graph, target, pointer_bytes)
        if sized < 0:
            return rules.SECTION_TYPE, entry
        if np.int64(graph.words[entry + 2]) < size:
            return rules.SECTION_ENTRY_SIZE, entry
    return _pop(graph, 0, 0), word


@compiled
def _resolve_tag(graph, word):  # type: ignore[no-untyped-def]
    """Go on with a DECL_TAG: _PUSHED, a rule, or 0 (``btf_decl_tag_resolve``)."""
    target = np.int64(graph.words[word + 2])
    if target >= graph.now[_END]:
        return rules.TAG_TARGET
    kind = _kind(graph, target)
    if kind != FUNC and kind != VAR and kind != TYPEDEF and not _is_composite(kind):
        return rules.TAG_TARGET
    if _is_open(graph, target):
        return _push(graph, target)
    component = graph.words[word + HEAD_WORDS]
    if component != 0xFFFFFFFF:
        if kind == VAR or kind == TYPEDEF:
            return rules.TAG_COMPONENT
        of = target if kind != FUNC else np.int64(graph.words[_record(graph, target) + 2])
        vlen = np.int64(graph.words[_record(graph, of) + 1] & INFO_VLEN_MASK)
        if np.int64(component) >= vlen:
            return rules.TAG_COMPONENT
    return _pop(graph, target, 0)


@compiled
def _check_func(graph, word):  # type: ignore[no-untyped-def]
    """Check what a FUNC refers to: a rule, or 0 (``btf_func_check``)."""
    proto = np.int64(graph.words[word + 2])
    if proto >= graph.now[_END] or _kind(graph, proto) != FUNC_PROTO:
        return rules.FUNC_TARGET
    at = _record(graph, proto)
    for index in range(np.int64(graph.words[at + 1] & INFO_VLEN_MASK)):
        param = at + HEAD_WORDS + 2 * index
        if graph.words[param] == 0 and graph.words[param + 1] != 0:
            return rules.FUNC_PARAMETER
    return 0


@compiled
def _is_settled(graph, type_id, word, pointer_bytes):  # type: ignore[no-untyped-def]
    """Whether what a walk found out of its first type is sound (``btf_resolve_valid``)."""
    kind = _kind(graph, type_id)
    target = np.int64(graph.targets[type_id])
    if kind == PTR or kind == VAR or is_transparent(kind):
        last = _kind(graph, target)
        return not is_transparent(last) and last != VAR and last != DATASEC
    if kind == ARRAY:
        element, size = _sized(graph, np.int64(graph.words[word + 3]), pointer_bytes)
        if element < 0 or is_transparent(_kind(graph, element)):
            return False
        length = size * np.int64(graph.words[word + 5]) & 0xFFFFFFFF
        return length == np.int64(graph.sizes[type_id])
    return True


@compiled
def _resolve(graph, type_id, pointer_bytes):  # type: ignore[no-untyped-def]
    """Resolve a type and all that it needs: (rule broken or 0, type at fault, word of the fault)
    (``btf_resolve``)."""
    graph.now[_MODE] = _ANY
    _push(graph, type_id)
    while graph.now[_TOP] > 0:
        current = graph.stack[graph.now[_TOP] - 1]
        word = _record(graph, current)
        kind = _kind(graph, current)
        fault = word
        if _is_composite(kind):
            rule, fault = _resolve_struct(graph, word, pointer_bytes)
        elif kind == ARRAY:
            rule = _resolve_array(graph, word, pointer_bytes)
        elif kind == DATASEC:
            rule, fault = _resolve_section(graph, word, pointer_bytes)
        elif kind == DECL_TAG:
            rule = _resolve_tag(graph, word)
        elif kind == FUNC:
            rule = _check_func(graph, word)
            if rule == 0:
                _pop(graph, np.int64(graph.words[word + 2]), 0)
        else:
            rule = _resolve_reference(graph, kind, word, pointer_bytes)
        if rule == rules.LOOP or rule == rules.TOO_DEEP:
            return rule, type_id, _record(graph, type_id)
        if rule > 0:
            return rule, current, fault
    if not _is_settled(graph, type_id, _record(graph, type_id), pointer_bytes):
        return rules.RESOLVE_STATE, type_id, _record(graph, type_id)
    return 0, type_id, 0


@compiled
def _resolve_operand(graph, type_id, pointer_bytes):  # type: ignore[no-untyped-def]
    """Resolve the type of a parameter or of what is returned: as ``_resolve``; the rule is -1 if
    the type has no size."""
    if _needs_resolving(graph, _kind(graph, type_id)) and graph.states[type_id] != _RESOLVED:
        rule, at, word = _resolve(graph, type_id, pointer_bytes)
        if rule != 0:
            return rule, at, word
    sized, _ = _sized(graph, type_id, pointer_bytes)
    return (0 if sized >= 0 else -1), type_id, 0


@compiled
def _check_proto(graph, type_id, names, limit, active, pointer_bytes):  # type: ignore[no-untyped-def]
    """Check a FUNC_PROTO: as ``_resolve`` (``btf_func_proto_check``)."""
    word = _record(graph, type_id)
    returned = np.int64(graph.words[word + 2])
    if returned != 0:
        if returned >= graph.now[_END]:
            return rules.RETURN_TYPE, type_id, word
        if active[rules.RETURN_SOURCE] and _is_source_only(_kind(graph, returned)):
            return rules.RETURN_SOURCE, type_id, word
        rule, at, fault = _resolve_operand(graph, returned, pointer_bytes)
        if rule > 0:
            return rule, at, fault
        if rule < 0:
            return rules.RETURN_TYPE, type_id, word
    count = np.int64(graph.words[word + 1] & INFO_VLEN_MASK)
    for index in range(count):
        param = word + HEAD_WORDS + 2 * index
        name = np.int64(graph.words[param])
        target = np.int64(graph.words[param + 1])
        if target == 0 and index == count - 1:  # the three dots
            if name != 0:
                return rules.PARAMETER, type_id, param
            continue
        if target >= graph.now[_END] or _is_source_only(_kind(graph, target)):
            return rules.PARAMETER, type_id, param
        if name != 0:
            there = name <= rules.MAX_NAME_OFFSET and name < len(names.base) + len(names.own)
            if not there or not is_identifier(names, name, limit):
                return rules.PARAMETER, type_id, param
        rule, at, fault = _resolve_operand(graph, target, pointer_bytes)
        if rule > 0:
            return rule, at, fault
        if rule < 0:
            return rules.PARAMETER, type_id, param
    return 0, type_id, word


@compiled
def resolve_all(graph, names, limit, active, pointer_bytes):  # type: ignore[no-untyped-def]
    """Check what all types refer to: (rule broken or 0, id of the type at fault, word of the
    fault)."""
    for type_id in range(1, graph.now[_END]):
        kind = _kind(graph, type_id)
        if _needs_resolving(graph, kind) and graph.states[type_id] != _RESOLVED:
            rule, at, word = _resolve(graph, type_id, pointer_bytes)
            if rule != 0:
                return rule, at, word
        if kind == FUNC_PROTO:
            rule, at, word = _check_proto(graph, type_id, names, limit, active, pointer_bytes)
            if rule != 0:
                return rule, at, word
        elif kind == FUNC and graph.now[_FUNC_RESOLVES] == 0:
            rule = _check_func(graph, _record(graph, type_id))
            if rule != 0:
                return rule, type_id, _record(graph, type_id)
    return 0, 0, 0
