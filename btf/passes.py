"""The passes of dedup over one module, on arrays: primitive types, structs, forward declarations,
references, compaction.

Everything here works on *global* ids: 0 is void, then the base's types, then the module's. The
order of every loop and look-up is libbpf's, because where several types fit the first one wins.

Candidates of the base come from the index, in a settled order. Those that the module adds are kept
in lists beside it. libbpf puts a new candidate at the head of its list, and each growth of its
hash table turns all lists round. Instead of turning anything round, every list has two open ends
with the base's candidates in the middle: as long as the table grew an even number of times since
the base, the left end is the head; else the right end is. Growth then just flips a bit.
"""

from __future__ import annotations

import numpy as np

from .equivalence import (
    BASE_EDITS,
    CAPACITY,
    DIFFERENT,
    ENTRIES,
    IN_PROGRESS,
    NEEDS_BASE_CHANGE,
    PARITY,
    UNMAPPED,
    UNWALKABLE,
    clear_pairs,
    compatible_enums,
    equivalent,
    full_length,
    is_mapped,
    merge_pairs,
    remap,
    resolve,
    same_but_references,
    same_record,
)
from .index import FIRST_CAPACITY, enter_name, find_group, find_name, table_is_full
from .jit import kernel
from .kinds import (
    DATASEC,
    ELEMENT_REF,
    ELEMENT_WORDS,
    ENUM,
    ENUM64,
    FIXED_REFS,
    FIXED_WORDS,
    FLOAT,
    FUNC_PROTO,
    FWD,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    INT,
    STRUCT,
    TYPEDEF,
    UNION,
    VAR,
)
from .signature import CANONICAL, EPOCH, START, kind_of, signature, word_at

# Columns of ``ends`` (per list) and ``links`` (per own type); entries are own type + 1, 0 is none.
_LEFT_NEWEST = 0
_LEFT_OLDEST = 1
_RIGHT_NEWEST = 2
_RIGHT_OLDEST = 3
_OLDER = 0
_NEWER = 1

# What a pass returns: DONE, or a code below with the type id that stopped it.
DONE = 0
BAD_MEMBER = 1  # a struct reaches a VAR, DATASEC or DECL_TAG
REFERENCE_CYCLE = 2  # pointers and modifiers that refer to each other in a circle

_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(0xFFFFFFFF00000000)
_31 = np.uint32(31)


@kernel
def start_module(records, first_own, base_words, offsets, state, entries, capacity):  # type: ignore[no-untyped-def]
    """Fill the module's rows of ``records``; VAR and DATASEC are mapped in the first pass."""
    for index in range(len(offsets) - 1):
        records[first_own + index, START] = base_words + np.int64(offsets[index])
        records[first_own + index, CANONICAL] = UNMAPPED
        records[first_own + index, EPOCH] = 0
    state[BASE_EDITS] = 0
    state[ENTRIES] = entries
    state[CAPACITY] = capacity
    state[PARITY] = 0


@kernel
def end_module(records, edits, state):  # type: ignore[no-untyped-def]
    """Give the base types that this module re-mapped back to themselves."""
    for i in range(state[BASE_EDITS]):
        records[edits[i], CANONICAL] = edits[i]
    state[BASE_EDITS] = 0


@kernel
def shift_references(words, offsets, first_source, delta):  # type: ignore[no-untyped-def]
    """Move references of ``first_source`` and above up by ``delta``, as adding a BTF does."""
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        kind = kind_of(words[at + 1])
        if HEAD_IS_REF[kind] and words[at + 2] >= first_source:
            words[at + 2] += delta
        body = at + HEAD_WORDS
        for word in range(body, body + FIXED_REFS[kind]):
            if words[word] >= first_source:
                words[word] += delta
        ref_at = np.int64(ELEMENT_REF[kind])
        if ref_at >= 0 and ELEMENT_WORDS[kind] > 0:
            body += FIXED_WORDS[kind]
            for word in range(body + ref_at, np.int64(offsets[index + 1]), ELEMENT_WORDS[kind]):
                if words[word] >= first_source:
                    words[word] += delta


# -- candidates


