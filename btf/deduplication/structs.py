"""The pass over structs, unions and typedefs: by walking the type graphs that hang on them.

As libbpf's ``btf_dedup_struct_types``; see ``equivalence`` for the walk.
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import STRUCT, TYPEDEF, UNION, kind_of
from .candidates import (
    add_candidate,
    find_base_group,
    find_list,
    head_column,
    next_candidate,
    next_of_two,
)
from .equivalence import (
    DIFFERENT,
    TOO_DEEP,
    UNWALKABLE,
    clear_hypot_map,
    equivalent,
    is_mapped,
    merge_hypot_map,
    same_but_references,
)
from .equivalence_cache import (
    EQUAL,
    NOT_EQUAL,
    are_fwd_free,
    cached_equivalence,
    note_different,
    note_equal,
    note_mapped,
    start_caching,
    start_counting,
)
from .matching import MATCHED
from .shortcuts import enter_subbucket, find_subbuckets, may_equal, note_proved, open_shortcuts
from .signature import CANONICAL, START, signature, word_at
from .state import (
    BAD_MEMBER,
    CACHING,
    DONE,
    FWD_FREE_WALK,
    HYPOT_ADJUST_CANON,
    HYPOT_COUNT,
    MORE_FRAMES,
    PARITY,
    REMAINING,
    SHORTCUTS,
    STEPS,
    STEPS_ALLOWED,
    VERDICT,
)

_MANY = 16  # from so many candidates on, a look at ``shortcuts`` pays


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
    for position in range(state[REMAINING]):
        index = np.int64(scratch.remaining[position])
        type_id = first_own + index
        if is_mapped(records, type_id):
            continue
        at = np.int64(records[type_id, START])
        kind = kind_of(word_at(words, own, at + 1))
        if kind != STRUCT and kind != UNION and kind != TYPEDEF:
            continue
        h = scratch.signatures[index] if matched else signature(words, own, records, type_id)
        group = find_base_group(base, own, at - len(words), h)
        own_list = find_list(scratch, h)
        found = np.int64(type_id)
        part = np.int64(0)
        position = np.int64(0)
        tried = np.int64(0)
        many = False
        # After _MANY candidates: its subbuckets in place of the whole list.
        in_subbuckets = False
        second_list = np.int64(-1)
        second = np.int64(0)
        while True:
            if in_subbuckets:
                part, position, second, other = next_of_two(
                    base, scratch, first_own, state[PARITY], group, own_list, second_list,
                    part, position, second,
                )  # fmt: skip
            else:
                part, position, other = next_candidate(
                    base, scratch, first_own, state[PARITY], group, own_list, part, position
                )
            if other < 0:
                break
            if state[SHORTCUTS] and kind == TYPEDEF and np.int64(scratch.proved[index]) == other:
                found = other
                break
            if tried == _MANY and not many:
                many = True
                open_shortcuts(scratch, first_own, count)
                in_subbuckets, same_list, second_list = find_subbuckets(
                    words, own, scratch, first_own, own_list, h, type_id
                )
                if in_subbuckets:  # from the beginning, but through fewer
                    own_list = same_list
                    part = np.int64(0)
                    position = np.int64(0)
                    continue
            if tried >= _MANY and not may_equal(words, own, scratch, type_id, other):
                continue
            tried += 1
            if not same_but_references(words, own, at, np.int64(records[other, START])):
                continue
            clear_hypot_map(state)
            if state[CACHING]:
                state[FWD_FREE_WALK] = are_fwd_free(scratch, first_own, type_id, other)
                if state[FWD_FREE_WALK]:
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
                if state[FWD_FREE_WALK]:
                    note_different(scratch, first_own, top, conflict)
                continue
            merge_hypot_map(words, own, scratch, first_own)
            if state[HYPOT_ADJUST_CANON]:
                continue
            if state[FWD_FREE_WALK]:
                note_equal(words, own, scratch, first_own)
            if kind == TYPEDEF and state[HYPOT_COUNT] > _MANY:
                open_shortcuts(scratch, first_own, count)
                note_proved(words, own, scratch, first_own)
            found = other
            break
        records[type_id, CANONICAL] = found
        if state[CACHING]:
            note_mapped(scratch, first_own, type_id, found)
        if state[STEPS] > state[STEPS_ALLOWED]:
            start_caching(base, own, scratch, first_own, count)
        if found == type_id:
            own_list = add_candidate(scratch, h, index)
            if scratch.list_split[own_list]:
                newest = head_column(state)
                enter_subbucket(words, own, scratch, first_own, h, index, newest)
    return DONE, 0
