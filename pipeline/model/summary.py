"""Facts about finished work, for the command line to word and for ``--json``.

Numbers and names only; no sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .records import DONE, SPLIT, Failure, ModuleRecord

if TYPE_CHECKING:
    from .base import IndexedBase


_SUMS = (
    "modules", "failed", "bytes_in", "bytes_out", "types_in", "types_out", "left_types",
    "left_bytes", "kept_by_arrays", "modules_of_arrays",
)  # fmt: skip
_NUMBERS = (*_SUMS, "base_types", "base_bytes", "repeated_types", "repeated_bytes")


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

    left_types, left_bytes   what dedup removed of modules that came as split BTF: what their build
                    left in them
    kept_by_arrays, modules_of_arrays   types that stay only because arrays are written otherwise
                    than in the base, and modules that have some
    base_types, base_bytes   of the base's BTF; None where it is not known
    repeated_types, repeated_bytes   own types of modules that an earlier module keeps, too, and
                    the bytes of their records; None where that was not worked out
    """

    modules: int
    failed: int
    bytes_in: int
    bytes_out: int
    types_in: int
    types_out: int
    largest: tuple[ModuleSize, ...]
    failures: tuple[FailedInput, ...]
    left_types: int = 0
    left_bytes: int = 0
    kept_by_arrays: int = 0
    modules_of_arrays: int = 0
    base_types: int | None = None
    base_bytes: int | None = None
    repeated_types: int | None = None
    repeated_bytes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            "failures": [failure.as_json() for failure in self.failures],
        }


def on_base(summary: WorkSummary, base: IndexedBase | None) -> WorkSummary:
    """Add the sizes of the base, if there is one."""
    if base is None:
        return summary
    return replace(summary, base_types=base.types.type_count, base_bytes=len(base.content))


def merge_summaries(parts: Sequence[WorkSummary], largest: int = 5) -> WorkSummary:
    """Sum up several summaries of modules on one base."""
    return WorkSummary(
        **{name: sum(getattr(part, name) for part in parts) for name in _SUMS},
        largest=_largest([size for part in parts for size in part.largest], largest),
        failures=tuple(failure for part in parts for failure in part.failures),
    )


def _largest(sizes: Sequence[ModuleSize], count: int) -> tuple[ModuleSize, ...]:
    return tuple(sorted(sizes, key=lambda size: (-size.bytes_out, size.module))[:count])


def summarize(records: Sequence[ModuleRecord], largest: int = 5) -> WorkSummary:
    """The summary of ``records``, with the modules that keep most."""
    done = [record for record in records if record.status == DONE]
    split = [record for record in done if record.form == SPLIT]
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
        left_types=sum((r.types_in or 0) - (r.types_out or 0) for r in split),
        left_bytes=sum((r.input_bytes or 0) - (r.bytes_out or 0) for r in split),
        kept_by_arrays=sum(record.kept_by_arrays or 0 for record in done),
        modules_of_arrays=sum(bool(record.kept_by_arrays) for record in done),
    )
