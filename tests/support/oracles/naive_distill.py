"""The reference for distilled bases: what distilling and relocating must give, in plain Python.

Nothing from btf/; reads and writes with naive.py and btfwriter.py. Types are lists of words.
"""

from __future__ import annotations

import struct

from support import btfwriter
from support.oracles import naive_btf
from support.oracles.naive_btf import (
    ARRAY,
    CONST,
    DATASEC,
    DECL_TAG,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC,
    FWD,
    INT,
    RESTRICT,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    VAR,
    VOLATILE,
    Btf,
    Words,
    id_words,
    kind_flag_of,
    kind_of,
    string_words,
)

COMPOSITE = (STRUCT, UNION)
BY_NAME = (INT, FLOAT, FWD, STRUCT, UNION, ENUM, ENUM64)


class NotDistilled(Exception):
    """The split BTF refers to types of the base (the argument) that cannot be distilled."""


def to_bytes(btf: Btf) -> bytes:
    words = [word for t in btf.types for word in t]
    return btfwriter.assemble(
        struct.pack(f"{btf.order}{len(words)}I", *words), btf.strings, btf.order
    )


def distill(split: Btf) -> tuple[Btf, Btf]:
    """(distilled base, split BTF on it)."""
    assert split.base is not None
    types, first_own = split.all_types(), split.start_id
    needed: set[int] = set()
    bad: set[int] = set()
    todo = [split.types]
    while todo:
        for t in todo.pop():
            for word in id_words(t):
                referred = t[word]
                if not 0 < referred < first_own or referred in needed:
                    continue
                target = types[referred]
                if kind_of(target) in (FUNC, VAR, DATASEC, DECL_TAG):
                    bad.add(referred)
                    continue
                needed.add(referred)
                if not (kind_of(target) in COMPOSITE and split.text(target[0])):
                    todo.append([target])
    if bad:
        raise NotDistilled(bad)

    base = Btf(split.order, [], b"\0")
    out = Btf(split.order, [], b"", base)
    ids = {0: 0}
    copied = []
    index = base.string_index()
    for old in sorted(needed):
        t = list(types[old])
        kind = kind_of(t)
        if kind not in BY_NAME or not split.text(t[0]):
            copied.append(old)
            continue
        if kind in (*COMPOSITE, ENUM, ENUM64):
            t = [t[0], (ENUM if kind == ENUM64 else kind) << 24, t[2]]
        naive_btf.intern(base, t, split, 0, index)
        ids[old] = base.end_id
        base.types.append(t)
    for old in [*range(first_own, split.end_id), *copied]:
        ids[old] = base.end_id + len(ids) - 1 - len(base.types)
    index = out.string_index()
    for old in [*range(first_own, split.end_id), *copied]:
        t = list(types[old])
        naive_btf.intern(out, t, split, 0, index)
        for word in id_words(t):
            t[word] = ids[t[word]]
        out.types.append(t)
    return base, out


def held_by_value(split: Btf) -> set[int]:
    """Ids of the structs and unions that a struct or union of the split BTF holds itself."""
    types = split.all_types()
    held = set()
    for t in split.types:
        if kind_of(t) not in COMPOSITE:
            continue
        for word in id_words(t):
            at, passed = t[word], set()
            while at not in passed:
                passed.add(at)
                kind = kind_of(types[at])
                if kind in (TYPEDEF, CONST, VOLATILE, RESTRICT, TYPE_TAG):
                    at = types[at][2]
                elif kind == ARRAY:
                    at = types[at][3]
            if kind_of(types[at]) in COMPOSITE:
                held.add(at)
    return held


def places(split: Btf, base: Btf) -> dict[int, int | None]:
    """For each type of the distilled base its id in ``base``; None where that cannot be told."""
    distilled = split.base
    assert distilled is not None
    held = held_by_value(split)
    named: dict[bytes, list[int]] = {}
    all_types = base.all_types()
    for type_id, t in enumerate(all_types):
        named.setdefault(base.text(t[0]), []).append(type_id)
    found: dict[int, int | None] = {}
    for type_id, t in enumerate(distilled.types, 1):
        name, kind, size = distilled.text(t[0]), kind_of(t), t[2]
        fit = [at for at in named.get(name, ()) if _fits(t, all_types[at])]
        if kind == FWD:
            fit = [at for at in fit if kind_of(all_types[at]) == FWD] or fit
        same = [o for o in distilled.types if kind_of(o) == kind and distilled.text(o[0]) == name]
        if kind in COMPOSITE and (len(fit) > 1 or len(same) > 1 or type_id in held):
            fit = [at for at in fit if all_types[at][2] == size]
        found[type_id] = fit[0] if len(fit) == 1 else None
    return found


def _fits(wanted: Words, found: Words) -> bool:
    kind, other = kind_of(wanted), kind_of(found)
    if kind == FWD:
        if other == FWD:
            return kind_flag_of(wanted) == kind_flag_of(found)
        return other == (UNION if kind_flag_of(wanted) else STRUCT)
    if kind == ENUM:
        return other in (ENUM, ENUM64) and wanted[2] == found[2]
    if kind in COMPOSITE:
        return kind == other
    return kind == other and wanted[2:] == found[2:]


def same_graph(a: Btf, first_a: int, b: Btf, first_b: int, count: int) -> str:
    """How two BTF differ, beginning with ``count`` types of each from those ids on; "" if not.

    Everything that can be reached from these is compared, in the base too: kinds, names, values,
    and the same again for what is referred to.
    """
    types_a, types_b = a.all_types(), b.all_types()
    todo = [(first_a + i, first_b + i) for i in range(count)]
    seen = set(todo)
    while todo:
        pair = todo.pop()
        t, u = types_a[pair[0]], types_b[pair[1]]
        if len(t) != len(u) or t[1] != u[1]:
            return f"{pair}: {t} and {u}"
        names, refs = set(string_words(t)), set(id_words(t))
        for word in range(len(t)):
            if word in refs:
                following = (t[word], u[word])
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
            elif word in names:
                if a.text(t[word]) != b.text(u[word]):
                    return f"{pair}: {a.text(t[word])!r} and {b.text(u[word])!r}"
            elif t[word] != u[word]:
                return f"{pair}: word {word} is {t[word]} and {u[word]}"
    return ""
