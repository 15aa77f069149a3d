"""The passes of dedup over one module, on arrays, and the one call that makes them all.

Everything here works on *global* ids: 0 is void, then the base's types, then the module's. The
order of every loop and look-up is libbpf's, because where several types fit the first one wins.

How it is laid out, and why. Figures: 160 modules of a Debian kernel (23 MB, 366,000 types), on one
core of a machine on which libbpf takes 2.7 s for them; the whole of this takes 0.07 s there.

* The base is indexed once. A module costs nothing of it but what its own types touch: rows of base
  types in the scratch are filled once for a worker and what a module changes in them is undone.
* Half of the time is spent waiting for memory: a look into one of the base's hash tables costs
  100 ns, as much as thirty of its words read in order. So nothing is looked up that can be guessed
  or ruled out: a name that the base's strings lack is in no table of the base's, nor is what
  refers to an own type; where a run of strings goes on was often seen in an earlier module.
  Tables lie on large pages (``memory``: a tenth off everything).
* One row of 16 bytes for each type (``signature``: position, canonical type, hypothetical map and
  its epoch), since the walk over graphs waits for memory at every step. What the match asks of base
  types lies apart from it in 4 bytes each (``starts``), or in a bit (``marks``).
* Strings first (``strings.map_runs``, 14 ms): 90 % of a module's strings follow their predecessor
  in the base too, so whole runs are compared, 32 bytes at a time, and a distance for each 16 bytes
  says where they went.
* New strings (``intake``) hang on heads of 4 bytes, with a row of 12 for each one behind the other:
  a table with hash and offset in its slots was a megabyte for the largest module. Their hash, which
  the look into the base needed, stays in ``seen``. With a copy of eight bytes at a time that is a
  seventh less for modules that keep most of what they have.
* Then one sweep over the records (``matching.pair_up``, 26 ms) does all that can be done while a
  record is at hand: it is rewritten into the base's numbering, so that all further comparisons are
  of words; primitive types are deduplicated; the others get a first partner in the base.
* Then the match (``matching.match``, 25 ms): nine in ten types are proved to be the base's. What
  it cannot prove is walked as libbpf does (``equivalence``), a candidate at a time.
* Candidates are told apart by more than libbpf's hash (``signature``), and where there are many
  by the beginning of their unfolded graph (``shortcuts``).
* Where walks take long all the same, what they found out is remembered (``remembered``): structs
  of two chains that are not equal take n steps then, not n squared. One module in 5,156 needs it.
* What a module leaves behind in tables is cleared where it was used, not by the table.
* Everything from words to words is one call (``dedup_whole``). Python finds the caches full of
  other things after each, and takes three times as long as in a loop of its own: who wants only
  the bytes takes the straight way (``straight``), a third off everything.

Rejected, with what it cost: a walk for every struct (nine times the time of the match); sweeps to a
fixed point from a first guess (13 to 23 sweeps a module); counting references to arrays between
kernels (twice the time); handing all tables on as arguments of every function (no difference at run
time, a quarter of the time to compile); taking in, then pairing, then proving in sweeps of their
own with lists of nothing (a fifth more); a second bit for each entry in what rules look-ups out,
and hashing the members of a struct so that none waits for the one before it (no difference);
presuming which of several definitions of the base's a declaration means, and walking the module
again where that was wrong (on a base merged with modules of another configuration it always was).
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..edit.remap import (
    OWN_BYTES,
    OWN_STRINGS,
    STARTS_ONLY,
    STRING_MASK,
    STRING_OVERFLOW,
    TEXT_PER_HEAD,
    take_in,
)
from ..format.kinds import (
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    FUNC_PROTO,
    FWD,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    STRUCT,
    TYPEDEF,
    UNION,
    kind_of,
)
from ..format.records import record_length
from ..format.strings import MIXED, PIECE_BITS, map_runs, map_strings
from .abi import clashing_struct
from .candidates import (
    add_candidate,
    empty_lists,
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
    clear_pairs,
    equivalent,
    is_mapped,
    merge_pairs,
    resolve,
    same_but_references,
    same_record,
)
from .equivalence_cache import (
    EQUAL,
    NOT_EQUAL,
    are_plain,
    known_verdict,
    note_different,
    note_equal,
    note_mapped,
    start_counting,
    start_remembering,
)
from .index import enter_name, find_name
from .matching import MATCHED, NOT_TRIED, match, pair_up
from .primitives import dedup_primitives
from .shortcuts import enter_fine_list, fine_lists, may_equal, note_proved, open_shortcuts
from .signature import CANONICAL, IN_PROGRESS, START, UNMAPPED, signature, word_at
from .state import (
    BASE_EDITS,
    CAPACITY,
    ENTRIES,
    FORWARD_ENUMS,
    LEFT,
    LIST_MASK,
    NEEDS_BASE_CHANGE,
    PAIRS,
    PARITY,
    PLAIN_WALK,
    REMEMBERING,
    SHORTCUTS,
    STEPS,
    STEPS_ALLOWED,
    VERDICT,
)

# What a pass returns: DONE, or a code below with the type id that stopped it.
DONE = 0
BAD_MEMBER = 1  # a struct reaches a VAR, DATASEC or DECL_TAG
REFERENCE_CYCLE = 2  # pointers and modifiers that refer to each other in a circle
MORE_FRAMES = 3  # a walk went deeper than ``frames`` allows
MORE_STRINGS = 4  # new strings need more room

_MANY = 16  # from so many on, a look at ``shortcuts`` pays

_31 = np.uint32(31)


@compiled
def dedup_whole(base, scratch, words, offsets, source, added, may_match):  # type: ignore[no-untyped-def]
    """Deduplicate a module, from its words and strings as they were read to what is left of them.

    base, scratch   see ``tables``
    words, offsets  uint32: the module's type section, and where its types start; see ``scan.scan``
    source          uint8: its string section
    added           whether it is standalone and to be added to the base; else its ids and string
                    offsets go on where the base's end
    may_match       whether to match graphs before walking them: faster, same result

    Returns (code, type id, types kept, words kept, bytes of new strings, clashing struct): code
    DONE and 0, or why it stopped and at which type; for the last see ``abi.clashing_struct``, -1 if
    not ``added``. What is left is in ``scratch``: ``out``, ``out_offsets``, ``own_strings``, and
    ``new_ids``.
    """
    state = scratch.state
    count = len(offsets) - 1
    first_own = np.int64(base.type_end)
    own_fwds = np.int64(0)
    source_start = np.int64(0) if added else np.int64(len(base.strings))
    first_source = np.uint32(1) if added else np.uint32(0xFFFFFFFF)
    delta = np.uint32(first_own - 1) if added else np.uint32(0)
    for careful in range(2):
        _start_module(base, count, len(source), scratch)
        if careful == 0:
            map_runs(
                source, base.strings, base.string_slots, base.string_bits, base.strings_repeat,
                scratch.seen, scratch.shifts, scratch.jumps,
            )  # fmt: skip
        else:
            map_strings(source, base.strings, base.string_slots, base.strings_repeat, scratch.seen)
            for piece in range((len(source) >> PIECE_BITS) + 1):
                scratch.shifts[piece] = MIXED
        state[STARTS_ONLY] = 1 - careful
        if may_match:
            own_fwds = pair_up(
                base, scratch, words, offsets, source, source_start, first_source, delta
            )
        else:
            take_in(words, offsets, source, source_start, first_source, delta, base, scratch)
        if state[STARTS_ONLY] != 2:
            break
        _end_module(scratch.records, scratch.edits, state)
    if state[STRING_OVERFLOW] != 0:
        _end_module(scratch.records, scratch.edits, state)
        return MORE_STRINGS, 0, 0, 0, 0, -1
    own = scratch.own
    state[VERDICT] = NOT_TRIED
    if may_match:
        state[VERDICT], own_fwds = match(base, own, offsets, first_own, scratch, own_fwds)
    else:
        for index in range(count):
            scratch.records[first_own + index, START] = len(base.words) + np.int64(offsets[index])
            scratch.records[first_own + index, CANONICAL] = UNMAPPED
        own_fwds = dedup_primitives(base, own, count, first_own, scratch)
    code, at = dedup_types(base, own, count, first_own, scratch, own_fwds)
    kept = np.int64(0)
    length = np.int64(0)
    if code == DONE:
        kept, length = compact(
            own, len(base.words), count, scratch.records, first_own, state[BASE_EDITS] > 0,
            scratch.new_ids, scratch.out, scratch.out_offsets,
        )  # fmt: skip
    _end_module(scratch.records, scratch.edits, state)
    clash = np.int64(-1)
    if added:
        clash = clashing_struct(base, scratch.out, scratch.out_offsets, kept)
    return code, at, kept, length, state[OWN_BYTES], clash


@compiled
def _start_module(base, count, text, scratch):  # type: ignore[no-untyped-def]
    """Forget the last module; this one has ``count`` types and ``text`` bytes of strings."""
    state = scratch.state
    empty_lists(scratch)
    slots = np.int64(16)
    while slots < 2 * count:
        slots *= 2
    state[LIST_MASK] = slots - 1
    heads = np.int64(16)
    while TEXT_PER_HEAD * heads < text:
        heads *= 2
    for i in range(heads):
        scratch.string_heads[i] = 0
    state[STRING_MASK] = heads - 1
    scratch.own_strings[0] = 0
    # without a base, BTF begins with the empty string
    state[OWN_BYTES] = 0 if len(base.strings) > 0 else 1
    state[OWN_STRINGS] = 0
    state[STRING_OVERFLOW] = 0
    state[BASE_EDITS] = 0
    state[ENTRIES] = base.entries
    state[CAPACITY] = base.capacity
    state[PARITY] = 0
    state[FORWARD_ENUMS] = 0
    state[SHORTCUTS] = 0


@compiled
def _end_module(records, edits, state):  # type: ignore[no-untyped-def]
    """Give the base types that this module re-mapped back to themselves."""
    for i in range(state[BASE_EDITS]):
        records[edits[i], CANONICAL] = edits[i]
    state[BASE_EDITS] = 0


@compiled
def dedup_types(base, own, count, first_own, scratch, own_fwds):  # type: ignore[no-untyped-def]
    """Find the canonical type of what is left: fills ``records[:, CANONICAL]``.

    base, scratch   see ``tables``
    own         uint32: the module's words in the base's numbering; references of reference types
                are replaced by their canonical ones
    count       number of own types; their ids start at ``first_own``
    own_fwds    how many FWDs are their own

    Returns (DONE, 0) or (code, type id).
    """
    records = scratch.records
    state = scratch.state
    matched = state[VERDICT] == MATCHED
    words = base.words
    start_counting(state, count)
    _list_left(count, first_own, scratch)

    # Structs, unions and typedefs: by walking the graphs that hang on them.
    for position in range(state[LEFT]):
        index = np.int64(scratch.left[position])
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
        # From so many on: lists of those that it could equal, in place of the whole list.
        fine = False
        second_list = np.int64(-1)
        second = np.int64(0)
        while True:
            if fine:
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
                fine, same_list, second_list = fine_lists(
                    words, own, scratch, first_own, own_list, h, type_id
                )
                if fine:  # from the beginning, but through fewer
                    own_list = same_list
                    part = np.int64(0)
                    position = np.int64(0)
                    continue
            if tried >= _MANY and not may_equal(words, own, scratch, type_id, other):
                continue
            tried += 1
            if not same_but_references(words, own, at, np.int64(records[other, START])):
                continue
            clear_pairs(state)
            if state[REMEMBERING]:
                state[PLAIN_WALK] = are_plain(scratch, first_own, type_id, other)
                if state[PLAIN_WALK]:
                    known = known_verdict(scratch, first_own, type_id, other)
                    if known == NOT_EQUAL:
                        continue
                    if known == EQUAL:
                        found = other
                        break
            verdict, top, conflict = equivalent(words, own, scratch, first_own, type_id, other)
            state[STEPS] += state[PAIRS]
            if verdict == UNWALKABLE:
                return BAD_MEMBER, type_id
            if verdict == TOO_DEEP:
                return MORE_FRAMES, type_id
            if verdict == DIFFERENT:
                if state[PLAIN_WALK]:
                    note_different(scratch, first_own, top, conflict)
                continue
            merge_pairs(words, own, scratch, first_own)
            if state[NEEDS_BASE_CHANGE]:
                continue
            if state[PLAIN_WALK]:
                note_equal(words, own, scratch, first_own)
            if kind == TYPEDEF and state[PAIRS] > _MANY:
                open_shortcuts(scratch, first_own, count)
                note_proved(words, own, scratch, first_own)
            found = other
            break
        records[type_id, CANONICAL] = found
        if state[REMEMBERING]:
            note_mapped(scratch, first_own, type_id, found)
        if state[STEPS] > state[STEPS_ALLOWED]:
            start_remembering(base, own, scratch, first_own, count)
        if found == type_id:
            own_list = add_candidate(scratch, h, index)
            if scratch.list_split[own_list]:
                newest = head_column(state)
                enter_fine_list(words, own, scratch, first_own, h, index, newest)

    if own_fwds > 0:
        _resolve_forward_declarations(base, own, count, scratch, first_own)

    # Reference types: what they refer to first, then they themselves by all their words.
    stack = scratch.frames
    for position in range(state[LEFT]):
        index = np.int64(scratch.left[position])
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
                referred = resolve(records, referred)
                own[word] = referred
                stack[top - 1, 1] += 1
                stack[top - 1, 2] |= referred >= first_own
            if entering >= 0:
                continue
            h = signature(words, own, records, type_id)
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
                add_candidate(scratch, h, type_id - first_own)
            top -= 1
            if top == 0:
                break
    return DONE, 0


@compiled
def _list_left(count, first_own, scratch):  # type: ignore[no-untyped-def]
    """Fill ``left`` with the own types that are not mapped."""
    left = np.int64(0)
    for index in range(count):
        if scratch.records[first_own + index, CANONICAL] == UNMAPPED:
            scratch.left[left] = index
            left += 1
    scratch.state[LEFT] = left


@compiled
def _resolve_forward_declarations(base, own, count, scratch, first_own):  # type: ignore[no-untyped-def]
    """Map a FWD that is still its own to the one canonical struct or union of its name, if any."""
    records = scratch.records
    # The structs and unions that stay: canonical ones among ``left``.
    left = scratch.state[LEFT]
    size = 16
    while size < 2 * left:
        size *= 2
    own_names = scratch.names[: min(size, len(scratch.names))]
    for slot in range(len(own_names)):
        own_names[slot] = 0
    for position in range(left):
        type_id = first_own + np.int64(scratch.left[position])
        at = np.int64(records[type_id, START]) - len(base.words)
        kind = kind_of(own[at + 1])
        if kind == STRUCT or kind == UNION:
            if np.int64(records[type_id, CANONICAL]) == type_id:
                enter_name(own_names, own[at], type_id)
    for index in range(count):
        at = np.int64(records[first_own + index, START]) - len(base.words)
        if kind_of(own[at + 1]) != FWD:
            continue
        if np.int64(records[first_own + index, CANONICAL]) != first_own + index:
            continue
        in_base = find_name(base.name_slots, own[at])
        in_own = find_name(own_names, own[at])
        if in_base >= 0 and in_own >= 0:
            continue
        defined = max(in_base, in_own)
        if defined <= 0:
            continue
        kind = kind_of(word_at(base.words, own, np.int64(records[defined, START]) + 1))
        if kind == (UNION if own[at + 1] >> _31 else STRUCT):
            records[first_own + index, CANONICAL] = defined


@compiled
def compact(own, offset, count, records, first_own, base_changed, new_ids, out, out_offsets):  # type: ignore[no-untyped-def]
    """Copy the types that are their own canonical, in order, with final ids.

    own, offset  uint32: the module's words; position of the first, as ``records`` counts
    base_changed whether this module re-mapped a base type
    new_ids      uint32, shape (count,): final id of every own type (of its canonical type)
    out          uint32, at least as long as ``own``
    out_offsets  uint32, shape (count + 1,)

    Returns (types kept, words written).
    """
    kept = np.int64(0)
    for index in range(count):
        if np.int64(records[first_own + index, CANONICAL]) == first_own + index:
            new_ids[index] = first_own + kept
            out_offsets[kept] = index  # until the type is copied
            kept += 1
    for index in range(count):
        canonical = _final(records, first_own, first_own + index, base_changed)
        if canonical < first_own:
            new_ids[index] = canonical
        elif canonical != first_own + index:
            new_ids[index] = new_ids[canonical - first_own]
    length = np.int64(0)
    for number in range(kept):
        index = np.int64(out_offsets[number])
        at = np.int64(records[first_own + index, START]) - offset
        info = own[at + 1]
        kind = kind_of(info)
        words = record_length(info)
        out_offsets[number] = length
        for i in range(words):
            out[length + i] = own[at + i]
        if HEAD_IS_REF[kind]:
            _renumber(records, first_own, new_ids, base_changed, out, length + 2)
        body = length + HEAD_WORDS
        for word in range(body, body + FIXED_REFS[kind]):
            _renumber(records, first_own, new_ids, base_changed, out, word)
        ref_at = np.int64(ELEMENT_REF[kind])
        step = np.int64(ELEMENT_WORDS[kind])
        if ref_at >= 0 and step > 0:
            body += FIXED_WORDS[kind]
            for word in range(body + ref_at, length + words, step):
                _renumber(records, first_own, new_ids, base_changed, out, word)
        length += words
    out_offsets[kept] = length
    return kept, length


@compiled
def _final(records, first_own, type_id, base_changed):  # type: ignore[no-untyped-def]
    """As ``resolve``, without a look at the base's rows where they all say what they are."""
    while type_id >= first_own:
        to = np.int64(records[type_id, CANONICAL])
        if to == type_id:
            return type_id
        type_id = to
    if base_changed:
        return resolve(records, type_id)
    return type_id


@compiled
def _renumber(records, first_own, new_ids, base_changed, out, word):  # type: ignore[no-untyped-def]
    canonical = _final(records, first_own, np.int64(out[word]), base_changed)
    if canonical >= first_own:
        out[word] = new_ids[canonical - first_own]
    else:
        out[word] = canonical
