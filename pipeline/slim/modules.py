"""``slim_modules``: modules of whole kernels made smaller, in processes of this machine.

Workers write files to a folder of this run, out of which each is moved to the output folder, in one
step, under the path that it has below its source; or it goes into a new package (``debian``).
Nothing else in the output folder is touched, and nothing is left there of a run that is ended.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import btf

from ..engine.local import Local
from ..engine.scheduler import JobStats, run_jobs
from ..files.remote import is_uri, shown
from ..files.scratch import ScratchFolder
from ..files.storage import LocalFolder, cannot_write
from ..model.base import Announce
from ..model.engine import Batch, Executor, Workforce
from ..model.errors import BaseError, OutputError, SourceError
from ..model.options import ENCODE_NONE, FORM_AUTO, FORM_KERNEL
from ..model.records import CRASHED, Failure, KernelInput, ModuleInput
from ..model.steps import STEPS
from ..model.summary import FailedInput
from ..sources.discover import find_kernels
from ..sources.listing import absolute, check_outside
from ..sources.names import printable
from ..sources.unpack import PackageUnpacker
from ..work.base import load_file, load_first
from ..work.batches import cut
from .debian import SlimPackage, is_debian, write_package
from .work import SMALLER, SlimOptions, SlimRecord, keep, target_of, work

MODULE_SECONDS = 600.0  # xz takes a few for a large module
_GRACE_SECONDS = 60.0

Progress = Callable[[str, int, int, int, int], None]  # label; done, failed, of; of others to come


@dataclass(frozen=True, slots=True)
class SlimReport:
    """What ``slim_modules`` did.

    kernels   names, and of those of which nothing could be done, why
    records   of all modules of the others, in the order of kernels and names
    packages  that were written; None where files were
    """

    output: str
    kernels: dict[str, str | None]
    records: tuple[SlimRecord, ...]
    packages: tuple[SlimPackage, ...] | None
    workers: int
    seconds: float

    @property
    def failures(self) -> list[FailedInput]:
        """What is wrong with modules."""
        return [
            FailedInput(record.path, record.module, record.failure)
            for record in self.records
            if record.failure is not None
        ]


def slim_modules(
    sources: Sequence[str],
    output: str,
    *,
    base: str | None = None,
    form: str = FORM_AUTO,
    deb: bool = False,
    workers: int | None = None,
    announce: Announce | None = None,
    progress: Progress | None = None,
) -> SlimReport:
    """Write the modules of ``sources`` to the folder ``output``, with no more BTF than they need.

    base     of all modules; None: it is found among the sources
    form     of the BTF: one of ``FORM_CHOICES``
    deb      whether to write packages, made of those among the sources, instead of files
    workers  processes; None: one for each processor that may be used

    Raises SourceError, BaseError or OutputError where nothing can be done.
    """
    began = time.perf_counter()
    if is_uri(output):
        raise OutputError(f"{output}: modules are written to a folder of this machine only")
    check_outside(sources, output)
    count = workers or len(os.sched_getaffinity(0))
    btf.warm_up(announce)
    engine = Local(count, work)  # it forks: before there are threads
    staging = PackageUnpacker(tempfile.gettempdir(), ENCODE_NONE)
    made: ScratchFolder | None = None
    try:
        more = len(sources) - 1
        STEPS.info("reading %s%s", shown(sources[0]), f" and {more} more" if more else "")
        kernels = find_kernels(sources, base=base)
        roots = tuple(map(absolute, sources))
        kernels = _with_targets(kernels, roots)
        if not any(kernel.modules for kernel in kernels):
            raise SourceError("no modules among the sources, only a vmlinux")
        if deb:
            _check_packages(kernels)
        try:
            os.makedirs(output, exist_ok=True)
            made = ScratchFolder(None if deb else output)
        except OSError as error:
            raise cannot_write(output, error) from error
        folder = LocalFolder(made.path)
        publish = None if deb else LocalFolder(output)
        jobs = _Jobs(kernels, folder, publish, roots, form, staging, announce, progress)
        run_jobs(lambda: engine, jobs)
        if not jobs.done:
            raise BaseError("; ".join(dict.fromkeys(filter(None, jobs.problems.values()))))
        records = tuple(record for job in jobs.done for record in job.in_order())
        packages = _packages(kernels, records, folder, output) if deb else None
    finally:
        engine.close()
        staging.close()
        if made is not None:
            made.close()
    problems = {kernel.name: jobs.problems.get(kernel.name) for kernel in kernels}
    seconds = time.perf_counter() - began
    return SlimReport(output, problems, records, packages, count, seconds)


def _with_targets(kernels: Sequence[KernelInput], roots: Sequence[str]) -> tuple[KernelInput, ...]:
    """Check where modules go: no two to one place, none out of the output folder.

    Raises SourceError.
    """
    taken: dict[str, ModuleInput] = {}
    checked = []
    for kernel in kernels:
        modules = []
        for module in kernel.modules:
            target = target_of(module, roots)
            if target.startswith("../") or "\0" in target:
                module = replace(module, problem="its name leads out of its package")
            other = taken.setdefault(target, module)
            if other.path != module.path:
                raise SourceError(
                    f"{printable(other.path)} and {printable(module.path)} would both be written "
                    f"to {printable(target)}: give each an output folder of its own"
                )
            modules.append(module)
        checked.append(replace(kernel, modules=tuple(modules)))
    return tuple(checked)


def _check_packages(kernels: Sequence[KernelInput]) -> None:
    """Raise SourceError for a module that is in no package that can be written again."""
    for kernel in kernels:
        for module in kernel.modules:
            where = module.package or module.path
            if module.problem is None and not is_debian(module.package or ""):
                raise SourceError(
                    f"{printable(where)}: --deb takes Debian packages (.deb) only; without it, "
                    "modules are written as files"
                )


def _packages(
    kernels: Sequence[KernelInput],
    records: Sequence[SlimRecord],
    made: LocalFolder,
    output: str,
) -> tuple[SlimPackage, ...]:
    """Write a package for each one that holds a module that got smaller. Raises OutputError."""
    members: dict[str, set[str]] = defaultdict(set)
    smaller = {record.path for record in records if record.status == SMALLER}
    for kernel in kernels:
        for module in kernel.modules:
            if module.package is not None and printable(module.path) in smaller:
                members[module.package].add(module.member or "")
    done = []
    for package, names in members.items():
        STEPS.info("writing the package made of %s", package)
        done.append(write_package(package, names, made, output))
    return tuple(done)


class _Jobs:
    """Prepares one kernel after the other: its base, its modules unpacked."""

    def __init__(
        self,
        kernels: Sequence[KernelInput],
        output: LocalFolder,
        publish: LocalFolder | None,
        roots: tuple[str, ...],
        form: str,
        staging: PackageUnpacker,
        announce: Announce | None,
        progress: Progress | None,
    ) -> None:
        """``output``: where workers write; ``publish``: where files are moved to, if at all."""
        self.done: list[_Job] = []
        self.problems: dict[str, str | None] = {}
        self.exhausted = False
        self.progress = progress
        self._queue = list(kernels)
        self.publish = publish
        self._output, self._roots, self._form = output, roots, form
        self._staging = staging
        self._announce = announce

    @property
    def later(self) -> int:
        """Modules of kernels that are to come."""
        return sum(len(kernel.modules) for kernel in self._queue)

    def check(self) -> None:
        """No other thread is at work."""

    def next(self, *, wait: bool) -> _Job | None:
        """Return the next kernel that has a base and modules."""
        if not wait:  # one kernel is unpacked at a time
            return None
        while self._queue:
            kernel = self._queue.pop(0)
            if not kernel.modules:
                continue
            STEPS.info("kernel %s: %s modules", kernel.name, f"{len(kernel.modules):,}")
            try:
                return self._job(kernel)
            except BaseError as error:
                self.problems[kernel.name] = str(error)
        self.exhausted = True
        return None

    def _job(self, kernel: KernelInput) -> _Job:
        staging = self._staging
        staging.prepare(kernel)
        base = load_first(
            kernel.bases, lambda file: staging.base(kernel, file), load_file, 0, self._announce
        )
        ready = staging.modules(kernel)
        btf.make_ready(base.index)
        by_name = self._form == FORM_KERNEL or (self._form == FORM_AUTO and base.is_sorted)
        options = SlimOptions(
            self._output,
            self._roots,
            self.publish is not None,
            base.release or kernel.release,
            by_name,
            MODULE_SECONDS,
        )
        job = _Job(self, ready, base.index, options, lambda: staging.drop(kernel))
        self.done.append(job)
        return job


class _Job:
    """The modules of one kernel."""

    has_work = True

    def __init__(
        self,
        jobs: _Jobs,
        kernel: KernelInput,
        index: btf.BaseIndex,
        options: SlimOptions,
        drop: Callable[[], None],
    ) -> None:
        self.stats = JobStats()
        self.is_done = False
        self.shared: Any = index
        self.options = options
        self.module_seconds = options.seconds
        self.stall_seconds = 2 * options.seconds + _GRACE_SECONDS
        self._jobs = jobs
        self._kernel = kernel
        self._records: list[SlimRecord] = []
        self._drop = drop

    def batches(self, executor: Executor, workforce: Workforce) -> Iterator[Batch]:
        yield from map(Batch, cut(self._kernel.modules, executor.workers))

    def finished(self, value: list[SlimRecord]) -> None:
        for record in value:
            what = record.reason
            if what is None:
                what = f"{record.bytes_before:,} -> {record.bytes_after:,} bytes of BTF"
                what += f", {record.file_bytes_before:,} -> {record.file_bytes_after:,} of the file"
            STEPS.debug("%s: %s", record.path, what)
            self._publish(record.target)
        self._records += value
        jobs, done = self._jobs, len(self._records)
        if jobs.progress is not None:
            failed = sum(record.failure is not None for record in self._records)
            jobs.progress(self._kernel.name, done, failed, len(self._kernel.modules), jobs.later)

    def _publish(self, target: str) -> None:
        """Move a file to where it belongs. Raises OutputError."""
        made, publish = f"{self.options.output.local}/{target}", self._jobs.publish
        if publish is None or not os.path.exists(made):  # it could not be read
            return
        try:
            publish.make_folder(os.path.dirname(target))
            publish.upload(made, target)
        except OSError as error:
            raise cannot_write(error.filename or target, error) from error

    def lost(self, module: ModuleInput, reason: str) -> None:
        """A module on which workers die even alone: write it as it is."""
        failure = Failure(CRASHED, f"the worker died on it: {reason}")
        self.finished([keep(module, self.options, failure)])

    def fail(self, error: Exception) -> None:
        raise error

    def complete(self) -> None:
        self._drop()
        self.shared = None
        self.is_done = True

    def in_order(self) -> list[SlimRecord]:
        """Return what came of the modules, in the order of their names."""
        return sorted(self._records, key=lambda record: record.module)
