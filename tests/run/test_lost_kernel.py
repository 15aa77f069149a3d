"""Protects: a kernel whose tables cannot be made, for whatever reason, is named, and costs the
kernels beside it nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from pipeline.model.base import SharedBase
from pipeline.store import assemble
from pipeline.store.output import read_manifests
from pipeline.tables.duplicates import TABLE as DUPLICATES
from pipeline.tables.schema import FinishedKernel
from pipeline.tables.stored.slices import Slice, SliceSummary, make_parts
from support.runs import run_on, small_kernel
from support.trees import results_of

pytestmark = pytest.mark.slow


def kernels_in(folder: Path) -> Path:
    folder.mkdir()
    for name in ("one", "two", "three"):
        small_kernel(folder / name)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return kernels_in(tmp_path / "source")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What comes of them where nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return results_of(run_on(kernels_in(folder / "source"), folder / "out"))


def run(source: Path, *more: object) -> int:
    out = source.parent / "out"
    return main(["run", str(source), "-o", str(out), "--engine", "local", *map(str, more)])


def kernels(source: Path) -> set[str]:
    return {manifest.kernel for manifest in read_manifests(source.parent / "out")}


def bug() -> None:
    raise IndexError("a number too large")


def memory() -> None:
    raise MemoryError


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fails(base: SharedBase | None, task: Slice) -> SliceSummary:
    raise KeyError


what: Callable[[], None] = bug


def fails_for_two(base: SharedBase | None, task: Slice) -> SliceSummary:
    if task.kernel == "two":
        what()
    return make_parts(base, task)


@pytest.mark.parametrize(
    ("happens", "workers", "said"),
    [
        pytest.param(bug, 1, "IndexError('a number too large')", marks=pytest.mark.long),
        (bug, 2, "IndexError('a number too large') in test_lost_kernel.py"),
        (memory, 1, "workers die of fails_for_two: out of memory"),
        (killed, 2, "workers die of fails_for_two: killed by SIGKILL"),
    ],
)
def test_on_workers(
    happens: Callable[[], None], workers: int, said: str, source: Path,
    undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with monkeypatch.context() as changed:
        changed.setitem(globals(), "what", happens)
        changed.setattr(assemble, "make_parts", fails_for_two)
        assert run(source, "--workers", workers) == 1
    shown = capsys.readouterr()
    assert "splitbtf: error: kernel two: nothing could be made of it" in shown.err
    assert said in shown.err and "two: not done, see above" in shown.out
    assert kernels(source) == {"one", "three"}
    assert run(source) == 0
    assert "two: 3 modules done before" in capsys.readouterr().out, "its results were kept"
    assert results_of(source.parent / "out") == undisturbed


def test_here(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a table over all modules; what was committed before stays."""
    assert run(source) == 0
    before = results_of(source.parent / "out")
    make = DUPLICATES.make

    def fails(finished: FinishedKernel) -> Any:
        if finished.kernel.name == "two":
            bug()
        return make(finished)

    for name in ("one", "two", "three"):
        (source / name / "one.btf").unlink()
    with monkeypatch.context() as changed:
        changed.setattr(type(DUPLICATES), "make", property(lambda _: fails), raising=False)
        assert run(source, "--json") == 1
    assert "kernel two: nothing" in capsys.readouterr().err
    after = results_of(source.parent / "out")
    for path in before:
        assert ("kernel=two" not in path) or after[path] == before[path]


def test_all_of_them(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(assemble, "make_parts", fails)
    assert run(source) == 2
    assert capsys.readouterr().err.count("nothing could be made of it") == 3
