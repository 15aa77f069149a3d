"""The arrays that dedup's compiled functions work on, in two tuples: the base's and a module's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..compiled.huge_pages import Shape, alloc_zeros, power_of_two
from ..edit.remap import STRING_COLUMNS, TEXT_PER_HEAD
from ..format.strings import JUMPS, PIECE_BITS
from .signature import CANONICAL, RECORD_COLUMNS, START
from .state import ENOUGH_STEPS, STATE_SLOTS, STEPS_PER_TYPE

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


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
    unique: np.ndarray
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
    return BaseTables(  # in the order of the fields
        word, word, wide, wide, word, word, byte, byte, wide, wide, wide, byte, wide, wide,
        False, 1, 0, 0, -1, -1,
    )  # fmt: skip


class Scratch(NamedTuple):
    """Memory for one module at a time. N base types (void included), room for T own ones of W
    words, and for S bytes of strings.
    """

    records: np.ndarray  # uint32 (N + T, 4), by type id: see ``signature``
    classes: np.ndarray  # uint32 (N + T,), the same: see ``classes``, if ``state[CLASSIFIED]``
    # uint32 (N + T,): canonical types of the hypothetical map, in order of entry
    hypot_list: np.ndarray
    base_map_undo: np.ndarray  # uint32 (N,): base types whose mapping was changed, to be undone
    state: np.ndarray  # int64 (STATE_SLOTS,): see ``state``
    list_slots: np.ndarray  # uint64, a power of two: the module's lists of candidates by signature
    # uint64, a power of two: own full enums by content, twice own type + 1, and the parity when
    # they were entered (LIST_MASK and ENUM_MASK in ``state`` say how many slots this module uses)
    enum_slots: np.ndarray
    # uint32 (2 T,): slots of these two that are not 0: twice the slot, and which
    slots_used: np.ndarray
    ends: np.ndarray  # uint32 (T, 4): the two ends of each list
    links: np.ndarray  # uint32 (T, 2): next older and newer entry of the list
    frames: np.ndarray  # int64 (F, 4), F >= T: stack of the graph walk
    # uint32 (F,): for each frame of a cached walk, its entry of ``hypot_list``
    frame_entry: np.ndarray
    # uint32 (T,): own types (0-based) that match and first pass did not map, in order
    remaining: np.ndarray
    base_match: np.ndarray  # uint32 (T,): by own type (0-based), its partner in the base, or 0
    # uint8 (T,): kind of each own type, side by side for passes that look for a few
    kinds: np.ndarray
    match_state: np.ndarray  # uint8 (T,): how a type came by its partner, see ``pairing``
    # uint64 (T,): of own types that have no partner; of a batch, of its settled types that are no
    # references, one behind the other
    signatures: np.ndarray
    marks: np.ndarray  # uint64: a bit for each base type: whether it is a partner in this module
    # uint32 (T,): the module's structs, unions and typedefs (0-based), in order
    aggregates: np.ndarray
    forwards: np.ndarray  # uint32 (T,): its forward declarations
    pending: np.ndarray  # int64 (2 T,): own types to look at again
    names: np.ndarray  # uint64, a power of two >= 2 T: own types by name
    identity_stack: np.ndarray  # int64 (F, 3): of ``identical``
    # uint64 and int64, a power of two: pairs that it has compared
    identity_keys: np.ndarray
    identity_depths: np.ndarray
    # uint32 (T,): for an own typedef, a type that it is known to equal; 0 is none
    proved: np.ndarray
    topo_level: np.ndarray  # uint32 (T,): see ``equivalence_cache``
    # uint64, a power of two: pairs of own types that were walked, and the results
    cached_equiv: np.ndarray
    # int64 (T + 2,) and uint32 (W,): who refers to an own type
    first_user: np.ndarray
    users: np.ndarray
    # uint32 (S,) and (S / 16 + 1,): where the base has each of the module's strings, see
    # ``strings.map_runs``
    seen: np.ndarray
    shifts: np.ndarray
    jumps: np.ndarray  # uint32: what earlier modules met, see there
    own_strings: np.ndarray  # uint8 (O,), O >= S: strings that the base lacks
    # uint32, a power of two: by hash, the row of the last string of that hash, plus 1
    # (``state[STRING_MASK]`` says how many this module uses)
    string_heads: np.ndarray
    string_rows: np.ndarray  # uint32 (S, 3): a row for each own string, see ``remap``
    own: np.ndarray  # uint32 (W,): the module's words in the base's numbering
    # uint32 (W,) and (T + 1,): types that are kept, and where each starts
    out: np.ndarray
    out_offsets: np.ndarray
    new_ids: np.ndarray  # uint32 (T,): final id of each own type
    bound: np.ndarray  # uint32 (N + T, 2): forward types, and what defines them, see ``batches``


def fill_records(records: np.ndarray, starts: np.ndarray) -> None:
    """Fill the base's rows of a zeroed table of records (see ``signature``)."""
    records[: len(starts), START] = starts
    records[: len(starts), CANONICAL] = np.arange(len(starts), dtype=np.uint32)


