"""``splitbtf show``: one type, with offsets, holes and cache lines, of one kernel or several."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from btf.nearest import hint

from .text import complain, plural, print_json, say, table

if TYPE_CHECKING:
    from pipeline.analysis.show import Field, Shown, ShownFile

DESCRIPTION = """\
Print a type as pahole does: offset and size of each member in bytes, holes, padding, cache lines.
With several FILEs, their members side by side. Exit status 1 when a FILE has no such type.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "show", help="print one type with offsets, holes and cache lines", description=DESCRIPTION
    )
    parser.add_argument(
        "name", metavar="NAME", help="`task_struct`, `struct task_struct`, a function, …"
    )
    parser.add_argument("file", nargs="+", metavar="FILE", help="a file with BTF")
    parser.add_argument(
        "-B",
        "--base",
        action="append",
        default=[],
        metavar="BASE",
        help="the base of split BTF; once for all FILEs, or once for each, in their order",
    )
    parser.add_argument(
        "--expand", action="store_true", help="write out embedded structs and unions, too"
    )
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if len(options.base) not in (0, 1, len(options.file)):
        options.parser.error("-B: give one base for all FILEs, or one for each of them")
    from pipeline.analysis.show import show_files
    from pipeline.sources.lookup import Name

    name = Name.of(options.name)
    if not name.name:
        options.parser.error("NAME is empty: types without a name cannot be found by it")
    files = show_files(
        name,
        options.file,
        options.base,
        expand=options.expand,
        announce=options.reporter.announce,
    )
    if options.json:
        print_json(_as_json(options.name, files))
    else:
        for file in files:
            if not file.found:
                complain(f"{file.path}: no {options.name!r}{hint(file.nearest)}")
        say(_lines([file for file in files if file.found]))
    return 0 if all(file.found for file in files) else 1


def _as_json(name: str, files: Sequence[ShownFile]) -> dict[str, Any]:
    def one(shown: Shown) -> dict[str, Any]:
        facts = {key: getattr(shown, key) for key in ("kind", "name", "size", "type_id")}
        if shown.layout is None:
            return {**facts, "declaration": "\n".join(shown.lines)}
        members = [
            {key: value for key, value in asdict(field).items() if key != "inside"}
            for field in shown.layout.walk()
        ]
        return {**facts, "padding_bits": shown.layout.padding_bits, "members": members}

    return {
        "name": name,
        "files": [
            {
                "file": file.path,
                "object": file.object,
                "found": [one(shown) for shown in file.found],
                "nearest": list(file.nearest),
            }
            for file in files
        ],
    }


def _lines(files: Sequence[ShownFile]) -> Iterator[str]:
    first = files[0] if files else None
    alike = all(len(file.found) == 1 and file.found[0].layout for file in files)
    if len(files) > 1 and alike:
        yield from _side_by_side(files)
        return
    for file in files:
        if file is not first:
            yield ""
        if len(files) > 1:
            yield f"/* {file.path} */"
        if len(file.found) > 1:
            yield f"/* {plural(len(file.found), 'different declaration')} of that name */"
        for shown in file.found:
            yield from (line.expandtabs(8) for line in shown.lines)


def _side_by_side(files: Sequence[ShownFile]) -> Iterator[str]:
    """A row for each member, with its offset and size in each file."""
    shown = [file.found[0] for file in files]
    labels = _labels([file.path for file in files])
    yield f"{shown[0].kind} {shown[0].name}: offset and size in bytes"
    columns = [_members(one) for one in shown]
    names = list(columns[0])
    for column in columns[1:]:
        names = _merged(names, list(column))
    rows = [["", *labels], ["size", *(str(one.size) for one in shown)]]
    notes = []
    for name in names:
        fields = [column.get(name) for column in columns]
        changed = len({_place(field) for field in fields}) > 1
        texts = list(dict.fromkeys(field.text for field in fields if field is not None))
        mark = "*" if changed or len(texts) > 1 else " "
        rows.append([f"{mark} {name}", *map(_place, fields)])
        if len(texts) > 1:
            notes.append(f"* {name}: {' → '.join(texts)}")
    yield from (line.rstrip() for line in table(rows, [False] + [True] * len(files)))
    if notes:
        yield ""
        yield from notes


def _members(shown: Shown) -> dict[str, Field]:
    """Members by their path; those without a name are passed over, what is in them is not."""
    assert shown.layout is not None
    found: dict[str, Field] = {}
    for field in shown.layout.walk():
        if field.path and not field.text.endswith("}"):
            found.setdefault(field.path, field)
    return found


def _place(field: Field | None) -> str:
    if field is None:
        return "-"
    at, bit = divmod(field.bit_offset, 8)
    if field.bits:
        return f"{at}:{bit} {f':{field.bits}':>5}"
    return f"{at} {field.size if field.size is not None else '?':>5}"


def _merged(names: list[str], more: list[str]) -> list[str]:
    """The names of both, each once, those of one list behind what they follow there."""
    known = set(names)
    found: list[str] = []
    following: dict[str | None, list[str]] = {}
    last: str | None = None
    for name in more:
        if name in known:
            last = name
        else:
            following.setdefault(last, []).append(name)
    found += following.get(None, [])
    for name in names:
        found += [name, *following.get(name, [])]
    return found


def _labels(paths: Sequence[str]) -> list[str]:
    """The parts of paths that tell them apart."""
    parts = [os.path.abspath(path).split(os.sep) for path in paths]
    columns = list(zip_longest(*parts, fillvalue=""))
    differ = [at for at, column in enumerate(columns) if len(set(column)) > 1]
    if not differ:
        return list(paths)
    return [os.sep.join(part[differ[0] : differ[-1] + 1]) for part in parts]
