"""Protects what two kernels are said to differ in: what counts as changed, and in which words."""

from __future__ import annotations

import pytest

import btf
from btf.types.c_text import MAX_TEXT, c_text
from pipeline.analysis.changes import embedded
from pipeline.analysis.changes.compare import Comparison, ObjectCounts
from pipeline.analysis.changes.details import details
from pipeline.analysis.changes.inner import MAX_DETAILS
from pipeline.analysis.changes.members import find_member
from pipeline.analysis.changes.opened import OpenedFiles
from support import btfwriter as bw
from support.kernels import INT, LONG, Make, written


def compared(old: Make, new: Make) -> tuple[ObjectCounts, list[str]]:
    """What changed, and the words for it."""
    before, after = (
        OpenedFiles(btf.parse(written(make, order)), ["vmlinux"])
        for make, order in ((old, "<"), (new, ">"))
    )
    found = Comparison(before.named_types, after.named_types)
    said = []
    told = details(found.changes, before.rows, after.rows)
    for change, rest in zip(found.changes, told, strict=True):
        said.append(f"{change.kind} {change.name} {change.change}")
        said += [detail.text for detail in rest]
    return found.counts[0], said


def changes_of(old: Make, new: Make) -> list[str]:
    return compared(old, new)[1]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            lambda w: w.struct("s", 8, [("a", INT, 0), ("b", INT, 32)]),
            lambda w: w.struct("s", 16, [("a", INT, 0), ("new", LONG, 64), ("b", INT, 32)]),
            ["struct s changed", "size: 8 → 16 bytes", "member added: `long new` at 8"],
        ),
        (
            lambda w: w.struct("s", 8, [("a", INT, 0), ("b", INT, 32)]),
            lambda w: w.struct("s", 8, [("b", INT, 32)]),
            ["struct s changed", "member removed: `int a` at 0"],
        ),
        (
            lambda w: w.struct("s", 24, [("a", INT, 0), ("b", INT, 32), ("c", INT, 64)]),
            lambda w: w.struct("s", 24, [("a", INT, 0), ("b", INT, 64), ("c", INT, 96)]),
            ["struct s changed", "member moved `b` … `c` (2 members): 4 → 8"],
        ),
        (
            lambda w: w.struct("s", 8, [("a", INT, 0), ("b", INT, 32)]),
            lambda w: w.struct("s", 8, [("b", INT, 0), ("a", INT, 32)]),
            [
                "struct s changed",
                "member moved `a`: 0 → 4",
                "member moved `b`: 4 → 0",
                "members in another order",
            ],
        ),
        (
            lambda w: w.struct("s", 8, [("a", w.ptr(INT), 0)]),
            lambda w: w.struct("s", 8, [("a", w.ptr(w.const(LONG)), 0)]),
            ["struct s changed", "member retyped `a`: `int *` → `const long *`"],
        ),
        (
            lambda w: w.struct("s", 4, [("a", INT, 3 << 24)], kind_flag=1),
            lambda w: w.struct("s", 4, [("a", INT, 1 << 24 | 2)], kind_flag=1),
            ["struct s changed", "bit field `a`: 3 bits → 1 bit", "member moved `a`: 0:0 → 0:2"],
        ),
        (
            lambda w: w.struct("s", 8, [("", w.union("", 8, [("a", INT, 0)]), 0)]),
            lambda w: w.struct("s", 8, [("", w.union("", 8, [("a", INT, 0), ("b", LONG, 0)]), 0)]),
            ["struct s changed", "member added: `long b` at 0"],
        ),
        (
            lambda w: w.struct("s", 16, [("h", w.struct("", 8, [("a", INT, 32)]), 64)]),
            lambda w: w.struct("s", 16, [("h", w.struct("", 8, [("b", INT, 32)]), 64)]),
            [
                "struct s changed",
                "member removed: `int h.a` at 12",
                "member added: `int h.b` at 12",
            ],
        ),
        (  # what an anonymous union holds now is no other member to C
            lambda w: w.struct("s", 12, [("a", INT, 0), ("b", INT, 32), ("c", LONG, 64)]),
            lambda w: w.struct(
                "s", 12, [("c", LONG, 0), ("", w.union("", 4, [("a", INT, 0), ("n", INT, 0)]), 64)]
            ),
            [
                "struct s changed",
                "member moved `a`: 0 → 8",
                "member removed: `int b` at 4",
                "member added: `union { int a; int n; }` at 8",
                "member moved `c`: 8 → 0",
            ],
        ),
        (  # nor is what it held
            lambda w: w.struct("s", 12, [("", w.union("", 8, [("a", INT, 0), ("b", LONG, 0)]), 0)]),
            lambda w: w.struct("s", 12, [("b", LONG, 32), ("a", LONG, 0)]),
            [
                "struct s changed",
                "member removed: `union { int a; long b; }` at 0",
                "member moved `b`: 0 → 4",
                "member retyped `a`: `int` → `long`",
            ],
        ),
        (  # not even moved
            lambda w: w.struct("s", 8, [("a", INT, 0), ("b", INT, 32)]),
            lambda w: w.struct("s", 8, [("", w.union("", 4, [("a", INT, 0)]), 0), ("b", INT, 32)]),
            ["struct s changed", "member added: `union { int a; }` at 0"],
        ),
        (  # deeper, and within what has a name
            lambda w: w.struct("s", 16, [("h", w.struct("", 8, [("a", INT, 32)]), 64)]),
            lambda w: w.struct(
                "s",
                16,
                [
                    (
                        "h",
                        w.struct(
                            "",
                            8,
                            [
                                (
                                    "",
                                    w.struct("", 4, [("", w.union("", 4, [("a", INT, 0)]), 0)]),
                                    0,
                                ),
                            ],
                        ),
                        64,
                    ),
                ],
            ),
            [
                "struct s changed",
                "member moved `h.a`: 12 → 8",
                "member added: `struct { union { int a; }; }` in `h` at 8",
            ],
        ),
        (  # from one anonymous struct to another one
            lambda w: w.struct(
                "s",
                8,
                [
                    ("", w.struct("", 4, [("a", INT, 0)]), 0),
                    ("u", w.struct("", 4, [("x", INT, 0)]), 32),
                ],
            ),
            lambda w: w.struct(
                "s",
                8,
                [
                    ("u", w.struct("", 4, [("x", INT, 0)]), 0),
                    ("", w.union("", 4, [("a", INT, 0)]), 32),
                ],
            ),
            [
                "struct s changed",
                "member retyped `anonymous struct`: `struct { int a; }` → `union { int a; }`",
                "member moved `anonymous struct`: 0 → 4",
                "member moved `u`: 4 → 0",
                "members in another order",
            ],
        ),
        (  # without a name of its own it may have a type with one (-fms-extensions)
            lambda w: (
                w.typedef("t", w.struct("head", 8, [("b", INT, 0), ("a", LONG, 32)])),
                w.struct("s", 12, [("a", INT, 0), ("b", INT, 32), ("c", INT, 64)]),
            ),
            lambda w: (
                head := w.typedef("t", w.struct("head", 8, [("b", INT, 0), ("a", LONG, 32)])),
                w.struct("s", 12, [("c", INT, 64), ("", head, 0)]),
            ),
            [
                "struct s changed",
                "member retyped `a`: `int` → `long`",
                "member moved `a`: 0 → 4",
                "member moved `b`: 4 → 0",
                "member added: `t` at 0",
            ],
        ),
        (  # what holds nothing of the same name is another one
            lambda w: w.struct(
                "s",
                8,
                [
                    ("", w.union("", 4, [("a", INT, 0), ("b", INT, 0)]), 0),
                    ("", w.union("", 4, [("c", INT, 0)]), 32),
                ],
            ),
            lambda w: w.struct(
                "s",
                8,
                [
                    ("", w.union("", 4, [("x", INT, 0), ("y", INT, 0)]), 0),
                    ("", w.union("", 4, [("b", INT, 0), ("d", INT, 0)]), 32),
                ],
            ),
            [
                "struct s changed",
                "member removed: `union { int c; }` at 4",
                "member added: `union { int x; int y; }` at 0",
                "member removed: `int a` at 0",
                "member added: `int d` at 4",
                "member moved `anonymous union`: 0 → 4",
            ],
        ),
        (  # what moved within another by as much as that moved is where it was
            lambda w: w.struct(
                "s", 16, [("n", w.struct("", 8, [("a", INT, 0), ("b", INT, 32)]), 64)]
            ),
            lambda w: w.struct(
                "s",
                16,
                [("n", w.struct("", 12, [("", INT, 0), ("a", INT, 32), ("b", INT, 64)]), 32)],
            ),
            [
                "struct s changed",
                "member added: `int` in `n` at 4",
                "member moved `n`: 8 → 4",
            ],
        ),
        (
            lambda w: w.enum("e", 4, [("A", 1), ("B", 2)]),
            lambda w: w.enum("e", 4, [("A", 1), ("C", 2), ("D", -1)], signed=True),
            [
                "enum e changed",
                "enumerator removed `B`: 2",
                "enumerator added `C`: 2",
                "enumerator added `D`: -1",
            ],
        ),
        (
            lambda w: w.enum("e", 4, [("A", 1), ("B", 2)]),
            lambda w: w.enum("e", 4, [("B", 2), ("A", 1)]),
            ["enum e changed", "enumerators in another order"],
        ),
        (
            lambda w: w.enum("e", 4, [("A", 1), ("A", 1)]),
            lambda w: w.enum("e", 4, [("A", 1), ("A", 2), ("A", 3)]),
            ["enum e changed", "enumerator added `A`: 3", "enumerator value `A`: 1 → 2"],
        ),
        (
            lambda w: w.typedef("t", w.array(INT, INT, 3)),
            lambda w: w.typedef("t", w.array(INT, INT, 4)),
            ["typedef t changed", "target: `int[3]` → `int[4]`"],
        ),
        (
            lambda w: w.typedef("t", w.struct("", 4, [("a", INT, 0)])),
            lambda w: w.typedef("t", w.struct("", 8, [("a", INT, 0), ("b", INT, 32)])),
            ["typedef t changed", "size: 4 → 8 bytes", "member added: `int b` at 4"],
        ),
        (
            lambda w: w.var("v", w.ptr(w.enum("", 4, [("A", 1)]))),
            lambda w: w.var("v", w.ptr(w.enum("", 4, [("B", 1)]))),
            ["var v changed", "target: `enum { A = 1 } *` → `enum { B = 1 } *`"],
        ),
        (
            lambda w: w.struct("s", 4, [("m", w.enum("", 4, [("A", 1)]), 0)]),
            lambda w: w.struct("s", 4, [("m", w.enum("", 4, [("A", 1), ("B", 2)]), 0)]),
            ["struct s changed", "enumerator added `B`: 2"],
        ),
        (
            lambda w: w.var("v", INT),
            lambda w: w.var("v", LONG),
            ["var v changed", "target: `int` → `long`"],
        ),
        (
            lambda w: w.func("f", w.func_proto(0, [("a", INT), ("b", INT)])),
            lambda w: w.func("f", w.func_proto(INT, [("x", INT), ("b", LONG)], variadic=True)),
            [
                "func f changed",
                "returns: `void` → `int`",
                "parameter retyped `2`: `int` → `long`",
                "parameter added `3`: `...`",
            ],
        ),
        (  # the last one stays, though the one before it was of its type too
            lambda w: w.func("f", w.func_proto(0, [("a", INT), ("b", INT), ("c", INT)])),
            lambda w: w.func("f", w.func_proto(0, [("a", LONG), ("b", w.ptr(0)), ("c", INT)])),
            [
                "func f changed",
                "parameter retyped `1`: `int` → `long`",
                "parameter retyped `2`: `int` → `void *`",
            ],
        ),
    ],
)
def test_changes_in_terms_of_c(old: Make, new: Make, said: list[str]) -> None:
    assert changes_of(old, new) == said


