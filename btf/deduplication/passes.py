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
  Tables lie on large pages (``huge_pages``: a tenth off everything).
* One row of 16 bytes for each type (``signature``: position, canonical type, hypothetical map and
  its epoch), since the walk over graphs waits for memory at every step. What the match asks of base
  types lies apart from it in 4 bytes each (``starts``), or in a bit (``marks``).
* Strings first (``strings.map_runs``, 14 ms): 90 % of a module's strings follow their predecessor
  in the base too, so whole runs are compared, 32 bytes at a time, and a distance for each 16 bytes
  says where they went.
* New strings (``remap``) hang on heads of 4 bytes, with a row of 12 for each one behind the other:
  a table with hash and offset in its slots was a megabyte for the largest module. Their hash, which
  the look into the base needed, stays in ``seen``. With a copy of eight bytes at a time that is a
  seventh less for modules that keep most of what they have.
* Then one sweep over the records (``pairing.pair_up``, 26 ms) does all that can be done while a
  record is at hand: it is remapped to the base's numbering, so that all further comparisons are
  of words; primitive types are deduplicated; the others get a first partner in the base.
* Then the match (``matching.match``, 25 ms): nine in ten types are proved to be the base's. What
  it cannot prove is walked as libbpf does (``structs``, ``equivalence``), a candidate at a time.
* Candidates are told apart by more than libbpf's hash (``signature``), and where there are many
  by classes of their type graphs (``classes``).
* Where walks take long all the same, their results are cached (``equivalence_cache``): structs
  of two chains that are not equal take n steps then, not n squared. One module in 5,156 needs it.
* What a module leaves behind in tables is cleared where it was used, not by the table.
* Everything from words to words is one call (``dedup_whole``). Python finds the caches full of
  other things after each, and takes three times as long as in a loop of its own (``core``).

Rejected, with what it cost: a walk for every struct (nine times the time of the match); sweeps to a
fixed point from a first guess (13 to 23 sweeps a module); counting references to arrays between
compiled functions (twice the time); handing all tables on as arguments of every function (no
difference at run time, a quarter of the time to compile); remapping, then pairing, then proving in
sweeps of their own with lists of nothing (a fifth more); a second bit for each entry in what rules
look-ups out, and hashing the members of a struct so that none waits for the one before it (no
difference); presuming which of several definitions of the base's a declaration means, and walking
the module again where that was wrong (on a base merged with modules of another configuration it
always was).

Parameters used throughout:

base, scratch     see ``tables``
own               uint32: the module's words in the base's numbering
count, first_own  number of own types, and the id of the first
base_changed      whether this module re-mapped a base type
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
    remap_types,
)
from ..format.kinds import INFO_VLEN_MASK, REF_STEP, STRUCT, kind_of
from ..format.records import find_nested_arrays, record_length, reference_count, reference_word
from ..format.strings import MIXED, PIECE_BITS, map_runs, map_strings
from .batches import (
    AGGREGATES,
    PRIMITIVES,
    REFERENCES,
    enter_settled,
    note_base_forwards,
    renumber_forwards,
    resume,
    set_forwards_aside,
)
from .candidates import empty_lists
from .equivalence import resolve, same_but_references
from .hash_tables import slots_for
from .matching import NOT_TRIED, match
from .pairing import pair_up
from .primitives import dedup_primitives
from .references import dedup_references, resolve_forward_declarations
from .signature import CANONICAL, START, UNMAPPED
from .state import (
    BASE_UNDO_COUNT,
    BATCH,
    CAPACITY,
    DONE,
    ENTRIES,
    ENUM_MASK,
    LAST,
    LIST_MASK,
    MORE_COME,
    MORE_STRINGS,
    NESTED_ARRAYS,
    PARITY,
    PROVED,
    REMAINING,
    SETTLED,
    SINGLE,
    TYPES,
    VERDICT,
)
from .structs import dedup_structs


