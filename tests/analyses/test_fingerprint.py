"""Protects fingerprints: equal exactly when no walk tells two types apart, and the same for ever.

The oracle is naive_classes.py: one partition of all types of all files at once. Ours never sees
the files together, so its fingerprints must be the same function of a type in each of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import btf
from btf.edit.concat import concat_split
from btf.fingerprint import fingerprints as implementation
from support import btfwriter as bw
from support import marks, vectors
from support.dumping import unpacked
from support.graphs import GRAPHS, ORDERS, STRINGS, files_of
from support.oracles import naive_btf, naive_classes
from support.paths import DEMO, DEMO_S390X
from support.vectors import Node


def rows(values: np.ndarray) -> list[tuple[int, int]]:
    return [(int(high), int(low)) for high, low in values]


def plain(data: bytes) -> list[tuple[int, int]]:
    """Fingerprints by type id, void included."""
    return rows(btf.fingerprints(btf.parse(data)))


class World:
    """Files on one base, read by the library and by naive.py."""

    def __init__(self, base: bytes) -> None:
        self.base = btf.parse(base)
        self.known = btf.BaseFingerprints.build(self.base)
        self.naive_base = naive_btf.parse(base)
        self.naive = {"base": self.naive_base}
        self.values = {("base", i): v for i, v in enumerate(rows(self.known.values)) if i}
        self.own: dict[naive_classes.Place, tuple[int, int]] = {}

    def add_split(self, name: str, data: bytes) -> None:
        split = btf.parse(data, self.base)
        self.naive[name] = naive_btf.parse(data, self.naive_base)
        for number, value in enumerate(rows(btf.fingerprints(split, self.known))):
            self.values[name, split.start_id + number] = value
        for number, value in enumerate(rows(btf.own_fingerprints(split))):
            self.own[name, split.start_id + number] = value
        structural, own = btf.both_fingerprints(split, self.known)
        assert np.array_equal(structural, btf.fingerprints(split, self.known))
        assert np.array_equal(own, btf.own_fingerprints(split))

    def add_plain(self, name: str, data: bytes) -> None:
        self.naive[name] = naive_btf.parse(data)
        self.values |= {(name, i): value for i, value in enumerate(plain(data)) if i}

    def assert_right(self) -> None:
        expected = naive_classes.classes(self.naive)
        assert naive_classes.same_partition(expected, self.values)
        if self.own:
            modules = {name: self.naive[name] for name, _ in self.own}
            expected = naive_classes.classes(modules, base_by_id=True)
            assert naive_classes.same_partition(expected, self.own)


@pytest.mark.parametrize("name", marks.vector_names())
def test_vectors(name: str) -> None:
    """Base, standalone module, and the same module split and deduplicated: one pot of types."""
    case = vectors.build(name)
    world = World(case.base)
    world.add_plain("module", case.module)
    world.add_split("split", case.split)
    index = btf.BaseIndex.build(world.base)
    deduplicated = btf.dedup_split(btf.parse(case.module), index).btf
    world.add_split("deduplicated", deduplicated.to_bytes())
    world.assert_right()


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(GRAPHS, GRAPHS, GRAPHS, ORDERS, STRINGS)
def test_graphs_that_no_compiler_would_write(
    base_nodes: list[Node], one: list[Node], other: list[Node], order: str, strings: str
) -> None:
    base, data, split = files_of(base_nodes, one, other, order, strings)
    world = World(base)
    world.add_plain("plain", data)
    for name, data in split.items():
        world.add_split(name, data)
    world.assert_right()


@settings(max_examples=75, suppress_health_check=list(HealthCheck))
@given(GRAPHS, ORDERS)
def test_all_at_once_gives_the_same(nodes: list[Node], order: str) -> None:
    """Input that would take too long component by component is refined as a whole instead."""
    writer = vectors.written(nodes, bw.Writer(order), vectors.Dice(1), "plain")
    expected = plain(writer.to_bytes())[1:]
    job = implementation._Job(btf.parse(writer.to_bytes()))
    job.run(implementation._NO_BASE)
    assert rows(job.at_once(implementation._NO_BASE)[0]) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    [pytest.param(DEMO, marks=pytest.mark.long), DEMO_S390X],
    ids=lambda folder: folder.name,
)
def test_demo_kernels(folder: Path) -> None:
    world = World(unpacked(folder / "vmlinux.btf.zst"))
    index = btf.BaseIndex.build(world.base)
    for path in sorted((folder / "modules").iterdir()):
        split = btf.dedup_split(btf.parse(unpacked(path)), index).btf
        world.add_split(path.name, split.to_bytes())
    world.assert_right()


def test_they_are_the_same_for_ever() -> None:
    """Stored in tables and compared with tables of other runs: to be changed knowingly only."""
    w = bw.Writer()
    i = w.int("int", 4)
    node = w.next_id
    w.struct("node", 16, [("next", node + 1, 0), ("value", i, 64)])
    w.ptr(node)
    w.enum64("big", 8, [("a_rather_long_name", 1 << 40)], signed=True)
    w.func_proto(0, [("n", node + 1)], variadic=True)
    found = [f"{high:016x}{low:016x}" for high, low in plain(w.to_bytes())]
    assert found == PINNED


PINNED = [
    "5d8a6bc1e4c0ffee0123456789abcdef",
    "03c70603ec86b78fa376299f71684c82",
    "08c768dad98d64d99fc9a4e00ba27fa2",
    "286198afcacbc0489a5d60e5d9a2ebd6",
    "dfe75bdadce0a652725718a4cf335925",
    "07c62c0b4df1b2a323329251306bb4df",
]


@pytest.mark.parametrize("count", [20, 50, 96])
def test_no_two_types_of_a_circle_share_one(count: int) -> None:
    """A circle of prototypes, all of one label: classes are split many times, and what leaves one
    class in different rounds must not get one colour."""
    for seed in range(8):
        roll, w = random.Random(seed), bw.Writer()
        for number in range(count):
            before = number or count
            w.func_proto(before, [("", before if roll.random() < 0.5 else 0)])
        found = {("x", i): value for i, value in enumerate(plain(w.to_bytes())) if i}
        expected = naive_classes.classes({"x": naive_btf.parse(w.to_bytes())})
        assert naive_classes.same_partition(expected, found), seed


def test_byte_order_ids_strings_and_company_do_not_count() -> None:
    def node(w: bw.Writer) -> int:
        i = w.int("int", 4)
        at = w.next_id
        w.struct("node", 16, [("next", at + 1, 0), ("value", i, 64)])
        w.ptr(at)
        return at

    little, big, crowded = bw.Writer("<"), bw.Writer(">"), bw.Writer("<")
    crowded.string("something before")
    crowded.union("node", 16, [("x", crowded.float("double", 8), 0)])
    found = {plain(w.to_bytes())[at] for w in (little, big, crowded) for at in [node(w)]}
    assert len(found) == 1


def one_of_each_kind() -> bw.Writer:
    """All 19 kinds, every field set."""
    w = bw.Writer()
    a = w.int("a", 4)
    w.int("b", 8, encoding=0)
    w.float("double", 8)
    w.struct("s", 8, [("m", a, 0), ("n", a, 32)])
    w.union("u", 8, [("m", a, 0)], kind_flag=1)
    w.enum("e", 4, [("one", 1), ("two", 2)])
    w.enum64("e64", 8, [("one", 1 << 33)])
    w.fwd("f")
    w.typedef("t", a)
    for add in (w.ptr, w.const, w.volatile, w.restrict):
        add(a)
    w.array(a, a, 3)
    w.func("fn", w.func_proto(a, [("p", a), ("q", a)]), bw.GLOBAL)
    w.datasec(".data", 16, [(w.var("v", a), 4, 8)])
    w.decl_tag("tag", a, 1)
    w.type_tag("tag", a)
    w.func_proto(0)
    return w


def test_every_word_of_every_kind_counts() -> None:
    """Change any word of any record, and that type's fingerprint changes."""
    w = one_of_each_kind()
    assert {record[1] >> 24 & 0x7F for record in w.records} == set(range(1, 20))
    original = plain(w.to_bytes())
    assert len(set(original)) == len(original), "two types of different kinds are the same"
    renamed, other_proto = w.string("another_name"), w.next_id - 1
    changes = 0
    for type_id, record in enumerate([list(record) for record in w.records], 1):
        for word, value in enumerate(record):
            if word == 1:
                value ^= 1 << 31  # kind_flag
            elif word in naive_btf.string_words(record):
                value = renamed
            elif naive_btf.kind_of(record) == bw.FUNC and word == 2:
                value = other_proto
            elif word in naive_btf.id_words(record):
                value = 2 if value != 2 else 1
            else:
                value += 1
            w.patch(type_id, word, value)
            assert plain(w.to_bytes())[type_id] != original[type_id], (type_id, word)
            w.patch(type_id, word, record[word])
            changes += 1
    assert plain(w.to_bytes()) == original and changes == sum(map(len, w.records))


