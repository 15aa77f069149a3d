"""Types as C declares them, on one line: ``void (*release)(struct kref *)``.

For people, where ``spelled`` has a hash: tags and the names of parameters are left out alike.
"""

from __future__ import annotations

from ..format import kinds
from ..types.objects import AnyEnum, Array, Composite, FuncProto
from ..types.typebase import Reference, Type, spell

MAX_TEXT = 4096  # characters of one type; what is nested beyond is left out
_MAX_STEPS = 256  # pointers, arrays and the like around one name
_MAX_NESTED = 16
_LEFT_OUT = "…"


def c_text(found: Type, name: str = "") -> str:
    """Declare ``name`` as of a type; without a name, spell the type."""
    return _declared(found, name, [MAX_TEXT], 0)


def _declared(found: Type, name: str, room: list[int], nested: int) -> str:
    inner, qualifiers, length = name, set[str](), -1
    for _ in range(_MAX_STEPS):
        if isinstance(found, Array):  # a qualified array is one of such elements
            length = found.nelems * (1 if length < 0 else length)
            found = found.type
            continue
        if found.kind in kinds.QUALIFIERS or found.kind == kinds.TYPE_TAG:
            assert isinstance(found, Reference)
            if found.kind in kinds.QUALIFIERS:
                qualifiers.add(kinds.KEYWORDS[found.kind])
            found = found.type
            continue
        if length >= 0:
            inner, length = f"{_wrapped(inner)}[{length}]", -1
        if found.kind == kinds.PTR:
            assert isinstance(found, Reference)
            inner = "*" + " ".join([*sorted(qualifiers), inner]) if qualifiers else f"*{inner}"
            qualifiers, found = set(), found.type
        elif isinstance(found, FuncProto):
            inner = f"{_wrapped(inner)}({_parameters(found, room, nested)})"
            found = found.type
        else:
            break
    else:
        return f"{_LEFT_OUT} {inner}".rstrip()
    return " ".join([*sorted(qualifiers), _specifier(found, room, nested), inner]).rstrip()


def _wrapped(declarator: str) -> str:
    return f"({declarator})" if declarator.startswith("*") else declarator


def _parameters(found: FuncProto, room: list[int], nested: int) -> str:
    if nested >= _MAX_NESTED or room[0] < 0:
        return _LEFT_OUT
    params = []
    for param in found.params:
        params.append(_declared(param.type, "", room, nested + 1))
        room[0] -= len(params[-1])
        if room[0] < 0:
            return ", ".join([*params, _LEFT_OUT])
    return ", ".join([*params, "..."] if found.is_variadic else params) or "void"


def _specifier(found: Type, room: list[int], nested: int) -> str:
    """What stands in front of a declarator."""
    if found.name or not isinstance(found, (Composite, AnyEnum)):
        return spell(found)
    word = kinds.KEYWORDS[found.kind]
    if nested >= _MAX_NESTED or room[0] < 0:
        return f"{word} {{ {_LEFT_OUT} }}"
    parts = []
    if isinstance(found, Composite):
        for member in found.members:
            bits = f" : {member.bitfield_size}" if member.bitfield_size else ""
            parts.append(f"{_declared(member.type, member.name, room, nested + 1)}{bits};")
            room[0] -= len(parts[-1])
            if room[0] < 0:
                break
        return f"{word} {{ {' '.join(parts) if room[0] >= 0 else _LEFT_OUT} }}"
    for value in found.values:
        parts.append(f"{value.name} = {value.value}")
        room[0] -= len(parts[-1])
        if room[0] < 0:
            parts.append(_LEFT_OUT)
            break
    return f"{word} {{ {', '.join(parts)} }}"
