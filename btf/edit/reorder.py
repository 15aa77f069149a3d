"""The same types in another order: any order, or sorted by name as recent kernels want them.

Since Linux 7.0 the kernel's build sorts BTF by name, types without a name first and equal names in
their old order (``resolve_btfids``); the kernel and libbpf then find a name by binary search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..columns import type_names
from ..deduplication.index import unknown_kind_error
from ..errors import UnsupportedError
from ..jit import kernel
from ..kinds import (
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
)
from ..table import BTF, freeze


@dataclass(frozen=True, eq=False)
class Renumbered:
    """The BTF in its new order.

    id_map   uint32: by old id (void and the base's types included), the new id
    """

    btf: BTF
    id_map: np.ndarray


def permute(btf: BTF, order: Sequence[int] | np.ndarray) -> Renumbered:
    """Put the own types of ``btf`` into another order; references follow, strings stay.

    order   the ids of all own types, each once, in the order wanted. Raises ValueError when it is
            not that, UnsupportedError for kinds that only a layout section describes.
    """
    if btf.has_unknown_kinds:
        error = unknown_kind_error(btf)
        message = error.message.replace("deduplicated", "renumbered")
        raise UnsupportedError(message, *error.args[1:])
    wanted = np.asarray(order, np.int64) - btf.start_id
    if wanted.shape != (btf.type_count,) or not np.array_equal(
        np.sort(wanted), np.arange(btf.type_count)
    ):
        raise ValueError(
            f"an order names each of the types [{btf.start_id}] to [{btf.type_end - 1}] once"
        )
    id_map = np.arange(btf.type_end, dtype=np.uint32)
    id_map[btf.start_id + wanted] = np.arange(btf.start_id, btf.type_end, dtype=np.uint32)
    words = np.empty(len(btf.words), np.uint32)
    offsets = np.empty(len(btf.offsets), np.uint32)
    _permute(btf.words, btf.offsets, wanted, id_map, words, offsets)
    moved = replace(btf, words=freeze(words), offsets=freeze(offsets))
    return Renumbered(moved, id_map)


def sort_by_name(btf: BTF) -> Renumbered:
    """Put the own types of ``btf`` into the order in which a name is found by binary search."""
    offsets, data = type_names(btf)
    text, ends = data.tobytes(), offsets.tolist()
    names = [text[first:last] for first, last in pairwise(ends)]
    order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    return permute(btf, order + btf.start_id)


@kernel
def _permute(words, offsets, order, id_map, out, out_offsets):  # type: ignore[no-untyped-def]
    """Copy own types (0-based) in ``order``, every reference through ``id_map``."""
    length = 0
    for position in range(len(order)):
        at = np.int64(offsets[order[position]])
        end = np.int64(offsets[order[position] + 1])
        kind = np.int64((words[at + 1] >> INFO_KIND_SHIFT) & INFO_KIND_MASK)
        out_offsets[position] = length
        moved = length - at
        for word in range(at, end):
            out[moved + word] = words[word]
        if HEAD_IS_REF[kind]:
            out[moved + at + 2] = id_map[words[at + 2]]
        body = at + HEAD_WORDS
        for word in range(body, body + FIXED_REFS[kind]):
            out[moved + word] = id_map[words[word]]
        body += FIXED_WORDS[kind]
        if ELEMENT_WORDS[kind] > 0 and ELEMENT_REF[kind] >= 0:
            for word in range(body + ELEMENT_REF[kind], end, ELEMENT_WORDS[kind]):
                out[moved + word] = id_map[words[word]]
        length += end - at
    out_offsets[len(order)] = length
