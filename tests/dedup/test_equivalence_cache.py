"""What walks found out is cached on hostile inputs: that changes no result, and bounds them.

Protects: with and without it the bytes and the id map are the same, and those of naive.py, on
graphs in which what it relies on is now there and now not: circles, forward declarations, types
that are mapped meanwhile; walks over an input take a number of steps that is linear in its size.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import btf
from btf.deduplication.core import workspace_for
from btf.deduplication.state import CACHED_PAIRS, CACHING, ENOUGH_STEPS, STEPS, STEPS_PER_TYPE
from support import btfwriter as bw
from support.oracles import naive
from support.writers import hostile

NEVER = 1 << 40  # steps for each type until walks are cached

Node = Callable[[bw.Writer], object]


class Graph:
    """Types in the order of their making, to be written in another: each makes one type."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.place: list[int] = []

    def add(self, make: Node) -> int:
        self.nodes.append(make)
        return len(self.nodes) - 1

    def id(self, number: int) -> int:
        return self.place[number]

    def to_bytes(self, order: list[int]) -> bytes:
        """order: the numbers of the nodes, as they are to be written."""
        writer = bw.Writer()
        self.place = [0] * len(order)
        for position, number in enumerate(order):
            self.place[number] = position + 1
        for number in order:
            self.nodes[number](writer)
        return writer.to_bytes()


def knotted(seed: int) -> bytes:
    """Chains of structs alike, so long that ``identical`` gives up on two of them or just does not,
    and above them layers of structs alike, of which each refers to any of those below."""
    rng = random.Random(seed)
    graph = Graph()
    number = graph.add(lambda w: w.int("int", 4))
    for _ in range(2):  # whose walk is the first one
        graph.add(lambda w: w.struct("first", 4, [("v", graph.id(number), 0)]))
    ends = [number, number, number, graph.add(lambda w: w.int("other", 4))]
    ends += [graph.add(lambda w: w.enum("e", 4, [("E0", 0)])) for _ in range(2)]
    if rng.random() < 0.3:
        ends.append(graph.add(lambda w: w.enum("e")))
    depth, copies = rng.randint(12, 22), rng.randint(2, 4)
    link = rng.choice("spptcav")
    end = rng.choice(("same", "any"))
    circle = rng.random() < 0.3
    declared = rng.random() < 0.3

    def level_of(level: int, below: int) -> int:
        """A struct that holds ``below`` in the way that the chains do."""
        holders = [("a", wrapped(graph, link, below, number, f"t{level}"))]
        if level == depth // 2 and circle:  # to its own top, or another's
            holders.append(("up", 0))
        return graph.add(struct_of(graph, f"s{level}", holders))

    chains: list[list[int]] = []
    for _ in range(copies):
        chain = [number if end == "same" else rng.choice(ends)]
        for level in range(depth):
            below = chain[-1]
            if chains and rng.random() < 0.03:
                below = rng.choice(chains)[level]
            if declared and level and rng.random() < 0.03:
                below = graph.add(forward(f"s{level - 1}"))
            chain.append(level_of(level, below))
        chains.append(chain)
    tops = [chain[-1 - rng.randrange(3) * (rng.random() < 0.3)] for chain in chains]
    if circle:
        for chain in chains:
            back = graph.add(pointer(graph, rng.choice([chain[-1], *tops])))
            level = depth // 2
            holders = [("a", wrapped(graph, link, chain[level], number, "t")), ("up", back)]
            graph.nodes[chain[level + 1]] = struct_of(graph, f"s{level}", holders)
    hidden = f"s{depth - 1}" if declared else ""
    add_layers(graph, rng, tops, number, hidden)
    order = list(range(3, len(graph.nodes)))
    how = rng.choice(("as made", "from the top", "from the top", "from the top", "any"))
    if how == "from the top":
        order.reverse()
    elif how == "any":
        rng.shuffle(order)
    return graph.to_bytes([0, 1, 2, *order])