def _layout(
    base_types: int, types: int, words: int, frames: int, text: int, own_text: int
) -> dict[str, tuple[Shape, DTypeLike]]:
    """Shape and dtype of each array of ``Scratch``; see ``new_scratch``."""
    rows = base_types + types
    frames = max(frames, types)
    slots = power_of_two(2 * types)
    walked = power_of_two(4 * frames)
    return {
        "records": ((rows, RECORD_COLUMNS), np.uint32),
        "classes": (rows, np.uint32),
        "hypot_list": (rows, np.uint32),
        "base_map_undo": (base_types, np.uint32),
        "state": (STATE_SLOTS, np.int64),
        "list_slots": (slots, np.uint64),
        "enum_slots": (slots, np.uint64),
        "slots_used": (2 * types, np.uint32),
        "ends": ((types, 4), np.uint32),
        "links": ((types, 2), np.uint32),
        "frames": ((frames, 4), np.int64),
        "frame_entry": (frames, np.uint32),
        "remaining": (types, np.uint32),
        "base_match": (types, np.uint32),
        "kinds": (types, np.uint8),
        "match_state": (types, np.uint8),
        "signatures": (types, np.uint64),
        "marks": ((base_types >> 6) + 1, np.uint64),
        "aggregates": (types, np.uint32),
        "forwards": (types, np.uint32),
        "pending": (2 * types + 64, np.int64),
        "names": (slots, np.uint64),
        "identity_stack": ((frames, 3), np.int64),
        "identity_keys": (walked, np.uint64),
        "identity_depths": (walked, np.int64),
        "proved": (types, np.uint32),
        "topo_level": (types, np.uint32),
        "cached_equiv": (power_of_two(8 * types), np.uint64),
        "first_user": (types + 2, np.int64),
        "users": (words, np.uint32),
        "seen": (text, np.uint32),
        "shifts": ((text >> PIECE_BITS) + 1, np.uint32),
        "jumps": (JUMPS, np.uint32),
        "own_strings": (own_text, np.uint8),
        "string_heads": (power_of_two(text // TEXT_PER_HEAD + 1), np.uint32),
        "string_rows": ((text, STRING_COLUMNS), np.uint32),
        "own": (words, np.uint32),
        "out": (words, np.uint32),
        "new_ids": (types, np.uint32),
        "out_offsets": (types + 1, np.uint32),
        "bound": ((rows, 2), np.uint32),
    }


def new_scratch(
    starts: np.ndarray, types: int, words: int, frames: int, text: int, own_text: int
) -> Scratch:
    """Scratch memory for modules of up to that many types, words of types and bytes of strings.

    starts  of the base's types; frames, own_text: F and O of ``Scratch``
    """
    scratch = Scratch(**alloc_zeros(_layout(len(starts), types, words, frames, text, own_text)))
    fill_records(scratch.records, starts)
    scratch.state[STEPS_PER_TYPE] = ENOUGH_STEPS
    return scratch


def batch_scratch(starts: np.ndarray, types: int, frames: int) -> Scratch:
    """Scratch memory for batches of a merge (``batches``) with up to that many own types in all.

    starts   of the base's types
    frames   how deep walks may go without asking for more

    What is there already, or lasts, is to be put in: ``own`` and ``out`` (the same), ``signatures``
    and ``out_offsets``. Of most arrays little is touched, so only the two that are read at random
    are on large pages. ``new_ids`` are filled when nothing of ``remaining`` is needed any more.
    """
    layout = _layout(len(starts), types, 1, frames, 1, 1)
    for name in ("identity_keys", "identity_depths"):
        layout[name] = (power_of_two(4 * frames), layout[name][1])
    del layout["new_ids"]
    often = alloc_zeros({name: layout.pop(name) for name in ("records", "list_slots")})
    seldom = alloc_zeros(layout, huge=False)
    scratch = Scratch(**often, **seldom, new_ids=seldom["remaining"])
    fill_records(scratch.records, starts)
    scratch.state[STEPS_PER_TYPE] = ENOUGH_STEPS
    return scratch


def cut_to_size(scratch: Scratch, types: int, words: int, text: int) -> Scratch:
    """Views of ``scratch`` that have just the room that a module needs, so that checks of indices
    see what leaves it. See ``new_scratch`` for the arguments."""
    base_types, frames = len(scratch.base_map_undo), len(scratch.frames)
    layout = _layout(base_types, types, words, frames, text, len(scratch.own_strings))
    cut: dict[str, np.ndarray] = {}
    for name, (shape, _) in layout.items():
        if name not in _CLEARED_BY_THE_NEXT:
            rows = shape if isinstance(shape, int) else shape[0]
            cut[name] = getattr(scratch, name)[:rows]
    return scratch._replace(**cut)


_CLEARED_BY_THE_NEXT = {"list_slots", "enum_slots", "slots_used"}  # module, see ``empty_lists``
