"""``splitbtf completion``: scripts with which a shell completes the command line.

They are made by shtab, from the very parser that reads the command line, and complete without a
start of Python; argcomplete would start this program at every press of the key.
"""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = """\
Print a script that has a shell complete commands, options and files. To use it, put the line
eval "$(splitbtf completion bash)" into ~/.bashrc, or the same for zsh into ~/.zshrc.
"""

SHELLS = ("bash", "zsh")
# What an argument stands for, by the word that its help has for it.
FILES = {"BASE", "FILE", "NEW", "OLD", "OUT", "OUT|FILE", "SOURCE"}
FOLDERS = {"DIR", "OUTDIR"}


def add_to(commands: argparse._SubParsersAction[Any], top: argparse.ArgumentParser) -> None:
    """Add this command's arguments; ``top`` is the parser that the scripts complete."""
    parser = commands.add_parser(
        "completion",
        help="print a script for completion in bash or zsh",
        description=DESCRIPTION,
    )
    parser.add_argument("shell", choices=SHELLS, help="which shell's")
    parser.set_defaults(command=main, top=top)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    import shtab

    _say_what_they_are(options.top, shtab.FILE, shtab.DIRECTORY)
    print(shtab.complete(options.top, shell=options.shell))
    return 0


def _say_what_they_are(parser: argparse.ArgumentParser, file: Any, folder: Any) -> None:
    """Tell shtab of each argument whether it is a file, a folder, or one of some names."""
    from pipeline.analysis.questions import questions
    from pipeline.sources.manifests import known

    from .help import read_pages, sections

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _say_what_they_are(command, file, folder)
        elif action.metavar in FILES:
            action.complete = file  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = folder  # type: ignore[attr-defined]
        elif action.metavar == "TOPIC":
            pages = read_pages()
            action.choices = sorted({*pages, *sections(pages)})
        elif action.dest == "name" and parser.prog.endswith(" fetch"):
            action.choices = sorted(known())
        elif action.dest == "show" and parser.prog.endswith(" query"):
            action.choices = sorted(questions())