def add_layers(graph: Graph, rng: random.Random, tops: list[int], number: int, hidden: str) -> None:
    """Layers of structs alike above ``tops``. ``hidden``: a struct that some only declare."""
    below_all = list(tops)
    for layer in range(rng.randint(1, 4)):
        shape = [rng.choice("ssp") for _ in range(rng.randint(1, 3))]
        now = []
        for _ in range(rng.randint(2, 4)):
            holders = []
            for at, how in enumerate(shape):
                target = rng.choice(below_all)
                if hidden and rng.random() < 0.1:
                    how, target = "p", graph.add(forward(hidden))
                holders.append((f"m{at}", wrapped(graph, how, target, number, "")))
            now.append(graph.add(struct_of(graph, f"u{layer}", holders)))
        below_all = now + [rng.choice(tops)] * (rng.random() < 0.5)


def forward(name: str) -> Node:
    return lambda writer: writer.fwd(name)


def pointer(graph: Graph, target: int) -> Node:
    return lambda writer: writer.ptr(graph.id(target))


def struct_of(graph: Graph, name: str, holders: list[tuple[str, int]]) -> Node:
    def make(writer: bw.Writer) -> object:
        members = [(text, graph.id(target), 64 * at) for at, (text, target) in enumerate(holders)]
        return writer.struct(name, 8 * len(members), members)

    return make


def wrapped(graph: Graph, how: str, target: int, index: int, name: str) -> int:
    """The number of a new type that leads to ``target``, or itself."""
    makes: dict[str, Node] = {
        "p": lambda w: w.ptr(graph.id(target)),
        "t": lambda w: w.typedef(name, graph.id(target)),
        "c": lambda w: w.const(graph.id(target)),
        "a": lambda w: w.array(graph.id(target), graph.id(index), 3),
        "v": lambda w: w.func_proto(graph.id(target), [("p", graph.id(target))]),
    }
    return graph.add(makes[how]) if how in makes else target


class Chains:
    """Structs by name, in the order they are to be written in, and chains alike under them."""

    def __init__(self, *names: str, depth: int = 20) -> None:
        """names: of chains. Each is as long as said, from its top to an int."""
        self._graph = Graph()
        self._number = self._graph.add(lambda w: w.int("int", 4))
        self._known: dict[str, int] = {}
        self._order = [self._number]
        self._depth = depth
        for name in names:
            self._chain(name, depth)

    def _chain(self, name: str, length: int) -> None:
        below = self._number
        for level in range(length):
            below = self._graph.add(struct_of(self._graph, f"s{level}", [("a", below)]))
            self._known[f"{name}{level}"] = below
        self._known[name] = below

    def beside(self, name: str, chain: str) -> None:
        """The top of one more chain, which goes on with the second struct of another."""
        second = self._known[f"{chain}{self._depth - 2}"]
        top = struct_of(self._graph, f"s{self._depth - 1}", [("a", second)])
        self._known[name] = self._graph.add(top)

    def write(self, *names: str) -> None:
        """Chains, or single structs of one, from the top; or what ``struct`` has made."""
        for name in names:
            chain = [self._known.get(f"{name}{level}") for level in range(self._depth)]
            self._order += [one for one in reversed(chain) if one is not None and one not in
                            self._order] or [self._known[name]]  # fmt: skip

    def struct(self, name: str, called: str, *members: str) -> None:
        """A struct ``called`` so in the output, to be written next."""
        number = self._graph.add(lambda w: 0)
        self._known[name] = number
        self._order.append(number)

        def make(writer: bw.Writer) -> object:
            ids = [self._graph.id(self._known[member]) for member in members]
            fields = [(f"m{at}", one, 64 * at) for at, one in enumerate(ids)]
            return writer.struct(called, 8 * len(fields), fields)

        self._graph.nodes[number] = make

    def to_bytes(self) -> bytes:
        return self._graph.to_bytes(self._order)


def start(graph: Chains) -> None:
    """Have the first walk, after which walks are cached."""
    graph.struct("first", "first")
    graph.struct("second", "first")


