"""Protects ``btf.unmerged_types``: why a type stayed, the path to its root cause, what that keeps.

What a root cause keeps is not computed as ``mending.py`` defines it, so every test here holds the
one to the other: for each root cause found, mend it, deduplicate again, and look what is gone.
"""

from __future__ import annotations

import btf
from btf.compare import reasons
from support import btfwriter as bw
from support.btfwriter import GLOBAL, Writer, bitfield
from support.misses import Write, found, pointer_holder

# -- the cases of everyday


def test_nothing_stayed() -> None:
    def write(w: Writer) -> None:
        pointer_holder(w, "holder", w.struct("s", 4, [("x", w.int("int", 4), 0)]))

    assert found(write, write).rows == []
    assert found(write, lambda w: w.struct("other", 4, [("x", w.int("int", 4), 0)])).rows == []


def test_a_name_clash_in_a_driver_drags_core_structs_along() -> None:
    """Core headers only declare ``struct ring``; the driver defines one of its own by that name."""

    def core(w: Writer, ring: int) -> None:
        dev = pointer_holder(w, "device", ring)
        bus = pointer_holder(w, "bus", dev)
        w.func_proto(0, [("bus", w.ptr(bus))])
        pointer_holder(w, "unconcerned", w.int("int", 4))

    def base(w: Writer) -> None:
        core(w, w.struct("ring", 8, [("head", w.int("unsigned int", 4, 0), 0)]))

    def driver(w: Writer) -> None:
        i = w.int("int", 4)
        core(w, w.struct("ring", 48, [("regs", i, 0), ("irq", i, 32)]))

    seen = found(base, driver)
    assert sorted(seen.names) == ["bus", "device", "ring"]
    difference = (
        "struct ring: 8 bytes in vmlinux, 48 in the module; members: 1 in vmlinux, 2 in the "
        "module; no member in common: another type of this name"
    )
    assert seen.line("ring") == f"members | {difference}"
    assert seen.line("device") == f"member_type | device.p → {difference}"
    assert seen.line("bus") == f"member_type | bus.p → device.p → {difference}"
    assert len({id(row.root) for row in seen.rows}) == 1 and all(row.sole for row in seen.rows)
    # the three structs, the pointers to them, and the prototype
    assert seen.kept("bus")[0] == 3 + 3 + 1


def test_the_base_declares_what_the_module_defines() -> None:
    """The first struct that leads there stays, the others do not; and neither do core structs
    when the module only declares it, too."""

    def core(w: Writer, ipvs: int) -> None:
        net = pointer_holder(w, "net", ipvs)
        task = pointer_holder(w, "task", net)
        pointer_holder(w, "file", task)
        w.func_proto(0, [("net", w.ptr(net))])

    def base(w: Writer) -> None:
        core(w, w.fwd("ipvs"))

    def module(w: Writer) -> None:
        core(w, w.struct("ipvs", 4, [("x", w.int("int", 4), 0)]))

    seen = found(base, module)
    assert seen.names == ["ipvs", "net"]
    words = "struct ipvs: vmlinux has only a forward declaration, the module the definition"
    assert seen.line("ipvs") == f"declared | {words}"
    assert seen.line("net") == f"declared | net.p → {words}"
    assert all(row.sole for row in seen.rows)
    assert found(base, base).rows == []

    def far(w: Writer) -> None:  # the first one is far from the definition
        first = w.next_id
        w.struct("file", 8, [("p", first + 1, 0)])
        w.ptr(first + 2)
        w.struct("task", 8, [("p", first + 3, 0)])
        w.ptr(first + 4)
        w.struct("net", 8, [("p", first + 5, 0)])
        w.ptr(first + 6)
        w.struct("ipvs", 4, [("x", w.next_id + 1, 0)])
        w.int("int", 4)

    seen = found(base, far)
    assert seen.names == ["file", "ipvs"]
    assert seen.line("file") == f"declared | file.p → task.p → net.p → {words}"


def test_two_definitions_behind_one_first_struct() -> None:
    """A struct that would stay because of either goes with neither of them alone."""

    def core(w: Writer, first: int, second: int) -> None:
        w.struct("net", 16, [("a", w.ptr(first), 0), ("b", w.ptr(second), 64)])

    def base(w: Writer) -> None:
        core(w, w.fwd("a"), w.fwd("b"))

    def module(w: Writer) -> None:
        i = w.int("int", 4)
        core(w, w.struct("a", 4, [("x", i, 0)]), w.struct("b", 4, [("y", i, 0)]))

    seen = found(base, module)
    assert sorted(seen.names) == ["a", "b", "net"]
    assert (seen.row("net").sole, seen.row("a").sole, seen.row("b").sole) == (False, True, True)


