"""Slots of the small array of numbers that the passes share: int64, ``Scratch.state``."""

from __future__ import annotations

from itertools import count

from ..edit.remap import REMAP_SLOTS

_slot = count(REMAP_SLOTS)

PAIRS = next(_slot)  # entries of the hypothetical map in use
NEEDS_BASE_CHANGE = next(_slot)  # the walk paired a base FWD with a definition
CURRENT_EPOCH = next(_slot)
BASE_EDITS = next(_slot)  # base types whose mapping was changed for this module
ENTRIES = next(_slot)  # of libbpf's table of candidates; PARITY: growths modulo 2
CAPACITY = next(_slot)
PARITY = next(_slot)
VERDICT = next(_slot)  # of ``matching.match``
FORWARD_ENUMS = next(_slot)  # own enums without enumerators that are canonical
IDENTITY_STAMP = next(_slot)  # of the last call of ``identical``
LIST_MASK = next(_slot)  # of the slots that this module uses of its tables
AGGREGATES = next(_slot)  # entries of ``aggregates``
LISTS = next(_slot)  # the module's lists of candidates in use
SLOTS_USED = next(_slot)  # of ``list_slots`` and ``enum_slots``: entries of ``slots_used``
SHORTCUTS = next(_slot)  # whether this module's rows of ``proved`` and ``unfolded`` are in use
LEFT = next(_slot)  # own types that are still to be mapped: entries of ``left``
FORWARDS = next(_slot)  # entries of ``forwards``
STEPS = next(_slot)  # pairs that walks went through
STEPS_ALLOWED = next(_slot)  # beyond, heights are measured and pairs are noted
STEPS_PER_TYPE = next(_slot)  # that walks may take until then
REMEMBERING = next(_slot)  # whether pairs are noted, see ``remembered``
REMEMBERED = next(_slot)  # entries of ``verdicts``
LOWEST_MAPPED = next(_slot)  # lowest height of a type mapped since heights were measured
LOWEST_MERGED = next(_slot)  # the same, of those that were mapped to another
PLAIN_WALK = next(_slot)  # whether the walk is between types of which pairs may be noted
STATE_SLOTS = next(_slot)

# Steps of walks for each type of a module, from which on they are remembered. Of 5,156 modules of
# three Debian kernels one takes more than 2.
ENOUGH_STEPS = 4
