"""``splitbtf explain``: why types stay in modules, in words."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.sources.names import hint

from .usage.text import complain, number, plural, print_json, say, size

if TYPE_CHECKING:
    from pipeline.analysis.explain import (
        Cause,
        Explanation,
        KernelAnswer,
        ModuleAnswer,
        TypeAnswer,
        TypeAnswers,
        UnmergedRow,
    )

DESCRIPTION = """\
Say why types stayed in modules although vmlinux has a type of their name: what differs, in which
type, how one gets there, and what would go without that. Of the kernels in OUT, of a module of
theirs, or of one type of a module. `splitbtf help explain` says how to read it.
"""

SHOWN = 40  # root causes of a kernel
SHOWN_EACH = 6  # types that stayed because of one


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "explain", help="why types stay in modules", description=DESCRIPTION
    )
    parser.add_argument("out", metavar="OUT", help="what splitbtf run has written")
    parser.add_argument("--kernel", metavar="K", help="only this kernel")
    parser.add_argument("--module", metavar="M", help="only this module")
    parser.add_argument(
        "--type",
        metavar="T",
        help="only this type of the module: a name, with `struct` or the like in front of it if "
        "need be, or a type id",
    )
    parser.add_argument("--json", action="store_true", help="print the same facts as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.type and not options.module:
        options.parser.error("--type needs --module")
    from pipeline.analysis.explain import Explanations, TypeAnswers
    from pipeline.model.errors import QueryError

    answers: list[Any] = []
    refused: list[QueryError] = []
    with Explanations(options.out) as explanations:
        meant = explanations.of(options.kernel, options.module)
        for one in meant:
            try:
                answers.append(_answer(one, options))
            except QueryError as error:  # of the others something can be said
                refused.append(error)
    if not answers:
        raise refused[0]
    for why in refused:
        complain(str(why))
    if options.type:
        found = tuple(answer for answers in answers for answer in answers.found)
        nearest = next((answers.nearest for answers in answers if not found), ())
        return max(_say_types(TypeAnswers(found, nearest), options), len(refused) > 0)
    if options.json:
        facts = [asdict(answer) for answer in answers]
        print_json(facts if len(meant) > 1 else facts[0])
    else:
        word = module_lines if options.module else kernel_lines
        blocks = [word(answer) for answer in answers]
        if options.module and len(meant) > 1:
            for answer, lines in zip(answers, blocks, strict=True):
                lines[0] = f"{answer.kernel}: {lines[0]}"
        say(_blocks(blocks))
    return 1 if refused else 0


def _answer(one: Explanation, options: argparse.Namespace) -> Any:
    if options.type:
        return one.of_type(options.type)
    return one.of_module() if options.module else one.of_kernel()


def _blocks(blocks: Sequence[Sequence[str]]) -> list[str]:
    """Lines, an empty one between two blocks of them."""
    return [line for block in blocks for line in ("", *block)][1:]


def _say_types(answers: TypeAnswers, options: argparse.Namespace) -> int:
    if options.json:
        print_json(asdict(answers))
    elif answers.found:
        say(_blocks([type_lines(answer) for answer in answers.found]))
    else:
        missing = f"no type {options.type!r} in {options.module} or vmlinux"
        say([f"{missing}{hint(answers.nearest)}"])
    return 0 if answers.found else 1


# -- a kernel


def kernel_lines(answer: KernelAnswer) -> list[str]:
    """The root causes of a kernel as a table."""
    stayed = sum(cause.stayed for cause in answer.causes)
    if not stayed:
        return [f"{answer.kernel}: no type stayed in a module that vmlinux has one of its name for"]
    having = {module for cause in answer.causes for module in cause.modules}
    kept = sum(cause.bytes or 0 for cause in answer.causes)
    lines = [
        f"{answer.kernel}: {plural(stayed, 'named type')} stayed in {len(having):,} of "
        f"{plural(answer.modules, 'module')} although vmlinux has one of the name.",
        f"Without their {plural(len(answer.causes), 'root cause')}, each by itself, "
        f"{size(kept)} would go, of {size(answer.type_bytes)} of types:",
        "",
        "   types      bytes  modules",
    ]
    for cause in answer.causes[:SHOWN]:
        where = cause.modules[0] if len(cause.modules) == 1 else f"{len(cause.modules):,}"
        lines.append(
            f"{number(cause.types):>8} {size(cause.bytes):>10}  {where:<16} "
            f"{_c_name(cause.kind, cause.name)}: {cause.difference}"
        )
    if len(answer.causes) > SHOWN:
        lines.append(f"… and {len(answer.causes) - SHOWN:,} more (--json lists all)")
    return lines


# -- a module


def module_lines(answer: ModuleAnswer) -> list[str]:
    """The root causes of a module, and what stayed because of each."""
    stayed = sum(len(cause.stayed) for cause in answer.causes)
    whole = f"{plural(answer.types, 'type')}, {size(answer.type_bytes)}"
    if not stayed:
        return [f"{answer.module} keeps {whole}; vmlinux has no type of any of their names"]
    lines = [
        f"{answer.module} keeps {whole}; of {plural(stayed, 'named type')} "
        "vmlinux has one of the name:"
    ]
    for cause in answer.causes:
        lines += ["", f"{_heading(cause)}: {cause.difference}"]
        lines.append(f"  {_saving(cause, answer.type_bytes)}{_elsewhere(cause)}")
        others = [one for one in cause.stayed if one.type_id != cause.type_id]
        for one in others[:SHOWN_EACH]:
            lines.append(f"  {_stayed(one)}")
        if len(others) > SHOWN_EACH:
            more = plural(len(others) - SHOWN_EACH, "more type")
            lines.append(f"  … and {more} (--json lists all)")
    return lines


def _stayed(one: UnmergedRow) -> str:
    also = "" if one.sole is not False else ", and because of others"
    return f"[{one.type_id}] {one.path}{also}"


def _heading(cause: Cause) -> str:
    return f"{_c_name(cause.kind, cause.name)} [{cause.type_id}]"


def _elsewhere(cause: Cause) -> str:
    others = cause.modules - 1
    return f"; also in {plural(others, 'other module')}" if others > 0 else ""


def _saving(cause: Cause, type_bytes: int) -> str:
    if cause.reason == "never_merged":
        return "nothing to gain: every module has its own"
    if cause.types is None or cause.bytes is None:
        return "what it keeps was not worked out"
    if cause.bytes < 0:
        return f"keeps nothing by itself: without it, {size(-cause.bytes)} more would stay"
    share = 100 * cause.bytes / max(type_bytes, 1)
    return f"keeps {plural(cause.types, 'type')}, {size(cause.bytes)} ({share:.2g} %)"


# -- a type


def type_lines(answer: TypeAnswer) -> list[str]:
    """What became of a type, why, and what to do about it."""
    named = f"{_c_name(answer.kind, answer.name)} [{answer.type_id}]"
    where = f"{answer.module} ({answer.kernel})"
    if answer.outcome == "shared":
        return [f"{named} did not stay in {where}: it is vmlinux's"]
    if answer.cause is None or answer.row is None:
        others = (answer.copies or 1) - 1
        keep = "keeps" if others == 1 else "keep"
        also = f"; {plural(others, 'other module')} {keep} the same" if others else ""
        if not answer.name:
            return [f"{named} stayed in {where}: a type without a name that vmlinux lacks{also}"]
        return [f"{named} stayed in {where}: vmlinux has no type of that name{also}"]
    cause, row = answer.cause, answer.row
    lines = [f"{named} stayed in {where}, {plural(answer.bytes, 'byte')}"]
    if answer.outcome == "refers":
        lines.append(f"  It leads to a type that stayed: {answer.way}")
        lines.append(f"  {_c_name(row.kind, row.name)} [{row.type_id}]:")
    lines.append(f"  vmlinux has {_c_name(row.base_kind, row.name)} [{row.base_type_id}].")
    if row.type_id != cause.type_id:
        lines.append(f"  {row.path}: {cause.difference}")
    else:
        lines.append(f"  {cause.difference}")
    if cause.users:
        lines.append(f"  The module's {_heading(cause)} is used by: {', '.join(cause.users)}")
    lines += [f"  {sentence}" for sentence in _why(row, cause)]
    lines += [f"  To change it: {advice(cause)}", f"  {_gain(cause, row, answer)}"]
    return lines


def _why(row: UnmergedRow, cause: Cause) -> list[str]:
    """What the way from the type to its root cause does not say."""
    if row.type_id == cause.type_id:
        return []
    root = _c_name(cause.kind, cause.name)
    if row.reason == "declared":
        return [
            f"Nothing else differs. It is the first type of the module that leads to {root},",
            "which vmlinux only declares; types after it became vmlinux's.",
        ]
    if row.reason == "several" and row.kind == "FWD":
        return ["The declaration could mean either type of that name, so it was left as it is."]
    if row.reason == "several":
        return [f"Another {root} of the module took the place of vmlinux's declaration."]
    return []


def _gain(cause: Cause, row: UnmergedRow, answer: TypeAnswer) -> str:
    if cause.reason == "never_merged" or cause.types is None or cause.bytes is None:
        return "What that would save was not worked out."
    if cause.bytes < 0:
        return f"That alone would save nothing: {size(-cause.bytes)} more would stay."
    share = 100 * cause.bytes / max(answer.type_bytes, 1)
    saved = f"{plural(cause.types, 'type')}, {size(cause.bytes)}"
    if cause.reason == "declared":  # with the definition, vmlinux would have what it leads to
        saved = f"at least {saved}"
    but = " This type would stay, though: it has other reasons, too." if row.sole is False else ""
    others = cause.modules - 1
    have = "has" if others == 1 else "have"
    also = f" {plural(others, 'other module')} {have} the same root cause." if others > 0 else ""
    return f"That would save {saved} in {answer.module} ({share:.2g} % of its types).{but}{also}"


ADVICE = {
    "declared": "if something that is built into the kernel included the definition of {name}, "
    "vmlinux would have it. Nothing is wrong with the module.",
    "kind": "give the module's {name} another name, or let both be of one kind.",
    "clash": "these are two different types: give the module's {name} another name.",
    "number": "encode both with floating-point types (pahole's --btf_gen_floats, or float among "
    "its --btf_features): without, they are written as integers.",
    "several": "let there be only one {name}.",
    "function": "nothing; two functions happen to have the same name.",
    "strings": "have vmlinux's BTF deduplicated: it holds a string twice.",
    "order": "deduplicate the split BTF once more.",
    "never_merged": "nothing; variables and data sections are a module's own.",
    "differs": "compile the module and vmlinux with one definition of {name}: the same headers, "
    "options and compiler.",
}


def advice(cause: Cause) -> str:
    """What would have to change, by the kind of difference."""
    name = _c_name(cause.kind, cause.name)
    if cause.reason in ("prototype", "linkage") or cause.kind == "FUNC":
        topic = "function"
    elif "in common: another" in cause.difference:
        topic = "clash"
    elif cause.reason == "kind" and cause.kind in ("INT", "FLOAT"):
        topic = "number"
    else:
        topic = cause.reason if cause.reason in ADVICE else "differs"
    return ADVICE[topic].format(name=name)


_WORDS = {"STRUCT": "struct", "UNION": "union", "ENUM": "enum", "ENUM64": "enum"}


def _c_name(kind: str, name: str) -> str:
    """``struct foo``, ``foo()``; kinds that C has no word for by that of BTF."""
    if kind == "FUNC":
        return f"{name}()"
    if kind in _WORDS:
        return f"{_WORDS[kind]} {name or '{...}'}"
    if kind in ("INT", "FLOAT"):
        return name
    word = {"FWD": "declaration of"}.get(kind, kind.lower().replace("_", " "))
    return f"{word} {name}".strip()
