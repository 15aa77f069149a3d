"""``splitbtf merge``: many BTF into one that holds each type once."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from pipeline.engine.malloc import importing

from .usage.text import plural, print_json, say, size

DESCRIPTION = """\
Merge BTF into one file that holds each type once: vmlinux and all its modules as a single blob,
say. A FILE is raw BTF (.btf), an ELF file with BTF, either of them compressed, a kernel image
(vmlinuz), or a folder or package with such files (its vmlinux, then its modules). Modules may be
standalone or split: these continue the vmlinux among the files. Files are merged in the order
given: name vmlinux first. A file that cannot be merged stops the merge.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "merge", help="merge many BTF into one that holds each type once", description=DESCRIPTION
    )
    parser.add_argument("file", nargs="+", metavar="FILE", help="BTF to merge, or a folder of it")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the merged BTF, one raw BTF file"
    )
    parser.add_argument(
        "-B",
        "--base",
        metavar="BASE",
        help="what split BTF among the files continues; OUT then continues it too",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    with importing():
        from pipeline.merge import merge_files

    report = merge_files(
        options.file, options.output, base_path=options.base, announce=options.reporter.announce
    )
    if options.json:
        facts = dataclasses.asdict(report)
        facts["read_seconds"] = round(report.read_seconds, 6)
        facts["work_seconds"] = round(report.work_seconds, 6)
        print_json(facts)
    else:
        say([
            f"{plural(report.files, 'file')} merged into {report.output}",
            f"  BTF    {size(report.bytes_in):>10} -> {size(report.bytes_out)}",
            f"  types  {report.types_in:>10,} -> {report.types_out:,}",
            f"  took {report.work_seconds:.2f} s",
        ])  # fmt: skip
    return 0
