"""Whether two types are the same: the walk over both type graphs, and what follows from success.

Words used here, as in libbpf: the *candidate* is the type being deduplicated, the *canonical* one
is what it may be mapped to (already known to be its own representative). The *hypothetical map*
pairs canonical types with candidate types while a walk goes on; if the walk ends well, it is
merged into the real map.

Three questions of different strictness are asked of a pair:

``equivalent``  the two graphs agree, where a forward declaration agrees with any definition of
                its name. Not transitive, hence the order of candidates matters.
``identical``   the two agree literally, at most 16 structs, arrays and prototypes deep. Asked
                when one canonical type is met with two candidate types (compilers emit a type
                twice within a unit).
``same words``  prototypes, pointers and so on once what they refer to is settled.

All walks keep their own stack and end on every input, cycles of typedefs and pointers included.

Parameters used throughout:

base, own   uint32: words of the base, and the module's in the base's numbering. Positions count
            through both, see ``signature.word_at``
records     uint32, by type id: see ``signature``
scratch     see ``tables.Scratch``; state and base_map_undo are its arrays of these names
first_own   id of the first own type
a, b        ids of two types; at_a, at_b: positions of their first words
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, noinline
from ..format.kinds import (
    ARRAY,
    FUNC_PROTO,
    FWD,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    REF_STEP,
    STRUCT,
    TYPEDEF,
    UNION,
    VOID,
    is_chain,
    is_enum,
    is_scalar,
    kind_of,
)
from ..format.records import record_length, reference_count, reference_word
from .equivalence_cache import NOT_EQUAL, cached_equivalence, note_mapped
from .signature import CANONICAL, EPOCH, HYPOT_MAP, IN_PROGRESS, START, mix, word_at
from .state import (
    BASE_UNDO_COUNT,
    CACHING,
    CURRENT_EPOCH,
    HYPOT_ADJUST_CANON,
    HYPOT_COUNT,
    IDENTITY_STAMP,
    IDENTITY_STEPS,
    TYPES,
    UNTOUCHED_WALK,
)

IDENTITY_DEPTH = 16  # structs, arrays and prototypes that ``identical`` goes down, as in libbpf

# Results of ``equivalent``.
DIFFERENT = 0
EQUIVALENT = 1
UNWALKABLE = -1  # a VAR, DATASEC or DECL_TAG where only types can be
TOO_DEEP = -2  # no room for another frame: to be asked again with more

_DEPTH_BITS = 5  # of an entry of ``identical``: levels left; above them the stamp of its call
_DEPTH_MASK = 31

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_31 = np.uint32(31)


@compiled
def is_mapped(records, type_id):  # type: ignore[no-untyped-def]
    """Whether ``type_id`` has its canonical type."""
    return records[type_id, CANONICAL] < IN_PROGRESS


@compiled
def resolve(records, type_id):  # type: ignore[no-untyped-def]
    """Follow the mapping of ``type_id`` to its end; itself while it is not mapped."""
    to = records[type_id, CANONICAL]
    while to < IN_PROGRESS and np.int64(to) != type_id:
        type_id = np.int64(to)
        to = records[type_id, CANONICAL]
    return type_id


@compiled
def map_type(records, first_own, base_map_undo, state, type_id, to):  # type: ignore[no-untyped-def]
    """Map ``type_id`` to ``to``; note the first change of a base type, to be undone afterwards."""
    if type_id < first_own and np.int64(records[type_id, CANONICAL]) == type_id:
        base_map_undo[state[BASE_UNDO_COUNT]] = type_id
        state[BASE_UNDO_COUNT] += 1
    records[type_id, CANONICAL] = to


@compiled
def same_record(base, own, records, a, b):  # type: ignore[no-untyped-def]
    """Whether two types have the same words, references included."""
    at_a = np.int64(records[a, START])
    at_b = np.int64(records[b, START])
    info = word_at(base, own, at_a + 1)
    if info != word_at(base, own, at_b + 1):
        return False
    for word in range(record_length(info)):
        if word_at(base, own, at_a + word) != word_at(base, own, at_b + word):
            return False
    return True


@compiled
def compatible_enums(base, own, records, a, b):  # type: ignore[no-untyped-def]
    """Whether two enums are the same, or have one name and one is forward (no enumerators)."""
    at_a = np.int64(records[a, START])
    at_b = np.int64(records[b, START])
    info_a = word_at(base, own, at_a + 1)
    info_b = word_at(base, own, at_b + 1)
    if info_a & INFO_VLEN_MASK != 0 and info_b & INFO_VLEN_MASK != 0:
        return same_record(base, own, records, a, b)
    kind_b = kind_of(info_b)
    return word_at(base, own, at_a) == word_at(base, own, at_b) and is_enum(kind_b)


@compiled
def same_but_references(base, own, at_a, at_b):  # type: ignore[no-untyped-def]
    """Whether two structs, unions, typedefs, arrays or prototypes agree but for type ids."""
    info = word_at(base, own, at_a + 1)
    if info != word_at(base, own, at_b + 1):
        return False
    if word_at(base, own, at_a) != word_at(base, own, at_b):
        return False
    kind = kind_of(info)
    if kind != FUNC_PROTO and kind != TYPEDEF:
        if word_at(base, own, at_a + 2) != word_at(base, own, at_b + 2):
            return False
    if kind == ARRAY:
        return word_at(base, own, at_a + 5) == word_at(base, own, at_b + 5)
    vlen = np.int64(info & INFO_VLEN_MASK)
    at_a += HEAD_WORDS
    at_b += HEAD_WORDS
    if kind == FUNC_PROTO:
        for _ in range(vlen):
            if word_at(base, own, at_a) != word_at(base, own, at_b):
                return False
            at_a += 2
            at_b += 2
    elif kind == STRUCT or kind == UNION:
        for _ in range(vlen):
            if word_at(base, own, at_a) != word_at(base, own, at_b):
                return False
            if word_at(base, own, at_a + 2) != word_at(base, own, at_b + 2):
                return False
            at_a += 3
            at_b += 3
    return True


@compiled
def _seen_deeper(keys, depths, stamp, a, b, depth):  # type: ignore[no-untyped-def]
    """Enter the pair (a, b) as compared with ``depth`` levels left.

    keys, depths, stamp   ``identity_keys``, ``identity_depths``, and the call's number

    Returns (whether it was compared with no more levels left, whether it is a new entry).
    """
    mask = np.int64(len(keys) - 1)
    key = (np.uint64(a) << _32) | np.uint64(b)
    slot = np.int64(mix(key, np.uint64(1)) & _LOW) & mask
    while depths[slot] >> _DEPTH_BITS == stamp:
        if keys[slot] == key:
            if depths[slot] & _DEPTH_MASK <= depth:
                return True, False
            depths[slot] = (stamp << _DEPTH_BITS) | depth
            return False, False
        slot = (slot + 1) & mask
    keys[slot] = key
    depths[slot] = (stamp << _DEPTH_BITS) | depth
    return False, True


@noinline
def identical(base, own, scratch, first, second):  # type: ignore[no-untyped-def]
    """Whether the types ``first`` and ``second`` are literally the same, IDENTITY_DEPTH levels
    deep: EQUIVALENT, DIFFERENT or TOO_DEEP.

    A pair that was compared with fewer levels left need not be compared again: that bounds the
    work on types whose graph fans out and joins again, which takes libbpf exponential time.
    Circles of typedefs and pointers, which libbpf never leaves, agree if they do for as many steps
    as both have types: two sequences of periods p and q that agree on p + q places agree for ever.
    """
    records = scratch.records
    stack = scratch.identity_stack
    keys = scratch.identity_keys
    depths = scratch.identity_depths
    state = scratch.state
    state[IDENTITY_STAMP] += 1  # entries with an older stamp are free
    stamp = state[IDENTITY_STAMP]
    entries = np.int64(0)
    stack[0, 0] = first
    stack[0, 1] = second
    stack[0, 2] = IDENTITY_DEPTH
    top = np.int64(1)
    while top > 0:
        top -= 1
        a = stack[top, 0]
        b = stack[top, 1]
        depth = stack[top, 2]
        steps = np.int64(0)
        while True:
            state[IDENTITY_STEPS] += 1
            if depth <= 0:
                return DIFFERENT
            at_a = np.int64(records[a, START])
            at_b = np.int64(records[b, START])
            info = word_at(base, own, at_a + 1)
            info_b = word_at(base, own, at_b + 1)
            kind = kind_of(info)
            if kind != kind_of(info_b):
                return DIFFERENT
            chain = is_chain(kind)
            if steps == 0 or not chain:  # a pair within a chain is not worth an entry
                seen, new = _seen_deeper(keys, depths, stamp, a, b, depth)
                if seen:
                    break
                if new:
                    entries += 1
                    if 2 * entries > len(keys):
                        return TOO_DEEP
            if chain:
                steps += 1
                if steps > 2 * state[TYPES]:
                    break
                if info != info_b or word_at(base, own, at_a) != word_at(base, own, at_b):
                    return DIFFERENT
                a = np.int64(word_at(base, own, at_a + 2))
                b = np.int64(word_at(base, own, at_b + 2))
                continue
            if kind == VOID:
                break
            if is_scalar(kind) or kind == FWD:
                if not same_record(base, own, records, a, b):
                    return DIFFERENT
                break
            if is_enum(kind):
                if not compatible_enums(base, own, records, a, b):
                    return DIFFERENT
                break
            if kind != ARRAY and kind != STRUCT and kind != UNION and kind != FUNC_PROTO:
                return DIFFERENT
            if not same_but_references(base, own, at_a, at_b):
                return DIFFERENT
            word = reference_word(info, 0)
            stride = np.int64(REF_STEP[kind])
            for _ in range(reference_count(info)):
                referred_a = np.int64(word_at(base, own, at_a + word))
                referred_b = np.int64(word_at(base, own, at_b + word))
                word += stride
                if referred_a == referred_b:
                    continue
                if top == len(stack):
                    return TOO_DEEP
                stack[top, 0] = referred_a
                stack[top, 1] = referred_b
                stack[top, 2] = depth - 1
                top += 1
            break
    return EQUIVALENT


@compiled
def clear_hypot_map(state):  # type: ignore[no-untyped-def]
    """Clear the hypothetical map: entries of older epochs do not count."""
    state[CURRENT_EPOCH] += 1
    state[HYPOT_COUNT] = 0
    state[HYPOT_ADJUST_CANON] = 0


@noinline
def equivalent(base, own, scratch, first_own, candidate, canonical):  # type: ignore[no-untyped-def]
    """Walk the graphs of ``candidate`` and ``canonical`` side by side.

    Returns (EQUIVALENT, DIFFERENT, UNWALKABLE or TOO_DEEP; frames of the walk that were not at
    their end; the canonical type that was met with two candidates, or -1).

    The order of the walk (references in the order of the record, an array's index before its
    element, a prototype's return type before its parameters; depth first) decides what gets
    paired first, and so is part of the contract.
    """
    records = scratch.records
    hypot_list = scratch.hypot_list
    state = scratch.state
    epoch = np.uint32(state[CURRENT_EPOCH])
    untouched = state[UNTOUCHED_WALK] != 0
    # Frames: where the next reference of either side is, how many are left, their distance.
    stack = scratch.frames
    top = np.int64(0)
    no_conflict = np.int64(-1)
    while True:
        # -- one pair
        descend = False
        resolved = resolve(records, canonical)
        if resolve(records, candidate) != resolved:
            at_canonical = np.int64(records[canonical, START])
            info_canonical = word_at(base, own, at_canonical + 1)
            kind_canonical = kind_of(info_canonical)
            if kind_canonical == FWD and resolved != canonical:
                # a declaration whose definition is known by now: go on with that
                at = np.int64(records[resolved, START])
                info = word_at(base, own, at + 1)
                if kind_of(info) != FWD:
                    canonical = resolved
                    at_canonical = at
                    info_canonical = info
                    kind_canonical = kind_of(info)
            if records[canonical, EPOCH] == epoch:
                paired = np.int64(records[canonical, HYPOT_MAP])
                if paired != candidate:
                    same = identical(base, own, scratch, paired, candidate)
                    if same != EQUIVALENT:
                        name = word_at(base, own, np.int64(records[candidate, START]))
                        met_alone = name == word_at(base, own, at_canonical)
                        return same, top, canonical if met_alone else no_conflict
            else:
                records[canonical, EPOCH] = epoch
                records[canonical, HYPOT_MAP] = candidate
                hypot_list[state[HYPOT_COUNT]] = canonical
                state[HYPOT_COUNT] += 1
                at_candidate = np.int64(records[candidate, START])
                info_candidate = word_at(base, own, at_candidate + 1)
                kind = kind_of(info_candidate)
                if word_at(base, own, at_candidate) != word_at(base, own, at_canonical):
                    return DIFFERENT, top, no_conflict
                if kind != kind_canonical:
                    if kind == FWD:
                        real = kind_canonical
                        declared = UNION if info_candidate >> _31 else STRUCT
                    elif kind_canonical == FWD:
                        real = kind
                        declared = UNION if info_canonical >> _31 else STRUCT
                        if declared == real and canonical < first_own:
                            state[HYPOT_ADJUST_CANON] = 1
                    else:
                        return DIFFERENT, top, no_conflict
                    if declared != real:
                        return DIFFERENT, top, no_conflict
                elif is_chain(kind):
                    if info_candidate != info_canonical:
                        return DIFFERENT, top, no_conflict
                    candidate = np.int64(word_at(base, own, at_candidate + 2))
                    canonical = np.int64(word_at(base, own, at_canonical + 2))
                    descend = True
                elif kind == STRUCT or kind == UNION or kind == FUNC_PROTO or kind == ARRAY:
                    if not same_but_references(base, own, at_candidate, at_canonical):
                        return DIFFERENT, top, no_conflict
                    left = reference_count(info_candidate)
                    word = reference_word(info_candidate, 0)
                    stride = np.int64(REF_STEP[kind])
                    if kind == ARRAY:  # the index type first, then the element's type before it
                        word += stride
                        stride = -stride
                    if left > 0:
                        if top == len(stack):
                            return TOO_DEEP, top, no_conflict
                        if untouched:
                            known = cached_equivalence(scratch, first_own, candidate, canonical)
                            if known == NOT_EQUAL:
                                return DIFFERENT, top, no_conflict
                            scratch.frame_entry[top] = state[HYPOT_COUNT] - 1
                        stack[top, 0] = at_candidate + word
                        stack[top, 1] = at_canonical + word
                        stack[top, 2] = left
                        stack[top, 3] = stride
                        top += 1
                elif is_scalar(kind) or kind == FWD:
                    if not same_record(base, own, records, candidate, canonical):
                        return DIFFERENT, top, no_conflict
                elif is_enum(kind):
                    if not compatible_enums(base, own, records, candidate, canonical):
                        return DIFFERENT, top, no_conflict
                else:
                    return UNWALKABLE, top, no_conflict
        if descend:
            continue
        # -- the next pair of references
        if untouched:
            while top > 0 and stack[top - 1, 2] == 0:
                top -= 1
        if top == 0:
            return EQUIVALENT, top, no_conflict
        frame = top - 1
        word_candidate = stack[frame, 0]
        word_canonical = stack[frame, 1]
        candidate = np.int64(word_at(base, own, word_candidate))
        canonical = np.int64(word_at(base, own, word_canonical))
        stack[frame, 2] -= 1
        if stack[frame, 2] == 0 and not untouched:
            top = frame
        else:
            stride = stack[frame, 3]
            stack[frame, 0] = word_candidate + stride
            stack[frame, 1] = word_canonical + stride


@compiled
def merge_hypot_map(base, own, scratch, first_own):  # type: ignore[no-untyped-def]
    """Put the hypothetical map of a walk that ended well into the real map.

    Forward declarations learn their definition, on whichever side it is. Structs whose canonical
    counterpart is settled are mapped at once. If the base would have to change, only its forward
    declarations are pointed to the module's definitions.
    """
    records = scratch.records
    hypot_list = scratch.hypot_list
    base_map_undo = scratch.base_map_undo
    state = scratch.state
    for i in range(state[HYPOT_COUNT]):
        canonical = np.int64(hypot_list[i])
        target = resolve(records, np.int64(records[canonical, HYPOT_MAP]))
        canonical = resolve(records, canonical)
        kind_target = kind_of(word_at(base, own, np.int64(records[target, START]) + 1))
        kind_canonical = kind_of(word_at(base, own, np.int64(records[canonical, START]) + 1))
        if kind_target != FWD and kind_canonical == FWD:
            map_type(records, first_own, base_map_undo, state, canonical, target)
            if state[CACHING]:
                note_mapped(scratch, first_own, canonical, target)
        if state[HYPOT_ADJUST_CANON]:
            continue
        if kind_target == FWD and kind_canonical != FWD:
            map_type(records, first_own, base_map_undo, state, target, canonical)
            if state[CACHING]:
                note_mapped(scratch, first_own, target, canonical)
        if (
            (kind_target == STRUCT or kind_target == UNION)
            and kind_canonical != FWD
            and is_mapped(records, canonical)
            and not is_mapped(records, target)
        ):
            records[target, CANONICAL] = canonical
            if state[CACHING]:
                note_mapped(scratch, first_own, target, canonical)
