"""Protects what is said of arrays of several dimensions, which pahole writes otherwise since 1.32:
which types a module of the other generation keeps for them, and that no other module is blamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import btf
from btf.unmerged.arrays import BaseArrays, flattened, nested_arrays
from support import btfwriter as bw
from support.commands import splitbtf
from support.runs import rows

Ways = Callable[[bw.Writer, int, Sequence[int]], int]


def nested(w: bw.Writer, element: int, dimensions: Sequence[int]) -> int:
    """An array as pahole 1.32 writes it."""
    for count in reversed(dimensions):
        element = w.array(element, 1, count)
    return element


def flat(w: bw.Writer, element: int, dimensions: Sequence[int]) -> int:
    """An array as pahole 1.31 writes it."""
    total = 1
    for count in dimensions:
        total *= count
    return w.array(element, 1, total)


def kernel_types(w: bw.Writer, array: Ways) -> int:
    """Types of a kernel: what holds such arrays in four ways, and what leads there; returns the one
    that leads to all."""
    integer = w.int("int", 4)
    char = w.int("char", 1)
    w.struct("line", 8, [("c", w.array(char, 1, 8), 0)])
    grid = w.struct("grid", 24, [("cells", array(w, integer, (2, 3)), 0)])
    cube = w.typedef("cube_t", array(w, char, (2, 3, 4)))
    inner = w.union(
        "", 16, [("pairs", array(w, char, (8, 2)), 0), ("all", w.array(char, 1, 16), 0)]
    )
    outer = w.struct("outer", 16, [("", inner, 0)])
    to = w.struct("pointing", 8, [("p", w.ptr(array(w, integer, (5, 7))), 0)])
    members = [(f"m{n}", w.ptr(each), 64 * n) for n, each in enumerate((grid, cube, outer, to))]
    return w.struct("all", 32, members)


def module_types(w: bw.Writer, array: Ways) -> None:
    """A module that has all of the kernel's types, and something of its own."""
    whole = kernel_types(w, array)
    own = w.struct("own", 8, [("all", w.ptr(whole), 0)])
    w.func("start", w.func_proto(0, [("own", w.ptr(own))]))
    w.struct("table", 60, [("rows", array(w, 1, (3, 5)), 0)])


def written(make: Callable[[bw.Writer], object], base: bw.Writer | None = None) -> bytes:
    w = bw.Writer(base=base)
    make(w)
    return w.to_bytes()


def kept(base: bytes, module: bytes, *, split: bool = False) -> tuple[btf.DedupResult, Any]:
    """What dedup makes of a module, and the types that stay only for their arrays."""
    index = btf.BaseIndex.build(btf.parse(base))
    source = btf.parse(module, index.base if split else None)
    result = btf.dedup(source, index) if split else btf.dedup_split(source, index)
    return result, BaseArrays.build(index).kept_types(source, result, index)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base_way", "module_way", "others"),
    [
        (nested, flat, -1),  # the array in table is one type, not two
        (flat, nested, 6),  # arrays that are elements, and are nowhere in the base
    ],
)
def test_a_module_of_the_other_generation(base_way: Ways, module_way: Ways, others: int) -> None:
    """As many types are marked as there are more of than in the base's way."""
    base = written(lambda w: kernel_types(w, base_way))
    alike, nothing = kept(base, written(lambda w: module_types(w, base_way)))
    assert nothing is None
    result, marked = kept(base, written(lambda w: module_types(w, module_way)))
    names = {t.name for t, stays in zip(result.btf.own_types(), marked, strict=True) if stays}
    assert names - {""} == {"grid", "cube_t", "outer", "pointing", "all"}
    own = {t.name for t in alike.btf.own_types()} - {""}
    assert own == {"own", "start", "table"}
    assert marked.sum() + others == result.btf.type_count - alike.btf.type_count


@pytest.mark.parametrize(("base_way", "module_way"), [(nested, flat), (flat, nested)])
def test_split_modules_too(base_way: Ways, module_way: Ways) -> None:
    """Of a build whose pahole was another one than that of vmlinux."""
    base = bw.Writer()
    kernel_types(base, base_way)

    def module(w: bw.Writer) -> None:
        w.struct("grid", 24, [("cells", module_way(w, 1, (2, 3)), 0)])
        w.struct("line", 8, [("c", w.array(2, 1, 8), 0)])

    result, marked = kept(base.to_bytes(), written(module, base), split=True)
    assert [t.name for t in result.btf.own_types() if marked[t.id - result.btf.start_id]][-1:] == [
        "grid"
    ]
    same = written(lambda w: w.struct("grid", 24, [("cells", base_way(w, 1, (2, 3)), 0)]), base)
    assert kept(base.to_bytes(), same, split=True)[1] is None


