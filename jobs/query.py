"""``splitbtf query``: SQL over the tables, and questions that have a name."""

from __future__ import annotations

import argparse
import csv
import decimal
import io
import json
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from pipeline.sources.names import printable

from .usage.parser import whole
from .usage.text import as_json, json_value, plural, print_json, say, table, wrapped

if TYPE_CHECKING:
    from pipeline.analysis.query import Tables

DESCRIPTION = """\
Answer a query in DuckDB's SQL, or a question that has a name, over the tables of all kernels in
OUT; `splitbtf help tables` says what they hold. Each has the column `kernel`. Nothing in OUT can be
written. --list lists the questions, --show prints one as SQL.
"""

FORMATS = ("table", "csv", "json", "parquet")
STDIN = "-"
_LEAST = 16  # characters of a column that is made narrower
_TOO_WIDE = 30  # the same where that is not enough for the terminal: names of kernels fit


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "query", help="SQL over the tables, and questions with a name", description=DESCRIPTION
    )
    out = parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    query = parser.add_argument(
        "query", metavar="QUERY", help="SQL, a question's name, or - for standard input"
    )
    parser.add_argument(
        "-f", "--file", action=_Instead, of=[query], metavar="FILE", help="read the SQL from FILE"
    )
    parser.add_argument(
        "--list",
        action=_Instead,
        of=[out, query],
        nargs=0,
        help="list the questions that have a name",
    )
    parser.add_argument(
        "--show",
        action=_Instead,
        of=[out, query],
        metavar="NAME",
        help="print the SQL of a question",
    )
    parser.add_argument(
        "--from", dest="old", metavar="K", help="compare with this kernel: the older one"
    )
    parser.add_argument("--to", dest="new", metavar="K", help="the newer kernel")
    parser.add_argument("--kernel", metavar="K", help="only this kernel")
    parser.add_argument(
        "--limit", type=whole(1), metavar="N", help="only the first N rows of the answer"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="what to write (default: by FILE's name, else table)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE")
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.set_defaults(command=main, parser=parser)


class _Instead(argparse.Action):
    """An option that takes the place of positional arguments.

    These cannot be optional: argparse would take them for absent where an option stands in between.
    """

    def __init__(self, *, of: Sequence[argparse.Action], **named: Any) -> None:
        super().__init__(**named)
        self._of = of

    def __call__(
        self, _: object, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, self.nargs == 0 or values)
        for action in self._of:
            action.required = False


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.analysis.questions import is_name, question

    if options.list:
        return _list(options)
    if options.show is not None:
        say(question(options.show).sql.splitlines())
        return 0
    sql, style = _sql(options), _style(options)
    asked = question(sql.strip()) if is_name(sql) else None
    compares = options.old is not None or options.new is not None
    if options.kernel is not None and compares:
        options.parser.error("--kernel is one kernel, --from and --to are two")
    if asked is not None and asked.compares and options.kernel is not None:
        options.parser.error(f"{asked.name} compares kernels: --from and --to name them")
    if asked is not None and compares and not asked.compares:
        options.parser.error(f"{asked.name} compares no kernels: --kernel names one")
    from pipeline.analysis.query import Tables
    from pipeline.model.errors import QueryError

    named = {"kernel": options.kernel, "old": options.old, "new": options.new}
    order = asked.order if asked else None
    with Tables(options.out, **named, order=order, most_rows=options.limit) as tables:
        if asked is not None and asked.compares and not tables.pairs:
            raise QueryError(
                f"{asked.name} compares kernels of one architecture and flavour; in {options.out} "
                f"there are: {', '.join(tables.kernels)}. --from and --to name any two"
            )
        _answer(tables, asked.sql if asked is not None else sql, style, options.output)
    return 0


def _list(options: argparse.Namespace) -> int:
    from pipeline.analysis.questions import questions

    if options.json:
        print_json([
            {"name": one.name, "question": one.asked, "compares": one.compares}
            for one in questions().values()
        ])  # fmt: skip
    else:
        rows = [(one.name, one.asked) for one in questions().values()]
        say(line.rstrip() for line in table(rows, (False, False)))
    return 0


def _sql(options: argparse.Namespace) -> str:
    """What is asked: SQL, or a question's name."""
    if options.query is not None and options.file is not None:
        options.parser.error(f"two queries: {options.query!r} and -f {options.file}")
    query = options.file if options.file is not None else options.query
    if query == STDIN:
        return sys.stdin.read() if sys.stdin is not None else ""
    if options.file is not None:
        return Path(query).read_text("utf-8", "surrogateescape")
    return str(query)


def _style(options: argparse.Namespace) -> str:
    """One of FORMATS."""
    if options.json and options.format not in (None, "json"):
        options.parser.error(f"--json and --format {options.format} are two formats")
    ending = os.path.splitext(options.output or "")[1].removeprefix(".").lower()
    by_name = ending if ending in FORMATS else "table"
    style: str = "json" if options.json else options.format or by_name
    if style == "parquet" and options.output is None:
        options.parser.error("Parquet is no text: -o FILE says where it goes")
    return style


