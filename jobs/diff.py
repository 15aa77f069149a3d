"""``splitbtf diff``: what changed between two kernels' types."""

from __future__ import annotations

import argparse
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .text import number, plural, print_json, say, table

if TYPE_CHECKING:
    from pipeline.analysis.diff import Diff, NamedChange

DESCRIPTION = """\
Compare the types of two files, OLD and NEW: raw BTF (.btf), ELF files with BTF, kernel images, or
packages with one of these; of vmlinux or of a module. Each name counts once: as changed when its
own declaration changed as C reads it; as embedding when only what it holds by value did, so that
its layout is another; as reaching when only pointers lead from it to a change.
"""

WIDTH = 80
KIND_CHOICES = ("struct", "union", "enum", "typedef", "func", "var")
LISTED_AT_MOST = 60  # names in a line of text about what was added, removed or embeds a change
FORMATS = ("text", "json", "markdown")
GATES = ("declaration", "layout")
_COLUMNS = ("both", "added", "removed", "changed", "embedded", "reached")


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "diff", help="say what changed between two kernels' types", description=DESCRIPTION
    )
    parser.add_argument("old", metavar="OLD", help="a file with BTF")
    parser.add_argument("new", metavar="NEW", help="a file with BTF")
    parser.add_argument(
        "-B",
        "--base",
        action="append",
        default=[],
        metavar="BASE",
        help="the base of split BTF; if OLD and NEW have different ones, -B twice in that order",
    )
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        choices=KIND_CHOICES,
        metavar="KIND",
        help=f"only names of this kind ({', '.join(KIND_CHOICES)}); may be given several times",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="GLOB",
        help="only such names: `task_struct`, `struct task_struct`, `tcp_*`; several times",
    )
    parser.add_argument(
        "--symbols",
        metavar="FILE",
        help="only the functions, variables and types that FILE names, one a line or as in "
        "Module.symvers, and what they hold by value",
    )
    parser.add_argument(
        "--fail-on",
        choices=GATES,
        help="exit with 1 when a name of OLD was removed, or its declaration or layout changed",
    )
    parser.add_argument("--format", choices=FORMATS, help="what to print (default: text)")
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if len(options.base) > 2:
        options.parser.error("-B more than twice: there are only OLD's base and NEW's")
    if options.json and options.format not in (None, "json"):
        options.parser.error(f"--json and --format {options.format} are two formats")
    from pipeline.analysis.diff import Filters, diff_files, read_symbols
    from pipeline.sources.lookup import Name

    filters = Filters(
        kinds=options.kind,
        names=[Name.of(text) for text in options.name],
        symbols=read_symbols(options.symbols) if options.symbols else None,
    )
    found = diff_files(options.old, options.new, options.base, filters, options.reporter.announce)
    if options.json or options.format == "json":
        print_json(as_json(found))
    elif options.format == "markdown":
        say(_markdown(found))
    else:
        say(line for text in _text(found) for line in _wrapped(text))
    return int(options.fail_on is not None and _fails(found, options.fail_on))


def _fails(found: Diff, gate: str) -> bool:
    """Whether something changed that the gate is to stop."""
    return any(
        one.change.change == "removed"
        or (
            (one.change.change != "added" and (gate == "declaration" or one.change.layout))
            and (gate == "layout" or one.change.change == "changed")
        )
        for one in found.changes
    )


def as_json(found: Diff) -> dict[str, Any]:
    """A diff as ``--json`` has it."""
    return {
        "old": found.old,
        "new": found.new,
        "objects": [
            {
                "object": one.object,
                "status": one.status,
                "kinds": {kind: asdict(counts) for kind, counts in one.kinds.items()},
            }
            for one in found.objects
        ],
        "changes": [
            {
                "object": one.object,
                "kind": one.change.kind,
                "name": one.change.name,
                "change": one.change.change,
                "layout": one.change.layout,
                "details": [{**asdict(detail), "text": detail.text} for detail in one.details],
            }
            for one in found.changes
        ],
        "unknown_symbols": list(found.unknown_symbols),
    }


def _counts(found: Diff) -> Iterator[tuple[str, list[list[str]]]]:
    """Of each object its name, and a table of counts with a head."""
    for one in found.objects:
        rows = [["kind", *_COLUMNS]]
        for kind, counts in one.kinds.items():
            row = [getattr(counts, column) for column in _COLUMNS]
            if any(row):
                rows.append([kind, *map(number, row)])
        yield one.object, rows


def _text(found: Diff) -> Iterator[str]:
    yield f"{found.old} → {found.new}"
    for name, rows in _counts(found):
        yield ""
        yield name
        yield from table(rows, [False] + [True] * len(_COLUMNS))
    for heading, lines in _sections(found):
        yield ""
        yield heading
        yield from lines


def _sections(found: Diff) -> Iterator[tuple[str, list[str]]]:
    """(heading, lines) of what changed itself, what embeds it, and what is new or gone."""
    changed = [one for one in found.changes if one.change.change == "changed"]
    if changed:
        lines = []
        for one in changed:
            lines.append(f"  {one.change.kind} {one.change.name}")
            lines += [f"    {detail.text}" for detail in one.details]
        yield "changed", lines
    embedded: dict[str, list[NamedChange]] = defaultdict(list)
    for one in found.changes:
        if one.change.change == "embedded":
            causes = ", ".join(detail.subject for detail in one.details) or "something changed"
            embedded[causes].append(one)
    if embedded:
        lines = []
        for causes, those in embedded.items():
            names = [f"{one.change.kind} {one.change.name}" for one in those]
            lines.append(f"  {causes}: {_listed(names)}")
        yield "only their layout changed, because they hold", lines
    for change in ("removed", "added"):
        lines = []
        for kind in KIND_CHOICES:
            names = [
                one.change.name
                for one in found.changes
                if (one.change.change, one.change.kind) == (change, kind)
            ]
            if names:
                lines.append(f"  {kind}: {_listed(names)}")
        if lines:
            yield change, lines
    if found.unknown_symbols:
        what = plural(len(found.unknown_symbols), "symbol")
        yield f"{what} in neither", [f"  {_listed(found.unknown_symbols)}"]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:LISTED_AT_MOST])
    more = len(names) - LISTED_AT_MOST
    return f"{shown} and {more:,} more (--json lists all)" if more > 0 else shown


def _wrapped(line: str) -> list[str]:
    """A line as several that fit a terminal, those after the first further in."""
    if len(line) <= WIDTH:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(
        line.strip(),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )


def _markdown(found: Diff) -> Iterator[str]:
    yield f"# {_quoted(found.old)} → {_quoted(found.new)}"
    for name, rows in _counts(found):
        yield ""
        yield f"## {_quoted(name)}"
        yield ""
        yield f"| {' | '.join(rows[0])} |"
        yield f"|---|{'---:|' * len(_COLUMNS)}"
        yield from (f"| {' | '.join(row)} |" for row in rows[1:])
    for heading, lines in _sections(found):
        yield ""
        yield f"## {heading[0].upper()}{heading[1:]}"
        yield ""
        for line in lines:
            nested = line.startswith("    ")
            text = line.strip()
            yield f"  - {_escaped(text)}" if nested else f"- {_escaped(text)}"


def _quoted(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"


def _escaped(text: str) -> str:
    """Text in which Markdown sees no marks but those for code."""
    parts = text.split("`")
    for at in range(0, len(parts), 2):
        for mark in "\\*_<>[]|#&":
            parts[at] = parts[at].replace(mark, f"\\{mark}")
    return "`".join(parts)
