"""C's spelling of a type, taken apart and put together."""

from __future__ import annotations

import re

CUT = "…"  # ends what is too long to be spelled in full
ANONYMOUS = ("struct {", "union {", "enum {")
_QUALIFIED = re.compile(r"(?:[*\s]|const\b|volatile\b|restrict\b)*")
_SIMPLE = re.compile(r"[\w ]+\**")  # a name, or pointers to it
_MARK = re.compile(r"[*(\[{}<>]")
_BRACKETS = {"{": 1, "<": 1, "}": -1, ">": -1}


def written_out(spelling: str) -> str | None:
    """The keyword of a struct, union or enum without a name, whose members the spelling writes out;
    None of all other types, such as pointers to one."""
    if not spelling.startswith(ANONYMOUS) or _specifier_end(spelling) < len(spelling):
        return None
    return spelling.partition(" ")[0]


def composite(spelling: str) -> bool:
    """Whether it is a struct or union itself, by its tag or written out, and nothing around one."""
    return spelling.startswith(("struct ", "union ")) and _specifier_end(spelling) == len(spelling)


def declared(spelling: str, name: str) -> str:
    """Declare ``name`` as of a type: ``char[16]`` and ``comm`` give ``char comm[16]``."""
    if not name:
        return spelling
    if _SIMPLE.fullmatch(spelling):
        at = len(spelling)
    else:
        at = _QUALIFIED.match(spelling, _specifier_end(spelling)).end()  # type: ignore[union-attr]
    while spelling.startswith("(*", at):
        at = _QUALIFIED.match(spelling, at + 1).end()  # type: ignore[union-attr]
    space = "" if spelling[:at].endswith(("*", "(", " ")) else " "
    return f"{spelling[:at]}{space}{name}{spelling[at:]}"


def _specifier_end(spelling: str) -> int:
    """Where the pointers, brackets and lengths begin that follow a type's name."""
    depth = 0
    for mark in _MARK.finditer(spelling):
        if depth == 0 and mark[0] in "*([":
            return mark.start()
        depth += _BRACKETS.get(mark[0], 0)
    return len(spelling)
