"""``splitbtf layers``: longer chains than vmlinux -> module, without the repetition."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from .usage.parser import whole
from .usage.text import plural, print_json, say, size, table

if TYPE_CHECKING:
    from pipeline.analysis.layers import KernelLayers, LayoutCost

DESCRIPTION = """\
Write the split BTF of the kernels in OUT in chains of more than two levels, so that types which
several modules keep are there once, and print what each layout costs: star (as in OUT, every module
on vmlinux), shared (a layer between), depends (a module on one that it needs). `splitbtf help
layers` says how to read it.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "layers", help="put what modules repeat into a shared layer", description=DESCRIPTION
    )
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="where folders of kernels go"
    )
    parser.add_argument(
        "--by",
        choices=("shared", "depends"),
        default="shared",
        help="shared: one layer for all modules, the default; depends: along dependencies",
    )
    parser.add_argument(
        "--min-modules",
        type=whole(2),
        default=2,
        metavar="N",
        help="share what at least N modules keep; 2 by default",
    )
    parser.add_argument(
        "--loaded",
        metavar="FILE",
        help="also count what is loaded: /proc/modules or a copy, or what lsmod prints",
    )
    parser.add_argument("--kernel", metavar="K", help="only this kernel")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.analysis.layers import layer_kernels

    done = layer_kernels(
        options.out,
        options.output,
        by=options.by,
        min_modules=options.min_modules,
        kernel=options.kernel,
        loaded=options.loaded,
    )
    if options.json:
        print_json([dataclasses.asdict(kernel) for kernel in done])
    else:
        say(line for kernel in done for line in _lines(kernel))
    return 0


def _lines(kernel: KernelLayers) -> list[str]:
    """The table of a kernel."""
    head = f"{kernel.kernel}: {plural(kernel.modules, 'module')}"
    if kernel.loaded is not None:
        head += f", {kernel.loaded:,} of them loaded"
    lines = [f"{head}, on vmlinux with {size(kernel.base_bytes)}"]
    titles = ["", "files", "types", "bytes", "saved"]
    if kernel.loaded is not None:
        titles += ["loaded bytes", "saved"]
    star = kernel.layouts["star"]
    rows = [titles, *(_row(name, layout, star) for name, layout in kernel.layouts.items())]
    lines += [f"  {line}" for line in table(rows, [False, *[True] * (len(titles) - 1)])]
    if "depends" not in kernel.layouts:
        lines.append("  depends: not known, the modules were raw BTF and not .ko files")
    elif kernel.without_depends:
        unknown = plural(kernel.without_depends, "module")
        lines.append(f"  depends: not known for {unknown}, which were raw BTF and not .ko files")
    if kernel.not_there:
        shown = ", ".join(kernel.not_there[:5]) + (", …" if len(kernel.not_there) > 5 else "")
        lines.append(f"  loaded, but not in this kernel: {len(kernel.not_there):,} ({shown})")
    return [*lines, f"  written by {kernel.by}: {kernel.folder}/"]


def _row(name: str, layout: LayoutCost, star: LayoutCost) -> list[str]:
    cells = [name, f"{layout.files:,}", f"{layout.types:,}", f"{layout.bytes:,}"]
    cells.append(_saved(layout.bytes, star.bytes))
    if layout.loaded_bytes is not None and star.loaded_bytes is not None:
        cells += [f"{layout.loaded_bytes:,}", _saved(layout.loaded_bytes, star.loaded_bytes)]
    return cells


def _saved(after: int, before: int) -> str:
    """How much less than the star; nothing for the star itself."""
    return f"{100 * (before - after) / before:.1f} %" if after != before and before else ""
