"""Protects the object view: every field of every kind, names, numbering over base and split."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import btf
from btf import kinds
from support import btfwriter as bw
from support import handmade, vectors
from support.btfwriter import Writer, bitfield
from support.oracles import naive_btf
from support.paths import ROOT
from support.writers.elfwriter import elf


def made(
    write: Callable[[Writer], Any],
    order: str = "<",
    base: btf.BTF | None = None,
    over: Writer | None = None,
) -> tuple[Any, Any]:
    """(parsed BTF, what ``write`` returned)."""
    writer = Writer(order, base=over)
    returned = write(writer)
    return btf.parse(writer.to_bytes(), base), returned


@pytest.mark.parametrize("order", ["<", ">"])
def test_fields_of_every_kind(order: str) -> None:
    def write(w: Writer) -> dict[str, int]:
        i = w.int("int", 4, bw.SIGNED)
        f = w.float("double", 8)
        p = w.ptr(i)
        node = w.next_id
        ids = {"int": i, "float": f, "ptr": p, "struct": node}
        w.struct("node", 24, [("next", node + 1, 0), ("a", i, 64), ("b", i, 96)])
        ids["array"] = w.array(node, i, 3)
        members = [("low", i, bitfield(3, 0)), ("", p, bitfield(0, 64))]
        ids["fields"] = w.struct("fields", 16, members, kind_flag=1)
        ids["union"] = w.union("either", 8, [("p", p, 0), ("i", i, 0)])
        ids["enum"] = w.enum("colour", 4, [("RED", 0), ("BLUE", -1)], signed=True)
        ids["flags"] = w.enum("flags", 1, [("ALL", 0xFFFFFFFF)])
        ids["enum64"] = w.enum64("wide", 8, [("BIG", 1 << 40), ("LOW", -2)], signed=True)
        ids["big"] = w.enum64("big", 8, [("TOP", (1 << 64) - 1)])
        ids["fwd"], ids["fwd_union"] = w.fwd("elsewhere"), w.fwd("other", union=True)
        ids["typedef"] = w.typedef("number_t", i)
        ids["volatile"] = w.volatile(ids["typedef"])
        ids["const"] = w.const(ids["volatile"])
        ids["restrict"] = w.restrict(p)
        ids["tag"], ids["attribute"] = w.type_tag("rcu", i), w.type_tag("pure", i, attribute=True)
        ids["proto"] = w.func_proto(0, [("self", p), ("", i)], variadic=True)
        ids["plain_proto"] = w.func_proto(i, [("self", p)])
        ids["func"] = w.func("do_it", ids["proto"], bw.EXTERN)
        ids["var"] = w.var("counter", i, bw.GLOBAL)
        ids["datasec"] = w.datasec(".data", 32, [(ids["var"], 8, 4)])
        ids["decl"] = w.decl_tag("percpu", ids["var"])
        ids["decl1"] = w.decl_tag("guarded", node, 1, attribute=True)
        return ids

    b, ids = made(write, order)
    t = {name: b[type_id] for name, type_id in ids.items()}
    assert all(t[name].id == type_id and t[name].btf is b for name, type_id in ids.items())

    integer = t["int"]
    assert isinstance(integer, btf.Int) and integer.name == "int" and integer.size == 4
    assert integer.encoding is btf.Encoding.SIGNED and integer.is_signed
    assert (integer.bits, integer.offset) == (32, 0)
    assert isinstance(t["float"], btf.Float) and t["float"].size == 8
    assert isinstance(t["ptr"], btf.Ptr) and t["ptr"].type_id == ids["int"]
    assert t["ptr"].type == integer and t["ptr"].name == ""

    node = t["struct"]
    assert isinstance(node, btf.Struct) and node.size == 24 and node.vlen == 3
    first, _, last = node.members
    assert (last.name, last.type, last.bit_offset, last.byte_offset) == ("b", integer, 96, 12)
    assert last.bitfield_size == 0 and first.type == t["array"]
    low, anonymous = t["fields"].members
    assert (low.bit_offset, low.bitfield_size) == (0, 3) and t["fields"].kind_flag
    assert (anonymous.name, anonymous.bit_offset, anonymous.bitfield_size) == ("", 64, 0)
    assert isinstance(t["union"], btf.Union) and len(t["union"].members) == 2
    array = t["array"]
    assert isinstance(array, btf.Array) and array.nelems == 3
    assert (array.type, array.index_type) == (node, integer)

    assert [(v.name, v.value) for v in t["enum"].values] == [("RED", 0), ("BLUE", -1)]
    assert t["enum"].is_signed and t["enum"].size == 4 and isinstance(t["enum"], btf.Enum)
    assert t["flags"].values[0].value == 0xFFFFFFFF and t["flags"].size == 1
    assert [v.value for v in t["enum64"].values] == [1 << 40, -2]
    assert isinstance(t["enum64"], btf.Enum64) and t["big"].values[0].value == (1 << 64) - 1
    assert isinstance(t["fwd"], btf.Fwd) and not t["fwd"].is_union and t["fwd_union"].is_union

    for name, cls in (
        ("typedef", btf.Typedef), ("volatile", btf.Volatile), ("const", btf.Const),
        ("restrict", btf.Restrict), ("tag", btf.TypeTag),
    ):  # fmt: skip
        assert type(t[name]) is cls and isinstance(t[name], btf.Reference)
    assert t["const"].type == t["volatile"] and t["const"].resolve() == integer
    assert t["tag"].name == "rcu" and not t["tag"].is_attribute and t["attribute"].is_attribute

    proto = t["proto"]
    assert isinstance(proto, btf.FuncProto) and proto.is_variadic and proto.type == b[0]
    assert [(p.name, p.type_id) for p in proto.params] == [("self", ids["ptr"]), ("", ids["int"])]
    assert not t["plain_proto"].is_variadic and t["plain_proto"].params[0].type == t["ptr"]
    assert t["func"].linkage is btf.Linkage.EXTERN or t["func"].linkage == btf.Linkage.EXTERN
    assert isinstance(t["func"], btf.Func) and t["func"].type == proto
    assert isinstance(t["var"], btf.Var) and t["var"].linkage == btf.Linkage.GLOBAL
    (entry,) = t["datasec"].entries
    assert isinstance(t["datasec"], btf.Datasec) and t["datasec"].size == 32
    assert (entry.type, entry.offset, entry.size) == (t["var"], 8, 4)
    assert isinstance(t["decl"], btf.DeclTag) and t["decl"].component_index == -1
    assert t["decl1"].component_index == 1 and t["decl1"].is_attribute
    assert isinstance(b[0], btf.Void) and b[0].name == ""


def test_repr_is_for_reading() -> None:
    def write(w: Writer) -> None:
        i = w.int("int", 4)  # 1
        w.struct("node", 16, [("next", 3, 0), ("flag", i, 64)])  # 2
        w.ptr(2)  # 3
        w.const(3)  # 4
        w.array(4, i, 2)  # 5
        w.struct("", 4, [("a", i, bitfield(3, 4))], kind_flag=1)  # 6
        w.func("go", w.func_proto(0, [("p", 3), ("n", 5)], variadic=True))  # 7, 8
        w.func_proto(1)  # 9
        w.decl_tag("tag", 2, 1)  # 10

    b, _ = made(write)
    assert [repr(t) for t in b] == [
        "<Void [0]>",
        "<Int [1] int size=4, signed>",
        "<Struct [2] node size=16, 2 members>",
        "<Ptr [3] to [2] struct node>",
        "<Const [4] to [3] struct node *>",
        "<Array [5] 2 of [4] struct node * const>",
        "<Struct [6] size=4, 1 member>",
        "<FuncProto [7] void (struct node *, struct node * const[2], ...)>",
        "<Func [8] go static, [7] void (struct node *, struct node * const[2], ...)>",
        "<FuncProto [9] int (void)>",
        "<DeclTag [10] tag on [2] struct node, part 1>",
    ]
    assert repr(b[2].members[1]) == "<Member flag [1] int, offset 8>"
    assert repr(b[6].members[0]) == "<Member a [1] int, bits 4..6>"


def test_types_are_values() -> None:
    b, _ = made(handmade.every_kind)
    assert b[1] == b[1] and hash(b[1]) == hash(b[1]) and b[1] is not b[1]
    assert b[1] != b[2] and b[1] != 1
    with pytest.raises(TypeError, match="no Struct can be made"):
        btf.Struct()
    with pytest.raises(AttributeError, match="frozen"):
        b[1].name_off = 3
    with pytest.raises(AttributeError):
        del b[1].id
    again = pickle.loads(pickle.dumps(b[9]))
    assert repr(again) == repr(b[9]) and again.words == b[9].words


def test_one_numbering_over_base_and_split() -> None:
    base_writer = Writer()
    i = base_writer.int("int", 4)
    base_writer.struct("known", 4, [("i", i, 0)])
    base = btf.parse(base_writer.to_bytes())
    middle_writer = Writer(base=base_writer)
    middle_writer.typedef("known", 2)
    middle = btf.parse(middle_writer.to_bytes(), base)
    top_writer = Writer(base=middle_writer)
    top_writer.struct("known", 8, [("i", i, 0), ("k", 3, 32)])
    top: Any = btf.parse(top_writer.to_bytes(), middle)

    assert (len(base), len(middle), len(top)) == (3, 4, 5)
    assert [t.id for t in top] == list(range(5)) and [t.id for t in top.own_types()] == [4]
    assert top[2] == base[2] and top[2].btf is base and top[3].btf is middle
    assert top[4].members[1].type.resolve() == base[2]
    assert [t.id for t in top.find_all("known")] == [2, 3, 4]
    assert [t.id for t in top.find_all("known", btf.Struct)] == [2, 4]
    assert top.find("known") == base[2], "the lowest id"
    assert [t.id for t in base.find_all("known")] == [2]
    assert top.size_of(4) == 8 and top.size_of(3) == 4
    for wrong in (5, -1):
        with pytest.raises(IndexError, match=r"the last one is \[4\]"):
            top[wrong]


def test_find() -> None:
    def write(w: Writer) -> None:
        i = w.int("int", 4)
        w.struct("page", 4, [("int", i, 0)])
        w.union("page", 4)
        w.typedef("page", 2)
        w.struct("", 8)

    b, _ = made(write)
    assert b.find("page", btf.Union).id == b.find("page", kinds.UNION).id == 3
    assert [t.id for t in b.find_all("page", btf.Composite)] == [2, 3]
    assert [t.id for t in b.find_all(b"page", btf.Typedef)] == [4]
    assert [t.id for t in b.find_all("")] == [5]
    assert b.find("void") == b[0] and b.find_all("void", btf.Int) == []
    assert b.find_all("pag") == b.find_all("age") == b.find_all("pa\0ge") == []
    with pytest.raises(btf.NotFoundError, match=r"there is no type 'nothing'$"):
        b.find("nothing")
    with pytest.raises(LookupError, match=r"'page', only as STRUCT, TYPEDEF, UNION$"):
        b.find("page", btf.Func)


@pytest.mark.parametrize("name", ["base-name-inside-another-string", "base-holds-a-string-twice",
                                  "all-kinds-new-be", "seed-1", "seed-4", "seed-14"])  # fmt: skip
def test_find_agrees_with_a_plain_search(name: str) -> None:
    """Also where a name begins inside of another string, or a string is there twice."""
    case = vectors.build(name)
    base, plain = btf.parse(case.base), naive_btf.parse(case.base)
    split, plain_split = btf.parse(case.split, base), naive_btf.parse(case.split, plain)
    for ours, theirs in ((base, plain), (split, plain_split)):
        named: dict[bytes, list[int]] = {}
        for type_id, record in enumerate(theirs.all_types()[1:], start=1):
            named.setdefault(theirs.text(record[0]), []).append(type_id)
        for text, ids in named.items():
            assert [t.id for t in ours.find_all(text)] == ids
            assert all(ours[type_id].name == text.decode() for type_id in ids)


def test_resolve_size_and_alignment() -> None:
    def write(w: Writer) -> dict[str, int]:
        long = w.int("long int", 8)
        char = w.int("char", 1)
        wide = w.int("__int128", 16)
        ids = {"long": long, "char": char, "wide": wide, "float": w.float("long double", 16)}
        ids["typedef"] = w.typedef("t", w.const(w.volatile(w.type_tag("x", long))))
        ids["ptr"] = w.ptr(0)
        ids["array"] = w.array(w.array(ids["typedef"], long, 3), long, 2)
        ids["flexible"] = w.array(long, long, 0)
        ids["s"] = w.struct("s", 16, [("c", char, 0), ("l", long, 64)])
        ids["packed"] = w.struct("packed", 9, [("c", char, 0), ("l", long, 8)])
        ids["odd"] = w.struct("odd", 9, [("l", long, 0), ("c", char, 64)])
        ids["empty"] = w.struct("empty", 0)
        ids["outer"] = w.union("outer", 16, [("s", ids["s"], 0), ("a", ids["empty"], 0)])
        ids["var"] = w.var("v", ids["s"])
        ids["tag"] = w.decl_tag("d", ids["s"])
        ids["fwd"] = w.fwd("f")
        ids["proto"] = w.func_proto(0)
        ids["func"] = w.func("f", ids["proto"])
        return ids

    b, ids = made(write)
    assert b.pointer_size == 8
    assert b.resolve(ids["typedef"]) == b[ids["long"]] and b.resolve(0) == b[0]
    assert b.resolve(ids["var"]) == b[ids["s"]] and b.resolve(ids["ptr"]) == b[ids["ptr"]]
    sizes = {"long": 8, "wide": 16, "float": 16, "typedef": 8, "ptr": 8, "array": 48,
             "flexible": 0, "s": 16, "packed": 9, "empty": 0, "outer": 16, "var": 16,
             "tag": 16}  # fmt: skip
    assert {name: b.size_of(ids[name]) for name in sizes} == sizes
    aligns = {"char": 1, "wide": 8, "float": 8, "typedef": 8, "ptr": 8, "array": 8, "s": 8,
              "packed": 1, "odd": 1, "empty": 1, "outer": 8}  # fmt: skip
    assert {name: b.align_of(b[ids[name]]) for name in aligns} == aligns
    for name in ("fwd", "proto", "func"):
        with pytest.raises(btf.BtfError, match="has no size"):
            b.size_of(ids[name])
        with pytest.raises(btf.BtfError, match="has no alignment"):
            b.align_of(ids[name])
    with pytest.raises(btf.BtfError, match=r"<Void \[0\]> has no size"):
        b.size_of(0)


@pytest.mark.parametrize(("names", "size"), [(["unsigned long"], 4), (["int", "long"], 4), ([], 8)])
def test_pointer_size_is_that_of_long(names: list[str], size: int) -> None:
    b, ptr = made(lambda w: ([w.int(name, 4) for name in names], w.ptr(0))[1])
    assert b.pointer_size == size and b.size_of(ptr) == b.align_of(ptr) == size


def test_pointer_size_by_elf_class(tmp_path: Path) -> None:
    """Where no type tells it; and the C header is that of such a pointer."""
    writer = Writer()
    node = writer.struct(
        "node", 8, [("next", writer.next_id + 1, 0), ("x", writer.next_id + 2, 32)]
    )
    writer.ptr(node)
    writer.int("int", 4)
    path = tmp_path / "x.elf"
    for bits, size in ((32, 4), (64, 8)):
        lone = Writer()
        lone.ptr(0)
        path.write_bytes(elf({".BTF": lone.to_bytes()}, bits=bits))
        assert btf.open(path).pointer_size == size
    long = Writer()
    long.int("long int", 8)
    path.write_bytes(elf({".BTF": long.to_bytes()}, bits=32))
    assert btf.open(path).pointer_size == 8, "a type tells it"
    for b in (btf.parse(writer.to_bytes()), pickle.loads(pickle.dumps(btf.open(path)))):
        assert b.pointer_size == (4 if b.type_count == 3 else 8)
    assert "struct node *next;" in "".join(btf.dump_c(btf.parse(writer.to_bytes())))


@pytest.mark.parametrize(
    ("size", "members", "expected"),
    [
        (8, [("p", 1, 0), ("n", 3, 32)], 4),
        (8, [("n", 3, 0), ("p", 2, 32)], 4),
        (4, [("p", 1, 0)], 4),
        (16, [("p", 1, 0), ("n", 3, 64)], 8),
        (12, [("n", 3, 0), ("p", 1, 32)], 8),
        (8, [("p", 4, 0), ("n", 3, 32)], 8),
        # Of a minimised BTF, where most members are left out.
        (1100, [("p", 1, 8 * 1028), ("n", 3, 8 * 1040)], 4),
        (1104, [("p", 1, 8 * 1032), ("n", 3, 8 * 1048)], 8),
    ],
)
def test_pointer_size_as_members_lie(
    size: int, members: list[tuple[str, int, int]], expected: int
) -> None:
    writer = Writer()
    writer.ptr(0)
    writer.typedef("pointer", 1)
    writer.int("int", 4)
    writer.typedef("circle", 4)
    writer.struct("s", size, members)
    assert btf.parse(writer.to_bytes()).pointer_size == expected


def test_circles_end() -> None:
    def write(w: Writer) -> None:
        w.typedef("a", 2)
        w.const(1)
        w.struct("self", 8, [("me", 3, 0)])
        w.array(4, 4, 2)
        w.union("", 8, [("", 5, 0)])

    b, _ = made(write)
    for question in (b.resolve, b.size_of, b.align_of):
        with pytest.raises(btf.BtfError, match=r"type \[1\]: refers to itself in a circle"):
            question(1)
    with pytest.raises(btf.BtfError, match="contains itself"):
        b.align_of(3)
    with pytest.raises(btf.BtfError, match="circle"):
        b.size_of(4)
    with pytest.raises(KeyError):
        b[5].member("x")
    assert all(len(repr(t)) < 200 for t in b)


def test_alignment_of_a_long_chain_needs_no_recursion() -> None:
    def write(w: Writer) -> None:
        for type_id in range(1, 5000):
            w.struct("", 8, [("m", type_id + 1, 0)])
        w.int("long", 8)

    b, _ = made(write)
    assert b.align_of(1) == 8 and b.size_of(1) == 8


def test_member_looks_into_anonymous_members() -> None:
    def write(w: Writer) -> None:
        i = w.int("int", 4)
        inner = w.struct("", 8, [("a", i, 0), ("b", i, bitfield(5, 35))], kind_flag=1)
        union = w.union("", 8, [("", w.const(inner), 0), ("c", i, 0)])
        w.struct("outer", 16, [("x", i, 0), ("", union, 64)])

    b, _ = made(write)
    outer = b.find("outer", btf.Struct)
    assert (outer.member("b").bit_offset, outer.member("b").bitfield_size) == (99, 5)
    assert outer.member("c").byte_offset == 8 and outer.member("x").type.name == "int"
    with pytest.raises(KeyError, match="no member 'missing'"):
        outer.member("missing")


def test_kinds_that_only_the_layout_describes() -> None:
    w = Writer()
    i = w.int("int", 4)
    w.type(22, "location", 7, [1, 2, 3, 4], vlen=2)
    w.ptr(i)
    layout = [*bw.full_layout(22), (0, 8, 0)]
    b = btf.parse(w.to_bytes(header_bytes=32, layout=layout))
    unknown = b[2]
    assert isinstance(unknown, btf.Unknown) and unknown.kind == 22 and unknown.vlen == 2
    assert unknown.words[2:] == (7, 1, 2, 3, 4) and unknown.kind_name == "KIND_22"
    assert repr(unknown) == "<Unknown [2] location kind 22, 28 bytes>"
    assert b.find("location", btf.Unknown) == unknown and cast(btf.Ptr, b[3]).type == b[1]


@pytest.mark.slow
def test_looking_at_one_type_makes_few_objects(demo_btf: Callable[[str], bytes]) -> None:
    """The promise of the object view: vmlinux's 95,000 types cost nothing until looked at."""
    vmlinux = btf.parse(demo_btf("vmlinux"))
    task = vmlinux.find("task_struct", btf.Struct)
    assert task.size == vmlinux.size_of(task) and vmlinux.align_of(task) == 8
    assert task.member("pid").type.name == "pid_t"
    assert task.member("pid").type.resolve() == vmlinux.find("int")
    assert repr(task).startswith(f"<Struct [{task.id}] task_struct size={task.size}, ")
    assert sum(1 for _ in vmlinux) == len(vmlinux) == vmlinux.type_count + 1


@pytest.mark.slow
def test_classes_are_there_when_nothing_named_them() -> None:
    """Names of ``btf`` are found when they are asked for: exploring asks for none of them."""
    writer = Writer()
    writer.struct("s", 4, [("i", writer.next_id + 1, 0)])
    writer.int("int", 4)
    for question in ("types[1]", "types.find('s')", "next(types.own_types())"):
        code = (
            "import sys; from btf import parse; "
            f"types = parse(bytes.fromhex({writer.to_bytes().hex()!r})); print({question})"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        assert done.stdout.startswith("<Struct [1] s"), (question, done.stdout + done.stderr)
