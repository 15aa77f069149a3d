"""Protects: output and input describe the same graph of types, and who says so can say no.

The walker shares no code with the library. `make oracle` walks thousands of seeds, and any kernel.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import btf
import full_walk
from pipeline.sources.discover import find_kernels
from support import btfwriter as bw
from support import vectors
from support.marks import every
from support.oracles import naive_btf
from support.oracles.walker import NotTheSame, Walked, walk
from support.paths import DEMO, DEMO_S390X


@pytest.mark.slow
@every
@pytest.mark.parametrize("folder", [DEMO, DEMO_S390X], ids=["demo", "s390x"])
def test_every_module_of_the_demo_is_the_same(folder: Path, every: int) -> None:
    (kernel,) = find_kernels([str(folder)])
    kernel = replace(kernel, modules=kernel.modules[::every])
    outcomes = dict(full_walk.walked_kernel(kernel))
    assert len(outcomes) == len(kernel.modules)
    assert [name for name, outcome in outcomes.items() if isinstance(outcome, str)] == []


@pytest.mark.parametrize("seed", range(16))
def test_seeds_are_the_same_in_every_mode(seed: int) -> None:
    outcomes = dict(full_walk.walked_seed(seed))
    assert len(outcomes) == 4
    assert {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)} == {}


# ------------------------------------------------------------------------------- it can say no


def programs() -> tuple[bytes, bytes]:
    """A base, and a module that has what the base has, and more."""
    base, module = bw.Writer(), bw.Writer()
    for w in (base, module):
        number = w.int("int", 4)
        w.enum("mode", 4, [("low", 1), ("high", 2)])
        w.struct("shared", 16, [("x", number, 0), ("next", w.next_id + 1, 64)])
        w.ptr(w.next_id - 1)
    base.fwd("driver")
    short = module.int("short", 2)
    module.struct("driver", 24, [("a", 1, 0), ("b", 4, 64), ("c", short, 128)])
    module.fwd("hidden")
    module.array(short, 1, 5)
    module.func("start", module.func_proto(1, [("of", 4), ("n", short)]))
    module.enum64("wide", 8, [("all", 1 << 40)])
    return base.to_bytes(), module.to_bytes()


def results() -> tuple[naive_btf.Btf, naive_btf.Btf, naive_btf.Btf, list[int]]:
    base_file, module_file = programs()
    index = btf.BaseIndex.build(btf.parse(base_file))
    result = btf.dedup_split(btf.parse(module_file), index)
    base = naive_btf.parse(base_file)
    output = naive_btf.parse(result.btf.to_bytes(), base)
    return base, naive_btf.parse(module_file), output, result.id_map.tolist()


def test_what_dedup_gives_is_the_same() -> None:
    _, module, output, id_map = results()
    assert walk([(module, id_map)], output).types == len(module.types)


def test_every_changed_word_of_the_output_is_noticed() -> None:
    """Each word of each own type by itself: another number, or another type or name."""
    changed = 0
    _, module, output, id_map = results()
    for t in output.types:
        for word, before in enumerate(t):
            for other in {before ^ 1, before + 1, 0, 1} - {before}:
                if word in naive_btf.id_words(t) and other >= output.end_id:
                    continue
                if word in naive_btf.string_words(t) and other >= output.end_str:
                    continue
                if word == 1 and other & 0xFFFFFF > naive_btf.vlen_of(t):
                    continue  # it would be longer than it is: no file that can be read
                t[word] = other
                with pytest.raises(NotTheSame):
                    walk([(module, id_map)], output)
                t[word] = before
                changed += 1
    assert changed > 100
    walk([(module, id_map)], output)


def test_every_changed_entry_of_the_map_is_noticed() -> None:
    _, module, output, id_map = results()
    for type_id, before in enumerate(id_map):
        for other in range(output.end_id + 1):
            if other != before:
                id_map[type_id] = other
                with pytest.raises(NotTheSame):
                    walk([(module, id_map)], output)
        id_map[type_id] = before
    with pytest.raises(NotTheSame, match="ids for"):
        walk([(module, id_map[:-1])], output)
    walk([(module, id_map)], output)


def test_a_type_from_nowhere_is_noticed() -> None:
    _, module, output, id_map = results()
    output.types.append([0, bw.PTR << 24, 1])
    with pytest.raises(NotTheSame, match="comes from no type"):
        walk([(module, id_map)], output)


def test_another_base_is_noticed() -> None:
    base, _, output, _ = results()
    split = naive_btf.Btf("<", [list(t) for t in output.types], output.strings, base)
    same = list(range(output.end_id))
    assert walk([(split, same)], output, added=False).types == len(output.types)
    smaller = naive_btf.Btf("<", base.types[:-1], base.strings)
    moved = naive_btf.Btf("<", split.types, split.strings, smaller)
    with pytest.raises(NotTheSame):
        walk([(moved, same[:-1])], output, added=False)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_definition_is_not_lost_in_a_declaration(order: str) -> None:
    """A declaration may become the definition, and never the other way."""
    w = bw.Writer(order)
    number = w.int("int", 4)
    w.ptr(w.struct("s", 4, [("x", number, 0)]))
    w.ptr(w.fwd("s"))
    source = naive_btf.parse(w.to_bytes())
    good = naive_btf.Btf(order, source.types[:3], source.strings)
    assert walk([(source, [0, 1, 2, 3, 2, 3])], good, added=False) == Walked(
        types=5, references=3, resolved=1
    )
    declared = bw.Writer(order)
    declared.int("int", 4)
    declared.ptr(declared.fwd("s"))
    with pytest.raises(NotTheSame, match="STRUCT"):
        walk([(source, [0, 1, 2, 3, 2, 3])], naive_btf.parse(declared.to_bytes()), added=False)


@pytest.mark.parametrize("seed", [0, 3, 6])  # none has two types that are the same
def test_mutated_results_of_seeds_are_noticed(seed: int) -> None:
    """References of own types turned elsewhere, in results as large as a small module."""
    case = vectors.generate(seed)
    index = btf.BaseIndex.build(btf.parse(case.base))
    result = btf.dedup_split(btf.parse(case.module), index)
    base, module = naive_btf.parse(case.base), naive_btf.parse(case.module)
    output = naive_btf.parse(result.btf.to_bytes(), base)
    roll = np.random.default_rng(seed)
    noticed = tried = 0
    for t in output.types:
        for word in naive_btf.id_words(t):
            before, t[word] = t[word], int(roll.integers(1, output.end_id))
            if naive_btf.kind_of(t) != naive_btf.FWD and t[word] != before:
                tried += 1
                try:
                    walk([(module, result.id_map.tolist())], output)
                except NotTheSame:
                    noticed += 1
            t[word] = before
    assert tried > 20
    assert noticed == tried


def test_it_reads_bytes_by_itself() -> None:
    """No code of the library is imported by the walker or by what it reads with."""
    import support.oracles.walker

    for module in (support.oracles.walker, naive_btf):
        names = {getattr(value, "__module__", "") or "" for value in vars(module).values()}
        assert not {name for name in names if name.split(".")[0] in ("btf", "pipeline", "jobs")}
