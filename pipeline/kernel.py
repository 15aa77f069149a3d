"""One kernel's way through a run: what is to be done, its batches, what comes of them.

Of these jobs one is made beside the work on the one before it, hands out batches when a worker
would be idle, and puts tables together, and commits (``commit``), beside the work on the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .commit import KernelWork, RunContext, commit_kernel, commit_unchanged, lost_report
from .engine.isolation import WorkerExit
from .engine.scheduler import JobStats
from .files.read import ReadError, read_stored
from .files.remote import export_access, is_uri
from .model.base import IndexedBase, SharedBase
from .model.engine import Batch, Executor, Workforce
from .model.errors import BaseError, OutputError, PlaceError
from .model.options import ENCODE_ALL
from .model.records import NO_BASE, UNREADABLE, Failure, KernelInput, ModuleInput
from .model.stages import add_seconds
from .plan import Plan, base_memory, kernel_context
from .store.assemble import KernelTables
from .store.cached_results import CachedResult
from .tables.describe import ModuleGroup, rows_of
from .tables.stored import results
from .tables.stored.slices import ResultRef
from .work.batch import BatchDone, BatchOptions, Shared
from .work.batches import cut
from .work.module import ModuleResult, entry_of, failed, lost

_GRACE_SECONDS = 60.0
_NEVER = 1e9  # seconds
_PROBES = 3  # files that workers are asked for: if these can be read, all can


class _Job:
    """What all jobs have in common: the end, good or bad."""

    has_work = False
    shared: Any = None
    options: Any = None
    stall_seconds = _NEVER
    module_seconds = _NEVER

    def __init__(self, run: RunContext, plan: Plan) -> None:
        self.stats = JobStats()
        self.is_done = False
        self._run = run
        self._plan = plan
        self._error: Exception | None = None

    def batches(self, executor: Executor, workforce: Workforce) -> Iterator[Batch]:
        return iter(())

    def finished(self, value: Any) -> None:
        raise AssertionError("there was no batch")

    def lost(self, module: ModuleInput, reason: str) -> None:
        raise AssertionError("there was no batch")

    def fail(self, error: Exception) -> None:
        self._error = self._error or error

    def complete(self) -> None:
        self._run.in_writer(self._finish)

    def _in_writer(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have a function called in the writer's thread, unless the job has failed by then."""
        self._run.in_writer(self._try, function, *arguments)

    def _try(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            if self._error is None:
                function(*arguments)
        except Exception as error:
            if isinstance(error, OutputError) and not isinstance(error, PlaceError):
                raise  # no other job can write then
            self.fail(error)

    def _finish(self) -> None:
        self._try(self._commit)
        if self._error is not None:
            self._run.note(lost_report(self._plan.kernel, self._error))
        self.is_done = True

    def _commit(self) -> None:
        raise NotImplementedError


class UnchangedJob(_Job):
    """A kernel of which nothing is to be done but to say so in the table ``runs``."""

    def _commit(self) -> None:
        commit_unchanged(self._run, self._plan)


class KernelJob(_Job):
    """A kernel that is worked on, as far as its results are not there."""

    def __init__(
        self,
        run: RunContext,
        plan: Plan,
        kernel: KernelInput,
        loaded: tuple[IndexedBase, SharedBase] | BaseError,
        cached: Mapping[str, CachedResult],
    ) -> None:
        """``kernel`` is that of the plan, with files that can be read; ``loaded`` its base, or why
        there is none."""
        super().__init__(run, plan)
        self._kernel = kernel
        base, shared = loaded if isinstance(loaded, tuple) else (None, None)
        self._cached = cached
        self._context = context = replace(
            kernel_context(run.options, kernel, base_memory(base)),
            by_name=run.options.sorts(base is not None and base.is_sorted),
        )
        # Of encoding, of a module's own file and one with debug information, and of getting that,
        # see module_seconds.
        longest = run.options.module_seconds + 3 * run.options.encode_seconds
        self.stall_seconds = 2 * longest + _GRACE_SECONDS
        self.module_seconds = run.options.module_seconds
        self._stage = run.out.stage(kernel.name)
        self._work = KernelWork(
            plan, kernel, base, context, self._stage, self.stats, set(plan.read), 0, set()
        )
        self._done = self._failed = 0
        self._ship = False
        self.options = self._batch_options(direct=True)
        self._todo, self._taken = self._divide()
        # Where all results are there, tables are still to be made of them.
        to_do = bool(self._todo) or (bool(self._taken) and run.has_workers())
        self.has_work = to_do and base is not None
        if shared is not None:
            self.shared = Shared(shared, {key: found.entry for key, found in cached.items()})
        self._workforce = run.workforce(shared, self.stall_seconds)
        self._tables: KernelTables | None = None
        if not self.has_work:
            self._in_writer(self._begin)
        if isinstance(loaded, BaseError) and kernel.modules:
            self._in_writer(self._fail_all, loaded)
        elif isinstance(loaded, BaseError):
            self.fail(loaded)

    def _divide(self) -> tuple[list[ModuleInput], dict[int, ResultRef]]:
        """Tell the modules that have to be worked on from those whose results are there."""
        todo, taken = [], {}
        for module in self._kernel.modules:
            key = self._plan.key(module, self._context)
            found = self._cached.get(key) if key is not None else None
            if found is not None and self._plan.has_debug(module, found.entry):
                taken[module.object_id] = found.result
                self._done += 1
                self._failed += found.entry.error_kind is not None
            else:
                todo.append(module)
        return todo, taken

    # -------------------------------------------------------------- batches

    def batches(self, executor: Executor, workforce: Workforce) -> Iterator[Batch]:
        files = [m.content_path for m in self._todo if m.problem is None]
        files = [path for path in files if not is_uri(path)]
        self._ship = bool(files) and not executor.can_read(files[:: -(-len(files) // _PROBES)])
        here = self._run.out.storage.local
        direct = here is None or executor.can_read([f"{here}/.lock"])
        if direct:
            self._workforce = workforce
        self._in_writer(self._begin)
        self.options = self._batch_options(direct)
        self._report_progress()
        return self._cut(executor.workers)

    def _cut(self, workers: int) -> Iterator[Batch]:
        for modules in cut(self._todo, workers):
            if self._ship:
                yield _with_contents(modules, self._context.options.encode == ENCODE_ALL)
            else:
                yield Batch(modules)

    def _batch_options(self, direct: bool) -> BatchOptions:
        """``direct``: whether workers write to the output themselves."""
        storage = self._run.out.storage if direct else None
        stage = self._stage
        folders = stage.btf, stage.results, stage.rows
        return BatchOptions(self._context, storage, *folders, export_access())

    def finished(self, value: BatchDone) -> None:
        self._done += len(value.outcomes)
        add_seconds(self.stats.stages, value.stages)
        self._failed += sum(outcome.failed for outcome in value.outcomes)
        self._report_progress()
        self._in_writer(self._take, value)

    def lost(self, module: ModuleInput, reason: str) -> None:
        self._done += 1
        self._failed += 1
        end = WorkerExit(reason)
        self._in_writer(lambda: self._keep([module], [lost(module, end, self._context)]))

    def _report_progress(self) -> None:
        if self._run.progress is not None:
            of = len(self._kernel.modules)
            self._run.progress(self._kernel.name, self._done, self._failed, of)

    # -------------------------------------------------------------- in the writer's thread

    def _begin(self) -> None:
        work = self._work
        self._tables = KernelTables(self._run.out, self._kernel, work.base, self._workforce)
        self._add(self._taken)

    def _fail_all(self, error: BaseError) -> None:
        """Without a base nothing can be done of any module."""
        message = f"{self._kernel.name} has no base that can be used: {error}"
        modules = self._kernel.modules
        failures = [
            Failure(NO_BASE, message) if m.problem is None else Failure(UNREADABLE, m.problem)
            for m in modules
        ]
        self._keep(modules, list(map(failed, modules, failures)))

    def _keep(self, modules: Sequence[ModuleInput], done: Sequence[ModuleResult]) -> None:
        """Keep results that no worker could write."""
        entries = [entry_of(*each, self._context) for each in zip(modules, done, strict=True)]
        content = results.pack(entries, [rows_of(ModuleGroup.of_failed([d.record for d in done]))])
        path = f"{self._stage.results}/{results.name_of(content, self._context.digest)}"
        self._run.out.write(path, content, whole=True)
        self._work.worked += len(entries)
        for module, result in zip(modules, done, strict=True):
            self._remember(module, result.stored_sha256, None)
        self._add({module.object_id: ResultRef(path, at, "") for at, module in enumerate(modules)})

    def _take(self, value: BatchDone) -> None:
        """Take what came of a batch."""
        for path, content in value.files.items():
            self._run.out.write(path, content, whole=path.endswith(".results"))
        found: dict[int, ResultRef] = {}
        for outcome in value.outcomes:
            module = self._kernel.modules[outcome.object_id - 1]
            self._work.read.add(module.path)
            self._remember(module, outcome.stored_sha256, outcome.debug_sha256)
            if outcome.position is None:
                assert outcome.key is not None
                found[outcome.object_id] = self._cached[outcome.key].result
                continue
            self._work.worked += 1
            path = f"{self._stage.results}/{value.results}"
            btf = f"{self._stage.btf}/{module.name}.btf"
            rows = f"{self._stage.rows}/{value.results}"
            found[outcome.object_id] = ResultRef(path, outcome.position, btf, rows)
        self._add(found)

    def _add(self, found: Mapping[int, ResultRef]) -> None:
        assert self._tables is not None
        self._work.results.update(result.path for result in found.values())
        self._tables.add(found)

    def _remember(
        self, module: ModuleInput, stored_sha256: str | None, debug_sha256: str | None
    ) -> None:
        digests = self._plan.inputs.digests
        digests.pop(module.path, None)
        if stored_sha256 is not None:
            digests[module.path] = stored_sha256
        if debug_sha256 is not None and module.debug is not None:
            digests[module.debug.path] = debug_sha256

    def _commit(self) -> None:
        assert self._tables is not None
        commit_kernel(self._run, self._work, self._tables)

    def _finish(self) -> None:
        if self._tables is not None:
            self._tables.wait()
        super()._finish()


def _with_contents(modules: Sequence[ModuleInput], debug_first: bool) -> Batch:
    """Make a batch that brings its files along. ``debug_first``: those with debug information too,
    where the others would do."""
    contents: dict[str, bytes] = {}
    ready = []
    for module in modules:
        if module.problem is None:
            try:
                content = bytes(read_stored(module.content_path))
                contents[module.content_path] = content
                debug = module.debug
                if (
                    debug is not None
                    and debug.problem is None
                    and (debug_first or b".BTF\0" not in content)
                ):
                    contents[debug.content_path] = bytes(read_stored(debug.content_path))
            except ReadError as error:
                module = replace(module, problem=error.message)
        ready.append(module)
    return Batch(tuple(ready), contents=contents)
