"""Match a module's type graph with the base's in one sweep, before any pair is walked.

Nine in ten types of a module are the base's, and compilers and encoders emit what one header
declares in one order. So the base's type after the last one matched is usually the partner of the
module's next type; structs and typedefs of a name that the base has once have their partner by
name; and what a matched type refers to has its partner by that. Partners are found so in one pass
over records that lie side by side (``pairing``), with no hashing and no graph walk, and then
proved: a set of pairs in which every pair agrees word for word and every reference leads to a pair
of the set proves that all of them are equal. A rejected pair takes with it all that refers to it.

libbpf asks the same question one struct at a time, with forward declarations that equal any
definition, and takes the first that fits. A proved pair gives the same answer as long as nothing
else in the module could have been taken for it; ``match`` gives up on a module (nothing but its
primitive types is mapped then) when

* two own types have the same partner (the walk then compares them with each other, 16 levels deep);
* a type without a partner has the signature of one with: libbpf may prefer it;
* a walk would also take another base type of the partner's signature: the order would decide;
* a forward declaration could be bound in more than one way, or the base's enums were re-mapped.

Then, and for types without a partner, ``passes`` does as libbpf does.

Rejected: walking every struct's graph (what libbpf does) costs a memory access for every step of
each walk, 9 times the time of this; sweeps to a fixed point from a first guess took 13 to 23
sweeps a module, because one wrong guess among the leaves takes the kernel's one big cycle with it.

Parameters used throughout:

base       see ``tables.BaseTables``
own        uint32: the module's words in the base's numbering
offsets    uint32, shape (T + 1,): where each own type starts in ``own``
first_own  id of the first own type
scratch    see ``tables.Scratch``
index      own type (0-based)
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format.kinds import (
    FWD,
    REF_STEP,
    STRUCT,
    TYPEDEF,
    UNION,
    kind_of,
)
from ..format.records import reference_count, reference_word
from ..format.strings import seed_of
from .candidates import find_base_group
from .classes import candidate_key
from .equivalence import DIFFERENT, clear_hypot_map, equivalent
from .hash_tables import enter_name, find_group, find_name
from .index import UNIQUE
from .pairing import DECLARED, FINAL, FOLLOWED, GUESSED, NAMED, REFERRED, REJECTED, agree
from .signature import CANONICAL, UNMAPPED
from .state import AGGREGATES, BASE_UNDO_COUNT, FORWARDS, HYPOT_COUNT, STEPS

# Verdicts of ``match``: MATCHED, or why pairs are not to be relied on.
NOT_TRIED = 0
MATCHED = 1
ENUMS_REMAPPED = 2
DECLARATION_UNCLEAR = 3
PARTNER_SHARED = 4
PARTNER_AMBIGUOUS = 5
PARTNER_CONTESTED = 6

_MAX_SAME_SIGNATURE = 128  # base types of one signature that are walked to tell them apart
_ENOUGH_STEPS = 16  # for each type, through candidates and in walks: more is no short cut

_31 = np.uint32(31)
_1 = np.int64(1)
_one = np.uint64(1)


@compiled
def _may_declare(base, own, declaration, definition):  # type: ignore[no-untyped-def]
    """Whether an own FWD declares a base type that is the only struct or union of its name.

    declaration, definition  position of the FWD in ``own``; id of the base type
    """
    at = np.int64(base.starts[definition])
    kind = kind_of(base.words[at + 1])
    if kind != (UNION if own[declaration + 1] >> _31 else STRUCT):
        return False
    return base.words[at] == own[declaration] and base.named_once[definition] != 0


@inlined
def _compare_references(base, own, offsets, first_own, scratch, index, behind, top):  # type: ignore[no-untyped-def]
    """Compare where the references of a type and its partner lead; give partners to types that
    have none yet.

    behind  own type (0-based): types up to it that got a partner, or whose state is better now, are
            put on ``pending``; the sweep comes to later ones anyway
    top     entries of ``pending``

    Returns (whether they agree, entries of ``pending``).
    """
    base_match = scratch.base_match
    match_state = scratch.match_state
    at = np.int64(offsets[index])
    at_base = np.int64(base.starts[base_match[index]])
    info = own[at + 1]
    kind = kind_of(info)
    sure = match_state[index] != GUESSED
    known = np.uint8(REFERRED if sure else GUESSED)  # what this says of a partner
    step = np.int64(REF_STEP[kind])
    at += reference_word(info, 0)
    at_base += reference_word(info, 0)
    for _ in range(reference_count(info)):
        referred = np.int64(own[at])
        wanted = np.int64(base.words[at_base])
        at += step
        at_base += step
        if referred == 0 or wanted == 0:
            if referred != wanted:
                return False, top
            continue
        child = referred - first_own
        base_id = np.int64(base_match[child])
        if base_id == wanted:
            # No branch: a processor cannot foretell which of them were referred to before.
            before = match_state[child]
            match_state[child] = max(before, known)
            scratch.pending[top] = child
            top += (before == GUESSED) & (known != GUESSED) & (child <= behind)
            continue
        child_at = np.int64(offsets[child])
        if match_state[child] >= FINAL:
            # A primitive type is what it is, unless it is a declaration of what the base defines.
            if (
                base_id == 0
                and kind_of(own[child_at + 1]) == FWD
                and np.int64(scratch.records[referred, CANONICAL]) == referred
                and _may_declare(base, own, child_at, wanted)
            ):
                base_match[child] = wanted
                match_state[child] = DECLARED
                continue
            return False, top
        if base_id != 0 and (not sure or match_state[child] != GUESSED):
            return False, top
        if not agree(base.words, own, np.int64(base.starts[wanted]), child_at):
            return False, top
        base_match[child] = wanted
        if sure:
            match_state[child] = REFERRED
        if child <= behind:
            scratch.pending[top] = child
            top += 1
    return True, top


@compiled
def _check_pairs(base, own, offsets, first_own, scratch):  # type: ignore[no-untyped-def]
    """Follow the references of all pairs, sure ones first; returns the number of rejected ones."""
    base_match = scratch.base_match
    match_state = scratch.match_state
    rejected = np.int64(0)
    for sweep in range(2):
        for start in range(len(offsets) - 1):
            if sweep == 0:
                if match_state[start] != NAMED and match_state[start] != REFERRED:
                    continue
            elif match_state[start] != GUESSED or base_match[start] == 0:
                continue
            index = np.int64(start)
            top = np.int64(0)
            while True:
                if match_state[index] < FOLLOWED:
                    same, top = _compare_references(
                        base, own, offsets, first_own, scratch, index, np.int64(start), top
                    )
                    if not same:
                        match_state[index] = REJECTED
                        rejected += 1
                    elif match_state[index] != GUESSED:
                        match_state[index] = FOLLOWED
                if top == 0:
                    break
                top -= 1
                index = scratch.pending[top]
    return rejected


@noinline
def _reject_users(own, offsets, first_own, scratch):  # type: ignore[no-untyped-def]
    """Reject all pairs that refer, directly or not, to a rejected one."""
    base_match = scratch.base_match
    match_state = scratch.match_state
    count = len(offsets) - 1
    # Who refers to whom, the other way round: users of type t are at [first[t], first[t + 1]).
    first = scratch.first_user
    users = scratch.users
    for index in range(count + 2):
        first[index] = 0
    for fill in range(2):
        for index in range(count):
            if base_match[index] == 0:
                continue
            at = np.int64(offsets[index])
            info = own[at + 1]
            word = at + reference_word(info, 0)
            step = np.int64(REF_STEP[kind_of(info)])
            for _ in range(reference_count(info)):
                referred = np.int64(own[word])
                word += step
                if referred < first_own:
                    continue
                child = referred - first_own
                if fill == 0:
                    first[child + 2] += 1
                else:
                    users[first[child + 1]] = index
                    first[child + 1] += 1
        if fill == 0:
            for index in range(count):
                first[index + 2] += first[index + 1]
    top = np.int64(0)
    for index in range(count):
        if match_state[index] == REJECTED:
            scratch.pending[top] = index
            top += 1
    while top > 0:
        top -= 1
        index = scratch.pending[top]
        base_match[index] = 0
        for entry in range(first[index], first[index + 1]):
            user = np.int64(users[entry])
            if base_match[user] != 0 and match_state[user] != REJECTED:
                match_state[user] = REJECTED
                scratch.pending[top] = user
                top += 1


@compiled
def _declarations_are_clear(base, own, offsets, first_own, scratch):  # type: ignore[no-untyped-def]
    """Whether each FWD of the module has at most one meaning, in base and module together.

    Where they are, no name has both a declaration and a definition in the module. So a declaration
    of the base's that a walk binds to a definition of the module's later is none that an own type
    is mapped to: what was matched stays true.
    """
    declared = scratch.state[FORWARDS]
    if declared == 0:
        return True
    size = 16
    while size < 4 * declared:
        size *= 2
    names = scratch.names[: min(size, len(scratch.names))]
    for slot in range(len(names)):
        names[slot] = 0
    seed = seed_of(base.string_slots)
    hashed = scratch.pending  # bits of the names: most structs are told from all of them by one
    for word in range(64):
        hashed[word] = 0
    for entry in range(declared):
        index = np.int64(scratch.forwards[entry])
        type_id = first_own + index
        at = np.int64(offsets[index])
        if find_name(names, own[at], seed) < 0:
            enter_name(names, own[at], type_id, seed)
        name = np.int64(own[at])
        hashed[(name >> 6) & 63] |= _1 << (name & 63)
        canonical = np.int64(scratch.records[type_id, CANONICAL])
        if canonical == type_id:
            continue
        # it is one of the base's declarations, or the double of an own one
        if canonical < first_own:
            if base.named_once[canonical] == 0:
                return False
        elif find_name(base.name_slots, own[at], seed) >= 0:
            return False
    for entry in range(scratch.state[AGGREGATES]):
        index = np.int64(scratch.aggregates[entry])
        at = np.int64(offsets[index])
        name = np.int64(own[at])
        if hashed[(name >> 6) & 63] & (_1 << (name & 63)) == 0:
            continue
        if scratch.kinds[index] != TYPEDEF and find_name(names, own[at], seed) >= 0:
            return False
    return True


@compiled
def _is_aggregate(kind):  # type: ignore[no-untyped-def]
    """Whether types of ``kind`` are walked: struct, union, typedef."""
    return kind == STRUCT or kind == UNION or kind == TYPEDEF


@compiled
def _find_doubt(base, own, offsets, first_own, scratch):  # type: ignore[no-untyped-def]
    """MATCHED if libbpf cannot come to another answer than the pairs, else why it might."""
    base_match = scratch.base_match
    marks = scratch.marks
    for word in range((first_own >> 6) + 1):
        marks[word] = 0
    for index in range(len(offsets) - 1):
        base_id = np.int64(base_match[index])
        if base_id == 0 or scratch.match_state[index] == FINAL:
            continue
        bit = _one << np.uint64(base_id & 63)
        if marks[base_id >> 6] & bit:
            return PARTNER_SHARED
        marks[base_id >> 6] |= bit
    steps_left = _ENOUGH_STEPS * np.int64(len(offsets))
    for entry in range(scratch.state[AGGREGATES]):
        index = np.int64(scratch.aggregates[entry])
        if base_match[index] != 0:
            continue
        h = candidate_key(base, own, scratch, first_own + index)
        scratch.signatures[index] = h
        group = find_base_group(base, own, np.int64(offsets[index]), h)
        if group >= 0:
            steps_left -= np.int64(base.group_starts[group + 1]) - base.group_starts[group]
            if steps_left < 0:
                return PARTNER_CONTESTED
            for position in range(base.group_starts[group], base.group_starts[group + 1]):
                other = np.int64(base.candidates[position])
                if marks[other >> 6] & (_one << np.uint64(other & 63)):
                    return PARTNER_CONTESTED
    return MATCHED


@compiled
def match(base, own, offsets, first_own, scratch, own_fwds):  # type: ignore[no-untyped-def]
    """Map the types that are proved to be the base's, after ``pair_up``.

    own_fwds  FWDs that are not mapped to others, as ``pair_up`` returned them

    Returns (verdict, the same number now). When the verdict is not MATCHED nothing but primitive
    types is mapped.
    """
    records = scratch.records
    base_match = scratch.base_match
    count = len(offsets) - 1
    if scratch.state[BASE_UNDO_COUNT] > 0:
        return ENUMS_REMAPPED, own_fwds
    if not _declarations_are_clear(base, own, offsets, first_own, scratch):
        return DECLARATION_UNCLEAR, own_fwds
    if _check_pairs(base, own, offsets, first_own, scratch) > 0:
        _reject_users(own, offsets, first_own, scratch)
    doubt = _find_doubt(base, own, offsets, first_own, scratch)
    if doubt != MATCHED:
        return doubt, own_fwds
    ambiguous = np.int64(0)
    scratch.state[STEPS] = 0
    for index in range(count):
        base_id = np.int64(base_match[index])
        state = scratch.match_state[index]
        if base_id == 0 or state == FINAL:
            continue
        # Of base types that are the same record, libbpf takes the first it tries.
        if state == DECLARED:
            records[first_own + index, CANONICAL] = base_id
            own_fwds -= 1
        elif base.unique[base_id] == UNIQUE:
            records[first_own + index, CANONICAL] = base_id
        elif _is_aggregate(scratch.kinds[index]):
            records[first_own + index, CANONICAL] = base_id
            scratch.pending[ambiguous] = index
            ambiguous += 1
    for entry in range(ambiguous):
        index = scratch.pending[entry]
        if not _is_told_apart(base, own, scratch, first_own, index, _ENOUGH_STEPS * count):
            for other in range(count):
                if base_match[other] == 0 or scratch.match_state[other] == FINAL:
                    continue
                if scratch.match_state[other] == DECLARED:
                    records[first_own + other, CANONICAL] = first_own + other
                    own_fwds += 1
                else:
                    records[first_own + other, CANONICAL] = UNMAPPED
            return PARTNER_AMBIGUOUS, own_fwds
    return MATCHED, own_fwds


@noinline
def _is_told_apart(base, own, scratch, first_own, index, steps_allowed):  # type: ignore[no-untyped-def]
    """Whether no other base type of its partner's signature could be taken for the partner.

    steps_allowed  of ``state[STEPS]``: beyond, the answer is no
    """
    base_id = np.int64(scratch.base_match[index])
    h = candidate_key(base, own, scratch, first_own + index)
    group = find_group(base.group_slots, h)
    first = np.int64(base.group_starts[group])
    last = np.int64(base.group_starts[group + 1])
    if last - first > _MAX_SAME_SIGNATURE:
        return False
    for entry in range(first, last):
        other = np.int64(base.candidates[entry])
        if other == base_id:
            continue
        clear_hypot_map(scratch.state)
        verdict, _, _ = equivalent(base.words, own, scratch, first_own, first_own + index, other)
        scratch.state[STEPS] += scratch.state[HYPOT_COUNT]
        if verdict != DIFFERENT or scratch.state[STEPS] > steps_allowed:
            return False
    return True
