"""The table ``kernels``: one row, what is known of a kernel and its base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from btf.types.columns import kind_totals

from .. import __version__
from ..model.base import IndexedBase
from .kinds import counts_by_name
from .schema import COUNTS, I64, TEXT, Column, FinishedKernel, KernelTable

_KINDS = "only kinds that occur, by their BTF name (STRUCT, PTR, …)"


def _make(kernel: FinishedKernel) -> pa.Table:
    summary = kernel.summary
    row: dict[str, Any] = {
        "modules": summary.modules,
        "failed": summary.failed,
        "bytes_in": summary.bytes_in,
        "bytes_out": summary.bytes_out,
        "types_in": summary.types_in,
        "types_out": summary.types_out,
        "splitbtf_version": __version__,
    }
    if kernel.base is not None:
        row |= _of_base(kernel.base, kernel.kernel.release)
    return pa.Table.from_pylist([row], schema=TABLE.schema)


def _of_base(base: IndexedBase, release: str | None) -> Mapping[str, Any]:
    types, (kinds, kind_bytes) = base.types, counts_by_name(kind_totals(base.types))
    return {
        "release": base.release or release,
        "base_source": base.file.source if base.file is not None else None,
        "base_encoder": base.encoder,
        "base_sha256": base.sha256,
        "byteorder": types.byteorder,
        "base_bytes": len(base.content),
        "base_types": types.type_count,
        "base_type_bytes": types.words.nbytes,
        "base_string_bytes": types.strings.nbytes,
        "base_types_by_kind": kinds,
        "base_bytes_by_kind": kind_bytes,
    }


TABLE = KernelTable(
    name="kernels",
    rank=10,
    row="one row per kernel",
    order="",
    columns=(
        Column("release", TEXT, "", "release of the kernel, as far as base or paths tell"),
        Column("base_source", TEXT, "", "where the base was found, relative to its source"),
        Column("base_encoder", TEXT, "", "what made the base's BTF of its DWARF, if it had none"),
        Column("base_sha256", TEXT, "", "SHA-256 of the base's raw BTF, as hexadecimal digits"),
        Column("byteorder", TEXT, "", "`little` or `big`: of the base and of all its modules"),
        Column("base_bytes", I64, "bytes", "size of the base's raw BTF"),
        Column("base_types", I64, "types", "types in the base, void not counted"),
        Column("base_type_bytes", I64, "bytes", "size of the base's type section"),
        Column("base_string_bytes", I64, "bytes", "size of the base's string section"),
        Column("base_types_by_kind", COUNTS, "types", f"types in the base by kind; {_KINDS}"),
        Column("base_bytes_by_kind", COUNTS, "bytes", f"their records' bytes by kind; {_KINDS}"),
        Column("modules", I64, "modules", "inputs of this kernel, failed ones included"),
        Column("failed", I64, "modules", "inputs that gave no result"),
        Column("bytes_in", I64, "bytes", "BTF of the modules that are done, as found"),
        Column("bytes_out", I64, "bytes", "split BTF written for them"),
        Column("types_in", I64, "types", "own types of the modules that are done, as found"),
        Column("types_out", I64, "types", "own types in their split BTF"),
        Column("splitbtf_version", TEXT, "", "version of splitbtf that made these tables"),
    ),
    make=_make,
    needs_base=False,
)
