"""One kernel's way through a run: what is to be done, its batches, its tables, its commit.

Of these jobs one is made beside the work on the one before it, hands out batches when a worker
would be idle, and puts tables together, and commits, beside the work on the next one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor as Pool
from dataclasses import asdict, dataclass, replace
from typing import Any

from . import __version__
from .engine.isolation import Death
from .engine.malloc import give_back
from .engine.scheduler import Batch, Executor, Facts, Workforce
from .files.read import ReadError, read_stored
from .files.remote import is_uri, known_access
from .files.storage import Stored
from .model.base import IndexedBase, SharedBase
from .model.errors import BaseError, OutputError
from .model.records import (
    ENCODE_ALL,
    FAILED,
    NO_BASE,
    BaseRecord,
    Failure,
    KernelInput,
    ModuleInput,
    ModuleRecord,
)
from .model.summary import WorkSummary, restored
from .plan import Plan, Settings, base_memory, work_options
from .sources.names import printable
from .store.assemble import KernelTables
from .store.cached_results import Known
from .store.input_cache import Memory, inputs_digest
from .store.output import (
    TABLE_NAMES,
    Manifest,
    OutputFolder,
    btf_folder,
    manifest_facts,
    version_name,
)
from .tables import results
from .tables.analysis import ANALYSES, Analysed, Here, analyse
from .tables.describe import describe_base
from .tables.parquet import Part
from .tables.results import BatchResults, Entry
from .tables.slices import Location
from .work.batches import cut
from .work.worker import (
    BatchDone,
    BatchOptions,
    Place,
    Shared,
    Worked,
    entry_of,
    limit_seconds,
    lost,
)

_GRACE_SECONDS = 60.0
_NEVER = 1e9  # seconds
_SEEN = 3  # files that are looked for on workers: if these are there, all are

Progress = Callable[[str, int, int, int], None]  # kernel, done, failed, of
RunsRow = Callable[[Mapping[str, Any]], Any]  # facts -> the table runs, of one row


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What came of one kernel.

    read    inputs that were read
    worked  inputs that were worked on; the results of the others were there already
    """

    kernel: str
    summary: WorkSummary
    tables: dict[str, list[str]]
    btf_folder: str
    read: int = 0
    worked: int = 0
    index_seconds: float = 0.0
    work_seconds: float = 0.0
    tables_seconds: float = 0.0

    @property
    def unchanged(self) -> bool:
        """Whether there was nothing to do."""
        return not self.worked


@dataclass(slots=True)
class Context:
    """What jobs need of the run that they belong to.

    writer    a single thread: whatever is given to it is done in order
    note      takes the report of a kernel that is committed
    """

    out: OutputFolder
    settings: Settings
    writer: Pool
    runs_row: RunsRow
    note: Callable[[KernelReport], None]
    check: Callable[[Any], None]
    progress: Progress | None


class UnchangedJob:
    """A kernel of which nothing is to be done but to say so in the table ``runs``."""

    has_work = False
    shared = options = None
    stall_seconds = _NEVER

    def __init__(self, context: Context, plan: Plan) -> None:
        self.facts = Facts()
        self.is_done = False
        self._context = context
        self._plan = plan

    def batches(self, executor: Executor, workforce: Workforce) -> Iterator[Batch]:
        return iter(())

    def finished(self, value: Any) -> None:
        raise AssertionError("there was no batch")

    def lost(self, module: ModuleInput, why: str) -> None:
        raise AssertionError("there was no batch")

    def complete(self) -> None:
        self._context.check(self._context.writer.submit(self._commit))

    def _commit(self) -> None:
        manifest, plan = self._plan.manifest, self._plan
        assert manifest is not None
        summary = restored(manifest.summary)
        facts = {"read": len(plan.read), "worked": 0, "reused": summary.modules}
        manifest = _with_run(self._context, manifest, summary, facts)
        memory = plan.inputs.to_memory(
            base=plan.base,
            conditional=plan.memory.conditional,
            version=plan.memory.version,
            files=plan.memory.files,
            results=plan.memory.results,
        )
        _publish(self._context, manifest, lambda storage: memory.write(storage, manifest.kernel))
        self._context.note(_report(self._context, manifest, summary, read=len(plan.read)))
        self.is_done = True