@kernel
def _find_list(list_slots, h):  # type: ignore[no-untyped-def]
    """The module's list of candidates with signature ``h``, or -1."""
    return find_group(list_slots, h)


@kernel
def _next_candidate(  # type: ignore[no-untyped-def]
    group_starts, candidates, ends, links, first_own, parity, group, own_list, part, position
):  # fmt: skip
    """Step through a list in libbpf's order: (part, position, candidate), candidate -1 at the end.

    Start with part 0, position 0. Parts: the head's end newest first, the base's candidates, the
    other end oldest first.
    """
    if part == 0:
        following = np.int64(0)
        if own_list >= 0:
            if position == 0:
                following = np.int64(ends[own_list, _RIGHT_NEWEST if parity else _LEFT_NEWEST])
            else:
                following = np.int64(links[position - 1, _OLDER])
        if following != 0:
            return 0, following, first_own + following - 1
        part = 1
        position = np.int64(0)
    if part == 1:
        if group >= 0:
            first = np.int64(group_starts[group])
            last = np.int64(group_starts[group + 1]) - 1
            if first + position <= last:
                at = last - position if parity else first + position
                return 1, position + 1, np.int64(candidates[at])
        part = 2
        position = np.int64(0)
    following = np.int64(0)
    if own_list >= 0:
        if position == 0:
            following = np.int64(ends[own_list, _LEFT_OLDEST if parity else _RIGHT_OLDEST])
        else:
            following = np.int64(links[position - 1, _NEWER])
    if following != 0:
        return 2, following, first_own + following - 1
    return 3, np.int64(0), np.int64(-1)


@kernel
def _add_candidate(list_slots, ends, links, state, lists, h, own_index):  # type: ignore[no-untyped-def]
    """Enter own type ``own_index`` at the head of its list; returns the number of lists."""
    if table_is_full(state[ENTRIES], state[CAPACITY]):
        state[CAPACITY] = FIRST_CAPACITY if state[CAPACITY] == 0 else 2 * state[CAPACITY]
        state[PARITY] ^= 1
    state[ENTRIES] += 1
    own_list = _find_list(list_slots, h)
    if own_list < 0:
        own_list = lists
        lists += 1
        mask = np.int64(len(list_slots) - 1)
        slot = np.int64(h & _LOW) & mask
        while list_slots[slot] != 0:
            slot = (slot + 1) & mask
        list_slots[slot] = (h & _HIGH) | np.uint64(lists)
        for column in range(4):
            ends[own_list, column] = 0
    newest = _RIGHT_NEWEST if state[PARITY] else _LEFT_NEWEST
    before = ends[own_list, newest]
    links[own_index, _OLDER] = before
    links[own_index, _NEWER] = 0
    if before != 0:
        links[np.int64(before) - 1, _NEWER] = own_index + 1
    else:
        ends[own_list, newest + 1] = own_index + 1
    ends[own_list, newest] = own_index + 1
    return lists


# -- passes


