"""Several split BTFs on one base as one, so that what is done with all their types is done once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..format.header import check_total
from ..types.btf import BTF, freeze
from .fields import fields


def concat_split(parts: Sequence[BTF]) -> BTF:
    """Concatenate the own types of all parts, as split BTF on their base.

    parts  at least one, all on the same base and of kinds that are known

    Own ids and string offsets of a part are higher by as many types and bytes as the parts before
    it have. Nothing is merged: what two parts have in common is there twice.
    """
    first = parts[0]
    check_total(
        first.start_id + sum(part.type_count for part in parts),
        sum(len(part.words) for part in parts),
        first.start_str_off + sum(len(part.strings) for part in parts),
    )
    words = np.concatenate([part.words for part in parts])
    words_before = _before(len(part.words) for part in parts)
    starts = [part.offsets[:-1] + at for part, at in zip(parts, words_before, strict=False)]
    offsets = np.concatenate([*starts, words_before[-1:]])
    names, refs = fields(words, offsets[:-1], offsets[1:])
    _move(words, names, first.start_str_off, words_before, (len(part.strings) for part in parts))
    _move(words, refs, first.start_id, words_before, (part.type_count for part in parts))
    return BTF(
        words=freeze(words),
        offsets=freeze(offsets),
        strings=freeze(np.concatenate([part.strings for part in parts])),
        base=first.base,
        byteorder=first.byteorder,
        sound=True,
    )


def _before(sizes: Iterable[int]) -> np.ndarray:
    """What comes before each part, and after the last: uint32, one more than there are parts."""
    return np.cumsum([0, *sizes], dtype=np.uint32)


def _move(
    words: np.ndarray,
    positions: np.ndarray,
    first_own: int,
    words_before: np.ndarray,
    sizes: Iterable[int],
) -> None:
    """Raise the words at ``positions`` (ascending) that are at least ``first_own``: in each part by
    the sum of the ``sizes`` of those before it."""
    counts = np.diff(np.searchsorted(positions, words_before))
    values = words[positions]
    words[positions] = values + (values >= first_own) * np.repeat(_before(sizes)[:-1], counts)
