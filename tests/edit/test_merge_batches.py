"""Protects merge in batches: the graph and the bytes of one go, and how much there is at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import btf
from btf import merging
from support import handmade, marks, vectors
from support.btfwriter import Writer
from support.oracles import naive_btf
from support.oracles.walker import walk

# Cases that hold a type more than once, or say what an enum is in several ways: see
# docs/differences.md.
DIFFER = {"ambiguous-forward-enum", "base-declares-enum", "identity-depth-16", "identity-depth-17",
          "identity-depth-20"}  # fmt: skip


def merge_and_walk(base: bytes, modules: list[bytes], splits: list[bytes]) -> bytes:
    """Merge modules and split modules with their base, and follow each type into the result."""
    below, plain_base = btf.parse(base), naive_btf.parse(base)
    given = [*map(btf.parse, modules), *(btf.parse(split, below) for split in splits)]
    found = btf.merge(given, below, standalone=True)
    plain = [naive_btf.parse(module) for module in modules]
    plain += [naive_btf.parse(split, plain_base) for split in splits]
    inputs = [(plain_base, found.id_maps[-1][: below.type_end].tolist())]
    inputs += [(s, id_map.tolist()) for s, id_map in zip(plain, found.id_maps, strict=True)]
    walked = walk(inputs, naive_btf.parse(found.btf.to_bytes()), strict=False)
    assert walked.types == sum(len(source.types) for source, _ in inputs)
    return found.btf.to_bytes()


@pytest.mark.parametrize("name", marks.vector_names()[::2])
def test_each_source_a_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = vectors.build(name)
    sources = case.base, [case.module, case.module], [case.split]
    in_one_go = merge_and_walk(*sources)
    monkeypatch.setattr(merging._Sum, "has_batch", lambda self: True)
    in_batches = merge_and_walk(*sources)
    if name in handmade.CASES and name not in DIFFER:
        assert in_batches == in_one_go


def test_what_a_later_batch_defines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A declaration is resolved by what comes batches later, and what refers to it merged."""
    monkeypatch.setattr(merging._Sum, "has_batch", lambda self: True)

    def unit(body: str) -> btf.BTF:
        writer = Writer()
        pointer = writer.ptr(2)
        if body == "declares":
            writer.fwd("s")
        else:
            integer = writer.next_id + 1
            writer.struct("s", 4, [("x", integer, 0)])
            writer.int("int", 4)
        writer.typedef("p", pointer)
        return btf.parse(writer.to_bytes())

    found = btf.merge([unit("declares"), unit("declares"), unit("defines"), unit("declares")])
    assert [type(t).__name__ for t in found.btf][1:] == ["Ptr", "Typedef", "Struct", "Int"]
    assert [id_map.tolist()[1:3] for id_map in found.id_maps] == [[1, 3]] * 4


class Repeated:
    """A kernel of many modules: vmlinux's types and two of their own each, made when asked for."""

    def __init__(self, modules: int) -> None:
        self.modules = modules

    def __iter__(self) -> Iterator[btf.BTF]:
        for number in range(self.modules):
            writer = Writer()
            handmade.every_kind(writer)
            own = writer.struct(f"own{number}", 8, [("next", writer.next_id + 1, 0)])
            writer.ptr(own)
            yield btf.parse(writer.to_bytes())


def test_the_sum_is_never_longer_than_result_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "BATCH_WORDS", 2_000)
    lengths = []
    dedup = merging._Sum.dedup

    def noting(self: merging._Sum, batch: int) -> None:
        lengths.append(self._length)
        dedup(self, batch)

    monkeypatch.setattr(merging._Sum, "dedup", noting)
    sources = Repeated(120)
    words = sum(len(source.words) for source in sources)
    found = btf.merge(sources, id_maps=False)
    largest = max(len(source.words) for source in sources)
    assert len(found.id_maps) == 0 and found.btf.type_count > 240
    assert len(lengths) > 5 and words > 3 * max(lengths)
    assert max(lengths) <= len(found.btf.words) + max(2_000, len(found.btf.words) // 4) + largest


def test_sources_that_come_once() -> None:
    """An iterator gives what the same sources give that can be gone through again."""
    sources = Repeated(3)
    assert btf.merge(iter(sources)).btf.to_bytes() == btf.merge(sources).btf.to_bytes()
