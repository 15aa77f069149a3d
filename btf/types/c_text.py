"""Types as C declares them, on one line: ``void (*release)(struct kref *)``; or defined, on many.

For people, where ``declaration.spelled`` has a hash: tags are left out alike, and so are the names
of parameters unless they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..format import kinds
from .objects import AnyEnum, Array, Composite, Func, FuncProto, Fwd, Member, Typedef, Var
from .typebase import Reference, Type, spell

MAX_TEXT = 4096  # characters of one type; what is nested beyond is left out
MAX_DEFINITION = 1 << 17  # characters
_MAX_STEPS = 256  # pointers, arrays and the like around one name
_MAX_NESTED = 16
_LEFT_OUT = "…"


def c_text(found: Type, name: str = "", *, parameters: bool = False, members: bool = True) -> str:
    """Declare ``name`` as of a type; without a name, spell the type.

    parameters  whether those of a function have their names
    members     whether those of a struct or union without a name are written out
    """
    return _declared(found, name, [MAX_TEXT], 0 if members else _MAX_NESTED, parameters)


def c_definition(found: Type) -> str:
    """Define a type as C does; spell what C has no definition of.

    Empty for sections and tags of declarations, which are no types of C.
    """
    if isinstance(found, Composite):
        return _block(found, _members(found, 1, [MAX_DEFINITION]))
    if isinstance(found, AnyEnum):
        return _block(found, (f"\t{value.name} = {value.value}," for value in found.values))
    if isinstance(found, Func):
        return f"{c_text(found.type, found.name, parameters=True)};"
    if isinstance(found, (Typedef, Var)):
        word = "typedef " if isinstance(found, Typedef) else ""
        return f"{word}{c_text(found.type, found.name, parameters=True)};"
    if found.kind in (kinds.DATASEC, kinds.DECL_TAG):
        return ""
    return f"{spell(found)};" if isinstance(found, Fwd) else c_text(found, parameters=True)


def _block(found: Type, lines: Iterator[str]) -> str:
    head = f"{kinds.KEYWORDS[found.kind]} {found.name}".rstrip()
    return "\n".join([f"{head} {{", *lines, "};"])


def _members(found: Composite, depth: int, room: list[int]) -> Iterator[str]:
    """Lines with the members; what is beyond the ``room``, in characters, is left out."""
    indent = "\t" * depth
    for member in found.members:
        room[0] -= depth + len(member.name) + 2
        if room[0] < 0:
            yield f"{indent}{_LEFT_OUT}"
            return
        inner = member.type
        if isinstance(inner, Composite) and not inner.name and depth < _MAX_NESTED:
            yield f"{indent}{kinds.KEYWORDS[inner.kind]} {{"
            yield from _members(inner, depth + 1, room)
            yield f"{indent}}} {member.name}".rstrip() + ";"
        else:
            yield f"{indent}{_member(member, room)};"


def member_text(member: Member) -> str:
    """Declare a member, without the semicolon."""
    return _member(member, [MAX_TEXT])


def _member(member: Member, room: list[int]) -> str:
    bits = f" : {member.bitfield_size}" if member.bitfield_size else ""
    return f"{_declared(member.type, member.name, room, 0, True)}{bits}"


def _declared(found: Type, name: str, room: list[int], nested: int, named: bool = False) -> str:
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
            inner = f"{_wrapped(inner)}({_parameters(found, room, nested, named)})"
            found = found.type
        else:
            break
    else:
        return f"{_LEFT_OUT} {inner}".rstrip()
    specifier = " ".join([*sorted(qualifiers), _specifier(found, room, nested)])
    return f"{specifier}{inner}" if inner[:1] == "[" else f"{specifier} {inner}".rstrip()


def _wrapped(declarator: str) -> str:
    return f"({declarator})" if declarator.startswith("*") else declarator


def _parameters(found: FuncProto, room: list[int], nested: int, named: bool) -> str:
    if nested >= _MAX_NESTED or room[0] < 0:
        return _LEFT_OUT
    params = []
    for param in found.params:
        name = param.name if named else ""
        params.append(_declared(param.type, name, room, nested + 1, named))
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
