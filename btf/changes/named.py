"""The named types of one object, each name with all that is declared under it.

A name can have several declarations in one object: they are a set. A forward declaration, and an
enum without enumerators, is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..declaration.fingerprints import Declarations
from ..format import kinds
from ..format.kinds import INFO_VLEN_MASK
from ..types.btf import BTF

#: Kinds that are compared, and what C calls them.
KINDS = {
    **{kind: kinds.KEYWORDS[kind] for kind in sorted(kinds.COMPOSITES | kinds.ENUMS)},
    kinds.TYPEDEF: "typedef",
    kinds.FUNC: "func",
    kinds.VAR: "var",
}
_COMPARED = np.isin(np.arange(kinds.KIND_COUNT), list(KINDS))
_ENUM = np.isin(np.arange(kinds.KIND_COUNT), list(kinds.ENUMS))


@dataclass(frozen=True, eq=False)
class SideOfDiff:
    """An object, and the fingerprints of its types.

    btf     plain, or split BTF, of which the own types are compared
    known   declarations and layouts of its own types
    base    of all types that it continues; None for plain BTF
    deep    fingerprints of its own types, ``fingerprint.fingerprints``; None where not asked for
    """

    btf: BTF
    known: Declarations
    base: Declarations | None = None
    deep: np.ndarray | None = None

    def declaration(self, type_id: int) -> bytes:
        """Fingerprint of a type's declaration; of one of the base too."""
        return self._row(type_id, "declaration")

    def layout(self, type_id: int) -> bytes:
        """Fingerprint of a type's layout; of one of the base too."""
        return self._row(type_id, "layout")

    def spelled(self, type_id: int) -> bytes:
        """Hash of how C spells a type; of one of the base too."""
        return self._row(type_id, "spelled")

    def _row(self, type_id: int, which: str) -> bytes:
        known, row = self.known, type_id
        if self.base is not None:
            if type_id < self.btf.start_id:
                known = self.base
            else:
                row = type_id - self.btf.start_id
        found: bytes = getattr(known.values, which)[row].tobytes()
        return found

    @cached_property
    def names(self) -> NamedTypes:
        """Its types by name."""
        return NamedTypes.of(self)


@dataclass(frozen=True, eq=False)
class NamedTypes:
    """By kind and name: N of them.

    keys         16 bytes for each, the same for a kind and name in every object
    kinds        uint8 (N,): of the first type of the name
    first        int64 (N + 1,): where in ``type_ids`` each one's begin
    type_ids     int64: types, by name
    declaration, layout, deep   uint64 (N, 2): of the set of fingerprints; ``deep`` may be None
    """

    keys: list[bytes]
    kinds: np.ndarray
    first: np.ndarray
    type_ids: np.ndarray
    declaration: np.ndarray
    layout: np.ndarray
    deep: np.ndarray | None

    @classmethod
    def of(cls, side: SideOfDiff) -> NamedTypes:
        """Group the own types of an object."""
        btf, own = side.btf, side.known.values
        if btf.base is None:
            own = own.rows(1)
        kind = btf.own_kinds
        starts = btf.offsets[:-1]
        empty = (btf.words[starts + np.uint32(1)] & np.uint32(INFO_VLEN_MASK)) == 0
        wanted = _COMPARED[kind] & ~(_ENUM[kind] & empty)
        wanted &= ~nameless(btf, btf.words[starts])
        rows = np.flatnonzero(wanted)
        keys = own.spelled[rows]
        order = np.lexsort((rows, keys[:, 1], keys[:, 0]))
        rows, keys = rows[order], keys[order]
        new = np.ones(len(rows), np.bool_)
        new[1:] = np.any(keys[1:] != keys[:-1], axis=1)
        first = np.append(np.flatnonzero(new), len(rows))
        deep = side.deep
        if deep is not None and btf.base is None:
            deep = deep[1:]
        text = np.ascontiguousarray(keys[new]).tobytes()
        return cls(
            keys=[text[at : at + 16] for at in range(0, len(text), 16)],
            kinds=kind[rows[new]],
            first=first,
            type_ids=rows + btf.start_id,
            declaration=of_sets(first, own.declaration[rows]),
            layout=of_sets(first, own.layout[rows]),
            deep=None if deep is None else of_sets(first, deep[rows]),
        )

    def ids(self, number: int) -> list[int]:
        """The types of one name."""
        found: list[int] = self.type_ids[self.first[number] : self.first[number + 1]].tolist()
        return found


def nameless(btf: BTF, name_off: np.ndarray) -> np.ndarray:
    """Whether the strings at these global offsets are empty."""
    strings = btf.chain_strings
    return np.asarray(strings[name_off] == 0)


def of_sets(first: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Add up the distinct values of each name, modulo 2**64: the same for the same set.

    first    int64 (N + 1,): where the values of each name begin
    values   uint64 (n, 2): hashes
    """
    out = values[first[:-1]]
    count = np.diff(first)
    several = np.flatnonzero(count > 1)
    if len(several):
        name = np.repeat(np.arange(len(count)), count)
        rows = np.flatnonzero(count[name] > 1)
        rows = rows[np.lexsort((values[rows, 1], values[rows, 0], name[rows]))]
        name, values = name[rows], values[rows]
        starts = np.append(True, name[1:] != name[:-1])
        distinct = starts.copy()
        distinct[1:] |= np.any(values[1:] != values[:-1], axis=1)
        out[several] = np.add.reduceat(values[distinct], np.flatnonzero(starts[distinct]), axis=0)
    return out
