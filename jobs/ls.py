"""``splitbtf ls``: the kernels of an output folder, or the modules of one of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .usage.text import number, plural, print_json, say, size, table

DESCRIPTION = """\
List the kernels in OUT, by flavour, architecture and release: how many modules, and how large the
BTF of vmlinux is, and that of the modules as it was found and deduplicated. With KERNEL, also
shortened (`6.12.117`), list its modules.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "ls", help="list kernels, or the modules of one", description=DESCRIPTION
    )
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument("kernel", nargs="?", metavar="KERNEL", help="list this kernel's modules")
    parser.add_argument("--json", action="store_true", help="print a JSON array, an object a row")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.analysis.ls import list_kernels, list_modules

    if options.kernel is None:
        rows = list_kernels(options.out)
        lines = _kernels(rows)
    else:
        kernel, rows = list_modules(options.out, options.kernel)
        lines = _modules(kernel, rows)
    if options.json:
        print_json(rows)
    else:
        say(line.rstrip() for line in lines)
    return 0


def _kernels(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    cells = [["kernel", "modules", "failed", "vmlinux", "found", "deduplicated"]]
    for row in rows:
        sizes = (size(row[name]) for name in ("base_bytes", "bytes_in", "bytes_out"))
        cells.append([row["kernel"], number(row["modules"]), number(row["failed"]), *sizes])
    yield from table(cells, [False] + [True] * 5)


def _modules(kernel: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{kernel}: {plural(len(rows), 'module')}"
    yield ""
    cells = [["module", "types found", "types left", "found", "deduplicated"]]
    failed = []
    for row in rows:
        if row["status"] == "done":
            sizes = size(row["bytes_in"]), size(row["bytes_out"])
            cells.append([row["module"], number(row["types_in"]), number(row["types_out"]), *sizes])
        else:
            failed.append(f"{row['module']}: {row['error']}")
    yield from table(cells, [False] + [True] * 4)
    if failed:
        yield ""
        yield "failed:"
        yield from (f"  {line}" for line in failed)
