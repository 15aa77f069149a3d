"""The first pass: scalars, FWD and enums, which refer to no other type.

Parameters used throughout:

base, scratch     see ``tables``
own               uint32: the module's words in the base's numbering
count, first_own  number of own types, and the id of the first
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, noinline
from ..format.kinds import (
    FWD,
    INFO_VLEN_MASK,
    is_enum,
    is_never_merged,
    is_scalar,
    kind_of,
)
from ..format.strings import seed_of
from .candidates import (
    add_candidate,
    add_enum,
    find_base_group,
    find_list,
    next_candidate,
    oldest_entry,
)
from .equivalence import compatible_enums, map_type, same_record
from .hash_tables import next_content
from .index import UNIQUE, enum_content
from .signature import CANONICAL, START, signature
from .state import ENUM_MASK, PARITY


@compiled
def _direct(base, own, scratch, first_own, at, group, own_list):  # type: ignore[no-untyped-def]
    """Whether a full enum need not go through all enums of its name, as libbpf does (through every
    anonymous one, for an anonymous enum), because only one of the same content can matter, and the
    forward enum of its name: (yes or no, that one or 0).

    at     first word of the full enum in ``own``
    group, own_list   of its candidates, see ``candidates``

    A forward enum is no candidate if there was another before it. So it is the only one, and the
    first: in each growth of the table either at the end of the front half, or at the beginning of
    the other half. It is tried before those of the other half only.
    """
    if group >= 0:
        first = np.int64(base.candidates[np.int64(base.group_starts[group])])
        info = base.words[np.int64(base.starts[first]) + 1]
        return base.unique[first] == UNIQUE and info & INFO_VLEN_MASK != 0, np.int64(0)
    if own_list < 0:
        return True, np.int64(0)
    first = first_own + oldest_entry(scratch, own_list)
    at_first = np.int64(scratch.records[first, START]) - len(base.words)
    info = own[at_first + 1]
    if own[at_first] != own[at] or not is_enum(kind_of(info)):
        return False, np.int64(0)  # another name of the same hash
    return True, first if info & INFO_VLEN_MASK == 0 else np.int64(0)


@noinline
def dedup_primitive(base, own, scratch, first_own, type_id, kind):  # type: ignore[no-untyped-def]
    """Map one of these types: ``type_id`` of the module, of ``kind``."""
    records = scratch.records
    state = scratch.state
    index = type_id - first_own
    at = np.int64(records[type_id, START]) - len(base.words)
    enum = is_enum(kind)
    full_enum = enum and own[at + 1] & INFO_VLEN_MASK != 0
    seed = seed_of(base.string_slots)
    h = signature(base.words, own, records, type_id, seed)
    group = find_base_group(base, own, at, h)
    content = np.uint64(0)
    base_mask = np.int64(len(base.enum_slots) - 1)
    own_mask = state[ENUM_MASK]
    own_list = find_list(scratch, h)
    if full_enum:
        content = enum_content(own, at, seed)
        direct, forward = _direct(base, own, scratch, first_own, at, group, own_list)
        if direct:
            other, slot = next_content(base.enum_slots, base_mask, content, np.int64(-1))
            while other > 0 and not same_record(base.words, own, records, type_id, other):
                other, slot = next_content(base.enum_slots, base_mask, content, slot)
            before = True
            if other == 0:
                entry, slot = next_content(scratch.enum_slots, own_mask, content, np.int64(-1))
                while entry > 0:
                    other = first_own + (entry >> 1) - 1
                    if same_record(base.words, own, records, type_id, other):
                        before = entry & 1 != state[PARITY]
                        break
                    other = np.int64(0)
                    entry, slot = next_content(scratch.enum_slots, own_mask, content, slot)
            if forward > 0 and before:  # tried before: now it has a definition
                map_type(records, first_own, scratch.base_map_undo, state, forward, type_id)
            if other > 0:
                records[type_id, CANONICAL] = other
                return
            records[type_id, CANONICAL] = type_id
            add_candidate(scratch, h, index)
            add_enum(scratch, content, index)
            return
    found = np.int64(type_id)
    part = np.int64(0)
    position = np.int64(0)
    while True:
        part, position, other = next_candidate(
            base, scratch, first_own, state[PARITY], group, own_list, part, position
        )
        if other < 0:
            break
        if same_record(base.words, own, records, type_id, other):
            found = other
            break
        if enum and compatible_enums(base.words, own, records, type_id, other):
            if not full_enum:
                found = other
                break
            # The candidate is a forward enum: now it has a definition.
            map_type(records, first_own, scratch.base_map_undo, state, other, type_id)
    records[type_id, CANONICAL] = found
    if found == type_id:
        add_candidate(scratch, h, index)
        if full_enum:
            add_enum(scratch, content, index)


@compiled
def dedup_primitives(base, own, first, count, first_own, scratch):  # type: ignore[no-untyped-def]
    """Map these types from own type ``first`` (0-based) on; returns how many FWDs stay."""
    records = scratch.records
    own_fwds = np.int64(0)
    for index in range(first, count):
        type_id = first_own + index
        kind = kind_of(own[np.int64(records[type_id, START]) - len(base.words) + 1])
        if is_never_merged(kind):
            records[type_id, CANONICAL] = type_id
        elif is_scalar(kind) or kind == FWD or is_enum(kind):
            dedup_primitive(base, own, scratch, first_own, type_id, kind)
            if kind == FWD and np.int64(records[type_id, CANONICAL]) == type_id:
                own_fwds += 1
    return own_fwds
