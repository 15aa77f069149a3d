"""The table ``modules``: what is known of each input, whether it is done or failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import btf
from btf.types.columns import both_kind_totals

from ..model.base import SharedBase
from ..model.records import ERROR_KINDS, Failure, ModuleRecord
from .kinds import counts_by_name
from .schema import COUNTS, I64, TEXT, Column, ModuleTable, Objects, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .describe import ModuleGroup

_KINDS = "only kinds that occur, by their BTF name (STRUCT, PTR, …)"
_ERRORS = "; ".join(f"`{kind}`: {meaning}" for kind, meaning in ERROR_KINDS.items())
_OF_THE_KERNEL = ("module", "object_id", "source")  # what a module is called and where it stands
_COLUMNS = (
    Column("module", TEXT, "", "unique name in the kernel; the file is `<module>.btf`"),
    Column("object_id", I64, "", "number of the module in the kernel, from 1; the base is 0"),
    Column("module_name", TEXT, "", "what the module calls itself, else its file's name"),
    Column("source", TEXT, "", "the input file, relative to the source it was found under"),
    Column("status", TEXT, "", "`done` or `failed`"),
    Column(
        "form",
        TEXT,
        "",
        "BTF of the input: `standalone`, `split`, `distilled`, or `dwarf`: none of use, it was "
        "made of the DWARF",
    ),
    Column("encoder", TEXT, "", "what made BTF of the input's DWARF, as `pahole 1.24`"),
    Column("input_sha256", TEXT, "", "SHA-256 of the input file's content, decompressed"),
    Column("input_bytes", I64, "bytes", "size of the input's BTF"),
    Column("types_in", I64, "types", "own types of the input"),
    Column("type_bytes_in", I64, "bytes", "size of the input's type section"),
    Column("string_bytes_in", I64, "bytes", "size of the input's string section"),
    Column("types_in_by_kind", COUNTS, "types", f"own types of the input by kind; {_KINDS}"),
    Column("bytes_in_by_kind", COUNTS, "bytes", f"their records' bytes by kind; {_KINDS}"),
    Column("bytes_out", I64, "bytes", "size of the split BTF, header included"),
    Column("types_out", I64, "types", "own types in the split BTF"),
    Column("type_bytes_out", I64, "bytes", "size of the split BTF's type section"),
    Column("string_bytes_out", I64, "bytes", "size of the split BTF's string section"),
    Column("types_out_by_kind", COUNTS, "types", f"own types kept by kind; {_KINDS}"),
    Column("bytes_out_by_kind", COUNTS, "bytes", f"their records' bytes by kind; {_KINDS}"),
    Column(
        "kept_by_arrays",
        I64,
        "types",
        "own types in the split BTF that stay only because arrays of several dimensions are "
        "written otherwise than in the base: pahole does since version 1.32",
    ),
    Column("output_sha256", TEXT, "", "SHA-256 of the split BTF file"),
    Column("build_id", TEXT, "", "GNU build id of an ELF module, as hexadecimal digits"),
    Column("release", TEXT, "", "release in an ELF module's vermagic"),
    Column("depends", pa.list_(TEXT), "", "modules that an ELF module's .modinfo depends on"),
    Column(
        "loads",
        pa.bool_(),
        "",
        "with `run --check`: whether the kernel would load the split BTF; null where its rules "
        "are not known (before Linux 5.10)",
    ),
    Column("check_error", TEXT, "", "what the kernel would refuse, and in which words"),
    Column("error_kind", TEXT, "", f"of a failed input; {_ERRORS}"),
    Column("error", TEXT, "", "what is wrong with a failed input and what to do"),
    Column("error_section", TEXT, "", "section in which the error was found"),
    Column("error_offset", I64, "bytes", "offset in that section"),
    Column("error_type_id", I64, "", "id of the type at fault"),
)
_RESULT = (
    pa.field("path", TEXT, nullable=False),
    *(pa.field(c.name, c.type) for c in _COLUMNS if c.name not in _OF_THE_KERNEL),
)
_BY_KIND = ("types_in_by_kind", "bytes_in_by_kind", "types_out_by_kind", "bytes_out_by_kind")
_OF_RECORD = pa.struct(field for field in _RESULT if field.name not in _BY_KIND)
_SUMMARIZED = (
    "module", "status", "form", "input_bytes", "bytes_out", "types_in", "types_out",
    "kept_by_arrays",
)  # fmt: skip
_FAILURE = ("error_kind", "error", "error_section", "error_offset", "error_type_id")


def _describe(source: btf.BTF, result: btf.DedupResult, base: SharedBase) -> NDArray[np.int64]:
    """Totals by kind: of the input types and bytes, and of the output; (4, KIND_COUNT)."""
    return both_kind_totals(source, result.btf)


def _rows(group: ModuleGroup) -> Rows:
    rows = pa.array([_row(record) for record in group.records], _OF_RECORD)
    columns = {field.name: rows.field(number) for number, field in enumerate(_OF_RECORD)}
    totals = np.zeros((len(rows), len(_BY_KIND), btf.kinds.KIND_COUNT), np.int64)
    for number, found in enumerate(group.kept.get("modules", ())):
        if found is not None:
            totals[number] = found
    for number, name in enumerate(_BY_KIND):
        columns[name] = counts_by_name(totals[:, number])
    arrays = [columns[field.name] for field in _RESULT]
    return np.ones(len(rows), np.int64), pa.StructArray.from_arrays(arrays, fields=_RESULT)


def _row(record: ModuleRecord) -> dict[str, Any]:
    row = record._asdict()
    failure = record.failure
    if failure is not None:
        row["error_kind"] = failure.kind
        row["error"] = failure.message
        row["error_section"] = failure.section
        row["error_offset"] = failure.offset_bytes
        row["error_type_id"] = failure.type_id
    return row


def _to_arrow(rows: Mapping[str, pa.Array], objects: Objects) -> Mapping[str, Any]:
    object_id = objects.of_rows()
    return {
        **rows,
        "module": objects.names.take(pa.array(object_id)),
        "object_id": object_id,
        "source": objects.sources,
    }


def records_of(table: pa.Table, paths: pa.StringArray) -> list[ModuleRecord]:
    """Restore what a summary is made of from rows of the table, and the inputs' paths."""
    columns = table.select([*_SUMMARIZED, *_FAILURE]).to_pydict()
    failures = [
        Failure(kind, message or "", *place) if kind is not None else None
        for kind, message, *place in zip(*(columns[name] for name in _FAILURE), strict=True)
    ]
    return [
        ModuleRecord(
            object_id=0,
            source="",
            path=path,
            failure=failure,
            **{name: columns[name][row] for name in _SUMMARIZED},
        )
        for row, (path, failure) in enumerate(zip(paths.to_pylist(), failures, strict=True))
    ]


TABLE = ModuleTable(
    name="modules",
    rank=20,
    row="one row per input, failed ones included",
    order="module",
    columns=_COLUMNS,
    result=_RESULT,
    rows=_rows,
    describe=_describe,
    to_arrow=_to_arrow,
)
