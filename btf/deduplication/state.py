"""What the passes share: the codes that they return, and slots of ``Scratch.state`` (int64)."""

from __future__ import annotations

from itertools import count

from ..edit.remap import REMAP_SLOTS

# What a pass returns: DONE, or a code below with the type id that stopped it.
DONE = 0
BAD_MEMBER = 1  # a struct reaches a VAR, DATASEC or DECL_TAG
REFERENCE_CYCLE = 2  # pointers and modifiers that refer to each other in a circle
MORE_FRAMES = 3  # a walk went deeper than ``frames`` allows
MORE_STRINGS = 4  # new strings need more room
CROWDED = 5  # so many walks are in vain that types are to be classified first, see ``classes``
TOO_ALIKE = 6  # walks took more steps than any module should, see ``structs``

_slot = count(REMAP_SLOTS)

HYPOT_COUNT = next(_slot)  # entries of the hypothetical map in use
HYPOT_ADJUST_CANON = next(_slot)  # the walk paired a base FWD with a definition
CURRENT_EPOCH = next(_slot)
BASE_UNDO_COUNT = next(_slot)  # base types whose mapping was changed for this module
ENTRIES = next(_slot)  # of libbpf's table of candidates; PARITY: growths modulo 2
CAPACITY = next(_slot)
PARITY = next(_slot)
VERDICT = next(_slot)  # of ``matching.match``
IDENTITY_STAMP = next(_slot)  # of the last call of ``identical``
LIST_MASK = next(_slot)  # of the slots that this module uses of ``list_slots``
ENUM_MASK = next(_slot)  # of ``enum_slots``
AGGREGATES = next(_slot)  # entries of ``aggregates``
LISTS = next(_slot)  # the module's lists of candidates in use
SLOTS_USED = next(_slot)  # of ``list_slots`` and ``enum_slots``: entries of ``slots_used``
CLASSIFIED = next(_slot)  # whether ``classes`` are known, and candidates are told apart by them
PROVED = next(_slot)  # whether this module's rows of ``proved`` are in use
REMAINING = next(_slot)  # own types that are still to be mapped: entries of ``remaining``
FORWARDS = next(_slot)  # entries of ``forwards``
STEPS = next(_slot)  # candidates that were tried, and pairs that walks went through
IDENTITY_STEPS = next(_slot)  # pairs that ``identical`` went through
STEPS_ALLOWED = next(_slot)  # beyond, types are classified; then levels measured, pairs cached
STEPS_PER_TYPE = next(_slot)  # that walks may take until then
CACHING = next(_slot)  # whether pairs are cached, see ``equivalence_cache``
CACHED_PAIRS = next(_slot)  # entries of ``cached_equiv``
TYPES = next(_slot)  # of base and module, void included
LOWEST_MAPPED = next(_slot)  # lowest level of a type mapped since levels were measured
LOWEST_MERGED = next(_slot)  # the same, of those that were mapped to another
UNTOUCHED_WALK = next(_slot)  # whether the walk is between types of which pairs may be cached
BATCH = next(_slot)  # one of the three below
SETTLED = next(_slot)  # of a batch: own types that earlier ones left
SIGNED = next(_slot)  # entries of ``signatures``, of a batch
PRIMITIVES_TO_COME = next(_slot)  # entries of libbpf's table before the first struct of a merge
BOUND = next(_slot)  # forward types that have a definition: entries of ``bound``
NESTED_ARRAYS = next(_slot)  # how many were left of a module by itself
STATE_SLOTS = next(_slot)

# Values of BATCH: a module by itself; a batch of a merge, and more may come, see ``batches``; its
# last one.
SINGLE = 0
MORE_COME = 1
LAST = 2

# Steps of walks for each type of a module, from which on they are cached. Of 5,156 modules of
# three Debian kernels one takes more than 2.
ENOUGH_STEPS = 4
