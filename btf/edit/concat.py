"""Several split BTFs on one base as one, so that what is done with all their types is done once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import (
    ELEMENT_NAME,
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
)
from ..types.btf import BTF, freeze


def side_by_side(parts: Sequence[BTF]) -> BTF:
    """The own types of all parts, one part after the other, as split BTF on their base.

    parts  at least one, all on the same base and of kinds that are known

    Own ids and string offsets of a part are higher by as many types and bytes as the parts before
    it have. Nothing is merged: what two parts have in common is there twice.
    """
    first = parts[0]
    words = np.empty(sum(len(part.words) for part in parts), np.uint32)
    offsets = np.zeros(sum(part.type_count for part in parts) + 1, np.uint32)
    at_word = at_type = at_text = 0
    for part in parts:
        _put(
            part.words, part.offsets, first.start_id, first.start_str_off,
            words, offsets, at_word, at_type, at_text,
        )  # fmt: skip
        at_word += len(part.words)
        at_type += part.type_count
        at_text += len(part.strings)
    return BTF(
        words=freeze(words),
        offsets=freeze(offsets),
        strings=freeze(np.concatenate([part.strings for part in parts])),
        base=first.base,
        byteorder=first.byteorder,
    )


@compiled
def _put(words, offsets, start_id, start_str_off, out, out_offsets, at_word, at_type, at_text):  # type: ignore[no-untyped-def]
    """Copy the own types of a part behind those that are there."""
    for word in range(len(words)):
        out[at_word + word] = words[word]
    for index in range(len(offsets) - 1):
        out_offsets[at_type + index + 1] = at_word + offsets[index + 1]
        at = at_word + np.int64(offsets[index])
        end = at_word + np.int64(offsets[index + 1])
        kind = np.int64((out[at + 1] >> INFO_KIND_SHIFT) & INFO_KIND_MASK)
        if out[at] >= start_str_off:
            out[at] += at_text
        if HEAD_IS_REF[kind] and out[at + 2] >= start_id:
            out[at + 2] += at_type
        body = at + HEAD_WORDS
        for word in range(body, body + FIXED_REFS[kind]):
            if out[word] >= start_id:
                out[word] += at_type
        stride = np.int64(ELEMENT_WORDS[kind])
        if stride == 0:
            continue
        name, reference = np.int64(ELEMENT_NAME[kind]), np.int64(ELEMENT_REF[kind])
        for element in range(body + FIXED_WORDS[kind], end, stride):
            if name >= 0 and out[element + name] >= start_str_off:
                out[element + name] += at_text
            if reference >= 0 and out[element + reference] >= start_id:
                out[element + reference] += at_type
