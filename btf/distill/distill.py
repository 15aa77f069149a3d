"""Making a distilled base: as little of a base as split BTF needs to find its types again.

Split BTF refers to its base by type ids and string offsets, which any other build of the base
shifts. A module that is to outlive its kernel therefore carries a *distilled base* in its ELF
section ``.BTF.base``, and its ``.BTF`` is split on that. What the split BTF refers to in the base
goes to one of two places:

* to the distilled base what is found again by name: INT, FLOAT and FWD as they are; a struct or
  union that has a name, without its members; an enum that has a name, without its values and, if it
  has 64-bit values, as an ENUM. Sizes are kept.
* to the split BTF, behind its own types, all the rest as it is: pointers, modifiers, typedefs,
  arrays, prototypes, and whatever has no name. What those refer to is treated in the same way.

These are the rules of libbpf's ``btf__distill_base``, and the result equals its to the byte but for
what ``docs/differences.md`` lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arguments import takes
from ..edit.append import StringPool, require_known_kinds
from ..edit.fields import fields, gather
from ..errors import UnsupportedError
from ..format.kinds import (
    COMPOSITES,
    ENUM,
    ENUMS,
    FWD,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
    KIND_NAMES,
    NO_TYPES,
    SCALARS,
    STRUCT,
    UNION,
)
from ..types.btf import BTF, freeze

_WHOLE = (*SCALARS, FWD)  # goes to the distilled base as it is
_EMPTIED = (*COMPOSITES, *ENUMS)  # goes there by name and size


class Distilled(NamedTuple):
    """A distilled base, and the split BTF that continues it: ``split.base is base``."""

    base: BTF
    split: BTF


@takes(split=BTF)
def distill_base(split: BTF) -> Distilled:
    """Make split BTF independent of the numbering of its base; ``relocate`` is the way back.

    split   split BTF; its base, of whatever levels, is distilled as a whole

    Raises UnsupportedError for BTF without a base, for kinds that only a layout section describes,
    and for a reference to a FUNC, VAR, DATASEC or DECL_TAG of the base, which has no place in
    either part.
    """
    if split.base is None:
        raise UnsupportedError("BTF without a base: there is nothing to distill", split.path)
    for level in split.levels:
        require_known_kinds(level, "distilled")
    base = split.base.flat
    needed = _needed(split, base)
    kinds, named = _heads(base, needed)
    to_base = named & np.isin(kinds, (*_WHOLE, *_EMPTIED))

    distilled_ids, copied_ids = needed[to_base], needed[~to_base]
    distilled = _distilled(base, distilled_ids, kinds[to_base])
    first_own = distilled.type_end
    own_end = first_own + split.type_count
    id_map = np.zeros(split.type_end, np.uint32)
    id_map[distilled_ids] = np.arange(1, first_own, dtype=np.uint32)
    id_map[split.start_id :] = np.arange(first_own, own_end, dtype=np.uint32)
    id_map[copied_ids] = np.arange(own_end, own_end + len(copied_ids), dtype=np.uint32)

    copied, copied_offsets = gather(
        base.words, base.offsets[copied_ids - 1], base.offsets[copied_ids]
    )
    words = np.concatenate([split.words, copied])
    offsets = np.concatenate([split.offsets, copied_offsets[1:] + split.offsets[-1]])
    names, refs = fields(words, offsets[:-1], offsets[1:])
    words[refs] = id_map[words[refs]]
    pool = StringPool(distilled)
    words[names] = pool.add_all(words[names], split.chain_strings)
    result = BTF(
        words=freeze(words),
        offsets=freeze(offsets),
        strings=freeze(pool.own_strings),
        base=distilled,
        byteorder=split.byteorder,
        path=split.path,
        sound=True,
    )
    return Distilled(distilled, result)


def _needed(split: BTF, base: BTF) -> np.ndarray:
    """Ids of the base's types that split BTF cannot do without, ascending: int64.

    These are what it refers to, and what those refer to; but members of a struct or union that has
    a name are not looked at.
    """
    found = np.zeros(base.type_end, np.bool_)
    found[0] = True  # void is everybody's
    words, starts, ends = split.words, split.offsets[:-1], split.offsets[1:]
    while len(starts):
        _, refs = fields(words, starts, ends)
        referred = np.unique(words[refs])
        referred = referred[referred < base.type_end].astype(np.int64)
        new = referred[~found[referred]]
        found[new] = True
        kinds, named = _heads(base, new)
        bad = np.flatnonzero(np.isin(kinds, list(NO_TYPES)))
        if len(bad):
            raise UnsupportedError(
                f"refers to a {KIND_NAMES[kinds[bad[0]]]} of the base, [{new[bad[0]]}], "
                "which cannot be found again by its name",
                split.path,
                "types",
            )
        new = new[~(named & np.isin(kinds, (STRUCT, UNION)))]
        words, starts, ends = base.words, base.offsets[new - 1], base.offsets[new]
    return np.flatnonzero(found)[1:]


def _heads(base: BTF, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kind of some types of a base, and whether each has a name."""
    starts = base.offsets[ids - 1]
    kinds = (base.words[starts + np.uint32(1)] >> INFO_KIND_SHIFT) & INFO_KIND_MASK
    return kinds, base.strings[base.words[starts]] != 0


def _distilled(base: BTF, ids: np.ndarray, kinds: np.ndarray) -> BTF:
    """The types ``ids`` of the base by name and size, as a BTF of its own."""
    starts, ends = base.offsets[ids - 1], base.offsets[ids].copy()
    emptied = np.isin(kinds, _EMPTIED)
    ends[emptied] = starts[emptied] + 3
    words, offsets = gather(base.words, starts, ends)
    heads = offsets[:-1][emptied]
    kind = kinds[emptied]
    kind[np.isin(kind, tuple(ENUMS))] = ENUM
    words[heads + 1] = kind << INFO_KIND_SHIFT
    pool = StringPool(None)
    names = offsets[:-1]
    words[names] = pool.add_all(words[names], base.strings)
    return BTF(
        words=freeze(words),
        offsets=freeze(offsets),
        strings=freeze(pool.own_strings),
        byteorder=base.byteorder,
        sound=True,
    )
