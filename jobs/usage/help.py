"""``splitbtf help``: the long texts, which are the pages in docs/.

They come along as data of this package: ``jobs/docs`` is a link to docs/, and an installation has
copies in its place.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

DESCRIPTION = """\
Print what there is to know of a command or a topic; without either, a list of both.
"""

REFERENCE = "command-line"  # the page that has a section for each command
_LINK = re.compile(r"\[([^\]]+)\]\((?=[^)])(?:([\w-]+)\.md)?(?:#[\w-]+)?\)")


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "help", help="print the long text on a command or a topic", description=DESCRIPTION
    )
    parser.add_argument("topic", nargs="?", metavar="TOPIC", help="a command or a topic")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from pipeline.sources.names import hint, nearest_names

    pages = read_pages()
    if options.topic is None:
        text = "\n".join(_contents(pages))
    else:
        text = text_on(options.topic, pages)
        if not text:
            near = hint(nearest_names(options.topic, {*pages, *sections(pages)}))
            options.parser.error(f"nothing on {options.topic!r}{near}; `splitbtf help` lists all")
    if sys.stdout.isatty():
        import pydoc

        pydoc.pager(text)
    else:
        print(text)
    return 0


def read_pages() -> dict[str, str]:
    """The pages of docs/, by their names."""
    from importlib.resources import files

    pages = files("jobs").joinpath("docs").iterdir()
    return {
        page.name.removesuffix(".md"): page.read_text(encoding="utf-8")
        for page in sorted(pages, key=lambda page: page.name)
        if page.name.endswith(".md")
    }


def sections(pages: dict[str, str]) -> dict[str, str]:
    """The section of each command in the reference, by the command's name."""
    parts = re.split(r"^## splitbtf (\S+)$", pages[REFERENCE], flags=re.MULTILINE)
    texts = [re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0] for text in parts[2::2]]
    return dict(zip(parts[1::2], texts, strict=True))


def text_on(topic: str, pages: dict[str, str]) -> str:
    """A command's section of the reference, then the page of that name, as far as there are
    these; empty if there is neither."""
    found = []
    if topic in (of_commands := sections(pages)):
        section = of_commands[topic].strip("\n")
        found.append(f"# splitbtf {topic}\n\n{section}")
    if topic in pages:
        found.append(pages[topic])
    return _LINK.sub(_as_command, "\n".join(text.strip() + "\n" for text in found)).strip()


def _as_command(link: re.Match[str]) -> str:
    """What a reader in a terminal can do with a link to another page."""
    label, page = link.groups()
    if page is None:
        return label
    command = f"`splitbtf help {page}`"
    return command if label == f"{page}.md" else f"{label} ({command})"


def _contents(pages: dict[str, str]) -> list[str]:
    """What there is help on."""
    titles = {name: text.partition("\n")[0].removeprefix("# ") for name, text in pages.items()}
    width = max(map(len, titles))
    return [
        "splitbtf help COMMAND, where COMMAND is one of",
        f"  {' '.join(sections(pages))}",
        "",
        "splitbtf help TOPIC, where TOPIC is one of",
        *(f"  {name:<{width}}  {title}" for name, title in titles.items()),
    ]
