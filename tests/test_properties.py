"""Protects dedup on graphs that no compiler would write: library and naive.py must agree.

Hypothesis draws base and module as small graphs over very few names, so that collisions, cycles,
forward declarations and several fitting candidates are the rule. Both either give the same bytes
and the same id map, or both refuse.
"""

from __future__ import annotations

import itertools

import btfwriter as bw
import naive
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_contract import deduplicated
from test_naive import reference
from vectors import NOTHING, Dice, Node, written

import btf

NAMES = st.sampled_from(["", "", "a", "a", "b", "c"])
NUMBERS = st.integers(0, 2)
REFS = st.integers(NOTHING, 200)
KINDS = st.sampled_from(
    [bw.INT, bw.FLOAT, *[bw.STRUCT] * 5, *[bw.UNION] * 2, *[bw.FWD] * 4, *[bw.ENUM] * 3]
    + [bw.ENUM64, *[bw.PTR] * 6, *[bw.TYPEDEF] * 3, bw.CONST, bw.VOLATILE, bw.RESTRICT]
    + [bw.ARRAY] * 3
    + [bw.FUNC_PROTO, bw.FUNC_PROTO, bw.FUNC, bw.TYPE_TAG, bw.VAR, bw.DATASEC, bw.DECL_TAG]
)
REFERENCES = (bw.PTR, bw.CONST, bw.VOLATILE, bw.RESTRICT, bw.ARRAY, bw.FUNC_PROTO, bw.TYPE_TAG)
REFERENCES += (bw.FUNC, bw.DECL_TAG)
MEMBERS = {bw.STRUCT: 1, bw.UNION: 1, bw.ENUM: 0, bw.ENUM64: 0, bw.FUNC_PROTO: 1}


@st.composite
def one_type(draw: st.DrawFn) -> Node:
    kind = draw(KINDS)
    named = kind not in (bw.PTR, bw.CONST, bw.VOLATILE, bw.RESTRICT, bw.ARRAY, bw.FUNC_PROTO)
    node = Node(kind, draw(NAMES) if named else "", flag=draw(st.integers(0, 4)) // 4)
    if kind in MEMBERS:
        count = draw(NUMBERS)
        node.names = [draw(NAMES) for _ in range(count)]
        node.nums = [] if kind == bw.FUNC_PROTO else [draw(NUMBERS) for _ in range(count)]
        node.refs = [draw(REFS) for _ in range(count * MEMBERS[kind])]
        node.size = 8
    if kind == bw.FUNC_PROTO:
        node.refs.insert(0, draw(REFS))
        node.flag = 0
    elif kind == bw.ARRAY:
        node.refs, node.nums = [draw(REFS), draw(REFS)], [draw(NUMBERS)]
    elif kind == bw.DATASEC:
        node.refs, node.nums = [draw(REFS)], [0, 8]
    elif kind == bw.INT:
        node.size, node.nums = 4, [32 - draw(NUMBERS)]
    elif kind == bw.FLOAT:
        node.size = draw(st.sampled_from([4, 8]))
    elif kind not in MEMBERS and kind != bw.FWD:
        node.refs = [draw(REFS)]
        node.nums = [draw(NUMBERS)] if kind in (bw.FUNC, bw.VAR, bw.DECL_TAG) else []
    return node


def closed(nodes: list[Node]) -> list[Node]:
    """References brought into range, a FUNC's to a prototype, and few circles without a struct."""
    protos = [i for i, node in enumerate(nodes) if node.kind == bw.FUNC_PROTO]
    for i, node in enumerate(nodes):
        drawn = node.refs
        node.refs = [ref if ref == NOTHING else ref % len(nodes) for ref in drawn]
        if node.kind == bw.FUNC and protos:
            node.refs = [protos[node.refs[0] % len(protos)]]
        elif node.kind == bw.FUNC:
            node.kind, node.nums = bw.TYPEDEF, []
        elif node.kind in REFERENCES:
            for at, ref in enumerate(node.refs):
                if ref >= i and nodes[ref].kind in REFERENCES and drawn[at] < 195:
                    node.refs[at] = NOTHING
    return nodes


GRAPHS = st.lists(one_type(), min_size=1, max_size=24).map(closed)
ORDERS = st.sampled_from(["<", ">"])
STRINGS = st.sampled_from(["plain", "copies", "tails"])


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


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
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


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
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


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=6), max_size=8))
def test_any_name_survives(names: list[str]) -> None:
    """Names are bytes up to NUL; whatever they are, they come out as they went in."""
    writer = bw.Writer()
    for name in names:
        writer.int(name.replace("\0", ""), 4)
    files = [bw.Writer().to_bytes(), writer.to_bytes()]
    assert_same("plain", files[1:])
    assert_same("split", files)
