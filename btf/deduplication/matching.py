"""Matching a module's type graph with the base's in one sweep, before any pair is walked.

Nine in ten types of a module are the base's, and compilers and encoders emit what one header
declares in one order. So the base's type after the last one matched is usually the partner of the
module's next type; structs and typedefs of a name that the base has once have their partner by
name; and what a matched type refers to has its partner by that. Partners are found so in one pass
over records that lie side by side, with no hashing and no graph walk, and then proved: a set of
pairs in which every pair agrees word for word and every reference leads to a pair of the set is a
proof that all of them are equal. What fails takes with it all that refers to it.

Libbpf asks the same question one struct at a time, with forward declarations that equal any
definition, and takes the first that fits. A proved pair gives the same answer as long as nothing
else in the module could have been taken for it; ``match`` gives up on a module (returns False,
nothing changed but the primitive types, which are deduplicated in the ordinary way) when

* two own types have the same partner (the walk then compares them with each other, 16 levels deep);
* a type without a partner has the signature of one with: libbpf may prefer it;
* a walk would also take another base type of the partner's signature: the order would decide;
* a forward declaration could be bound in more than one way, or the base's enums were re-mapped.

Then, and for what has no partner, ``passes`` does as libbpf does.

Rejected: walking every struct's graph (what libbpf does) costs a memory access for every step of
each walk, 9 times the time of this; sweeps to a fixed point from a first guess took 13 to 23
sweeps a module, because one wrong guess among the leaves takes the kernel's one big cycle with it.
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..edit.remap import known_name, take_type
from ..format.kinds import (
    ELEMENT_REF,
    ELEMENT_WORDS,
    FEWEST_REFS,
    FIRST_REF,
    FIXED_REFS,
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
    is_never_merged,
    is_scalar,
    kind_of,
)
from .candidates import find_base_group
from .equivalence import DIFFERENT, clear_pairs, equivalent
from .index import ALONE, enter_name, find_group, find_name
from .primitives import dedup_primitive
from .signature import CANONICAL, START, UNMAPPED, signature
from .state import AGGREGATES, BASE_EDITS, FORWARDS

# How a type came by its partner, if it has one.
_GUESSED = 0  # it follows its predecessor's
_NAMED = 1  # the base has one type of that kind and name
_REFERRED = 2  # a type of which one of these two holds refers to it
_FOLLOWED = 3  # one of these two, and it was seen that its references lead to partners
_REFUTED = 4  # had one, but they differ
_SETTLED = 5  # not here: a primitive type, or one that always stays
_DECLARED = 6  # a forward declaration whose partner is a definition

# Verdicts of ``match``: MATCHED, or why pairs are not to be relied on.
NOT_TRIED = 0
MATCHED = 1
ENUMS_REMAPPED = 2
DECLARATION_UNCLEAR = 3
PARTNER_SHARED = 4
PARTNER_AMBIGUOUS = 5
PARTNER_CONTESTED = 6

_MAX_COMPANY = 128  # base types of one signature that are walked to tell them apart

_31 = np.uint32(31)
_1 = np.int64(1)
_one = np.uint64(1)


@inlined
def _agree(base, own, at_base, at):  # type: ignore[no-untyped-def]
    """Whether two records agree in every word that is no type id."""
    info = own[at + 1]
    if base[at_base + 1] != info or base[at_base] != own[at]:
        return False
    kind = kind_of(info)
    if kind == STRUCT or kind == UNION:
        if base[at_base + 2] != own[at + 2]:
            return False
        shift = at_base - at
        at += HEAD_WORDS
        end = at + 3 * np.int64(info & INFO_VLEN_MASK)
        while at < end:
            if base[at + shift] != own[at] or base[at + 2 + shift] != own[at + 2]:
                return False
            at += 3
        return True
    if not HEAD_IS_REF[kind] and base[at_base + 2] != own[at + 2]:
        return False
    at_base += HEAD_WORDS
    at += HEAD_WORDS
    for word in range(FIXED_REFS[kind], FIXED_WORDS[kind]):
        if base[at_base + word] != own[at + word]:
            return False
    stride = np.int64(ELEMENT_WORDS[kind])
    if stride == 0:
        return True
    at_base += FIXED_WORDS[kind]
    at += FIXED_WORDS[kind]
    ref_at = np.int64(ELEMENT_REF[kind])
    for _ in range(np.int64(info & INFO_VLEN_MASK)):
        for part in range(stride):
            if part != ref_at and base[at_base + part] != own[at + part]:
                return False
        at_base += stride
        at += stride
    return True


@compiled
def _may_pair(base, scratch, words, at, source, source_start, wanted):  # type: ignore[no-untyped-def]
    """Whether a type of the module that was not taken in yet (at word ``at`` of ``words``) has the
    name of a base type, and its kind, or that of a declaration of it."""
    at_base = np.int64(base.starts[wanted])
    if known_name(words[at], source, source_start, scratch) != base.words[at_base]:
        return False
    kind = kind_of(words[at + 1])
    return kind == FWD or kind == kind_of(base.words[at_base + 1])


@compiled
def pair_up(base, scratch, words, offsets, source, source_start, first_source, delta):  # type: ignore[no-untyped-def]
    """Take the module in, deduplicate its primitive types, and give others a first partner.

    All in one go, while a record is at hand. See ``intake.take_in`` for the arguments and for when
    all of it is void. Returns how many FWDs stay.
    """
    records = scratch.records
    state = scratch.state
    mates = scratch.mates
    kinds = scratch.kinds
    trust = scratch.trust
    own = scratch.own
    base_words = base.words
    base_strings = len(base.strings)
    first_own = np.int64(base.type_end)
    own_fwds = np.int64(0)
    expected = np.int64(0)
    aggregates = np.int64(0)
    forwards = np.int64(0)
    for index in range(len(offsets) - 1):
        type_id = first_own + index
        at = np.int64(offsets[index])
        end = np.int64(offsets[index + 1])
        take_type(words, at, end, source, source_start, first_source, delta, base, scratch)
        records[type_id, START] = len(base_words) + at
        records[type_id, CANONICAL] = UNMAPPED
        kind = kind_of(own[at + 1])
        kinds[index] = kind
        mates[index] = 0
        trust[index] = _GUESSED
        agrees = 0 < expected < first_own and _agree(
            base_words, own, np.int64(base.starts[expected]), at
        )
        if is_scalar(kind) or kind == FWD or is_enum(kind):
            # Not for forward enums, which any enum of the name may stand for.
            forward = is_enum(kind) and own[at + 1] & INFO_VLEN_MASK == 0
            if (
                agrees
                and base.alone[expected] == ALONE
                and not forward
                and (kind != FWD or own[at + 2] == base_words[np.int64(base.starts[expected]) + 2])
            ):
                found = expected
                records[type_id, CANONICAL] = found
            else:
                dedup_primitive(base, own, scratch, first_own, type_id, kind)
                found = np.int64(records[type_id, CANONICAL])
            trust[index] = _SETTLED
            if kind == FWD:
                scratch.forwards[forwards] = index
                forwards += 1
                own_fwds += found == type_id
            if found < first_own:
                mates[index] = found
                expected = found + 1
            continue
        if is_never_merged(kind):
            records[type_id, CANONICAL] = type_id
            trust[index] = _SETTLED
            continue
        if agrees and HEAD_IS_REF[kind]:
            # a record of three words agrees with many: look where it leads, if that is known
            referred = np.int64(own[at + 2])
            wanted = base_words[np.int64(base.starts[expected]) + 2]
            if referred == 0:
                agrees = wanted == 0
            elif first_own <= referred < type_id:
                agrees = mates[referred - first_own] == wanted
            elif type_id < referred:
                agrees = wanted != 0 and _may_pair(
                    base, scratch, words, np.int64(offsets[referred - first_own]), source,
                    source_start, wanted,
                )  # fmt: skip
        if agrees:
            mates[index] = expected
        if kind == STRUCT or kind == UNION or kind == TYPEDEF:
            scratch.aggregates[aggregates] = index
            aggregates += 1
            if agrees and base.named_once[expected]:
                trust[index] = _NAMED
            elif own[at] != 0 and np.int64(own[at]) < base_strings:
                named = find_name(
                    base.typedef_slots if kind == TYPEDEF else base.name_slots, own[at]
                )
                if named > 0 and _agree(base_words, own, np.int64(base.starts[named]), at):
                    mates[index] = named
                    trust[index] = _NAMED
        if mates[index] != 0:
            expected = np.int64(mates[index]) + 1
    state[AGGREGATES] = aggregates
    state[FORWARDS] = forwards
    return own_fwds


@compiled
def _may_declare(base, own, declaration, definition):  # type: ignore[no-untyped-def]
    """Whether an own FWD (position in ``own``) is of the kind and name of a base type, the only
    struct or union of that name."""
    at = np.int64(base.starts[definition])
    kind = kind_of(base.words[at + 1])
    if kind != (UNION if own[declaration + 1] >> _31 else STRUCT):
        return False
    return base.words[at] == own[declaration] and base.named_once[definition] != 0


@inlined
def _follow(base, own, offsets, first_own, scratch, index, behind, top):  # type: ignore[no-untyped-def]
    """Compare where a pair's references lead; partners for what has none yet.

    Returns (whether they agree, entries of ``pending``): types up to ``behind`` that got a partner
    or became surer are put there; those after it are come to anyway.
    """
    mates = scratch.mates
    trust = scratch.trust
    at = np.int64(offsets[index])
    at_base = np.int64(base.starts[mates[index]])
    info = own[at + 1]
    kind = kind_of(info)
    sure = trust[index] != _GUESSED
    references = np.int64(FEWEST_REFS[kind])
    if REF_EACH[kind]:
        references += np.int64(info & INFO_VLEN_MASK)
    step = np.int64(REF_STEP[kind])
    at += np.int64(FIRST_REF[kind])
    at_base += np.int64(FIRST_REF[kind])
    for reference in range(references):
        referred = np.int64(own[at + reference * step])
        wanted = np.int64(base.words[at_base + reference * step])
        if referred == 0 or wanted == 0:
            if referred != wanted:
                return False, top
            continue
        child = referred - first_own
        mate = np.int64(mates[child])
        if mate == wanted:
            if sure and trust[child] == _GUESSED:
                trust[child] = _REFERRED
                if child <= behind:
                    scratch.pending[top] = child
                    top += 1
            continue
        child_at = np.int64(offsets[child])
        if trust[child] >= _SETTLED:
            # A primitive type is what it is, unless it is a declaration of what the base defines.
            if (
                mate == 0
                and kind_of(own[child_at + 1]) == FWD
                and np.int64(scratch.records[referred, CANONICAL]) == referred
                and _may_declare(base, own, child_at, wanted)
            ):
                mates[child] = wanted
                trust[child] = _DECLARED
                continue
            return False, top
        if mate != 0 and (not sure or trust[child] != _GUESSED):
            return False, top
        if not _agree(base.words, own, np.int64(base.starts[wanted]), child_at):
            return False, top
        mates[child] = wanted
        if sure:
            trust[child] = _REFERRED
        if child <= behind:
            scratch.pending[top] = child
            top += 1
    return True, top


@compiled
def _prove(base, own, offsets, first_own, scratch):  # type: ignore[no-untyped-def]
    """Follow the references of all pairs, sure ones first; returns how many were refuted."""
    mates = scratch.mates
    trust = scratch.trust
    refuted = np.int64(0)
    for sweep in range(2):
        for start in range(len(offsets) - 1):
            if sweep == 0:
                if trust[start] != _NAMED and trust[start] != _REFERRED:
                    continue
            elif trust[start] != _GUESSED or mates[start] == 0:
                continue
            index = np.int64(start)
            top = np.int64(0)
            while True:
                if trust[index] < _FOLLOWED:
                    agree, top = _follow(
                        base, own, offsets, first_own, scratch, index, np.int64(start), top
                    )
                    if not agree:
                        trust[index] = _REFUTED
                        refuted += 1
                    elif trust[index] != _GUESSED:
                        trust[index] = _FOLLOWED
                if top == 0:
                    break
                top -= 1
                index = scratch.pending[top]
    return refuted


@noinline
def _spread(own, offsets, first_own, scratch):  # type: ignore[no-untyped-def]
    """Refute all pairs that refer, directly or not, to a refuted one."""
    mates = scratch.mates
    trust = scratch.trust
    count = len(offsets) - 1
    # Who refers to whom, the other way round: users of type t are at [first[t], first[t + 1]).
    first = scratch.first_user
    users = scratch.users
    for index in range(count + 2):
        first[index] = 0
    for fill in range(2):
        for index in range(count):
            if mates[index] == 0:
                continue
            at = np.int64(offsets[index])
            info = own[at + 1]
            kind = kind_of(info)
            word = at + np.int64(FIRST_REF[kind])
            step = np.int64(REF_STEP[kind])
            references = np.int64(FEWEST_REFS[kind])
            if REF_EACH[kind]:
                references += np.int64(info & INFO_VLEN_MASK)
            for _ in range(references):
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
        if trust[index] == _REFUTED:
            scratch.pending[top] = index
            top += 1
    while top > 0:
        top -= 1
        index = scratch.pending[top]
        mates[index] = 0
        for entry in range(first[index], first[index + 1]):
            user = np.int64(users[entry])
            if mates[user] != 0 and trust[user] != _REFUTED:
                trust[user] = _REFUTED
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
    hashed = scratch.pending  # bits of the names: most structs are told from all of them by one
    for word in range(64):
        hashed[word] = 0
    for entry in range(declared):
        index = np.int64(scratch.forwards[entry])
        type_id = first_own + index
        at = np.int64(offsets[index])
        if find_name(names, own[at]) < 0:
            enter_name(names, own[at], type_id)
        name = np.int64(own[at])
        hashed[(name >> 6) & 63] |= _1 << (name & 63)
        canonical = np.int64(scratch.records[type_id, CANONICAL])
        if canonical == type_id:
            continue
        # it is one of the base's declarations, or the double of an own one
        if canonical < first_own:
            if base.named_once[canonical] == 0:
                return False
        elif find_name(base.name_slots, own[at]) >= 0:
            return False
    for entry in range(scratch.state[AGGREGATES]):
        index = np.int64(scratch.aggregates[entry])
        at = np.int64(offsets[index])
        name = np.int64(own[at])
        if hashed[(name >> 6) & 63] & (_1 << (name & 63)) == 0:
            continue
        if scratch.kinds[index] != TYPEDEF and find_name(names, own[at]) >= 0:
            return False
    return True


@compiled
def _is_aggregate(kind):  # type: ignore[no-untyped-def]
    return kind == STRUCT or kind == UNION or kind == TYPEDEF


@compiled
def _doubt(base, own, offsets, first_own, scratch):  # type: ignore[no-untyped-def]
    """MATCHED if libbpf cannot come to another answer than the pairs say, else why it might."""
    mates = scratch.mates
    marks = scratch.marks
    for word in range((first_own >> 6) + 1):
        marks[word] = 0
    for index in range(len(offsets) - 1):
        mate = np.int64(mates[index])
        if mate == 0 or scratch.trust[index] == _SETTLED:
            continue
        bit = _one << np.uint64(mate & 63)
        if marks[mate >> 6] & bit:
            return PARTNER_SHARED
        marks[mate >> 6] |= bit
    for entry in range(scratch.state[AGGREGATES]):
        index = np.int64(scratch.aggregates[entry])
        if mates[index] != 0:
            continue
        h = signature(base.words, own, scratch.records, first_own + index)
        scratch.signatures[index] = h
        group = find_base_group(base, own, np.int64(offsets[index]), h)
        if group >= 0:
            for position in range(base.group_starts[group], base.group_starts[group + 1]):
                other = np.int64(base.candidates[position])
                if marks[other >> 6] & (_one << np.uint64(other & 63)):
                    return PARTNER_CONTESTED
    return MATCHED


@compiled
def match(base, own, offsets, first_own, scratch, own_fwds):  # type: ignore[no-untyped-def]
    """Map what is proved to be the base's, after ``pair_up``.

    base, scratch   see ``tables``; own: uint32, the module's words in the base's numbering
    offsets         where its types start; their ids start at ``first_own``
    own_fwds        what ``pair_up`` returned

    Returns (verdict, FWDs that are still their own). When the verdict is not MATCHED nothing but
    primitive types is mapped.
    """
    records = scratch.records
    mates = scratch.mates
    count = len(offsets) - 1
    if scratch.state[BASE_EDITS] > 0:
        return ENUMS_REMAPPED, own_fwds
    if not _declarations_are_clear(base, own, offsets, first_own, scratch):
        return DECLARATION_UNCLEAR, own_fwds
    if _prove(base, own, offsets, first_own, scratch) > 0:
        _spread(own, offsets, first_own, scratch)
    doubt = _doubt(base, own, offsets, first_own, scratch)
    if doubt != MATCHED:
        return doubt, own_fwds
    company = np.int64(0)
    for index in range(count):
        mate = np.int64(mates[index])
        trust = scratch.trust[index]
        if mate == 0 or trust == _SETTLED:
            continue
        # Of base types that are the same record, libbpf takes the first it tries.
        alone = base.alone[mate] == ALONE
        if trust == _DECLARED:
            records[first_own + index, CANONICAL] = mate
            own_fwds -= 1
        elif alone:
            records[first_own + index, CANONICAL] = mate
        elif _is_aggregate(scratch.kinds[index]):
            records[first_own + index, CANONICAL] = mate
            scratch.pending[company] = index
            company += 1
    for entry in range(company):
        index = scratch.pending[entry]
        if not _is_told_apart(base, own, scratch, first_own, index):
            for other in range(count):
                if mates[other] == 0 or scratch.trust[other] == _SETTLED:
                    continue
                if scratch.trust[other] == _DECLARED:
                    records[first_own + other, CANONICAL] = first_own + other
                    own_fwds += 1
                else:
                    records[first_own + other, CANONICAL] = UNMAPPED
            return PARTNER_AMBIGUOUS, own_fwds
    return MATCHED, own_fwds


@noinline
def _is_told_apart(base, own, scratch, first_own, index):  # type: ignore[no-untyped-def]
    """Whether no other base type of its partner's signature could be taken for the partner."""
    mate = np.int64(scratch.mates[index])
    h = signature(base.words, own, scratch.records, first_own + index)
    group = find_group(base.group_slots, h)
    first = np.int64(base.group_starts[group])
    last = np.int64(base.group_starts[group + 1])
    if last - first > _MAX_COMPANY:
        return False
    for entry in range(first, last):
        other = np.int64(base.candidates[entry])
        if other == mate:
            continue
        clear_pairs(scratch.state)
        verdict, _, _ = equivalent(base.words, own, scratch, first_own, first_own + index, other)
        if verdict != DIFFERENT:
            return False
    return True
