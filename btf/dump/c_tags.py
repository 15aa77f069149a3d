"""Text from BTF inside of C: tags and attributes, and what stands in comments.

A tag's text may be anything, and is nothing but text in C: a string literal. An attribute (a tag
with kind_flag, since Linux 6.15) is code, so it has to be one attribute and nothing besides.
"""

from __future__ import annotations

import re

import numpy as np

from ..format import kinds
from ..types.btf import BTF
from .c_types import TypeTable

WHOLE = 0xFFFFFFFF
"""Component index of a tag on the type itself."""

_SHORT_ESCAPES = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\a": r"\a", "\b": r"\b", "\f": r"\f"}
_SHORT_ESCAPES |= {"\v": r"\v", '"': r"\"", "\\": r"\\"}

# A name, then perhaps arguments: names, numbers, strings and simple operators.
_NAME = re.compile(r" *[A-Za-z_][A-Za-z0-9_]*(?:::[A-Za-z_][A-Za-z0-9_]*)? *", re.ASCII)
_ARGUMENT = re.compile(r'[ ,.:=+*-]|\w+|"[ !#-&(->@-\[\]-~]*"|[()]', re.ASCII)


class Tags:
    """The declaration tags of all levels, and how tags are written."""

    def __init__(self, btf: BTF, types: TypeTable) -> None:
        self._types = types
        self._by_component: dict[tuple[int, int], list[int]] = {}
        for level in btf.levels:
            for index in np.flatnonzero(level.own_kinds == kinds.DECL_TAG).tolist():
                type_id = level.start_id + index
                component = types.words[types.starts[type_id] + 3]
                key = types.third(type_id), component
                self._by_component.setdefault(key, []).append(type_id)

    def tagged(self, text: str) -> list[tuple[int, int]]:
        """Ids of the tags with this text on whole types, each with the type's, in order."""
        return sorted(
            (tag, target)
            for (target, component), tags in self._by_component.items()
            for tag in (tags if component == WHOLE else ())
            if self._types.name(tag) == text and not self._types.flag(tag)
        )

    def of(self, type_id: int, component: int = WHOLE) -> str:
        """Return the declaration tags of a type, or of one of its members, to stand behind it."""
        tags = self._by_component.get((type_id, component), ())
        return "".join(f" {self.macro(tag)}" for tag in tags)

    def macro(self, type_id: int) -> str:
        """Return a DECL_TAG or TYPE_TAG as C has it. Raises BtfError for what is no attribute."""
        text = self._types.name(type_id)
        self._types.spend(type_id, len(text))
        if self._types.flag(type_id):
            if not is_attribute(text):
                raise self._types.error(
                    f"{text!r} is no attribute of C: a name, with arguments in brackets or without",
                    type_id,
                )
            return f"__btf_attribute({text.strip()})"
        what = "decl" if self._types.kind(type_id) == kinds.DECL_TAG else "type"
        literal = string_literal(text)
        if literal is None:
            raise self._types.error(
                f"{text!r} is no text of a tag in C: clang takes no control characters there, nor "
                "bytes that are no UTF-8",
                type_id,
            )
        return f"__btf_{what}_tag({literal})"


def is_attribute(text: str) -> bool:
    """Whether a text is one attribute: a name, perhaps with arguments in balanced brackets."""
    name = _NAME.match(text)
    if name is None:
        return False
    at, depth, end = name.end(), 0, len(text.rstrip(" "))
    while at < end:
        token = _ARGUMENT.match(text, at)
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
