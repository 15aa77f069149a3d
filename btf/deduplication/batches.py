"""Dedup of what comes in batches, as ``merge`` does it: the same result, in memory for one of them.

All that libbpf adds to an empty BTF, and deduplicates in one go, is here deduplicated batch by
batch. A batch runs through the passes (``passes.dedup_whole``) behind the types that earlier ones
left, the *settled* ones. These are not compared again: each pass enters them as candidates, in the
order in which libbpf would have, and goes on with the new types. What depends on types that are
still to come waits for the last batch: whether the name of a forward declaration has only one
definition, and so which references are equal.

Forward types (declarations, enums without values) that a walk has found the definition of, the
*bound* ones, are kept as types of their own until then: later ones of their name are merged with
them, and go the same way.

Where several candidates fit a type, the growth of libbpf's table decides which is tried first. In
one go the table has the primitive types of all inputs before it has the first struct, so those are
counted beforehand (``count_primitives``).

Parameters used throughout:

base, scratch     see ``tables``
offsets           uint32: where each own type starts; settled ones come first
count, first_own  number of own types, and the id of the first
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import (
    ELEMENT_WORDS,
    ENUM,
    FIXED_WORDS,
    FUNC,
    FWD,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    IS_PRIMITIVE,
    STRUCT,
    TYPEDEF,
    UNION,
    is_enum,
    is_never_merged,
    kind_of,
)
from ..format.strings import hash_string, may_have, note_hash, seed_of
from .candidates import add_candidate, add_enum, count_entry, is_candidate, repeated_names
from .classes import candidate_key
from .equivalence import map_type, resolve
from .hash_tables import NAME_SEED, slots_for
from .index import enum_content
from .signature import CANONICAL, START, UNMAPPED, mix, signature, word_at
from .state import (
    BASE_UNDO_COUNT,
    BATCH,
    BOUND,
    CLASSIFIED,
    ENTRIES,
    ENUM_MASK,
    LAST,
    LIST_MASK,
    LISTS,
    PRIMITIVES_TO_COME,
    SETTLED,
    SIGNED,
    SINGLE,
)

# The passes by what they look at.
PRIMITIVES = 0
AGGREGATES = 1
REFERENCES = 2
_NONE = 3


@compiled
def _pass_of(kind):  # type: ignore[no-untyped-def]
    """The pass that looks at a kind."""
    if is_never_merged(kind):
        return _NONE
    if IS_PRIMITIVE[kind]:
        return PRIMITIVES
    if kind == STRUCT or kind == UNION or kind == TYPEDEF:
        return AGGREGATES
    return REFERENCES


@compiled
def count_primitives(words, offsets, base_strings, strings, seed, seen, count):  # type: ignore[no-untyped-def]
    """Count the primitive types of an input that no earlier one has, as libbpf enters them.

    words, offsets         uint32: types of the input, and where each starts
    base_strings, strings  uint8: an offset counts through the first and on in the second
    seed                   uint64: of hashes of strings
    seen                   uint64, a power of two: hashes of what was counted and of enums' names,
                           to be taken on; half of its slots stay 0, which is free
    count                  of earlier inputs

    Returns the number so far. A forward enum is entered only if it is the first enum of its name.
    """
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        info = words[at + 1]
        kind = kind_of(info)
        if _pass_of(kind) != PRIMITIVES:
            continue
        name = _hash_name(words[at], base_strings, strings, seed)
        h = mix(mix(name, info), words[at + 2])
        body = at + HEAD_WORDS
        for word in range(body, body + np.int64(FIXED_WORDS[kind])):
            h = mix(h, words[word])
        if is_enum(kind):
            stride = np.int64(ELEMENT_WORDS[kind])
            for element in range(body, np.int64(offsets[index + 1]), stride):
                h = mix(h, _hash_name(words[element], base_strings, strings, seed))
                for part in range(1, stride):
                    h = mix(h, words[element + part])
            is_first = _enter_hash(seen, mix(name, ENUM))
            if info & INFO_VLEN_MASK == 0 and not is_first:
                continue
        count += _enter_hash(seen, h)
    return count


@compiled
def _hash_name(offset, base_strings, strings, seed):  # type: ignore[no-untyped-def]
    """Hash a string: uint64.

    offset   uint32: where it begins
    base_strings, strings, seed   see ``count_primitives``
    """
    at = np.int64(offset)
    if at < len(base_strings):
        h, _ = hash_string(base_strings, at, seed)
    else:
        h, _ = hash_string(strings, at - len(base_strings), seed)
    return h


@compiled
def _enter_hash(seen, h):  # type: ignore[no-untyped-def]
    """Enter ``h`` (uint64) in ``seen``, see ``count_primitives``; returns whether it is new."""
    mask = np.int64(len(seen) - 1)
    h |= np.uint64(1)
    slot = np.int64(h >> np.uint64(32)) & mask
    while seen[slot] != 0:
        if seen[slot] == h:
            return False
        slot = (slot + 1) & mask
    seen[slot] = h
    return True


@compiled
def enter_hashes(hashes, seen):  # type: ignore[no-untyped-def]
    """Enter what ``hashes`` has, such a table too, in ``seen``, see ``count_primitives``."""
    for slot in range(len(hashes)):
        if hashes[slot] != 0:
            _enter_hash(seen, hashes[slot])


@compiled
def resume(base, scratch, offsets, first_own):  # type: ignore[no-untyped-def]
    """Fill the rows of all own types: settled ones are their own canonical, new ones not mapped.

    In the last batch, references are to be looked at once more.
    """
    records = scratch.records
    state = scratch.state
    settled = state[SETTLED] if state[BATCH] != SINGLE else np.int64(0)
    enums = np.int64(0)
    for index in range(len(offsets) - 1):
        type_id = first_own + index
        at = np.int64(offsets[index])
        records[type_id, START] = len(base.words) + at
        records[type_id, CANONICAL] = UNMAPPED
        if state[BATCH] == SINGLE:
            continue
        kind = kind_of(scratch.own[at + 1])
        enums += is_enum(kind)
        if index < settled and (state[BATCH] != LAST or _pass_of(kind) != REFERENCES):
            records[type_id, CANONICAL] = type_id
    if state[BATCH] != SINGLE:
        state[ENUM_MASK] = slots_for(enums) - 1
        for i in range(state[BOUND]):
            type_id = np.int64(scratch.bound[i, 0])
            to = scratch.bound[i, 1]
            map_type(records, first_own, scratch.base_map_undo, state, type_id, to)


@compiled
def _begin_lists(base, scratch, count, first_own, which):  # type: ignore[no-untyped-def]
    """Empty the lists of candidates before the pass ``which``, with room for those of its own."""
    own = scratch.own
    state = scratch.state
    for slot in range(state[LIST_MASK] + 1):
        scratch.list_slots[slot] = 0
    state[LISTS] = 0
    functions, repeated = repeated_names(scratch)
    if which == REFERENCES:
        for word in range(len(functions)):
            functions[word] = 0
            repeated[word] = 0
    entries = np.int64(0)
    for index in range(count):
        at = np.int64(scratch.records[first_own + index, START]) - len(base.words)
        kind = kind_of(own[at + 1])
        if _pass_of(kind) != which:
            continue
        entries += 1
        if kind == FUNC:
            h = mix(NAME_SEED, own[at])
            if may_have(functions, h):
                note_hash(repeated, h)
                entries += 1
            else:
                note_hash(functions, h)
                entries -= 1
    state[LIST_MASK] = slots_for(3 * entries // 4) - 1


@compiled
def enter_settled(base, scratch, count, first_own, which):  # type: ignore[no-untyped-def]
    """Enter the settled types that the pass ``which`` looks at as candidates, before it begins."""
    own = scratch.own
    state = scratch.state
    seed = seed_of(base.string_slots)
    if state[BATCH] == SINGLE:
        return
    _begin_lists(base, scratch, count, first_own, which)
    if state[BATCH] == LAST and which == REFERENCES:
        return
    if which == AGGREGATES:
        while state[ENTRIES] < state[PRIMITIVES_TO_COME]:
            count_entry(state)
    signed = np.int64(0)
    for index in range(state[SETTLED]):
        type_id = first_own + index
        at = np.int64(scratch.records[type_id, START]) - len(base.words)
        kind = kind_of(own[at + 1])
        wanted = _pass_of(kind)
        if wanted == PRIMITIVES or wanted == AGGREGATES:
            signed += 1
        if wanted != which:
            continue
        if not is_candidate(own, scratch, at):
            count_entry(state)
            continue
        if which == AGGREGATES and state[CLASSIFIED]:
            h = candidate_key(base, own, scratch, type_id)
        elif which != REFERENCES and signed <= state[SIGNED]:
            h = scratch.signatures[signed - 1]
        else:
            h = signature(base.words, own, scratch.records, type_id, seed)
            if which != REFERENCES:
                scratch.signatures[signed - 1] = h
        add_candidate(scratch, h, index)
        if is_enum(kind) and own[at + 1] & INFO_VLEN_MASK != 0:
            add_enum(scratch, enum_content(own, at, seed), index)
    if which == AGGREGATES and not state[CLASSIFIED]:
        state[SIGNED] = signed


@compiled
def note_base_forwards(scratch):  # type: ignore[no-untyped-def]
    """Begin to fill ``bound``: with types of the base. Returns how many."""
    count = scratch.state[BASE_UNDO_COUNT]
    for i in range(count):
        scratch.bound[i, 0] = scratch.base_map_undo[i]
        scratch.bound[i, 1] = resolve(scratch.records, np.int64(scratch.base_map_undo[i]))
    scratch.state[BOUND] = count
    return count


@compiled
def set_forwards_aside(base, scratch, count, first_own):  # type: ignore[no-untyped-def]
    """Fill ``bound``, and let the types in it stay.

    Those that were merged with another forward type are not in it: they are mapped to one; nor is
    a forward enum that came after a full one, which it is mapped to for good.
    """
    own = scratch.own
    records = scratch.records
    state = scratch.state
    bound = scratch.bound
    found = note_base_forwards(scratch)
    for index in range(count):
        type_id = first_own + index
        to = np.int64(records[type_id, CANONICAL])
        if to == type_id:
            continue
        info = own[np.int64(records[type_id, START]) - len(base.words) + 1]
        kind = kind_of(info)
        if kind == FWD:
            stays = kind_of(word_at(base.words, own, np.int64(records[to, START]) + 1)) != FWD
        else:
            stays = is_enum(kind) and info & INFO_VLEN_MASK == 0 and to > type_id
        if stays or index < state[SETTLED]:
            bound[found, 0] = type_id
            bound[found, 1] = resolve(records, type_id)
            found += 1
    state[BOUND] = found
    state[BASE_UNDO_COUNT] = 0
    for i in range(found):
        records[np.int64(bound[i, 0]), CANONICAL] = bound[i, 0]


@compiled
def renumber_forwards(scratch, first, first_own):  # type: ignore[no-untyped-def]
    """Put the ids into ``bound`` that its types have from now on: those from own type ``first`` on
    have new ones."""
    for i in range(scratch.state[BOUND]):
        for column in range(2):
            index = np.int64(scratch.bound[i, column]) - first_own
            if index >= first:
                scratch.bound[i, column] = scratch.new_ids[index]
