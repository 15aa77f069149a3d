"""Protects relocating: a test for each rule, and the demo modules there and back again.

Where a test says "libbpf", btf_relocate.c of libbpf 1.8 does otherwise.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import btf
from btf.distill import relocate as relocation
from support import dumping, marks
from support.btfwriter import BOOL, BYTE_ORDERS, SIGNED, Writer
from support.modes import LITTLE, split_case
from support.oracles import naive_btf, naive_distill, oracle_libbpf

Write = Callable[[Writer], object]


def distilled_module(write: Write, module: Callable[[btf.Builder, btf.BTF], object]) -> btf.BTF:
    """Split BTF on the distilled form of the base that ``write`` writes."""
    w = Writer()
    write(w)
    base = btf.parse(w.to_bytes())
    b = btf.Builder(base)
    module(b, base)
    return btf.distill_base(b.build()).split


def pointer_to(*ids: int) -> Callable[[btf.Builder, btf.BTF], object]:
    return lambda b, _: [b.add_ptr(type_id) for type_id in ids]


def holds(type_id: int, size: int) -> Callable[[btf.Builder, btf.BTF], object]:
    return lambda b, _: b.add_struct("holder", size, [("it", type_id, 0)])


def onto(split: btf.BTF, write: Write) -> list[int]:
    """Where the types of the distilled base go."""
    w = Writer()
    write(w)
    id_map = btf.relocate(split, btf.parse(w.to_bytes())).id_map
    assert split.base is not None
    return id_map[1 : split.base.type_end].tolist()


def refused(split: btf.BTF, write: Write, message: str) -> None:
    with pytest.raises(btf.WrongBaseError, match=message) as caught:
        onto(split, write)
    assert caught.value.section == ".BTF.base" and caught.value.type_id == 1


# ------------------------------------------------------------------------------------------- rules


def test_many_of_one_name_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not once for each one that looks for its like."""

    def base(w: Writer) -> None:
        for size in range(400):
            w.struct("s", 4 * size)

    split = distilled_module(base, pointer_to(*range(101, 301)))
    seen: list[int] = []
    original = relocation._named_types

    def named_types(types: btf.BTF, ids: np.ndarray) -> Any:
        seen.append(len(ids))
        return original(types, ids)

    monkeypatch.setattr(relocation, "_named_types", named_types)
    assert onto(split, base) == list(range(101, 301))
    assert seen == [200, 400]


def test_int_by_name_size_and_encoding() -> None:
    split = distilled_module(lambda w: w.int("int", 4, SIGNED), pointer_to(1))
    assert onto(split, lambda w: (w.int("long", 8), w.int("int", 4, SIGNED))) == [2]
    refused(split, lambda w: w.int("int", 8, SIGNED), "it has no INT int as the module needs it")
    refused(split, lambda w: w.int("int", 4, 0), "encoding 0x01000020.*INT of 4 .*0x00000020")
    refused(split, lambda w: w.int("int", 4, BOOL), "as the module needs it")
    refused(split, lambda w: w.int("integer", 4, SIGNED), r"it has no INT int$")


def test_int_by_its_bits_too() -> None:
    """Old encoders wrote bit fields as INT of fewer bits; libbpf finds both and gives up."""
    split = distilled_module(lambda w: w.int("unsigned int", 4, 0, bits=3), pointer_to(1))
    both: Write = lambda w: (w.int("unsigned int", 4, 0), w.int("unsigned int", 4, 0, bits=3))  # noqa: E731
    assert onto(split, both) == [2]


def test_float_by_name_and_size() -> None:
    split = distilled_module(lambda w: w.float("double", 8), pointer_to(1))
    assert onto(split, lambda w: w.float("double", 8)) == [1]
    refused(split, lambda w: w.float("double", 4), "FLOAT double as the module needs it")
    refused(split, lambda w: w.struct("double", 8), "only STRUCT of 8 bytes")


def test_enum_by_name_and_size_whatever_its_values() -> None:
    split = distilled_module(lambda w: w.enum("color", 8, [("RED", 1)]), pointer_to(1))
    assert onto(split, lambda w: w.enum("color", 8, [("BLUE", 7)])) == [1]
    assert onto(split, lambda w: w.enum64("color", 8, [("RED", 1 << 40)])) == [1]
    refused(split, lambda w: w.enum("color", 4, [("RED", 1)]), "only ENUM of 4 bytes")
    wide = distilled_module(lambda w: w.enum64("color", 8, [("RED", 1 << 40)]), pointer_to(1))
    assert onto(wide, lambda w: w.enum64("color", 8)) == [1]


