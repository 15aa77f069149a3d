"""Records and columns as Arrow tables that follow ``schemas.py``.

Building only; ``output.py`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import btf

from .. import __version__
from ..model.records import BaseRecord, ModuleRecord
from ..model.summary import WorkSummary
from . import schemas
from .describe import Rows, Texts, TypeColumns, joined, kind_name
from .misses import misses_table


def kernels_table(base: BaseRecord | None, summary: WorkSummary) -> pa.Table:
    """The one row of a kernel. What is known of its base is null if it has none."""
    row: dict[str, Any] = {
        "modules": summary.modules,
        "failed": summary.failed,
        "bytes_in": summary.bytes_in,
        "bytes_out": summary.bytes_out,
        "types_in": summary.types_in,
        "types_out": summary.types_out,
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


def _pairs(counts: Mapping[str, int] | None) -> list[tuple[str, int]]:
    return sorted(counts.items()) if counts is not None else []


class TypeTables:
    """Makes the tables ``types`` and ``members`` of one kernel, a part at a time.

    ``names`` are those of its objects by object id; the base's is empty. All are in the dictionary
    of each part, because many readers cannot put parts with different ones together.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._modules = pa.array(names, pa.string())
        self._kinds = pa.array([kind_name(number) for number in range(256)], pa.string())

    def types(self, part: TypeColumns) -> pa.Table:
        """The rows of ``types``."""
        object_id, type_id = _ids(part)
        own = None
        if len(part.own_fingerprint):
            own = _hashes(part.own_fingerprint)
        columns = {
            "global_id": _global_ids(object_id, type_id),
            "object_id": object_id,
            "type_id": type_id,
            "module": pa.DictionaryArray.from_arrays(object_id.astype(np.int32), self._modules),
            "kind": self._kind(part.kind),
            "name": _strings(part.name),
            "size": part.size,
            "bytes": part.bytes,
            "vlen": part.vlen,
            "fingerprint": _hashes(part.fingerprint),
            "own_fingerprint": own if own is not None else pa.nulls(len(type_id), schemas.HASH),
        }
        return _table(columns, schemas.TYPES.schema)

    def members(self, part: TypeColumns) -> pa.Table:
        """The rows of ``members``."""
        object_id, type_id = _ids(part)
        rows = part.members
        kind = part.kind[rows.owner]
        enumerator = (kind == btf.kinds.ENUM) | (kind == btf.kinds.ENUM64)
        parameter = kind == btf.kinds.FUNC_PROTO
        starts = np.repeat(part.start_ids, part.counts)[rows.owner]
        # What has an id below those of the object is the base's, or void.
        holder = np.where(rows.type_id >= starts, object_id[rows.owner], 0)
        columns = {
            "global_id": _global_ids(object_id, type_id)[rows.owner],
            "position": rows.position,
            "kind": self._kind(kind),
            "name": _strings(rows.name),
            "type_global_id": pa.array(_global_ids(holder, rows.type_id), mask=enumerator),
            "bit_offset": pa.array(rows.bit_offset, mask=enumerator | parameter),
            "bitfield_size": pa.array(rows.bitfield_size, mask=enumerator | parameter),
            "value": _decimals(rows.value, rows.negative, enumerator),
        }
        return _table(columns, schemas.MEMBERS.schema)

    def _kind(self, numbers: NDArray[np.uint8]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(numbers.astype(np.int32), self._kinds)


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(columns[field.name], type=field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _ids(part: TypeColumns) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Object id and type id of each row."""
    object_id = np.repeat(part.object_ids, part.counts)
    # Own types of an object are numbered from its start id.
    firsts = np.cumsum(part.counts, dtype=np.int64) - part.counts
    type_id = np.arange(len(object_id), dtype=np.int64)
    type_id += np.repeat(part.start_ids - firsts, part.counts)
    return object_id, type_id.astype(np.uint32)


def _global_ids(object_id: NDArray[Any], type_id: NDArray[Any]) -> NDArray[np.uint64]:
    ids: NDArray[np.uint64] = (object_id.astype(np.uint64) << np.uint64(32)) | type_id
    return ids


def _hashes(values: NDArray[np.uint64]) -> pa.FixedSizeBinaryArray:
    """Fingerprints as 16 bytes, so that their hexadecimal digits read as the number does."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values.astype(">u8")))]
    return pa.FixedSizeBinaryArray.from_buffers(schemas.HASH, len(values), buffers)


def _decimals(
    value: NDArray[np.uint64], negative: NDArray[np.uint8], known: NDArray[np.bool_]
) -> pa.Decimal128Array:
    """Whole numbers from -2^63 to 2^64 - 1; null where not known."""
    words = np.empty((len(value), 2), "<u8")
    words[:, 0] = value
    words[:, 1] = np.where(negative, np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0))
    valid = np.packbits(known, bitorder="little")
    buffers = [pa.py_buffer(valid), pa.py_buffer(words)]
    return pa.Decimal128Array.from_buffers(schemas.WHOLE, len(value), buffers)


def _strings(texts: Texts) -> pa.Array:
    """The names. BTF does not promise UTF-8, Parquet does: other bytes are written as \\xNN."""
    ends = np.zeros(len(texts.lengths) + 1, np.int32)  # a part has far less than 2 GiB
    np.cumsum(texts.lengths, out=ends[1:])
    buffers = pa.py_buffer(ends), pa.py_buffer(texts.content)
    if not (texts.content & 0x80).any():
        return pa.StringArray.from_buffers(len(ends) - 1, *buffers)
    raw = pa.BinaryArray.from_buffers(pa.binary(), len(ends) - 1, [None, *buffers])
    return pa.array(
        [value.decode("utf-8", "backslashreplace") for value in raw.to_pylist()], pa.string()
    )


def by_module(
    made: TypeTables, rows: Sequence[tuple[Sequence[int], Rows]]
) -> Mapping[str, pa.Table]:
    """The tables that have rows by module, of some objects, given with their object ids."""
    part = joined([(object_ids, of_objects.types) for object_ids, of_objects in rows])
    misses = [
        (object_id, made.names[object_id], of_object)
        for object_ids, of_objects in rows
        for object_id, of_object in zip(object_ids, of_objects.misses, strict=True)
    ]
    return {
        "types": made.types(part),
        "members": made.members(part),
        "misses": misses_table(misses),
    }


def runs_table(row: Mapping[str, Any]) -> pa.Table:
    """The one row of a run."""
    values = {**row, "versions": sorted(row["versions"].items())}
    return pa.Table.from_pylist([values], schema=schemas.RUNS.schema)


def with_earlier_runs(files: Sequence[Any], row: pa.Table) -> pa.Table:
    """The rows of earlier parts of the table ``runs``, then this one. Parts that lack columns, as
    an earlier version did not have them, have nulls there."""
    schema = schemas.RUNS.schema
    rows = [line for file in files for line in pq.ParquetFile(file).read().to_pylist()]
    known = [{name: line.get(name) for name in schema.names} for line in rows]
    return pa.concat_tables([pa.Table.from_pylist(known, schema=schema), row])