def test_a_forward_declaration_is_not_its_definition() -> None:
    w = bw.Writer()
    w.fwd("s")
    w.struct("s", 0)
    w.fwd("s", union=True)
    assert len(set(plain(w.to_bytes()))) == 4


def circle(w: bw.Writer, name: str, length: int) -> int:
    """``name`` structs in a ring, each pointing to the next; the first has a mark."""
    first = w.next_id
    for i in range(length):
        after = first + 2 * ((i + 1) % length)
        w.struct(name, 8 if i else 16, [("next", after + 1 if length > 1 else first + 1, 0)])
        w.ptr(first + 2 * i)
    return first


def test_a_copy_that_leads_to_the_original() -> None:
    """A type, or a whole component, that is the same as a part of the cycle it leads to."""
    base = bw.Writer()
    ring = circle(base, "ring", 5)
    self_loop = base.next_id
    base.struct("loop", 8, [("a", self_loop + 1, 0), ("b", self_loop + 1, 64)])
    base.ptr(self_loop)
    split = bw.Writer(base=base)
    # A second "loop", whose a is itself and whose b is the base's: a component of its own.
    again = split.next_id
    split.struct("loop", 8, [("a", again + 1, 0), ("b", self_loop + 1, 64)])
    split.ptr(again)
    third = split.struct("ring", 8, [("next", ring + 3 * 2 + 1, 0)])  # as ring + 4, in no cycle
    upon_it = split.struct("ring", 8, [("next", split.ptr(third), 0)])  # as ring + 2
    other = split.struct("ring", 8, [("next", split.ptr(upon_it), 0), ("more", third, 64)])
    world = World(base.to_bytes())
    world.add_split("split", split.to_bytes())
    world.assert_right()
    values = world.values
    assert values["split", again] == values["base", self_loop]
    assert values["split", third] == values["base", ring + 2 * 2]
    assert values["split", upon_it] == values["base", ring + 2]
    assert values["split", other] not in {v for (name, _), v in values.items() if name == "base"}
    assert len(set(world.own.values())) == len(world.own), "own types are no types of the base"