@pytest.mark.parametrize("way", [nested, flat])
@pytest.mark.parametrize(
    "module",
    [
        lambda w: w.struct("line", 8, [("c", w.array(w.int("char", 1), 1, 8), 0)]),
        # Something else by the name of what holds nested arrays in the base.
        lambda w: w.struct("grid", 24, [("cells", w.array(w.int("int", 4), 1, 5), 0)]),
        lambda w: w.struct("grid", 6, [("cells", w.array(w.int("char", 1), 1, 6), 0)]),
        # Arrays of the module's own, as either generation writes them.
        lambda w: w.struct("mine", 308, [("a", flat(w, w.int("int", 4), (7, 11)), 0)]),
        lambda w: w.struct("mine", 308, [("a", nested(w, w.int("int", 4), (7, 11)), 0)]),
        lambda w: None,
    ],
)
def test_what_is_not_to_blame(way: Ways, module: Callable[[bw.Writer], object]) -> None:
    assert kept(written(lambda w: kernel_types(w, way)), written(module))[1] is None


def test_a_base_without_such_arrays() -> None:
    base = written(lambda w: w.struct("line", 8, [("c", w.array(w.int("char", 1), 1, 8), 0)]))
    assert kept(base, written(lambda w: module_types(w, nested)))[1] is None
    assert kept(base, written(lambda w: module_types(w, flat)))[1] is None


def test_names_that_are_the_end_of_another_string() -> None:
    """Of the base's types that hold such an array, these have a name that no module knows."""

    def holders(w: bw.Writer, array: Ways) -> None:
        array(w, w.int("int", 4), (2, 3))
        w.struct("grid", 24, [("cells", w.next_id - 1, 0)])
        w.struct(w.string("xrow") + 1, 24, [("cells", w.next_id - 2, 0)])
        w.struct(w.string("grid") + 4, 24, [("cells", w.next_id - 3, 0)])  # nothing, as offset

    _, marked = kept(written(lambda w: holders(w, nested)), written(lambda w: holders(w, flat)))
    assert marked is not None
    assert marked.any()


def test_arrays_that_never_end() -> None:
    """An array of itself, and a row of arrays with more elements than can be counted."""
    w = bw.Writer()
    w.int("int", 4)
    w.array(2, 1, 2)
    for number in range(100):
        w.array(2 + number, 1, 1 << 16)
    types = btf.parse(w.to_bytes())
    assert len(nested_arrays(types)) == 101
    assert flattened(types, None).type_count == types.type_count
    index = btf.BaseIndex.build(types)
    assert BaseArrays.build(index).nested


@pytest.mark.slow
def test_words() -> None:
    """Why a type stayed, and how it differs from the base's."""
    base = written(lambda w: kernel_types(w, nested))
    index = btf.BaseIndex.build(btf.parse(base))
    source = btf.parse(written(lambda w: module_types(w, flat)))
    found = {
        index.base[one.base_type_id].name: one  # type: ignore[index]
        for one in btf.unmerged_types(source, btf.dedup_split(source, index), index)
    }
    assert {name: one.root.reason for name, one in found.items()} == dict.fromkeys(
        ("grid", "cube_t", "outer", "pointing", "all"), "arrays"
    )
    said = "one array, written as pahole does since version 1.32, and as it did before"
    assert found["grid"].root.words == (
        f"`cells`: int[2][3] in vmlinux, int[6] in the module: {said}"
    )
    assert found["outer"].root.words == (
        f"`pairs`: char[8][2] in vmlinux, char[16] in the module: {said}"
    )
    assert found["cube_t"].root.words.startswith("char[2][3][4] in vmlinux, char[24] in the module")


@pytest.mark.slow
def test_a_run_tells(tmp_path: Path) -> None:
    """Column, table, summary and audit; `dedup` has the same words."""
    folder = tmp_path / "k"
    folder.mkdir()
    (folder / "vmlinux.btf").write_bytes(written(lambda w: kernel_types(w, nested)))
    (folder / "other.btf").write_bytes(written(lambda w: module_types(w, flat)))
    (folder / "same.btf").write_bytes(written(lambda w: module_types(w, nested)))
    done = splitbtf("run", folder, "-o", tmp_path / "out", "--engine", "local")
    (kernel,) = rows(tmp_path / "out", "kernels")
    assert "NESTED_ARRAYS" in kernel["base_features"]
    by_module = {row["module"]: row for row in rows(tmp_path / "out", "modules")}
    count = by_module["other"]["kept_by_arrays"]
    assert count > 10 and by_module["same"]["kept_by_arrays"] == 0
    left = [row for row in rows(tmp_path / "out", "leftovers") if row["cause"] == "arrays"]
    assert {row["module"] for row in left} == {"other"}
    assert sum(row["types"] for row in left) == count
    warning = f"warning: {count} types in 1 module stay only because arrays of several"
    for words in (
        done.out,
        splitbtf("run", folder, "-o", tmp_path / "out", "--engine", "local").out,
    ):
        assert warning in words and "pahole" in words
    said = splitbtf("dedup", "-B", folder / "vmlinux.btf", folder, "--no-output")
    assert warning in said.out
    facts = splitbtf("audit", tmp_path / "out", "--json").json[0]
    assert sum(one["types"] for one in facts["by_arrays"]) == count
    assert "1.32" in splitbtf("audit", tmp_path / "out").out

    (folder / "other.btf").unlink()
    done = splitbtf("run", folder, "-o", tmp_path / "out", "--engine", "local")
    assert "warning" not in done.out
