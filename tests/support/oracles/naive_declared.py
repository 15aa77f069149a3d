"""What declarations and layouts say, and how two objects differ by them: written to be read.

Standard library only, nothing from btf/. Values are digests of text, so that they stay short where
anonymous types are nested; two types have the same value exactly when the text is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from . import naive_btf as nb

QUALIFIERS = {nb.CONST: "const", nb.VOLATILE: "volatile", nb.RESTRICT: "restrict"}
MODIFIERS = (*QUALIFIERS, nb.TYPE_TAG)
TRANSPARENT = (*MODIFIERS, nb.TYPEDEF)
MARK = "what it is a part of"

KINDS = {
    nb.STRUCT: "struct", nb.UNION: "union", nb.ENUM: "enum", nb.ENUM64: "enum",
    nb.TYPEDEF: "typedef", nb.FUNC: "func", nb.VAR: "var",
}  # fmt: skip
MOST = (1 << 64) - 1  # what a product of lengths can be


class Several(NamedTuple):
    """A type behind qualifiers and arrays."""

    qualifiers: frozenset[str]
    length: int | None  # None: no array
    inner: Any


def digest(*words: object) -> str:
    return hashlib.blake2b(repr(words).encode(), digest_size=16).hexdigest()


class Declared:
    """Spelling, declaration and layout of every type of a BTF, by type id."""

    def __init__(self, btf: nb.Btf, base: Declared | None = None) -> None:
        """``base``: of ``btf.base``, where it is at hand."""
        self.btf = btf
        self.types: list[nb.Words] = base.types + btf.types if base else btf.all_types()
        self.text = cache(lambda offset: btf.text(offset))
        own = range(len(base.types) if base else 0, len(self.types))

        def each(
            known: list[Any], parts: Callable[[int], list[int]], make: Callable[..., Any]
        ) -> list[Any]:
            return worked_out(known, {type_id: parts(type_id) for type_id in own}, make)

        self.spelled: list[Any] = each(
            base.spelled if base else [], self._spelled_parts, self._spell_core
        )
        self.elements: list[Several] = each(
            base.elements if base else [], self._element_part, self._element
        )
        self.layout: list[str] = each(base.layout if base else [], self._embedded, self._lay_out)

    # -- spelling

    def name(self, type_id: int) -> bytes:
        return self.text(self.types[type_id][0])

    def _spelled_parts(self, type_id: int) -> list[int]:
        t = self.types[type_id]
        kind = nb.kind_of(t)
        if kind == nb.ARRAY:
            return [t[3]]
        if kind == nb.PTR or kind in MODIFIERS:
            return [t[2]]
        if kind == nb.FUNC_PROTO or (kind in nb.COMPOSITE and not self.name(type_id)):
            return [t[word] for word in nb.id_words(t)]
        return []

    def _spell_core(self, type_id: int, part: Callable[[int], Any]) -> Any:
        """A digest; of wrappers ``Several``."""
        t, kind = self.types[type_id], nb.kind_of(self.types[type_id])
        if kind in MODIFIERS or kind == nb.ARRAY:
            inner = part(t[3] if kind == nb.ARRAY else t[2])
            if not isinstance(inner, Several):
                inner = Several(frozenset(), None, inner)
            if kind == nb.ARRAY:
                length = min(MOST, t[5] * (1 if inner.length is None else inner.length))
                inner = inner._replace(length=length)
            elif kind in QUALIFIERS:
                inner = inner._replace(qualifiers=inner.qualifiers | {QUALIFIERS[kind]})
            return inner if inner.qualifiers or inner.length is not None else inner.inner
        if kind == nb.VOID:
            return "void"
        if kind == nb.PTR:
            return digest("pointer", shown(part(t[2])))
        if kind == nb.FUNC_PROTO:
            params = [shown(part(ref)) for _, ref in nb.elements(t)]
            if params and nb.elements(t)[-1] == [0, 0]:
                params[-1] = "..."
            return digest("function", shown(part(t[2])), params)
        if kind in nb.COMPOSITE and not self.name(type_id):
            members = [(name, bits, shown(part(ref))) for name, _, bits, ref in self.members(t)]
            return digest(KINDS[kind], members)
        if kind in nb.ANY_ENUM and not self.name(type_id):
            return digest("enum", self.values(t))
        if kind == nb.FWD:
            return digest("union" if nb.kind_flag_of(t) else "struct", self.name(type_id))
        word = KINDS.get(kind, "")
        if kind in (nb.INT, nb.FLOAT, nb.TYPEDEF):
            word = "identifier"
        return digest(word or kind, self.name(type_id))

    def members(self, t: nb.Words) -> list[tuple[bytes, int, int, int]]:
        """(name, bit offset, bits of a bit field, type) of each member."""
        if nb.kind_flag_of(t):
            return [(self.text(n), at & 0xFFFFFF, at >> 24, ref) for n, ref, at in nb.elements(t)]
        return [(self.text(n), at, 0, ref) for n, ref, at in nb.elements(t)]

    def values(self, t: nb.Words) -> list[tuple[bytes, int]]:
        """(name, value) of each enumerator."""
        bits, found = 64 if nb.kind_of(t) == nb.ENUM64 else 32, []
        for words in nb.elements(t):
            value = sum(word << 32 * i for i, word in enumerate(words[1:]))
            if nb.kind_flag_of(t) and value >> (bits - 1):
                value -= 1 << bits
            found.append((self.text(words[0]), value))
        return found

    # -- declarations

    def declaration(self, type_id: int) -> str:
        """Of a struct, union, enum, typedef, function or variable."""
        t, kind = self.types[type_id], nb.kind_of(self.types[type_id])
        say = [KINDS[kind], self.name(type_id)]
        if kind in nb.COMPOSITE:
            members = [(n, at, bits, self.spelling(ref)) for n, at, bits, ref in self.members(t)]
            return digest(say, t[2], members)
        if kind in nb.ANY_ENUM:
            return digest(say, t[2], self.values(t))
        return digest(say, self.spelling(t[2]))

    def spelling(self, type_id: int) -> str:
        return shown(self.spelled[type_id])

    # -- layouts

    def _element_part(self, type_id: int) -> list[int]:
        t, kind = self.types[type_id], nb.kind_of(self.types[type_id])
        if kind == nb.ARRAY:
            return [t[3]]
        return [t[2]] if kind in TRANSPARENT else []

    def _element(self, type_id: int, part: Callable[[int], Any]) -> Several:
        t, kind = self.types[type_id], nb.kind_of(self.types[type_id])
        if kind != nb.ARRAY and kind not in TRANSPARENT:
            return Several(frozenset(), None, type_id)
        found = part(t[3] if kind == nb.ARRAY else t[2])
        if found == MARK:
            found = Several(frozenset(), None, MARK)
        if kind == nb.ARRAY:
            length = min(MOST, t[5] * (1 if found.length is None else found.length))
            found = found._replace(length=length)
        return found

    def _embedded(self, type_id: int) -> list[int]:
        t, kind = self.types[type_id], nb.kind_of(self.types[type_id])
        if kind in (nb.PTR, nb.FWD, nb.DECL_TAG):
            return []
        if kind == nb.ARRAY or kind in TRANSPARENT:
            inner = self.elements[type_id].inner
            return [] if inner == MARK else [inner]
        return [t[word] for word in nb.id_words(t)]

    def _lay_out(self, type_id: int, part: Callable[[int], Any]) -> str:
        t, kind = self.types[type_id], nb.kind_of(self.types[type_id])
        if kind == nb.ARRAY or kind in TRANSPARENT:
            _, count, inner = self.elements[type_id]
            value = MARK if inner == MARK else part(inner)
            return value if count is None else digest("array", count, value)
        if kind in (nb.FUNC, nb.VAR):
            return part(t[2])
        if kind == nb.PTR:
            return digest("pointer", self._pointee(t[2]))
        if kind in nb.COMPOSITE:
            members = [(n, at, bits, part(ref)) for n, at, bits, ref in self.members(t)]
            return digest(kind, t[2], members)
        if kind in nb.ANY_ENUM:
            return digest("enum", t[2], self.values(t))
        if kind == nb.FUNC_PROTO:
            params = [part(ref) for _, ref in nb.elements(t)]
            if params and nb.elements(t)[-1] == [0, 0]:
                params[-1] = "..."
            return digest("function", part(t[2]), params)
        if kind == nb.FWD:
            return digest("declared", self.spelled[type_id])
        if kind == nb.DATASEC:
            rest = [(at, size, part(ref)) for ref, at, size in nb.elements(t)]
            return digest("section", self.name(type_id), t[2], rest)
        if kind == nb.DECL_TAG:
            return digest("tag", t[1], self.name(type_id), t[3])  # vlen too, as dedup has it
        return digest(kind, t[2:])

    def _pointee(self, type_id: int) -> Any:
        _, count, inner = self.elements[type_id]
        if count is not None:
            return "array"
        if inner in (0, MARK):
            return inner
        kind = nb.kind_of(self.types[inner])
        written_out = kind in (*nb.COMPOSITE, *nb.ANY_ENUM) and not self.name(inner)
        if written_out or kind in (nb.PTR, nb.FUNC_PROTO):
            return KINDS.get(kind, kind)
        return self.spelled[inner]


def shown(spelled: Any) -> str:
    """The spelling as a digest."""
    if isinstance(spelled, Several):
        return digest(sorted(spelled.qualifiers), spelled.length, spelled.inner)
    return str(spelled)


def worked_out(
    known: list[Any], parts: dict[int, list[int]], make: Callable[..., Any]
) -> list[Any]:
    """``make(id, part)`` of each type that is not known; ``part`` gives the value of one of its
    parts, or MARK where that part leads back to the type."""
    values: dict[int, Any] = {}
    users: dict[int, list[int]] = {}
    missing: dict[int, int] = {}
    for type_id, refs in parts.items():
        missing[type_id] = sum(ref in parts for ref in refs)
        for ref in refs:
            users.setdefault(ref, []).append(type_id)

    def done(type_id: int) -> Any:
        return known[type_id] if type_id < len(known) else values[type_id]

    todo = [type_id for type_id, count in missing.items() if not count]
    while todo:
        type_id = todo.pop()
        values[type_id] = make(type_id, done)
        for user in users.get(type_id, ()):
            missing[user] -= 1
            if not missing[user]:
                todo.append(user)
    reach = {type_id: reached(type_id, parts) for type_id in parts if type_id not in values}

    def value(type_id: int) -> Any:
        if type_id < len(known):
            return known[type_id]
        if type_id not in values:
            values[type_id] = make(
                type_id,
                lambda ref: MARK if ref in reach and type_id in reach[ref] else value(ref),
            )
        return values[type_id]

    return known + [value(type_id) for type_id in range(len(known), len(known) + len(parts))]


def reached(start: int, parts: dict[int, list[int]]) -> set[int]:
    """All that a type's parts lead to, but for what is known anyway."""
    found: set[int] = set()
    todo = list(parts[start])
    while todo:
        type_id = todo.pop()
        if type_id not in found and type_id in parts:
            found.add(type_id)
            todo += parts[type_id]
    return found


