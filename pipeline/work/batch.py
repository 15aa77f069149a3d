"""The batch function: modules and a base in, results and BTF files out.

The one place where modules are worked on. Every engine calls this same function, in whatever
process; it knows none of them. What is wrong with an input becomes part of its record, and so does
what goes wrong with a module in a process of its own. Any other exception is a bug of ours, or the
output's disk.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import btf

from ..engine.isolation import WorkerExit, isolated_again, time_limit
from ..engine.malloc import freeze_imports, malloc_trim, release_memory, use_system_pool
from ..engine.no_pandas import without_pandas
from ..files.read import preloaded
from ..files.remote import Access, import_access
from ..files.storage import Storage, cannot_write
from ..model.base import SharedBase
from ..model.engine import Batch, Call, Item, Result
from ..model.errors import CommandError, InternalError, explain
from ..model.options import KernelContext
from ..model.records import ModuleInput
from ..model.stages import ISOLATED, WRITE, by_stage
from ..tables.describe import Describer
from ..tables.stored import results
from ..tables.stored.results import Entry
from .module import CacheHit, ModuleResult, entry_of, lost, run_module

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Shared:
    """What all batches of a kernel need: its base, and the results there are on it, by key."""

    base: SharedBase
    cached: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a batch is worked on, and where its files go.

    storage  None if the worker cannot reach it: then the files are returned
    results_folder, rows_folder   for files of results, and of rows that are not kept with them
    access   how to reach what URIs name
    """

    context: KernelContext
    storage: Storage | None
    btf_folder: str
    results_folder: str
    rows_folder: str
    access: Access = field(default_factory=Access)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a module.

    key       of its result; None where nothing can be known without trying again
    position  of its result in the batch's file of results; None: the cached result for ``key`` is
              used
    failed    whether the input gave no result
    stored_sha256, debug_sha256   of the module's files, as far as they were read
    """

    object_id: int
    key: str | None
    position: int | None
    failed: bool
    stored_sha256: str | None
    debug_sha256: str | None


@dataclass(frozen=True, slots=True)
class BatchDone:
    """What came of a batch: outcomes, the name of the file of results, and, where the worker
    could not write them, the files by their paths; seconds of work by stage."""

    outcomes: tuple[Outcome, ...]
    results: str | None
    files: Mapping[str, bytes]
    stages: Mapping[str, float]


def prepare() -> None:
    """Load what a worker's first item would have to wait for; on another machine, compile it."""
    btf.warm_up(tables=True)
    _import_once()


@functools.cache
def _import_once() -> None:
    """Load all that a module may need, also for the processes that are forked for one alone."""
    import numpy.ma  # noqa: F401 - Arrow does when it is given an array
    import pyarrow as pa
    import pyarrow.compute

    import btf.types.members  # noqa: F401

    from ..tables.registry import module_tables  # late: Arrow

    module_tables()
    with without_pandas():
        pa.array([0])  # for the first list Arrow looks for pandas, once
    freeze_imports()


_BATCHES_PER_TRIM = 8  # pages that were given back cost as much as the smaller part of a batch
_batches = itertools.count(1)


def work(item: Item, shared: Shared, options: BatchOptions) -> Result:
    """Do what there is to do: a batch of modules, or a call."""
    began = time.perf_counter()
    import_access(options.access)
    use_system_pool()
    _import_once()
    if isinstance(item, Call):
        btf.release_workspaces()
        malloc_trim()
        value = item.function(shared.base, item.argument)
        btf.release_workspaces()
        release_memory()  # these need more than any module, and differ from each other
    else:
        value = run_batch(item, shared, options)
        if next(_batches) % _BATCHES_PER_TRIM == 0:  # else 50 MB come together until the next call
            malloc_trim()
    return Result(value, time.perf_counter() - began, os.getpid())


