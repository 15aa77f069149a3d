"""What is in an output folder: its kernels, and a kernel's modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.errors import OutputError
from .changes.stored import in_order, stored_kernels
from .query import Tables

_KERNEL = (
    "kernel, release, flavour, architecture, package, package_version, base_types, base_bytes, "
    "modules, failed, types_in, types_out, bytes_in, bytes_out"
)
_MODULE = (
    "kernel, module, source, status, form, error, types_in, types_out, input_bytes AS bytes_in, "
    "bytes_out"
)


def list_kernels(out: str) -> list[Mapping[str, Any]]:
    """The kernels, by flavour, architecture and release. Raises OutputError."""
    with Tables(out) as tables:
        rows = tables.ask(f"SELECT {_KERNEL} FROM kernels").as_records()
        known = {row["kernel"]: row for row in rows}
        missing = [one.kernel for one in tables.manifests if one.kernel not in known]
        if missing:
            raise OutputError(
                f"the table kernels in {out} says nothing of {missing[0]}: `splitbtf verify {out}` "
                "says what is damaged"
            )
        return [known[one.name] for one in in_order(stored_kernels(out, tables.manifests).values())]


def list_modules(out: str, kernel: str) -> tuple[str, list[Mapping[str, Any]]]:
    """A kernel that is named as people type it: its name and its modules.

    Raises OutputError or QueryError.
    """
    with Tables(out, kernel=kernel) as tables:
        rows = tables.ask(f"SELECT {_MODULE} FROM modules ORDER BY module").as_records()
        return tables.kernels[0], list(rows)