Name = tuple[str, bytes]
Named = dict[Name, tuple[set[str], set[str]]]


def named(declared: Declared) -> Named:
    """By kind and name: the own types' declarations and layouts, without forward declarations."""
    found: Named = {}
    for type_id in range(declared.btf.start_id, len(declared.types)):
        t = declared.types[type_id]
        kind, name = nb.kind_of(t), declared.name(type_id)
        if kind not in KINDS or not name or (kind in nb.ANY_ENUM and not nb.vlen_of(t)):
            continue
        both = found.setdefault((KINDS[kind], name), (set(), set()))
        both[0].add(declared.declaration(type_id))
        both[1].add(declared.layout[type_id])
    return found


def counts(old: Declared, new: Declared) -> dict[str, dict[str, int]]:
    """By kind, how many names are in both, added, removed, changed, embedding what changed."""
    return counts_of(named(old), named(new))


def counts_of(before: Named, after: Named) -> dict[str, dict[str, int]]:
    """The same of what two objects declare."""
    found = {}
    for kind in dict.fromkeys(KINDS.values()):
        one, other = ({name for name in names if name[0] == kind} for names in (before, after))
        both = one & other
        changed = {name for name in both if before[name][0] != after[name][0]}
        found[kind] = {
            "both": len(both),
            "added": len(other - one),
            "removed": len(one - other),
            "changed": len(changed),
            "embedded": sum(before[name][1] != after[name][1] for name in both - changed),
        }
    return found


def same_partition(pairs: Iterable[tuple[object, object]]) -> bool:
    """Whether the first of two pairs are equal exactly where the second are."""
    there: dict[object, object] = {}
    back: dict[object, object] = {}
    return all(there.setdefault(a, b) == b and back.setdefault(b, a) == a for a, b in pairs)


def objects_of(folder: Path) -> dict[str, Named]:
    """What each BTF file of a kernel in an output folder declares (``named``), by the file's name
    with underscores; vmlinux is the base."""
    base = Declared(nb.parse((folder / "vmlinux.btf").read_bytes()))
    found = {"vmlinux": named(base)}
    for path in sorted(folder.iterdir()):
        if path.name != "vmlinux.btf":
            split = Declared(nb.parse(path.read_bytes(), base.btf), base)
            found[path.name.removesuffix(".btf").replace("-", "_")] = named(split)
    return found


def counts_of_objects(
    old: dict[str, Named], new: dict[str, Named]
) -> dict[str, dict[str, dict[str, int]]]:
    """``counts`` of each object of two kernels."""
    return {name: counts_of(old.get(name, {}), new.get(name, {})) for name in sorted(old | new)}
