"""Shortcuts through very many candidates and long chains change nothing.

Protects: what naive.py finds by trying every candidate, in libbpf's order, is what comes out where
lists are so long that they are looked up by more than the signature: with duplicates near and far,
with forward declarations (for which the order decides), across growths of libbpf's table that turn
lists round, with part of the candidates in the base.
"""

from __future__ import annotations

import random

import pytest

import btf
from support import btfwriter
from support.oracles import naive


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