def test_two_definitions_of_what_the_base_only_declares() -> None:
    """The first one takes the declaration's place; all that leads to the second one stays."""

    def core(w: Writer, ipvs: int, *names: str) -> None:
        for name in names:
            pointer_holder(w, name, ipvs)

    def base(w: Writer) -> None:
        core(w, w.fwd("ipvs"), "net", "task", "sock", "file", "page")

    def module(w: Writer) -> None:
        i = w.int("int", 4)
        core(w, w.struct("ipvs", 4, [("x", i, 0)]), "net", "task")
        core(w, w.struct("ipvs", 8, [("y", i, 0), ("z", i, 32)]), "sock", "file", "page")

    seen = found(base, module)
    assert sorted(seen.names) == ["file", "ipvs", "ipvs", "net", "page", "sock"]
    words = "struct ipvs: vmlinux has only a forward declaration, the module 2 definitions"
    assert seen.line("net") == f"declared | net.p → {words}"
    for name in ("sock", "file", "page"):
        assert seen.line(name) == f"several | {name}.p → {words}"
        assert seen.row(name).root is not seen.row("net").root and seen.row(name).sole
    assert seen.kept("page")[0] == 5  # the second definition, the pointer to it, three structs
    assert seen.row("net").sole


def test_a_member_type_changed_three_levels_down() -> None:
    def core(w: Writer, size: int) -> None:
        long = w.int("long int", 8)
        names = ("x", "y", "z", "u", "v", "w")[: size // 8]
        bar = w.struct("bar", size, [(name, long, 64 * at) for at, name in enumerate(names)])
        ops = w.struct("ops", 8, [("open", w.ptr(w.func_proto(long, [("it", w.ptr(bar))])), 0)])
        net = w.struct("net_device", 16, [("foo", w.array(w.const(w.ptr(ops)), long, 2), 0)])
        w.typedef("skb_t", w.struct("sk_buff", 8, [("dev", w.ptr(net), 0)]))

    seen = found(lambda w: core(w, 48), lambda w: core(w, 16))
    assert seen.line("sk_buff") == (
        "member_type | sk_buff.dev → net_device.foo[] → ops.open(it) → struct bar: "
        "48 bytes in vmlinux, 16 in the module; members: 6 in vmlinux, 2 in the module; "
        "`z`, `u`, `v` and 1 more only in vmlinux"
    )
    assert seen.line("skb_t").startswith("target | skb_t → sk_buff.dev → net_device.foo[] → ops")
    assert seen.row("bar").path == "struct bar"
    assert {row.root.type_id for row in seen.rows} == {seen.row("bar").type_id}
    assert seen.kept("bar")[0] == len(seen.bench.kept)


def test_what_grows_because_it_embeds_the_root_cause() -> None:
    """Its size and the places of its members differ, but it is not to blame, and goes as well."""

    def core(w: Writer, count: int) -> None:
        i = w.int("int", 4)
        size = 4 * count
        inner = w.struct("inner", size, [(f"x{at}", i, 32 * at) for at in range(count)])
        pair = w.array(w.typedef("inner_t", inner), i, 2)
        outer = w.struct(
            "outer", 2 * size + 8, [("id", i, 0), ("pair", pair, 32), ("end", i, 32 + 16 * size)]
        )
        w.union("either", 2 * size + 8, [("outer", outer, 0), ("i", i, 0)])
        pointer_holder(w, "user", outer)

    seen = found(lambda w: core(w, 3), lambda w: core(w, 2))
    assert sorted(seen.names) == ["either", "inner", "inner_t", "outer", "user"]
    assert {row.root.type_id for row in seen.rows} == {seen.row("inner").type_id}
    assert seen.row("either").path == "either.outer → outer.pair[] → inner_t → struct inner"
    assert all(row.sole for row in seen.rows)


def test_a_declaration_of_what_grows() -> None:
    """It became the struct that grows, and has neither its size nor its members to be mended."""

    def core(w: Writer, count: int) -> None:
        early = w.fwd("outer") if count == 2 else 0
        i = w.int("int", 4)
        w.struct("twice", 4, [("a", i, 0)])
        if early:
            pointer_holder(w, "own", early)
            w.struct("twice", 4, [("b", i, 0)])  # so that all records count, not one of each type
        inner = w.struct("inner", 4 * count, [("x", i, 0)])
        outer = w.struct("outer", 4 * count + 4, [("a", inner, 0), ("end", i, 32 * count)])
        pointer_holder(w, "own" if early else "user", outer)

    seen = found(lambda w: core(w, 3), lambda w: core(w, 2))
    assert sorted(seen.names) == ["inner", "outer", "twice"]
    assert seen.kept("inner")[0] == 3  # it, outer, and the pointer to that


def test_members_that_moved_for_no_reason_inside() -> None:
    def core(w: Writer, at: int) -> None:
        i = w.int("int", 4)
        pointer_holder(w, "user", w.struct("s", 16, [("a", i, 0), ("b", i, at)]))

    seen = found(lambda w: core(w, 32), lambda w: core(w, 64))
    assert seen.line("user") == (
        "member_type | user.p → struct s: `b`: at byte 4 in vmlinux, at byte 8 in the module"
    )


def test_a_bit_field_moved() -> None:
    def core(w: Writer, at: int) -> None:
        fields = [("up", w.int("unsigned int", 4, 0), bitfield(1, at))]
        pointer_holder(w, "user", w.struct("flags", 4, fields, kind_flag=1))

    seen = found(lambda w: core(w, 0), lambda w: core(w, 3))
    assert seen.line("flags") == (
        "bitfield | struct flags: `up`: at bit 0 in vmlinux, at bit 3 in the module"
    )
    assert seen.line("user").startswith("member_type | user.p → struct flags")


def test_anonymous_members_are_part_of_their_struct() -> None:
    def core(w: Writer, name: str) -> None:
        i = w.int("int", 4)
        union = w.union(0, 8, [("a", i, 0), (name, w.ptr(i), 0)])
        page = w.struct("page", 16, [("", w.struct(0, 16, [("u", union, 0), ("", union, 64)]), 0)])
        pointer_holder(w, "folio", page)

    seen = found(lambda w: core(w, "b"), lambda w: core(w, "c"))
    assert sorted(seen.names) == ["folio", "page"]
    assert seen.line("folio") == (
        "members | folio.p → struct page: in the anonymous union `u`: "
        "`b` only in vmlinux; `c` only in the module"
    ).replace("members |", "member_type |")
    # The anonymous types and the pointer to int inside page are kept by it, too.
    assert seen.kept("page")[0] == len(seen.bench.kept)


def test_enum_against_enum64() -> None:
    def core(w: Writer, mode: int) -> None:
        pointer_holder(w, "user", mode)

    seen = found(
        lambda w: core(w, w.enum("mode", 8, [("A", 0)])),
        lambda w: core(w, w.enum64("mode", 8, [("A", 0)])),
    )
    assert seen.line("mode") == (
        "kind | enum mode: enum mode in vmlinux, enum64 mode in the module"
    )
    assert seen.line("user").startswith("member_type | user.p → enum mode")


def test_enumerators_and_forward_enums() -> None:
    def core(w: Writer, mode: int) -> None:
        pointer_holder(w, "user", mode)

    def values(*given: tuple[str, int]) -> Write:
        return lambda w: core(w, w.enum("mode", 4, given))

    seen = found(values(("A", 0)), values(("A", 0), ("B", 1)))
    assert seen.line("user") == ("member_type | user.p → enum mode: `B` only in the module")
    # A forward enum equals any definition: only the enum and the pointer to it stay.
    seen = found(values(), values(("A", 0)))
    assert seen.names == ["mode"] and seen.kept("mode")[0] == 2
    assert seen.line("mode").endswith(
        "vmlinux has only a forward declaration, the module the definition"
    )


def test_identical_shape_and_different_name() -> None:
    def core(w: Writer, name: str) -> None:
        pointer_holder(w, "user", w.struct(name, 4, [("x", w.int("int", 4), 0)]))

    seen = found(lambda w: core(w, "foo"), lambda w: core(w, "bar"))
    assert seen.names == ["user"]
    assert seen.line("user") == (
        "member_type | struct user: `p`: struct foo * in vmlinux, struct bar * in the module, "
        "of the same shape"
    )


def test_tags_share_a_name_space_and_other_names_do_not() -> None:
    def base(w: Writer) -> None:
        i = w.int("int", 4)
        w.struct("map", 4, [("x", i, 0)])
        w.typedef("mac", i)
        w.float("double", 8)

    def module(w: Writer) -> None:
        i = w.int("int", 4)
        w.union("map", 4, [("x", i, 0)])
        w.struct("mac", 4, [("x", i, 0)])
        w.int("double", 8, 0)

    seen = found(base, module)
    assert sorted(seen.names) == ["double", "map"]
    assert seen.line("map") == "kind | union map: struct map in vmlinux, union map in the module"
    assert seen.line("double") == "kind | double: float double in vmlinux, int double in the module"


def test_functions_variables_and_sections() -> None:
    def write(w: Writer, name: str, linkage: int = GLOBAL) -> None:
        i = w.int("int", 4)
        w.func("show", w.func_proto(i, [(name, i)]))
        w.func("probe", w.func_proto(i), linkage)
        v = w.var("debug", i)
        w.datasec(".data", 4, [(v, 0, 4)])

    seen = found(lambda w: write(w, "dev"), lambda w: write(w, "d", bw.STATIC))
    assert seen.line("show") == (
        "prototype | show(): parameter 1 is `dev` in vmlinux, `d` in the module"
    )
    assert seen.kept("show")[0] == 2  # it and its prototype
    assert seen.line("probe") == "linkage | probe(): global in vmlinux, static in the module"
    for name in ("debug", ".data"):
        assert seen.row(name).reason == reasons.NEVER_MERGED and seen.kept(name) == (None, None)


def test_a_declaration_that_cannot_be_bound() -> None:
    """The module declares ``struct ring`` in one file and defines another one in a second file."""

    def base(w: Writer) -> None:
        pointer_holder(w, "device", w.struct("ring", 4, [("x", w.int("int", 4), 0)]))

    def module(w: Writer) -> None:
        w.typedef("handle", w.ptr(w.fwd("ring")))
        w.struct("ring", 8, [("y", w.int("long int", 8), 0)])

    seen = found(base, module)
    stayed = {seen.split[row.type_id].kind_name: row for row in seen.rows}
    assert stayed["FWD"].reason == reasons.SEVERAL and stayed["FWD"].sole
    assert stayed["FWD"].path == "struct ring → struct ring"
    assert stayed["FWD"].root is stayed["STRUCT"].root
    assert stayed["STRUCT"].root.kept_types == 3  # and the pointer to the declaration


def test_several_candidates_in_the_base() -> None:
    def base(w: Writer) -> None:
        i = w.int("int", 4)
        w.struct("ring", 4, [("x", i, 0)])
        w.struct("ring", 8, [("x", i, 0), ("y", i, 32)])

    def module(w: Writer) -> None:
        w.ptr(w.fwd("ring"))

    seen = found(base, module)
    assert seen.line("ring") == "several | struct ring: vmlinux has 2 types of this name"
    assert seen.row("ring").namesakes == 2

    def third(w: Writer) -> None:
        w.struct("ring", 8, [("x", w.int("long int", 8), 0)])

    seen = found(base, third)
    assert seen.row("ring").namesakes == 2 and seen.row("ring").base_type_id == 2

    def holder(w: Writer, which: int) -> None:
        base(w)
        pointer_holder(w, "user", 1 + which)

    seen = found(lambda w: holder(w, 1), lambda w: holder(w, 2))
    assert seen.names == ["user"]
    assert seen.line("user") == (
        "member_type | user.p → struct ring: vmlinux has several types of this name: "
        "[2] here, [3] in use"
    )
    assert seen.kept("user") == (None, None)  # there is nothing of the module's to mend


def test_two_root_causes_below_one_struct() -> None:
    def core(w: Writer, size: int) -> None:
        i = w.int("int", 4)
        left = w.struct("left", size, [("x", i, 0)])
        right = w.struct("right", size, [("x", i, 0)])
        both = w.struct("both", 16, [("l", w.ptr(left), 0), ("r", w.ptr(right), 64)])
        pointer_holder(w, "far", both)
        pointer_holder(w, "near", right)

    seen = found(lambda w: core(w, 4), lambda w: core(w, 8))
    assert sorted(seen.names) == ["both", "far", "left", "near", "right"]
    assert seen.row("both").root.type_id == seen.row("left").type_id
    assert [seen.row(name).sole for name in ("both", "far", "left", "near", "right")] == [
        False, False, True, True, True
    ]  # fmt: skip


def test_a_struct_of_the_module_that_is_there_twice() -> None:
    """One file of the module sees another ``struct ring`` than the rest: what leads there is there
    twice, and once too often."""

    def core(w: Writer, ring: int) -> None:
        pointer_holder(w, "device", ring)

    def base(w: Writer) -> None:
        core(w, w.struct("ring", 4, [("x", w.int("int", 4), 0)]))

    def module(w: Writer) -> None:
        for member in ("x", "y"):
            ring = w.struct("ring", 4, [(member, w.int("int", 4), 0)])
            core(w, ring)
            private = pointer_holder(w, "private", ring, "more")
            w.func_proto(0, [("p", w.ptr(private))])
            w.typedef("handle", w.ptr(private))

    seen = found(base, module)
    assert sorted(seen.names) == ["device", "ring"]
    # ring, device; and of the private ones the second: pointer, struct, pointer, prototype, typedef
    assert seen.kept("ring")[0] == 2 + 5


def test_circles() -> None:
    """Core structs that refer to each other; what differs is outside of the circle, or in it."""

    def core(w: Writer, extra: int, inside: bool) -> None:
        i = w.int("int", 4)
        ring = w.struct("ring", extra, [("x", i, 0)])
        a = w.next_id
        w.struct("a", 8 + (0 if inside else 8), [("b", a + 2, 0)] + (
            [] if inside else [("ring", w.next_id + 5, 64)]))  # fmt: skip
        w.ptr(a)
        w.ptr(a + 3)
        w.struct("b", 16, [("a", a + 1, 0), ("b", a + 2, 64)])
        pointer_holder(w, "user", a)
        w.ptr(ring)

    def with_ring(size: int) -> Write:
        def write(w: Writer) -> None:
            i = w.int("int", 4)
            ring = w.struct("ring", size, [("x", i, 0)])
            to_ring = w.ptr(ring)
            a = w.next_id
            w.struct("a", 16, [("b", a + 2, 0), ("ring", to_ring, 64)])
            w.ptr(a)
            w.ptr(a + 3)
            w.struct("b", 16, [("a", a + 1, 0), ("b", a + 2, 64)])
            pointer_holder(w, "user", a)

        return write

    seen = found(with_ring(4), with_ring(8))
    assert seen.line("user") == (
        "member_type | user.p → a.ring → struct ring: 4 bytes in vmlinux, 8 in the module"
    )
    assert seen.row("b").path == "b.a → a.ring → struct ring"
    assert seen.kept("ring")[0] == len(seen.bench.kept)


def test_big_endian() -> None:
    def core(w: Writer, size: int) -> None:
        pointer_holder(w, "user", w.struct("s", size, [("x", w.int("int", 4), 0)]))

    seen = found(lambda w: core(w, 4), lambda w: core(w, 8), ">")
    assert seen.line("user") == (
        "member_type | user.p → struct s: 4 bytes in vmlinux, 8 in the module"
    )


def test_split_input() -> None:
    """A module that is split already is deduplicated once more and explained just so."""

    def core(w: Writer, size: int) -> None:
        pointer_holder(w, "user", w.struct("s", size, [("x", w.int("int", 4), 0)]))

    base = Writer()
    core(base, 4)
    module = Writer(base=base)
    core(module, 8)
    index = btf.BaseIndex.build(btf.parse(base.to_bytes()))
    opened = btf.open_module(module.to_bytes(), index)
    assert opened.form == "split"
    result = btf.dedup_module(opened, index)
    rows = btf.unmerged_types(opened.btf, result, index)
    assert [result.btf[row.type_id].name for row in rows] == ["s", "user"]
    assert rows[1].path == "user.p → struct s" and rows[1].root.kept_types == 3


def test_a_base_that_holds_a_name_twice() -> None:
    """libbpf compares names by where they stand: a type called by the second place equals none."""

    def base(w: Writer) -> None:
        again = w.string("s", fresh=True)
        assert again != w.string("s", fresh=True)
        w.struct(again + 2, 4, [("x", w.int("int", 4), 0)])

    def module(w: Writer) -> None:
        w.struct("s", 4, [("x", w.int("int", 4), 0)])

    seen = found(base, module)
    assert seen.names == ["s"] and seen.row("s").reason == reasons.STRINGS
