"""One declaration of the C dump as text: declarators inside out, bodies, attributes, assertions.

A type in BTF reads from the outside in (pointer to array of int), a declarator in C from the inside
out: ``declare`` follows the types and wraps the name, ``p``, ``*p``, ``(*p)[4]``, until it comes to
what stands in front, ``int (*p)[4]``.
"""

from __future__ import annotations

from typing import NamedTuple

from ..format import kinds
from ..format.kinds import COMPOSITES, ENUMS, KEYWORDS, QUALIFIERS, SCALARS
from ..types.typebase import signed
from .c_layout import Padding, Planner
from .c_names import BOOLEANS, Scope, identifier, spelling, stand_in
from .c_order import BUILT_IN, Order, Step
from .c_tags import Tags, comment_safe
from .c_types import ENUM_SIZES, MemberRecord, TypeTable

_PARAMETERS = COMPOSITES | ENUMS | SCALARS  # what the type of a parameter can be
_PARAMETERS |= {kinds.PTR, kinds.ARRAY, kinds.FUNC_PROTO, kinds.FWD}
_QUALIFIER = {kind: KEYWORDS[kind] for kind in QUALIFIERS}
_MODES = {1: "byte", 2: "HI", 8: "DI"}  # of an enum that is not an int
_BEFORE_C23 = "#if __STDC_VERSION__ < 202311L"
_NOT_EXPRESSIBLE = "struct __not_expressible"  # incomplete: stands in a typedef for itself
_MAX_DECLARATOR = 256  # types between a name and what stands in front of it
_MAX_DEPTH = 64  # of bodies and parameter lists within one another


class MemberPath(NamedTuple):
    """Where in the type that assertions are about: ``a[0].b``, and its offset in bytes."""

    path: str
    at: int


