"""Protects what two kernels of an output folder are said to differ in: counts and names."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import btf
from pipeline.analysis.changes.compare import Comparison
from pipeline.analysis.changes.details import details
from pipeline.analysis.changes.opened import OpenedFiles
from pipeline.analysis.changes.stored import named_types_of, stored_kernels
from support import btfwriter as bw
from support import vectors
from support.graphs import GRAPHS, ORDERS, STRINGS, closed
from support.kernels import INT, Make, kernel
from support.oracles import naive_btf, naive_declared
from support.paths import DEMO, DEMO_S390X
from support.runs import run_on
from support.trees import BASE_TYPES, write_base
from support.vectors import Dice, Node


def compared(out: Path, old: str, new: str) -> Comparison:
    kernels = stored_kernels(str(out))
    return Comparison(kernels[old].named_types, kernels[new].named_types)


def counts(found: Comparison) -> dict[str, dict[str, dict[str, int]]]:
    return {
        one.object: {
            kind: {k: v for k, v in row._asdict().items() if k != "reached"}
            for kind, row in one.kinds.items()
        }
        for one in found.counts
    }


@pytest.mark.slow
def test_objects_are_matched_by_name_and_types_that_moved_are_told(tmp_path: Path) -> None:
    def moving(w: bw.Writer) -> None:
        w.struct("moving", 4, [("a", INT, 0)])

    def private(size: int) -> Make:
        return lambda w: (
            w.struct("priv", size, [("a", INT, 0)]),
            w.func("probe", w.func_proto(INT, [("x", INT)])),
        )

    def nothing(w: bw.Writer) -> None:
        w.int("char", 1)

    old = {"snd-one": moving, "two": moving, "gone": private(8), "bare": nothing}
    new = {"snd_one": nothing, "two": nothing, "fresh": private(16), "bare": private(4)}
    kernel(tmp_path / "old", old, nothing)
    kernel(tmp_path / "new", new, moving)
    out = tmp_path / "out"
    run_on(tmp_path / "old", out)
    run_on(tmp_path / "new", out)
    found = compared(out, "old", "new")
    assert {one.object: one.status for one in found.counts} == {
        "vmlinux": "both", "bare": "both", "fresh": "added", "gone": "removed",
        "snd_one": "both", "two": "both",
    }  # fmt: skip
    assert found.counts[0].object == "vmlinux"
    moved = [(c.object, c.kind, c.name, c.change, c.moved) for c in found.changes if c.moved]
    # What several objects have need not be the same function, nor what is declared otherwise.
    assert moved == [
        ("vmlinux", "struct", "moving", "added", ("snd_one", "two")),
        ("snd_one", "struct", "moving", "removed", ("vmlinux",)),
        ("two", "struct", "moving", "removed", ("vmlinux",)),
    ]
    only = [c for c in found.changes if (c.object, c.kind) == ("gone", "func")]
    assert [(c.name, c.change, len(c.old_ids), c.new_ids) for c in only] == [
        ("probe", "removed", 1, ())
    ]
    lone = [c for c in found.changes if c.change in ("added", "removed")]
    assert {c.object for c in lone} >= {"fresh", "gone", "snd_one", "bare"}
    for listed in ([], ["vmlinux"], ["vmlinux", "gone", "fresh"]):
        left_out = [
            c for c in lone
            if c.object not in listed and not (c.change == "added" and c.moved)
        ]  # fmt: skip
        assert left_out and found.changes_told(listed) == [
            c for c in found.changes if c not in left_out
        ]


def test_two_kernels_that_are_read_together_are_as_each_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def nothing(w: bw.Writer) -> None:
        pass

    def some(size: int) -> Make:
        return lambda w: w.struct("some", size, [("a", INT, 0)])

    kernel(tmp_path / "bare", {}, nothing)
    kernel(tmp_path / "old", {"one": some(4), "two": some(4)}, some(8))
    kernel(tmp_path / "new", {"one": nothing, "two": some(16), "three": some(4)}, some(12))
    for name in ("bare", "old", "new"):
        run_on(tmp_path / name, out)
    for old, new in (("old", "new"), ("new", "old"), ("bare", "new"), ("old", "bare")):
        alone = compared(out, old, new)
        kernels = stored_kernels(str(out))
        found = Comparison(*named_types_of(kernels[old], kernels[new]))
        assert found.changes and found.changes == alone.changes
        assert found.counts == alone.counts


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)])
def test_counts_of_kernels(whole: bool, tmp_path: Path) -> None:
    """Of two machines' kernels of one version, and modules: those of an own computation."""
    folders = []
    for source in (DEMO, DEMO_S390X):
        folder = tmp_path / source.name
        (folder / "modules").mkdir(parents=True)
        shared = {path.name for path in (DEMO / "modules").iterdir()}
        shared &= {path.name for path in (DEMO_S390X / "modules").iterdir()}
        one = min(path.name for path in (source / "modules").iterdir() if path.name not in shared)
        for name in (*shared, one):
            (folder / "modules" / name).symlink_to(source / "modules" / name)
        write_base(folder, None if whole else BASE_TYPES, source)
        run_on(folder, tmp_path / "out")
        folders.append(tmp_path / f"out/btf/kernel={source.name}")
    naive = [naive_declared.objects_of(folder) for folder in folders]
    found = compared(tmp_path / "out", DEMO.name, DEMO_S390X.name)
    assert counts(found) == naive_declared.counts_of_objects(*naive)
    assert {one.status for one in found.counts} == {"both", "added", "removed"}
    assert all(one.differs for one in found.counts)


@st.composite
def two_kernels(draw: st.DrawFn) -> list[list[list[Node]]]:
    """Of each the types of vmlinux and two modules; some of the second kernel are other ones."""
    kernels: list[list[list[Node]]] = [[], []]
    for _ in range(3):
        old, other = draw(GRAPHS), draw(GRAPHS)
        same = draw(st.lists(st.booleans(), min_size=len(old), max_size=len(old)))
        new = [one if keep else another
               for one, another, keep in zip(old, [*other, *old], same, strict=False)]  # fmt: skip
        kernels[0].append(old)
        kernels[1].append(closed(copy.deepcopy(new)))
    return kernels


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(two_kernels(), ORDERS, ORDERS, STRINGS)
def test_counts_of_kernels_that_no_compiler_would_write(
    kernels: list[list[list[Node]]], order: str, other_order: str, strings: str
) -> None:
    names = ["vmlinux", "one", "two"]
    ours, naive = [], []
    for parts, byte_order in zip(kernels, (order, other_order), strict=True):
        base = vectors.written(parts[0], bw.Writer(byte_order), Dice(1), strings)
        data = [
            vectors.written(part, bw.Writer(byte_order, base=base), Dice(1), strings).to_bytes()
            for part in parts[1:]
        ]
        types = btf.parse(base.to_bytes())
        ours.append(OpenedFiles(types, names, [btf.parse(split, types) for split in data]))
        plain = naive_btf.parse(base.to_bytes())
        declared = naive_declared.Declared(plain)
        splits = [naive_declared.Declared(naive_btf.parse(one, plain), declared) for one in data]
        naive.append(dict(zip(names, map(naive_declared.named, [declared, *splits]), strict=True)))
    old, new = ours
    found = Comparison(old.named_types, new.named_types)
    assert counts(found) == naive_declared.counts_of_objects(*naive)
    for change, told in zip(found.changes, details(found.changes, old.rows, new.rows), strict=True):
        assert told or change.change == "embedded", change
