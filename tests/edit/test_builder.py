"""Protects the builder: libbpf's records and checks, strings, levels, copying, other orders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import btf
from btf import kinds
from support import btfwriter as bw
from support import handmade, marks, vectors
from support.btfwriter import Writer, bitfield
from support.oracles import naive_btf
from support.paths import ROOT

MAX = (1 << 32) - 1


def written_by_both(b: btf.Builder, w: Writer) -> tuple[list[int], list[int]]:
    """Every kind, by the builder and by the tests' own writer: ids of both."""
    ours = [
        b.add_int("int", 4, btf.Encoding.SIGNED),
        b.add_int("_Bool", 1, btf.Encoding.BOOL),
        b.add_int("old", 4, 0, bits=5, offset=3),
        b.add_float("double", 8),
        b.add_struct("node", 24, [("next", b.next_id + 1, 0), ("value", 1, 64)]),
        b.add_ptr(5),
        b.add_struct("bits", 8, [("a", 1, 0, 3), ("b", 1, 32)]),
        b.add_union("either", 8, [("node", 6, 0), ("", 7, 0)]),
        b.add_enum("colour", 4, [("RED", 0), ("BLUE", -1)]),
        b.add_enum("mask", 4, [("ALL", MAX)]),
        b.add_enum64("wide", 8, True, [("BIG", 1 << 40), ("SMALL", -2)]),
        b.add_enum64("top", 8, values=[("TOP", (1 << 64) - 1)]),
        b.add_fwd("s"),
        b.add_fwd("u", "union"),
        b.add_fwd("e", "enum"),
        b.add_typedef("int_t", 1),
        b.add_volatile(16),
        b.add_const(17),
        b.add_restrict(6),
        b.add_type_tag("user", 1),
        b.add_type_tag("pure", 1, attribute=True),
        b.add_array(1, 16, 7),
        b.add_func_proto(0, [("self", 6), ("", 1)], variadic=True),
        b.add_func("node", btf.Linkage.GLOBAL, 23),
        b.add_var("the_node", btf.Linkage.EXTERN, 5),
        b.add_datasec(".data", 24, [(25, 0, 24)]),
        b.add_decl_tag("percpu", 25),
        b.add_decl_tag("guarded", 5, 1, attribute=True),
    ]
    theirs = [
        w.int("int", 4),
        w.int("_Bool", 1, bw.BOOL),
        w.int("old", 4, 0, bits=5, offset=3),
        w.float("double", 8),
        w.struct("node", 24, [("next", w.next_id + 1, 0), ("value", 1, 64)]),
        w.ptr(5),
        w.struct("bits", 8, [("a", 1, bitfield(3, 0)), ("b", 1, 32)], kind_flag=1),
        w.union("either", 8, [("node", 6, 0), ("", 7, 0)]),
        w.enum("colour", 4, [("RED", 0), ("BLUE", -1)], signed=True),
        w.enum("mask", 4, [("ALL", MAX)]),
        w.enum64("wide", 8, [("BIG", 1 << 40), ("SMALL", -2)], signed=True),
        w.enum64("top", 8, [("TOP", (1 << 64) - 1)]),
        w.fwd("s"),
        w.fwd("u", union=True),
        w.enum("e", 4),
        w.typedef("int_t", 1),
        w.volatile(16),
        w.const(17),
        w.restrict(6),
        w.type_tag("user", 1),
        w.type_tag("pure", 1, attribute=True),
        w.array(16, 1, 7),
        w.func_proto(0, [("self", 6), ("", 1)], variadic=True),
        w.func("node", 23, bw.GLOBAL),
        w.var("the_node", 5, bw.EXTERN),
        w.datasec(".data", 24, [(25, 0, 24)]),
        w.decl_tag("percpu", 25),
        w.decl_tag("guarded", 5, 1, attribute=True),
    ]
    return ours, theirs


