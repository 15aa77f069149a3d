"""Types spelled much as C spells them, short: for ``repr`` and messages, not to be compiled."""

from __future__ import annotations

from .. import kinds
from .objects import (
    AnyEnum,
    Array,
    Composite,
    Datasec,
    DeclTag,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Ptr,
    Typedef,
    TypeTag,
    Var,
)
from .typebase import Type, Unknown

_WORDS_BEFORE = {
    kinds.STRUCT: "struct",
    kinds.UNION: "union",
    kinds.ENUM: "enum",
    kinds.ENUM64: "enum",
    kinds.CONST: "const",
    kinds.VOLATILE: "volatile",
    kinds.RESTRICT: "restrict",
}


def spell(found: Type, depth: int = 4) -> str:
    """A type much as C writes it, abbreviated; no further than ``depth`` references away."""
    if found.id == 0:
        return "void"
    word = _WORDS_BEFORE.get(found.kind, "")
    if isinstance(found, Fwd):
        word = "union" if found.is_union else "struct"
    if isinstance(found, (Composite, AnyEnum, Fwd)):
        return f"{word} {found.name or '{...}'}"
    if depth == 0 or isinstance(found, (Int, Float, Typedef, Var, Datasec, Unknown)):
        return found.name or "..."
    if isinstance(found, FuncProto):
        params = [spell(param.type, depth - 1) for param in found.params]
        params += ["..."] if found.is_variadic else []
        return f"{spell(found.type, depth - 1)} ({', '.join(params) or 'void'})"
    if isinstance(found, Func):
        return f"{found.name}()"
    if isinstance(found, Array):
        return f"{spell(found.type, depth - 1)}[{found.nelems}]"
    inner = spell(found.type, depth - 1)  # type: ignore[attr-defined]
    if isinstance(found, Ptr):
        return f"{inner}*" if inner.endswith("*") else f"{inner} *"
    if isinstance(found, (TypeTag, DeclTag)):
        return inner
    return f"{inner} {word}" if inner.endswith("*") else f"{word} {inner}"
