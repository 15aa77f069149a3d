"""``splitbtf audit``: what builds left in the BTF that they ship."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .usage.text import plural, print_json, say, size, wrapped

if TYPE_CHECKING:
    from pipeline.analysis.audit import KernelAudit, Leftover

DESCRIPTION = """\
Say what builds left in the split BTF of their modules although dedup removes it, with the likely
cause, and what vmlinux itself holds twice. Of modules that came with standalone BTF, or with DWARF
only, nothing can be said: their BTF is not what a build made of it.
"""

_KINDS = 2  # that are named
_WORDS = {
    "typedef": "typedefs that the base has",
    "refers": "lead to such a typedef",
    "in_base": "the base has an equal type",
    "repeated": "twice in one module",
}


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "audit", help="what builds left in the BTF that they ship", description=DESCRIPTION
    )
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument("--kernel", metavar="K", help="only this kernel")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.analysis.audit import audit

    kernels = audit(options.out, options.kernel)
    if options.json:
        print_json(
            [
                {**asdict(kernel), "causes": [asdict(cause) for cause in kernel.causes]}
                for kernel in kernels
            ]
        )
    else:
        for kernel in kernels:
            say(_lines(kernel))
    return 0


def _lines(kernel: KernelAudit) -> list[str]:
    lines = [f"{kernel.kernel}: {plural(kernel.modules, 'module')} with split BTF"]
    if kernel.others:
        lines[0] += f"; nothing can be said of {kernel.others:,} others"
    if kernel.modules:
        lines.append(f"  shipped {size(kernel.bytes_in)}, needed {size(kernel.bytes_out)}")
        if kernel.bytes_in > 1.05 * kernel.bytes_out:
            factor = kernel.bytes_in / max(kernel.bytes_out, 1)
            lines[-1] += f": {factor:.1f} times as large as need be"
        if kernel.median_factor is not None and kernel.median_factor > 1.05:
            lines[-1] += f", the median module {kernel.median_factor:.1f} times"
    lines += _left_lines(kernel.left)
    if kernel.by_arrays:
        lines.append(f"  kept for how arrays are written: {_sizes(kernel.by_arrays)}")
    for cause in kernel.causes:
        lines.append(f"  likely cause of {plural(cause.types, 'type')}, {size(cause.bytes)}:")
        for text in (cause.name, cause.versions, cause.advice):
            lines += wrapped(f"    {text}")
    if kernel.largest and kernel.bytes_in > 1.05 * kernel.bytes_out:
        width = max(len(one.module) for one in kernel.largest)
        lines.append("  most to be saved:")
        lines += [
            f"    {one.module:<{width}}  {size(one.bytes_in):>9} -> {size(one.bytes_out)}"
            for one in kernel.largest
        ]
    twice = sum(one.types for one in kernel.in_base)
    if twice:
        kinds = ", ".join(f"{one.types:,} {one.kind}" for one in kernel.in_base)
        lines.append(f"  vmlinux holds {plural(twice, 'type')} twice: {kinds}")
    return lines


def _left_lines(left: tuple[Leftover, ...]) -> list[str]:
    """What was left, by cause, and of each the kinds that are most of it."""
    lines = []
    if left:
        lines.append(f"  left by the build: {_sizes(left)}")
    for cause, words in _WORDS.items():
        found = [one for one in left if one.cause == cause]
        if found:
            types, total = sum(one.types for one in found), sum(one.bytes for one in found)
            kinds = ", ".join(f"{one.kind} {one.types:,}" for one in found[:_KINDS])
            more = ", …" if len(found) > _KINDS else ""
            lines.append(f"    {types:>7,} {size(total):>9}  {words} ({kinds}{more})")
    return lines


def _sizes(left: tuple[Leftover, ...]) -> str:
    return (
        f"{plural(sum(one.types for one in left), 'type')}, {size(sum(one.bytes for one in left))}"
    )
