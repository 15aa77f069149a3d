"""Protects distilling: what of a base goes where, as a plain reference and libbpf have it."""

from __future__ import annotations

import pytest

import btf
from support import handmade, marks
from support.btfwriter import BYTE_ORDERS, Writer
from support.modes import LITTLE, split_case
from support.oracles import naive_btf, naive_distill, oracle_libbpf


def listed(types: btf.BTF) -> list[str]:
    """The own types, a line each."""
    return "".join(btf.dump_raw(types)).replace("\n\t", " | ").splitlines()


@pytest.mark.parametrize("name", marks.vector_names())
def test_as_the_reference_has_it(name: str) -> None:
    base, split = split_case(name)
    plain = naive_btf.parse(split.to_bytes(), naive_btf.parse(base))
    try:
        expected = naive_distill.distill(plain)
    except naive_distill.NotDistilled as error:
        (bad,) = error.args
        named = "|".join(map(str, bad))
        with pytest.raises(btf.UnsupportedError, match=rf"of the base, \[({named})\]"):
            btf.distill_base(split)
        return
    distilled = btf.distill_base(split)
    assert distilled.base.to_bytes() == naive_distill.to_bytes(expected[0])
    assert distilled.split.to_bytes() == naive_distill.to_bytes(expected[1])
    assert distilled.split.base is distilled.base and distilled.base.base is None
    # and it is sound
    assert btf.parse(distilled.split.to_bytes(), btf.parse(distilled.base.to_bytes()))


def test_bytes_are_libbpf_s() -> None:
    oracle = oracle_libbpf.system_oracle()
    if oracle is None:
        pytest.skip("NOT RUN: libbpf was not asked; needs gcc and libbpf-dev")
    asked, differs = 0, []
    for name in LITTLE:
        base, split = split_case(name)
        if split.byteorder != "little":
            continue
        try:
            theirs = oracle.run_two("distill", [base, split.to_bytes()])
        except oracle_libbpf.TooOld:
            pytest.skip("NOT RUN: the installed libbpf is older than 1.5 and cannot distill")
        except oracle_libbpf.Refused:
            with pytest.raises(btf.UnsupportedError):
                btf.distill_base(split)
            continue
        ours = btf.distill_base(split)
        asked += 1
        for mine, data in zip((ours.split, ours.base), theirs, strict=True):
            its = oracle_libbpf.sections(data)
            if (mine.type_section(), mine.string_section()) != (its.types, its.strings):
                differs.append(name)
    assert asked > 60
    # Its distilled base is empty there, and libbpf then loses what belongs into the split BTF.
    assert differs == ["anonymous-empty-enum"]


@pytest.mark.parametrize("order", BYTE_ORDERS)
def test_where_each_kind_goes(order: str) -> None:
    w = Writer(order)
    integer = w.int("int", 4)
    w.float("double", 8)
    w.fwd("declared", union=True)
    page = w.struct("page", 64, [("flags", integer, 0)])
    w.union("slot", 8, [("p", page, 0)])
    w.enum("color", 4, [("RED", 0)], signed=True)
    w.enum64("wide", 8, [("BIG", 1 << 40)])
    nameless_enum = w.enum("", 4, [("X", 1)])
    nameless = w.struct("", 64, [("inside", page, 0)])
    array = w.array(page, integer, 4)
    proto = w.type(13, 0, page, [w.string("arg"), integer], vlen=1)
    modifiers = [w.ptr(page), w.const(page), w.volatile(page), w.restrict(page)]
    named = [w.typedef("page_t", page), w.type_tag("user", page)]
    base = btf.parse(w.to_bytes())
    b = btf.Builder(base)
    used = [integer, 2, 3, page, 5, 6, 7, nameless_enum, nameless, array, proto, *modifiers, *named]
    for number, type_id in enumerate(used):
        b.add_var(f"v{number}", btf.Linkage.GLOBAL, type_id)
    distilled, split = btf.distill_base(b.build())
    assert listed(distilled) == [
        "[1] INT 'int' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED",
        "[2] FLOAT 'double' size=8",
        "[3] FWD 'declared' fwd_kind=union",
        "[4] STRUCT 'page' size=64 vlen=0",
        "[5] UNION 'slot' size=8 vlen=0",
        "[6] ENUM 'color' encoding=UNSIGNED size=4 vlen=0",
        "[7] ENUM 'wide' encoding=UNSIGNED size=8 vlen=0",
    ]
    assert distilled.string_section() == b"\0int\0double\0declared\0page\0slot\0color\0wide\0"
    own = listed(split)
    assert own[0] == "[8] VAR 'v0' type_id=1, linkage=global"
    assert own[len(used) :] == [
        "[25] ENUM '(anon)' encoding=UNSIGNED size=4 vlen=1 | 'X' val=1",
        "[26] STRUCT '(anon)' size=64 vlen=1 | 'inside' type_id=4 bits_offset=0",
        "[27] ARRAY '(anon)' type_id=4 index_type_id=1 nr_elems=4",
        "[28] FUNC_PROTO '(anon)' ret_type_id=4 vlen=1 | 'arg' type_id=1",
        "[29] PTR '(anon)' type_id=4",
        "[30] CONST '(anon)' type_id=4",
        "[31] VOLATILE '(anon)' type_id=4",
        "[32] RESTRICT '(anon)' type_id=4",
        "[33] TYPEDEF 'page_t' type_id=4",
        "[34] TYPE_TAG 'user' type_id=4",
    ]
    assert split.byteorder == distilled.byteorder == ("little" if order == "<" else "big")


