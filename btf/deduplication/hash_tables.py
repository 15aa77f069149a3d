"""The hash tables of dedup: flat arrays of uint64 slots with linear probing; 0 is a free slot.

Their length is a power of two, and at least half of the slots are free. Most have the upper half of
the hash in a slot's upper half and a small number in its lower half; tables of names have the name.

Parameters used throughout:

slots       uint64: the table; only its first ``mask + 1`` slots are in use
h           uint64: hash; its lower half says where to begin, its upper half is compared
name_slots  uint64: table of types by name: name_off above, type id + 1 below, the id of void
            standing for several types of that name
name        uint32: offset of a name in the strings
seed        uint64: of the base's hashes, see ``format.strings.new_slots``
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from .signature import mix

NAME_SEED = np.uint64(0x13198A2E03707344)
FIRST_CAPACITY = 4  # of libbpf's hash table

_HIGH = np.uint64(0xFFFFFFFF00000000)
_LOW = np.uint64(0xFFFFFFFF)


@compiled
def table_is_full(entries, capacity):  # type: ignore[no-untyped-def]
    """Whether libbpf's hash table of ``entries`` and ``capacity`` grows before its next entry."""
    return capacity == 0 or (entries + 1) * 4 // 3 > capacity


@compiled
def slots_for(entries):  # type: ignore[no-untyped-def]
    """Return the length of a table for that many entries, as in ``huge_pages.power_of_two``."""
    slots = np.int64(16)
    while slots < 2 * entries:
        slots *= 2
    return slots


@compiled
def find_entry(slots, mask, h):  # type: ignore[no-untyped-def]
    """Find the number entered under ``h`` (as number + 1), the only one; -1 if there is none."""
    slot = np.int64(h & _LOW) & mask
    tag = h & _HIGH
    while slots[slot] != 0:
        if slots[slot] & _HIGH == tag:
            return np.int64(slots[slot] & _LOW) - 1
        slot = (slot + 1) & mask
    return np.int64(-1)


@compiled
def find_group(group_slots, h):  # type: ignore[no-untyped-def]
    """Find the base's group of candidates with signature ``h``; -1 if there is none.

    group_slots  see ``BaseIndex``
    """
    return find_entry(group_slots, np.int64(len(group_slots) - 1), h)


@compiled
def enter_content(slots, mask, h, value):  # type: ignore[no-untyped-def]
    """Enter ``value`` (not 0) under ``h``; returns its slot. Others may have the same hash."""
    slot = np.int64(h & _LOW) & mask
    while slots[slot] != 0:
        slot = (slot + 1) & mask
    slots[slot] = (h & _HIGH) | np.uint64(value)
    return slot


@compiled
def next_content(slots, mask, h, slot):  # type: ignore[no-untyped-def]
    """Step through the entries under ``h``: (value, slot after it), value 0 at the end.

    slot  -1 to begin with, then what the last call returned
    """
    if slot < 0:
        slot = np.int64(h & _LOW)
    slot &= mask
    while slots[slot] != 0:
        if slots[slot] & _HIGH == h & _HIGH:
            return np.int64(slots[slot] & _LOW), slot + 1
        slot = (slot + 1) & mask
    return np.int64(0), slot


@compiled
def name_slot(name_slots, name, seed):  # type: ignore[no-untyped-def]
    """Find the slot of a name, or the free one where it goes."""
    mask = np.int64(len(name_slots) - 1)
    slot = np.int64(mix(mix(NAME_SEED, name), seed) & _LOW) & mask
    while name_slots[slot] != 0 and name_slots[slot] >> np.uint64(32) != np.uint64(name):
        slot = (slot + 1) & mask
    return slot


@compiled
def enter_name(name_slots, name, type_id, seed):  # type: ignore[no-untyped-def]
    """Enter ``type_id`` under its name; a second type of the name makes the name ambiguous."""
    slot = name_slot(name_slots, name, seed)
    value = np.uint64(type_id + 1) if name_slots[slot] == 0 else np.uint64(1)
    name_slots[slot] = (np.uint64(name) << np.uint64(32)) | value


@compiled
def find_name(name_slots, name, seed):  # type: ignore[no-untyped-def]
    """Find the type of a name; 0 if there are several, -1 if there is none."""
    return np.int64(name_slots[name_slot(name_slots, name, seed)] & _LOW) - 1