def test_unrolled_cycles_are_one_type() -> None:
    """A ring of two equal structs is the ring of one, in one file and in another."""
    one, several = bw.Writer(), bw.Writer()
    for writer, rings in ((one, [1]), (several, [2, 3, 1])):
        for length in rings:
            first = writer.next_id
            for i in range(length):
                writer.struct("s", 8, [("next", first + 2 * ((i + 1) % length) + 1, 0)])
                writer.ptr(first + 2 * i)
    found = plain(several.to_bytes())[1:]
    assert set(found) == set(plain(one.to_bytes())[1:]) and len(set(found)) == 2


def test_base_of_several_levels() -> None:
    first, second = bw.Writer(), None
    i = first.int("int", 4)
    ring = circle(first, "ring", 4)
    second = bw.Writer(base=first)
    middle = second.struct("middle", 8, [("r", ring + 1, 0), ("i", i, 64)])
    third = bw.Writer(base=second)
    third.struct("top", 8, [("m", middle, 0), ("r", ring + 3, 64)])
    third.struct("ring", 8, [("next", ring + 5, 0)])  # as ring + 2
    bottom = btf.parse(first.to_bytes())
    between = btf.parse(second.to_bytes(), bottom)
    top = btf.parse(third.to_bytes(), between)
    known = btf.BaseFingerprints.build(between)
    found = rows(btf.fingerprints(top, known))
    assert found == rows(btf.fingerprints(top))
    assert found == rows(btf.fingerprints(top.flat))[-2:]
    assert found[1] == rows(known.values)[ring + 2]
    stacked = btf.fingerprints(between, btf.BaseFingerprints.build(bottom))
    assert rows(stacked) == rows(known.values)[-1:]


def typedefs_in_a_ring(length: int) -> bytes:
    """No struct among them: nothing that could be looked up by its name and members."""
    w = bw.Writer()
    w.typedef("t", length)
    for i in range(1, length):
        w.ptr(i)
    return w.to_bytes()


def same_shape_everywhere(count: int) -> bytes:
    """Many cycles that look alike for a long way."""
    w = bw.Writer()
    marks = w.next_id
    for i in range(count):
        w.int(f"mark{i}", 4)
    for i in range(count):
        first = w.next_id
        w.struct("s", 8, [("next", first + 1, 0), ("deep", first + 2, 64)])
        w.ptr(first)
        w.struct("s2", 8, [("x", marks + i, 0)])
    return w.to_bytes()


def one_struct_far_ends(count: int) -> bytes:
    """A struct whose members lead to chains of every length, all in one cycle."""
    w = bw.Writer()
    ends = range(2, 2 + count)
    w.struct("hub", 8, [("", end, 0) for end in ends])
    w.ptr(1)
    for end in ends[1:]:
        w.ptr(end - 1)
    return w.to_bytes()