@pytest.mark.parametrize("union", [False, True])
def test_struct_by_name_and_kind(union: bool) -> None:
    write: Write = lambda w: (w.union if union else w.struct)("page", 64)  # noqa: E731
    other: Write = lambda w: (w.struct if union else w.union)("page", 64)  # noqa: E731
    split = distilled_module(write, pointer_to(1))
    assert onto(split, write) == [1]
    # libbpf takes any kind of that name here, and gives up where both are there.
    what = "STRUCT" if union else "UNION"
    refused(split, other, f"only {what} of 64 bytes")
    refused(split, lambda w: w.fwd("page", union), "only FWD")
    refused(split, lambda w: w.enum("page", 4, [("A", 1)]), "only ENUM of 4 bytes")
    assert onto(split, lambda w: (other(w), write(w))) == [2]
    assert onto(split, lambda w: (w.fwd("page", not union), write(w))) == [2]
    assert onto(split, lambda w: (w.enum("page", 4, [("A", 1)]), write(w))) == [2]


def test_size_may_change_behind_a_pointer() -> None:
    split = distilled_module(lambda w: w.struct("page", 64), pointer_to(1))
    assert onto(split, lambda w: w.struct("page", 72)) == [1]


@pytest.mark.parametrize(
    "held",
    [
        lambda b: 1,
        lambda b: b.add_typedef("page_t", 1),
        lambda b: b.add_const(b.add_volatile(b.add_restrict(b.add_type_tag("t", 1)))),
        lambda b: b.add_array(1, 1, 3),
        lambda b: b.add_array(1, b.add_array(1, b.add_typedef("page_t", 1), 2), 3),
        lambda b: b.add_union("", 64, [("p", 1, 0)]),
    ],
)  # fmt: skip
def test_size_may_not_change_where_the_module_holds_one(held: Callable[[btf.Builder], int]) -> None:
    def module(b: btf.Builder, _: btf.BTF) -> None:
        inner = held(b)
        b.add_struct("holder", 640, [("it", inner, 0)])

    split = distilled_module(lambda w: w.struct("page", 64), module)
    assert onto(split, lambda w: w.struct("page", 64)) == [1]
    refused(
        split,
        lambda w: (w.int("int", 4), w.struct("page", 72)),
        r"does not fit this base: struct page has 64 bytes for the module, but 72 in \[2\], and "
        r"\[\d+\] (struct holder|union \{\.\.\.\}) of the module holds one",
    )


def test_size_may_not_change_where_an_anonymous_struct_of_the_base_holds_one() -> None:
    """It is part of the split BTF by then."""

    def write(w: Writer) -> None:
        w.struct("page", 64)
        w.struct("", 64, [("it", 1, 0)])

    split = distilled_module(write, pointer_to(2))
    refused(split, lambda w: w.struct("page", 72), "72 in")


def test_a_pointer_in_between_is_not_held() -> None:
    def module(b: btf.Builder, _: btf.BTF) -> None:
        pointer = b.add_ptr(1)
        b.add_struct("holder", 8, [("it", pointer, 0)])

    split = distilled_module(lambda w: w.struct("page", 64), module)
    assert onto(split, lambda w: w.struct("page", 72)) == [1]


def test_names_that_refer_to_each_other_in_a_circle_hold_nothing() -> None:
    """libbpf's search for what a struct holds does not end here."""

    def module(b: btf.Builder, _: btf.BTF) -> None:
        first = b.next_id
        b.add_typedef("a", first + 1)
        b.add_const(first + 2)
        b.add_typedef("b", first)
        b.add_struct("holder", 8, [("it", first, 0), ("page", 1, 64)])

    split = distilled_module(lambda w: w.struct("page", 64), module)
    assert onto(split, lambda w: w.struct("page", 64)) == [1]


def test_size_decides_between_several_of_a_name() -> None:
    split = distilled_module(lambda w: w.struct("page", 64), pointer_to(1))
    assert onto(split, lambda w: (w.struct("page", 72), w.struct("page", 64))) == [2]
    refused(
        split,
        lambda w: (w.struct("page", 72), w.struct("page", 80)),
        r"72 in \[1\], 80 in \[2\]; the base has several of that name, so only the size",
    )
    refused(
        split,
        lambda w: (w.struct("page", 64), w.struct("page", 64, [("m", 0, 0)])),
        r"it has 2 types that struct page of 64 bytes may be: \[1\], \[2\]$",
    )


