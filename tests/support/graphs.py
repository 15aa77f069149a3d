"""Hypothesis strategies: small graphs of types over very few names."""

from __future__ import annotations

from hypothesis import strategies as st

from support import btfwriter as bw
from support import vectors
from support.vectors import NOTHING, Node

NAMES = st.sampled_from(["", "", "a", "a", "b", "c"])
NUMBERS = st.integers(0, 2)
REFS = st.integers(NOTHING, 200)
KINDS = st.sampled_from(
    [bw.INT, bw.FLOAT, *[bw.STRUCT] * 5, *[bw.UNION] * 2, *[bw.FWD] * 4, *[bw.ENUM] * 3]
    + [bw.ENUM64, *[bw.PTR] * 6, *[bw.TYPEDEF] * 3, bw.CONST, bw.VOLATILE, bw.RESTRICT]
    + [bw.ARRAY] * 3
    + [bw.FUNC_PROTO, bw.FUNC_PROTO, bw.FUNC, bw.TYPE_TAG, bw.VAR, bw.DATASEC, bw.DECL_TAG]
)
REFERENCES = (
    bw.PTR, bw.CONST, bw.VOLATILE, bw.RESTRICT, bw.ARRAY, bw.FUNC_PROTO, bw.TYPE_TAG, bw.FUNC,
    bw.DECL_TAG,
)  # fmt: skip
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


def files_of(
    base_nodes: list[Node], one: list[Node], other: list[Node], order: str, strings: str
) -> tuple[bytes, bytes, dict[str, bytes]]:
    """A base, a plain file, and files on the base: also one of the same types as the base has."""
    dice = vectors.Dice(1)
    base = vectors.written(base_nodes, bw.Writer(order), dice, strings)
    plain = vectors.written(one, bw.Writer(order), dice, strings)
    split = {
        name: vectors.written(nodes, bw.Writer(order, base=base), dice, strings).to_bytes()
        for name, nodes in (("one", one), ("other", other), ("base again", base_nodes))
    }
    return base.to_bytes(), plain.to_bytes(), split
