"""The table ``duplicates``: what several modules of a kernel keep, each for itself.

Types of modules that could stand for each other have the same ``own_fingerprint``, so this is a
matter of grouping. Each task groups a range of hashes and reads the columns it needs from Parquet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ..files.storage import Stored
from ..model.base import SharedBase
from .grouping import (
    Pieces,
    batches,
    distinct_per_group,
    grouped,
    hashes,
    ranges,
    shares_of,
    take_rows,
    with_modules,
)
from .schema import HASH, I64, TEXT, WORDS, Column, FinishedKernel, KernelTable

_COLUMNS = ("global_id", "kind", "name", "bytes", "own_fingerprint")


def _make(kernel: FinishedKernel) -> pa.Table:
    workforce, types = kernel.workforce, kernel.tables["types"]
    tasks = [(types, *share) for share in ranges(shares_of(types, workforce.workers))]
    rows = pa.concat_tables(workforce.map(find_duplicates, tasks))
    rows = rows.sort_by([("wasted_bytes", "descending"), ("own_fingerprint", "ascending")])
    return with_modules(rows, kernel.names, TABLE.schema)


def find_duplicates(_: SharedBase, task: tuple[Sequence[Stored], int, int]) -> pa.Table:
    """Classes whose hash is in a range: rows of the table, with object ids for modules."""
    parts, low, high = task
    rows = Pieces(np.uint32, np.int64, np.uint64, np.uint64)
    for start, batch in batches(parts, ("object_id", "own_fingerprint")):
        values, object_id = hashes(batch["own_fingerprint"]), batch["object_id"].to_numpy()
        inside = (values[:, 0] >= low) & (values[:, 0] <= np.uint64(high - 1)) & (object_id > 0)
        kept = np.flatnonzero(inside)
        rows.add(object_id[kept], kept + start, values[kept, 0], values[kept, 1])
    holders, number, *keys = rows.take()
    groups = grouped(keys)
    several, object_ids = distinct_per_group(groups, holders, at_least=2)
    first = take_rows(parts, _COLUMNS, number[groups.first[several]])
    copies = groups.sizes[several]
    bytes_each = first["bytes"].to_numpy().astype(np.uint64)
    return pa.table(
        {
            "kind": first["kind"],
            "name": first["name"],
            "bytes_each": bytes_each,
            "copies": copies,
            "wasted_bytes": bytes_each * (copies - 1).astype(np.uint64),
            "module_count": object_ids.value_lengths(),
            "object_ids": object_ids,
            "global_id": first["global_id"],
            "own_fingerprint": first["own_fingerprint"],
        }
    )


TABLE = KernelTable(
    name="duplicates",
    rank=50,
    row="one row per class of own types that two or more modules keep",
    order="wasted_bytes descending, own_fingerprint",
    columns=(
        Column("kind", WORDS, "", "BTF kind: STRUCT, PTR, VAR, DATASEC, …; all kinds count"),
        Column("name", TEXT, "", "name; null for anonymous types"),
        Column("bytes_each", I64, "bytes", "size of one copy's record in the type section"),
        Column("copies", I64, "types", "own types of this class in all modules"),
        Column("wasted_bytes", I64, "bytes", "of all copies but one"),
        Column("module_count", I64, "modules", "modules that keep it"),
        Column("modules", pa.list_(TEXT), "", "their names"),
        Column("global_id", I64, "", "the first copy"),
        Column("own_fingerprint", HASH, "", "what makes the class, see the table types"),
    ),
    make=_make,
)
