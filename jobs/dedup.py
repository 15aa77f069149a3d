"""``splitbtf dedup``: a few modules, or a few thousand, in one process."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.engine.malloc import importing
from pipeline.model.options import FORM_AUTO, FORM_CHOICES

from .usage.text import print_json, say, size, summary_lines

DESCRIPTION = """\
Deduplicate modules' BTF against a base and write OUTDIR/MODULE.btf for each. A FILE is raw BTF
(.btf), an ELF module (.ko), either of them compressed with zstd, xz or gzip, or a folder of such
files. Works in this one process, without Ray, and writes no tables.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "dedup",
        help="deduplicate modules against a base, in one process",
        description=DESCRIPTION,
    )
    parser.add_argument("file", nargs="+", metavar="FILE", help="a module, or a folder of modules")
    parser.add_argument(
        "-B", "--base", required=True, metavar="BASE", help="vmlinux, or its BTF as a raw file"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--output", metavar="OUTDIR", help="folder for the split BTF files")
    where.add_argument("--no-output", action="store_true", help="work, but write nothing")
    add_form(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(command=main)


def add_form(parser: argparse.ArgumentParser) -> None:
    """Add the argument that says in which form split BTF is written."""
    parser.add_argument(
        "--form",
        choices=FORM_CHOICES,
        default=FORM_AUTO,
        help="of the split BTF: dedup, as libbpf's dedup leaves it; kernel, sorted by name, as "
        "builds of Linux 7.0 and later do; auto, sorted where the base is (default: auto)",
    )


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    with importing():
        from pipeline.dedup import dedup_files

    reporter = options.reporter
    report = dedup_files(
        options.base,
        options.file,
        options.output,
        form=options.form,
        announce=reporter.announce,
        progress=lambda done, failed, of: reporter.progress("dedup", done, failed, of),
    )
    if options.json:
        facts = {
            **report.summary.as_json(),
            "index_seconds": round(report.index_seconds, 6),
            "work_seconds": round(report.work_seconds, 6),
            "output": report.output_folder,
        }
        print_json(facts)
    else:
        lines = summary_lines(report.summary)
        rate = report.summary.bytes_in / max(report.work_seconds, 1e-9)
        lines.append(f"  took {report.work_seconds:.2f} s ({size(rate)}/s)")
        if report.output_folder is not None:
            lines.append(f"  split BTF: {report.output_folder}/")
        say(lines)
    return 1 if report.summary.failed else 0