def a_pair_below_a_conflict() -> bytes:
    """R is met with P and then, within y, with Q, which P is not identical to. The tops differ for
    that; the structs y do not."""
    graph = Chains("R", "P", "Q")
    start(graph)
    graph.struct("K", "top", "R", "yK")
    graph.struct("C", "top", "P", "yC")
    graph.struct("yK", "y", "R")
    graph.struct("yC", "y", "Q")
    graph.write("R", "P", "Q")
    return graph.to_bytes()


def different_until_all_below_is_mapped() -> bytes:
    """The structs y differ as long as P and Q are two; they come after these were mapped to R."""
    graph = Chains("R", "P", "Q")
    start(graph)
    graph.struct("K", "top", "yK")
    graph.struct("C", "top", "yC")
    graph.write("R", "P", "Q")
    graph.struct("yK", "y", "R", "R")
    graph.struct("yC", "y", "P", "Q")
    return graph.to_bytes()


def two_for_one(graph: Chains) -> None:
    """Structs q of which "apart" cannot be mapped to "first", but each other to either."""
    graph.struct("q first", "q", "R", "R")
    graph.struct("q apart", "q", "P", "Q")


def equal_until_one_below_is_mapped() -> bytes:
    """C and K are found equal from above, when none of their q is mapped. When C's turn comes, its
    q has to go where K's is; by itself it would go to the one that came last."""
    graph = Chains("R", "P", "Q", "O")
    start(graph)
    graph.struct("top K", "top", "K")
    graph.struct("top C", "top", "C")
    two_for_one(graph)
    graph.struct("K", "c", "q first")
    graph.struct("C", "c", "q")
    graph.struct("q", "q", "O", "O")
    graph.struct("holder", "holder", "q")
    graph.write("R", "P", "Q", "O")
    return graph.to_bytes()


def equal_and_one_below_is_mapped() -> bytes:
    """The same, but K's q was mapped before levels were measured, after the fourth of them, and
    the walk from above meets it with a q that stays too."""
    graph = Chains("N", "O", "P", "Q", "R", depth=17)
    graph.struct("q first", "q", "O", "O", "O")
    graph.struct("q second", "q", "P", "P", "Q")
    graph.struct("q third", "q", "Q", "R", "R")
    graph.struct("q fourth", "q", "N", "Q", "O")
    graph.struct("top K", "top", "q third", "K")
    graph.struct("top C", "top", "q first", "C")
    graph.struct("K", "c", "q third")
    graph.struct("C", "c", "q")
    graph.struct("q", "q", "O", "O", "O")
    graph.struct("holder", "holder", "q")
    graph.write("N", "O", "P", "Q", "R")
    return graph.to_bytes()


def different_alone_and_equal_from_above() -> bytes:
    """c and k differ, as R is met with P and Q. From above, R is met with Q only: instead of P's
    holder there is another, identical, whose chain was mapped to R before."""
    graph = Chains("R", "P", "Q")
    graph.beside("P too", "P")
    graph.write(f"R{19}", "P too")
    graph.struct("k", "c", "x of k", "y of k")
    graph.struct("c", "c", "x of c", "y of c")
    graph.struct("K", "top", "x of k", "k")
    graph.struct("C", "top", "x too", "c")
    graph.struct("x of k", "x", "R")
    graph.struct("x of c", "x", "P")
    graph.struct("x too", "x", "P too")
    graph.struct("y of k", "y", "R")
    graph.struct("y of c", "y", "Q")
    graph.write("R", "P", "Q")
    return graph.to_bytes()


def base() -> bytes:
    """With a declaration, and a struct that the module may have too."""
    writer = bw.Writer()
    number = writer.int("int", 4)
    writer.fwd("u3")
    writer.struct("u0", 8, [("m0", number, 0)])
    return writer.to_bytes()


