"""``splitbtf history``: how one type, function, variable or member changed over all kernels."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.sources.names import hint

from .usage.text import plural, print_json, say, wrapped

if TYPE_CHECKING:
    from pipeline.analysis.history import History, Presence, Step

DESCRIPTION = """\
Follow a type, function, variable or member through all kernels in OUT, in order of release: of each
flavour and architecture a line for every kernel in which it changed, and what changed. Names that
vmlinux lacks are looked for in the modules. Exit status 1 when no kernel has it.
"""

MODULES_LISTED = 6


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "history", help="say when a type or member changed, and how", description=DESCRIPTION
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        help="`task_struct`, `struct file`, `vfs_read`, a member: `task_struct.se.load`",
    )
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    parser.set_defaults(command=main, parser=parser)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if not options.name.strip():
        options.parser.error("NAME is empty: types without a name cannot be found by it")
    from pipeline.analysis.history import history

    found = history(options.name, options.out)
    if options.json:
        print_json(_as_json(found))
    elif found.presence:
        say(line for text in _lines(found) for line in wrapped(text))
    else:
        say([f"no kernel has {options.name!r}{hint(found.nearest)}"])
    return 0 if found.presence else 1


def _as_json(found: History) -> dict[str, Any]:
    return {
        "name": found.name,
        "declarations": found.declarations,
        "kernels": [
            {"kernel": kernel.name, **kernel.facts} for track in found.tracks for kernel in track
        ],
        "presence": [asdict(one) for one in found.presence],
        "steps": [
            {
                "kind": step.kind,
                "from": step.old,
                "to": step.new,
                "changed": step.changed,
                "change": step.change or None,
                "layout": step.layout,
                "details": [detail.facts() for detail in step.details],
            }
            for step in found.steps
        ],
        "nearest": list(found.nearest),
    }


def _lines(found: History) -> Iterator[str]:
    kinds = list(dict.fromkeys(one.kind for one in found.presence))
    those = plural(sum(map(len, found.tracks)), "kernel")
    yield f"{found.name}: {plural(found.declarations, 'declaration')} in {those}"
    for kind in kinds:
        presence = {one.kernel: one for one in found.presence if one.kind == kind}
        steps = {step.new: step for step in found.steps if step.kind == kind}
        for track in found.tracks:
            yield ""
            label = ", ".join(part for part in track[0].configuration if part) or "all kernels"
            yield f"{label}: {kind}" if len(kinds) > 1 else label
            for kernel in track:
                step = steps.get(kernel.name)
                if kernel is track[0] or (step is not None and step.change not in _NO_CHANGE):
                    yield from _of_kernel(kernel.name, presence.get(kernel.name), step)


_NO_CHANGE = ("", "reached")


def _of_kernel(name: str, there: Presence | None, step: Step | None) -> Iterator[str]:
    """A line for a kernel, and what changed from the one that it is compared with."""
    if there is None:
        yield f"  {name}  {'not there any more' if step and step.change else 'not there'}"
        return
    objects = "" if there.objects == ("vmlinux",) else f", in {_objects(there.objects)}"
    if step is None or step.change == "added":
        yield f"  {name}  {'; '.join(there.declarations)}{objects}"
    elif step.change in _NO_CHANGE:
        yield f"  {name}  as in {step.old}{objects}"
    else:
        yield f"  {name}  {_summary(step)} from {step.old}{objects}"
        yield from (f"    {detail.text}" for detail in step.details)


def _objects(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MODULES_LISTED])
    more = len(names) - MODULES_LISTED
    return f"{shown} and {plural(more, 'more module')[:-1]}" if more > 0 else shown


_PHRASES = {  # for one and for several
    "size": ("another size", ""),
    "order": ("another order", "another order"),
    "bit field": ("1 bit field changed", "{} bit fields changed"),
    "enumerator value": ("1 value changed", "{} values changed"),
    "enumerator order": ("another order", "another order"),
    "returns": ("returns another type", ""),
    "target": ("another type", ""),
}


def _summary(step: Step) -> str:
    """What changed, in a few words: ``3 members added, 1 member removed``."""
    if step.change == "embedded":
        return "only its layout changed"
    counts: Counter[str] = Counter()
    for detail in step.details:
        counts[detail.what] += detail.members
    words = []
    for what, count in counts.items():
        noun, _, verb = what.partition(" ")
        one, several = _PHRASES.get(what, (f"1 {noun} {verb}", f"{{}} {noun}s {verb}"))
        words.append(one if count == 1 else several.format(count))
    return ", ".join(words) or "changed"
