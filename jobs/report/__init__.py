"""``splitbtf report``: one HTML file about all kernels of an output folder.

__init__   the command
sections   what each figure says: words, columns, charts, the command that gives it
charts     Vega-Lite charts as SVG
page       the HTML file, of page.html, page.css and page.js
"""

from __future__ import annotations

import argparse
from typing import Any

from ..usage.text import say, size

DESCRIPTION = """\
Write a report about the kernels in OUT: sizes, growth, what changed, what modules repeat, why types
stay, which names are ambiguous. It is one HTML file that needs no network, with charts, and with
tables to sort and search. `splitbtf help report` says how to read it.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "report", help="write one HTML file about all kernels", description=DESCRIPTION
    )
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="report.html", help="report.html by default"
    )
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.analysis.report import figures
    from pipeline.files.storage import publish_file

    from .charts import check_limits
    from .page import page

    check_limits()
    content = page(options.out, figures(options.out)).encode()
    publish_file(options.output, content)
    say([f"{options.output}  ({size(len(content))})"])
    return 0
