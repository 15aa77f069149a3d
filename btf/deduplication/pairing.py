"""A first partner in the base for each type of a module, in one sweep over its records.

See ``matching``, which proves the pairs. Everything is done while a record is at hand: it is
remapped to the base's numbering, primitive types are deduplicated, and the others are compared with
the base type after the last partner, and with the one base type of their name.

Parameters used throughout:

base     see ``tables.BaseTables``
own      uint32: the module's words in the base's numbering
scratch  see ``tables.Scratch``
words, offsets, source, source_start, first_source, delta   the module, see ``remap``
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined
from ..edit.remap import known_name, remap_type
from ..format.kinds import (
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    FWD,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    STRUCT,
    TYPEDEF,
    UNION,
    is_enum,
    is_never_merged,
    is_scalar,
    kind_of,
)
from ..format.strings import seed_of
from .hash_tables import find_name
from .index import UNIQUE
from .primitives import dedup_primitive
from .signature import CANONICAL, START, UNMAPPED
from .state import AGGREGATES, FORWARDS

# ``Scratch.match_state``: how a type came by its partner, if it has one.
GUESSED = 0  # it follows its predecessor's
NAMED = 1  # the base has one type of that kind and name
REFERRED = 2  # a type of which one of these two holds refers to it
FOLLOWED = 3  # one of these two, and its references lead to partners
REJECTED = 4  # had one, but they differ
FINAL = 5  # not decided here: a primitive type, or one that always stays
DECLARED = 6  # a forward declaration whose partner is a definition


@inlined
def agree(base, own, at_base, at):  # type: ignore[no-untyped-def]
    """Whether two records agree in every word that is no type id.

    base          uint32: words of the base; the other parameters of this name are its tables
    at_base, at   first word of either record, in ``base`` and in ``own``
    """
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
    """Whether a type of the module that is not remapped yet has the name of the base type
    ``wanted``, and its kind or that of a declaration of it.

    at   first word of the module's type in ``words``
    """
    at_base = np.int64(base.starts[wanted])
    if known_name(words[at], source, source_start, scratch) != base.words[at_base]:
        return False
    kind = kind_of(words[at + 1])
    return kind == FWD or kind == kind_of(base.words[at_base + 1])


@compiled
def pair_up(base, scratch, words, offsets, source, source_start, first_source, delta):  # type: ignore[no-untyped-def]
    """Remap the module, deduplicate its primitive types, and give others a first partner.

    Fills ``own``, ``records``, ``base_match``, ``match_state``, ``kinds``, ``aggregates`` and
    ``forwards`` of ``scratch``. See ``remap.remap_types`` for when all of it is void. Returns how
    many FWDs stay.
    """
    records = scratch.records
    state = scratch.state
    base_match = scratch.base_match
    kinds = scratch.kinds
    match_state = scratch.match_state
    own = scratch.own
    base_words = base.words
    base_strings = len(base.strings)
    first_own = np.int64(base.type_end)
    seed = seed_of(base.string_slots)
    own_fwds = np.int64(0)
    expected = np.int64(0)
    aggregates = np.int64(0)
    forwards = np.int64(0)
    for index in range(len(offsets) - 1):
        type_id = first_own + index
        at = np.int64(offsets[index])
        end = np.int64(offsets[index + 1])
        remap_type(words, at, end, source, source_start, first_source, delta, base, scratch)
        records[type_id, START] = len(base_words) + at
        records[type_id, CANONICAL] = UNMAPPED
        kind = kind_of(own[at + 1])
        kinds[index] = kind
        base_match[index] = 0
        match_state[index] = GUESSED
        agrees = 0 < expected < first_own and agree(
            base_words, own, np.int64(base.starts[expected]), at
        )
        if is_scalar(kind) or kind == FWD or is_enum(kind):
            # Not for forward enums, which any enum of the name may stand for.
            forward = is_enum(kind) and own[at + 1] & INFO_VLEN_MASK == 0
            if (
                agrees
                and base.unique[expected] == UNIQUE
                and not forward
                and (kind != FWD or own[at + 2] == base_words[np.int64(base.starts[expected]) + 2])
            ):
                found = expected
                records[type_id, CANONICAL] = found
            else:
                dedup_primitive(base, own, scratch, first_own, type_id, kind)
                found = np.int64(records[type_id, CANONICAL])
            match_state[index] = FINAL
            if kind == FWD:
                scratch.forwards[forwards] = index
                forwards += 1
                own_fwds += found == type_id
            if found < first_own:
                base_match[index] = found
                expected = found + 1
            continue
        if is_never_merged(kind):
            records[type_id, CANONICAL] = type_id
            match_state[index] = FINAL
            continue
        if agrees and HEAD_IS_REF[kind]:
            # a record of three words agrees with many: look where it leads, if that is known
            referred = np.int64(own[at + 2])
            wanted = base_words[np.int64(base.starts[expected]) + 2]
            if referred == 0:
                agrees = wanted == 0
            elif first_own <= referred < type_id:
                agrees = base_match[referred - first_own] == wanted
            elif type_id < referred:
                agrees = wanted != 0 and _may_pair(
                    base, scratch, words, np.int64(offsets[referred - first_own]), source,
                    source_start, wanted,
                )  # fmt: skip
        if agrees:
            base_match[index] = expected
        if kind == STRUCT or kind == UNION or kind == TYPEDEF:
            scratch.aggregates[aggregates] = index
            aggregates += 1
            if agrees and base.named_once[expected]:
                match_state[index] = NAMED
            elif own[at] != 0 and np.int64(own[at]) < base_strings:
                named = find_name(
                    base.typedef_slots if kind == TYPEDEF else base.name_slots, own[at], seed
                )
                if named > 0 and agree(base_words, own, np.int64(base.starts[named]), at):
                    base_match[index] = named
                    match_state[index] = NAMED
        if base_match[index] != 0:
            expected = np.int64(base_match[index]) + 1
    state[AGGREGATES] = aggregates
    state[FORWARDS] = forwards
    return own_fwds