@pytest.mark.parametrize(("byteorder", "order"), [("little", "<"), ("big", ">")])
def test_every_kind_byte_for_byte(byteorder: str, order: str) -> None:
    b, w = btf.Builder(byteorder=byteorder), Writer(order)
    ours, theirs = written_by_both(b, w)
    assert ours == theirs == list(range(1, 29))
    assert b.build().to_bytes() == w.to_bytes()


def test_elements_one_by_one_are_the_same() -> None:
    b, whole = btf.Builder(), btf.Builder()
    b.add_struct("s", 8)
    b.add_field("a", 1, 0)
    b.add_field("b", 1, 32, 4)
    b.add_enum("e", 4)
    b.add_enum_value("X", -5)
    b.add_enum64("f", 8, True)
    b.add_enum64_value("Y", -5)
    b.add_func_proto(1)
    b.add_func_param("p", 1)
    b.add_func_param("", 0)
    b.add_var("v", 1, 1)
    b.add_datasec(".bss", 8)
    b.add_datasec_var_info(5, 4, 4)
    whole.add_struct("s", 8, [("a", 1, 0), ("b", 1, 32, 4)])
    whole.add_enum("e", 4, [("X", -5)])
    whole.add_enum64("f", 8, True, [("Y", -5)])
    whole.add_func_proto(1, [("p", 1)], variadic=True)
    whole.add_var("v", 1, 1)
    whole.add_datasec(".bss", 8, [(5, 4, 4)])
    assert b.build().to_bytes() == whole.build().to_bytes()


Call = Callable[[btf.Builder], Any]
WRONG: list[tuple[str, Call]] = [
    ("has a name", lambda b: b.add_int("", 4)),
    ("has a name", lambda b: b.add_float("", 4)),
    ("has a name", lambda b: b.add_fwd("")),
    ("has a name", lambda b: b.add_typedef("", 1)),
    ("has a name", lambda b: b.add_type_tag("", 1)),
    ("has a name", lambda b: b.add_decl_tag("", 1)),
    ("has a name", lambda b: b.add_func("", 0, 1)),
    ("has a name", lambda b: b.add_var("", 0, 1)),
    ("has a name", lambda b: b.add_datasec("", 0)),
    ("has a name", lambda b: b.add_enum("e", 4, [("", 1)])),
    ("has a name", lambda b: b.add_enum64("e", 8, False, [("", 1)])),
    ("a power of two up to 16, not 3", lambda b: b.add_int("i", 3)),
    ("a power of two up to 16, not 32", lambda b: b.add_int("i", 32)),
    ("a power of two up to 16, not 0", lambda b: b.add_int("i", 0)),
    ("SIGNED, CHAR and BOOL, not 0x8", lambda b: b.add_int("i", 4, 8)),
    ("33 bits at 0 are not inside", lambda b: b.add_int("i", 4, bits=33)),
    ("8 bits at 30 are not inside", lambda b: b.add_int("i", 4, bits=8, offset=30)),
    ("2, 4, 8, 12 or 16 bytes, not 10", lambda b: b.add_float("f", 10)),
    ("-1 is no type id", lambda b: b.add_ptr(-1)),
    ("is no type id", lambda b: b.add_const(1 << 31)),
    ("is no type id", lambda b: b.add_array(1 << 31, 1, 1)),
    ("is no type id", lambda b: b.add_struct("s", 4, [("a", -1, 0)])),
    ("nelems is 4294967296", lambda b: b.add_array(1, 1, 1 << 32)),
    ("size is -1", lambda b: b.add_struct("s", -1)),
    ("struct, union or enum|struct or union or enum", lambda b: b.add_fwd("f", "typedef")),
    ("1 to 255 bits", lambda b: b.add_struct("s", 4, [("a", 1, 3)])),
    ("1 to 255 bits", lambda b: b.add_struct("s", 4, [("a", 1, 0, 256)])),
    ("offset below 16777216", lambda b: b.add_struct("s", 4, [("a", 1, 1 << 24, 1)])),
    ("no room for a member at bit 16777216",
     lambda b: b.add_struct("s", 4, [("a", 1, 1 << 24), ("b", 1, 0, 1)])),
    ("no room for a member at bit 16777216",
     lambda b: b.add_struct("s", 4, [("b", 1, 0, 1), ("a", 1, 1 << 24)])),
    ("members of a union are at offset 0", lambda b: b.add_union("u", 4, [("a", 1, 8)])),
    ("bit_offset is 4294967296", lambda b: b.add_struct("s", 4, [("a", 1, 1 << 32)])),
    ("up to 8, not 16", lambda b: b.add_enum("e", 16)),
    ("up to 8, not 6", lambda b: b.add_enum64("e", 6)),
    ("does not fit into 32 bits", lambda b: b.add_enum("e", 4, [("A", 1 << 32)])),
    ("does not fit into 32 bits", lambda b: b.add_enum("e", 4, [("A", -(1 << 31) - 1)])),
    ("does not fit into unsigned 64", lambda b: b.add_enum64("e", 8, False, [("A", -1)])),
    ("does not fit into signed 64", lambda b: b.add_enum64("e", 8, True, [("A", 1 << 63)])),
    ("3 is not a valid Linkage", lambda b: b.add_func("f", 3, 1)),
    ("3 is not a valid Linkage", lambda b: b.add_var("v", 3, 1)),
    ("a component index is -1 or more", lambda b: b.add_decl_tag("d", 1, -2)),
    ("added last is no struct or union", lambda b: b.add_field("a", 1, 0)),
    ("added last is no enum", lambda b: b.add_enum_value("A", 0)),
    ("added last is no 64-bit enum", lambda b: b.add_enum64_value("A", 0)),
    ("added last is no function signature", lambda b: b.add_func_param("p", 1)),
    ("added last is no data section", lambda b: b.add_datasec_var_info(1, 0, 4)),
    ("there is a NUL", lambda b: b.add_int("a\0b", 4)),
    ("there is a NUL", lambda b: b.add_struct("s", 4, [("a\0b", 1, 0)])),
]  # fmt: skip


