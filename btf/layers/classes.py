"""Which own types of modules on one base are the same, and which of them may move to a layer.

Types are rows here: those of all modules, one module after the other, each in order of its ids. A
class is a set of rows that could stand for each other (``own_fingerprints``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..edit.append import require_known_kinds
from ..edit.fields import fields
from ..fingerprint.fingerprints import own_fingerprints
from ..format.kinds import NO_TYPES
from ..types.btf import BTF


@dataclass(frozen=True, eq=False)
class Classes:
    """The own types of some modules, all on one base, by class.

    starts   int64 (M + 1,): the first row of each module; last entry is the number of rows R
    class_of int64 (R,): the class of each row; classes are numbered by their first row
    first    int64 (C,): the first row of each class
    modules  int64 (C,): how many modules have types of the class
    movable  bool (C,): whether types of the class may move to another layer, if all that they
             refer to does
    bytes    int64 (C,): size of a record
    refs     int64 (E, 2): each pair (row, row it refers to) in order of the first; none of the base
    """

    starts: np.ndarray
    class_of: np.ndarray
    first: np.ndarray
    modules: np.ndarray
    movable: np.ndarray
    bytes: np.ndarray
    refs: np.ndarray

    @property
    def count(self) -> int:
        """Number of classes."""
        return len(self.first)

    def rows(self, module: int) -> slice:
        """The rows of a module."""
        return slice(int(self.starts[module]), int(self.starts[module + 1]))

    def closed(self, wanted: np.ndarray) -> np.ndarray:
        """The largest part of some classes that refers to nothing but itself and the base.

        wanted, result   bool (C,)
        """
        source, target = self.class_of[self.refs].T
        edges = np.column_stack(np.divmod(np.unique(source * self.count + target), self.count))
        return _closed(wanted, edges)

    def closed_rows(self, module: int, wanted: np.ndarray) -> np.ndarray:
        """As ``closed`` for the rows of one module alone: bool, one per own type."""
        rows = self.rows(module)
        first, last = np.searchsorted(self.refs[:, 0], (rows.start, rows.stop))
        return _closed(wanted, self.refs[first:last] - rows.start)


def classify(modules: Sequence[BTF]) -> Classes:
    """Find the classes of all own types of modules that are split BTF on one base.

    Raises ValueError when they are not, UnsupportedError for kinds that only a layout section
    describes.
    """
    if any(module.base is None or module.base is not modules[0].base for module in modules):
        raise ValueError("the modules are not split BTF on one base")
    for module in modules:
        require_known_kinds(module, "put on another layer")
    starts = np.zeros(len(modules) + 1, np.int64)
    np.cumsum([module.type_count for module in modules], out=starts[1:])
    values = _joined([own_fingerprints(module) for module in modules], (0, 2), np.uint64)
    class_of, first = _grouped(values)
    pairs = np.unique(class_of * len(modules) + np.repeat(np.arange(len(modules)), np.diff(starts)))
    kind = _joined([module.own_kinds for module in modules], 0, np.uint8)[first]
    words = _joined([np.diff(module.offsets) for module in modules], 0, np.uint32)[first]
    refs = [_references(module, int(start)) for module, start in zip(modules, starts, strict=False)]
    return Classes(
        starts=starts,
        class_of=class_of,
        first=first,
        modules=np.bincount(pairs // max(1, len(modules)), minlength=len(first)),
        # What is no type is what a module has, where types say what things are like: two functions
        # of one name and one signature are still two functions. They stay in their modules, where
        # tools look for them; and so do tags, which would otherwise tag a type for modules that
        # have it without.
        movable=~np.isin(kind, list(NO_TYPES)),
        bytes=4 * words.astype(np.int64),
        refs=_joined(refs, (0, 2), np.int64),
    )


def _joined(parts: list[np.ndarray], shape: int | tuple[int, int], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(shape, dtype), *parts])


def _grouped(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class of each row of ``values`` (numbered by first row), and the first row of each class."""
    order = np.lexsort((values[:, 1], values[:, 0]))  # stable: equal rows stay in their order
    ordered = values[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    first_rows = order[begins]
    rank = np.empty(len(first_rows), np.int64)
    rank[np.argsort(first_rows)] = np.arange(len(first_rows))
    class_of = np.empty(len(order), np.int64)
    class_of[order] = rank[np.cumsum(begins) - 1]
    return class_of, np.sort(first_rows)


def _references(module: BTF, first_row: int) -> np.ndarray:
    """(row, row it refers to) of all references between own types, in order of the first."""
    _, at = fields(module.words, module.offsets[:-1], module.offsets[1:])
    target = module.words[at].astype(np.int64) - module.start_id
    own = target >= 0
    source = np.searchsorted(module.offsets, at[own], "right") - 1
    return np.column_stack((source, target[own])) + first_row


def _closed(wanted: np.ndarray, edges: np.ndarray) -> np.ndarray:
    kept = wanted.copy()
    while True:
        lost = edges[kept[edges[:, 0]] & ~kept[edges[:, 1]], 0]
        if not len(lost):
            return kept
        kept[lost] = False
