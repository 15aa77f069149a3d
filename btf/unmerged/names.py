"""The base's named types in the order of their names, made once per base and shared.

A type of a module is compared with those of its name in its own name space: ``kinds.NameSpace``.

Parameters used throughout:

keys     uint64: ``BaseNames.keys``
words    uint32: type records, those of the base or of the module after dedup
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..arguments import brief_repr, takes
from ..compiled.jit import compiled
from ..deduplication.index import BaseIndex
from ..format.kinds import NAME_SPACE, NameSpace, kind_of
from ..format.search import first_at_least
from ..format.strings import find_string, hash_string, seed_of
from ..types.btf import freeze

_SPACE_BITS = 3
assert max(NameSpace) < 1 << _SPACE_BITS


@dataclass(frozen=True, eq=False)
class BaseNames:
    """The named types of a base, sorted by name, name space and id.

    keys    uint64: offset of the name, shifted by three bits, and the name space; where the base
            has a string twice, the offset under which modules know it
    ids     uint32: the types
    """

    __repr__ = brief_repr

    keys: np.ndarray
    ids: np.ndarray

    @cached_property
    def type_end(self) -> int:
        """More than any of the ids."""
        return int(self.ids.max(initial=0)) + 1

    @classmethod
    @takes(index=BaseIndex)
    def build(cls, index: BaseIndex) -> BaseNames:
        """Sort the named types of an indexed base."""
        keys = np.empty(index.type_end, np.uint64)
        _make_keys(
            index.words,
            index.starts,
            index.strings,
            index.string_slots,
            index.strings_repeat,
            keys,
        )
        named = np.flatnonzero(keys)
        order = named[np.argsort(keys[named], kind="stable")]
        return cls(freeze(keys[order]), freeze(order.astype(np.uint32)))


@compiled
def _make_keys(words, starts, strings, string_slots, strings_repeat, keys):  # type: ignore[no-untyped-def]
    """Fill ``keys`` by type id; 0 for what has no name.

    starts, strings, string_slots, strings_repeat   of ``BaseIndex``
    """
    for type_id in range(len(starts)):
        at = np.int64(starts[type_id])
        name = np.int64(words[at])
        space = np.int64(NAME_SPACE[kind_of(words[at + 1])])
        if name == 0 or space == 0 or strings[name] == 0:
            keys[type_id] = 0
            continue
        if strings_repeat:
            h, _ = hash_string(strings, name, seed_of(string_slots))
            known = find_string(strings, string_slots, strings, name, h)
            if known >= 0:
                name = known
        keys[type_id] = (name << _SPACE_BITS) | space


@compiled
def namesakes(keys, name, space):  # type: ignore[no-untyped-def]
    """Find the base's types of a name: (position in ``keys`` of the first, one more than of the
    last).

    name, space   int64: offset of the name, and a ``NameSpace``
    """
    key = np.uint64((name << _SPACE_BITS) | space)
    first = end = first_at_least(keys, key)
    while end < len(keys) and keys[end] == key:
        end += 1
    return first, end


@compiled
def find_namesakes(words, offsets, str_end, keys, first, count):  # type: ignore[no-untyped-def]
    """Find out which own types have namesakes in the base; returns how many have.

    offsets         uint32: where the module's own types begin in ``words``
    str_end         bytes of the base's strings: a name that the base lacks lies behind them
    first, count    int32, shape (T,): by own type (0-based), where its namesakes are
    """
    found = 0
    for own in range(len(offsets) - 1):
        at = np.int64(offsets[own])
        name = np.int64(words[at])
        space = np.int64(NAME_SPACE[kind_of(words[at + 1])])
        first[own] = 0
        count[own] = 0
        if name == 0 or name >= str_end or space == 0:
            continue
        low, end = namesakes(keys, name, space)
        if end > low:
            first[own] = low
            count[own] = end - low
            found += 1
    return found
