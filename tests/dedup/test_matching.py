"""The match of graphs is a short cut: it must be taken on real modules, and change nothing.

Protects: every reason for which ``match`` declines is reached; with and without it the bytes and
the id map are the same.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zstandard

import btf
from btf.deduplication import matching
from btf.deduplication.core import workspace_for
from btf.deduplication.deduplicate import deduplicated
from btf.deduplication.state import VERDICT
from support import btfwriter, vectors
from support.oracles import naive
from support.paths import DEMO


def verdict_of(module: btf.BTF, index: btf.BaseIndex) -> int:
    """What ``match`` said of a module; checks that the walk alone gives the same result."""
    matched = btf.dedup_split(module, index)
    verdict = int(workspace_for(index).reserve(0, 0, 0).state[VERDICT])
    walked, _ = deduplicated(module, index, added=True, may_match=False)
    assert matched.btf.to_bytes() == walked.btf.to_bytes()
    assert np.array_equal(matched.id_map, walked.id_map)
    return verdict


@pytest.mark.slow
def test_it_changes_nothing_and_every_verdict_occurs() -> None:
    verdicts: Counter[int] = Counter()
    for name in vectors.cases():
        case = vectors.build(name)
        index = btf.BaseIndex.build(btf.parse(case.base))
        try:
            verdicts[verdict_of(btf.parse(case.module), index)] += 1
        except btf.BtfError:
            continue
    assert set(verdicts) >= {
        matching.MATCHED,
        matching.ENUMS_REMAPPED,
        matching.DECLARATION_UNCLEAR,
        matching.PARTNER_SHARED,
        matching.PARTNER_AMBIGUOUS,
    }, verdicts


def test_two_of_a_name_of_which_one_is_the_base_s() -> None:
    def declare(writer: btfwriter.Writer, *sizes: int) -> btf.BTF:
        for size in sizes:
            member = writer.int("long" if size == 8 else "int", size, bits=8 * size)
            inner = writer.struct("inner", size, [("x", member, 0)])
            writer.struct("outer", 8, [("to", writer.ptr(inner), 0)])
        return btf.parse(writer.to_bytes())

    index = btf.BaseIndex.build(declare(btfwriter.Writer(), 4))
    module = declare(btfwriter.Writer(), 4, 8)
    assert verdict_of(module, index) == matching.PARTNER_CONTESTED


def headers(seed: int, defined: float) -> bytes:
    """What one set of headers declares, where each unit sees some of the definitions."""
    shape, seen = random.Random(seed), random.Random(f"{seed} {defined}")
    writer = btfwriter.Writer()
    writer.int("int", 4)
    names, last = list("abcdef"), shape.randint(6, 24)
    for _ in range(last - 1):
        kind = shape.choice("sspppcta")
        one, other = shape.randint(1, last), shape.randint(1, last)
        if kind == "s" and names:
            name = names.pop()
            if seen.random() < defined:
                writer.struct(name, 16, [("x", one, 0), ("y", other, 64)])
            else:
                writer.fwd(name)
        elif kind == "c":
            writer.const(one)
        elif kind == "t":
            writer.typedef(shape.choice("tuv"), one)
        elif kind == "a":
            writer.func_proto(one, [("", other)])
        else:
            writer.ptr(one)
    return writer.to_bytes()


@pytest.mark.slow
def test_declarations_of_the_base_that_a_module_defines() -> None:
    """What was matched stays true when a walk binds such a declaration later: among these are many
    modules of which some types match, and others change what the base's declarations mean."""
    changed = 0
    for seed in range(1500):
        base, module = headers(seed, 0.6), headers(seed, 0.9)
        try:
            index = btf.BaseIndex.build(btf.parse(base))
            verdict = verdict_of(btf.parse(module), index)
        except btf.BtfError:  # types that refer to each other in a circle
            continue
        undone = workspace_for(index).reserve(0, 0, 0).base_map_undo
        if verdict == matching.MATCHED and undone[0] != 0:
            changed += 1
            result = btf.dedup_split(btf.parse(module), index)
            assert result.btf.type_section() == naive.split_dedup(base, module).types, seed
    assert changed >= 40


def test_a_module_that_declares_and_defines_is_not_matched() -> None:
    """Its pointer to the declaration is the base's only until a walk comes to the definition."""

    def unit(define: bool) -> bytes:
        writer = btfwriter.Writer()
        number = writer.int("int", 4)
        to = writer.ptr(writer.fwd("opaque"))
        writer.const(to)
        if define:
            to = writer.ptr(writer.struct("opaque", 4, [("x", number, 0)]))
        writer.struct("user", 8, [("to", to, 0)])
        return writer.to_bytes()

    base, module = unit(False), unit(True)
    index = btf.BaseIndex.build(btf.parse(base))
    assert verdict_of(btf.parse(module), index) == matching.DECLARATION_UNCLEAR
    result = btf.dedup_split(btf.parse(module), index)
    assert result.btf.type_section() == naive.split_dedup(base, module).types


@pytest.mark.parametrize("name", ["xfs", "kvm", "hid-steam", "nls_cp949", "libsas"])
def test_real_modules(name: str) -> None:
    def read(path: Path) -> bytes:
        return zstandard.ZstdDecompressor().decompress(path.read_bytes(), 1 << 26)

    index = btf.BaseIndex.build(btf.parse(read(DEMO / "vmlinux.btf.zst")))
    module = btf.parse(read(DEMO / "modules" / f"{name}.btf.zst"))
    verdict = verdict_of(module, index)
    # kvm fills in a forward enum of vmlinux
    assert verdict == (matching.ENUMS_REMAPPED if name == "kvm" else matching.MATCHED)
