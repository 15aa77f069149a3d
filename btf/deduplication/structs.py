"""The pass over structs, unions and typedefs: by walking the type graphs that hang on them.

As libbpf's ``btf_dedup_struct_types``; see ``equivalence`` for the walk.
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, noinline
from ..format.kinds import FWD, INFO_VLEN_MASK, STRUCT, TYPEDEF, UNION, is_enum, kind_of
from .candidates import (
    add_candidate,
    find_base_group,
    find_list,
    next_candidate,
)
from .classes import candidate_key
from .equivalence import (
    DIFFERENT,
    TOO_DEEP,
    UNWALKABLE,
    clear_hypot_map,
    equivalent,
    is_mapped,
    merge_hypot_map,
    resolve,
    same_but_references,
)
from .equivalence_cache import (
    EQUAL,
    NOT_EQUAL,
    are_untouched,
    cached_equivalence,
    note_different,
    note_equal,
    note_mapped,
    start_caching,
    start_counting,
)
from .matching import MATCHED
from .signature import CANONICAL, HYPOT_MAP, START, word_at
from .state import (
    BAD_MEMBER,
    CACHING,
    CLASSIFIED,
    CROWDED,
    DONE,
    HYPOT_ADJUST_CANON,
    HYPOT_COUNT,
    IDENTITY_STEPS,
    MORE_FRAMES,
    PARITY,
    PROVED,
    REMAINING,
    STEPS,
    STEPS_ALLOWED,
    TOO_ALIKE,
    UNTOUCHED_WALK,
    VERDICT,
)

# Steps of walks and of ``identical`` that a module may take, and as many more for each type. Real
# ones take two for a type. Where forward declarations leave types alike, walks are quadratic in
# the module's size at best; for libbpf, which goes on, they are cubic.
MOST_STEPS = 1 << 24
MOST_STEPS_PER_TYPE = 3 << 10

_LONG = 16  # pairs of a walk, from which on its typedefs are noted


@compiled
def dedup_structs(base, own, count, first_own, scratch):  # type: ignore[no-untyped-def]
    """Find the canonical type of each struct, union and typedef among ``remaining``.

    base, scratch     see ``tables``
    own               uint32: the module's words in the base's numbering
    count, first_own  number of own types, and the id of the first

    Returns (DONE, 0) or (code, type id).
    """
    records = scratch.records
    state = scratch.state
    matched = state[VERDICT] == MATCHED
    words = base.words
    start_counting(state, count)
    most_steps = MOST_STEPS + MOST_STEPS_PER_TYPE * np.int64(count)
    for position in range(state[REMAINING]):
        index = np.int64(scratch.remaining[position])
        type_id = first_own + index
        if is_mapped(records, type_id):
            continue
        at = np.int64(records[type_id, START])
        kind = kind_of(word_at(words, own, at + 1))
        if kind != STRUCT and kind != UNION and kind != TYPEDEF:
            continue
        h = scratch.signatures[index] if matched else candidate_key(base, own, scratch, type_id)
        group = find_base_group(base, own, at - len(words), h)
        own_list = find_list(scratch, h)
        found = np.int64(type_id)
        part = np.int64(0)
        position = np.int64(0)
        while True:
            part, position, other = next_candidate(
                base, scratch, first_own, state[PARITY], group, own_list, part, position
            )
            if other < 0:
                break
            if state[PROVED] and kind == TYPEDEF and np.int64(scratch.proved[index]) == other:
                found = other
                break
            state[STEPS] += 1
            if state[STEPS] > state[STEPS_ALLOWED] and not state[CLASSIFIED]:
                return CROWDED, type_id
            if state[STEPS] + state[IDENTITY_STEPS] > most_steps:
                return TOO_ALIKE, type_id
            if not same_but_references(words, own, at, np.int64(records[other, START])):
                continue
            clear_hypot_map(state)
            if state[CACHING]:
                state[UNTOUCHED_WALK] = are_untouched(scratch, first_own, type_id, other)
                if state[UNTOUCHED_WALK]:
                    known = cached_equivalence(scratch, first_own, type_id, other)
                    if known == NOT_EQUAL:
                        continue
                    if known == EQUAL:
                        found = other
                        break
            verdict, top, conflict = equivalent(words, own, scratch, first_own, type_id, other)
            state[STEPS] += state[HYPOT_COUNT]
            if verdict == UNWALKABLE:
                return BAD_MEMBER, type_id
            if verdict == TOO_DEEP:
                return MORE_FRAMES, type_id
            if verdict == DIFFERENT:
                if state[UNTOUCHED_WALK]:
                    note_different(scratch, first_own, top, conflict)
                continue
            merge_hypot_map(words, own, scratch, first_own)
            if state[HYPOT_ADJUST_CANON]:
                continue
            if state[UNTOUCHED_WALK]:
                note_equal(words, own, scratch, first_own)
            if kind == TYPEDEF and state[HYPOT_COUNT] > _LONG:
                start_proving(scratch, count)
                note_proved(words, own, scratch, first_own)
            found = other
            break
        records[type_id, CANONICAL] = found
        if state[CACHING]:
            note_mapped(scratch, first_own, type_id, found)
        if state[STEPS] > state[STEPS_ALLOWED] and state[CLASSIFIED]:
            start_caching(base, own, scratch, first_own, count)
        if found == type_id:
            add_candidate(scratch, h, index)
    return DONE, 0


@compiled
def start_proving(scratch, count):  # type: ignore[no-untyped-def]
    """Clear what an earlier module left behind, before the first typedef that a module notes.

    scratch, count  see ``dedup_structs``
    """
    if scratch.state[PROVED]:
        return
    for index in range(count):
        if scratch.proved[index] != 0:  # what is only read takes no memory
            scratch.proved[index] = 0
    scratch.state[PROVED] = 1


@noinline
def note_proved(base, own, scratch, first_own):  # type: ignore[no-untyped-def]
    """Note which typedefs equal which, after a walk that succeeded and was merged: else each of a
    chain of them walks the rest of the chain.

    base       uint32: the base's words; own, scratch and first_own: see ``dedup_structs``

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