class Declarer:
    """Text of each step of an ``Order``, in that order."""

    def __init__(self, types: TypeTable, planner: Planner, order: Order, tags: Tags) -> None:
        self._types = types
        self._planner = planner
        self._names: dict[int, str] = {}
        self._identifiers = Scope()
        self._declared: set[str] = set()
        self._written: set[int] = set()  # typedefs
        self._incomplete: set[int] = set()  # of these, those that need themselves to be complete
        self._depth = 0
        self._facts: list[tuple[str, int]] = []  # (expression, value) of the step just written
        self._only_declared = order.enums_without_values
        self._name_types(order)
        self._tags = tags

    # ------------------------------------------------------------------ names

    def _name_types(self, order: Order) -> None:
        """Tags, typedefs and stand-ins for scalars, in order of type id: the base's come first."""
        types, tags = self._types, Scope()
        first: dict[str, str] = {}  # of "struct x" its tag
        without_definition = []
        for type_id in sorted(order.mentioned):
            kind, name = types.kind(type_id), types.name(type_id)
            if kind == kinds.FWD or type_id in order.enums_without_values:
                without_definition.append(type_id)
            elif kind in COMPOSITES or kind in ENUMS:
                self._names[type_id] = tags.take(name)
                first.setdefault(f"{self._keyword(type_id)} {name}", self._names[type_id])
            elif name != BUILT_IN:
                reserved = name == "bool" and self._is_bool(type_id)
                self._names[type_id] = self._identifiers.take(name, reserved)
            else:
                self._names[type_id] = name
                self._written.add(type_id)
        for type_id in without_definition:
            full = f"{self._keyword(type_id)} {types.name(type_id)}"
            if full not in first:
                first[full] = tags.take(types.name(type_id))
            self._names[type_id] = first[full]

    def _is_bool(self, type_id: int) -> bool:
        behind = self._types.strip(type_id)
        if self._types.kind(behind) != kinds.INT:
            return False
        return (spelling(self._types, behind) or stand_in(self._types, behind)) == "_Bool"

    def _keyword(self, type_id: int) -> str:
        kind = self._types.kind(type_id)
        if kind == kinds.FWD:
            return "union" if self._types.flag(type_id) else "struct"
        return KEYWORDS[kind]

    def _tagged(self, type_id: int) -> str:
        """Return ``struct x``."""
        return f"{self._keyword(type_id)} {self._names[type_id]}"

    # ------------------------------------------------------------------ steps

    def step(self, step: Step) -> str:
        """Write one step; returns "" when it adds nothing to those before."""
        type_id, complete = step
        kind = self._types.kind(type_id)
        self._facts = []
        if kind == kinds.TYPEDEF:
            return "" if complete else self._typedef(type_id)
        if kind in COMPOSITES and complete:
            subject = self._tagged(type_id)
            self._declared.add(subject)
            body = self._composite(type_id, subject, 0, MemberPath("", 0), Scope())
            self._fact_of_size(subject, type_id)
            return f"{body};"
        if kind in COMPOSITES or kind == kinds.FWD:
            return self._declare_tag(self._tagged(type_id))
        if kind in ENUMS:
            return self._enum_step(type_id)
        target = stand_in(self._types, type_id)
        if not target:
            target = f"struct {{ unsigned char bytes[{self._types.defined_size(type_id)}]; }}"
        name = self._names[type_id]
        return _unless_c23(f"typedef {target} {name};", name == "bool")

    def asserts(self) -> str:
        """Write static assertions about the step just written."""
        return "".join(
            f'_Static_assert({expression} == {value}, "{expression}");\n'
            for expression, value in self._facts
        ) + ("\n" if self._facts else "")

    def kfunc(self, type_id: int) -> str:
        """Write the prototype of a kfunc, as a weak symbol: programs ask whether the kernel has it.

        Its name cannot be changed: where it is no identifier, or one already, a comment says so.
        """
        name = self._types.name(type_id)
        if identifier(name) != name or name in self._identifiers:
            return f"/* not expressible in C: a function {comment_safe(name)} */"
        self._identifiers.take(name)
        return f"extern {self.declare(self._types.third(type_id), name, 0)} __weak __ksym;"

    def _declare_tag(self, subject: str) -> str:
        if subject in self._declared:
            return ""
        self._declared.add(subject)
        return f"{subject};"

    def _fact_of_size(self, subject: str, type_id: int) -> None:
        offsets = [(f"__builtin_offsetof({subject}, {path})", at) for path, at in self._facts]
        self._facts = [(f"sizeof({subject})", self._types.third(type_id)), *offsets]

    def _typedef(self, type_id: int) -> str:
        name, target = self._names[type_id], self._types.third(type_id)
        if target == 0 and name == "__gnuc_va_list":  # what old GCCs say of it
            self._written.add(type_id)
            return f"typedef {BUILT_IN} {name};"
        declared = self.declare(target, name, 0, MemberPath("", 0))
        text = f"typedef {declared}{self._tags.of(type_id)};"
        self._written.add(type_id)
        if self._is_incomplete(target):
            self._incomplete.add(type_id)
        if _NOT_EXPRESSIBLE in text:
            text = f"/* {name} needs itself to be declared: not expressible in C */\n{text}"
            text = f"{self._declare_tag(_NOT_EXPRESSIBLE)}\n{text}".lstrip()
        behind = target
        while self._types.kind(behind) in QUALIFIERS:
            behind = self._types.third(behind)
        if self._types.kind(behind) in COMPOSITES and not self._types.name(behind):
            self._fact_of_size(name, behind)
        else:
            self._facts = []
        return _unless_c23(text, name == "bool")

    def _enum_step(self, type_id: int) -> str:
        if not self._types.name(type_id):
            values = {(self._types.names[off], v) for off, v in self._types.enumerators(type_id)}
            boolean = values == {("false", 0), ("true", 1)}
            return _unless_c23(f"{self._enum(type_id, 'enum', 0, boolean)};", boolean)
        subject = self._tagged(type_id)
        if type_id in self._only_declared:
            return self._declare_tag(subject)
        self._declared.add(subject)
        if self._types.third(type_id) in ENUM_SIZES:
            self._fact_of_size(subject, type_id)
        return f"{self._enum(type_id, subject, 0)};"

    # ------------------------------------------------------------------ declarators

    def declare(
        self,
        type_id: int,
        name: str,
        level: int,
        place: MemberPath | None = None,
        scope: Scope | None = None,
    ) -> str:
        """Declare ``name``, which may be "" or a declarator, as of a type.

        place  of what is declared, as long as its offset is fixed
        scope  the names of the struct around, when its members are to join them
        """
        types, inner = self._types, name
        qualifiers: list[str] = []
        tags: list[str] = []  # the last one is next to what it is a tag of, and the first in C
        array = 0  # of which this is an element
        for _ in range(_MAX_DECLARATOR):
            kind = types.kind(type_id)
            if kind in QUALIFIERS:
                if _QUALIFIER[kind] not in qualifiers:
                    qualifiers.append(_QUALIFIER[kind])
            elif kind == kinds.TYPE_TAG:
                tags.insert(0, self._tags.macro(type_id))
            elif kind == kinds.PTR:
                if "restrict" in qualifiers and not self._may_restrict(type_id):
                    qualifiers.remove("restrict")
                if qualifiers or tags:
                    inner = " ".join(("*", *qualifiers, *tags, inner)).rstrip()
                    qualifiers, tags = [], []
                else:
                    inner = f"*{inner}"
                place, array = None, 0
            elif kind == kinds.ARRAY:
                if types.size(type_id) is None:
                    raise types.error(
                        "an array of what has no size, or of more than can be addressed: "
                        "C has no such type",
                        type_id,
                    )
                array, (type_id, count) = type_id, types.array(type_id)
                inner = f"{_wrapped(inner)}[{count}]"  # a qualified array is one of such elements
                place = MemberPath(f"{place.path}[0]", place.at) if place else None
                continue
            elif kind == kinds.FUNC_PROTO:
                inner = f"{_wrapped(inner)}({self._params(type_id, level)})"
                # Functions that do not return are volatile in GCC's DWARF.
                qualifiers, tags, place, array = [], [], None, 0
                if types.kind(types.strip(types.third(type_id))) in (kinds.ARRAY, kinds.FUNC_PROTO):
                    raise types.error(
                        "a function that returns an array or a function: C has no such type",
                        type_id,
                    )
            else:
                break
            type_id = types.third(type_id)
        else:
            raise types.error(
                f"more than {_MAX_DECLARATOR} pointers, qualifiers, arrays and functions around "
                "one name, perhaps of themselves: C has no such type",
                type_id,
            )
        if "restrict" in qualifiers and not self._may_restrict(type_id):
            qualifiers.remove("restrict")
        front = self._specifier(type_id, level, place, scope)
        if array and self._is_incomplete(type_id):
            raise types.error("an array of the typedef it is part of: C has no such type", array)
        text = " ".join((*qualifiers, front, *tags, inner)).rstrip()
        types.spend(type_id, len(text))
        return text

    def _is_incomplete(self, type_id: int) -> bool:
        """Whether a type is a typedef, perhaps a qualified one, whose type C does not know yet."""
        types = self._types
        while types.kind(type_id) in QUALIFIERS or types.kind(type_id) == kinds.TYPE_TAG:
            type_id = types.third(type_id)
        if types.kind(type_id) != kinds.TYPEDEF:
            return False
        return type_id in self._incomplete or type_id not in self._written

    def _may_restrict(self, type_id: int) -> bool:
        """Whether C allows ``restrict`` here: it restricts pointers to objects only."""
        target = self._types.strip(type_id)
        if self._types.kind(target) != kinds.PTR:
            return False
        target = self._types.strip(self._types.third(target))
        return self._types.kind(target) != kinds.FUNC_PROTO

    def _specifier(
        self, type_id: int, level: int, place: MemberPath | None, scope: Scope | None
    ) -> str:
        """Return what stands in front of a declarator."""
        types, kind = self._types, self._types.kind(type_id)
        if kind == kinds.TYPEDEF:
            return self._names[type_id] if type_id in self._written else _NOT_EXPRESSIBLE
        if kind in COMPOSITES:
            if types.name(type_id):
                return self._tagged(type_id)
            head = self._keyword(type_id)
            return self._composite(type_id, head, level, place, scope or Scope())
        if kind == kinds.FWD:
            return self._tagged(type_id)
        if kind in ENUMS and types.name(type_id):
            return self._tagged(type_id)
        if kind in ENUMS:
            return self._enum(type_id, "enum", level)
        if kind in SCALARS:
            return spelling(types, type_id) or self._names[type_id]
        return "void"  # void itself, and what can only be pointed to

    def _params(self, type_id: int, level: int) -> str:
        params = self._types.params(type_id)
        if not params or (len(params) == 1 and params[0][1] == 0):
            return "void"
        self._enter(type_id)
        texts: list[str] = []
        taken: set[str] = set()
        for index, (name_off, target) in enumerate(params):
            if target == 0 and index == len(params) - 1:
                texts.append("...")
                break
            if self._types.kind(self._types.strip(target)) not in _PARAMETERS:
                raise self._types.error("a parameter that is void: C has no such type", type_id)
            name = self._types.names[name_off]
            if name:
                name = identifier(name)
                if name in self._identifiers:  # would hide the typedef
                    name = identifier(f"{name}_")
                if name in taken or name in self._identifiers:
                    name = ""
                taken.add(name)
            texts.append(self.declare(target, name, level))
        self._depth -= 1
        return ", ".join(texts)

    def _enter(self, type_id: int) -> None:
        self._depth += 1
        self._types.spend(type_id)
        if self._depth > _MAX_DEPTH:
            raise self._types.error(
                f"anonymous structs or parameters nested {_MAX_DEPTH} deep, perhaps in a cycle: "
                "C has no such type",
                type_id,
            )

    # ------------------------------------------------------------------ bodies

    def _composite(
        self, type_id: int, head: str, level: int, place: MemberPath | None, scope: Scope
    ) -> str:
        """Write ``struct x { ... }`` with its attributes, and note facts about the members."""
        self._enter(type_id)
        layout = self._planner.layout(type_id)
        indent = "\t" * (level + 1)
        lines = []
        if layout.opaque:
            size = self._types.third(type_id)
            lines.append(f"{indent}/* not expressible in C: {comment_safe(layout.opaque)} */")
            lines.append(f"{indent}unsigned char {scope.take('__opaque')}[{size}];")
        for item in layout.items:
            if isinstance(item, Padding):
                text = f"{item.unit}: {item.bits}"
                if item.count:
                    text = f"unsigned char {scope.take(f'__pad_{item.at}')}[{item.count}]"
            else:
                index, member = item
                text = self._member(index, member, level + 1, place, scope)
                text += self._tags.of(type_id, index)
            lines.append(f"{indent}{text};")
        body = "\n".join((f"{head} {{", *lines, "\t" * level + "}")) if lines else f"{head} {{}}"
        self._depth -= 1
        if layout.packed:
            body += " __attribute__((packed))"
        return body + self._tags.of(type_id)

    def _member(
        self, index: int, member: MemberRecord, level: int, place: MemberPath | None, scope: Scope
    ) -> str:
        types, at = self._types, member.bit_offset // 8
        name = types.names[member.name_off]
        if not name and not member.bits:
            behind = member.type_id
            while types.kind(behind) in QUALIFIERS:
                behind = types.third(behind)
            if types.kind(behind) in COMPOSITES:
                inside = MemberPath(place.path, place.at + at) if place else None
                if not types.name(behind):
                    return self.declare(member.type_id, "", level, inside, scope)
                # Microsoft's extension: members of a named struct join those of the one around.
                return self._composite(behind, self._keyword(behind), level, inside, scope)
        # Kernels have members called "bool": C23 refuses them, but relocations go by this name.
        name = scope.take(name or f"__anon_{index}", name in BOOLEANS)
        if self._is_incomplete(member.type_id):
            raise types.error(
                "a member of a typedef that needs itself to be declared: C has no such type",
                member.type_id,
            )
        inside = None
        if member.bits:
            return f"{self.declare(member.type_id, name, level)}: {member.bits}"
        if place:
            inside = MemberPath(f"{place.path}.{name}" if place.path else name, place.at + at)
            types.spend(member.type_id, len(inside.path))
            self._facts.append((inside.path, inside.at))
        return self.declare(member.type_id, name, level, inside)

    def _enum(self, type_id: int, head: str, level: int, reserved: bool = False) -> str:
        types, size = self._types, self._types.third(type_id)
        values = types.enumerators(type_id)
        if type_id in self._only_declared:
            return head
        indent = "\t" * (level + 1)
        lines: list[str] = []
        if size not in ENUM_SIZES:
            if not 0 < size < 8:
                raise types.error(f"an enum of {size} bytes: C has no such type", type_id)
            lines.append(f"{indent}/* not expressible in C: an enum of {size} bytes */")
        low, high, empty = 0, 0, True
        for name_off, value in values:
            if size < 4 and not types.flag(type_id) and value >> (8 * size):
                value = signed(value)  # encoders before kind_flag (Linux 6.0) could not say so
            name = types.names[name_off] or "__anon"
            if not _fits(min(low, value), max(high, value), size):
                lines.append(f"{indent}/* {comment_safe(name)} = {value} is too large */")
                continue
            low, high, empty = min(low, value), max(high, value), False
            name = self._identifiers.take(name, reserved)
            lines.append(f"{indent}{name} = {_literal(value)},")
        if empty:  # C wants one
            lines.append(f"{indent}{self._identifiers.take('__no_values')},")
        text = "\n".join((f"{head} {{", *lines, "\t" * level + "}"))
        types.spend(type_id, len(text))
        if size in _MODES and not (size == 8 and _needs_64_bits(low, high)):
            text += f" __attribute__((mode({_MODES[size]})))"
        return text + self._tags.of(type_id)


def _unless_c23(text: str, reserved: bool) -> str:
    """Return text that C23 has already, if it has, for older C only."""
    return f"{_BEFORE_C23}\n{text}\n#endif" if reserved else text


def _wrapped(declarator: str) -> str:
    return f"({declarator})" if declarator.startswith("*") else declarator


def _literal(value: int) -> str:
    if value >= 1 << 63:
        return f"{value}ULL"
    if value == -(1 << 63):
        return f"({value + 1}LL - 1)"
    return f"{value}LL" if not -(1 << 31) <= value < 1 << 32 else str(value)


def _fits(low: int, high: int, size: int) -> bool:
    """Whether an enum of ``size`` bytes can have values from ``low``, 0 at most, to ``high``."""
    return -(1 << (8 * size - 1)) <= low and high < 1 << (8 * size - (low < 0))


def _needs_64_bits(low: int, high: int) -> bool:
    """Whether the values alone make GNU C choose 64 bits for an enum."""
    return low < -(1 << 31) or high >= 1 << (31 if low < 0 else 32)
