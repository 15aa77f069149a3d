"""Classes, by which the candidates of hostile modules are told apart, change nothing.

Protects: what naive.py finds by trying every candidate, in libbpf's order, is what comes out where
candidates are looked up by more than the signature: with duplicates near and far, with forward
declarations (for which the order decides), across growths of libbpf's table that turn lists round,
with part of the candidates in the base; and the steps that a module takes are linear in its size,
where trying every candidate is cubic.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

import btf
from btf.deduplication.core import Workspace, workspace_for
from btf.deduplication.deduplicate import plain_index
from btf.deduplication.state import STEPS, STEPS_PER_TYPE
from support import btfwriter
from support.oracles import naive
from support.writers import hostile


def crowd(order: random.Random, count: int, *, forward: float, typedefs: bool) -> bytes:
    """Structs of one signature: what tells them apart is two or three references away."""
    writer = btfwriter.Writer()
    number = writer.int("int", 4)
    for _ in range(count):
        size = order.randrange(count // 2)
        if order.random() < forward:
            target = writer.fwd("target")
        elif order.random() < 0.2:  # differs further down only
            inner = writer.struct("inner", 4 * size + 8, [("at", number, 32 * size)])
            target = writer.struct("target", 8, [("inner", writer.ptr(inner), 0)])
        else:
            target = writer.struct("target", 4 * size + 4, [("at", number, 32 * size)])
        pointer = writer.ptr(target)
        if typedefs and order.random() < 0.3:
            pointer = writer.typedef("target_p", pointer)
        writer.struct("holder", 8, [("to", pointer, 0)])
    return writer.to_bytes()


@pytest.mark.parametrize("seed", range(8))
def test_a_crowd_of_one_signature(seed: int) -> None:
    order = random.Random(seed)
    forward = (0.0, 0.0, 0.01, 0.2)[seed % 4]
    in_base = crowd(order, order.choice([2, 30, 60]), forward=0.0, typedefs=seed % 3 == 0)
    module = crowd(order, order.randrange(40, 200), forward=forward, typedefs=seed % 3 == 0)
    expected = naive.split_dedup(in_base, module)
    index = btf.BaseIndex.build(btf.parse(in_base))
    for _ in range(2):  # the second time with what the first left behind
        result = btf.dedup_split(btf.parse(module), index)
        assert result.btf.type_section() == expected.types
        assert result.btf.string_section() == expected.strings
        assert {own: int(result.id_map[own]) for own in expected.id_map} == expected.id_map
    plain = naive.plain_dedup(module)
    alone = btf.dedup(btf.parse(module)).btf
    assert (alone.type_section(), alone.string_section()) == (plain.types, plain.strings)


@pytest.fixture
def classified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Types of each module that was classified."""
    seen: list[int] = []
    classify = Workspace.call_classified

    def noting(self: Workspace, words: np.ndarray, offsets: np.ndarray, *rest: object) -> object:
        seen.append(len(offsets) - 1)
        return classify(self, words, offsets, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Workspace, "call_classified", noting)
    return seen


@pytest.mark.parametrize("seed", range(12))
def test_from_the_first_step_on(seed: int, classified: list[int]) -> None:
    """Classes are asked for at once, also for modules that would do without; a base has some."""
    order = random.Random(seed)
    in_base = crowd(order, 20, forward=(0.0, 0.1)[seed % 2], typedefs=True)
    module = crowd(order, 30, forward=(0.0, 0.1, 0.3)[seed % 3], typedefs=True)
    expected = naive.split_dedup(in_base, module)
    index = btf.BaseIndex.build(btf.parse(in_base))
    workspace_for(index).reserve(0, 0, 0).state[STEPS_PER_TYPE] = 0
    result = btf.dedup_split(btf.parse(module), index)
    assert classified
    assert result.btf.type_section() == expected.types
    assert {own: int(result.id_map[own]) for own in expected.id_map} == expected.id_map


@pytest.mark.parametrize("make", hostile.ONE_NAME)
def test_steps_are_linear_in_the_size(make: Callable[[int], bytes], classified: list[int]) -> None:
    """Alone; and where the base is such a one too, whose types are tried first."""
    for below in (None, make(150)):
        index = btf.BaseIndex.build(btf.parse(below)) if below else plain_index()
        steps = []
        for count in (200, 400, 800):
            module = btf.parse(make(count))
            if below:
                btf.dedup_split(module, index)
            else:
                btf.dedup(module, index)
            steps.append(int(workspace_for(index).reserve(0, 0, 0).state[STEPS]))
        assert len(classified) == 3, classified
        assert steps[2] < 2.5 * steps[1] + 100 < 7 * steps[0] + 400, steps
        classified.clear()


@pytest.mark.parametrize("make", hostile.ONE_NAME)
def test_naive_agrees(make: Callable[[int], bytes], classified: list[int]) -> None:
    below, module = make(20), make(60)
    index = btf.BaseIndex.build(btf.parse(below))
    result = btf.dedup_split(btf.parse(module), index)
    assert classified
    assert result.btf.type_section() == naive.split_dedup(below, module).types


@pytest.mark.parametrize("seed", range(24))
def test_enums_of_one_name(seed: int) -> None:
    """Of which one is forward, or none, and many have the same enumerators; libbpf tries them all.

    The table of candidates grows several times, so the forward one is tried now early, now late.
    """
    order = random.Random(seed)

    def written(count: int, forwards: float) -> bytes:
        writer = btfwriter.Writer()
        number = writer.int("int", 4)
        for _ in range(count):
            name = order.choice(("", "e", "f"))
            make = order.choice((writer.enum, writer.enum, writer.enum64))
            if order.random() < forwards:
                made = make(name, 4)
            else:
                made = make(name, 4, [(f"A{order.randrange(12)}", 1)])
            writer.struct(f"s{order.randrange(4)}", 4, [("v", made, 0)])
            writer.ptr(number)
        return writer.to_bytes()

    below = written(order.choice((0, 3, 12)), (0.0, 0.3)[seed % 2])
    module = written(60, (0.05, 0.4, 0.0)[seed % 3])
    result = btf.dedup_split(btf.parse(module), btf.BaseIndex.build(btf.parse(below)))
    expected = naive.split_dedup(below, module)
    assert result.btf.type_section() == expected.types
    assert {own: int(result.id_map[own]) for own in expected.id_map} == expected.id_map
    plain = naive.plain_dedup(module)
    assert btf.dedup(btf.parse(module)).btf.type_section() == plain.types


def test_names_that_are_the_ends_of_each_other() -> None:
    """n bytes of strings would become n² / 2: more than Linux can refer to is refused, with no more
    room for strings than that."""
    writer = btfwriter.Writer()
    first = len(writer.strings)
    writer.strings += b"x" * 8000 + b"\0"
    for at in range(8000):
        writer.fwd(first + at)
    module = btf.parse(writer.to_bytes())
    index = btf.BaseIndex.build(btf.parse(hostile.base()))
    with pytest.raises(btf.UnsupportedError, match="begin inside of each other"):
        btf.dedup_split(module, index)
    assert len(workspace_for(index).reserve(0, 0, 0).own_strings) <= 1 << 24
    assert btf.dedup_bytes(writer.to_bytes(), index) is None
    with pytest.raises(btf.UnsupportedError, match="begin inside of each other"):
        btf.merge([module])
    assert btf.dedup_split(btf.parse(hostile.base()), index).btf.type_count == 0
