"""The passes after structs: forward declarations, then types that are just references to others.

As libbpf's ``btf_dedup_resolve_fwds`` and ``btf_dedup_ref_types``.

Parameters used throughout:

base, scratch     see ``tables``
own               uint32: the module's words in the base's numbering
count, first_own  number of own types, and the id of the first
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import FWD, STRUCT, UNION, kind_of
from ..format.records import reference_count, reference_word
from ..format.strings import seed_of
from .candidates import (
    add_candidate,
    count_entry,
    find_base_group,
    find_list,
    is_candidate,
    next_candidate,
)
from .equivalence import is_mapped, resolve, same_record
from .hash_tables import enter_name, find_name, slots_for
from .signature import CANONICAL, IN_PROGRESS, START, UNMAPPED, signature, word_at
from .state import DONE, PARITY, REFERENCE_CYCLE, REMAINING

_31 = np.uint32(31)


@compiled
def resolve_forward_declarations(base, own, count, scratch, first_own):  # type: ignore[no-untyped-def]
    """Map each canonical FWD to the only canonical struct or union of its name, if there is one."""
    records = scratch.records
    seed = seed_of(base.string_slots)
    # The structs and unions that stay: canonical ones among ``remaining``. First they are counted.
    own_names = scratch.names
    staying = np.int64(0)
    for entering in range(2):
        if entering == 1:
            own_names = scratch.names[: min(slots_for(staying), len(scratch.names))]
            for slot in range(len(own_names)):
                own_names[slot] = 0
        for position in range(scratch.state[REMAINING]):
            type_id = first_own + np.int64(scratch.remaining[position])
            at = np.int64(records[type_id, START]) - len(base.words)
            kind = kind_of(own[at + 1])
            if kind == STRUCT or kind == UNION:
                if np.int64(records[type_id, CANONICAL]) == type_id:
                    staying += 1
                    if entering == 1:
                        enter_name(own_names, own[at], type_id, seed)
    for index in range(count):
        at = np.int64(records[first_own + index, START]) - len(base.words)
        if kind_of(own[at + 1]) != FWD:
            continue
        if np.int64(records[first_own + index, CANONICAL]) != first_own + index:
            continue
        in_base = find_name(base.name_slots, own[at], seed)
        in_own = find_name(own_names, own[at], seed)
        if in_base >= 0 and in_own >= 0:
            continue
        defined = max(in_base, in_own)
        if defined <= 0:
            continue
        kind = kind_of(word_at(base.words, own, np.int64(records[defined, START]) + 1))
        if kind == (UNION if own[at + 1] >> _31 else STRUCT):
            records[first_own + index, CANONICAL] = defined


@compiled
def dedup_references(base, own, first_own, scratch):  # type: ignore[no-untyped-def]
    """Find the canonical type of what is not mapped yet: pointers, arrays, prototypes and so on.

    What a type refers to comes first; then the type is compared by all its words. ``own`` is
    changed: references of these types are replaced by their canonical ones.

    Returns (DONE, 0) or (REFERENCE_CYCLE, type id).
    """
    records = scratch.records
    state = scratch.state
    seed = seed_of(base.string_slots)
    words = base.words
    stack = scratch.frames
    for position in range(state[REMAINING]):
        index = np.int64(scratch.remaining[position])
        if is_mapped(records, first_own + index):
            continue
        # Frame: type, its next reference, whether one of those before it is its own.
        top = np.int64(0)
        entering = np.int64(first_own + index)
        while True:
            if entering >= 0:
                records[entering, CANONICAL] = IN_PROGRESS
                stack[top, 0] = entering
                stack[top, 1] = 0
                stack[top, 2] = 0
                top += 1
                entering = np.int64(-1)
            type_id = stack[top - 1, 0]
            at = np.int64(records[type_id, START]) - len(words)
            info = own[at + 1]
            references = reference_count(info)
            while stack[top - 1, 1] < references:
                word = at + reference_word(info, stack[top - 1, 1])
                referred = np.int64(own[word])
                mapped = records[referred, CANONICAL]
                if mapped == IN_PROGRESS:
                    return REFERENCE_CYCLE, referred
                if mapped == UNMAPPED:
                    entering = referred
                    break
                referred = resolve(records, referred)
                own[word] = referred
                stack[top - 1, 1] += 1
                stack[top - 1, 2] |= referred >= first_own
            if entering >= 0:
                continue
            h = signature(words, own, records, type_id, seed)
            group = np.int64(-1)  # no type of the base refers to an own one
            if not stack[top - 1, 2]:
                group = find_base_group(base, own, at, h)
            own_list = find_list(scratch, h)
            found = type_id
            part = np.int64(0)
            position = np.int64(0)
            while True:
                part, position, other = next_candidate(
                    base, scratch, first_own, state[PARITY], group, own_list, part, position
                )
                if other < 0:
                    break
                if same_record(words, own, records, type_id, other):
                    found = other
                    break
            records[type_id, CANONICAL] = found
            if found == type_id:
                if is_candidate(own, scratch, at):
                    add_candidate(scratch, h, type_id - first_own)
                else:
                    count_entry(state)
            top -= 1
            if top == 0:
                break
    return DONE, 0
