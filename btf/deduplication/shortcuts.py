"""Bounds the worst case on adversarial input. Real modules hardly come here.

Two things make libbpf's search quadratic: very many candidates of one signature, all of which are
walked in vain, and long chains of typedefs, of which every link walks the rest of the chain.

``may_equal``        after the first few candidates, types are told apart by a hash of the beginning
                     of their type graph (deep hash), which is computed once for each type
``find_subbuckets``  then a list of candidates is looked up by that hash too, not gone through
``note_proved``      a walk that succeeded has answered the question for every typedef that it met

Parameters used throughout:

base, own  uint32: words of the base, and the module's in the base's numbering
scratch    see ``tables.Scratch``
first_own  id of the first own type; count: number of own types
own_index  own type (0-based)
own_list, h   a list of candidates (see ``candidates``), and its signature
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, noinline
from ..format.kinds import (
    ARRAY,
    ELEMENT_WORDS,
    FEWEST_REFS,
    FIRST_REF,
    FIXED_WORDS,
    FWD,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    REF_EACH,
    REF_STEP,
    STRUCT,
    TYPEDEF,
    UNION,
    is_enum,
    kind_of,
)
from .candidates import SUBBUCKETS, enter_list, subbucket_row
from .equivalence import resolve
from .hash_tables import find_entry
from .signature import HYPOT_MAP, START, mix, word_at
from .state import HYPOT_COUNT, LIST_MASK, SHORTCUTS

_BUDGET = 64  # types that a deep hash is made of
_UNCLEAR = np.uint64(1)  # there is a forward declaration: the type may equal many
_SEED = np.uint64(0x452821E638D01377)


@noinline
def open_shortcuts(scratch, first_own, count):  # type: ignore[no-untyped-def]
    """Clear what an earlier module left behind, before the first shortcut that a module takes."""
    if scratch.state[SHORTCUTS]:
        return
    for index in range(count):
        scratch.proved[index] = 0
        scratch.deep_hash[first_own + index] = 0
    scratch.state[SHORTCUTS] = 1


@compiled
def deep_hash_of(base, own, scratch, type_id):  # type: ignore[no-untyped-def]
    """Hash the first types of the graph of ``type_id`` in the walk's order, without ids: uint64.

    Types that dedup calls equal have the same hash, if neither is _UNCLEAR. Kept for each type.
    """
    known = scratch.deep_hash[type_id]
    if known != 0:
        return known
    records = scratch.records
    stack = scratch.identity_stack
    h = _SEED
    stack[0, 0] = type_id
    top = np.int64(1)
    left = np.int64(_BUDGET)
    while top > 0 and left > 0:
        top -= 1
        left -= 1
        current = stack[top, 0]
        at = np.int64(records[current, START])
        info = word_at(base, own, at + 1)
        kind = kind_of(info)
        vlen = np.int64(info & INFO_VLEN_MASK)
        if kind == FWD or (is_enum(kind) and vlen == 0):
            h = _UNCLEAR
            break
        h = mix(mix(h, word_at(base, own, at)), info)
        third = word_at(base, own, at + 2)
        if kind == ARRAY:
            h = mix(h, word_at(base, own, at + 5))
        elif kind == STRUCT or kind == UNION:
            h = mix(h, third)
            vlen = min(vlen, left)  # what is behind these is enough
            for member in range(vlen):
                h = mix(h, word_at(base, own, at + HEAD_WORDS + 3 * member))
                h = mix(h, word_at(base, own, at + HEAD_WORDS + 3 * member + 2))
        elif HEAD_IS_REF[kind] == 0:
            h = mix(h, third)
            for word in range(min(FIXED_WORDS[kind] + vlen * ELEMENT_WORDS[kind], _BUDGET)):
                h = mix(h, word_at(base, own, at + HEAD_WORDS + word))
        # What it refers to, so that the first comes off the stack first.
        references = np.int64(FEWEST_REFS[kind])
        if REF_EACH[kind]:
            references += min(vlen, left)
        for reference in range(references):
            word = at + FIRST_REF[kind] + (references - 1 - reference) * REF_STEP[kind]
            if top < len(stack):
                stack[top, 0] = np.int64(word_at(base, own, word))
                top += 1
    if h == 0:
        h = _SEED
    scratch.deep_hash[type_id] = h
    return h


@noinline
def may_equal(base, own, scratch, a, b):  # type: ignore[no-untyped-def]
    """Whether a walk could find the types ``a`` and ``b`` equal, by their deep hashes."""
    of_a = deep_hash_of(base, own, scratch, a)
    of_b = deep_hash_of(base, own, scratch, b)
    return of_a == of_b or of_a == _UNCLEAR or of_b == _UNCLEAR


@noinline
def find_subbuckets(base, own, scratch, first_own, own_list, h, type_id):  # type: ignore[no-untyped-def]
    """Find the candidates of a list that a walk could find equal to ``type_id``.

    Returns (whether there are subbuckets, the one with the same deep hash, the one of types with a
    forward declaration). An empty one is -1. There are none for a type that has a forward
    declaration itself: that may equal many.
    """
    nothing = np.int64(-1)
    if own_list < 0:
        return False, nothing, nothing
    if scratch.list_split[own_list] == 0:
        scratch.list_split[own_list] = 1
        for newest in range(0, 4, 2):
            entry = np.int64(scratch.ends[own_list, newest + 1])  # the oldest first
            while entry != 0:
                enter_subbucket(base, own, scratch, first_own, h, entry - 1, newest)
                entry = np.int64(scratch.links[entry - 1, 1])
    of_type = deep_hash_of(base, own, scratch, type_id)
    if of_type == _UNCLEAR:
        return False, nothing, nothing
    mask = scratch.state[LIST_MASK]
    same = find_entry(scratch.subbucket_slots, mask, mix(h, of_type))
    return True, same, find_entry(scratch.subbucket_slots, mask, mix(h, _UNCLEAR))


@noinline
def enter_subbucket(base, own, scratch, first_own, h, own_index, newest):  # type: ignore[no-untyped-def]
    """Enter an own type of a list that is split into its subbucket, at the end ``newest``."""
    of_type = deep_hash_of(base, own, scratch, first_own + own_index)
    row = subbucket_row(scratch)
    key = mix(h, of_type)
    enter_list(scratch, scratch.subbucket_slots, SUBBUCKETS, key, row, own_index, newest)


@noinline
def note_proved(base, own, scratch, first_own):  # type: ignore[no-untyped-def]
    """Note which typedefs equal which, after a walk that succeeded and was merged.

    Only if the walk left nothing open: no forward declaration took part, and every struct of the
    candidate's was mapped. A walk that begins at any of its pairs then ends well too and changes
    nothing, so it need not be made.
    """
    records = scratch.records
    for i in range(scratch.state[HYPOT_COUNT]):
        canonical = np.int64(scratch.hypot_list[i])
        candidate = np.int64(records[canonical, HYPOT_MAP])
        info = word_at(base, own, np.int64(records[candidate, START]) + 1)
        kind = kind_of(info)
        other = word_at(base, own, np.int64(records[canonical, START]) + 1)
        if kind != kind_of(other) or kind == FWD:
            return
        if is_enum(kind):
            if info & INFO_VLEN_MASK == 0 or other & INFO_VLEN_MASK == 0:
                return
        elif kind == STRUCT or kind == UNION:
            if resolve(records, candidate) != resolve(records, canonical):
                return
    for i in range(scratch.state[HYPOT_COUNT]):
        canonical = np.int64(scratch.hypot_list[i])
        candidate = np.int64(records[canonical, HYPOT_MAP])
        info = word_at(base, own, np.int64(records[candidate, START]) + 1)
        if kind_of(info) == TYPEDEF and candidate >= first_own:
            scratch.proved[candidate - first_own] = canonical
