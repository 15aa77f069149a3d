"""``splitbtf diff``: what changed between two kernels' types."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from pipeline.engine.malloc import no_collections
from pipeline.sources.names import hint

from .usage.parser import add_bases
from .usage.text import as_json, complain, number, plural, print_pieces, remark, say, table, wrapped

if TYPE_CHECKING:
    from pipeline.analysis.changes.compare import Change, ObjectCounts
    from pipeline.analysis.changes.detail import Detail
    from pipeline.analysis.diff import Diff

DESCRIPTION = """\
Compare the types of two kernels, vmlinux and modules: kernels of an output folder (--in OUT), or
folders, packages or manifests of one kernel each; or the types of two files, of vmlinux or of a
module: raw BTF (.btf), ELF files with BTF, kernel images. Each name of an object counts once: as
changed when its own declaration changed as C reads it; as embedding when only what it holds by
value did, so that its layout is another; as reaching when only pointers lead from it to a change.
"""

KIND_CHOICES = ("struct", "union", "enum", "typedef", "func", "var")
LISTED_AT_MOST = 60  # names in a line of text about what was added, removed or embeds a change
UNREAD_AT_MOST = 10  # objects that cannot be compared, each with a line
LONG_TEXT = 1000  # lines, from which an overview stands first
FORMATS = ("text", "json", "markdown")
GATES = ("declaration", "layout")
_DECLARED = ("declaration added", "declaration removed")
_COLUMNS = ("both", "added", "removed", "changed", "embedded", "reached")


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "diff", help="say what changed between two kernels' types", description=DESCRIPTION
    )
    parser.add_argument(
        "old",
        metavar="OLD",
        help="a file with BTF, or a folder or package of a kernel; with --in a kernel there",
    )
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument(
        "--in",
        dest="out",
        metavar="OUT",
        help="what splitbtf run has written; OLD and NEW are kernels in it, also shortened: "
        "`6.12.117`",
    )
    add_bases(parser, "; if OLD and NEW have different ones, -B twice in that order")
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
        "--module",
        action="append",
        default=[],
        metavar="GLOB",
        help="only such modules, or `vmlinux`; several times",
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
    if options.out is not None and options.base:
        options.parser.error("-B is for files: in OUT every kernel has its base")
    with (
        no_collections()
    ):  # what is made is kept until it is printed, looking through it takes long
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    from pipeline.analysis.changes.chosen import Filters, read_symbols
    from pipeline.analysis.diff import diff_files, diff_kernels
    from pipeline.sources.lookup import Name

    filters = Filters(
        kinds=options.kind,
        names=[Name.of(text) for text in options.name],
        objects=options.module,
        symbols=read_symbols(options.symbols) if options.symbols else None,
    )
    if options.out is not None:
        found = diff_kernels(options.out, options.old, options.new, filters)
    else:
        announce = options.reporter.announce
        found = diff_files(options.old, options.new, options.base, filters, announce)
    if options.json or options.format == "json":
        print_pieces(_json(found))
    elif options.format == "markdown":
        say(_markdown(_parts(found, bool(options.module or options.name))))
    else:
        say(_whole_text(found, bool(options.module or options.name)))
    for one in found.unread[:UNREAD_AT_MOST]:
        kernel = found.new if one.of_new else found.old
        complain(f"{one.object} of {kernel} cannot be compared: {one.error}")
    if (more := len(found.unread) - UNREAD_AT_MOST) > 0:
        complain(f"{plural(more, 'more object')} cannot be compared: --json lists all")
    for text, nearest in found.unmet:
        complain(f"nothing that was asked about is called {text!r}{hint(nearest)}")
    if no_symbols := found.symbols > 0 and len(found.unknown_symbols) == found.symbols:
        complain(
            f"none of the {plural(found.symbols, 'symbol')} of {options.symbols} is in the BTF of "
            f"either kernel: {_listed(found.unknown_symbols, 5)}"
        )
    fails = ""
    if options.fail_on:
        fails = _why_it_fails(found, options.fail_on)
        said_so = no_symbols or found.unmet
        if filters.of_names and not said_so and not any(one.has_names for one in found.objects):
            fails = "no name was compared, for none fits all that was asked about"
    if fails:
        remark(f"--fail-on {options.fail_on}: {fails}")
    return int(bool(fails or no_symbols or found.unread or found.unmet))


def _why_it_fails(found: Diff, gate: str) -> str:
    """How much changed that the gate is to stop; empty if nothing did."""
    removed = sum(change.change == "removed" for change in found.changes)
    if gate == "declaration":
        otherwise, how = sum(change.change == "changed" for change in found.changes), "declared"
    else:
        otherwise, how = sum(change.layout for change in found.changes), "laid out"
    said = [f"{plural(removed, 'name')} removed"] if removed else []
    if otherwise:
        said.append(f"{number(otherwise) if said else plural(otherwise, 'name')} {how} otherwise")
    return ", ".join(said)


def _json(found: Diff) -> Iterator[str]:
    """A diff as ``--json`` has it, on one line, piece by piece.

    Of changes, which are many, each is written straight away. Their texts are out of tables, which
    have nothing that is no Unicode.
    """
    from json.encoder import encode_basestring_ascii as quoted

    objects = [
        {
            "object": one.object,
            "status": one.status,
            "kinds": {kind: counts._asdict() for kind, counts in one.kinds.items()},
        }
        for one in found.objects
    ]
    unread = [
        {"object": one.object, "in": found.new if one.of_new else found.old, "error": one.error}
        for one in found.unread
    ]
    head = {"old": found.old, "new": found.new, "objects": objects}
    tail = {
        "unread": unread,
        "symbols": found.symbols,
        "unknown_symbols": list(found.unknown_symbols),
        "unmet": [{"name": text, "nearest": list(nearest)} for text, nearest in found.unmet],
    }
    yield as_json(head, indent=None)[:-1]
    yield ', "changes": ['
    written: dict[int, str] = {}
    before = ""
    for change, details in zip(found.changes, found.details(found.changes), strict=True):
        text = written.get(id(details))  # what many modules share is the same list
        if text is None:
            text = written[id(details)] = ", ".join([_detail(one, quoted) for one in details])
        to, origin = "[]", "[]"
        if change.moved:
            moved = f"[{', '.join(map(quoted, change.moved))}]"
            to, origin = (moved, "[]") if change.change == "removed" else ("[]", moved)
        yield (
            f'{before}{{"object": {quoted(change.object)}, "kind": "{change.kind}", '
            f'"name": {quoted(change.name)}, "change": "{change.change}", '
            f'"layout": {"true" if change.layout else "false"}, "moved_to": {to}, '
            f'"moved_from": {origin}, "details": [{text}]}}'
        )
        before = ", "
    yield "], "
    yield as_json(tail, indent=None)[1:]


def _detail(detail: Detail, quoted: Callable[[str], str]) -> str:
    what, subject, old, new, until, members = detail
    if what in _DECLARED:  # nearly all, of which there is only the declaration to be told
        said = quoted(old or new)
        was, now = (said, '""') if old else ('""', said)
        return (
            f'{{"what": "{what}", "subject": "", "old": {was}, "new": {now}, "until": "", '
            f'"members": 1, "text": "{what}: {said[1:]}}}'
        )
    return (
        f'{{"what": "{what}", "subject": {quoted(subject)}, "old": {quoted(old)}, '
        f'"new": {quoted(new)}, "until": {quoted(until)}, "members": {members}, '
        f'"text": {quoted(detail.text)}}}'
    )


# -- text and Markdown: headings, tables and lines


@dataclass
class _Part:
    """A heading and what stands under it.

    level  of the heading, from 1
    rows   of a table with a head, of which all columns but the first are numbers
    lines  those that are further in say more of the one before them
    """

    level: int
    heading: str
    rows: Sequence[Sequence[str]] = ()
    lines: Sequence[str] = ()


def _parts(found: Diff, all_names: bool) -> Iterator[_Part]:
    """``all_names``: of modules, too, what was added and removed is listed."""
    yield _Part(1, f"{found.old} → {found.new}")
    modules = [one for one in found.objects if one.object != "vmlinux"]
    all_names = all_names or len(modules) < 2
    changes = found.changes if all_names else found.changes_told(["vmlinux"])
    for one in found.objects:
        if one.object == "vmlinux" or len(modules) == 1:
            yield _Part(2, one.object, _by_kind([one]))
            those = [change for change in changes if change.object == one.object]
            yield from _sections(found, those, False, True)
    if len(modules) > 1 and any(one.has_names for one in modules):
        names = {one.object for one in modules}
        those = [change for change in changes if change.object in names]
        yield from _of_modules(found, modules, those, all_names)
    if found.unknown_symbols:
        known = number(found.symbols - len(found.unknown_symbols))
        heading = f"{known} of {plural(found.symbols, 'symbol')} found; in the BTF of neither"
        yield _Part(2, heading, (), [f"  {_listed(found.unknown_symbols)}"])


def _of_modules(
    found: Diff, modules: Sequence[ObjectCounts], changes: Sequence[Change], all_names: bool
) -> Iterator[_Part]:
    by_status = defaultdict(list)
    for one in modules:
        by_status[one.status].append(one)
    lines = [
        f"  {status}: {_listed([one.object for one in by_status[status]])}"
        for status in ("removed", "added")
        if by_status[status]
    ]
    kept = by_status["both"]
    yield _Part(2, f"{plural(len(kept), 'module')} in both", _by_kind(kept), lines)
    rows = []
    for one in kept:
        sums = [sum(getattr(row, column) for row in one.kinds.values()) for column in _COLUMNS[1:]]
        if one.differs:
            rows.append([one.object, *map(number, sums)])
    if rows:
        yield _Part(3, f"{len(rows):,} of them differ", [["module", *_COLUMNS[1:]], *rows])
    several = sum(one.differs for one in modules) > 1
    yield from _sections(found, changes, several, all_names)
    if not all_names:
        yield from _unlisted(modules, sum(change.change == "added" for change in changes))


def _unlisted(modules: Iterable[ObjectCounts], came: int) -> Iterator[_Part]:
    """How many names there are that are not told; ``came``: that were added and are told."""
    kinds = [row for one in modules for row in one.kinds.values()]
    removed, added = sum(row.removed for row in kinds), sum(row.added for row in kinds) - came
    for word, count in (("removed", removed), ("added", added)):
        if count:
            line = "  names: see --module, --name or --json"
            yield _Part(3, f"{plural(count, 'name')} {word}", (), [line])


def _by_kind(objects: Sequence[ObjectCounts]) -> list[list[str]]:
    """Counts of some objects together, by kind; with a head."""
    rows = [["kind", *_COLUMNS]]
    for kind in KIND_CHOICES:
        sums = [sum(getattr(one.kinds[kind], column) for one in objects) for column in _COLUMNS]
        if any(sums):
            rows.append([kind, *map(number, sums)])
    return rows


def _sections(
    found: Diff, changes: Sequence[Change], several: bool, all_names: bool
) -> Iterator[_Part]:
    """What changed itself, what embeds it, what moved, and what is new or gone: in ``several``
    objects, or one."""
    told = [change for change in changes if change.change in ("changed", "embedded")]
    alike: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    causes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for change, details in zip(told, found.details(told), strict=True):
        name = f"{change.kind} {change.name}"
        if change.change == "changed":
            texts = tuple(detail.text for detail in details)
            name += " (layout)" if change.layout else ""
            alike[change.kind, change.name, name, texts].append(change.object)
        else:
            cause = ", ".join(detail.subject for detail in details) or "something changed"
            causes[cause][name].append(change.object)
    if alike:
        lines = []
        for (_, _, name, texts), objects in alike.items():
            lines.append(f"  {name}{_in(objects, several)}")
            lines += [f"    {text}" for text in texts]
        yield _Part(3, "changed", (), lines)
    if causes:
        lines = [
            f"  {cause}: {_listed([f'{n}{_in(objects, several)}' for n, objects in those.items()])}"
            for cause, those in causes.items()
        ]
        yield _Part(3, "only their layout changed, because they hold", (), lines)
    ways: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for change in changes:
        if change.moved and change.change == "added":
            ways[*change.moved, "", change.object].append(f"{change.kind} {change.name}")
    if ways:
        yield _Part(3, "moved here from another object", (), _ways(ways))
    if all_names:
        for word in ("removed", "added"):
            those = [c for c in changes if c.change == word and not (c.moved and word == "added")]
            yield from _names(word, those, several)


def _ways(ways: dict[tuple[str, ...], list[str]]) -> list[str]:
    """From which objects to which, and what."""
    lines = []
    for (*origins, _, to), names in ways.items():
        lines.append(f"  {_listed(origins, 5)} → {to}: {_listed(names)}")
    return lines


def _names(word: str, changes: Iterable[Change], several: bool) -> Iterator[_Part]:
    by_kind: dict[str, dict[str, list[str]]] = {}
    for change in changes:
        by_kind.setdefault(change.object, defaultdict(list))[change.kind].append(change.name)
    lines = [
        f"  {f'{name} ' if several else ''}{kind}: {_listed(names[kind])}"
        for name, names in by_kind.items()
        for kind in KIND_CHOICES
        if kind in names
    ]
    if lines:
        yield _Part(3, word, (), lines)


def _in(objects: Sequence[str], several: bool) -> str:
    return f" ({_listed(objects, 5)})" if several else ""


def _listed(names: Sequence[str], most: int = LISTED_AT_MOST) -> str:
    shown = ", ".join(names[:most])
    more = len(names) - most
    return f"{shown} and {more:,} more" if more > 0 else shown


def _whole_text(found: Diff, all_names: bool) -> Iterator[str]:
    """All parts; in a long text with an overview behind the counts of vmlinux."""
    parts = [list(_text([part])) for part in _parts(found, all_names)]
    if (lines := sum(map(len, parts))) > LONG_TEXT:
        first = 1 + any(one.object == "vmlinux" for one in found.objects)
        parts.insert(first, list(_overview(found, lines)))
    return chain.from_iterable(parts)


def _overview(found: Diff, lines: int) -> Iterator[str]:
    modules = [one for one in found.objects if one.object != "vmlinux"]
    words = {"both": "in both", "removed": "removed", "added": "added"}
    counts = Counter(one.status for one in modules)
    said = [f"{number(counts[status])} {words[status]}" for status in words if counts[status]]
    differ = sum(one.status == "both" and one.differs for one in modules)
    yield ""
    if said:
        yield from wrapped(f"modules: {', '.join(said)}; {number(differ)} of those in both differ")
    yield from wrapped(f"{number(lines)} lines in all; --module, --name and --kind ask for less")


def _text(parts: Iterable[_Part]) -> Iterator[str]:
    for part in parts:
        if part.level > 1:
            yield ""
        yield from wrapped(part.heading)
        if part.rows:
            yield from table(part.rows, [False] + [True] * (len(part.rows[0]) - 1))
        for line in part.lines:
            yield from wrapped(line)


def _markdown(parts: Iterator[_Part]) -> Iterator[str]:
    for part in parts:
        if part.level > 1:
            yield ""
        yield f"{'#' * part.level} {_escaped(part.heading)}"
        if part.rows:
            yield ""
            yield f"| {' | '.join(part.rows[0])} |"
            yield f"|---|{'---:|' * (len(part.rows[0]) - 1)}"
            yield from (f"| {' | '.join(map(_escaped, row))} |" for row in part.rows[1:])
        if part.lines:
            yield ""
        for line in part.lines:
            yield f"{'  ' * line.startswith('    ')}- {_escaped(line.strip())}"


def _escaped(text: str) -> str:
    """Text in which Markdown sees no marks but those for code."""
    parts = text.split("`")
    for at in range(0, len(parts), 2):
        for mark in "\\*_<>[]|#&":
            parts[at] = parts[at].replace(mark, f"\\{mark}")
    return "`".join(parts)
