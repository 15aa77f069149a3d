"""Arrays of several dimensions, which encoders write in two ways.

``int a[2][3]`` is one array of 6 elements in what pahole wrote until version 1.31, and two arrays
of 3 since version 1.32, as in what compilers write themselves. To dedup these are two types. So a
module that was encoded by one generation keeps whatever holds such an array, or leads there, on a
base of the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from ..arguments import brief_repr
from ..compiled.jit import compiled
from ..deduplication.deduplicate import DedupResult, deduplicated
from ..deduplication.index import BaseIndex
from ..deduplication.module import SplitBytes
from ..errors import BtfError
from ..format.kinds import (
    FEWEST_REFS,
    FIRST_REF,
    INFO_VLEN_MASK,
    NAME_SPACE,
    REF_EACH,
    REF_STEP,
    NameSpace,
)
from ..format.records import find_nested_arrays
from ..format.search import first_at_least
from ..types.btf import BTF, freeze
from ..types.names import StringTable

MAX_DIMENSIONS = 32
_FEW = 16  # more than most modules have
MAX_HOPS = 8  # types without a name between one that has a name and the array that it holds

# What a base would be if its arrays were not nested, by the base.
_FLATTENED: WeakKeyDictionary[BaseIndex, BaseIndex] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class BaseArrays:
    """How a base writes arrays of several dimensions, and which of its types hold some.

    nested  whether as arrays of arrays; else as one, if it has any
    names   uint32, rising: offsets of names of types that hold nested arrays, as modules know them
    """

    __repr__ = brief_repr

    nested: bool
    names: np.ndarray

    @classmethod
    def build(cls, index: BaseIndex) -> BaseArrays:
        """Look at all arrays of an indexed base."""
        base, names = index.base, list[int]()
        found = nested_arrays(base) if base is not None else np.zeros(0, np.int64)
        if base is not None and len(found):
            table = StringTable(index.strings, index.string_slots, index.strings_repeat)
            # A name that is only the end of another string is none that modules know.
            places = (table.find(name) for name in _holders(base, found))
            names = [place for place in places if place >= 0]
        return cls(len(found) > 0, freeze(np.array(sorted(names), np.uint32)))

    def kept_types(self, source: BTF, result: DedupResult, index: BaseIndex) -> np.ndarray | None:
        """Mark own types of a module that it keeps only because its arrays are written otherwise.

        source  the module as it was given to dedup
        result  what dedup made of it on the indexed base, in any order of its types

        They are those that become the base's when the same module is deduplicated with no nested
        arrays in it nor in its base. Returns bool by own type of the result; None where there is
        none.
        """
        split = result.btf
        if self.nested:
            if not _has_a_name_of(split.words, split.offsets, self.names):
                return None
            if len(nested_arrays(source)):
                return None
        elif not len(nested_arrays(split)):
            return None
        try:
            other = _flattened_index(index) if self.nested else index
            flat = flattened(source, other.base if source.base is not None else None)
            again = deduplicated(flat, other, added=source.base is None)[0]
        except BtfError:  # as large as it can be already
            return None
        after, without = (ids[source.start_id :] for ids in (result.id_map, again.id_map))
        gone = after[(after >= split.start_id) & (without < split.start_id)]
        if not len(gone):
            return None
        kept = np.zeros(split.type_count, np.bool_)
        kept[gone - np.uint32(split.start_id)] = True
        return kept

    def may_differ(self, kept: SplitBytes) -> bool:
        """Whether a module kept anything that speaks for another generation: where the base has
        nested arrays, a type with the name of one that holds some; elsewhere a nested array. Where
        it did not, ``kept_types`` finds nothing."""
        if self.nested:
            return bool(_has_a_name_of(kept.words, kept.offsets, self.names))
        return kept.has_nested_arrays


def nested_arrays(types: BTF) -> np.ndarray:
    """Ids of own arrays whose elements are arrays: int64."""
    below = types.base.flat if types.base is not None else types
    found = np.empty(_FEW, np.int64)
    while True:
        count = int(
            find_nested_arrays(
                types.words, types.offsets, types.start_id, below.words, below.offsets, found
            )
        )
        if count <= len(found):
            return found[:count]
        found = np.empty(count, np.int64)


@compiled
def _has_a_name_of(words, offsets, names):  # type: ignore[no-untyped-def]
    """Whether one of some types, of which ``words`` and ``offsets`` are as in ``BTF``, has its name
    at one of the rising offsets ``names``, uint32."""
    for own in range(len(offsets) - 1):
        name = words[np.int64(offsets[own])]
        place = first_at_least(names, name)
        if place < len(names) and names[place] == name:
            return True
    return False


def flattened(types: BTF, base: BTF | None) -> BTF:
    """The same types, each nested array in them as one array of all its elements.

    base  to stand under them: theirs, or what was made of it by this function
    """
    words, offsets = types.words.copy(), types.offsets
    copy = replace(types, words=words, base=base, sound=True)
    for _ in range(MAX_DIMENSIONS):
        arrays = nested_arrays(copy)
        if not len(arrays):
            break
        at = offsets[arrays - types.start_id].astype(np.int64)
        for level in copy.levels:
            elements = words[at + 3].astype(np.int64)
            own = (elements >= level.start_id) & (elements < level.type_end)
            of = level.offsets[elements[own] - level.start_id].astype(np.int64)
            words[at[own] + 3], count = level.words[of + 3], level.words[of + 5]
            words[at[own] + 5] *= count
    return replace(copy, words=freeze(words), sound=True)


def _flattened_index(index: BaseIndex) -> BaseIndex:
    found = _FLATTENED.get(index)
    if found is None:
        assert index.base is not None
        found = _FLATTENED[index] = BaseIndex.build(flattened(index.base, None))
    return found


def _holders(base: BTF, arrays: np.ndarray) -> set[bytes]:
    """Names of types that hold one of some arrays, themselves or by way of nameless ones."""
    kinds, starts = base.own_kinds, base.offsets[:-1].astype(np.int64)
    counts = FEWEST_REFS[kinds] + REF_EACH[kinds] * (base.words[starts + 1] & INFO_VLEN_MASK)
    owners = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = starts[owners] + FIRST_REF[kinds][owners] + REF_STEP[kinds][owners] * numbers
    referred = base.words[places]
    named = (base.words[starts] != 0) & (NAME_SPACE[kinds] != NameSpace.NONE)
    reached = np.zeros(base.type_end, np.bool_)
    reached[arrays] = True
    for _ in range(MAX_HOPS):
        holds = np.unique(owners[reached[referred]])
        passing = holds[~named[holds]] + 1
        if reached[passing].all():
            break
        reached[passing] = True
    return {base.string_bytes(int(base.words[starts[own]])) for own in holds[named[holds]]}
