"""``splitbtf query``: SQL over the tables."""

from __future__ import annotations

import argparse
import datetime
import decimal
import json
from collections.abc import Sequence
from typing import Any

DESCRIPTION = """\
Answer one SQL query (DuckDB's SQL) over the tables of all kernels in OUT; docs/tables.md says what
they hold. Each has the column `kernel`. Nothing can be written.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser("query", help="SQL over the tables", description=DESCRIPTION)
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument("sql", metavar="SQL", help="the query")
    parser.add_argument("--json", action="store_true", help="print a JSON array, an object a row")
    parser.set_defaults(command=main, parser=parser)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.analysis.query import Tables

    with Tables(options.out) as tables:
        answer = tables.ask(options.sql)
    if options.json:
        print(json.dumps(answer.as_records(), indent=1, default=_as_json))
    else:
        print("\n".join(_lines(answer.columns, answer.rows)))
    return 0


def _as_json(value: Any) -> Any:
    """What JSON has no form for: hashes as hexadecimal digits, whole numbers as such."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return str(value)


def _lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Columns side by side, numbers to the right; then how many rows there are."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[at]) for row in texts)]) for at, name in enumerate(columns)]
    numeric = [
        bool(rows) and all(isinstance(row[at], int | float | decimal.Decimal) for row in rows)
        for at in range(len(columns))
    ]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    lines = [line(columns), "  ".join("-" * width for width in widths), *map(line, texts)]
    return [*lines, f"({len(rows):,} row{'' if len(rows) == 1 else 's'})"]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{_text(key)}={_text(item)}" for key, item in value.items())
    return str(value)
