"""What is worked out for each type, and what the hashes of spellings and layouts begin with.

Parameters used throughout:

of_base, of_own  uint64, four columns: ``hashes`` of the base's types, by type id, and of the own
start_id         id of the first own type
type_id          id of a type, of the base or own
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import inlined


class Values(NamedTuple):
    """What is known of n types.

    Qualifiers, tags and arrays around a type are taken together: it is ``inner`` with some
    qualifiers, ``length`` times. In memory typedefs stand for what they name, so that there it is
    ``element``, ``many`` times.

    declaration  uint64 (n, 2): fingerprints of the declarations
    hashes       uint64 (n, 4): hash of C's spelling, and beside it, as most that ask for one ask
                 for the other, the fingerprint of what lies in memory; at first what
                 ``fingerprint.record_hashes`` finds
    length       uint64 (n,)
    many         uint64 (n,)
    inner        uint32 (n,): type id, or CIRCLE
    element      uint32 (n,): type id, or CIRCLE
    marks        uint8 (n,): bits of qualifiers, ARRAY_SPELLED, ARRAY_IN_MEMORY, NAMELESS
    """

    declaration: np.ndarray
    hashes: np.ndarray
    length: np.ndarray
    many: np.ndarray
    inner: np.ndarray
    element: np.ndarray
    marks: np.ndarray

    @classmethod
    def of(cls, types: int) -> Values:
        """Room for that many."""
        hashes = [np.empty((types, columns), np.uint64) for columns in (2, 4)]
        numbers = [np.empty(types, np.uint64) for _ in range(2)]
        ids = [np.empty(types, np.uint32) for _ in range(2)]
        return cls._make([*hashes, *numbers, *ids, np.empty(types, np.uint8)])

    def rows(self, first: int) -> Values:
        """The same from row ``first`` on."""
        return Values._make(column[first:] for column in self)


SWEEPS = 32  # over the types, before they are ordered

CIRCLE = 0xFFFFFFFF  # in place of a type id: of a type that would contain itself
WAITING = -1  # in place of a type id: of a type that is not done

ARRAY_SPELLED = 8  # beside one bit for each qualifier: 1, 2, 4
ARRAY_IN_MEMORY = 16
NAMELESS = 0xE0  # of what has no name to be spelled by, one of these:
NAMELESS_POINTER, NAMELESS_PROTOTYPE, NAMELESS_STRUCT, NAMELESS_UNION, NAMELESS_ENUM = (
    0x20, 0x40, 0x60, 0x80, 0xA0,
)  # fmt: skip

# Where a hash begins: one for each use, beside those of ``fingerprint.hashing``.
WRAPPED = np.uint64(17)  # a type with qualifiers, or many of it
WRITTEN_OUT = np.uint64(18)  # what has no name to be spelled by
DECLARED = np.uint64(20)
LAID_OUT = np.uint64(21)

# Hashes of what is no type of its own.
VOID = np.uint64(0x5D8A6BC1E4C0FFEE), np.uint64(0x0123456789ABCDEF)
CIRCULAR = np.uint64(0x2545F4914F6CDD1D), np.uint64(0x9E6C63D0876A9A99)
VARIADIC = np.uint64(0xD1342543DE82EF95), np.uint64(0x5851F42D4C957F2D)

_MOST = np.uint64(0xFFFFFFFFFFFFFFFF)
_0 = np.uint64(0)


@inlined
def value_of(of_base, of_own, start_id, type_id, column):  # type: ignore[no-untyped-def]
    """One of the hashes of a type, as two numbers; of CIRCLE too.

    column  SPELLED or LAYOUT, see ``fingerprint.hashing``
    """
    if type_id == CIRCLE:
        return CIRCULAR
    if type_id >= start_id:
        row = type_id - start_id
        return of_own[row, column], of_own[row, column + 1]
    return of_base[type_id, column], of_base[type_id, column + 1]


@inlined
def times(many, more):  # type: ignore[no-untyped-def]
    """The product of ``many`` and ``more`` (uint64): the largest number if it has not room."""
    if more != _0 and many > _MOST // more:
        return _MOST
    return many * more