def test_a_member_is_found_in_members_without_a_name() -> None:
    """Through typedefs, and where the type of that member has a name, too."""

    def types(w: bw.Writer) -> None:
        w.struct("head", 8, [("a", INT, 0), ("b", INT, 32)])
        outer = w.typedef("t", w.const(w.struct("middle", 12, [("c", INT, 0), ("", 3, 32)])))
        w.struct("s", 16, [("", outer, 32), ("", w.ptr(3), 0)])

    base = btf.parse(written(types))
    outermost = base.find("s", kind="struct")
    assert isinstance(outermost, btf.Struct)
    found = find_member(OpenedFiles(base, ["vmlinux"]).rows, outermost.id, "b")
    assert found is not None and found.row.bit_offset == 32 + 32 + 32
    assert outermost.member("b").bit_offset == 96


@pytest.mark.parametrize("at_once", [1, 10**6])
def test_what_changed_itself_what_embeds_it_and_what_reaches_it(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """However many pairs of types are looked at together."""
    monkeypatch.setattr(embedded, "_MAX_AT_ONCE", at_once)

    def make(size: int) -> Make:
        def types(w: bw.Writer) -> None:
            inner = w.struct("inner", size, [("a", INT, 0)])
            outer = w.struct("outer", 32, [("m", w.typedef("inner_t", inner), 0)])
            w.struct("pointing", 8, [("p", w.ptr(inner), 0)])
            w.func("by_value", w.func_proto(0, [("", outer)]))
            w.func("by_pointer", w.func_proto(0, [("", w.ptr(outer))]))

        return types

    found, said = compared(make(4), make(8))
    assert said == [
        "struct inner changed",
        "size: 4 → 8 bytes",
        "struct outer embedded",
        "embeds struct inner, which changed",
        "typedef inner_t embedded",
        "embeds struct inner, which changed",
        "func by_value embedded",
        "embeds struct inner, which changed",
    ]
    struct, func = found.kinds["struct"], found.kinds["func"]
    assert (struct.both, struct.changed, struct.embedded, struct.reached) == (3, 1, 1, 1)
    assert (func.both, func.changed, func.embedded, func.reached) == (2, 0, 1, 1)


def test_sets_of_declarations_are_compared() -> None:
    def twice(w: bw.Writer) -> None:
        w.func("f", w.func_proto(0, [("", INT)]))
        w.func("f", w.func_proto(0, [("", LONG)]))
        w.func("f", w.func_proto(0, [("other_name", LONG)]))

    def turned_round(w: bw.Writer) -> None:
        w.func("f", w.func_proto(0, [("", LONG)]))
        w.func("f", w.func_proto(0, [("", INT)]))

    def once(w: bw.Writer) -> None:
        w.func("f", w.func_proto(0, [("", INT)]))

    assert changes_of(twice, turned_round) == []
    assert changes_of(once, twice) == ["func f changed", "declaration added: `void f(long)`"]


def test_what_c_cannot_spell_is_told_as_two_declarations() -> None:
    """A member that is a section, which no compiler writes, and one of a type without a name."""
    said = changes_of(
        lambda w: w.struct("s", 4, [("m", w.datasec("", 0), 0)]),
        lambda w: w.struct("s", 4, [("m", w.int("", 4), 0)]),
    )
    text = "`struct s` of 4 bytes, members: 1"
    assert said == [
        "struct s changed", f"declaration removed: {text}", f"declaration added: {text}",
    ]  # fmt: skip


def test_a_forward_declaration_is_none() -> None:
    def declared(w: bw.Writer) -> None:
        w.fwd("s")
        w.enum("e", 4, [])

    def defined(w: bw.Writer) -> None:
        w.struct("s", 4, [("a", INT, 0)])
        w.enum("e", 4, [("A", 1)])

    assert changes_of(declared, declared) == []
    assert [line.split(":")[0] for line in changes_of(declared, defined)] == [
        "struct s added", "declaration added", "enum e added", "declaration added",
    ]  # fmt: skip


# ------------------------------------------------------------------ text


def test_types_as_c_declares_them() -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    proto = w.func_proto(0, [("", w.ptr(w.const(i)))], variadic=True)
    table = w.array(w.array(w.ptr(proto), i, 2), i, 3)
    found = btf.parse(w.to_bytes())
    assert c_text(found[table], "ops") == "void (*ops[6])(const int *, ...)"
    assert c_text(found[proto], "f") == "void f(const int *, ...)"


@pytest.mark.slow
def test_text_is_bounded_where_types_without_a_name_nest() -> None:
    w = bw.Writer()
    i = w.int("int", 4)
    for _ in range(100):
        i = w.struct("", 4, [("a", i, 0), ("b", i, 0)])
    for _ in range(1000):
        i = w.ptr(i)
    found = btf.parse(w.to_bytes())
    assert all(len(c_text(one)) < 2 * MAX_TEXT for one in found.own_types())


def test_what_is_told_of_a_name_is_bounded() -> None:
    def with_members(held: int) -> Make:
        def make(w: bw.Writer) -> None:
            inner = w.struct("", 800, [(f"m{i}", held, 32 * i) for i in range(200)])
            w.struct("s", 800_000, [(f"n{i}", inner, 6_400 * i) for i in range(1000)])

        return make

    said = changes_of(with_members(INT), with_members(LONG))
    assert said[:2] == ["struct s changed", "member retyped `n0.m0`: `int` → `long`"]
    assert len(said) == 1 + MAX_DETAILS


# ------------------------------------------------------------------ commands