class KernelJob:
    """A kernel that is worked on, as far as its results are not known."""

    def __init__(
        self,
        context: Context,
        plan: Plan,
        kernel: KernelInput,
        base: IndexedBase | None,
        known: Mapping[str, Known],
        error: BaseError | None = None,
    ) -> None:
        """``kernel`` is that of the plan, with files that can be read. Without a base, ``error``
        says why there is none."""
        self.facts = Facts()
        self.base = base_memory(base)
        self.is_done = False
        self._context = context
        self._plan = plan
        self._kernel = kernel
        self._loaded = base
        self._error = error
        self._known = known
        self._stage = context.out.stage(kernel.name)
        self._work = work_options(context.settings, kernel, self.base)
        self._results: set[str] = set()
        self._read = set(plan.read)
        self._worked = 0
        self._done = self._failed = 0
        self._ship = False
        self.options = BatchOptions(self._work, self._place(True), known_access())
        self._todo, self._taken = self._divide()
        self.has_work = bool(self._todo) and base is not None
        self.shared: Shared | None = None
        shared = SharedBase.of(base) if base is not None else None
        if shared is not None:
            self.shared = Shared(shared, {key: found.entry for key, found in known.items()})
        self._workforce: Workforce = Here(shared)
        if not self.has_work:
            self._submit(self._begin)
        if base is None:
            self._submit(self._fail_all)

    @property
    def stall_seconds(self) -> float:
        limit = limit_seconds(self._work)
        return _NEVER if limit is None else 2 * limit + _GRACE_SECONDS

    def _divide(self) -> tuple[list[ModuleInput], dict[int, Location]]:
        """The modules that have to be worked on, and where the results of the others are."""
        todo, taken = [], {}
        for module in self._kernel.modules:
            key = self._plan.key(module, self._work)
            found = self._known.get(key) if key is not None else None
            if found is not None and self._plan.has_debug(module, found.entry):
                taken[module.object_id] = found.location
                self._count(found.entry)
            else:
                todo.append(module)
        return todo, taken

    # -------------------------------------------------------------- batches

    def batches(self, executor: Executor, workforce: Workforce) -> Iterator[Batch]:
        files = [m.content_path for m in self._todo if m.problem is None]
        files = [path for path in files if not is_uri(path)]
        self._ship = bool(files) and not executor.sees(files[:: -(-len(files) // _SEEN)])
        here = self._context.out.storage.local
        direct = here is None or executor.sees([f"{here}/.lock"])
        if direct:
            self._workforce = workforce
        self._submit(self._begin)
        self.options = BatchOptions(self._work, self._place(direct), known_access())
        self._report_progress()
        return self._cut(executor.workers)

    def _cut(self, workers: int) -> Iterator[Batch]:
        for modules in cut(self._todo, workers):
            if self._ship:
                yield _with_contents(modules, self._work.encode == ENCODE_ALL)
            else:
                yield Batch(modules)

    def _place(self, direct: bool) -> Place:
        storage = self._context.out.storage if direct else None
        return Place(storage, self._stage.btf, self._stage.results)

    def finished(self, value: BatchDone) -> None:
        self._done += len(value.outcomes)
        self._failed += sum(outcome.failed for outcome in value.outcomes)
        self._report_progress()
        self._submit(self._absorb, value)

    def lost(self, module: ModuleInput, why: str) -> None:
        self._done += 1
        self._failed += 1
        self._submit(self._keep, [(module, lost(module, Death(why)))])

    def complete(self) -> None:
        self._submit(self._commit)

    def _report_progress(self) -> None:
        if self._context.progress is not None:
            of = len(self._kernel.modules)
            self._context.progress(self._kernel.name, self._done, self._failed, of)

    def _count(self, entry: Entry) -> None:
        self._done += 1
        self._failed += entry.error_kind is not None

    # -------------------------------------------------------------- in the writer's thread

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        self._context.check(self._context.writer.submit(function, *arguments))

    def _begin(self) -> None:
        self._tables = KernelTables(
            self._context.out, self._kernel, self._workforce, has_base=self._loaded is not None
        )
        self._add(self._taken)

    def _fail_all(self) -> None:
        """Without a base nothing can be done of any module."""
        message = f"{self._kernel.name} has no base that can be used: {self._error}"
        failed = [
            ModuleRecord(
                module=module.name,
                object_id=module.object_id,
                source=module.source,
                path=printable(module.path),
                status=FAILED,
                failure=Failure(NO_BASE, message),
            )
            for module in self._kernel.modules
        ]
        self._keep(list(zip(self._kernel.modules, map(Worked, failed), strict=True)))

    def _keep(self, lost_modules: Sequence[tuple[ModuleInput, Worked]]) -> None:
        """Results that no worker could write."""
        entries = [entry_of(module, worked, self._work) for module, worked in lost_modules]
        records = [worked.record for _, worked in lost_modules]
        nothing = BatchResults(records, None, [None] * len(records))
        content = results.pack(entries, nothing)
        path = f"{self._stage.results}/{results.name_of(content, self._work.context)}"
        self._context.out.write(path, content, whole=True)
        self._worked += len(entries)
        for module, worked in lost_modules:
            self._remember(module, worked.stored_sha256, None)
        self._add(
            {
                module.object_id: Location(path, position, "")
                for position, (module, _) in enumerate(lost_modules)
            }
        )

    def _absorb(self, value: BatchDone) -> None:
        for path, content in value.files.items():
            self._context.out.write(path, content, whole=path.endswith(".results"))
        found: dict[int, Location] = {}
        for outcome in value.outcomes:
            module = self._kernel.modules[outcome.object_id - 1]
            self._read.add(module.path)
            self._remember(module, outcome.stored_sha256, outcome.debug_sha256)
            if outcome.position is None:
                assert outcome.key is not None
                found[outcome.object_id] = self._known[outcome.key].location
                continue
            self._worked += 1
            path = f"{self._stage.results}/{value.results}"
            btf = f"{self._stage.btf}/{module.name}.btf"
            found[outcome.object_id] = Location(path, outcome.position, btf)
        self._add(found)

    def _add(self, found: Mapping[int, Location]) -> None:
        self._results.update(location.path for location in found.values())
        self._tables.located(found)

    def _remember(
        self, module: ModuleInput, stored_sha256: str | None, debug_sha256: str | None
    ) -> None:
        digests = self._plan.inputs.digests
        digests.pop(module.path, None)
        if stored_sha256 is not None:
            digests[module.path] = stored_sha256
        if debug_sha256 is not None and module.debug is not None:
            digests[module.debug.path] = debug_sha256

    # -------------------------------------------------------------- commit

    def _commit(self) -> None:
        began = time.perf_counter()
        out, kernel, base = self._context.out, self._kernel, self._loaded
        facts = self._tables.facts
        parts, summary = self._tables.finish()
        give_back()
        files, digests = dict(facts.files), dict(facts.digests)
        if base is not None:
            files["vmlinux.btf"] = len(base.content)
            digests["vmlinux"] = base.sha256
        version = version_name(base.sha256 if base is not None else "", digests)
        if not out.has_version(kernel.name, files, version):
            self._fill(facts.origins, digests)
            if base is not None:
                out.write(f"{self._stage.btf}/vmlinux.btf", base.content)
        folder = out.settle(self._stage, files, version)
        parts |= self._more_tables(parts, folder, summary)
        manifest = Manifest(
            kernel=kernel.name,
            splitbtf_version=__version__,
            base_sha256=base.sha256 if base is not None else "",
            inputs_sha256=inputs_digest(self._work.context, kernel, self.base, facts.keys),
            btf_folder=folder,
            btf_files=len(files),
            btf_bytes=sum(files.values()),
            tables={name: parts[name] for name in TABLE_NAMES if name in parts},
            summary=asdict(summary),
        )
        row = {
            "index_seconds": base.index_seconds if base is not None else 0.0,
            "work_seconds": self.facts.work_seconds,
            "busy_seconds": self.facts.busy_seconds,
            "tables_seconds": time.perf_counter() - began,
            "batches": self.facts.batches,
            "crashes": self.facts.crashes,
            "read": len(self._read),
            "worked": self._worked,
            "reused": summary.modules - self._worked,
        }
        manifest = _with_run(self._context, manifest, summary, row)
        memory = self._memory(folder, digests, facts.keys)
        _publish(self._context, manifest, lambda storage: memory.write(storage, kernel.name))
        report = _report(
            self._context,
            manifest,
            summary,
            read=len(self._read),
            worked=self._worked,
            index_seconds=row["index_seconds"],
            work_seconds=row["work_seconds"],
            tables_seconds=row["tables_seconds"],
        )
        self._context.note(report)
        self.is_done = True

    def _more_tables(
        self, parts: Mapping[str, Sequence[Part]], folder: str, summary: WorkSummary
    ) -> dict[str, tuple[Part, ...]]:
        """The tables that need all modules."""
        from .tables import arrow as tables
        from .tables import schemas

        out, name = self._context.out, self._kernel.name
        row = tables.kernels_table(_describe(self._kernel, self._loaded), summary)
        more: dict[str, tuple[Part, ...]] = {"kernels": (out.table(name, "kernels", row),)}
        if self._loaded is not None:
            found = analyse(self._analysed(parts, folder))
        else:
            found = {table: schemas.TABLES[table].schema.empty_table() for table in ANALYSES}
        for table, rows in found.items():
            more[table] = (out.table(name, table, rows),)
        return more

    def _analysed(self, parts: Mapping[str, Sequence[Part]], folder: str) -> Analysed:
        storage = self._context.out.storage
        tables = {name: [Stored(storage, part.path) for part in parts[name]] for name in parts}
        return Analysed(
            names=["", *(module.name for module in self._kernel.modules)],
            tables=tables,
            btf=Stored(storage, folder),
            workforce=self._workforce,
        )

    def _fill(self, origins: Mapping[str, str], digests: Mapping[str, str]) -> None:
        """Put BTF files beside those that were just made that others have made before."""
        storage = self._context.out.storage
        for name, origin in origins.items():
            target = f"{self._stage.btf}/{name}"
            if origin == target:
                continue
            try:
                if origin.rpartition("/")[2] != name:  # of a stage: it may have been written since
                    digest = hashlib.sha256(storage.read(origin)).hexdigest()
                    if digest != digests[name.removesuffix(".btf")]:
                        raise OutputError(f"{origin} has changed while it was needed: run again")
                storage.link(origin, target)
            except OSError as error:
                raise OutputError(f"cannot write {target}: {error.strerror or error}") from error

    def _memory(self, folder: str, digests: Mapping[str, str], keys: Mapping[int, str]) -> Memory:
        inputs = self._plan.inputs
        if self._loaded is not None and self._loaded.file is not None:
            inputs.remember_base(self._loaded.file)
        for module in self._kernel.modules:
            if keys[module.object_id].startswith("!"):
                inputs.digests[module.path] = keys[module.object_id]
        used = [path.rpartition("/")[2] for path in self._results
                if path.startswith(f"{self._stage.results}/")]  # fmt: skip
        return inputs.to_memory(
            base=self.base,
            conditional=self._tables.facts.conditional,
            version=folder,
            files={f"{name}.btf": digest for name, digest in digests.items()},
            results=sorted(used),
        )


def _with_contents(modules: Sequence[ModuleInput], debug_first: bool) -> Batch:
    """A batch that brings its files along. ``debug_first``: those with debug information too,
    where the others would do."""
    contents: dict[str, bytes] = {}
    ready = []
    for module in modules:
        if module.problem is None:
            try:
                content = bytes(read_stored(module.content_path))
                contents[module.content_path] = content
                debug = module.debug
                wanted = debug_first or b".BTF\0" not in content
                if debug is not None and debug.problem is None and wanted:
                    contents[debug.content_path] = bytes(read_stored(debug.content_path))
            except ReadError as error:
                module = replace(module, problem=error.message)
        ready.append(module)
    return Batch(tuple(ready), contents=contents)


def _describe(kernel: KernelInput, base: IndexedBase | None) -> BaseRecord | None:
    if base is None or base.file is None:
        return None
    return describe_base(
        base.types,
        path=base.file.path,
        source=base.file.source,
        sha256=base.sha256,
        release=base.release or kernel.release,
        encoder=base.encoder,
    )


def _with_run(
    context: Context, manifest: Manifest, summary: WorkSummary, facts: Mapping[str, Any]
) -> Manifest:
    """The manifest with this run's row after those of the runs before it."""
    from .tables.arrow import with_earlier_runs

    out = context.out
    row = {"modules": summary.modules, "failed": summary.failed, **facts}
    earlier = out.manifests.get(manifest.kernel)
    parts = earlier.tables.get("runs", ()) if earlier is not None else ()
    files = [out.storage.open(part.path) for part in parts]
    part = out.table(manifest.kernel, "runs", with_earlier_runs(files, context.runs_row(row)))
    return replace(manifest, tables={**manifest.tables, "runs": (part,)})


def _publish(context: Context, manifest: Manifest, remember: Callable[[Any], None]) -> None:
    try:
        remember(context.out.storage)
    except OSError as error:
        where = error.filename or context.out.storage.place
        raise OutputError(f"cannot write {where}: {error.strerror or error}") from error
    context.out.commit(manifest)


def _report(
    context: Context, manifest: Manifest, summary: WorkSummary, **facts: Any
) -> KernelReport:
    local = context.out.storage.local is not None
    return KernelReport(
        kernel=manifest.kernel,
        summary=summary,
        tables=manifest_facts(manifest),
        btf_folder=btf_folder(manifest.kernel) if local else manifest.btf_folder,
        **facts,
    )
