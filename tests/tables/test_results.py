"""Protects: files of results say what was packed, and one that somebody changed never does harm."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard

import btf
from pipeline.model.errors import OutputError
from pipeline.model.records import BAD_BTF, DONE, FAILED, Failure, ModuleRecord
from pipeline.tables.describe import ModuleGroup, rows_of
from pipeline.tables.registry import derived_tables, kept_tables, rows_schema
from pipeline.tables.stored.results import (
    DamagedError,
    Entry,
    Results,
    name_of,
    pack,
    pack_derived,
    read_derived,
)
from pipeline.tables.stored.slices import ModuleResultRef, ResultRef, ResultsLRU

CONTEXT = "c" * 64
MAGIC = b"splitbtf results 4\n"
KEPT, DERIVED = rows_schema(kept_tables()).names, rows_schema(derived_tables()).names
RECORDS = [
    ModuleRecord("m", 1, "m.ko", "/m.ko", DONE, bytes_out=7),
    ModuleRecord("n", 2, "n.ko", "/n.ko", FAILED, failure=Failure(BAD_BTF, "bad", "types", 4, 1)),
]
ENTRIES = [Entry("k", "m", None, 7, "ab"), Entry("", "n", BAD_BTF, None, None, seconds=1.5)]


def all_rows(start: int = 0, stop: int = 2) -> pa.RecordBatch:
    totals = np.zeros((4, btf.kinds.KIND_COUNT), np.int64)
    totals[2, btf.kinds.INT] = 2
    records, kept = RECORDS[start:stop], [totals, None][start:stop]
    return rows_of(ModuleGroup(None, records, [None] * len(records), {"modules": kept}))


def rows() -> pa.RecordBatch:
    """Those that are kept."""
    return all_rows().select(KEPT)


def reopened(packed: bytes) -> Results:
    return Results(name_of(packed, CONTEXT), packed)


def made_of(header: Any, body: bytes) -> bytes:
    """A file that says of itself that it is sound."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + struct.pack("<Q", len(head)) + head + body


def stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return zstandard.ZstdCompressor().compress(sink.getvalue())


HEADER = [
    ["k", "m", None, 7, "ab", None, None, None],
    ["", "n", BAD_BTF, None, None, None, None, 1],
]


def test_what_was_packed_is_read() -> None:
    found = reopened(pack(ENTRIES, [all_rows()]))
    assert list(found.entries) == ENTRIES
    assert found.rows.equals(rows())
    (first,), (second,) = found.rows["modules"].to_pylist()
    assert (first["status"], first["bytes_out"], first["types_out_by_kind"]) == (
        DONE, 7, [("INT", 2)],
    )  # fmt: skip
    assert (second["error_kind"], second["error_offset"], second["path"]) == (BAD_BTF, 4, "/n.ko")


def test_several_groups_are_one() -> None:
    groups = [all_rows(0, 1), all_rows(1, 2)]
    assert reopened(pack(ENTRIES, groups)).rows.equals(rows())
    for compress in (False, True):
        packed = bytes(pack_derived(groups, compress=compress))
        assert read_derived("n", packed, 2).equals(all_rows().select(DERIVED))


def test_no_module_at_all() -> None:
    assert len(reopened(pack([], [])).rows) == 0
    assert len(read_derived("n", bytes(pack_derived([], compress=False)), 0)) == 0


def test_entries_are_read_without_the_rest() -> None:
    assert reopened(made_of(HEADER, b"no stream")).entries == (
        ENTRIES[0], Entry("", "n", BAD_BTF, None, None, seconds=1),
    )  # fmt: skip


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"7", b"[7]", b'["a"]', [[]], [["k"]], [["k", "m", None, 7, "ab", None, None, []]],
     [[["k"], "m", None, 7, "ab", None, None, None]], b"\xff", b"[" * 100_000],
)  # fmt: skip
def test_headers_that_are_none(header: Any) -> None:
    with pytest.raises(DamagedError):
        reopened(made_of(header, stream(rows())))


def test_names_that_do_not_fit_the_content() -> None:
    packed = pack(ENTRIES, [all_rows()])
    for damaged in (b"", packed[:10], packed[:-1], packed + b"x", b"x" + packed[1:]):
        with pytest.raises(DamagedError):
            Results(name_of(packed, CONTEXT), damaged)