def test_hostile_split_is_compared_as_a_whole() -> None:
    """A ring without a struct cannot be looked up: base and split are refined together."""
    base = bw.Writer()
    base.typedef("t", 2)
    base.ptr(1)
    split = bw.Writer(base=base)
    split.typedef("t", 4)
    split.ptr(3)
    split.typedef("other", 2)
    world = World(base.to_bytes())
    world.add_split("split", split.to_bytes())
    world.assert_right()
    assert world.values["split", 3] == world.values["base", 1]


@pytest.mark.parametrize("alike", [True, False])
def test_void_is_no_part_of_a_circle(alike: bool) -> None:
    """A module's circle, compared with one of the base in which ``void *`` stands in its place."""
    base = bw.Writer()
    if alike:
        base.struct("T", 8, [("c", 3, 0)])
    else:
        base.struct("a", 8, [("c", 3, 0)])
    base.ptr(0)  # 2: void *
    base.ptr(4)
    base.struct("S", 16, [("a", 2, 0), ("b", 3, 64)])
    base.struct("T", 8, [("c", 6, 0)])
    base.ptr(5)
    split = bw.Writer(base=base)
    split.struct("T", 8, [("c", 9, 0)])
    split.ptr(7)
    split.ptr(10)
    split.struct("S", 16, [("a", 8, 0), ("b", 9, 64)])
    world = World(base.to_bytes())
    world.add_split("split", split.to_bytes())
    world.assert_right()
    assert world.values["split", 10] != world.values["base", 4]


def circles(base: bw.Writer, count: int, length: int) -> bytes:
    """Circles of structs of one name that differ in one struct, the last that a walk comes to."""
    w = bw.Writer(base=base)
    for circle in range(count):
        first = w.next_id
        for i in range(length):
            size = 1000 + circle if i == length - 2 else 8
            w.struct("S", size, [("m", first + (i + 1) % length, 0)])
    return w.to_bytes()


def test_modules_do_not_depend_on_those_beside_them() -> None:
    """Fingerprints of a batch are taken at once, also where one module forces the rare way."""
    base = bw.Writer()
    base.struct("base", 4, [("i", base.next_id + 1, 0)])
    base.int("int", 4)
    types = btf.parse(base.to_bytes())
    good = bw.Writer(base=base)
    good.struct("good_a", 8, [("x", good.next_id + 1, 0)])
    good.ptr(good.next_id + 1)
    good.struct("good_b", 8, [("x", good.next_id + 1, 0)])
    good.ptr(good.next_id - 3)
    files = [good.to_bytes(), circles(base, 24, 10), *40 * [circles(base, 8, 10)]]
    splits = [btf.parse(data, types) for data in files]
    known = btf.BaseFingerprints.build(types)
    together = btf.both_fingerprints(concat_split(splits), known)[0]
    alone = [btf.fingerprints(split, known) for split in splits]
    assert np.array_equal(together, np.concatenate(alone))
    void = rows(known.values)[0]
    assert void not in rows(together)


@pytest.mark.parametrize(
    ("made", "size"),
    [(typedefs_in_a_ring, 20_000), (same_shape_everywhere, 4_000), (one_struct_far_ends, 20_000)],
)
def test_hostile_graphs_do_not_take_for_ever(made: Callable[[int], bytes], size: int) -> None:
    """With anything quadratic these would take minutes: 400 million steps, of Python or not."""
    small = naive_btf.parse(made(30))
    ours = {("x", i): v for i, v in enumerate(plain(made(30))) if i}
    assert naive_classes.same_partition(naive_classes.classes({"x": small}), ours)
    found = plain(made(size))
    assert len(set(found)) == len(found)


def test_fingerprints_of_another_base_are_refused() -> None:
    base, other = bw.Writer(), bw.Writer()
    base.int("int", 4)
    other.int("integer", 4)
    split = bw.Writer(base=base)
    split.ptr(1)
    known = btf.BaseFingerprints.build(btf.parse(other.to_bytes()))
    with pytest.raises(btf.WrongBaseError, match="not those of the base"):
        btf.fingerprints(btf.parse(split.to_bytes(), btf.parse(base.to_bytes())), known)


def test_kinds_that_we_do_not_know_are_refused() -> None:
    w = bw.Writer()
    w.type(20, "param", 0)
    data = w.to_bytes(header_bytes=32, layout=bw.full_layout(21))
    with pytest.raises(btf.UnsupportedError) as caught:
        btf.fingerprints(btf.parse(data))
    assert caught.value.type_id == 1


def test_no_types() -> None:
    assert len(plain(bw.Writer().to_bytes())) == 1
    empty = btf.parse(bw.Writer(base=(1, 1)).to_bytes(), btf.parse(bw.Writer().to_bytes()))
    assert len(btf.fingerprints(empty)) == len(btf.own_fingerprints(empty)) == 0
