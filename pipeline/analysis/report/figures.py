"""All figures of a report: those that a query gives, and what changed between kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...model.steps import STEPS
from ..query import Tables
from .changes import changes
from .queries import QUERIES

MOST_ROWS = 500  # of a figure
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """Rows of a figure, by names of its columns.

    sql        the query that gives them; empty for what changed between kernels
    all_rows   how many rows there are; ``rows`` holds the first ``MOST_ROWS``
    """

    name: str
    sql: str
    rows: tuple[Row, ...]
    all_rows: int


def figures(out: str) -> dict[str, Figure]:
    """Work out all figures, by their names. Raises OutputError."""
    with Tables(out) as tables:
        found = {name: _asked(tables, name, sql) for name, sql in QUERIES.items()}
        neighbours = tables.pairs
    for name, rows in changes(out, neighbours, found["kernels"].rows).items():
        found[name] = Figure(name, "", tuple(rows[:MOST_ROWS]), len(rows))
    return found


def _asked(tables: Tables, name: str, sql: str) -> Figure:
    STEPS.debug("working out figure %s", name)
    answer = tables.ask(f"SELECT count(*) OVER () AS all_rows, * FROM ({sql}) LIMIT {MOST_ROWS}")
    rows = answer.as_records()
    return Figure(name, sql, tuple(rows), rows[0]["all_rows"] if rows else 0)
