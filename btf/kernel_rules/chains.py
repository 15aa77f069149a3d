"""Chains of typedefs and modifiers, of which the kernel follows 32 (``btf_check_type_tags``,
``btf_check_modifier_chain_length``): asked of every BTF, the kernel's own and modules' too.

Parameters used throughout:

words       uint32: type records that have passed ``check_records``
offsets     uint32: where each begins
base_kinds  uint8: the kinds of the base's types, or of void alone
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import TYPE_TAG, is_transparent, kind_of
from . import rules

_LONGEST = 32


@compiled
def _kind(words, offsets, base_kinds, type_id):  # type: ignore[no-untyped-def]
    """The kind of the type ``type_id`` (int64), of the base or an own one."""
    own = type_id - len(base_kinds)
    if own < 0:
        return np.int64(base_kinds[type_id])
    return kind_of(words[np.int64(offsets[own]) + 1])


@compiled
def check_chains(words, offsets, base_kinds, count, tags_first):  # type: ignore[no-untyped-def]
    """Check all chains: (rule broken or 0, own type from 0, word of the fault).

    count       number of own types
    tags_first  whether type tags have to come before modifiers
    """
    start_id = len(base_kinds)
    for own in range(count):
        type_id = start_id + own
        kind = _kind(words, offsets, base_kinds, type_id)
        if not is_transparent(kind):
            continue
        left = _LONGEST
        in_tags = kind == TYPE_TAG
        at = np.int64(offsets[own])
        while is_transparent(kind):
            if left == 0:
                return rules.CHAIN, own, at
            left -= 1
            if tags_first:
                if kind == TYPE_TAG and not in_tags:
                    return rules.TAG_ORDER, own, at
                in_tags = kind == TYPE_TAG
            # An earlier modifier's chain was checked already, as was the base's.
            if type_id < start_id or type_id < start_id + own:
                break
            type_id = np.int64(words[np.int64(offsets[type_id - start_id]) + 2])
            if type_id >= start_id + count:
                return rules.CHAIN_END, own, at
            kind = _kind(words, offsets, base_kinds, type_id)
    return 0, 0, 0
