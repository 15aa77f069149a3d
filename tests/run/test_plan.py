"""Protects plans: a kernel is left alone when nothing changed that its results depend on, only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.model.options import RunOptions
from pipeline.model.records import KernelInput
from pipeline.plan import Plan, kernel_context
from pipeline.sources.discover import find_kernels
from pipeline.store import input_cache
from pipeline.store.output import OutputFolder
from support.ends.disturbing import last_run
from support.runs import run_on, small_kernel

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small kernel that has been there for long, and was run once, to ``out`` beside it."""
    now = input_cache.time.time_ns()
    monkeypatch.setattr(input_cache.time, "time_ns", lambda: now + 3_600_000_000_000)
    run_on(small_kernel(tmp_path / "kernel"), tmp_path / "out")
    return tmp_path / "kernel"


def plan_of(
    source: Path, change: Callable[[KernelInput], KernelInput] | None = None, **options: str
) -> Plan:
    (kernel,) = find_kernels([str(source)])
    out = OutputFolder(source.parent / "out")
    try:
        given = RunOptions((str(source),), str(out), **options)  # type: ignore[arg-type]
        return Plan(change(kernel) if change else kernel, out, given, {})
    finally:
        out.close()


def test_nothing_changed(source: Path) -> None:
    plan = plan_of(source)
    assert plan.is_unchanged() and plan.read == set()


def test_a_file_that_was_only_touched_is_read_and_is_the_same(source: Path) -> None:
    (source / "one.btf").touch()
    plan = plan_of(source)
    assert plan.is_unchanged() and plan.read == {str(source / "one.btf")}


@pytest.mark.parametrize("name", ["one.btf", "vmlinux.btf"])
def test_content_that_changed(source: Path, name: str) -> None:
    (source / name).write_bytes((source / name).read_bytes() + b"\0")
    assert not plan_of(source).is_unchanged()


def test_modules_that_come_go_or_change_their_names(source: Path) -> None:
    content = (source / "two.btf").read_bytes()
    (source / "four.btf").write_bytes(content)
    assert not plan_of(source).is_unchanged()
    (source / "four.btf").unlink()
    assert plan_of(source).is_unchanged()
    (source / "two.btf").rename(source / "other.btf")
    assert not plan_of(source).is_unchanged()
    (source / "other.btf").unlink()
    assert not plan_of(source).is_unchanged()


def test_tables_of_results_that_are_there_are_made_by_the_workers(source: Path) -> None:
    """All at once, not one after the other in processes of which each has to start anew."""
    (source / "three.btf").unlink()
    out = run_on(source, source.parent / "out")
    stages = dict(last_run(out, "kernel")["stages"])
    assert {"tables", "conflicts", "duplicates"} <= stages.keys() and "dedup" not in stages


def test_a_kernel_of_another_name_is_another(source: Path) -> None:
    assert not plan_of(source, lambda kernel: replace(kernel, name="other")).is_unchanged()


def test_an_output_without_what_is_remembered_is_looked_into(source: Path) -> None:
    (source.parent / "out/cache/kernel=kernel/index.json").unlink()
    assert not plan_of(source).is_unchanged()


def test_options_count_when_results_depend_on_them(source: Path) -> None:
    (kernel,) = find_kernels([str(source)])
    options = RunOptions((str(source),), "out")
    context = kernel_context(options, kernel, None)
    for same in (replace(options, out="other"), replace(options, workers=7, engine="local")):
        assert kernel_context(same, kernel, None).digest == context.digest
    assert kernel_context(replace(options, encode="all"), kernel, None).digest != context.digest
    assert kernel_context(options, replace(kernel, release="6.1"), None).digest != context.digest
    assert not plan_of(source, encode="all").is_unchanged()
    assert plan_of(source, engine="local").is_unchanged()
