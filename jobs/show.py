"""``splitbtf show``: one type, with offsets, holes and cache lines, of one kernel or several."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.engine.malloc import importing
from pipeline.sources.names import hint

from .usage.parser import add_bases
from .usage.text import complain, plural, print_json, say, table, wrapped

if TYPE_CHECKING:
    from pipeline.analysis.show import Field, Shown, ShownFile

DESCRIPTION = """\
Print a type as pahole does: offset and size of each member in bytes, holes, padding, cache lines.
Of several kernels or FILEs the members side by side. Names that vmlinux lacks are looked for in the
modules. Exit status 1 when a kernel or FILE has no such type.
"""

RUNNING = "/sys/kernel/btf/vmlinux"


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "show", help="print one type with offsets, holes and cache lines", description=DESCRIPTION
    )
    parser.add_argument(
        "name", metavar="NAME", help="`task_struct`, `struct task_struct`, a function, …"
    )
    parser.add_argument(
        "file",
        nargs="*",
        default=[RUNNING],
        metavar="OUT|FILE",
        help="what splitbtf run has written, or files with BTF (default: the running kernel)",
    )
    parser.add_argument(
        "--kernel",
        action="append",
        default=[],
        metavar="K",
        help="of OUT only this kernel, also shortened: `6.12.117`; several times",
    )
    parser.add_argument("--module", metavar="M", help="of OUT what this module has")
    add_bases(parser, "; once for all FILEs, or once for each, in their order")
    parser.add_argument(
        "--expand", action="store_true", help="write out embedded structs and unions, too"
    )
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    with importing():
        from pipeline.analysis.show import is_out, show_files, show_kernels
        from pipeline.sources.lookup import Name

    name = Name.of(options.name)
    if not name.name:
        options.parser.error("NAME is empty: types without a name cannot be found by it")
    of_out = len(options.file) == 1 and is_out(options.file[0])
    if of_out:
        if options.base:
            options.parser.error("-B is for files: in OUT every kernel has its base")
        out = options.file[0]
        files = show_kernels(name, out, options.kernel, options.module, expand=options.expand)
    else:
        if options.kernel or options.module:
            options.parser.error("--kernel and --module are for OUT")
        if len(options.base) not in (0, 1, len(options.file)):
            options.parser.error("-B: give one base for all FILEs, or one for each of them")
        announce = options.reporter.announce
        files = show_files(
            name, options.file, options.base, expand=options.expand, announce=announce
        )
    if options.json:
        print_json(_as_json(options.name, files, "kernel" if of_out else "file"))
    else:
        lacking = [file for file in files if not file.found]
        if len(lacking) == len(files) > 1:  # the newest kernel's names are as good as all of them
            complain(f"none of the {len(files)} has {options.name!r}{hint(lacking[-1].nearest)}")
            lacking = []
        for file in lacking:
            complain(f"{file.path}: no {options.name!r}{hint(file.nearest)}")
        if "." in name.name and not any(file.found for file in files):
            complain(f"members are told of by `splitbtf history {options.name} OUT`")
        if found := [file for file in files if file.found]:
            say(_lines(found))
    return 0 if all(file.found for file in files) else 1


def _as_json(name: str, files: Sequence[ShownFile], label: str) -> dict[str, Any]:
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
        f"{label}s": [
            {
                label: file.path,
                "object": file.object,
                "found": [one(shown) for shown in file.found],
                "nearest": list(file.nearest),
            }
            for file in files
        ],
    }


def _lines(files: Sequence[ShownFile]) -> Iterator[str]:
    alike: list[list[ShownFile]] = []  # neighbours that have the same
    for file in files:
        if alike and [one.lines for one in alike[-1][0].found] == [one.lines for one in file.found]:
            alike[-1].append(file)
        else:
            alike.append([file])
    if len(alike) > 1 and all(len(one.found) == 1 and one.found[0].layout for one, *_ in alike):
        yield from _side_by_side(alike)
        return
    for number, (file, *others) in enumerate(alike):
        if number:
            yield ""
        if len(files) > 1:
            yield from (f"/* {_where(one)} */" for one in (file, *others))
        if len(file.found) > 1:
            yield f"/* {plural(len(file.found), 'different declaration')} of that name */"
        for shown in file.found:
            yield from (line.expandtabs(8) for line in shown.lines)


def _where(file: ShownFile) -> str:
    return file.path if file.object == "vmlinux" else f"{file.path}: {file.object}"


def _side_by_side(alike: Sequence[Sequence[ShownFile]]) -> Iterator[str]:
    """A row for each member, with its offset and size in each file; as many files beside each other
    as there is room for."""
    shown = [one.found[0] for one, *_ in alike]
    labels = _labels([file.path for files in alike for file in files])
    names: list[str] = []
    columns = [_members(one) for one in shown]
    for column in columns:
        names = _merged(names, list(column))
    heads, same = [], []
    for files in alike:
        own, labels = labels[: len(files)], labels[len(files) :]
        heads.append(own[0])
        if len(own) > 1:
            same.append(f"{own[0]}: the same in {', '.join(own[1:])}")
    rows = [["", *heads], ["size", *(str(one.size) for one in shown)]]
    if any(one.object != "vmlinux" for one, *_ in alike):
        rows.insert(1, ["in", *(one.object for one, *_ in alike)])
    notes = []
    for name in names:
        fields = [column.get(name) for column in columns]
        changed = len({_place(field) for field in fields}) > 1
        texts = list(dict.fromkeys(field.text for field in fields if field is not None))
        mark = "*" if changed or len(texts) > 1 else " "
        rows.append([f"{mark} {name}", *map(_place, fields)])
        if len(texts) > 1:
            notes.append(f"* {name}: {' → '.join(texts)}")
    yield f"{shown[0].kind} {shown[0].name}: offset and size in bytes"
    for line in same:
        yield from wrapped(line)
    for some in _blocks(rows):
        yield ""
        lines = table([[row[at] for at in some] for row in rows], [at > 0 for at in some])
        yield from (line.rstrip() for line in lines)
    if notes:
        yield ""
        for note in notes:
            yield from wrapped(note)


def _blocks(rows: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """The columns of each table that fits the terminal, the first one and some others."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = shutil.get_terminal_size().columns
    some, used = [0], widths[0]
    for at, width in enumerate(widths[1:], 1):
        if len(some) > 1 and used + 2 + width > room:
            yield some
            some, used = [0], widths[0]
        some.append(at)
        used += 2 + width
    yield some


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
    """The parts of paths and names that tell them apart."""
    parts = [re.split(r"(?<=[/-])", path) for path in paths]
    least = min(map(len, parts)) - 1
    head = next((n for n in range(least) if len({part[n] for part in parts}) > 1), least)
    least -= head
    tail = next((n for n in range(least) if len({part[-1 - n] for part in parts}) > 1), least)
    return ["".join(part[head : len(part) - tail]).rstrip("-/") for part in parts]
