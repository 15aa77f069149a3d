"""What changed between two kernels of an output folder, or two files with BTF."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import btf

from ..sources.lookup import resolve_kernel
from .changes.beside import of_both
from .changes.chosen import Filters, Unmet, chosen
from .changes.compare import BOTH, CHANGED, EMBEDDED, Change, Comparison, ObjectCounts, Unread
from .changes.detail import Detail
from .changes.details import begin_all, begin_details, details
from .changes.stored import named_types_of, stored_kernels

if TYPE_CHECKING:
    from ..model.base import Announce
    from .changes.sides import Side


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between ``old`` and ``new``.

    objects   all that were asked about, vmlinux first
    unread    objects that were asked about and are not compared
    symbols   how many symbols were asked for
    unknown_symbols   of these, those in neither
    unmet     of the names and modules asked for, those that neither has, and the nearest names
    """

    old: str
    new: str
    objects: Sequence[ObjectCounts]
    unread: Sequence[Unread]
    symbols: int
    unknown_symbols: Sequence[str]
    unmet: Sequence[tuple[str, Sequence[str]]]
    _sides: tuple[Side, Side]
    _comparison: Comparison

    @property
    def changes(self) -> Sequence[Change]:
        """All of them: by object, kind and name."""
        return self._comparison.changes

    def changes_told(self, listed: Collection[str]) -> Sequence[Change]:
        """Those that are told where only of the objects ``listed`` all names that were added or
        removed are."""
        return self._comparison.changes_told(listed)

    def details(self, changes: Sequence[Change]) -> list[list[Detail]]:
        """What changed in each of these. Raises OutputError or SourceError."""
        old, new = self._sides
        return details(changes, old.rows, new.rows)


def diff_files(
    old: str,
    new: str,
    bases: Sequence[str] = (),
    filters: Filters | None = None,
    announce: Announce | None = None,
) -> Diff:
    """Compare the types of two files or kernels: see ``open_sides``.

    Raises SourceError, BaseError, OutputError or NoRoomError.
    """
    from .changes.sides import open_sides  # late: what reads BTF

    btf.warm_up(announce, tables=True)
    before, after, only = open_sides(old, new, bases, announce)
    filters = filters or Filters()
    if only is not None and not filters.objects:
        filters = replace(filters, objects=[only])
    return _diff(old, new, before, after, filters)


def diff_kernels(out: str, old: str, new: str, filters: Filters | None = None) -> Diff:
    """Compare two kernels of an output folder, vmlinux and modules, out of its tables.

    old, new  as people type them: see ``resolve_kernel``

    Raises OutputError or QueryError.
    """
    kernels = stored_kernels(out)
    # Of its own each, should they be one: they are read at the same time.
    first, second = (replace(kernels[resolve_kernel(name, kernels)]) for name in (old, new))
    filters = filters or Filters()
    for kernel in (first, second):
        kernel.begin()
    if filters.empty and first.manifest.inputs_sha256 != second.manifest.inputs_sha256:
        begin_all(first.rows, second.rows)
    import pyarrow.compute  # noqa: F401 - takes long, and is needed when that has been read

    named_types_of(first, second)
    return _diff(first.name, second.name, first, second, filters)


def _diff(
    old: str,
    new: str,
    before: Side,
    after: Side,
    filters: Filters,
) -> Diff:
    unmet, only = Unmet(filters), None
    types = of_both(lambda side: side.named_types, before, after)
    if not filters.empty:
        only = (
            chosen(filters, types[0], before.rows, unmet),
            chosen(filters, types[1], after.rows, unmet),
        )
    found = Comparison(*types, only)
    sides = before, after
    needed = zip(found.ids(EMBEDDED), found.ids(CHANGED), found.ids(CHANGED, "enum"), strict=True)
    for side, of_side in zip(sides, needed, strict=True):
        begin_details(side.rows, *of_side)
    objects = [one for one in found.counts if _is_told(one, filters)]
    symbols = len(set(filters.symbols or ()))
    names = sorted(symbol.name.name for symbol in unmet.symbols)
    unread = [one for one in found.unread if filters.has_object(one.object)]
    near = unmet.nearest(types)
    return Diff(old, new, objects, unread, symbols, names, near, sides, found)


def _is_told(one: ObjectCounts, filters: Filters) -> bool:
    """Whether an object is asked about. Of those that only one kernel has, and of which some names
    are asked about, it has one of these."""
    may_be_told = one.status == BOTH or not filters.of_names or one.has_names
    return may_be_told and filters.has_object(one.object)