def test_several_of_a_name_in_the_distilled_base_do_not_become_one() -> None:
    """libbpf maps both to the only one that is left in the base, whatever its size."""
    two: Write = lambda w: (w.struct("page", 64), w.struct("page", 72))  # noqa: E731
    split = distilled_module(two, pointer_to(1, 2))
    assert onto(split, two) == [1, 2]
    refused(split, lambda w: w.struct("page", 72), "the distilled base has several of that name")
    d = Writer()
    d.struct("page", 64)
    d.struct(d.string("page", fresh=True), 72)
    s = Writer(base=d)
    s.ptr(1)
    split = btf.parse(s.to_bytes(), btf.parse(d.to_bytes()))
    assert onto(split, two) == [1, 2]
    refused(split, lambda w: w.struct("page", 72), "the distilled base has several of that name")


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("bit_fields", [0, 1])
def test_forward_declaration_meets_its_kind(union: bool, bit_fields: int) -> None:
    """libbpf looks at whether the struct has bit fields, instead of which kind was declared."""
    split = distilled_module(lambda w: w.fwd("page", union), pointer_to(1))

    def defined(w: Writer, as_union: bool) -> int:
        return (w.union if as_union else w.struct)("page", 8, [("m", 0, 0)], kind_flag=bit_fields)

    assert onto(split, lambda w: w.fwd("page", union)) == [1]
    assert onto(split, lambda w: defined(w, union)) == [1]
    refused(split, lambda w: w.fwd("page", not union), "only FWD")
    refused(split, lambda w: defined(w, not union), f"only {'STRUCT' if union else 'UNION'}")
    assert onto(split, lambda w: (defined(w, not union), defined(w, union))) == [2]


def test_forward_declaration_prefers_a_declaration() -> None:
    """A base has both where several structs have the name. libbpf gives up."""
    split = distilled_module(lambda w: w.fwd("page"), pointer_to(1))
    several: Write = lambda w: (w.struct("page", 8), w.struct("page", 16), w.fwd("page"))  # noqa: E731
    assert onto(split, several) == [3]
    refused(
        split,
        lambda w: (w.struct("page", 8), w.struct("page", 16)),
        "it has 2 types that forward struct page may be",
    )


def test_what_has_no_name_or_another_kind_is_no_distilled_base() -> None:
    w = Writer()
    w.int("int", 4)
    w.ptr(1)
    base = btf.parse(w.to_bytes())
    b = btf.Builder(base)
    b.add_ptr(1)
    with pytest.raises(btf.BtfError, match="a PTR cannot be in a distilled base") as caught:
        btf.relocate(b.build(path="m.ko"), base)
    assert (caught.value.path, caught.value.section) == ("m.ko", ".BTF.base")
    assert (caught.value.type_id, caught.value.offset) == (2, 16)
    w = Writer()
    w.struct("", 4)
    base = btf.parse(w.to_bytes())
    with pytest.raises(btf.BtfError, match="a STRUCT without a name cannot be in"):
        btf.relocate(btf.Builder(base).build(), base)
    with pytest.raises(btf.UnsupportedError, match="only split BTF"):
        btf.relocate(base, base)


def test_all_problems_are_counted() -> None:
    split = distilled_module(
        lambda w: [w.struct(f"s{i}", 8) for i in range(3)], pointer_to(1, 2, 3)
    )
    with pytest.raises(btf.WrongBaseError, match=r"no struct s0 \(2 more of its types have no"):
        onto(split, lambda w: w.int("int", 4))


def test_byte_order() -> None:
    split = distilled_module(lambda w: w.int("int", 4), pointer_to(1))
    w = Writer(">")
    w.int("int", 4)
    with pytest.raises(btf.WrongBaseError, match="little-endian, the base big-endian"):
        btf.relocate(split, btf.parse(w.to_bytes()))


# ----------------------------------------------------------------------------------------- strings


@pytest.mark.parametrize("order", BYTE_ORDERS)
def test_names_read_the_same_afterwards(order: str) -> None:
    """Also those that are in the distilled base's strings but name none of its types."""
    d = Writer(order)
    d.struct("page", 8)
    d.string("lost")
    d.string("kept")
    s = Writer(order, base=d)
    s.struct("page", 16, [("page", 1, 0), ("lost", 1, 64), ("kept", 1, 96), ("own", 1, 0)])
    s.struct("lost", 8)
    split = btf.parse(s.to_bytes(), btf.parse(d.to_bytes()))
    w = Writer(order)
    w.int("kept", 4)
    w.struct("page", 8)
    base = btf.parse(w.to_bytes())
    for given in (base, btf.BaseIndex.build(base)):
        moved = btf.relocate(split, given).btf
        again = btf.parse(moved.to_bytes(), base)
        mine, lost = again.own_types()
        assert isinstance(mine, btf.Struct)
        assert [m.name for m in mine.members] == ["page", "lost", "kept", "own"]
        assert (mine.name, lost.name) == ("page", "lost")
        assert again.string_section() == b"own\0lost\0"
        assert {m.type_id for m in mine.members} == {2}