def test_members_of_what_has_a_name_are_not_needed() -> None:
    w = Writer()
    w.int("secret", 4)
    w.struct("page", 64, [("flags", 1, 0)])
    base = btf.parse(w.to_bytes())
    b = btf.Builder(base)
    b.add_ptr(2)
    distilled, split = btf.distill_base(b.build())
    assert [t.name for t in distilled.own_types()] == ["page"]
    assert split.type_count == 1


def test_numbers_without_a_name_go_to_the_split_btf() -> None:
    """libbpf puts them into the distilled base, and then refuses to relocate that."""
    w = Writer()
    w.int("", 4)
    w.float("", 8)
    base = btf.parse(w.to_bytes())
    b = btf.Builder(base)
    b.add_ptr(1)
    b.add_ptr(2)
    distilled, split = btf.distill_base(b.build())
    assert distilled.type_count == 0
    assert listed(split)[2:] == [
        "[3] INT '(anon)' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED",
        "[4] FLOAT '(anon)' size=8",
    ]
    assert btf.relocate(split, base).btf.type_count == 4


def test_a_name_that_is_an_empty_string_is_none() -> None:
    w = Writer()
    empty = w.string("", fresh=True)
    w.struct(empty, 8, [("m", 0, 0)])
    base = btf.parse(w.to_bytes())
    b = btf.Builder(base)
    b.add_ptr(1)
    distilled, split = btf.distill_base(b.build())
    assert distilled.type_count == 0 and split.find("", btf.Struct).size == 8


def test_all_levels_of_the_base_are_distilled() -> None:
    w = Writer()
    handmade.every_kind(w)
    vmlinux = btf.parse(w.to_bytes())
    b = btf.Builder(vmlinux)
    b.add_struct("of_the_layer", 8, [])
    layer = b.build()
    b = btf.Builder(layer)
    b.add_ptr(layer.find("of_the_layer"))
    b.add_ptr(vmlinux.find("int"))
    module = b.build()
    distilled, split = btf.distill_base(module)
    assert {t.name for t in distilled.own_types()} == {"of_the_layer", "int"}
    back = btf.relocate(split, layer)
    assert back.btf.to_bytes() == module.to_bytes() and back.btf.base is layer


def test_what_cannot_be_distilled() -> None:
    w = Writer()
    proto = w.type(13, 0, 0)
    func = w.type(12, "f", proto)
    w.int("int", 4)
    w.type(14, "v", 3, [0])
    base = btf.parse(w.to_bytes())
    with pytest.raises(btf.UnsupportedError, match="nothing to distill"):
        btf.distill_base(base)
    b = btf.Builder(base)
    b.add_decl_tag("bpf_kfunc", func, -1)
    with pytest.raises(btf.UnsupportedError, match=r"a FUNC of the base, \[2\], which cannot be"):
        btf.distill_base(b.build(path="x"))
    b = btf.Builder(base)
    b.add_datasec(".data", 4, [(4, 0, 4)])
    with pytest.raises(btf.UnsupportedError, match=r"a VAR of the base, \[4\]"):
        btf.distill_base(b.build())


def test_split_btf_that_needs_nothing() -> None:
    w = Writer()
    w.int("int", 4)
    base = btf.parse(w.to_bytes())
    b = btf.Builder(base)
    distilled, split = btf.distill_base(b.build())
    assert distilled.type_count == split.type_count == 0
    assert btf.parse(split.to_bytes(), btf.parse(distilled.to_bytes())).type_count == 0
