"""Protects the job of one kernel: each module is worked on once, wherever, and all is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.commit import KernelReport, RunContext
from pipeline.engine.scheduler import run_jobs
from pipeline.kernel import KernelJob
from pipeline.model.base import SharedBase
from pipeline.model.engine import Batch, Item
from pipeline.model.errors import BaseError
from pipeline.model.options import RunOptions
from pipeline.plan import Plan, base_memory, kernel_context
from pipeline.sources.discover import find_kernels
from pipeline.store.cached_results import find_cached
from pipeline.store.output import OutputFolder, read_table
from pipeline.work.base import load_file, load_first
from pipeline.work.batch import work
from support.inline import Inline, InlineWorkforce
from support.runs import run_on, small_kernel
from support.trees import results_of


class OneJob:
    """For the scheduler: this kernel and no other."""

    def __init__(self, job: KernelJob, written: Sequence[Future[None]]) -> None:
        self._jobs = [job]
        self._written = written
        self.exhausted = False

    def next(self, *, wait: bool) -> KernelJob | None:
        self.exhausted = not self._jobs
        return self._jobs.pop() if self._jobs else None

    def check(self) -> None:
        for future in self._written:
            if future.done():
                future.result()


class Elsewhere(Inline):
    """Workers that see none of this machine's files: batches bring and return their contents."""

    def has_begun(self, ticket: Any) -> bool:
        return True

    def can_read(self, paths: Sequence[str]) -> bool:
        return False

    def submit(self, item: Item, shared: Any, options: Any) -> Any:
        if isinstance(item, Batch):
            assert set(item.contents or {}) == {module.path for module in item.modules}
            assert options.storage is None
        return super().submit(item, shared, options)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return small_kernel(tmp_path / "kernel")


@contextmanager
def job_of(
    source: Path, out: Path, *, base: bool = True
) -> Iterator[tuple[KernelJob, OneJob, Any]]:
    """The job of the kernel, and a function that gives its report when it is done."""
    reports: list[KernelReport] = []
    written: list[Future[None]] = []
    options = RunOptions((str(source),), str(out), engine="local")
    (kernel,) = find_kernels([str(source)])
    folder = OutputFolder(out)
    with ThreadPoolExecutor(1) as writer:
        context = RunContext(
            folder, options, writer, lambda: RUN_ROW, reports.append, written.append,
            InlineWorkforce, lambda: False, None,
        )  # fmt: skip
        plan = Plan(kernel, folder, options, {})
        plan.is_unchanged()  # learns what it can of the inputs
        found = (
            load_first(kernel.bases, lambda file: file, load_file, encode_seconds=0)
            if base
            else None
        )
        loaded = (
            (found, SharedBase.of(found.types, found.index))
            if found is not None
            else BaseError("it has none")
        )
        cached = find_cached(folder, kernel_context(options, kernel, base_memory(found)))
        job = KernelJob(context, plan, kernel, loaded, cached)

        def report() -> KernelReport:
            for future in written:
                future.result()
            (only,) = reports
            return only

        try:
            yield job, OneJob(job, written), report
        finally:
            writer.shutdown()
            folder.close()


RUN_ROW = {
    "run_id": "r", "started_at": datetime.now(UTC), "splitbtf_version": "0", "versions": {},
    "machine": "m", "engine": "inline", "ray_address": None, "workers": 1, "start_seconds": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("engine", [Inline, Elsewhere])
def test_wherever_it_is_done_the_output_is_that_of_a_run(
    engine: Callable[..., Inline], source: Path, tmp_path: Path
) -> None:
    expected = results_of(run_on(source, tmp_path / "expected"))
    out = tmp_path / "out"
    with job_of(source, out) as (job, jobs, report):
        assert job.has_work and job.shared is not None
        run_jobs(lambda: engine(work), jobs)
        assert job.is_done and (report().worked, report().summary.failed) == (3, 0)
    assert results_of(out) == expected

    # What is there is not done again, and no engine is asked for.
    def no_engine() -> Inline:
        raise AssertionError

    with job_of(source, out) as (job, jobs, report):
        assert not job.has_work
        run_jobs(no_engine, jobs)
        assert report().worked == 0
    assert results_of(out) == expected


def test_without_a_base_every_module_has_failed(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with job_of(source, out, base=False) as (job, jobs, report):
        assert not job.has_work and job.shared is None
        run_jobs(lambda: Inline(work), jobs)
        assert report().summary.failed == 3
    rows = read_table(out, "modules").to_pylist()
    assert {(row["module"], row["error_kind"]) for row in rows} == {
        (name, "no_base") for name in ("one", "two", "three")
    }
    assert all("it has none" in row["error"] for row in rows)