@kernel
def dedup_types(  # type: ignore[no-untyped-def]
    base, group_slots, group_starts, candidates, name_slots,
    own, count, records, first_own, pairs, edits, state, list_slots, ends, links,
):  # fmt: skip
    """Find the canonical type of every own type: fills ``records[:, CANONICAL]``.

    base, group_slots, group_starts, candidates, name_slots   see BaseIndex
    own         uint32: the module's words, names mapped, references global; references of
                reference types are replaced by their canonical ones
    count       number of own types; their ids start at ``first_own``
    records     uint32, shape (types, 4), see ``signature``
    pairs, edits, state, list_slots (zeroed), ends, links   scratch, see Workspace

    Returns (DONE, 0) or (code, type id).
    """
    lists = 0
    unresolved_fwds = 0

    # Primitive types: they refer to nothing.
    for index in range(count):
        type_id = first_own + index
        kind = kind_of(own[np.int64(records[type_id, START]) - len(base) + 1])
        if kind == VAR or kind == DATASEC:
            records[type_id, CANONICAL] = type_id
            continue
        is_enum = kind == ENUM or kind == ENUM64
        if kind != INT and kind != FLOAT and kind != FWD and not is_enum:
            continue
        h = signature(base, own, records, type_id)
        group = find_group(group_slots, h)
        own_list = _find_list(list_slots, h)
        found = np.int64(type_id)
        part = 0
        position = np.int64(0)
        while True:
            part, position, other = _next_candidate(
                group_starts, candidates, ends, links, first_own,
                state[PARITY], group, own_list, part, position,
            )  # fmt: skip
            if other < 0:
                break
            if same_record(base, own, records, type_id, other):
                found = other
                break
            if is_enum and compatible_enums(base, own, records, type_id, other):
                info = word_at(base, own, np.int64(records[type_id, START]) + 1)
                if info & INFO_VLEN_MASK == 0:
                    found = other
                    break
                # The candidate is a forward enum: now it has a definition.
                remap(records, first_own, edits, state, other, type_id)
        records[type_id, CANONICAL] = found
        if found == type_id:
            lists = _add_candidate(list_slots, ends, links, state, lists, h, index)
            if kind == FWD:
                unresolved_fwds += 1

    # Structs, unions and typedefs: by walking the graphs that hang on them.
    for index in range(count):
        type_id = first_own + index
        if is_mapped(records, type_id):
            continue
        at = np.int64(records[type_id, START])
        kind = kind_of(word_at(base, own, at + 1))
        if kind != STRUCT and kind != UNION and kind != TYPEDEF:
            continue
        h = signature(base, own, records, type_id)
        group = find_group(group_slots, h)
        own_list = _find_list(list_slots, h)
        found = np.int64(type_id)
        part = 0
        position = np.int64(0)
        while True:
            part, position, other = _next_candidate(
                group_starts, candidates, ends, links, first_own,
                state[PARITY], group, own_list, part, position,
            )  # fmt: skip
            if other < 0:
                break
            if not same_but_references(base, own, at, np.int64(records[other, START])):
                continue
            clear_pairs(state)
            verdict = equivalent(base, own, records, first_own, pairs, state, type_id, other)
            if verdict == UNWALKABLE:
                return BAD_MEMBER, type_id
            if verdict == DIFFERENT:
                continue
            merge_pairs(base, own, records, first_own, pairs, edits, state)
            if state[NEEDS_BASE_CHANGE]:
                continue
            found = other
            break
        records[type_id, CANONICAL] = found
        if found == type_id:
            lists = _add_candidate(list_slots, ends, links, state, lists, h, index)

    if unresolved_fwds > 0:
        _resolve_forward_declarations(
            base, own, count, records, first_own, name_slots, unresolved_fwds
        )

    # Reference types: what they refer to first, then they themselves by all their words.
    stack = np.empty((64, 3), np.int64)
    for index in range(count):
        if is_mapped(records, first_own + index):
            continue
        # Frame: type, its next reference, end of its references.
        top = 0
        entering = np.int64(first_own + index)
        while True:
            if entering >= 0:
                if top == len(stack):
                    larger = np.empty((2 * top, 3), np.int64)
                    larger[:top] = stack
                    stack = larger
                records[entering, CANONICAL] = IN_PROGRESS
                stack[top, 0] = entering
                stack[top, 1] = 0
                top += 1
                entering = np.int64(-1)
            type_id = stack[top - 1, 0]
            at = np.int64(records[type_id, START]) - len(base)
            info = own[at + 1]
            kind = kind_of(info)
            references = 1 + np.int64(FIXED_REFS[kind]) if HEAD_IS_REF[kind] else 2
            if kind == FUNC_PROTO:
                references += np.int64(info & INFO_VLEN_MASK)
            while stack[top - 1, 1] < references:
                step = stack[top - 1, 1]
                word = at + 2
                if not HEAD_IS_REF[kind]:
                    word = at + HEAD_WORDS + step
                elif kind == FUNC_PROTO and step > 0:
                    word = at + HEAD_WORDS + 2 * step - 1
                referred = np.int64(own[word])
                mapped = records[referred, CANONICAL]
                if mapped == IN_PROGRESS:
                    return REFERENCE_CYCLE, referred
                if mapped == UNMAPPED:
                    entering = referred
                    break
                own[word] = resolve(records, referred)
                stack[top - 1, 1] += 1
            if entering >= 0:
                continue
            h = signature(base, own, records, type_id)
            group = find_group(group_slots, h)
            own_list = _find_list(list_slots, h)
            found = type_id
            part = 0
            position = np.int64(0)
            while True:
                part, position, other = _next_candidate(
                    group_starts, candidates, ends, links, first_own,
                    state[PARITY], group, own_list, part, position,
                )  # fmt: skip
                if other < 0:
                    break
                if same_record(base, own, records, type_id, other):
                    found = other
                    break
            records[type_id, CANONICAL] = found
            if found == type_id:
                lists = _add_candidate(
                    list_slots, ends, links, state, lists, h, type_id - first_own
                )
            top -= 1
            if top == 0:
                break
    return DONE, 0


