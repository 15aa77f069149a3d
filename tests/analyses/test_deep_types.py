"""Protects what looks behind types from chains of thousands of them: no limit of recursion, and
each type is looked at once, however many lead to it."""

from __future__ import annotations

import pytest

import btf
from btf.types.layout import MANY, Resolver
from support import btfwriter as bw
from support.marks import few_quick

DEEP = 4_000


def chain(kind: str, size: int = 4) -> btf.BTF:
    """A chain that ends with an int; its first type has the highest id."""
    w = bw.Writer()
    i = w.int("int", size)
    for number in range(DEEP):
        before = w.next_id - 1
        if kind == "typedef":
            w.typedef(f"t{number}", before)
        elif kind == "const":
            w.const(before)
        elif kind == "pointer":
            w.ptr(before)
        elif kind == "array":
            w.array(before, i, 1)
        elif kind == "prototype":
            w.func_proto(before, [("p", before)])
        else:
            w.struct(f"s{number}" if kind == "struct" else 0, size, [("m", before, 0)])
    w.typedef("top", w.next_id - 1)
    return btf.parse(w.to_bytes())


KINDS = {
    "typedef": f"top → t{DEEP - 1} → t{DEEP - 2} → ",
    "const": "top → int: 4 bytes in the first, 8 in the second",
    "pointer": "top → int: 4 bytes in the first, 8 in the second",
    "array": f"top{'[]' * 12}…{'[]' * 12} → int: 4 bytes in the first, 8 in the second",
    "prototype": f"top{'()' * 12}…{'()' * 12} → int: 4 bytes in the first, 8 in the second",
    "struct": f"top → s{DEEP - 1}.m → s{DEEP - 2}.m → ",
    "anonymous": f"top{'.m' * 12}…{'.m' * 12} → int: 4 bytes in the first, 8 in the second",
}


@pytest.mark.parametrize("kind", few_quick(list(KINDS), len(KINDS)))
def test_deep_chains(kind: str) -> None:
    one, other = chain(kind), chain(kind, 8)
    first, second = one.find("top"), other.find("top")
    found = btf.difference(first, second)
    assert found is not None and str(found).startswith(KINDS[kind]) and len(str(found)) < 500
    assert str(found).endswith("4 bytes in the first, 8 in the second")
    assert btf.difference(first, chain(kind).find("top")) is None
    if kind == "prototype":
        with pytest.raises(btf.BtfError, match="has no size"):
            one.size_of(first)
    else:
        size = 8 if kind == "pointer" else 4
        assert one.size_of(first) == size == one.align_of(first)
    assert one.resolve(first).id == {"typedef": 1, "const": 1}.get(kind, DEEP + 1)
    assert len(repr(first)) < 200


class Counting:
    """Records of a chain of typedefs and one of arrays, which count what is asked of them."""

    pointer_size = 8

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, 0

    def head(self, type_id: int) -> tuple[int, int]:
        self.asked += 1
        if type_id <= 1:
            return btf.kinds.INT, 4
        kind = btf.kinds.ARRAY if type_id > self.count else btf.kinds.TYPEDEF
        return kind, type_id - 1

    def array(self, type_id: int) -> tuple[int, int]:
        return type_id - 1, 3

    def error(self, message: str, type_id: int) -> btf.BtfError:
        return btf.BtfError(message, None, "types", None, type_id)


def test_each_type_is_looked_at_once() -> None:
    records = Counting(2000)
    resolver = Resolver(records)
    assert {resolver.follow(type_id) for type_id in range(2000, 0, -1)} == {1}
    assert records.asked <= 3 * 2000
    records.asked = 0
    assert resolver.element(4000) == (1, MANY)
    for type_id in range(4000, 2000, -1):
        assert resolver.element(type_id) == (1, min(3 ** (type_id - 2000), MANY))
    assert records.asked <= 5 * 2000
    assert resolver.size(2003) == 4 * 27
    with pytest.raises(btf.BtfError, match="more bytes than there are addresses"):
        resolver.size(4000)


def test_circles_are_told_from_whichever_end() -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    first = w.typedef("a", w.next_id + 1)
    w.const(first)
    array = w.array(first, i, 2)
    inner = w.array(w.next_id + 1, i, 2)
    w.array(inner, i, 2)
    types = btf.parse(w.to_bytes())
    for type_id in (array, first, first + 1, array, inner, inner + 1, inner):
        with pytest.raises(btf.BtfError, match="refers to itself in a circle"):
            types.size_of(type_id)
