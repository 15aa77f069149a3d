"""What changed between two kernels of an output folder, or two files with BTF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import btf

from ..model.base import Announce
from ..sources.lookup import resolve_kernel
from .changes.chosen import Filters, chosen
from .changes.compare import Change, Comparison, ObjectCounts
from .changes.details import Detail, details
from .changes.opened import OpenedFiles, open_files
from .changes.stored import StoredKernel, stored_kernels


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between ``old`` and ``new``.

    objects   all that were asked about, vmlinux first
    changes   by object, kind and name
    unknown_symbols   of the symbols asked for, those in neither
    """

    old: str
    new: str
    objects: Sequence[ObjectCounts]
    changes: Sequence[Change]
    unknown_symbols: Sequence[str]
    _sides: tuple[StoredKernel | OpenedFiles, StoredKernel | OpenedFiles]

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
    """Compare the types that two files hold themselves: see ``open_files``.

    Raises SourceError or BaseError.
    """
    btf.warm_up(announce, tables=True)
    before, after = open_files(old, new, bases)
    return _diff(old, new, before, after, filters or Filters())


def diff_kernels(out: str, old: str, new: str, filters: Filters | None = None) -> Diff:
    """Compare two kernels of an output folder, vmlinux and modules, out of its tables.

    old, new  as people type them: see ``resolve_kernel``

    Raises OutputError or QueryError.
    """
    kernels = stored_kernels(out)
    first, second = (kernels[resolve_kernel(name, kernels)] for name in (old, new))
    return _diff(first.name, second.name, first, second, filters or Filters())


def _diff(
    old: str,
    new: str,
    before: StoredKernel | OpenedFiles,
    after: StoredKernel | OpenedFiles,
    filters: Filters,
) -> Diff:
    unknown = set(filters.symbols or ())
    only = None
    if not filters.empty:
        only = (
            chosen(filters, before.named_types, before.rows, unknown),
            chosen(filters, after.named_types, after.rows, unknown),
        )
    found = Comparison(before.named_types, after.named_types, only)
    objects = [one for one in found.counts if filters.has_object(one.object)]
    names = sorted(symbol.name.name for symbol in unknown)
    return Diff(old, new, objects, found.changes, names, (before, after))
