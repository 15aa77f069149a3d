"""The same types in another order: any order, or sorted by name as recent kernels want them.

Since Linux 7.0 the kernel's build sorts BTF by name, types without a name first and equal names in
their old order (``resolve_btfids``); the kernel and libbpf then find a name by binary search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..arguments import integers, takes
from ..types.btf import BTF, freeze
from ..types.columns import type_names
from .append import require_known_kinds
from .ext import BtfExt
from .fields import fields, gather


@dataclass(frozen=True, eq=False)
class Renumbered:
    """The BTF in its new order.

    id_map   uint32: by old id (void and the base's types included), the new id
    ext      the ``.BTF.ext`` that was given, with the new ids
    """

    btf: BTF
    id_map: np.ndarray
    ext: BtfExt | None = None


@takes(btf=BTF, ext=(BtfExt, type(None)))
def permute(
    btf: BTF, order: Sequence[int] | np.ndarray, *, ext: BtfExt | None = None
) -> Renumbered:
    """Put the own types of ``btf`` into another order; references follow, strings stay.

    order   the ids of all own types, each once, in the order wanted
    ext     its ``.BTF.ext``, to be taken along

    Raises ValueError when ``order`` is not that, UnsupportedError for kinds that only a layout
    section describes.
    """
    require_known_kinds(btf, "renumbered")
    wanted = integers(order, "order", 1 << 62) - btf.start_id
    if wanted.shape != (btf.type_count,) or not np.array_equal(
        np.sort(wanted), np.arange(btf.type_count)
    ):
        raise ValueError(
            f"an order names each of the types [{btf.start_id}] to [{btf.type_end - 1}] once"
        )
    id_map = np.arange(btf.type_end, dtype=np.uint32)
    id_map[btf.start_id + wanted] = np.arange(btf.start_id, btf.type_end, dtype=np.uint32)
    words, offsets = gather(btf.words, btf.offsets[wanted], btf.offsets[wanted + 1])
    _, refs = fields(words, offsets[:-1], offsets[1:])
    words[refs] = id_map[words[refs]]
    moved = replace(btf, words=freeze(words), offsets=freeze(offsets), sound=True)
    if ext is None:
        return Renumbered(moved, id_map)
    return Renumbered(moved, id_map, ext.moved_from(btf, moved, id_map))


@takes(btf=BTF, ext=(BtfExt, type(None)))
def sort_by_name(btf: BTF, *, ext: BtfExt | None = None) -> Renumbered:
    """Put the own types of ``btf`` into the order in which a name is found by binary search."""
    offsets, data = type_names(btf)
    text, ends = data.tobytes(), offsets.tolist()
    names = [text[first:last] for first, last in pairwise(ends)]
    order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    return permute(btf, order + btf.start_id, ext=ext)
