"""Text from BTF inside of C: tags and attributes, and what stands in comments.

A tag's text may be anything, and is nothing but text in C: a string literal. An attribute (a tag
with kind_flag, since Linux 6.15) is code, so it has to be one attribute and nothing besides.
"""

from __future__ import annotations

import re

from ..format import kinds

_SHORT_ESCAPES = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\a": r"\a", "\b": r"\b", "\f": r"\f"}
_SHORT_ESCAPES |= {"\v": r"\v", '"': r"\"", "\\": r"\\"}

# A name, then perhaps arguments: names, numbers, strings and simple operators.
_NAME = r" *[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)? *"
_ARGUMENT = r'[ ,.:=+*-]|\w+|"[ !#-&(->@-\[\]-~]*"|[()]'


def macro(text: str, kind: int, kind_flag: int) -> str:
    """Return a DECL_TAG or TYPE_TAG as C has it, or "" if C cannot have it: see ``why_no_tag``."""
    if kind_flag:
        return f"__btf_attribute({text.strip()})" if is_attribute(text) else ""
    literal = string_literal(text)
    what = "decl" if kind == kinds.DECL_TAG else "type"
    return f"__btf_{what}_tag({literal})" if literal is not None else ""


def why_no_tag(text: str, kind_flag: bool) -> str:
    """Return what is wrong with a tag of which ``macro`` returns ""."""
    if kind_flag:
        return f"{text!r} is no attribute of C: a name, with arguments in brackets or without"
    return (
        f"{text!r} is no text of a tag in C: clang takes no control characters there, nor "
        "bytes that are no UTF-8"
    )


def is_attribute(text: str) -> bool:
    """Whether a text is one attribute: a name, perhaps with arguments in balanced brackets."""
    name, argument = re.match(_NAME, text), re.compile(_ARGUMENT, re.ASCII)
    if name is None:
        return False
    at, depth, end = name.end(), 0, len(text.rstrip(" "))
    while at < end:
        token = argument.match(text, at)
        if token is None or (depth == 0) != (at == name.end()):
            return False  # what is behind the arguments, or is none
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth < 0 or (depth == 0 and token[0] != ")"):
            return False
        at = token.end()
    return depth == 0


def string_literal(text: str) -> str | None:
    r"""Return a string literal with ``text``, as gcc and every clang take it in an attribute.

    What is not printable is told by its number in Unicode, and ``?`` so that there is no trigraph.
    None if something has no such number: since clang 17 octal and hexadecimal escapes are errors.
    """
    parts = []
    for character in text:
        if character in _SHORT_ESCAPES:
            parts.append(_SHORT_ESCAPES[character])
        elif character == "?" and parts and parts[-1] in ("?", r"\?"):
            parts.append(r"\?")
        elif character.isprintable():
            parts.append(character)
        elif character < "\xa0" or "\ud800" <= character <= "\udfff":
            return None
        else:
            parts.append(f"\\U{ord(character):08x}")
    return f'"{"".join(parts)}"'


def comment_safe(text: str) -> str:
    """Return text without what could end a comment or a line."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("*/", "* /")