def run_batch(batch: Batch, shared: Shared, options: BatchOptions) -> BatchDone:
    """Read, open, deduplicate and describe each module of a batch, and write what comes of it."""
    context, seconds = options.context, options.context.options.module_seconds
    began = time.perf_counter()
    describer = Describer(shared.base, functools.partial(_describing, seconds))
    laps = describer.laps
    output = _Output(options)
    files: dict[str, bytes] = {}
    entries: list[Entry] = []
    outcomes: list[Outcome] = []
    # If a module takes too long, that is the end of this process; others have theirs.
    limit = time_limit(seconds) if not batch.isolated else contextlib.nullcontext(bool)
    with preloaded(batch.contents), limit as begin_anew:
        for module in batch.modules:
            begin_anew()
            if batch.isolated:
                done = run_isolated(module, shared, context)
                laps.append((ISOLATED, time.perf_counter()))
            else:
                done = run_module(module, shared.base.index, context, describer, shared.cached)
            if isinstance(done, CacheHit):
                outcomes.append(
                    Outcome(
                        module.object_id,
                        done.entry.key,
                        None,
                        done.entry.error_kind is not None,
                        done.stored_sha256,
                        done.debug_sha256,
                    )
                )
                continue
            if done.content is not None:
                files[f"{module.name}.btf"] = done.content
            if done.rows is not None:
                describer.add_rows(done.rows)
            else:
                describer.add(done.record, done.split, done.described)
            entry = entry_of(module, done, context)
            outcomes.append(
                Outcome(
                    module.object_id,
                    entry.key or None,
                    len(entries),
                    done.record.failure is not None,
                    done.stored_sha256,
                    done.debug_sha256,
                )
            )
            entries.append(entry)
    rows = describer.rows()
    output.write(files)
    name = output.write_results(entries, rows) if entries else None
    laps.append((WRITE, time.perf_counter()))
    return BatchDone(tuple(outcomes), name, output.files, by_stage(began, laps))


@contextlib.contextmanager
def _describing(seconds: float) -> Iterator[None]:
    """What describing runs under: a limit, and whatever is raised is a bug of ours, but for what
    the disk or the memory have to do with."""
    try:
        with time_limit(seconds):
            yield
    except (CommandError, MemoryError):
        raise
    except Exception as error:
        raise InternalError(f"tables of modules: {explain(error)}") from error


class _Output:
    """Writes to the output, or keeps what another has to write there."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._storage = options.storage
        self.files: dict[str, bytes] = {}

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write BTF files, which count when the results that belong to them are there."""
        folder = self._options.btf_folder
        if self._storage is None:
            self.files |= {f"{folder}/{name}": content for name, content in files.items()}
            return
        try:
            self._storage.write_files(folder, files)
        except OSError as error:
            raise cannot_write(error.filename or folder, error) from error

    def write_results(self, entries: list[Entry], rows: list[pa.RecordBatch]) -> str:
        """Write a file of results, and that of the other rows, each complete or not at all; returns
        their name."""
        away = self._storage is None or self._storage.local is None
        content = results.pack(entries, rows)
        name = results.name_of(content, self._options.context.digest)
        derived = results.pack_derived(rows, compress=away)
        self._publish(f"{self._options.rows_folder}/{name}", derived)
        self._publish(f"{self._options.results_folder}/{name}", content)
        return name

    def _publish(self, path: str, content: bytes | pa.Buffer) -> None:
        if self._storage is None:
            self.files[path] = bytes(content)
            return
        try:
            self._storage.publish(path, content, durable=False)
        except OSError as error:
            raise cannot_write(error.filename or path, error) from error


def run_isolated(
    module: ModuleInput, shared: Shared, context: KernelContext
) -> ModuleResult | CacheHit:
    """Work on one module in a process of its own. What kills that process is recorded."""
    seconds = context.options.module_seconds
    done = isolated_again(lambda: _alone(module, shared, context), seconds)
    if isinstance(done, WorkerExit | InternalError):
        return lost(module, done, context)
    return done


def _alone(module: ModuleInput, shared: Shared, context: KernelContext) -> ModuleResult | CacheHit:
    """Work on one module, rows and all: what is returned can be pickled."""
    describer = Describer(shared.base, contextlib.nullcontext)
    done = run_module(module, shared.base.index, context, describer, shared.cached)
    if isinstance(done, CacheHit):
        return done
    describer.add(done.record, done.split, done.described)
    (rows,) = describer.rows()
    return done._replace(split=None, described={}, rows=rows)
