"""The named types of a kernel's objects: each name with all that an object declares under it.

A name can have several declarations in one object: they are a set. A forward declaration, and an
enum without enumerators, is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...sources.lookup import KIND_WORDS
from .numbers import differ, encoded, is_there, numbers_of, ranges

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

#: What is compared: words for kinds as tables have them.
KINDS = {
    "STRUCT": "struct",
    "UNION": "union",
    "ENUM": "enum",
    "ENUM64": "enum",
    "TYPEDEF": "typedef",
    "FUNC": "func",
    "VAR": "var",
}
_KIND_BITS, _NAME_BITS = 3, 36


@dataclass(frozen=True, eq=False)
class NamedTypes:
    """N different (object, kind, name), ordered by these.

    objects      names of the objects by object id
    names        pa.StringArray: names by code; there may be others, of no code in ``keys``
    keys         int64 (N,), ascending: object, kind and code of the name, see ``key_of``
    first        int64 (N + 1,): where in ``global_ids`` those of each name begin
    global_ids   int64: the types of each name
    declaration, layout, deep   uint64 (N, 2): of the set of fingerprints
    unread       what is wrong with objects of which nothing is known, by name
    """

    objects: Sequence[str]
    names: pa.StringArray
    keys: NDArray[np.int64]
    first: NDArray[np.int64]
    global_ids: NDArray[np.int64]
    declaration: NDArray[np.uint64]
    layout: NDArray[np.uint64]
    deep: NDArray[np.uint64]
    unread: Mapping[str, str]

    COLUMNS = (
        "global_id", "kind", "name", "vlen",
        "declaration_fingerprint", "layout_fingerprint", "fingerprint",
    )  # fmt: skip

    @classmethod
    def of(
        cls,
        types: pa.Table,
        objects: Sequence[str],
        unread: Mapping[str, str],
        called: tuple[NDArray[Any], pa.StringArray] | None = None,
    ) -> NamedTypes:
        """Group rows of the table ``types``, of which there are COLUMNS.

        called  its names as ``encoded`` has them, if that was done; the texts may be more
        """
        code, names = called or encoded(types["name"])
        kind = _kind_numbers(types["kind"])
        vlen = numbers_of(types["vlen"], 1)
        empty_enum = (kind == KIND_WORDS.index("enum")) & (vlen == 0)
        rows = np.flatnonzero((kind >= 0) & (code >= 0) & ~empty_enum)
        global_ids = numbers_of(types["global_id"])[rows]
        keys = key_of(global_ids >> 32, kind[rows], code[rows])
        order = np.argsort(keys, kind="stable")
        rows, keys = rows[order], keys[order]
        new = np.ones(len(rows), np.bool_)
        new[1:] = keys[1:] != keys[:-1]
        first = np.append(np.flatnonzero(new), len(rows))
        declaration, layout, deep = (
            _of_sets(first, rows, hashes(types[f"{which}fingerprint"]))
            for which in ("declaration_", "layout_", "")
        )
        global_ids = global_ids[order]
        sets = declaration, layout, deep
        return cls(objects, names, keys[new], first, global_ids, *sets, unread)

    def ids(self, numbers: Sequence[int] | NDArray[np.int64]) -> list[tuple[int, ...]]:
        """Global ids of the types of each of some names; none for what is negative."""
        wanted = np.asarray(numbers, np.int64)
        ids, count = self._ids(wanted)
        firsts = np.append(self.global_ids, 0)[self.first[wanted]].tolist()
        found: list[tuple[int, ...]] = list(zip(firsts, strict=True))
        for at in np.flatnonzero(count == 0).tolist():
            found[at] = ()
        ends = np.cumsum(count)
        for at in np.flatnonzero(count > 1).tolist():  # few
            found[at] = tuple(ids[ends[at] - count[at] : ends[at]].tolist())
        return found

    def ids_of(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Global ids, ascending, of the types of all these names."""
        return np.sort(self._ids(wanted)[0])

    def _ids(self, wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Global ids of the types of some names, and how many each has; none has what is
        negative."""
        first = self.first[wanted]
        count = np.where(wanted >= 0, self.first[wanted + 1] - first, 0)
        return self.global_ids[ranges(first, count)], count


def key_of(
    object_id: NDArray[np.int64], kind: NDArray[np.int64], name: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A number for each object, kind and name, which orders as these do."""
    high = np.asarray(object_id, np.int64) << (_KIND_BITS + _NAME_BITS)
    return high | np.asarray(kind, np.int64) << _NAME_BITS | np.asarray(name, np.int64)


def parts_of(
    keys: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Object, kind and name of such numbers."""
    name = keys & ((1 << _NAME_BITS) - 1)
    return keys >> (_KIND_BITS + _NAME_BITS), without_object(keys) >> _NAME_BITS, name


def without_object(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Kind and name alone."""
    return keys & ((1 << (_KIND_BITS + _NAME_BITS)) - 1)


def _kind_numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Positions in KIND_WORDS; -1 for kinds that are not compared."""
    pieces = [np.empty(0, np.int64)]
    for chunk in column.chunks:
        words = [KINDS.get(word) for word in chunk.dictionary.to_pylist()]
        numbers = [KIND_WORDS.index(word) if word is not None else -1 for word in words]
        pieces.append(np.array(numbers, np.int64)[numbers_of(chunk.indices)])
    return np.concatenate(pieces)


def hashes(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Hashes of 16 bytes as two numbers each, which say nothing but whether two are the same;
    0 where there is none."""
    pieces = [np.empty((0, 2), np.uint64)]
    for chunk in column.chunks:
        words = np.frombuffer(chunk.buffers()[1] or b"", np.uint64).reshape(-1, 2)
        pieces.append(words[chunk.offset : chunk.offset + len(chunk)])
        if chunk.null_count:
            pieces[-1] = np.where(is_there(chunk)[:, None], pieces[-1], np.uint64(0))
    return np.concatenate(pieces)


def _of_sets(
    first: NDArray[np.int64], rows: NDArray[np.int64], values: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Add up the distinct values of each name, modulo 2**64: the same for the same set.

    first    int64 (N + 1,): where in ``rows`` those of each name begin
    rows     int64: where in ``values`` each is
    values   uint64 (n, 2): hashes
    """
    out = values.take(rows[first[:-1]], axis=0)
    count = np.diff(first)
    several = np.flatnonzero(count > 1)  # few
    if len(several):
        name = np.repeat(np.arange(len(several)), count[several])
        of_those = values.take(rows[ranges(first[several], count[several])], axis=0)
        order = np.lexsort((of_those[:, 1], of_those[:, 0], name))
        name, of_those = name[order], of_those[order]
        starts = np.append(True, name[1:] != name[:-1])
        distinct = starts.copy()
        distinct[1:] |= differ(of_those[1:], of_those[:-1])
        out[several] = np.add.reduceat(of_those[distinct], np.flatnonzero(starts[distinct]), axis=0)
    return out
