"""Protects the fingerprints of declarations and layouts: equal exactly when C reads the same.

The oracle is naive_declared.py. Ours never sees the files together, so its fingerprints must be the
same function of a type in each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import btf
from btf.declaration.written import MAX_SPELLING_BYTES
from support import btfwriter as bw
from support import marks, vectors
from support.dumping import unpacked
from support.graphs import GRAPHS, ORDERS, STRINGS, files_of
from support.oracles import naive_btf, naive_declared, naive_spelled
from support.paths import DEMO, DEMO_S390X
from support.trees import small_kernel_of
from support.vectors import Node


def texts(found: btf.Declarations) -> list[bytes]:
    """How C spells each type."""
    ends, data = found.spellings()
    return [data[start:end].tobytes() for start, end in itertools.pairwise(ends)]


class World:
    """Files on one base, read by the library and by the oracle; all their values in one pot."""

    def __init__(self, base: bytes) -> None:
        self.base = btf.parse(base)
        self.prints, self.known = btf.fingerprint_base(self.base, spell=True)
        alone = btf.declarations(self.base)
        assert np.array_equal(self.known.declaration, alone.declaration)
        assert np.array_equal(self.known.layout, alone.layout)
        assert np.array_equal(self.prints.values, btf.fingerprints(self.base))
        self.naive_base = naive_btf.parse(base)
        self.spelled: list[tuple[object, object]] = []
        self.declared: list[tuple[object, object]] = []
        self.laid_out: list[tuple[object, object]] = []
        naive = naive_declared.Declared(self.naive_base)
        self.naive_spelled = naive_spelled.Spelled(naive)
        self._add(self.known, naive, self.naive_spelled, 0)

    def add_split(self, data: bytes) -> None:
        split = btf.parse(data, self.base)
        found = btf.declarations(split, self.known, spell=True)
        alone = btf.declarations(split)
        assert np.array_equal(found.declaration, alone.declaration)
        assert np.array_equal(found.layout, alone.layout)
        *both, at_once = btf.all_fingerprints(split, self.prints, self.known, spell=True)
        assert np.array_equal(at_once.declaration, found.declaration)
        assert np.array_equal(at_once.layout, found.layout)
        assert texts(at_once) == texts(found)
        for one, other in zip(both, btf.both_fingerprints(split, self.prints), strict=True):
            assert np.array_equal(one, other)
        naive = naive_declared.Declared(naive_btf.parse(data, self.naive_base))
        spelled = naive_spelled.Spelled(naive, self.naive_spelled)
        self._add(found, naive, spelled, split.start_id)

    def add_plain(self, data: bytes) -> None:
        naive = naive_declared.Declared(naive_btf.parse(data))
        found = btf.declarations(btf.parse(data), spell=True)
        self._add(found, naive, naive_spelled.Spelled(naive), 0)

    def _add(
        self,
        found: btf.Declarations,
        naive: naive_declared.Declared,
        spelled: naive_spelled.Spelled,
        first_id: int,
    ) -> None:
        assert texts(found) == spelled.texts[first_id:]
        for type_id in range(first_id, len(naive.types)):
            row = type_id - first_id
            self.spelled.append((bytes(found.values.hashes[:, :2][row]), naive.spelling(type_id)))
            self.laid_out.append((bytes(found.layout[row]), naive.layout[type_id]))
            if naive_btf.kind_of(naive.types[type_id]) in naive_declared.KINDS:
                declaration = naive.declaration(type_id)
                self.declared.append((bytes(found.declaration[row]), declaration))

    def assert_right(self) -> None:
        assert naive_declared.same_partition(self.spelled)
        assert naive_declared.same_partition(self.declared)
        assert naive_declared.same_partition(self.laid_out)


@pytest.mark.parametrize("name", marks.vector_names())
def test_vectors(name: str) -> None:
    """Base, standalone module, and the same module split: one pot of types."""
    case = vectors.build(name)
    world = World(case.base)
    world.add_plain(case.module)
    world.add_split(case.split)
    world.assert_right()


def check_graphs(
    base_nodes: list[Node], one: list[Node], other: list[Node], order: str, strings: str
) -> None:
    base, plain, split = files_of(base_nodes, one, other, order, strings)
    world = World(base)
    world.add_plain(plain)
    for data in split.values():
        world.add_split(data)
    world.assert_right()


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(GRAPHS, GRAPHS, GRAPHS, ORDERS, STRINGS)
def test_graphs_that_no_compiler_would_write(
    base_nodes: list[Node], one: list[Node], other: list[Node], order: str, strings: str
) -> None:
    check_graphs(base_nodes, one, other, order, strings)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "folder",
    [pytest.param(DEMO, marks=pytest.mark.long), DEMO_S390X],
    ids=lambda folder: folder.name,
)
def test_demo_kernels(folder: Path, whole: bool, tmp_path: Path) -> None:
    folder = folder if whole else small_kernel_of(tmp_path / "demo", folder)
    world = World(unpacked(folder / "vmlinux.btf.zst"))
    modules = list(map(unpacked, sorted((folder / "modules").iterdir())[::12]))
    for data in modules:
        world.add_plain(data)
    index = btf.BaseIndex.build(world.base)
    world.add_split(btf.dedup_split(btf.parse(modules[0]), index).btf.to_bytes())
    world.assert_right()


# ------------------------------------------------------------------ one rule after the other


def found(w: bw.Writer, type_id: int) -> tuple[str, str]:
    """Declaration and layout of a type."""
    known = btf.declarations(btf.parse(w.to_bytes()))
    one, other = known.declaration[type_id], known.layout[type_id]
    return "{:016x}{:016x}".format(*one), "{:016x}{:016x}".format(*other)


def member_of(make: object, order: str = "<") -> tuple[str, str]:
    """Declaration and layout of ``struct s { … m; }`` of the type that ``make`` writes."""
    w = bw.Writer(order)
    w.int("int", 4)  # [1]
    w.int("unsigned int", 4, encoding=0)  # [2]
    inner = make(w)  # type: ignore[operator]
    return found(w, w.struct("s", 16, [("m", inner, 0)]))


INT, UNSIGNED = 1, 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda w: w.array(w.array(INT, INT, 2), INT, 3), lambda w: w.array(INT, INT, 6)),
        (lambda w: w.ptr(w.fwd("x")), lambda w: w.ptr(w.struct("x", 4, [("a", INT, 0)]))),
        (lambda w: w.ptr(w.const(w.volatile(INT))), lambda w: w.ptr(w.volatile(w.const(INT)))),
        (lambda w: w.const(w.array(INT, INT, 4)), lambda w: w.array(w.const(INT), INT, 4)),
        (lambda w: w.ptr(w.type_tag("rcu", INT)), lambda w: w.ptr(INT)),
        (lambda w: w.type(bw.PTR, 0, INT, vlen=1), lambda w: w.ptr(INT)),
        (
            lambda w: w.enum("e", 4, [("a", 1)]),
            lambda w: w.enum64("e", 4, [("a", 1)]),
        ),
        (
            lambda w: w.ptr(w.func_proto(0, [("named", INT)])),
            lambda w: w.ptr(w.func_proto(0, [("", INT)])),
        ),
        (
            lambda w: w.struct("", 4, [("a", INT, 0)]),
            lambda w: w.struct("", 4, [("a", INT, 0)], kind_flag=1),
        ),
    ],
)
def test_what_c_reads_alike_is_alike(one: object, other: object) -> None:
    assert member_of(one) == member_of(other, ">")


@pytest.mark.parametrize(
    ("one", "other", "layout_too"),
    [
        (lambda w: INT, lambda w: w.typedef("number", INT), False),
        (lambda w: INT, lambda w: w.const(INT), False),
        (lambda w: INT, lambda w: UNSIGNED, True),
        (lambda w: w.ptr(INT), lambda w: w.ptr(UNSIGNED), True),
        (lambda w: w.ptr(w.ptr(INT)), lambda w: w.ptr(w.ptr(UNSIGNED)), False),
        (lambda w: w.ptr(INT), lambda w: w.ptr(w.typedef("number", INT)), False),
        (lambda w: w.ptr(w.fwd("x")), lambda w: w.ptr(w.fwd("y")), True),
        (lambda w: w.ptr(w.fwd("x")), lambda w: w.ptr(w.fwd("x", union=True)), True),
        (
            lambda w: w.struct("a", 4, [("f", INT, 0)]),
            lambda w: w.struct("b", 4, [("f", INT, 0)]),
            False,
        ),
        (
            lambda w: w.ptr(w.func_proto(0, [("", INT)])),
            lambda w: w.ptr(w.func_proto(0, [("", INT)], variadic=True)),
            False,
        ),
        (lambda w: w.array(INT, INT, 4), lambda w: w.array(INT, INT, 5), True),
        (
            lambda w: w.struct("", 4, [("a", INT, 0)]),
            lambda w: w.struct("", 4, [("b", INT, 0)]),
            True,
        ),
    ],
)
def test_what_c_reads_otherwise_is_not(one: object, other: object, layout_too: bool) -> None:
    first, second = member_of(one), member_of(other)
    assert first[0] != second[0]
    assert (first[1] != second[1]) == layout_too


def test_an_embedded_struct_that_grew_changes_the_layout_alone() -> None:
    """Nothing around it moves: it is a cause, what embeds it is not."""

    def outer(size: int) -> tuple[str, str]:
        return member_of(lambda w: w.struct("inner", size, [("a", INT, 0)]))

    assert outer(4)[0] == outer(8)[0]
    assert outer(4)[1] != outer(8)[1]


def test_written_out_types_say_no_offsets() -> None:
    """As C writes them: where a member of an anonymous struct lies, its layout says."""

    def outer(at: int) -> tuple[str, str]:
        return member_of(lambda w: w.struct("", 16, [("a", INT, 0), ("b", INT, at)]))

    assert outer(32)[0] == outer(64)[0]
    assert outer(32)[1] != outer(64)[1]


def test_negative_and_large_enumerators_differ() -> None:
    assert member_of(lambda w: w.enum("e", 4, [("a", -1)], signed=True)) != member_of(
        lambda w: w.enum("e", 4, [("a", 0xFFFFFFFF)])
    )


# ------------------------------------------------------------------ in words

SPELLED = [
    (lambda w: w.array(w.ptr(INT), INT, 4), "int *[4]"),
    (lambda w: w.ptr(w.array(w.ptr(INT), INT, 4)), "int *(*)[4]"),
    (lambda w: w.array(w.array(INT, INT, 2), INT, 3), "int[6]"),
    (
        lambda w: w.ptr(w.func_proto(INT, [("f", w.ptr(w.struct("file", 4)))])),
        "int (*)(struct file *)",
    ),
    (lambda w: w.func_proto(0, [("n", INT)], variadic=True), "void (int, ...)"),
    (lambda w: w.func_proto(w.ptr(INT), []), "int *(void)"),
    (lambda w: w.func_proto(w.ptr(w.array(INT, INT, 4)), []), "int (*(void))[4]"),
    (lambda w: w.array(w.ptr(w.func_proto(INT, [])), INT, 2), "int (*[2])(void)"),
    (lambda w: w.ptr(w.const(w.ptr(w.const(UNSIGNED)))), "const unsigned int *const *"),
    (lambda w: w.volatile(w.const(w.array(INT, INT, 2))), "const volatile int[2]"),
    (lambda w: w.const(w.ptr(w.func_proto(0, []))), "void (*const)(void)"),
    (lambda w: w.ptr(w.type_tag("rcu", w.fwd("u", union=True))), "union u *"),
    (
        lambda w: w.struct(
            "",
            8,
            [("a", w.array(INT, INT, 1), 0), ("", w.enum("", 4, [("A", -1)], signed=True), 32)],
        ),
        "struct { int a[1]; enum { A = -1 }; }",
    ),
    (
        lambda w: w.struct("", 4, [("b", UNSIGNED, bw.bitfield(3, 0))], kind_flag=1),
        "struct { unsigned int b : 3; }",
    ),
    (lambda w: w.union("", 0, []), "union { }"),
    (
        lambda w: w.func("f", w.func_proto(w.ptr(INT), [("a", INT), ("", w.ptr(INT))])),
        "int *f(int a, int *)",
    ),
    (lambda w: w.var("v", w.array(INT, INT, 3)), "int v[3]"),
    (lambda w: w.ptr(w.next_id), "… *"),
]


@pytest.mark.parametrize(("make", "text"), SPELLED, ids=[text for _, text in SPELLED])
def test_spelling(make: Callable[[bw.Writer], int], text: str) -> None:
    w = bw.Writer()
    w.int("int", 4)
    w.int("unsigned int", 4, encoding=0)
    made = make(w)
    known = btf.declarations(btf.parse(w.to_bytes()), spell=True)
    assert texts(known)[made].decode() == text


def test_spellings_have_to_be_asked_for() -> None:
    base = bw.Writer()
    base.int("int", 4)
    types = btf.parse(base.to_bytes())
    without = btf.declarations(types)
    with pytest.raises(ValueError, match="spell=True"):
        without.spellings()
    with pytest.raises(ValueError, match="spell=True"):
        btf.declarations(btf.parse(bw.Writer(base=base).to_bytes(), types), without, spell=True)


# ------------------------------------------------------------------ hostile input


@pytest.mark.parametrize("length", [50, 20_000])
@pytest.mark.parametrize("wrap", ["ptr", "const", "typedef", "array", "struct"])
def test_long_chains_in_the_worst_order(wrap: str, length: int) -> None:
    """Each type before what it is made of, so that sweeps do not help; and no recursion."""
    w = bw.Writer()
    for _ in range(length):
        below = w.next_id + 1
        if wrap == "typedef":
            w.typedef("t", below)
        elif wrap == "array":
            w.array(below, below, 3)
        elif wrap == "struct":
            w.struct("", 4, [("m", below, 0), ("n", below, 32)])
        else:
            getattr(w, wrap)(below)
    w.int("int", 4)
    known = btf.declarations(btf.parse(w.to_bytes()), spell=True)
    assert max(map(len, texts(known))) <= MAX_SPELLING_BYTES
    distinct = len({row.tobytes() for row in known.values.hashes[:, :2]})
    # Arrays of arrays have a product of lengths that 64 bits can hold at first.
    assert distinct == {"ptr": length + 2, "const": 3, "typedef": 3, "struct": length + 2}.get(
        wrap, min(length, 41) + 2
    )


def test_many_circles() -> None:
    """Pointers, arrays, typedefs and structs that contain themselves end in a marker."""
    w = bw.Writer()
    at = w.next_id
    w.ptr(at)
    w.array(at + 1, at + 1, 3)
    w.typedef("t", at + 3)
    w.struct("s", 8, [("m", at + 2, 0)])
    w.struct("", 8, [("m", at + 5, 0)])
    w.ptr(at + 4)
    world = World(w.to_bytes())
    world.assert_right()
    assert len({row for row, _ in world.spelled}) == 6  # two pointers to the marker


def test_another_base_is_told() -> None:
    w = bw.Writer()
    w.int("int", 4)
    split = btf.parse(bw.Writer(base=w).to_bytes(), btf.parse(w.to_bytes()))
    with pytest.raises(btf.WrongBaseError, match="not those of the base"):
        btf.declarations(split, btf.declarations(btf.parse(bw.Writer().to_bytes())))


def test_they_are_the_same_for_ever() -> None:
    """Stored in tables and compared with tables of other runs: to be changed knowingly only."""
    w = bw.Writer()
    i = w.int("int", 4)
    node = w.struct("node", 16, [("next", w.next_id + 1, 0), ("value", i, 64)])
    w.ptr(node)
    fn = w.func("fn", w.func_proto(0, [("n", node + 1)], variadic=True), bw.GLOBAL)
    assert [found(w, at) for at in (i, node, fn)] == PINNED


PINNED = [
    (
        "ef21aa75bcf7fee2a87c09125ad4c961",
        "3c582f3fb669ced33cc67fc80bbe9ae0",
    ),
    (
        "3a99bdfed94dc045cfa9cfb737c1895c",
        "0e13b528e0fa62b413aaef854b0fc947",
    ),
    (
        "72d1058ae3a444ca2ec360d6daa0e474",
        "c1a8dd43647ee993fd40f9a44d7e002f",
    ),
]
