"""From a kernel whose modules are done to what readers see of it: tables, BTF files, manifest."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor as Pool
from dataclasses import dataclass, field, replace
from typing import Any

from . import __version__
from .engine.malloc import release_memory
from .engine.scheduler import JobStats
from .files.storage import cannot_write
from .model.base import IndexedBase, SharedBase
from .model.engine import Workforce
from .model.errors import PlaceError, explain
from .model.options import KernelContext, RunOptions
from .model.records import KernelInput
from .model.stages import BASE, COMMIT, LAST, WORK, Laps, by_stage
from .model.steps import STEPS
from .model.summary import WorkSummary, on_base
from .plan import Plan, base_memory
from .store.assemble import KernelTables
from .store.input_cache import Memory, inputs_digest
from .store.manifest import Manifest
from .store.output import (
    OutputFolder,
    OutputStage,
    btf_folder,
    version_name,
)

Progress = Callable[[str, int, int, int], None]  # kernel, done, failed, of


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What came of one kernel.

    read    inputs that were read
    worked  inputs that were worked on; the results of the others were there already
    mended  committed files that were not as they had been written
    results files of results that hold what came of its inputs
    problem why nothing could be made of the kernel; what was committed before stays
    stages  seconds by stage, see ``model.stages``
    """

    kernel: str
    summary: WorkSummary
    tables: dict[str, list[str]]
    btf_folder: str
    read: int = 0
    worked: int = 0
    mended: tuple[str, ...] = ()
    results: Sequence[str] = ()
    problem: str | None = None
    index_seconds: float = 0.0
    work_seconds: float = 0.0
    tables_seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class RunContext:
    """What jobs need of the run that they belong to.

    writer    a single thread: whatever is given to it is done in order
    run_row   what the table ``runs`` says of the run itself, when asked
    note      takes the report of a kernel that is committed, or lost
    check     takes what the writer is doing, to find out about errors
    workforce makes one that is this machine's, of what is shared and the seconds of a call
    has_workers says whether there are workers that need not be waited for
    """

    out: OutputFolder
    options: RunOptions
    writer: Pool
    run_row: Callable[[], Mapping[str, Any]]
    note: Callable[[KernelReport], None]
    check: Callable[[Any], None]
    workforce: Callable[[SharedBase | None, float], Workforce]
    has_workers: Callable[[], bool]
    progress: Progress | None

    def in_writer(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have a function called in the writer's thread."""
        self.check(self.writer.submit(function, *arguments))


@dataclass(slots=True)
class KernelWork:
    """A kernel that is worked on, and what has come of it so far.

    kernel   that of the plan, with files that can be read
    base     None if none could be used
    read     paths of inputs that were read
    worked   how many inputs were worked on
    results  files of results in use, relative to the output
    """

    plan: Plan
    kernel: KernelInput
    base: IndexedBase | None
    context: KernelContext
    stage: OutputStage
    stats: JobStats
    read: set[str]
    worked: int
    results: set[str]


def lost_report(kernel: KernelInput, error: Exception) -> KernelReport:
    """Report a kernel that something went wrong with; its results stay for the next run."""
    modules = len(kernel.modules)
    summary = WorkSummary(modules, modules, 0, 0, 0, 0, (), ())
    return KernelReport(kernel.name, summary, {}, "", problem=explain(error))


def commit_unchanged(run: RunContext, plan: Plan) -> None:
    """Say in the table ``runs`` that there was nothing to do."""
    manifest = plan.manifest
    assert manifest is not None and manifest.summary is not None
    summary = manifest.summary
    facts = {"read": len(plan.read), "worked": 0, "reused": summary.modules}
    memory = plan.inputs.to_memory(
        base=plan.base,
        conditional=plan.memory.conditional,
        version=plan.memory.version,
        files=plan.memory.files,
        results=plan.memory.results,
    )
    _publish(run, _with_run(run, manifest, summary, facts), memory, summary, read=len(plan.read))


def commit_kernel(run: RunContext, work: KernelWork, tables: KernelTables) -> None:
    """Put the tables of a kernel together, and make it what readers see.

    tables  to which the results of all modules were given
    """
    from .tables.registry import all_tables  # late: Arrow

    STEPS.debug("writing the tables of %s", work.kernel.name)
    began = time.perf_counter()
    out, kernel, base = run.out, work.kernel, work.base
    parts, summary = tables.finish()
    laps: Laps = [(LAST, time.perf_counter())]
    release_memory()
    found = tables.summary
    files, digests = dict(found.files), dict(found.digests)
    base_sha256 = ""
    if base is not None:
        base_sha256 = digests["vmlinux"] = base.sha256
        files["vmlinux.btf"] = len(base.content)
    version = version_name(base_sha256, digests)
    is_there = out.has_version(kernel.name, files, digests, version)
    if not is_there:
        _fill(out, work.stage, found.origins, digests)
        if base is not None:
            out.write(f"{work.stage.btf}/vmlinux.btf", base.content)
    folder = out.promote_stage(work.stage, files, version, replace=not is_there)
    laps.append((COMMIT, time.perf_counter()))
    parts |= tables.finish_kernel(parts, folder, summary)
    laps.append((LAST, time.perf_counter()))
    summary = replace(
        on_base(summary, base),
        repeated_types=tables.repeated_types,
        repeated_bytes=tables.repeated_bytes,
    )
    ordered = {name: parts[name] for name in all_tables() if name in parts}
    manifest = Manifest(
        kernel=kernel.name,
        splitbtf_version=__version__,
        base_sha256=base_sha256,
        inputs_sha256=inputs_digest(work.context.digest, kernel, base_memory(base), found.keys),
        btf_folder=folder,
        btf_files=len(files),
        btf_bytes=sum(files.values()),
        tables=ordered,
        summary=summary,
    )
    index_seconds = base.index_seconds if base is not None else 0.0
    stages = {
        BASE: index_seconds,
        WORK: work.stats.work_seconds,
        **work.stats.stages,
        **by_stage(began, laps),
    }
    row = {
        "index_seconds": index_seconds,
        "work_seconds": work.stats.work_seconds,
        "busy_seconds": work.stats.busy_seconds,
        "tables_seconds": time.perf_counter() - began,
        "batches": work.stats.batches,
        "crashes": work.stats.crashes,
        "stages": sorted(stages.items()),
        "read": len(work.read),
        "worked": work.worked,
        "reused": summary.modules - work.worked,
    }
    _publish(
        run,
        _with_run(run, manifest, summary, row),
        _memory(work, tables, folder, digests),
        summary,
        read=len(work.read),
        worked=work.worked,
        mended=tuple(fault.path for fault in work.plan.faults),
        index_seconds=index_seconds,
        work_seconds=work.stats.work_seconds,
        tables_seconds=row["tables_seconds"],
        stages=stages,
    )


def _fill(
    out: OutputFolder, stage: OutputStage, origins: Mapping[str, str], digests: Mapping[str, str]
) -> None:
    """Put BTF files beside those that were just made that others have made before.

    origins  where BTF files are, by name
    digests  of BTF files by module
    """
    for name, origin in origins.items():
        target = f"{stage.btf}/{name}"
        if origin == target:
            continue
        try:
            if origin.rpartition("/")[2] != name:  # of a stage: it may have been written since
                digest = hashlib.sha256(out.storage.read(origin)).hexdigest()
                if digest != digests[name.removesuffix(".btf")]:
                    raise PlaceError(f"{origin} has changed while it was needed: run again")
            out.storage.link(origin, target)
        except OSError as error:
            raise cannot_write(target, error) from error


def _memory(
    work: KernelWork, tables: KernelTables, folder: str, digests: Mapping[str, str]
) -> Memory:
    """Say what the next run should know of the inputs."""
    inputs, found = work.plan.inputs, tables.summary
    if work.base is not None and work.base.file is not None:
        inputs.remember_base(work.base.file)
    for module in work.kernel.modules:
        if found.keys[module.object_id].startswith("!"):
            inputs.digests[module.path] = found.keys[module.object_id]
    folders_and_names = (path.rpartition("/") for path in work.results)
    return inputs.to_memory(
        base=base_memory(work.base),
        conditional=found.conditional,
        version=folder,
        files={f"{name}.btf": digest for name, digest in digests.items()},
        results=sorted(name for at, _, name in folders_and_names if at == work.stage.results),
    )


def _with_run(
    run: RunContext, manifest: Manifest, summary: WorkSummary, facts: Mapping[str, Any]
) -> Manifest:
    """Add this run's row to those of the runs before it."""
    from .tables.runs import with_earlier_runs  # late: Arrow

    out, name = run.out, manifest.kernel
    earlier = out.manifests.get(name)
    files = []
    for part in earlier.tables.get("runs", ()) if earlier is not None else ():
        with contextlib.suppress(FileNotFoundError):
            content = out.storage.read(part.path)
            if hashlib.sha256(content).hexdigest() == part.sha256:
                files.append(content)
    row = {**run.run_row(), "modules": summary.modules, "failed": summary.failed, **facts}
    part = out.table(name, "runs", with_earlier_runs(files, row))
    return replace(manifest, tables={**manifest.tables, "runs": (part,)})


def _publish(
    run: RunContext, manifest: Manifest, memory: Memory, summary: WorkSummary, **facts: Any
) -> None:
    """Remember the inputs, commit the manifest, and report; ``facts`` are for the report."""
    storage = run.out.storage
    try:
        memory.write(storage, manifest.kernel)
    except OSError as error:
        raise cannot_write(error.filename or storage.place, error) from error
    run.out.commit(manifest)
    run.note(
        KernelReport(
            kernel=manifest.kernel,
            summary=summary,
            tables=manifest.table_paths(),
            btf_folder=(
                btf_folder(manifest.kernel) if storage.local is not None else manifest.btf_folder
            ),
            results=memory.results,
            **facts,
        )
    )
