"""``splitbtf slim``: kernel modules as they are shipped, with no more BTF than they need."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .dedup import add_form
from .usage.parser import add_workers
from .usage.text import failure_lines, plural, print_json, ratio, say, size

if TYPE_CHECKING:
    from pipeline.slim.modules import SlimReport
    from pipeline.slim.work import SlimRecord

_SHOWN = 5
DESCRIPTION = """\
Write kernel modules again with no more BTF than they need: .BTF is replaced by what dedup against
their vmlinux leaves, .BTF_ids is renumbered, everything else in the file stays, and compression is
as before. A SOURCE is a package, a folder or a file, as for `splitbtf run`; vmlinux is found among
them. Modules that would not get smaller, or that something is wrong with, are written as they are.
A signature is removed where it no longer holds.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "slim", help="make modules smaller: no more BTF than they need", description=DESCRIPTION
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="a package, folder or module")
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder for the modules, or packages"
    )
    parser.add_argument(
        "-B", "--base", metavar="FILE", help="vmlinux of all modules (default: found in SOURCE)"
    )
    add_form(parser)
    parser.add_argument(
        "--deb", action="store_true", help="write Debian packages, made of those that are given"
    )
    add_workers(parser, "one per core")
    parser.add_argument("--json", action="store_true", help="print what became of each module")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.slim.modules import slim_modules

    report = slim_modules(
        options.source,
        options.output,
        base=options.base,
        form=options.form,
        deb=options.deb,
        workers=options.workers,
        announce=options.reporter.announce,
        progress=options.reporter.progress,
    )
    lost = {name: problem for name, problem in report.kernels.items() if problem is not None}
    if options.json:
        print_json(_as_json(report))
    else:
        say(_lines(report))
    return 1 if report.failures or lost else 0


def _as_json(report: SlimReport) -> dict[str, Any]:
    smaller = [record for record in report.records if record.reason is None]
    return {
        "modules": len(report.records),
        "smaller": len(smaller),
        "failed": len(report.failures),
        "signatures_removed": sum(record.signature_bytes > 0 for record in smaller),
        "output": report.output,
        "kernels": report.kernels,
        "failures": [failure.as_json() for failure in report.failures],
        "packages": [asdict(package) for package in report.packages or ()],
        "workers": report.workers,
        "seconds": round(report.seconds, 6),
        "files": [record.as_json() for record in report.records],
    }


def _lines(report: SlimReport) -> list[str]:
    """The summary: what was saved, what is as it was and why, what the user has to know."""
    lines = [
        f"kernel {name}: nothing could be done: {problem}"
        for name, problem in report.kernels.items()
        if problem is not None
    ]
    smaller = [record for record in report.records if record.reason is None]
    lines.append(f"{plural(len(report.records), 'module')}: {len(smaller):,} made smaller")
    if smaller:
        before = sum(record.bytes_before or 0 for record in smaller)
        after = sum(record.bytes_after or 0 for record in smaller)
        lines.append(f"  .BTF   {size(before):>10} -> {size(after):<10} ({ratio(before, after)})")
        before = sum(record.file_bytes_before for record in report.records)
        after = sum(record.file_bytes_after for record in report.records)
        lines.append(f"  files  {size(before):>10} -> {size(after):<10} ({ratio(before, after)})")
        lines += _most_saved(smaller)
    kept = Counter(r.reason for r in report.records if r.reason is not None and r.failure is None)
    lines += [f"  as they were: {count:,}, {reason}" for reason, count in kept.most_common()]
    lines += failure_lines(report.failures)
    if report.failures:
        lines.append("  what failed is written as it was, as far as it can be read")
    unsigned = sum(record.signature_bytes > 0 for record in smaller)
    if unsigned:
        lines += [
            f"  signatures removed, which no longer hold: {unsigned:,}; a kernel that asks for",
            "  signed modules (Secure Boot, module.sig_enforce) wants them signed again",
        ]
    lines += [
        f"  package: {package.path} ({size(package.bytes_before)} -> {size(package.bytes_after)})"
        for package in report.packages or ()
    ]
    if report.packages is None:
        lines.append(f"  written to {report.output}/")
    elif not report.packages:
        lines.append("  no package: there is nothing that would be smaller in one")
    return [*lines, f"  took {report.seconds:.1f} s on {plural(report.workers, 'worker')}"]


def _most_saved(smaller: Sequence[SlimRecord]) -> list[str]:
    most = sorted(smaller, key=lambda r: (r.bytes_after or 0) - (r.bytes_before or 0))[:_SHOWN]
    width = max(len(record.module) for record in most)
    return [
        "  most saved:",
        *(
            f"    {r.module:<{width}}  {size(r.bytes_before):>10} -> {size(r.bytes_after)}"
            for r in most
        ),
    ]
