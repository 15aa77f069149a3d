"""``splitbtf verify``: whether what was committed is there as it was written."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .usage.text import plural, print_json, say, size

DESCRIPTION = """\
Compare every file in OUT that is committed, BTF files and tables, with its digest, and list those
that are missing or changed, and those that belong to nothing. `splitbtf run` with the same sources
mends them. Exit status 1 when there are any. A run must not be writing to OUT meanwhile.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "verify", help="compare all committed files with their digests", description=DESCRIPTION
    )
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.store.check import check_output

    checked = check_output(options.out)
    if options.json:
        print_json(asdict(checked))
    else:
        for fault in checked.faults:
            say([f"{fault.path}: {fault.fault}{': ' * bool(fault.detail)}{fault.detail}"])
        seen = f"{plural(checked.kernels, 'kernel')}, {plural(checked.files, 'file')}"
        wrong = plural(len(checked.faults), "fault") if checked.faults else "all as written"
        say([f"{seen}, {size(checked.bytes)}: {wrong}"])
    return 1 if checked.faults else 0