@pytest.mark.parametrize(("message", "call"), WRONG)
def test_what_libbpf_refuses_is_refused(message: str, call: Call) -> None:
    b = btf.Builder()
    b.add_int("int", 4)
    with pytest.raises(ValueError, match=message):
        call(b)
    assert b.next_id == 2, "a type that is refused leaves nothing behind"
    b.add_ptr(1)
    assert [t.kind for t in b.build()] == [kinds.VOID, kinds.INT, kinds.PTR]


def test_an_empty_builder_has_no_last_type() -> None:
    with pytest.raises(ValueError, match="added last"):
        btf.Builder().add_field("a", 1, 0)


def test_build_checks_the_whole() -> None:
    b = btf.Builder()
    b.add_ptr(2)
    with pytest.raises(btf.BtfError, match=r"mine, .*type \[1\]: refers to type \[2\]"):
        b.build(path="mine")
    b.add_func("f", 0, 1)
    with pytest.raises(btf.BtfError, match="no FUNC_PROTO"):
        b.build()
    assert btf.Builder().build().to_bytes() == Writer().to_bytes()


def test_strings_are_those_of_the_deepest_base_first() -> None:
    first = btf.Builder()
    first.add_int("int", 4)
    first.add_string("shared")
    base = first.build()
    second = btf.Builder(base)
    second.add_typedef("own", 1)
    middle = second.build()
    third = btf.Builder(middle)
    assert third.next_id == 3 and third.base is middle
    assert third.add_string("int") == 1 and third.find_string("shared") == 5
    assert third.add_string("own") == base.str_end == third.find_string(b"own")
    assert third.find_string("new") is None and third.find_string("") == 0
    assert third.add_string("new") == middle.str_end == third.add_string("new")
    assert third.add_struct("int", 4, [("own", 2, 0), ("new", base[1], 0)]) == 3
    top: Any = third.build()
    assert top.string_section() == b"new\0" and top[3].members[1].type == base[1]
    assert middle.string_section() == b"own\0"
    again = btf.parse(top.to_bytes(), middle)
    assert again.words.tolist() == top.words.tolist()