def _answer(tables: Tables, sql: str, style: str, output: str | None) -> None:
    if output is None:
        sys.stdout.writelines(_pieces(tables, sql, style, on_terminal=sys.stdout.isatty()))
        return
    from pipeline.files.storage import publish_file

    with tempfile.TemporaryFile() as file:
        if style == "parquet":
            tables.write_parquet(sql, file)
        else:
            pieces = _pieces(tables, sql, style)
            file.writelines(text.encode("utf-8", "backslashreplace") for text in pieces)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            publish_file(output, content)


def _pieces(tables: Tables, sql: str, style: str, *, on_terminal: bool = False) -> Iterator[str]:
    """The answer as text."""
    if style == "csv":
        yield from _csv(tables.stream(sql), escaped=on_terminal)
    elif style == "json":
        yield as_json(tables.ask(sql).as_records()) + "\n"
    else:
        width = shutil.get_terminal_size().columns if on_terminal else None
        yield from (f"{line}\n" for line in _lines(tables, sql, width))


def _csv(batches: Iterator[Any], *, escaped: bool = False) -> Iterator[str]:
    """Lines of CSV, the names of columns first; ``escaped``: as a terminal may show them."""
    from pipeline.analysis.answer import python_columns

    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    for number, batch in enumerate(batches):
        if not number:
            writer.writerow(batch.schema.names)
        rows: Iterator[Iterable[Any]] = zip(*map(_cells, python_columns(batch)), strict=True)
        if escaped:
            rows = (map(printable, map(_cell, row)) for row in rows)
        writer.writerows(rows)
        yield written.getvalue()
        written.seek(0)
        written.truncate()


def _cells(values: list[Any]) -> list[Any]:
    """A column in CSV. Whole numbers and texts, which nearly all are, are written as they are."""
    return values if {*map(type, values)} <= {int, str, NoneType} else list(map(_cell, values))


def _cell(value: Any) -> str:
    """A value in CSV: nothing for null, JSON for what is no single value."""
    if value is None:
        return ""
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, list | dict | bool):
        return json.dumps(json_value(value))
    value = json_value(value)
    return "" if value is None else str(value)


def _lines(tables: Tables, sql: str, width: int | None) -> list[str]:
    """Columns side by side, numbers to the right; then how many rows there are.

    width  of the terminal: where lines do not fit, columns that are the same in all rows stand
           above the table, and long texts on several lines
    """
    answer = tables.ask(sql)
    columns, rows = answer.columns, answer.rows
    numeric = [
        bool(rows) and all(isinstance(row[at], int | float | decimal.Decimal) for row in rows)
        for at in range(len(columns))
    ]
    cells = [[printable(_text(value)) for value in row] for row in (columns, *rows)]
    above: list[str] = []
    if width is not None and _width(cells) > width:
        same = _same_in_all(cells)
        above = [f"{cells[0][at]}: {cells[1][at]}".rstrip() for at in same]
        above += [""] if above else []
        left = [at for at in range(len(columns)) if at not in same]
        cells = [[row[at] for at in left] for row in cells]
        numeric = [numeric[at] for at in left]
        cells = _fitted(cells, numeric, width)
    lines = [line.rstrip() for line in table(cells, numeric, rule=True)]
    first = "the first " if len(rows) == tables.most_rows else ""  # there may be more
    return [*above, *lines, f"({first}{plural(len(rows), 'row')})"]


def _widths(cells: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _width(cells: list[list[str]]) -> int:
    """Of lines of a table, with what stands between columns."""
    return sum(width + 2 for width in _widths(cells)) - 2


def _same_in_all(cells: list[list[str]]) -> list[int]:
    """Columns that are the same in all rows, if there are several rows; not all columns."""
    _, *rows = cells
    if len(rows) < 2:
        return []
    columns = enumerate(zip(*rows, strict=True))
    same = [at for at, column in columns if column.count(column[0]) == len(column)]
    return same if len(same) < len(rows[0]) else same[1:]


def _fitted(cells: list[list[str]], numeric: list[bool], width: int) -> list[list[str]]:
    """Wrap the longest texts, so that lines have ``width`` characters, as far as that can be: a row
    has as many lines as its longest text. Neither numbers nor names of columns are wrapped."""
    head, *rows = cells
    widths = _widths(cells)
    columns = zip(widths, numeric, head, strict=True)
    fixed = [natural if right else len(name) for natural, right, name in columns]

    def too_wide(most: int) -> bool:
        narrower = zip(widths, fixed, strict=True)
        return sum(max(min(natural, most), least) + 2 for natural, least in narrower) - 2 > width

    most = max(widths)
    while most > _LEAST and too_wide(most):
        most -= 1
    if too_wide(most):
        most = _TOO_WIDE
    room = [max(most, least) for least in fixed]
    fitted = [head]
    for row in rows:
        texts = [wrapped(text, most) or [""] for text, most in zip(row, room, strict=True)]
        fitted += map(list, zip_longest(*texts, fillvalue=""))
    return fitted


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