def deduplicated(
    module: btf.BTF, index: btf.BaseIndex, per_type: int
) -> tuple[btf.DedupResult, np.ndarray]:
    """The result if walks are cached after so many steps for each type, and the state."""
    workspace = workspace_for(index)
    scratch = workspace.reserve(module.type_count, len(module.words), len(module.strings) + 1)
    scratch.state[STEPS_PER_TYPE] = per_type
    result = btf.dedup_split(module, index)
    assert workspace.reserve(0, 0, 0) is scratch
    return result, scratch.state.copy()


@pytest.mark.parametrize(
    "make",
    [
        a_pair_below_a_conflict,
        different_until_all_below_is_mapped,
        equal_until_one_below_is_mapped,
        equal_and_one_below_is_mapped,
        different_alone_and_equal_from_above,
    ],
)
def test_what_must_not_be_cached(make: Callable[[], bytes]) -> None:
    assert_same(make(), int(make is equal_and_one_below_is_mapped))


def assert_same(written: bytes, per_type: int, against_naive: bool = True) -> np.ndarray:
    """The state after a dedup with memory; that without one gives the same."""
    index = btf.BaseIndex.build(btf.parse(base()))
    module = btf.parse(written)
    plain, before = deduplicated(module, index, NEVER)
    result, state = deduplicated(module, index, per_type)
    assert state[CACHING] and not before[CACHING]
    assert result.btf.to_bytes() == plain.btf.to_bytes()
    assert np.array_equal(result.id_map, plain.id_map)
    if against_naive:
        assert bytes(plain.btf.words) == naive.split_dedup(base(), written).types
    return state


@pytest.mark.slow
@pytest.mark.parametrize("shape", hostile.DECLARED.values(), ids=hostile.DECLARED)
@pytest.mark.parametrize("end", ["declaration", "number"])
def test_structs_of_a_declared_name(shape: dict[str, Any], end: str) -> None:
    state = assert_same(hostile.structs_of_a_declared_name(36, **{**shape, "end": end}), 0)
    assert state[STEPS]


@pytest.mark.slow
@pytest.mark.parametrize("shape", hostile.DECLARED.values(), ids=hostile.DECLARED)
def test_steps_are_quadratic_where_a_name_is_declared(shape: dict[str, Any]) -> None:
    """At most: each pair is met a few times. Walks without memory are cubic: n / 6 times each."""
    count = 1000
    index = btf.BaseIndex.build(btf.parse(hostile.base()))
    module = btf.parse(hostile.structs_of_a_declared_name(count, **shape))
    _, state = deduplicated(module, index, ENOUGH_STEPS)
    assert count * count / 2 < state[STEPS] < 12 * count * count


@pytest.mark.slow
@pytest.mark.parametrize("circle", [False, True])
def test_more_steps_than_any_module_needs(circle: bool) -> None:
    """What is quadratic at best is refused where it is large, with nothing left behind."""
    index = btf.BaseIndex.build(btf.parse(hostile.base()))
    large = hostile.structs_of_a_declared_name(6000, circle=circle, holes=True)
    with pytest.raises(btf.UnsupportedError, match="more time than any module should"):
        btf.dedup_split(btf.parse(large), index)
    small = btf.parse(hostile.structs_of_a_declared_name(30, circle=circle, holes=True))
    alone = btf.dedup_split(small, btf.BaseIndex.build(btf.parse(hostile.base())))
    assert btf.dedup_split(small, index).btf.to_bytes() == alone.btf.to_bytes()


@pytest.mark.slow
def test_random_graphs() -> None:
    used = sum(int(assert_same(knotted(seed), 0, seed % 4 == 0)[CACHED_PAIRS] > 0)
               for seed in range(420))  # fmt: skip
    assert used > 80


@pytest.mark.parametrize(
    "make",
    [
        hostile.identity_walk_from_top,
        hostile.identity_through_pointers,
    ],
)
def test_steps_are_linear_in_the_size(make: Callable[[int], bytes]) -> None:
    """Without it they are quadratic: 4 times as many for twice the size."""
    steps = [int(assert_same(make(n), ENOUGH_STEPS, False)[STEPS]) for n in (200, 400, 800)]
    assert steps[2] < 2.2 * steps[1] < 5 * steps[0]