def with_column(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    columns = [column if field.name == name else batch[field.name] for field in batch.schema]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def lists(ends: np.ndarray, row: dict[str, Any]) -> pa.ListArray:
    """Lists of the table ``types`` that end at these offsets, all of them parts of one row."""
    field = rows_schema(derived_tables()).field("types")
    item = field.type.value_type
    rows = pa.array([dict.fromkeys(f.name for f in item) | row], item)
    return pa.Array.from_buffers(
        field.type, len(ends) - 1, [None, pa.py_buffer(ends)], children=[rows]
    )


TYPE = {"kind": 4, "name": "n", "size": 1, "bytes": 1, "vlen": 1, "fingerprint": b"f" * 16}


def of_types(offsets: list[int], **columns: Any) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    def change(batch: pa.RecordBatch) -> pa.RecordBatch:
        ends = np.zeros(len(offsets), np.int32)
        made = with_column(batch, "types", lists(ends, TYPE | columns))
        ends[:] = offsets  # now that nobody looks
        return made

    return change


def without_members(batch: pa.RecordBatch) -> pa.RecordBatch:
    return with_column(batch, "members", pa.nulls(2, batch.schema.field("members").type))


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.slice(1),
        lambda batch: batch.select(["types"]),
        of_types([0, 5, 9]),
        of_types([0, 1, -1]),
        of_types([0, 1, 0]),
        of_types([0, 1, 1], name=None),
        of_types([0, 1, 1], kind=None),
        without_members,
    ],
)
def test_rows_that_break_a_rule(change: Callable[[pa.RecordBatch], pa.RecordBatch]) -> None:
    stream_of_rows = stream(change(all_rows().select(DERIVED)))
    for packed in (stream_of_rows, zstandard.decompress(stream_of_rows)):
        with pytest.raises(DamagedError):
            read_derived("n", packed, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.slice(1),
        lambda batch: batch.select(["modules"]),
        lambda batch: with_column(batch, "misses", pa.nulls(2, batch.schema.field("misses").type)),
        lambda _: all_rows(),
    ],
)
def test_kept_rows_that_break_a_rule(change: Callable[[pa.RecordBatch], pa.RecordBatch]) -> None:
    found = reopened(made_of(HEADER, stream(change(rows()))))
    with pytest.raises(DamagedError):
        _ = found.rows


def test_streams_that_are_none() -> None:
    whole = stream(rows())
    plain = zstandard.ZstdDecompressor().decompress(whole)
    huge = b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little")  # zstd of 4 EiB, it says
    for body in (
        b"",
        b"x",
        whole[:-9],
        huge,
        zstandard.compress(b""),
        zstandard.compress(plain[:99]),
    ):
        with pytest.raises(DamagedError):
            _ = reopened(made_of(HEADER, body)).rows


@pytest.mark.slow
def test_any_byte_may_be_another() -> None:
    """Either the rows can be read, and hold what Arrow takes for sound, or they are damaged."""
    plain = bytearray(zstandard.ZstdDecompressor().decompress(stream(rows())))
    for at in range(0, len(plain), 7):
        plain[at] ^= 0xFF
        body = zstandard.compress(bytes(plain))
        plain[at] ^= 0xFF
        try:
            found = reopened(made_of(HEADER, body)).rows
        except DamagedError:
            continue
        found.validate(full=True)
        assert found.schema.names == KEPT and len(found) == 2


class OneFile:
    """A storage that holds one file."""

    place = "OUT"

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, path: str) -> bytes:
        return self.content

    def read_all(self, paths: Sequence[str]) -> Iterator[bytes]:
        return map(self.read, paths)


@pytest.mark.parametrize("position", [1, 2, 1 << 40])
def test_results_that_are_not_there(position: int) -> None:
    packed = pack(ENTRIES[1:], [rows_of(ModuleGroup.of_failed(RECORDS[1:]))])
    name = f"c-{hashlib.sha256(packed).hexdigest()[:32]}.results"
    results = ResultsLRU(OneFile(packed), None)  # type: ignore[arg-type]
    there = ModuleResultRef("n", 1, "n.ko", ResultRef(f"cache/{name}", 0, ""))
    assert results.read([there])[0] == ENTRIES[1:]
    gone = ModuleResultRef("o", 2, "o.ko", ResultRef(f"cache/{name}", position, ""))
    with pytest.raises(OutputError, match="remove it and run again"):
        results.read([there, gone])