def test_many_strings() -> None:
    """The pool grows, however large one string is."""
    b = btf.Builder()
    for number in range(3000):
        b.add_typedef(f"name_{number % 1500}", 0)
    b.add_typedef("x" * 50_000, 0)
    made = b.build()
    assert len(made.string_section()) == 1 + sum(len(f"name_{n}") + 1 for n in range(1500)) + 50_001
    assert [t.id for t in made.find_all("name_7")] == [8, 1508]
    assert made[3001].name == "x" * 50_000


def test_byte_orders_do_not_mix() -> None:
    big = btf.Builder(byteorder="big").build()
    with pytest.raises(ValueError, match="little-endian BTF cannot continue a big-endian"):
        btf.Builder(big, byteorder="little")
    with pytest.raises(ValueError, match="'little' or 'big'"):
        btf.Builder(byteorder="native")
    assert btf.Builder(big).byteorder == "big"
    with pytest.raises(btf.UnsupportedError, match="big-endian BTF cannot be added"):
        btf.Builder(byteorder="little").add_btf(big)


# ------------------------------------------------------------------------------- other BTF


def test_add_btf_moves_references_and_maps_strings() -> None:
    w = Writer()
    handmade.every_kind(w)
    source = btf.parse(w.to_bytes())
    b = btf.Builder()
    b.add_int("unsigned int", 4)
    b.add_string("next")
    assert b.add_btf(source) == 2 and b.add_btf(source) == 2 + source.type_count
    made = b.build()
    for first in (2, 2 + source.type_count):
        for t in source.own_types():
            moved = made[first + t.id - 1]
            assert type(moved) is type(t) and moved.name == t.name and moved.vlen == t.vlen
            if isinstance(t, btf.Composite):
                assert isinstance(moved, btf.Composite)
                assert [(m.name, m.bit_offset, m.bitfield_size) for m in moved.members] == [
                    (m.name, m.bit_offset, m.bitfield_size) for m in t.members
                ]
                assert [m.type_id for m in moved.members] == [
                    m.type_id and m.type_id + first - 1 for m in t.members
                ]
    strings = made.string_section().split(b"\0")[:-1]
    assert len(strings) == len(set(strings))


def test_add_btf_of_split_needs_its_own_base() -> None:
    base_builder = btf.Builder()
    i = base_builder.add_int("int", 4)
    base = base_builder.build()
    split_builder = btf.Builder(base)
    split_builder.add_struct("s", 8, [("int", i, 0), ("other", split_builder.next_id + 1, 64)])
    split_builder.add_ptr(split_builder.next_id - 1)
    split = split_builder.build()

    b = btf.Builder(btf.parse(base.to_bytes()))  # the same content is the same base
    b.add_const(i)
    assert b.add_btf(split) == 3
    made: Any = b.build()
    assert [m.type_id for m in made[3].members] == [1, 4] and made[4].type_id == 3
    assert made[3].members[0].name == "int" and made.string_section() == b"s\0other\0"

    other = btf.Builder()
    other.add_int("long", 8)
    for wrong in (btf.Builder(), btf.Builder(other.build())):
        with pytest.raises(btf.UnsupportedError, match="its own base"):
            wrong.add_btf(split)


def test_unknown_kinds_are_not_copied() -> None:
    w = Writer()
    w.type(21, "strange")
    strange = btf.parse(w.to_bytes(header_bytes=32, layout=bw.full_layout(22)))
    with pytest.raises(btf.UnsupportedError, match=r"type \[1\]: kind 21 .* added to another"):
        btf.Builder().add_btf(strange)
    with pytest.raises(btf.UnsupportedError, match="cannot be copied"):
        btf.Builder().add_type(strange[1])
    with pytest.raises(btf.UnsupportedError, match="renumbered"):
        btf.permute(strange, [1])


