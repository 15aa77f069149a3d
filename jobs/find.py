"""``splitbtf find``: every definition of a name, across vmlinux and modules."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.sources.names import hint

from .usage.text import plural, print_json, say

if TYPE_CHECKING:
    from pipeline.analysis.find import FoundType

DESCRIPTION = """\
List every type called NAME in vmlinux and the modules of the kernels in OUT, with type id, global
id (number of the module in the upper 32 bits, type id in the lower) and size, grouped by what they
declare: by kind, size, members and the C spelling of their types. Types of one declaration may
still differ in what they refer to: `--json` has the fingerprints of layouts and of whole types too.
Exit status 1 when there is none.
"""

KINDS = (
    "int", "struct", "union", "enum", "enum64", "fwd", "typedef", "func", "var", "datasec",
    "float", "decl_tag", "type_tag",
)  # fmt: skip


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "find", help="find a type by name in vmlinux and all modules", description=DESCRIPTION
    )
    parser.add_argument("name", metavar="NAME", help="`task_struct`, `struct task_struct`, `tcp_*`")
    parser.add_argument("out", nargs="+", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument(
        "--kind",
        type=str.lower,
        choices=KINDS,
        metavar="KIND",
        help=f"only types of this kind: {', '.join(KINDS)}",
    )
    parser.add_argument(
        "--module", metavar="M", help="what this module sees: its own types, else those of vmlinux"
    )
    parser.add_argument("--kernel", metavar="K", help="only this kernel")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if not options.name.strip():
        options.parser.error("NAME is empty: types without a name cannot be found by it")
    from pipeline.analysis.find import find

    kind = options.kind.upper() if options.kind else None
    search = find(
        options.name, options.out, kind=kind, module=options.module, kernel=options.kernel
    )
    if options.json:
        facts = {
            "name": options.name,
            "found": [asdict(found) for found in search.found],
            "nearest": list(search.nearest),
        }
        print_json(facts)
    elif search.found:
        say(_lines(search.found))
    else:
        say([_nothing(options, search.nearest)])
    return 0 if search.found else 1


def _nothing(options: argparse.Namespace, nearest: tuple[str, ...]) -> str:
    what = f"no {options.kind or 'type'} is called {options.name!r}"
    if options.module == "vmlinux":
        what += " in vmlinux"
    elif options.module:
        what += f" in {options.module} or vmlinux"
    return f"{what}{hint(nearest)}"


def _lines(found: tuple[FoundType, ...]) -> list[str]:
    """The meanings, and for each of them where it is."""
    meanings = max(one.meaning for one in found)
    several = len({one.out for one in found}) > 1
    width = max(len(one.module or "vmlinux") for one in found)
    lines = []
    if meanings > 1:
        names = len({one.name for one in found})
        these = f"of {names:,} names" if names > 1 else "of that name"
        lines.append(f"{plural(meanings, 'different declaration')} {these}:")
    by_meaning: list[list[FoundType]] = [[] for _ in range(meanings)]
    for one in found:
        by_meaning[one.meaning - 1].append(one)
    for those in by_meaning:
        first = those[0]
        size = f", {first.size} bytes" if first.size else ""
        size += {"layout": ", other layout", "declaration": ", same layout"}.get(
            first.level or "", ""
        )
        lines.append(f"{first.kind.lower()} {first.name}{size}  {first.declaration_fingerprint}")
        where = ""
        for one in those:
            heading = f"{one.out}: {one.kernel}" if several else one.kernel
            if heading != where:
                lines.append(f"  {heading}")
                where = heading
            lines.append(
                f"    {one.module or 'vmlinux':<{width}}  [{one.type_id}]  0x{one.global_id:016x}"
            )
    return lines
