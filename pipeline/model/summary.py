"""Facts about finished work, for the command line to word and for ``--json``.

Numbers and names only; no sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .records import DONE, Failure, ModuleRecord


@dataclass(frozen=True, slots=True)
class ModuleSize:
    """One module before and after."""

    module: str
    input_bytes: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class FailedInput:
    """One input that gave no result."""

    file: str
    module: str
    failure: Failure

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; what is not known is null."""
        return {
            "file": self.file,
            "module": self.module,
            "error_kind": self.failure.kind,
            "error": self.failure.message,
            "section": self.failure.section,
            "offset": self.failure.offset_bytes,
            "type_id": self.failure.type_id,
        }


@dataclass(frozen=True, slots=True)
class WorkSummary:
    """What came of a set of modules. Sums are over the modules that are done.

    kept_by_arrays, modules_of_arrays   types that stay only because arrays are written otherwise
                    than in the base, and modules that have some
    """

    modules: int
    failed: int
    bytes_in: int
    bytes_out: int
    types_in: int
    types_out: int
    largest: tuple[ModuleSize, ...]
    failures: tuple[FailedInput, ...]
    kept_by_arrays: int = 0
    modules_of_arrays: int = 0

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "modules": self.modules,
            "failed": self.failed,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "types_in": self.types_in,
            "types_out": self.types_out,
            "kept_by_arrays": self.kept_by_arrays,
            "failures": [failure.as_json() for failure in self.failures],
        }


def merge_summaries(parts: Sequence[WorkSummary], largest: int = 5) -> WorkSummary:
    """Sum up several summaries."""
    return WorkSummary(
        modules=sum(part.modules for part in parts),
        failed=sum(part.failed for part in parts),
        bytes_in=sum(part.bytes_in for part in parts),
        bytes_out=sum(part.bytes_out for part in parts),
        types_in=sum(part.types_in for part in parts),
        types_out=sum(part.types_out for part in parts),
        largest=_largest([size for part in parts for size in part.largest], largest),
        failures=tuple(failure for part in parts for failure in part.failures),
        kept_by_arrays=sum(part.kept_by_arrays for part in parts),
        modules_of_arrays=sum(part.modules_of_arrays for part in parts),
    )


def _largest(sizes: Sequence[ModuleSize], count: int) -> tuple[ModuleSize, ...]:
    return tuple(sorted(sizes, key=lambda size: (-size.bytes_out, size.module))[:count])


def summarize(records: Sequence[ModuleRecord], largest: int = 5) -> WorkSummary:
    """The summary of ``records``, with the modules that keep most."""
    done = [record for record in records if record.status == DONE]
    sizes = [ModuleSize(r.module, r.input_bytes or 0, r.bytes_out or 0) for r in done]
    return WorkSummary(
        modules=len(records),
        failed=len(records) - len(done),
        bytes_in=sum(record.input_bytes or 0 for record in done),
        bytes_out=sum(record.bytes_out or 0 for record in done),
        types_in=sum(record.types_in or 0 for record in done),
        types_out=sum(record.types_out or 0 for record in done),
        largest=_largest(sizes, largest),
        failures=tuple(
            FailedInput(record.path, record.module, record.failure)
            for record in records
            if record.failure is not None
        ),
        kept_by_arrays=sum(record.kept_by_arrays or 0 for record in done),
        modules_of_arrays=sum(bool(record.kept_by_arrays) for record in done),
    )
