"""The arrays that the kernels of dedup work on, in two bundles: the base's and a module's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..compiled.huge_pages import Shape, alloc_zeros, power_of_two
from ..edit.remap import STRING_COLUMNS, TEXT_PER_HEAD
from ..format.strings import JUMPS, PIECE_BITS
from .signature import CANONICAL, RECORD_COLUMNS, START
from .state import ENOUGH_STEPS, STATE_SLOTS, STEPS_PER_TYPE


class BaseTables(NamedTuple):
    """The base, read-only. See ``BaseIndex`` for what each array holds.

    module_name, task_struct_name   offsets of these names in the strings, -1 where they are not
    """

    words: np.ndarray
    starts: np.ndarray
    group_slots: np.ndarray
    group_bits: np.ndarray
    group_starts: np.ndarray
    candidates: np.ndarray
    alone: np.ndarray
    named_once: np.ndarray
    name_slots: np.ndarray
    typedef_slots: np.ndarray
    enum_slots: np.ndarray
    strings: np.ndarray
    string_slots: np.ndarray
    string_bits: np.ndarray
    strings_repeat: bool
    type_end: int
    entries: int
    capacity: int
    module_name: int
    task_struct_name: int


def blank_tables() -> BaseTables:
    """Tables of the right types with nothing in them."""
    word, wide, byte = (np.zeros(0, kind) for kind in (np.uint32, np.uint64, np.uint8))
    return BaseTables(
        words=word,
        starts=word,
        group_slots=wide,
        group_bits=wide,
        group_starts=word,
        candidates=word,
        alone=byte,
        named_once=byte,
        name_slots=wide,
        typedef_slots=wide,
        enum_slots=wide,
        strings=byte,
        string_slots=wide,
        string_bits=wide,
        strings_repeat=False,
        type_end=1,
        entries=0,
        capacity=0,
        module_name=-1,
        task_struct_name=-1,
    )


class Scratch(NamedTuple):
    """Memory for one module at a time. N base types (void included), room for T own ones of W
    words, and for S bytes of strings.

    records     uint32 (N + T, 4), by type id: see ``signature``
    pairs       uint32 (N + T,): hypothetical map, canonical types in order of entry
    edits       uint32 (N,): base types whose mapping was changed, to be undone
    state       int64 (STATE_SLOTS,): see ``state``
    list_slots  uint64, a power of two: the module's lists of candidates by signature
    enum_slots  uint64, a power of two: own full enums by content, own type + 1
                (of both, ``state[LIST_MASK]`` says how many slots this module uses)
    fine_slots  uint64, the same: lists of those in one list that ``shortcuts`` cannot tell apart
    slots_used  uint32 (3 T,): slots of these three that are not 0: 4 times the slot, and which
    ends        uint32 (2 T, 4): the two ends of each list
    links       uint32 (2 T, 2): next older and newer entry of the list, and of the fine list
    list_split  uint8 (2 T,): of each list, whether its types are in fine lists too
    frames      int64 (F, 4), F >= T: stack of the graph walk
    framed      uint32 (F,): of each frame of a walk that is remembered, its entry of ``pairs``
    left        uint32 (T,): own types (0-based) that match and first pass left, in order
    mates       uint32 (T,): by own type (0-based), its partner in the base, or 0
    kinds       uint8 (T,): kind of each own type, side by side for passes that look for a few
    trust       uint8 (T,): how sure its partner is
    signatures  uint64 (T,): of own types that have no partner
    marks       uint64: a bit for each base type: whether it is a partner of this module
    aggregates  uint32 (T,): the module's structs, unions and typedefs (0-based), in order
    forwards    uint32 (T,): its forward declarations
    pending     int64 (2 T,): own types to look at again
    names       uint64, a power of two >= 2 T: own types by name
    identity_stack  int64 (F, 3): of ``identical``
    identity_keys, identity_depths  uint64 and int64, a power of two: pairs it has compared
    proved      uint32 (T,): of an own typedef, a type that it is known to equal; 0 is none
    unfolded    uint64 (N + T,): see ``unfolding``; 0 is not known yet
    heights     uint32 (T,): see ``remembered``
    verdicts    uint64, a power of two: pairs of own types that were walked, and what came of it
    first_user, users   int64 (T + 2,) and uint32 (W,): who refers to an own type
    seen, shifts    uint32 (S,) and (S / 16 + 1,): where the base has each of the module's
                strings, see ``strings.map_runs``
    jumps       uint32: what earlier modules met, see there
    own_strings uint8 (S,): those that it lacks
    string_heads    uint32, a power of two: by hash, the row of the last one of that hash, plus 1
                (``state[STRING_MASK]`` says how many this module uses)
    string_rows uint32 (S / 2 + 1, 3): a row for each, see ``intake``
    own         uint32 (W,): the module's words in the base's numbering
    out, out_offsets    uint32 (W,) and (T + 1,): what is left of them, and where each type starts
    new_ids     uint32 (T,): final id of each own type
    """

    records: np.ndarray
    pairs: np.ndarray
    edits: np.ndarray
    state: np.ndarray
    list_slots: np.ndarray
    enum_slots: np.ndarray
    fine_slots: np.ndarray
    slots_used: np.ndarray
    ends: np.ndarray
    links: np.ndarray
    list_split: np.ndarray
    frames: np.ndarray
    framed: np.ndarray
    left: np.ndarray
    mates: np.ndarray
    kinds: np.ndarray
    trust: np.ndarray
    signatures: np.ndarray
    marks: np.ndarray
    aggregates: np.ndarray
    forwards: np.ndarray
    pending: np.ndarray
    names: np.ndarray
    identity_stack: np.ndarray
    identity_keys: np.ndarray
    identity_depths: np.ndarray
    proved: np.ndarray
    unfolded: np.ndarray
    heights: np.ndarray
    verdicts: np.ndarray
    first_user: np.ndarray
    users: np.ndarray
    seen: np.ndarray
    shifts: np.ndarray
    jumps: np.ndarray
    own_strings: np.ndarray
    string_heads: np.ndarray
    string_rows: np.ndarray
    own: np.ndarray
    out: np.ndarray
    new_ids: np.ndarray
    out_offsets: np.ndarray


def fill_records(records: np.ndarray, starts: np.ndarray) -> None:
    """Fill the base's rows of a zeroed table of records (see ``signature``)."""
    records[: len(starts), START] = starts
    records[: len(starts), CANONICAL] = np.arange(len(starts), dtype=np.uint32)


