"""Many BTF into one: each is added to an empty BTF, then the whole is deduplicated.

That is libbpf's ``btf__new_empty``, ``btf__add_btf`` for each, ``btf__dedup``, and equals it to the
byte but for what ``docs/differences.md`` lists. The order of the inputs decides which of equal
types comes first, and so the ids: give vmlinux first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..edit.builder import Builder
from ..errors import BtfError
from ..table import BTF
from .deduplicate import dedup
from .index import BaseIndex


@dataclass(frozen=True, eq=False)
class MergeResult:
    """The merged BTF, and what became of each type of each input.

    id_maps   for each input uint32: by its own numbering (void and, for split input, the base's
              types included), the id in ``btf``
    """

    btf: BTF
    id_maps: tuple[np.ndarray, ...]


def merge(sources: Sequence[BTF], base: BTF | BaseIndex | None = None) -> MergeResult:
    """Merge BTF into one that holds every type once.

    sources   standalone BTF, or split BTF on ``base``, all of one byte order
    base      what the result continues, or its index where there is one; None: nothing

    Raises BtfError naming the input and its type when one cannot be merged.
    """
    index = base if isinstance(base, BaseIndex) else None
    below = index.base if index is not None else base
    assert below is None or isinstance(below, BTF)
    byteorder = None if below is not None or not sources else sources[0].byteorder
    builder = Builder(below, byteorder=byteorder)
    firsts = [builder.add_btf(source) for source in sources]
    try:
        result = dedup(builder.build(), index)
    except BtfError as error:
        raise _blame(error, sources, firsts) from error
    id_maps = []
    for source, first in zip(sources, firsts, strict=True):
        own = result.id_map[first : first + source.type_count]
        unchanged = np.arange(source.start_id, dtype=np.uint32)
        id_maps.append(np.concatenate([unchanged, own]))
    return MergeResult(result.btf, tuple(id_maps))


def _blame(error: BtfError, sources: Sequence[BTF], firsts: Sequence[int]) -> BtfError:
    """The same error in terms of the input that it is about."""
    if error.type_id is None:
        return error
    for source, first in zip(sources, firsts, strict=True):
        own = error.type_id - first
        if 0 <= own < source.type_count:
            at, type_id = int(source.offsets[own]) * 4, source.start_id + own
            return type(error)(error.message, source.path, error.section, at, type_id)
    return error