def test_add_btf_whose_names_begin_inside_others() -> None:
    """One long string, a type named by each of its ends: more text than the source has."""
    w = Writer()
    start = w.string("abcdefghijklmnopqrstuvwxyz" * 40)
    for at in range(26 * 40):
        w.typedef(start + at, 0)
    source = btf.parse(w.to_bytes())
    b = btf.Builder()
    b.add_string("z")
    b.add_btf(source)
    made = b.build()
    assert [t.name for t in made.own_types()] == [t.name for t in source.own_types()]


# The method for each kind, with the fields of its object alone.
BY_NAMED_METHODS: dict[type[btf.Type], Callable[[btf.Builder, Any], int]] = {
    btf.Int: lambda b, t: b.add_int(t.name, t.size, t.encoding, bits=t.bits, offset=t.offset),
    btf.Float: lambda b, t: b.add_float(t.name, t.size),
    btf.Ptr: lambda b, t: b.add_ptr(t.type),
    btf.Typedef: lambda b, t: b.add_typedef(t.name, t.type_id),
    btf.Volatile: lambda b, t: b.add_volatile(t.type_id),
    btf.Const: lambda b, t: b.add_const(t.type_id),
    btf.Restrict: lambda b, t: b.add_restrict(t.type_id),
    btf.TypeTag: lambda b, t: b.add_type_tag(t.name, t.type_id, attribute=t.is_attribute),
    btf.DeclTag: lambda b, t: b.add_decl_tag(
        t.name, t.type_id, t.component_index, attribute=t.is_attribute
    ),
    btf.Array: lambda b, t: b.add_array(t.index_type_id, t.type_id, t.nelems),
    btf.Struct: lambda b, t: b.add_struct(t.name, t.size, t.members, bit_fields=t.kind_flag),
    btf.Union: lambda b, t: b.add_union(t.name, t.size, t.members, bit_fields=t.kind_flag),
    btf.Enum: lambda b, t: b.add_enum(t.name, t.size, t.values, signed=t.is_signed),
    btf.Enum64: lambda b, t: b.add_enum64(t.name, t.size, t.is_signed, t.values),
    btf.Fwd: lambda b, t: b.add_fwd(t.name, "union" if t.is_union else "struct"),
    btf.Func: lambda b, t: b.add_func(t.name, t.linkage, t.type_id),
    btf.FuncProto: lambda b, t: b.add_func_proto(t.type_id, t.params, variadic=t.is_variadic),
    btf.Var: lambda b, t: b.add_var(t.name, t.linkage, t.type_id),
    btf.Datasec: lambda b, t: b.add_datasec(t.name, t.size, t.entries),
}


def graph(data: bytes, base: naive_btf.Btf | None = None) -> list[list[Any]]:
    """All own types with names as text: what stays the same however strings are laid out."""
    parsed = naive_btf.parse(data, base)
    types = []
    for record in parsed.types:
        words: list[Any] = list(record)
        for at in naive_btf.string_words(record):
            words[at] = parsed.text(record[at])
        types.append(words)
    return types


def copied(source: btf.BTF, base: btf.BTF | None = None) -> tuple[btf.BTF, int]:
    """Objects to builder to bytes to BTF; and how many types only ``add_type`` could take."""
    b, raw = btf.Builder(base, byteorder=source.byteorder), 0
    for t in source.own_types():
        try:
            new = BY_NAMED_METHODS[type(t)](b, t)
        except ValueError:
            new, raw = b.add_type(t), raw + 1
        assert new == t.id
    return btf.parse(b.build().to_bytes(), base), raw


