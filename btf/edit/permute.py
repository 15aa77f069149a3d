"""The same types in another order: any order, or sorted by name as recent kernels want them.

Since Linux 7.0 the kernel's build sorts BTF by name, types without a name first and equal names in
their old order (``resolve_btfids``); the kernel and libbpf then find a name by binary search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..arguments import brief_repr, integers, takes
from ..compiled.jit import compiled
from ..format.records import reference_count, reference_word
from ..types.btf import BTF, freeze
from ..types.columns import check_name_bytes, type_names
from .append import require_known_kinds
from .ext import BtfExt


@dataclass(frozen=True, eq=False)
class Renumbered:
    """The BTF in its new order.

    id_map   uint32: by old id (void and the base's types included), the new id
    ext      the ``.BTF.ext`` that was given, with the new ids
    """

    __repr__ = brief_repr

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
    return _in_order(btf, wanted, ext)


def _in_order(btf: BTF, order: np.ndarray, ext: BtfExt | None) -> Renumbered:
    """Put types into an order: int64, own types by position, from 0 on, each once."""
    id_map = np.arange(btf.type_end, dtype=np.uint32)
    words, offsets = np.empty_like(btf.words), np.zeros_like(btf.offsets)
    _move_records(btf.words, btf.offsets, order, btf.start_id, id_map, words, offsets)
    moved = replace(btf, words=freeze(words), offsets=freeze(offsets), sound=True)
    if ext is None:
        return Renumbered(moved, id_map)
    return Renumbered(moved, id_map, ext.moved_from(btf, moved, id_map))


@takes(btf=BTF, ext=(BtfExt, type(None)))
def sort_by_name(btf: BTF, *, ext: BtfExt | None = None) -> Renumbered:
    """Put the own types of ``btf`` into the order in which a name is found by binary search.

    Raises BtfError where the names, each written out, are far longer than the BTF itself.
    """
    require_known_kinds(btf, "renumbered")
    check_name_bytes(btf)
    order = np.arange(btf.type_count, dtype=np.int64)
    _order_by_name(*type_names(btf), order, np.empty_like(order))
    return _in_order(btf, order, ext)


@takes(btf=BTF)
def is_sorted_by_name(btf: BTF) -> bool:
    """Whether the own types are in the order of ``sort_by_name``, and one of them has a name.

    The kernel and libbpf ask the same before they search a name by bisection.
    """
    check_name_bytes(btf)
    offsets, data = type_names(btf)
    return len(data) > 0 and bool(_is_in_order(offsets, data))


@compiled
def _move_records(words, offsets, order, first_id, id_map, new_words, new_offsets):  # type: ignore[no-untyped-def]
    """Copy type records in another order, and renumber what they refer to.

    words, offsets  the own types, as in ``BTF``
    order      int64: the position of each type to come, from 0 on, each once
    first_id   int64: id of the first own type
    id_map     uint32, by id: filled for own types with the new ids; of others, their own
    new_words, new_offsets  filled: the same types in their new order; ``new_offsets`` begins with 0
    """
    for index in range(len(order)):
        id_map[first_id + order[index]] = first_id + index
    to = np.int64(0)
    for index in range(len(order)):
        at, end = np.int64(offsets[order[index]]), np.int64(offsets[order[index] + 1])
        for word in range(end - at):
            new_words[to + word] = words[at + word]
        info = words[at + 1]
        for number in range(reference_count(info)):
            word = to + reference_word(info, number)
            new_words[word] = id_map[np.int64(new_words[word])]
        to += end - at
        new_offsets[index + 1] = to


@compiled
def _is_before(offsets, data, first, second):  # type: ignore[no-untyped-def]
    """Whether the name of one type, ``first``, comes before that of another, ``second``.

    offsets, data   int32 and uint8: the names, see ``type_names``
    """
    at, end = np.int64(offsets[first]), np.int64(offsets[first + 1])
    other, other_end = np.int64(offsets[second]), np.int64(offsets[second + 1])
    while at < end and other < other_end:
        if data[at] != data[other]:
            return data[at] < data[other]
        at += 1
        other += 1
    return at == end and other < other_end


@compiled
def _is_in_order(offsets, data):  # type: ignore[no-untyped-def]
    """Whether no name comes before the one ahead of it: ``offsets``, ``data`` as in
    ``_is_before``."""
    for index in range(1, len(offsets) - 1):
        if _is_before(offsets, data, index, index - 1):
            return False
    return True


@compiled
def _order_by_name(offsets, data, order, spare):  # type: ignore[no-untyped-def]
    """Sort types by name, those of one name in their old order: a merge sort, which reads a name
    once for each doubling of the number of types, so that long names cannot make it slow.

    offsets, data   as in ``_is_before``
    order   int64, a number per type, from 0 on: rearranged
    spare   int64, as many: room to work
    """
    count = len(order)
    width = 1
    while width < count:
        for begin in range(0, count, 2 * width):
            middle = min(begin + width, count)
            end = min(begin + 2 * width, count)
            left, right = begin, middle
            for at in range(begin, end):
                take_left = left < middle
                if take_left and right < end:
                    take_left = not _is_before(offsets, data, order[right], order[left])
                if take_left:
                    spare[at] = order[left]
                    left += 1
                else:
                    spare[at] = order[right]
                    right += 1
        for at in range(count):
            order[at] = spare[at]
        width *= 2