@kernel
def _resolve_forward_declarations(  # type: ignore[no-untyped-def]
    base, own, count, records, first_own, name_slots, unresolved
):  # fmt: skip
    """Map a FWD that is still its own to the one canonical struct or union of its name, if any."""
    size = 16
    while size < 2 * count:
        size *= 2
    own_names = np.zeros(size, np.uint64)
    for index in range(count):
        at = np.int64(records[first_own + index, START]) - len(base)
        kind = kind_of(own[at + 1])
        if kind == STRUCT or kind == UNION:
            if np.int64(records[first_own + index, CANONICAL]) == first_own + index:
                enter_name(own_names, own[at], first_own + index)
    for index in range(count):
        at = np.int64(records[first_own + index, START]) - len(base)
        if kind_of(own[at + 1]) != FWD:
            continue
        if np.int64(records[first_own + index, CANONICAL]) != first_own + index:
            continue
        in_base = find_name(name_slots, own[at])
        in_own = find_name(own_names, own[at])
        if in_base >= 0 and in_own >= 0:
            continue
        defined = max(in_base, in_own)
        if defined <= 0:
            continue
        kind = kind_of(word_at(base, own, np.int64(records[defined, START]) + 1))
        if kind == (UNION if own[at + 1] >> _31 else STRUCT):
            records[first_own + index, CANONICAL] = defined


@kernel
def compact(base, own, count, records, first_own, new_ids, out, out_offsets):  # type: ignore[no-untyped-def]
    """Copy the types that are their own canonical, in order, with final ids.

    new_ids      uint32, shape (count,): final id of every own type (of its canonical type)
    out          uint32, at least as long as ``own``
    out_offsets  uint32, shape (count + 1,)

    Returns (types kept, words written).
    """
    kept = 0
    for index in range(count):
        if np.int64(records[first_own + index, CANONICAL]) == first_own + index:
            new_ids[index] = first_own + kept
            kept += 1
    for index in range(count):
        canonical = resolve(records, first_own + index)
        if canonical < first_own:
            new_ids[index] = canonical
        elif canonical != first_own + index:
            new_ids[index] = new_ids[canonical - first_own]
    kept = 0
    length = 0
    for index in range(count):
        if np.int64(records[first_own + index, CANONICAL]) != first_own + index:
            continue
        at = np.int64(records[first_own + index, START]) - len(base)
        info = own[at + 1]
        kind = kind_of(info)
        words = full_length(info)
        out_offsets[kept] = length
        kept += 1
        for i in range(words):
            out[length + i] = own[at + i]
        if HEAD_IS_REF[kind]:
            _renumber(records, first_own, new_ids, out, length + 2)
        body = length + HEAD_WORDS
        for word in range(body, body + FIXED_REFS[kind]):
            _renumber(records, first_own, new_ids, out, word)
        ref_at = np.int64(ELEMENT_REF[kind])
        if ref_at >= 0 and ELEMENT_WORDS[kind] > 0:
            body += FIXED_WORDS[kind]
            for word in range(body + ref_at, length + words, ELEMENT_WORDS[kind]):
                _renumber(records, first_own, new_ids, out, word)
        length += words
    out_offsets[kept] = length
    return kept, length


@kernel
def _renumber(records, first_own, new_ids, out, word):  # type: ignore[no-untyped-def]
    canonical = resolve(records, np.int64(out[word]))
    if canonical >= first_own:
        out[word] = new_ids[canonical - first_own]
    else:
        out[word] = canonical