@compiled
def dedup_whole(base, scratch, words, offsets, source, added, may_match):  # type: ignore[no-untyped-def]
    """Deduplicate a module, from its words and strings as they were read to what is left of them.

    base, scratch   see ``tables``
    words, offsets  uint32: the module's type section, and where its types start; see ``scan.scan``
    source          uint8: its string section; none of a batch, see ``batches``
    added           whether it is standalone and to be added to the base; else its ids and string
                    offsets go on where the base's end
    may_match       whether to match graphs before walking them: faster, same result

    Returns (code, type id, types kept, words kept, bytes of new strings, clashing struct): code
    DONE and 0, or why it stopped and at which type; for the last see ``clashing_struct``, -1 if
    not ``added``. What is left is in ``scratch``: ``out``, ``out_offsets``, ``own_strings``, and
    ``new_ids``; of what was ``added``, ``state[NESTED_ARRAYS]`` says how many are nested.
    """
    state = scratch.state
    count = len(offsets) - 1
    first_own = np.int64(base.type_end)
    own_fwds = np.int64(0)
    source_start = np.int64(0) if added else np.int64(len(base.strings))
    first_source = np.uint32(1) if added else np.uint32(0xFFFFFFFF)
    delta = np.uint32(first_own - 1) if added else np.uint32(0)
    batch = state[BATCH]
    settled = state[SETTLED] if batch != SINGLE else np.int64(0)
    if batch != SINGLE:
        _start_module(base, count, 0, scratch)
        resume(base, scratch, offsets, first_own)
    for all_offsets in range(2 if batch == SINGLE else 0):
        # the second time names may begin inside of strings
        _start_module(base, count, len(source), scratch)
        if all_offsets == 0:
            map_runs(
                source, base.strings, base.string_slots, base.string_bits, base.strings_repeat,
                scratch.seen, scratch.shifts, scratch.jumps,
            )  # fmt: skip
        else:
            map_strings(source, base.strings, base.string_slots, base.strings_repeat, scratch.seen)
            for piece in range((len(source) >> PIECE_BITS) + 1):
                scratch.shifts[piece] = MIXED
        state[STARTS_ONLY] = 1 - all_offsets
        if may_match:
            own_fwds = pair_up(
                base, scratch, words, offsets, source, source_start, first_source, delta
            )
        else:
            remap_types(words, offsets, source, source_start, first_source, delta, base, scratch)
        if state[STARTS_ONLY] != 2:
            break
        _end_module(scratch.records, scratch.base_map_undo, state)
    if state[STRING_OVERFLOW] != 0:
        _end_module(scratch.records, scratch.base_map_undo, state)
        return MORE_STRINGS, 0, 0, 0, 0, -1
    own = scratch.own
    state[VERDICT] = NOT_TRIED
    if may_match:
        state[VERDICT], own_fwds = match(base, own, offsets, first_own, scratch, own_fwds)
    else:
        if batch == SINGLE:
            resume(base, scratch, offsets, first_own)
        enter_settled(base, scratch, count, first_own, PRIMITIVES)
        own_fwds = dedup_primitives(base, own, settled, count, first_own, scratch)
    _list_remaining(count, first_own, scratch)
    enter_settled(base, scratch, count, first_own, AGGREGATES)
    code, at = dedup_structs(base, own, count, first_own, scratch)
    if code == DONE:
        if batch == LAST or (batch == SINGLE and own_fwds > 0):
            resolve_forward_declarations(base, own, count, scratch, first_own)
        enter_settled(base, scratch, count, first_own, REFERENCES)
        code, at = dedup_references(base, own, first_own, scratch)
    kept = np.int64(0)
    length = np.int64(0)
    if code == DONE:
        first = np.int64(0)
        if batch == MORE_COME:
            first = settled
            set_forwards_aside(base, scratch, count, first_own)
        elif batch == LAST:
            note_base_forwards(scratch)
        kept, length = compact(
            own, len(base.words), first, count, scratch.records, first_own,
            state[BASE_UNDO_COUNT] > 0, scratch.new_ids, scratch.out, scratch.out_offsets,
        )  # fmt: skip
        if batch != SINGLE:
            renumber_forwards(scratch, first, first_own)
    _end_module(scratch.records, scratch.base_map_undo, state)
    clash = np.int64(-1)
    if added:
        clash = clashing_struct(base, scratch.out, scratch.out_offsets, kept)
        state[NESTED_ARRAYS] = find_nested_arrays(
            scratch.out, scratch.out_offsets[: kept + 1], first_own,
            base.words, base.starts[1:], scratch.pending[:0],
        )  # fmt: skip
    return code, at, kept, length, state[OWN_BYTES], clash


@compiled
def _start_module(base, count, text, scratch):  # type: ignore[no-untyped-def]
    """Forget the last module; this one has ``count`` types and ``text`` bytes of strings."""
    state = scratch.state
    empty_lists(scratch)
    state[LIST_MASK] = slots_for(count if state[BATCH] == SINGLE else 0) - 1
    state[ENUM_MASK] = state[LIST_MASK]
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
    state[BASE_UNDO_COUNT] = 0
    state[TYPES] = base.type_end + count
    state[ENTRIES] = base.entries
    state[CAPACITY] = base.capacity
    state[PARITY] = 0
    state[PROVED] = 0