@pytest.mark.parametrize("name", marks.vector_names())
def test_parse_objects_builder_write_parse_is_the_same_graph(name: str) -> None:
    case = vectors.build(name)
    base = btf.parse(case.base)
    naive_base = naive_btf.parse(case.base)
    for data in (case.base, case.module):
        assert graph(copied(btf.parse(data))[0].to_bytes()) == graph(data)
    copy, _ = copied(btf.parse(case.split, base), base)
    assert graph(copy.to_bytes(), naive_base) == graph(case.split, naive_base)


def unpacked(path: Path) -> bytes:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["demo", "demo-s390x"])
def test_real_modules_survive_objects_and_builder(folder: str) -> None:
    """Through the methods of the kinds alone: what real compilers write, those accept."""
    paths = sorted((ROOT / "datasets" / folder / "modules").glob("*.zst"))
    assert paths
    for path in paths[:: max(1, len(paths) // 4)]:
        data = unpacked(path)
        copy, raw = copied(btf.parse(data))
        assert raw == 0 and graph(copy.to_bytes()) == graph(data), path.name


def test_add_type_with_new_ids() -> None:
    b = btf.Builder()
    i = b.add_int("int", 4)
    s = b.add_struct("s", 16, [("next", 3, 0), ("n", i, 64)])
    b.add_ptr(s)
    source = b.build()
    part = btf.Builder()
    ids = {3: 1, 2: 2, 1: 3}
    for old in ids:
        part.add_type(source[old], ids)
    made: Any = part.build()
    assert made[2].members[0].type == made[1] and made[1].type == made[2]
    assert made[2].members[1].type.name == "int"


# ------------------------------------------------------------------------------- order


@pytest.mark.parametrize("name", ["all-kinds-new", "all-kinds-known-be", "seed-3", "seed-7"])
def test_permute_moves_types_and_references(name: str) -> None:
    case = vectors.build(name)
    base = btf.parse(case.base)
    for source, below in ((base, None), (btf.parse(case.split, base), base)):
        order = list(range(source.start_id, source.type_end))[::-1]
        result = btf.permute(source, order)
        assert [int(result.id_map[old]) for old in order] == list(
            range(source.start_id, source.type_end)
        )
        assert list(result.id_map[: source.start_id]) == list(range(source.start_id))
        moved = btf.parse(result.btf.to_bytes(), below)
        assert moved.string_section() == source.string_section()
        for t in source.own_types():
            new = moved[int(result.id_map[t.id])]
            words, refs = list(t.words), naive_btf.id_words(list(t.words))
            for at in refs:
                words[at] = int(result.id_map[words[at]])
            assert list(new.words) == words
        back = btf.permute(result.btf, result.id_map[source.start_id :].tolist()).btf
        assert back.to_bytes() == source.to_bytes()


def test_permute_refuses_what_is_no_order() -> None:
    b = btf.Builder()
    b.add_ptr(0)
    b.add_ptr(1)
    source = b.build()
    for order in ([1], [1, 1], [0, 1], [2, 3], [1, 2, 3], []):
        with pytest.raises(ValueError, match=r"each of the types \[1\] to \[2\] once"):
            btf.permute(source, order)


@pytest.mark.slow
def test_sort_by_name(demo_btf: Callable[[str], bytes]) -> None:
    """Anonymous types first, names by their bytes, equal names in their old order."""
    vmlinux = btf.parse(demo_btf("vmlinux"))
    result = btf.sort_by_name(vmlinux)
    names = [result.btf.string_bytes(t.name_off) for t in result.btf.own_types()]
    assert names == sorted(names) and names[0] == b"" and names[-1] != b""
    old = np.argsort(result.id_map)[1:]
    for (name, first), (following, second) in zip(
        zip(names, old, strict=True), zip(names[1:], old[1:], strict=True), strict=False
    ):
        assert name != following or first < second
    assert (
        result.btf.find("task_struct", btf.Struct).size
        == vmlinux.find("task_struct", btf.Struct).size
    )
    again = btf.parse(result.btf.to_bytes())
    assert again.type_count == vmlinux.type_count
