"""How much two types differ: by their layout, their declaration, only by what is declared.

Standard library only, nothing from btf/.
"""

from __future__ import annotations

from . import naive_btf as nb
from .naive_declared import KINDS, Declared

Side = tuple[Declared, int]


def level(one: Side, other: Side) -> str | None:
    """A level of the table ``conflicts``; None for kinds whose declarations have no oracle."""
    (first, a), (second, b) = one, other
    if nb.kind_of(first.types[a]) not in KINDS:
        return None
    if first.layout[a] != second.layout[b]:
        return "layout"
    if first.declaration(a) != second.declaration(b):
        return "declaration"
    return "fingerprint" if differ(one, other) else "declared"


def differ(one: Side, other: Side) -> bool:
    """Whether two types differ where a forward declaration is as good as the definition."""
    todo, seen = [(one[1], other[1])], {(one[1], other[1])}
    while todo:
        a, b = todo.pop()
        t, u = one[0].types[a], other[0].types[b]
        if declares(one[0], t, other[0], u) or declares(other[0], u, one[0], t):
            continue
        if said(one[0], t) != said(other[0], u):
            return True
        refs = [] if nb.kind_of(t) == nb.FWD else nb.id_words(t)
        pairs = {(t[word], u[word]) for word in refs} - seen
        seen |= pairs
        todo += pairs
    return False


def declares(first: Declared, t: nb.Words, second: Declared, u: nb.Words) -> bool:
    """Whether ``t`` is a declaration of ``u``."""
    kind, other = nb.kind_of(t), nb.kind_of(u)
    if first.text(t[0]) != second.text(u[0]):
        return False
    if kind == nb.FWD:
        return other == (nb.UNION if nb.kind_flag_of(t) else nb.STRUCT)
    return kind in nb.ANY_ENUM and other in nb.ANY_ENUM and nb.vlen_of(u) > nb.vlen_of(t) == 0


def said(declared: Declared, t: nb.Words) -> list[object]:
    """All that a record says itself: names as text, nothing in place of type ids."""
    names, refs = nb.string_words(t), nb.id_words(t)
    return [
        declared.text(word) if at in names else None if at in refs else word
        for at, word in enumerate(t)
    ]
