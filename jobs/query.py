"""``splitbtf query``: SQL over the tables."""

from __future__ import annotations

import argparse
import decimal
from collections.abc import Sequence
from typing import Any

from .text import plural, print_json, say, table

DESCRIPTION = """\
Answer one SQL query (DuckDB's SQL) over the tables of all kernels in OUT; `splitbtf help tables`
says what they hold. Each has the column `kernel`. Nothing can be written.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser("query", help="SQL over the tables", description=DESCRIPTION)
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument("sql", metavar="SQL", help="the query")
    parser.add_argument("--json", action="store_true", help="print a JSON array, an object a row")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.analysis.query import Tables

    with Tables(options.out) as tables:
        answer = tables.ask(options.sql)
    if options.json:
        print_json(answer.as_records())
    else:
        say(_lines(answer.columns, answer.rows))
    return 0


def _lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Columns side by side, numbers to the right; then how many rows there are."""
    numeric = [
        bool(rows) and all(isinstance(row[at], int | float | decimal.Decimal) for row in rows)
        for at in range(len(columns))
    ]
    cells = [columns, *([_text(value) for value in row] for row in rows)]
    lines = [line.rstrip() for line in table(cells, numeric, rule=True)]
    return [*lines, f"({plural(len(rows), 'row')})"]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{_text(key)}={_text(item)}" for key, item in value.items())
    if type(value) is tuple:  # a pair of a map
        return "=".join(map(_text, value))
    return str(value)
