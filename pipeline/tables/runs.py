"""The table ``runs``: when and how a kernel was worked on, a row per run that committed it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..model.stages import OF_RUN, OF_WORKERS
from .schema import F64, I64, TEXT, Column, Table


def with_earlier_runs(files: Sequence[bytes], row: Mapping[str, Any]) -> pa.Table:
    """Append the row of a run to those of earlier ones.

    files  contents of earlier parts of the table; columns that they lack, as an earlier version
           did not have them, are null there
    row    values by column
    """
    tables = [
        pa.Table.from_pylist(
            [{**row, "versions": sorted(row["versions"].items())}], schema=TABLE.schema
        )
    ]
    for file in files:
        with contextlib.suppress(pa.ArrowException, TypeError, KeyError):  # not written by us
            found = pq.ParquetFile(pa.BufferReader(file)).read().to_pylist()
            rows = [{name: line.get(name) for name in TABLE.schema.names} for line in found]
            tables.insert(-1, pa.Table.from_pylist(rows, schema=TABLE.schema))
    return pa.concat_tables(tables).combine_chunks()


TABLE = Table(
    name="runs",
    rank=80,
    row="one row per run that committed the kernel",
    order="started_at",
    columns=(
        Column("run_id", TEXT, "", "names the run"),
        Column("started_at", pa.timestamp("us", tz="UTC"), "UTC", "when the run began"),
        Column("splitbtf_version", TEXT, "", "version of splitbtf"),
        Column("versions", pa.map_(TEXT, TEXT), "", "of Python and the libraries that matter"),
        Column("machine", TEXT, "", "processor architecture"),
        Column("engine", TEXT, "", "`ray` or `local`"),
        Column("ray_address", TEXT, "", "of the existing Ray cluster, where one was used"),
        Column("workers", I64, "", "workers that the engine was given"),
        Column("batches", I64, "", "batches that were worked on"),
        Column("crashes", I64, "", "times that a worker died"),
        Column("start_seconds", F64, "s", "start of the run until the engine was ready"),
        Column("index_seconds", F64, "s", "indexing the base"),
        Column("work_seconds", F64, "s", "reading, dedup, writing and describing of all modules"),
        Column("busy_seconds", F64, "s", "the same, summed over the workers"),
        Column("tables_seconds", F64, "s", "after it: the tables that need all modules"),
        Column(
            "stages",
            pa.map_(TEXT, F64),
            "s",
            "by stage, of workers together: "
            + "; ".join(f"`{n}`: {t}" for n, t in OF_WORKERS.items())
            + ". Of the run: "
            + "; ".join(f"`{n}`: {t}" for n, t in OF_RUN.items()),
        ),
        Column("modules", I64, "modules", "inputs of the kernel"),
        Column("read", I64, "modules", "inputs that were read; the others look as they did"),
        Column("worked", I64, "modules", "inputs that were worked on"),
        Column("reused", I64, "modules", "inputs whose results were there before"),
        Column("failed", I64, "modules", "inputs that gave no result"),
    ),
)
