"""How long a type record is and where its references stand, for compiled functions.

For Python, ``kinds.reference_words`` says the same of one record, and ``edit.fields`` of many.

Parameters used throughout:

info   uint32: the second word of a record, which says its kind and vlen
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from .kinds import (
    ELEMENT_WORDS,
    FEWEST_REFS,
    FIRST_REF,
    FIXED_WORDS,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    REF_EACH,
    REF_STEP,
    kind_of,
)


@compiled
def record_length(info):  # type: ignore[no-untyped-def]
    """Words of a record (int64)."""
    kind = kind_of(info)
    return HEAD_WORDS + FIXED_WORDS[kind] + np.int64(info & INFO_VLEN_MASK) * ELEMENT_WORDS[kind]


@compiled
def reference_count(info):  # type: ignore[no-untyped-def]
    """How many words of a record are type ids (int64), void included."""
    kind = kind_of(info)
    return np.int64(FEWEST_REFS[kind]) + np.int64(REF_EACH[kind]) * np.int64(info & INFO_VLEN_MASK)


@compiled
def reference_word(info, number):  # type: ignore[no-untyped-def]
    """Which word of a record (int64) is its type id ``number``, counted from 0."""
    kind = kind_of(info)
    return np.int64(FIRST_REF[kind]) + number * np.int64(REF_STEP[kind])


@compiled
def reference_at(words, at, number):  # type: ignore[no-untyped-def]
    """Type id (int64) ``number`` of the record that begins at word ``at`` of ``words`` (uint32)."""
    return np.int64(words[at + reference_word(words[at + 1], number)])
