"""The answer to a query: columns of Arrow as values of Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Column names, and rows of Python values."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def as_records(self) -> list[dict[str, Any]]:
        """A dictionary for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def distinct_names(names: Sequence[str]) -> list[str]:
    """``a``, ``a_1``: names of columns that are a name's only ones, whatever their case."""
    taken = {name.lower() for name in names}
    found: list[str] = []
    seen: set[str] = set()
    for name in names:
        free, number = name, 0
        while free.lower() in seen or (number and free.lower() in taken):
            number += 1
            free = f"{name}_{number}"
        seen.add(free.lower())
        found.append(free)
    return found


def python_columns(data: pa.Table | pa.RecordBatch) -> list[list[Any]]:
    """Values of Python: maps as dictionaries, or in a column where keys of maps cannot be keys of a
    dictionary (lists, structs, maps), as lists of pairs."""
    import pyarrow as pa

    columns = []
    for column in data.columns:
        if not pa.types.is_nested(column.type):
            columns.append(column.to_pylist())  # which takes a tenth of the time
            continue
        try:
            columns.append(column.to_pylist(maps_as_pydicts="strict"))
        except (TypeError, KeyError):  # KeyError: keys of DuckDB that are the same in Python
            columns.append(column.to_pylist())
    return columns


def answer_of(data: pa.Table) -> QueryResult:
    columns = python_columns(data)
    rows = zip(*columns, strict=True) if columns else ()
    return QueryResult(tuple(distinct_names(data.column_names)), tuple(rows))
