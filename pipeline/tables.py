"""Records and columns as Arrow tables that follow ``schemas.py``.

Building only; ``output.py`` writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from . import __version__, schemas
from .describe import TypeColumns, kind_name
from .records import DONE, BaseRecord, ModuleRecord
from .worker import BatchResult


def kernels_table(base: BaseRecord | None, records: Sequence[ModuleRecord]) -> pa.Table:
    """The one row of a kernel. What is known of its base is null if it has none."""
    done = [record for record in records if record.status == DONE]
    row: dict[str, Any] = {
        "modules": len(records),
        "failed": len(records) - len(done),
        "bytes_in": sum(record.input_bytes or 0 for record in done),
        "bytes_out": sum(record.bytes_out or 0 for record in done),
        "types_in": sum(record.types_in or 0 for record in done),
        "types_out": sum(record.types_out or 0 for record in done),
        "splitbtf_version": __version__,
    }
    if base is not None:
        row |= {
            "release": base.release,
            "base_source": base.source,
            "base_encoder": base.encoder,
            "base_sha256": base.sha256,
            "byteorder": base.byteorder,
            "base_bytes": base.bytes,
            "base_types": base.types,
            "base_type_bytes": base.type_bytes,
            "base_string_bytes": base.string_bytes,
            "base_types_by_kind": _pairs(base.kinds),
            "base_bytes_by_kind": _pairs(base.kind_bytes),
        }
    return pa.Table.from_pylist([row], schema=schemas.KERNELS.schema)


def modules_table(records: Sequence[ModuleRecord]) -> pa.Table:
    """A row per record, in their order."""
    return pa.Table.from_pylist([_module_row(r) for r in records], schema=schemas.MODULES.schema)


def _module_row(record: ModuleRecord) -> dict[str, Any]:
    failure = record.failure
    row = {column.name: getattr(record, column.name, None) for column in schemas.MODULES.columns}
    row.update(
        types_in_by_kind=_pairs(record.kinds_in),
        bytes_in_by_kind=_pairs(record.kind_bytes_in),
        types_out_by_kind=_pairs(record.kinds_out),
        bytes_out_by_kind=_pairs(record.kind_bytes_out),
        depends=list(record.depends) if record.depends is not None else None,
    )
    if failure is not None:
        row.update(
            error_kind=failure.kind,
            error=failure.message,
            error_section=failure.section,
            error_offset=failure.offset_bytes,
            error_type_id=failure.type_id,
        )
    return row


def _pairs(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items())


def types_table(
    base: TypeColumns, results: Iterable[BatchResult], names: Sequence[str]
) -> pa.Table:
    """Types of the base, then of the modules in the order of ``results``.

    ``names`` are those of the objects by object id; the base's is empty.
    """
    parts = [base, *(result.types for result in results if result.types is not None)]
    modules = pa.array(names, pa.string())
    kinds = pa.array([kind_name(number) for number in range(256)], pa.string())
    chunks = [_types_chunk(part, modules, kinds) for part in parts]
    return pa.Table.from_batches(chunks, schema=schemas.TYPES.schema).combine_chunks()


def _types_chunk(part: TypeColumns, modules: pa.Array, kinds: pa.Array) -> pa.RecordBatch:
    object_id = np.repeat(part.object_ids, part.counts)
    # Own types of an object are numbered from its start id.
    total = len(object_id)
    firsts = np.cumsum(part.counts, dtype=np.int64) - part.counts
    type_id = np.arange(total, dtype=np.int64) + np.repeat(part.start_ids - firsts, part.counts)
    name = _strings(part)
    columns = {
        "global_id": (object_id.astype(np.uint64) << np.uint64(32)) | type_id.astype(np.uint64),
        "object_id": object_id,
        "type_id": type_id.astype(np.uint32),
        "module": pa.DictionaryArray.from_arrays(object_id.astype(np.int32), modules),
        "kind": pa.DictionaryArray.from_arrays(part.kind.astype(np.int32), kinds),
        "name": name,
        "size": part.size,
        "bytes": part.bytes,
        "vlen": part.vlen,
    }
    schema = schemas.TYPES.schema
    return pa.RecordBatch.from_arrays(
        [pa.array(columns[field.name], type=field.type) for field in schema], schema=schema
    )


def _strings(part: TypeColumns) -> pa.Array:
    """The names. BTF does not promise UTF-8, Parquet does: other bytes are written as \\xNN."""
    ends = np.zeros(len(part.name_bytes_each) + 1, np.int32)  # a part has far less than 2 GiB
    np.cumsum(part.name_bytes_each, out=ends[1:])
    buffers = pa.py_buffer(ends), pa.py_buffer(part.name_bytes)
    if not (part.name_bytes & 0x80).any():
        return pa.StringArray.from_buffers(len(ends) - 1, *buffers)
    raw = pa.BinaryArray.from_buffers(pa.binary(), len(ends) - 1, [None, *buffers])
    return pa.array(
        [value.decode("utf-8", "backslashreplace") for value in raw.to_pylist()], pa.string()
    )


def runs_table(row: Mapping[str, Any]) -> pa.Table:
    """The one row of a run."""
    values = {**row, "versions": sorted(row["versions"].items())}
    return pa.Table.from_pylist([values], schema=schemas.RUNS.schema)