@compiled
def _end_module(records, base_map_undo, state):  # type: ignore[no-untyped-def]
    """Map the base types that this module re-mapped to themselves again.

    records, base_map_undo, state  see ``tables.Scratch``
    """
    for i in range(state[BASE_UNDO_COUNT]):
        records[base_map_undo[i], CANONICAL] = base_map_undo[i]
    state[BASE_UNDO_COUNT] = 0


@compiled
def _list_remaining(count, first_own, scratch):  # type: ignore[no-untyped-def]
    """Fill ``remaining`` with the own types that are not mapped, of the last batch of a merge with
    all, since forward declarations are to find the structs that earlier ones left."""
    found = np.int64(0)
    every = scratch.state[BATCH] == LAST
    for index in range(count):
        if every or scratch.records[first_own + index, CANONICAL] == UNMAPPED:
            scratch.remaining[found] = index
            found += 1
    scratch.state[REMAINING] = found


@compiled
def compact(own, offset, first, count, records, first_own, base_changed, new_ids, out, out_offsets):  # type: ignore[no-untyped-def]
    """Copy the types that are their own canonical, in order, with final ids.

    offset       position of the module's first word, as ``records`` counts
    first        own type (0-based) before which all stay as they are, and are in ``out`` already
    records      see ``signature``
    new_ids      uint32, shape (count,): filled with the final ids of own types from ``first`` on
    out          uint32, at least as long as ``own``, and may be the same: filled
    out_offsets  uint32, shape (count + 1,): filled with where each type starts in ``out``

    Returns (types kept, words they have).
    """
    length = np.int64(0)
    if first > 0:
        length = np.int64(records[first_own + first - 1, START]) - offset
        length += record_length(own[length + 1])
    kept = np.int64(first)
    stay_below = first_own + first
    for index in range(first, count):
        if np.int64(records[first_own + index, CANONICAL]) == first_own + index:
            new_ids[index] = first_own + kept
            out_offsets[kept] = index  # until the type is copied
            kept += 1
    for index in range(first, count):
        canonical = _final(records, first_own, first_own + index, base_changed)
        if canonical < stay_below:
            new_ids[index] = canonical
        elif canonical != first_own + index:
            new_ids[index] = new_ids[canonical - first_own]
    for number in range(first, kept):
        index = np.int64(out_offsets[number])
        at = np.int64(records[first_own + index, START]) - offset
        info = own[at + 1]
        kind = kind_of(info)
        words = record_length(info)
        out_offsets[number] = length
        for i in range(words):
            out[length + i] = own[at + i]
        word = length + reference_word(info, 0)
        step = np.int64(REF_STEP[kind])
        for _ in range(reference_count(info)):
            canonical = _final(records, first_own, np.int64(out[word]), base_changed)
            if canonical >= stay_below:
                canonical = np.int64(new_ids[canonical - first_own])
            out[word] = canonical
            word += step
        length += words
    out_offsets[kept] = length
    return kept, length


@compiled
def _final(records, first_own, type_id, base_changed):  # type: ignore[no-untyped-def]
    """As ``resolve``, without a look at the base's rows where none was changed.

    type_id  of any type
    """
    while type_id >= first_own:
        to = np.int64(records[type_id, CANONICAL])
        if to == type_id:
            return type_id
        type_id = to
    if base_changed:
        return resolve(records, type_id)
    return type_id


@compiled
def clashing_struct(base, words, offsets, count):  # type: ignore[no-untyped-def]
    """Find an own ``struct module`` or ``struct task_struct`` that is laid out unlike the base's.

    words, offsets  uint32: split BTF on it, as in ``BTF``
    count           number of own types

    Returns the number (0-based) of the first own struct of one of these names whose members none
    of the base's structs of that name has; -1 if there is none.
    """
    for index in range(count):
        at = np.int64(offsets[index])
        info = words[at + 1]
        name = np.int64(words[at])
        if name != base.module_name and name != base.task_struct_name:
            continue
        if kind_of(info) != STRUCT or info & INFO_VLEN_MASK == 0:
            continue
        same_named = 0
        for type_id in range(1, len(base.starts)):
            base_at = np.int64(base.starts[type_id])
            if np.int64(base.words[base_at]) == name and kind_of(base.words[base_at + 1]) == STRUCT:
                same_named += 1
                if same_but_references(base.words, words, base_at, len(base.words) + at):
                    same_named = 0
                    break
        if same_named > 0:
            return np.int64(index)
    return np.int64(-1)
