"""Protects dedup on graphs that no compiler would write: library and naive.py must agree.

Hypothesis draws base and module as small graphs over very few names, so that collisions, cycles,
forward declarations and several fitting candidates are the rule. Both either give the same bytes
and the same id map, or both refuse.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import btf
from support import btfwriter as bw
from support.graphs import GRAPHS, ORDERS, STRINGS
from support.modes import deduplicated, reference
from support.oracles import naive
from support.vectors import Dice, Node, written


def assert_same(mode: str, files: list[bytes]) -> None:
    try:
        expected = reference(mode, files)
    except naive.OddMember:
        return
    except naive.DedupError:
        expected = None
    try:
        result = deduplicated(mode, files)
    except btf.BtfError as error:
        assert expected is None, f"{mode}: only the library refused: {error}"
        assert error.type_id is not None
        return
    assert expected is not None, f"{mode}: only naive refused"
    assert result.btf.type_section() == expected.types, mode
    assert result.btf.string_section() == expected.strings, mode
    assert {old: int(result.id_map[old]) for old in expected.id_map} == expected.id_map, mode


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(GRAPHS, GRAPHS, ORDERS, STRINGS)
def test_library_and_naive_agree(
    base_nodes: list[Node], module_nodes: list[Node], order: str, strings: str
) -> None:
    dice = Dice(1)
    base = written(base_nodes, bw.Writer(order), dice, strings)
    module = written(module_nodes, bw.Writer(order), dice, strings)
    split = written(module_nodes, bw.Writer(order, base=base), dice, strings)
    assert_same("split", [base.to_bytes(), module.to_bytes()])
    assert_same("plain", [module.to_bytes()])
    assert_same("resplit", [base.to_bytes(), split.to_bytes()])


@pytest.mark.slow
@settings(max_examples=75, suppress_health_check=list(HealthCheck))
@given(GRAPHS, st.integers(1, 6))
def test_units_of_one_program_collapse_alike(nodes: list[Node], units: int) -> None:
    """The same unit several times, on a base that is that unit: twins, cycles and table growth."""
    writer, base = bw.Writer(), bw.Writer()
    written(nodes, base, Dice(1), "plain")
    for _ in range(units):
        written(nodes, writer, Dice(1), "plain")
    assert_same("split", [base.to_bytes(), writer.to_bytes()])
    assert_same("plain", [writer.to_bytes()])


@pytest.mark.parametrize("strings", ["plain", "copies", "tails"])
def test_many_strings_that_are_new(strings: str) -> None:
    """Each is used twice: it has to be found among all others, also where a module has it in two
    places, or at the end of a longer one."""
    words = ["".join(letters) for n in range(8) for letters in itertools.product("ab", repeat=n)]
    base, module = bw.Writer(), bw.Writer()
    for number, word in enumerate(words[::7]):
        base.struct(word, number, [])
    for number, word in enumerate([*words, *words]):
        name = module.string(word, fresh=strings == "copies")
        if strings == "tails" and number % 5 == 0:
            name = module.string("ccc" + word) + 3
        module.struct(name, 1000 + number, [])
    assert_same("split", [base.to_bytes(), module.to_bytes()])


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=6), max_size=8))
def test_any_name_survives(names: list[str]) -> None:
    """Names are bytes up to NUL; whatever they are, they come out as they went in."""
    writer = bw.Writer()
    for name in names:
        writer.int(name.replace("\0", ""), 4)
    files = [bw.Writer().to_bytes(), writer.to_bytes()]
    assert_same("plain", files[1:])
    assert_same("split", files)