def test_a_base_that_has_a_string_twice() -> None:
    split = distilled_module(lambda w: w.struct("page", 8), holds(1, 8))

    def write(w: Writer) -> None:
        w.int(w.string("page", fresh=True), 4)
        w.struct(w.string("page", fresh=True), 8)

    assert onto(split, write) == [2]


# ------------------------------------------------------------------------------------- all at once


@pytest.mark.parametrize("name", marks.vector_names())
def test_as_the_reference_has_it(name: str) -> None:
    data, split = split_case(name)
    try:
        distilled = btf.distill_base(split)
    except btf.UnsupportedError:
        return  # see test_distill
    base = btf.parse(data)
    plain_base = naive_btf.parse(data)
    plain = naive_btf.parse(distilled.split.to_bytes(), naive_btf.parse(distilled.base.to_bytes()))
    expected = naive_distill.places(plain, plain_base)
    nowhere = [type_id for type_id, place in expected.items() if place is None]
    if nowhere:
        with pytest.raises(btf.WrongBaseError) as caught:
            btf.relocate(distilled.split, base)
        assert caught.value.type_id == nowhere[0]
        return
    result = btf.relocate(distilled.split, base)
    assert {old: int(result.id_map[old]) for old in expected} == expected
    first, end = distilled.split.start_id, distilled.split.type_end
    assert result.id_map[first:].tolist() == list(range(base.type_end, base.type_end + end - first))
    before = naive_btf.parse(split.to_bytes(), plain_base)
    after = naive_btf.parse(result.btf.to_bytes(), plain_base)
    count = len(before.types)
    assert naive_distill.same_graph(before, before.start_id, after, after.start_id, count) == ""


# libbpf finds several candidates because it does not compare kinds.
LIBBPF_GIVES_UP = [
    *(f"candidate-order-{n}" for n in (0, 5, 12, 20, 60)),
    *(f"seed-{n}" for n in (0, 30, 42)),
]


def test_bytes_are_libbpf_s() -> None:
    oracle = oracle_libbpf.system_oracle()
    if oracle is None:
        pytest.skip("NOT RUN: libbpf was not asked; needs gcc and libbpf-dev")
    asked, gave_up = 0, []
    for name in LITTLE:
        data, split = split_case(name)
        try:
            distilled = btf.distill_base(split)
        except btf.UnsupportedError:
            continue
        if split.byteorder != "little":
            continue
        ours = theirs = None
        with contextlib.suppress(btf.WrongBaseError):
            ours = btf.relocate(distilled.split, btf.parse(data)).btf
        try:
            files = [data, distilled.base.to_bytes(), distilled.split.to_bytes()]
            theirs = oracle.run("relocate", files)
        except oracle_libbpf.TooOld:
            pytest.skip("NOT RUN: the installed libbpf is older than 1.5 and cannot relocate")
        except oracle_libbpf.Refused:
            pass
        asked += 1
        if ours is not None and theirs is not None:
            got = (ours.type_section(), ours.string_section())
            assert got == (theirs.types, theirs.strings), name
        elif ours is not None:
            gave_up.append(name)
        else:
            assert theirs is None, name
    assert asked > 60 and gave_up == LIBBPF_GIVES_UP


@functools.cache
def plain_vmlinux() -> naive_btf.Btf:
    return naive_btf.parse(dumping.base().to_bytes())


@pytest.mark.parametrize("name", marks.demo_modules())
def test_demo_modules_there_and_back(name: str) -> None:
    split, index = dumping.split(name), dumping.index()
    distilled = btf.distill_base(split)
    back = btf.relocate(distilled.split, index).btf
    assert btf.dedup(back, index).btf.to_bytes() == btf.dedup(split, index).btf.to_bytes()
    before = naive_btf.parse(split.to_bytes(), plain_vmlinux())
    after = naive_btf.parse(back.to_bytes(), plain_vmlinux())
    first, count = before.start_id, len(before.types)
    assert naive_distill.same_graph(before, first, after, first, count) == ""