def new_scratch(
    starts: np.ndarray, edits: int, types: int, words: int, frames: int, text: int
) -> Scratch:
    """Scratch memory for modules of up to that many types, words of types and bytes of strings.

    starts  of the base's types; edits, frames: N and F of ``Scratch``
    """
    rows = len(starts) + types
    frames = max(frames, types)
    slots = power_of_two(2 * types)
    walked = power_of_two(4 * frames)
    layout: dict[str, tuple[Shape, DTypeLike]] = {
        "records": ((rows, RECORD_COLUMNS), np.uint32),
        "pairs": (rows, np.uint32),
        "edits": (edits, np.uint32),
        "state": (STATE_SLOTS, np.int64),
        "list_slots": (slots, np.uint64),
        "enum_slots": (slots, np.uint64),
        "fine_slots": (slots, np.uint64),
        "slots_used": (3 * types, np.uint32),
        "ends": ((2 * types, 4), np.uint32),
        "links": ((2 * types, 2), np.uint32),
        "list_split": (2 * types, np.uint8),
        "frames": ((frames, 4), np.int64),
        "framed": (frames, np.uint32),
        "left": (types, np.uint32),
        "mates": (types, np.uint32),
        "kinds": (types, np.uint8),
        "trust": (types, np.uint8),
        "signatures": (types, np.uint64),
        "marks": ((len(starts) >> 6) + 1, np.uint64),
        "aggregates": (types, np.uint32),
        "forwards": (types, np.uint32),
        "pending": (2 * types + 64, np.int64),
        "names": (slots, np.uint64),
        "identity_stack": ((frames, 3), np.int64),
        "identity_keys": (walked, np.uint64),
        "identity_depths": (walked, np.int64),
        "proved": (types, np.uint32),
        "unfolded": (rows, np.uint64),
        "heights": (types, np.uint32),
        "verdicts": (power_of_two(8 * types), np.uint64),
        "first_user": (types + 2, np.int64),
        "users": (words, np.uint32),
        "seen": (text, np.uint32),
        "shifts": ((text >> PIECE_BITS) + 1, np.uint32),
        "jumps": (JUMPS, np.uint32),
        "own_strings": (text, np.uint8),
        "string_heads": (power_of_two(text // TEXT_PER_HEAD + 1), np.uint32),
        "string_rows": ((text // 2 + 1, STRING_COLUMNS), np.uint32),
        "own": (words, np.uint32),
        "out": (words, np.uint32),
        "new_ids": (types, np.uint32),
        "out_offsets": (types + 1, np.uint32),
    }
    scratch = Scratch(**alloc_zeros(layout))
    fill_records(scratch.records, starts)
    scratch.state[STEPS_PER_TYPE] = ENOUGH_STEPS
    return scratch
