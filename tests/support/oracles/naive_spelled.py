"""How C spells types, as text: written to be read, and sharing no code with btf/.

A type is what stands left of a name, and what stands right of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from . import naive_btf as nb
from .naive_declared import KINDS, MARK, MODIFIERS, MOST, QUALIFIERS, Declared, worked_out

LONGEST = 1024
LEFT_OUT = "…".encode()
NO_TYPES = (nb.FUNC, nb.VAR, nb.DATASEC, nb.DECL_TAG)


class Part(NamedTuple):
    """A type behind qualifiers and arrays."""

    left: bytes
    right: bytes = b""
    qualifiers: frozenset[str] = frozenset()
    length: int | None = None
    is_pointer: bool = False

    def sides(self) -> tuple[bytes, bytes]:
        """What stands left and right of a name of this type."""
        words = b" ".join(word.encode() for word in sorted(self.qualifiers))
        left, right = self.left, self.right
        if words:
            left = left + words if self.is_pointer else words + b" " + left
        if self.length is not None:
            right = b"[%d]" % self.length + right
        return cut(left, right)


def cut(left: bytes, right: bytes) -> tuple[bytes, bytes]:
    if len(left + right) <= LONGEST:
        return left, right
    return (left + right)[: LONGEST - len(LEFT_OUT)] + LEFT_OUT, b""


def spaced(left: bytes) -> bytes:
    """What a name or a star can follow."""
    return left if not left or left[-1:] in b"*( " else left + b" "


class Spelled:
    """Text of every type of a BTF, by type id."""

    def __init__(self, declared: Declared, base: Spelled | None = None) -> None:
        """``base``: of ``declared.btf.base``."""
        self.declared = declared
        known: list[Any] = base.parts if base else []
        own = range(len(known), len(declared.types))
        wanted = {type_id: declared._spelled_parts(type_id) for type_id in own}
        self.parts: list[Any] = worked_out(known, wanted, self._part)
        kinds = map(nb.kind_of, declared.types)
        self.texts = [self._text(type_id, kind) for type_id, kind in enumerate(kinds)]

    def _sides(self, part: Any) -> tuple[bytes, bytes]:
        return (LEFT_OUT, b"") if part == MARK else part.sides()

    def _declaration(self, part: Any, name: bytes) -> bytes:
        left, right = self._sides(part)
        return (spaced(left) + name if name else left) + right

    def _part(self, type_id: int, part: Callable[[int], Any]) -> Part:
        t, kind = self.declared.types[type_id], nb.kind_of(self.declared.types[type_id])
        if kind in MODIFIERS or kind == nb.ARRAY:
            inner = part(t[3] if kind == nb.ARRAY else t[2])
            inner = Part(LEFT_OUT) if inner == MARK else inner
            if kind == nb.ARRAY:
                count = min(MOST, t[5] * (1 if inner.length is None else inner.length))
                return inner._replace(length=count)
            if kind in QUALIFIERS:
                return inner._replace(qualifiers=inner.qualifiers | {QUALIFIERS[kind]})
            return inner
        if kind == nb.PTR:
            left, right = self._sides(part(t[2]))
            if right[:1] in (b"[", b"("):
                return Part(*cut(spaced(left) + b"(*", b")" + right), is_pointer=True)
            return Part(*cut(spaced(left) + b"*", right), is_pointer=True)
        if kind == nb.FUNC_PROTO:
            left, right = self._sides(part(t[2]))
            return Part(*cut(spaced(left), self._parameters(t, part, named=False) + right))
        if kind in NO_TYPES:
            return Part(LEFT_OUT)
        return Part(*cut(self._specifier(t, kind, part), b""))

    def _specifier(self, t: nb.Words, kind: int, part: Callable[[int], Any]) -> bytes:
        if kind == nb.VOID:
            return b"void"
        name, word = self.declared.text(t[0]), b""
        if kind in nb.COMPOSITE or kind in nb.ANY_ENUM:
            word = KINDS[kind].encode() + b" "
        elif kind == nb.FWD:
            word = b"union " if nb.kind_flag_of(t) else b"struct "
        if name or not word:
            return word + name
        if kind in nb.ANY_ENUM:
            values = [b"%b = %d" % pair for pair in self.declared.values(t)]
            return word + b"{" + b",".join(b" " + value for value in values) + b" }"
        if kind == nb.FWD:
            return word
        body = b""
        for member, _, bits, ref in self.declared.members(t):
            body += b" " + self._declaration(part(ref), member)
            body += b" : %d;" % bits if bits else b";"
        return word + b"{" + body + b" }"

    def _parameters(self, t: nb.Words, part: Callable[[int], Any], named: bool) -> bytes:
        texts = []
        for name, ref in nb.elements(t):
            texts.append(self._declaration(part(ref), self.declared.text(name) if named else b""))
        if texts and nb.elements(t)[-1] == [0, 0]:
            texts[-1] = b"..."
        return b"(" + (b", ".join(texts) if texts else b"void") + b")"

    def _text(self, type_id: int, kind: int) -> bytes:
        t = self.declared.types[type_id]
        if kind in (nb.DATASEC, nb.DECL_TAG):
            return b""
        if kind in (nb.FUNC, nb.VAR):
            name, of = self.declared.text(t[0]), self.declared.types[t[2]]
            if kind == nb.FUNC and nb.kind_of(of) == nb.FUNC_PROTO:
                left, right = self._sides(self.parts[of[2]])
                parameters = self._parameters(of, self.parts.__getitem__, named=True)
                return b"".join(cut(spaced(left) + name + parameters + right, b""))
            return b"".join(cut(self._declaration(self.parts[t[2]], name), b""))
        return b"".join(self._sides(self.parts[type_id]))
