"""The commands that the README and the pages of docs/ show, and what they say is printed.

$ splitbtf query build/demo "…"      is run, and prints the lines that follow it: `…` stands for
any text in a line, and alone for any lines
splitbtf run SOURCE... -o OUT        is no more than a form: there is such a command with such
                                     options
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_LEFT_OUT = "…"
_TIMES = re.compile(r"\d[\d.,]* (?:m?s|min|[kMG]?B/s)\b|\d+ (?:core|worker)s?\b")


@dataclass(frozen=True)
class Shown:
    """A command, what follows it, and where it stands."""

    page: str
    line: int
    command: str
    printed: str


def blocks(text: str) -> list[tuple[int, list[str]]]:
    """Indented blocks: number of the first line, and the lines without their indentation."""
    found: list[tuple[int, list[str]]] = []
    inside, fenced = False, False
    for number, line in enumerate(text.split("\n"), 1):
        fenced ^= line.startswith("```")
        if line.startswith("    ") and not fenced:
            if not inside:
                found.append((number, []))
            inside = True
            found[-1][1].append(line[4:])
        elif inside and not line:
            found[-1][1].append("")
        else:
            inside = False
    return found


def commands_shown(page: Path) -> list[Shown]:
    """What is run: with its output, up to the next command or the end of the block."""
    shown = []
    for first, lines in blocks(page.read_text()):
        starts = [at for at, line in enumerate(lines) if line.startswith("$ ")]
        for start, end in zip(starts, [*starts, len(lines)][1:], strict=True):
            length = 1
            while lines[start + length - 1].endswith("\\"):
                length += 1
            command = "\n".join([lines[start][2:], *lines[start + 1 : start + length]])
            printed = "\n".join(lines[start + length : end]).strip("\n")
            shown.append(Shown(page.name, first + start, command, printed))
    return shown


def forms(page: Path) -> list[tuple[int, str]]:
    """Lines of indented blocks that begin with ``splitbtf``: number and text."""
    return [
        (first + at, line.partition("   ")[0])
        for first, lines in blocks(page.read_text())
        for at, line in enumerate(lines)
        if line.startswith("splitbtf ")
    ]


def fits(shown: str, printed: str) -> bool:
    """Whether a command has printed what a page shows, whatever the time that it took."""
    pieces: list[list[str]] = [[]]  # between lines that stand for any lines
    for line in shown.split("\n"):
        if line.strip() == _LEFT_OUT:
            pieces.append([])
        else:
            pieces[-1].append(line)
    lines = printed.rstrip("\n").split("\n")
    if not _begins(lines, 0, pieces[0]):
        return False
    at = len(pieces[0])
    if len(pieces) == 1:
        return at == len(lines)
    for piece in pieces[1:-1]:
        while not _begins(lines, at, piece):
            at += 1
            if at > len(lines):
                return False
        at += len(piece)
    end = len(lines) - len(pieces[-1])
    return at <= end and _begins(lines, end, pieces[-1])


def _begins(lines: list[str], at: int, piece: list[str]) -> bool:
    """Whether the lines from ``at`` on begin with those of ``piece``."""
    if at + len(piece) > len(lines):
        return False
    return all(_fits_line(shown, lines[at + n]) for n, shown in enumerate(piece))


def _fits_line(shown: str, printed: str) -> bool:
    words = map(re.escape, _timeless(shown.rstrip()).split(_LEFT_OUT))
    return re.fullmatch(".*?".join(words), _timeless(printed.rstrip())) is not None


def _timeless(text: str) -> str:
    return _TIMES.sub("(time)", text)
