"""A cache of what walks found out, so that hostile inputs do not have it found out again.

A walk that fails has gone through many pairs, and the next ones may go through the same: the
structs of two chains that differ at their ends, each met before what it holds, are quadratic in
their number for libbpf (exponential where an identity walk is part of it). Once the walks over a
module have taken long enough, pairs of struct, union or typedef that a walk found different, or
equal, are entered here, and further walks end when they come to them.

That changes no result, because only pairs of *untouched* types are entered and looked up. A type
is untouched if all that it leads to is the module's own, not mapped to something else yet (but for
INT, FLOAT and ENUM, where it does not matter, and a FWD mapped to one alike), without forward
enums. Between untouched types:

* Nothing is equal because of what was mapped before: a walk that succeeds shows that its graphs
  agree to the end, or to a forward declaration of what the other has; ``identical`` that they
  agree literally, and then one may stand for the other. So a pair of which a walk has shown that
  the graphs do not agree fails every walk that comes to it.
* A walk also fails where a canonical type is met with two candidates that are not ``identical``.
  How deep that has to go for two types is, as a distance, an ultrametric: of three types the two
  largest of their distances are the same. So the candidates of one canonical type fall into
  classes of types that are interchangeable, and whether a walk from a pair succeeds does not
  depend on the order of its steps, nor on what was paired before: if it fails from a pair, so does
  every walk that comes to the pair, and if it succeeds, so does a walk from each of its pairs. This
  is made use of only for types without circles.
* An entry holds until something is mapped that the pair's types lead to. All that leads to a type
  has a higher topological level: one more than the highest level that the type refers to. So it is
  enough to know the lowest level at which something was mapped since. Circles, and what leads to
  one, are above all other levels, and below themselves.
* A walk that succeeds also maps structs whose counterpart is mapped already. An equal pair may be
  taken without its walk only where none of them was: see ``note_equal``.

Pairs that cannot be looked up any more, since something below was mapped, can be entered again when
all levels are measured anew: each time when the walks have taken twice as long as before.

Parameters used throughout:

base       see ``tables.BaseTables``; for ``note_equal`` its words only
own        uint32: the module's words in the base's numbering
scratch    see ``tables.Scratch``; state and cached_equiv are its arrays of these names
first_own  id of the first own type
count      number of own types
index      own type (0-based)
candidate, canonical   ids of the two types of a pair
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, noinline
from ..format.kinds import (
    DECL_TAG,
    FWD,
    INFO_VLEN_MASK,
    STRUCT,
    TYPEDEF,
    UNION,
    is_enum,
    is_never_merged,
    is_scalar,
    kind_of,
)
from ..format.records import reference_at, reference_count
from .signature import CANONICAL, HYPOT_MAP, IN_PROGRESS, START, mix, word_at
from .state import (
    CACHED_PAIRS,
    CACHING,
    CLASSIFIED,
    ENOUGH_STEPS,
    HYPOT_COUNT,
    IDENTITY_STEPS,
    LOWEST_MAPPED,
    LOWEST_MERGED,
    STEPS,
    STEPS_ALLOWED,
    STEPS_PER_TYPE,
    TYPES,
    UNTOUCHED_WALK,
)

UNKNOWN = 0
NOT_EQUAL = 1
EQUAL = 2

# Levels. A type that is not untouched is higher than all others.
_NOT_MEASURED = np.uint32(0)
_CIRCULAR = np.uint32(0xFFFFFFFD)  # of a circle, and of what leads to one
_BEING_MEASURED = np.uint32(0xFFFFFFFE)
TOUCHED = np.uint32(0xFFFFFFFF)

_SWEEPS = 16
_NEAREST = 2  # pairs of a walk that are noted where room is scarce
_WORTH_NOTING = 12  # pairs of a walk; a shorter one is as fast as looking it up

_VERDICT_BITS = np.uint64(2)
_SECOND_BITS = np.uint64(31)
_VERDICT_MASK = np.uint64(3)
_SEED = np.uint64(0x13198A2E03707344)
_LOW = np.uint64(0xFFFFFFFF)
_HIGHEST = np.int64(0xFFFFFFFF)


@compiled
def start_counting(state, count):  # type: ignore[no-untyped-def]
    """Begin to count the steps of walks, before the first walk over a module.

    To classify types takes more steps than are allowed without it: all of the base are too.
    """
    state[STEPS] = 0
    state[IDENTITY_STEPS] = 0
    types = count if state[CLASSIFIED] else state[TYPES]
    state[STEPS_ALLOWED] = state[STEPS_PER_TYPE] * types
    state[CACHING] = 0
    state[UNTOUCHED_WALK] = 0


@noinline
def start_caching(base, own, scratch, first_own, count):  # type: ignore[no-untyped-def]
    """Have walks cached from now on."""
    state = scratch.state
    state[STEPS_ALLOWED] = 2 * state[STEPS] + ENOUGH_STEPS * count
    state[CACHING] = 1
    state[LOWEST_MAPPED] = _HIGHEST
    state[LOWEST_MERGED] = _HIGHEST
    _empty_cache(scratch)
    for index in range(count):
        scratch.topo_level[index] = _NOT_MEASURED
    for index in range(count):
        if scratch.topo_level[index] == _NOT_MEASURED:
            _measure(own, scratch, len(base.words), first_own, index)
    _measure_circles(own, scratch, len(base.words), first_own, count)


@compiled
def _may_be_untouched(own, scratch, first_own, offset, index):  # type: ignore[no-untyped-def]
    """Whether an own type is untouched if what it refers to is; ``offset``: see ``_measure``."""
    records = scratch.records
    info = own[np.int64(records[first_own + index, START]) - offset + 1]
    kind = kind_of(info)
    if is_scalar(kind):
        return True
    if is_enum(kind):
        return info & INFO_VLEN_MASK != 0
    if is_never_merged(kind) or kind == DECL_TAG:
        return False
    mapped = np.int64(records[first_own + index, CANONICAL])
    if mapped >= IN_PROGRESS or mapped == first_own + index:
        return True
    if kind != FWD or mapped < first_own or np.int64(records[mapped, CANONICAL]) != mapped:
        return False
    return kind_of(own[np.int64(records[mapped, START]) - offset + 1]) == FWD


@compiled
def _measure(own, scratch, offset, first_own, index):  # type: ignore[no-untyped-def]
    """Find the level of an own type and of all that it leads to; ``offset``: words of the base."""
    records = scratch.records
    topo_level = scratch.topo_level
    # Frames: type, its next reference, the highest of those before it.
    stack = scratch.frames
    top = np.int64(0)
    entering = np.int64(index)
    while True:
        if entering >= 0:
            topo_level[entering] = _BEING_MEASURED
            stack[top, 0] = entering
            stack[top, 1] = 0
            stack[top, 2] = 0
            top += 1
            entering = np.int64(-1)
        current = stack[top - 1, 0]
        at = np.int64(records[first_own + current, START]) - offset
        info = own[at + 1]
        highest = stack[top - 1, 2]
        if not _may_be_untouched(own, scratch, first_own, offset, current):
            highest = _HIGHEST
        references = reference_count(info)
        while stack[top - 1, 1] < references and highest < _HIGHEST:
            referred = reference_at(own, at, stack[top - 1, 1])
            if referred > 0:
                if referred < first_own:
                    highest = _HIGHEST
                    break
                level = topo_level[referred - first_own]
                if level == _NOT_MEASURED:
                    entering = referred - first_own
                    break
                if level == _BEING_MEASURED:
                    level = _CIRCULAR
                highest = max(highest, np.int64(level))
            stack[top - 1, 1] += 1
        stack[top - 1, 2] = highest
        if entering >= 0:
            continue
        topo_level[current] = (
            TOUCHED if highest >= _HIGHEST else min(highest + 1, np.int64(_CIRCULAR))
        )
        top -= 1
        if top == 0:
            break


@compiled
def _measure_circles(own, scratch, offset, first_own, count):  # type: ignore[no-untyped-def]
    """Find circles that lead to what is not untouched, which ``_measure`` may have met too late to
    say. After a number of sweeps there and back all that are left count as such.

    ``offset`` is what the records' START columns are ahead of positions in ``own``.
    """
    levels = scratch.topo_level
    for sweep in range(_SWEEPS):
        changed = False
        for step in range(count):
            index = step if sweep & 1 else count - 1 - step
            if levels[index] != _CIRCULAR:
                continue
            at = np.int64(scratch.records[first_own + index, START]) - offset
            for number in range(reference_count(own[at + 1])):
                referred = reference_at(own, at, number)
                if referred >= first_own and levels[referred - first_own] == TOUCHED:
                    levels[index] = TOUCHED
                    changed = True
                    break
        if not changed:
            return
    for index in range(count):
        if levels[index] == _CIRCULAR:
            levels[index] = TOUCHED


@compiled
def are_untouched(scratch, first_own, candidate, canonical):  # type: ignore[no-untyped-def]
    """Whether pairs may be entered and looked up on a walk from these two."""
    if candidate < first_own or canonical < first_own:
        return False
    topo_level = scratch.topo_level
    return (
        topo_level[candidate - first_own] != TOUCHED
        and topo_level[canonical - first_own] != TOUCHED
    )


@compiled
def _slot_of(cached_equiv, pair):  # type: ignore[no-untyped-def]
    """Find the slot of a ``pair`` (uint64, see ``_pair_of``), or the free one where it goes."""
    mask = np.int64(len(cached_equiv) - 1)
    slot = np.int64(mix(_SEED, pair) & _LOW) & mask
    while cached_equiv[slot] != 0 and cached_equiv[slot] >> _VERDICT_BITS != pair:
        slot = (slot + 1) & mask
    return slot


@compiled
def _pair_of(first_own, candidate, canonical):  # type: ignore[no-untyped-def]
    """Make one number (uint64) of two own types."""
    first = np.uint64(candidate - first_own)
    return (first << _SECOND_BITS) | np.uint64(canonical - first_own)


@noinline
def cached_equivalence(scratch, first_own, candidate, canonical):  # type: ignore[no-untyped-def]
    """Look a pair of untouched types up: EQUAL, NOT_EQUAL or UNKNOWN."""
    state = scratch.state
    if state[CACHED_PAIRS] == 0:
        return UNKNOWN
    pair = _pair_of(first_own, candidate, canonical)
    found = np.int64(scratch.cached_equiv[_slot_of(scratch.cached_equiv, pair)] & _VERDICT_MASK)
    levels = scratch.topo_level
    level = max(levels[candidate - first_own], levels[canonical - first_own])
    if found == NOT_EQUAL and state[LOWEST_MERGED] >= np.int64(level):
        return NOT_EQUAL
    if found == EQUAL and state[LOWEST_MAPPED] >= np.int64(level):
        return EQUAL
    return UNKNOWN


@compiled
def _empty_cache(scratch):  # type: ignore[no-untyped-def]
    """Forget all pairs."""
    scratch.state[CACHED_PAIRS] = 0
    for slot in range(len(scratch.cached_equiv)):
        scratch.cached_equiv[slot] = 0


@compiled
def _note(scratch, first_own, candidate, canonical, verdict):  # type: ignore[no-untyped-def]
    """Enter a pair as EQUAL or NOT_EQUAL (``verdict``); for want of room forget all others."""
    if 2 * scratch.state[CACHED_PAIRS] > len(scratch.cached_equiv):
        _empty_cache(scratch)
    pair = _pair_of(first_own, candidate, canonical)
    slot = _slot_of(scratch.cached_equiv, pair)
    if scratch.cached_equiv[slot] == 0:
        scratch.state[CACHED_PAIRS] += 1
    scratch.cached_equiv[slot] = (pair << _VERDICT_BITS) | np.uint64(verdict)


@noinline
def note_different(scratch, first_own, top, conflict):  # type: ignore[no-untyped-def]
    """Enter pairs that a failed walk of untouched types, with ``top`` frames left, shows to differ.

    conflict  the canonical type that was met with two candidates that are not identical, or -1

    That is all pairs that were being walked; with a conflict those that both meetings were under.
    """
    state = scratch.state
    hypot_list = scratch.hypot_list
    last = state[HYPOT_COUNT]
    if last < _WORTH_NOTING:
        return
    if conflict >= 0:
        canonical = np.int64(hypot_list[0])
        candidate = np.int64(scratch.records[canonical, HYPOT_MAP])
        levels = scratch.topo_level
        if max(levels[candidate - first_own], levels[canonical - first_own]) == _CIRCULAR:
            return
        last = np.int64(0)
        while np.int64(hypot_list[last]) != conflict:
            last += 1
    if 4 * state[CACHED_PAIRS] > len(scratch.cached_equiv):
        top = min(top, _NEAREST)  # those that the next walks come to
    for frame in range(top):
        entry = np.int64(scratch.frame_entry[frame])
        if entry > last:
            break
        canonical = np.int64(hypot_list[entry])
        candidate = np.int64(scratch.records[canonical, HYPOT_MAP])
        _note(scratch, first_own, candidate, canonical, NOT_EQUAL)


@noinline
def note_equal(base, own, scratch, first_own):  # type: ignore[no-untyped-def]
    """Enter the pairs of a untouched walk that succeeded, and was merged: they are equal.

    Only if none of the canonical types is mapped but the first, which the walk was for: then a walk
    from any of them, as long as that is so, maps nothing but the type that it is for.
    """
    records = scratch.records
    hypot_list = scratch.hypot_list
    if scratch.state[HYPOT_COUNT] < _WORTH_NOTING:
        return
    for verdict in range(2):
        for i in range(1, scratch.state[HYPOT_COUNT]):
            canonical = np.int64(hypot_list[i])
            kind = kind_of(word_at(base, own, np.int64(records[canonical, START]) + 1))
            if kind == STRUCT or kind == UNION or kind == TYPEDEF:
                if verdict == 0:
                    if records[canonical, CANONICAL] < IN_PROGRESS:
                        return
                else:
                    candidate = np.int64(records[canonical, HYPOT_MAP])
                    _note(scratch, first_own, candidate, canonical, EQUAL)


@compiled
def note_mapped(scratch, first_own, type_id, to):  # type: ignore[no-untyped-def]
    """Take account of ``type_id`` being mapped to ``to``, perhaps to itself."""
    if type_id >= first_own:
        state = scratch.state
        level = np.int64(scratch.topo_level[type_id - first_own])
        if level == np.int64(_CIRCULAR):
            level -= 1  # it is below itself
        state[LOWEST_MAPPED] = min(state[LOWEST_MAPPED], level)
        if to != type_id:
            state[LOWEST_MERGED] = min(state[LOWEST_MERGED], level)
