"""The table ``kernels``: one row, what is known of a kernel and its base."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from btf.types.columns import kind_totals

from .. import __version__
from ..model.base import IndexedBase
from .identity import architecture, features, flavour, release_key
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
    elif kernel.kernel.release is not None:
        row |= _of_release(kernel.kernel.release)
    return pa.Table.from_pylist([row], schema=TABLE.schema)


def _of_base(base: IndexedBase, release: str | None) -> dict[str, Any]:
    types, (kinds, kind_bytes) = base.types, counts_by_name(kind_totals(base.types))
    package, version = (
        (base.file.package_name, base.file.package_version) if base.file else ("", "")
    )
    version, _, machine = (version or "").rpartition("_")
    return _of_release(base.release or release) | {
        "architecture": architecture(types, machine),
        "pointer_bytes": types.pointer_size,
        "package": package or None,
        "package_version": version or None,
        "base_features": features(types, base.is_sorted),
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


def _of_release(release: str | None) -> dict[str, Any]:
    return {
        "release": release, "release_key": release_key(release), "flavour": flavour(release)
    }  # fmt: skip


TABLE = KernelTable(
    name="kernels",
    rank=10,
    row="one row per kernel",
    order="",
    columns=(
        Column("release", TEXT, "", "release of the kernel, as far as base or paths tell"),
        Column("release_key", TEXT, "", "text that sorts as releases do: 6.9, 6.12-rc3, 6.12"),
        Column("flavour", TEXT, "", "the build's name in the release, as `cloud-amd64`"),
        Column("architecture", TEXT, "", "as uname says it: `x86_64`, `aarch64`, `s390x`, …"),
        Column("pointer_bytes", I64, "bytes", "size of a pointer"),
        Column("package", TEXT, "", "package that the base was in"),
        Column("package_version", TEXT, "", "version of that package"),
        Column("base_source", TEXT, "", "where the base was found, relative to its source"),
        Column("base_encoder", TEXT, "", "what made the base's BTF of its DWARF, if it had none"),
        Column(
            "base_features",
            pa.list_(TEXT),
            "",
            "what is in the base's BTF that older encoders do not write: kinds that came late, "
            "`KFUNC` where kfuncs are marked, `NESTED_ARRAYS` where arrays of several dimensions "
            "are arrays of arrays (pahole since 1.32), `SORTED` where types are sorted by name",
        ),
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
