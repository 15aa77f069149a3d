"""Protects ``btf.unmerged_types`` on many modules: generated ones, the demo's, and long ways.

What is said to be kept is held to what mending a root cause does, for each root cause.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import btf
from btf.compare import reasons
from btf.unmerged import simulate
from btf.unmerged.find import MAX_SIMULATIONS
from support.btfwriter import Writer
from support.marks import few_quick
from support.misses import check, found, judged, pointer_holder, small_kernel
from support.oracles import naive_btf
from support.oracles.mending import Bench, to_bytes
from support.paths import DEMO
from support.writers import hostile


@pytest.mark.parametrize("seed", few_quick(range(120), 6))
def test_seeded_kernels(seed: int) -> None:
    judged(*small_kernel(seed))


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_source_files_that_disagree(seed: int) -> None:
    """Names with several definitions in the module: mending one changes what the others become."""
    judged(*small_kernel(seed, agreed=False))


@pytest.mark.slow
def test_the_root_causes_of_the_demo(demo_btf: Callable[[str], bytes]) -> None:
    """The same on real modules, where dedup is the library's own (naive.py takes minutes)."""
    data = demo_btf("vmlinux")
    base = naive_btf.parse(data)
    strings, types = base.string_index(), base.all_types()
    base.string_index, base.all_types = lambda: strings, lambda: types  # type: ignore[method-assign]
    index = btf.BaseIndex.build(btf.parse(data))
    names = btf.BaseNames.build(index)

    def dedup(split: naive_btf.Btf) -> tuple[list[naive_btf.Words], dict[int, int]]:
        result = btf.dedup(btf.parse(to_bytes(split), index.base), index)
        own = range(split.start_id, split.end_id)
        kept = [list(t.words) for t in result.btf.own_types()]
        return kept, {type_id: int(result.id_map[type_id]) for type_id in own}

    alike, checked, reasons_seen = None, 0, set()
    for path in sorted((DEMO / "modules").glob("*.btf.zst")):
        data = demo_btf(path.name.removesuffix(".btf.zst"))
        if len(data) > 350_000:  # mending.py takes its time with those
            continue
        opened = btf.open_module(data, index)
        result = btf.dedup_module(opened, index)
        rows = btf.unmerged_types(opened.btf, result, index, names)
        if rows:
            bench = Bench(base, data, dedup, strings, alike)
            alike = bench.alike
            checked += check(rows, bench)
            reasons_seen |= {row.reason for row in rows}
            expected = named_in_both(opened.btf, result.btf, index)
            assert [row.type_id for row in rows] == expected
    assert checked > 30
    assert {reasons.DECLARED, reasons.KIND, reasons.PROTOTYPE} <= reasons_seen


def named_in_both(source: btf.BTF, split: btf.BTF, index: btf.BaseIndex) -> list[int]:
    """Own types whose name the base has for a type in the same name space, found by names."""
    spaces = ((btf.Composite, btf.AnyEnum, btf.Fwd), (btf.Int, btf.Float, btf.Typedef),
              (btf.Func,), (btf.Var,), (btf.Datasec,))  # fmt: skip
    found = []
    for own in split.own_types():
        for space in spaces:
            if own.name and isinstance(own, space):
                others = split.find_all(own.name)
                if any(o.id < index.type_end and isinstance(o, space) for o in others):
                    found.append(own.id)
    return found


def explained(count: int, child: Callable[[int], int]) -> list[btf.UnmergedType]:
    """The misses of a module of structs that each point to an earlier one and all stay, because
    the first one differs."""

    def write(w: Writer, size: int) -> None:
        ids = [w.struct("first", size, [("x", w.int("int", 4), 0)])]
        for number in range(1, count):
            ids.append(pointer_holder(w, f"s{number}", ids[child(number)]))

    base, module = Writer(), Writer()
    write(base, 4)
    write(module, 8)
    index = btf.BaseIndex.build(btf.parse(base.to_bytes()))
    opened = btf.open_module(module.to_bytes(), index)
    result = btf.dedup_module(opened, index)
    names = btf.BaseNames.build(index)
    rows = btf.unmerged_types(opened.btf, result, index, names)
    assert len(rows) == count and rows[-1].root.kept_types == result.btf.type_count
    return rows


def test_long_ways_are_cut() -> None:
    rows = explained(400, lambda number: number - 1)
    assert rows[-1].path.startswith("s399.p → s398.p → ") and rows[-1].path.endswith(
        "→ struct first"
    )
    assert " → … → " in rows[-1].path and max(len(row.path) for row in rows) < 500


