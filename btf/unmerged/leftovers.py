"""What a build left in a module's BTF although dedup removes it, and why that may be.

Modules come from the build with split BTF, which was deduplicated there. Where dedup still finds
types to remove, the build's libbpf did not find them. And some stay that the base has, too, in the
way of another generation of encoders: see ``arrays``.
"""

from __future__ import annotations

import numpy as np

from ..arguments import takes
from ..deduplication.deduplicate import DedupResult
from ..edit.append import require_known_kinds
from ..errors import BtfError
from ..format.kinds import KIND_COUNT, TYPEDEF
from ..types.btf import BTF
from ..types.columns import columns
from .part import mark_leading

# Likely causes, the first that fits, and what each means. In the order of ``leftovers``' rows.
CAUSES = {
    "repeated": "an earlier type of the same BTF is equal",
    "typedef": "a typedef, and the base has an equal one",
    "refers": "the base has an equal type; it leads to such a typedef",
    "in_base": "the base has an equal type",
    "arrays": "it stays: the base has it, but for arrays of several dimensions, which the module's "
    "encoder writes otherwise",
}
_REPEATED, _TYPEDEF, _REFERS, _IN_BASE, _ARRAYS = range(len(CAUSES))


@takes(source=BTF, result=DedupResult)
def leftovers(
    source: BTF, result: DedupResult, kept_by_arrays: np.ndarray | None = None
) -> np.ndarray:
    """Count own types by their likely cause and kind: of ``source`` those that dedup removed, and
    of the result those that are marked.

    source   split BTF as a build made it, or a vmlinux, as it was given to dedup
    result   what dedup made of it
    kept_by_arrays   of the same, see ``BaseArrays.kept_types``

    Returns int64 of shape (2, len(CAUSES), KIND_COUNT): types, and bytes of their records. Raises
    BtfError where the two do not belong together, UnsupportedError for kinds that only a layout
    section describes.
    """
    require_known_kinds(source, "counted")
    count, own_after = source.type_count, result.btf.start_id
    after = result.id_map[source.start_id :]
    if len(after) != count or (count and int(after.max()) >= result.btf.type_end):
        raise BtfError("the result is not that of this module", source.path)
    facts = columns(source)
    in_base = after < own_after
    typedefs = in_base & (facts["kind"] == TYPEDEF)
    leads = typedefs.astype(np.uint8)
    if leads.any():
        room = np.zeros(count + 2, np.int32), np.empty(len(source.words), np.int32)
        mark_leading(
            source.words, source.offsets, source.start_id, leads, *room, np.empty(count, np.int32)
        )
    cause = np.full(count, len(CAUSES), np.int64)  # one more: those that stay
    cause[in_base] = np.where(leads[in_base], _REFERS, _IN_BASE)
    cause[typedefs] = _TYPEDEF
    own = np.flatnonzero(~in_base)
    first = np.empty(result.btf.type_count, np.int64)
    became = after[own] - np.uint32(own_after)
    first[became[::-1]] = own[::-1]  # of several the first one stays
    cause[own[first[became] != own]] = _REPEATED
    totals = _totals(facts, cause)
    if kept_by_arrays is not None:
        totals += kept_totals(result.btf, kept_by_arrays)
    return totals


def kept_totals(split: BTF, kept_by_arrays: np.ndarray) -> np.ndarray:
    """The part of ``leftovers`` that can be told of a module that came in any form."""
    return _totals(columns(split), np.where(kept_by_arrays, _ARRAYS, len(CAUSES)))


def count_kept(totals: np.ndarray) -> int:
    """Types that stay only because of how arrays are written, of what ``leftovers`` returns."""
    return int(totals[0, _ARRAYS].sum())


def _totals(facts: dict[str, np.ndarray], cause: np.ndarray) -> np.ndarray:
    """Count types by cause and kind. ``facts``: see ``columns``; ``cause``: int64, by type."""
    place = cause * KIND_COUNT + facts["kind"]
    size = (len(CAUSES) + 1) * KIND_COUNT
    totals = np.empty((2, len(CAUSES) + 1, KIND_COUNT), np.int64)
    totals[0] = np.bincount(place, minlength=size).reshape(totals[0].shape)
    totals[1] = np.bincount(place, facts["bytes"], size).reshape(totals[0].shape)
    return totals[:, : len(CAUSES)]
