"""``splitbtf check``: would the kernel load it."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.engine.malloc import importing

from .usage.parser import whole
from .usage.text import complain, plural, print_json, say

DESCRIPTION = """\
Check BTF by the rules of the kernel's own verifier (kernel/bpf/btf.c), and say what it would
refuse: where, in which function, in the kernel's words. FILE is raw BTF, an ELF file with a .BTF
section (.ko, vmlinux), compressed or not, or a kernel image; or a folder or package of kernels,
each vmlinux and its modules, of which only what would not load is listed. Exit status 1 when one
of them would not load, or could not be checked; 2 when none could.
"""
_NOTHING_DONE = 2
_MOST_TOLD = 20  # files of folders that could not be checked
_WAYS = ("program", "module", "vmlinux")


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "check", help="say whether the kernel would load a file's BTF", description=DESCRIPTION
    )
    parser.add_argument(
        "file", nargs="*", metavar="FILE", help="a file with BTF, or a folder or package of them"
    )
    parser.add_argument(
        "-B", "--base", metavar="BASE", help="the base of split BTF: vmlinux, or its BTF"
    )
    parser.add_argument(
        "--release",
        metavar="RELEASE",
        help="the kernel, from 5.10 on, such as 6.12 (default: that which FILE or BASE names, else "
        "the newest whose rules are known)",
    )
    parser.add_argument(
        "--as",
        dest="load_as",
        choices=_WAYS,
        help="how the kernel gets it: program: with bpf(BPF_BTF_LOAD), checked the most; module: "
        "with a module, on BASE; vmlinux: as its own (default: by the file: split BTF is a "
        "module's, a kernel's is vmlinux, and any other a program's)",
    )
    parser.add_argument(
        "--pointer-size",
        type=whole(4, 8),
        choices=(4, 8),
        help="of the kernel (default: as in the BTF)",
    )
    parser.add_argument(
        "--rules", action="store_true", help="print the rules instead, or those of --release"
    )
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if bool(options.file) == options.rules:
        options.parser.error("give FILEs to be checked, or --rules")
    if options.rules:
        return _print_rules(options)
    with importing():
        from pipeline.analysis.check import check_files

    files = check_files(
        options.file,
        options.base,
        release=options.release,
        load_as=options.load_as,
        pointer_size=options.pointer_size,
        announce=options.reporter.announce,
    )
    loads, refused = (sum(file.loads is wanted for file in files) for wanted in (True, False))
    unchecked = len(files) - loads - refused
    if options.json:
        print_json([_as_json(file) for file in files])
    else:
        whole = len(files) > len(options.file)  # a folder has too many to list
        silent = max(0, unchecked - _MOST_TOLD) if whole else 0
        complaints = [str(file.error) for file in files if file.loads is None]
        for complaint in complaints[: len(complaints) - silent]:
            complain(complaint)
        if silent:
            complain(f"{silent:,} more could not be checked: --json lists all")
        for file in files:
            if file.loads is None:
                continue
            if file.error is not None:
                say([str(file.error)])
            elif not whole:
                say([f"{file.path}: loads, as {file.load_as} of Linux {file.release}"])
        if len(files) > 1:
            failed = f", {unchecked:,} could not be checked" if unchecked else ""
            say([f"{plural(len(files), 'file')}: {loads:,} load, {refused:,} do not{failed}"])
    if unchecked == len(files):  # or there are none
        return _NOTHING_DONE
    return 1 if refused or unchecked else 0


def _as_json(file: Any) -> dict[str, Any]:
    facts = {key: getattr(file, key) for key in ("path", "loads", "load_as", "release")}
    error = None
    if file.error is not None:
        keys = ("message", "section", "offset", "type_id", "source", "words")
        error = {key: getattr(file.error, key, None) for key in keys}
    return {**facts, "error": error}


def _print_rules(options: argparse.Namespace) -> int:
    from pipeline.analysis.check import rules_of

    rules = rules_of(options.release)
    if options.json:
        print_json(rules)
    else:
        for rule in rules:
            said = f'"{rule["words"]}"' if rule["words"] else "without a word"
            say([f"{rule['source']} ({rule['releases']}): {said}: {rule['what']}"])
    return 0