def test_many_definitions_that_the_base_only_declares() -> None:
    """What is worked out for each root cause by a walk of the whole module is limited."""
    count = MAX_SIMULATIONS + 10

    def base(w: Writer) -> None:
        for number in range(count):
            w.ptr(w.fwd(f"d{number}"))

    def module(w: Writer) -> None:
        i = w.int("int", 4)
        for number in range(count):
            w.ptr(w.struct(f"d{number}", 4, [("x", i, 0)]))

    writers = Writer(), Writer()
    base(writers[0])
    module(writers[1])
    index = btf.BaseIndex.build(btf.parse(writers[0].to_bytes()))
    opened = btf.open_module(writers[1].to_bytes(), index)
    rows = btf.unmerged_types(opened.btf, btf.dedup_module(opened, index), index)
    known = [row.root.kept_types for row in rows]
    assert known.count(None) == 10 and set(known) == {None, 2}


def ring(length: int) -> bytes:
    """Structs of one name in a circle, of which one tells where a walk is."""
    writer = Writer()
    for number in range(1, length + 1):
        size = 8 if number < length else 16
        writer.struct("S", size, [("next", number % length + 1, 0)])
    return writer.to_bytes()


def test_pairs_of_types_are_not_without_end() -> None:
    """Two circles can be held against each other in the product of their lengths of ways."""
    for base, length in ((101, 103), (601, 607)):
        index = btf.BaseIndex.build(btf.parse(ring(base)))
        module = btf.parse(ring(length))
        result = btf.dedup_split(module, index)
        if length == 103:
            assert len(btf.unmerged_types(module, result, index)) == length
        else:
            with pytest.raises(btf.UnsupportedError, match="in more than 75248 ways"):
                btf.unmerged_types(module, result, index)


@pytest.mark.slow
def test_simulations_end_where_each_takes_long() -> None:
    """Each deduplicates a circle of typedefs again, which is quadratic: with all of them this
    would be cubic, and take an hour."""
    index = btf.BaseIndex.build(btf.parse(hostile.base()))
    module = btf.parse(hostile.typedefs_in_a_circle_of_one_name(6000))
    rows = btf.unmerged_types(module, btf.dedup_split(module, index), index)
    assert len(rows) > 2000
    worked_out = [row for row in rows if row.root.kept_types is not None]
    assert all(row.root.kept_types == 1 and row.sole for row in worked_out)
    assert len(worked_out) < 20
    assert all(row.sole is None for row in rows if row.root.kept_types is None)


def test_what_nothing_refers_to_goes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions and integers, with what only they refer to: for these dedup does not run again."""

    def write(w: Writer, size: int, own: bool) -> None:
        i = w.int("int", 4)
        w.int("lone", size)
        w.ptr(w.int("used", size))
        argument = w.ptr(w.struct("own", 4, [("x", i, 0)])) if own else i
        w.func("alone", w.func_proto(0, [("a", argument)]))
        shared = w.func_proto(0, [("b", argument), ("c", w.ptr(argument))])
        w.func("one", shared)
        w.func("other", shared)
        w.decl_tag("tag", w.func("tagged", w.func_proto(0, [("d", argument)])))

    sizes, dedup = list[int](), simulate.dedup_arrays

    def counting(*args: Any, **options: Any) -> Any:
        sizes.append(len(args[2]) - 1)
        return dedup(*args, **options)

    monkeypatch.setattr(simulate, "dedup_arrays", counting)
    seen = found(lambda w: write(w, 4, False), lambda w: write(w, 8, True))
    assert seen.names == ["lone", "used", "alone", "one", "other", "tagged"]
    assert [seen.kept(name)[0] for name in ("lone", "alone", "one", "other")] == [1, 2, 1, 1]
    assert len(sizes) == 2  # for ``used`` and ``tagged``


def test_simulations_end_where_dedup_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of them is not worked out, and the rows are there."""
    writer = Writer()
    writer.struct("s", 4, [("v", writer.int("int", 4), 0)])
    base = writer.to_bytes()
    writer = Writer()
    number = writer.int("int", 4)
    writer.struct("s", 8, [("v", number, 0), ("w", number, 32)])
    index, module = btf.BaseIndex.build(btf.parse(base)), btf.parse(writer.to_bytes())
    result = btf.dedup_split(module, index)

    def refusing(*_: object, **__: object) -> None:
        raise btf.UnsupportedError("its types are like each other in too many ways", None, "types")

    monkeypatch.setattr(simulate, "dedup_arrays", refusing)
    (row,) = btf.unmerged_types(module, result, index)
    assert (row.root.kept_types, row.sole) == (None, None)
