"""Slots of the small array of numbers that the passes share: int64, ``Scratch.state``."""

from __future__ import annotations

PAIRS = 0  # entries of the hypothetical map in use
NEEDS_BASE_CHANGE = 1  # the walk took a forward declaration of the base for a definition
CURRENT_EPOCH = 2
BASE_EDITS = 3  # base types whose mapping was changed for this module
ENTRIES = 4  # size and capacity of libbpf's table of candidates, and how often it grew (mod 2)
CAPACITY = 5
PARITY = 6
VERDICT = 7  # of ``matching.match``
FORWARD_ENUMS = 8  # own enums without enumerators that are canonical
IDENTITY_STAMP = 9  # of the last call of ``identical``
LIST_MASK = 10  # of the slots that this module uses of its tables
OWN_BYTES = 11  # of new strings
OWN_STRINGS = 12
STRING_OVERFLOW = 13  # set when the buffer for new strings or its table is too small
STARTS_ONLY = 14  # 1: ``seen`` is filled where strings begin; 2: a name begins elsewhere
AGGREGATES = 15  # entries of ``aggregates``
LISTS = 16  # the module's lists of candidates in use
SLOTS_USED = 17  # of ``list_slots`` and ``enum_slots``: entries of ``slots_used``
SHORTCUTS = 18  # whether this module's rows of ``proved`` and ``unfolded`` are in use
LEFT = 19  # own types that are still to be mapped: entries of ``left``
FORWARDS = 20  # entries of ``forwards``
STEPS = 21  # pairs that walks went through
STEPS_ALLOWED = 22  # when there are more, heights are measured, from then on pairs are noted
STEPS_PER_TYPE = 23  # that walks may take until then
REMEMBERING = 24  # whether pairs are noted, see ``remembered``
REMEMBERED = 25  # entries of ``verdicts``
LOWEST_MAPPED = 26  # the lowest height at which a type was mapped since heights were measured
LOWEST_MERGED = 27  # the same, of those that were mapped to another
PLAIN_WALK = 28  # whether the walk is between types of which pairs may be noted
STRING_MASK = 29  # of the heads of chains of new strings that this module uses
STATE_SLOTS = 30

# Steps of walks for each type of a module, from which on they are remembered. Of 5,156 modules of
# three Debian kernels one takes more than 2.
ENOUGH_STEPS = 4
