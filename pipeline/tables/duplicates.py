"""The table ``duplicates``: what several modules of a kernel keep, each for itself.

Types of modules that could stand for each other have the same ``own_fingerprint``, so this is a
matter of grouping. Each task groups a range of hashes and reads the columns it needs from Parquet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

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

if TYPE_CHECKING:
    import pyarrow as pa

    from ..engine.scheduler import Workforce
    from ..files.storage import Stored

_COLUMNS = ("global_id", "kind", "name", "bytes", "own_fingerprint")


def duplicates_table(
    workforce: Workforce, types: Sequence[Stored], names: Sequence[str]
) -> pa.Table:
    """The whole table, from the parts of ``types``; ``names`` by object id."""
    import pyarrow as pa

    from .schemas import DUPLICATES

    tasks = [(types, *share) for share in ranges(shares_of(types, workforce.workers))]
    rows = pa.concat_tables(workforce.map(find_duplicates, tasks))
    rows = rows.sort_by([("wasted_bytes", "descending"), ("own_fingerprint", "ascending")])
    return with_modules(rows, names, DUPLICATES.schema)


def find_duplicates(_: SharedBase, task: tuple[Sequence[Stored], int, int]) -> pa.Table:
    """Classes whose hash is in a range: rows of the table, with object ids for modules."""
    import pyarrow as pa

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
