"""The batch function: inputs and an index in, results and BTF files out.

The one place where modules are worked on. The local engines and Ray call this same function, in
whatever process; it knows neither. What is wrong with an input becomes part of its record; any
other exception is a bug of ours, or the output's disk, and leaves with the module's name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import btf

from ..engine.isolation import Death, isolated, time_limit
from ..engine.malloc import give_back, keep_little, trim
from ..engine.scheduler import TRIES_ALONE, Batch, Call, Item, Result
from ..files.read import ReadError, decompress, preloaded, read_stored
from ..files.remote import Access, learn_access
from ..files.storage import Storage
from ..model.base import SharedBase
from ..model.errors import InternalError, OutputError, SourceError
from ..model.records import (
    BAD_BTF,
    BAD_NAME,
    CRASHED,
    DONE,
    ENCODE_ALL,
    ENCODE_FAILED,
    ENCODE_NONE,
    ENCODE_TIMEOUT,
    FAILED,
    NO_BTF,
    TIMED_OUT,
    UNREADABLE,
    WRONG_BASE,
    Failure,
    ModuleInput,
    ModuleRecord,
    WorkOptions,
)
from ..sources import names
from ..tables import results
from ..tables.results import BatchResults, Entry
from .encode import EncodeError, installed_encoder
from .opening import open_input

if TYPE_CHECKING:
    from ..tables.describe import Rows, Split

_BTF_MARK = b".BTF\0"  # the name of the section, in an ELF file that has it


@dataclass(frozen=True, slots=True)
class Shared:
    """What all batches of a kernel need: its base, and the results there are on it, by key."""

    base: SharedBase
    known: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Place:
    """Where results go. ``out`` is None if the worker cannot reach it: then they are returned."""

    out: Storage | None
    btf_folder: str
    results_folder: str


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a batch is to be worked on, where the results go, and how to reach what URIs name."""

    work: WorkOptions
    place: Place
    access: Access = field(default_factory=Access)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a module: its result is number ``position`` of the batch's file of results.

    ``key`` is None where nothing can be known without trying again. If ``position`` is None, the
    result with this key, which was known, is right. ``failure`` tells a failed input.
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
    could not write them, the files by their paths."""

    outcomes: tuple[Outcome, ...]
    results: str | None
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Worked:
    """A module that was worked on. ``content`` is its split BTF, if there is one, and ``found``
    what the tables say of it, or what that is made of."""

    record: ModuleRecord
    content: bytes | None = None
    found: Split | Rows | None = None
    stored_sha256: str | None = None
    debug_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class AsKnown:
    """A module whose result is known."""

    entry: Entry
    stored_sha256: str
    debug_sha256: str | None


def prepare() -> None:
    """Load what a worker's first item would have to wait for; on another machine, compile it."""
    btf.warm_up(tables=True)


def work(item: Item, shared: Shared, options: BatchOptions) -> Result:
    """Do what there is to do: a batch of modules, or a call."""
    began = time.perf_counter()
    learn_access(options.access)
    keep_little()
    if isinstance(item, Call):
        btf.release_workspaces()
        trim()
        value = item.function(shared.base, item.argument)
        give_back()  # these need more than any module, and differ from each other
    else:
        value = run_batch(item, shared, options)
        trim()  # else 20 MB come together until the next call
    return Result(value, time.perf_counter() - began, os.getpid())


def run_batch(batch: Batch, shared: Shared, options: BatchOptions) -> BatchDone:
    """Deduplicate a batch against the base, and write what comes of it."""
    write = _Writer(options.place)
    outcomes: list[Outcome] = []
    made = _Results(shared, options.work)
    with preloaded(batch.contents):
        for module in batch.modules:
            run = carefully if batch.careful else _within_limits
            done = run(module, shared, options.work)
            if isinstance(done, AsKnown):
                outcomes.append(_as_known(module, done))
                continue
            if done.content is not None:
                write(f"{options.place.btf_folder}/{module.name}.btf", done.content)
            entry = entry_of(module, done, options.work)
            outcomes.append(_outcome(module, done, entry, made.add(entry, done)))
    name = write.results(made.pack(), options.work.context) if made else None
    return BatchDone(tuple(outcomes), name, write.files)


def _as_known(module: ModuleInput, done: AsKnown) -> Outcome:
    failed = done.entry.error_kind is not None
    return Outcome(
        module.object_id, done.entry.key, None, failed, done.stored_sha256, done.debug_sha256
    )


def _outcome(module: ModuleInput, done: Worked, entry: Entry, position: int) -> Outcome:
    failed = done.record.failure is not None
    return Outcome(
        module.object_id, entry.key or None, position, failed,
        done.stored_sha256, done.debug_sha256,
    )  # fmt: skip


class _Results:
    """What came of a batch's modules so far."""

    def __init__(self, shared: Shared, options: WorkOptions) -> None:
        from ..tables.describe import Described  # late: only tables need it

        self._limit = limit_seconds(options)
        self._entries: list[Entry] = []
        self._records: list[ModuleRecord] = []
        self._row: list[int | None] = []
        self._described = Described(shared.base)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry, done: Worked) -> int:
        """The next module; returns its number."""
        self._entries.append(entry)
        self._records.append(done.record)
        self._row.append(None if done.found is None else len(self._described))
        if done.found is not None:
            with time_limit(self._limit), _our_bug("what was made of modules"):
                self._described.add(done.found)
        return len(self._entries) - 1

    def pack(self) -> bytes:
        """All of it as a file."""
        with time_limit(self._limit), _our_bug("what was made of modules"):
            rows = self._described.rows()
        return results.pack(self._entries, BatchResults(self._records, rows, self._row))


@contextlib.contextmanager
def _our_bug(what: str) -> Iterator[None]:
    """Whatever is raised here is one, but for what the disk or the memory have to do with."""
    try:
        yield
    except (OutputError, MemoryError):
        raise
    except Exception as error:
        message = f"splitbtf failed on {what}: {error!r}\n{traceback.format_exc()}"
        raise InternalError(message) from error


class _Writer:
    """Writes to the output, or keeps what another has to write there."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.files: dict[str, bytes] = {}

    def __call__(self, path: str, content: bytes) -> None:
        self._do(path, content, self._place.out.write if self._place.out else None)

    def results(self, content: bytes, context: str) -> str:
        """Write a file of results, complete or not at all; returns its name."""
        name = results.name_of(content, context)
        out = self._place.out
        publish = (lambda path, data: out.publish(path, data, durable=False)) if out else None
        self._do(f"{self._place.results_folder}/{name}", content, publish)
        return name

    def _do(self, path: str, content: bytes, write: Callable[[str, bytes], None] | None) -> None:
        if write is None:
            self.files[path] = content
            return
        try:
            write(path, content)
        except OSError as error:
            raise cannot_write(error, path) from error


def cannot_write(error: OSError, path: str) -> OutputError:
    """What to say when the output cannot be written."""
    return OutputError(f"cannot write {error.filename or path}: {error.strerror or error}")


def entry_of(module: ModuleInput, done: Worked, options: WorkOptions) -> Entry:
    """What has to be known of a result to use it again; without a key where it cannot be."""
    failure = done.record.failure
    kind = failure.kind if failure is not None else None
    encoder, seconds = done.record.encoder, None
    if kind in (ENCODE_FAILED, ENCODE_TIMEOUT):
        encoder = installed_encoder()
    if kind == ENCODE_TIMEOUT:
        seconds = options.encode_seconds
    if kind == TIMED_OUT:
        seconds = options.module_seconds
    key = ""
    if done.stored_sha256 is not None:
        key = key_of(module, done.stored_sha256, options)
    return Entry(
        key=key,
        module=module.name,
        error_kind=kind,
        bytes_out=done.record.bytes_out,
        output_sha256=done.record.output_sha256,
        encoder=encoder,
        debug_sha256=done.debug_sha256,
        seconds=seconds,
    )


def key_of(module: ModuleInput, stored_sha256: str, options: WorkOptions) -> str:
    """Under which key a module's result is kept."""
    name = default_module_name(module)
    return results.key_of(options.context, name, stored_sha256, module.debug is not None)


# ------------------------------------------------------------------ one module


def _within_limits(module: ModuleInput, shared: Shared, options: WorkOptions) -> Worked | AsKnown:
    """One module, in this process. If it takes too long, that is the end of the process."""
    with time_limit(limit_seconds(options)):
        return run_module(module, shared.base.index, options, shared)


def carefully(module: ModuleInput, shared: Shared, options: WorkOptions) -> Worked | AsKnown:
    """One module, in a process of its own. What kills that process is recorded."""
    seconds = limit_seconds(options)
    death = Death("")
    for _ in range(TRIES_ALONE):
        done = isolated(lambda: _alone(module, shared, options), seconds)
        if not isinstance(done, Death):
            return done
        death = done
        if done.late:
            break
    return lost(module, death)


def _alone(module: ModuleInput, shared: Shared, options: WorkOptions) -> Worked | AsKnown:
    """One module, rows and all."""
    from ..tables.describe import Described

    done = run_module(module, shared.base.index, options, shared)
    if isinstance(done, AsKnown) or done.found is None:
        return done
    described = Described(shared.base)
    described.add(done.found)
    return replace(done, found=described.rows())


def lost(module: ModuleInput, death: Death) -> Worked:
    """A module that nothing can be had of, because whoever works on it dies."""
    if death.late:
        failure = Failure(
            TIMED_OUT,
            f"work on it was ended: {death.reason} (--module-seconds allows more, and --retry "
            "tries again)",
        )
    else:
        failure = Failure(
            CRASHED,
            f"the worker died on this module alone, {TRIES_ALONE} times ({death.reason}); please "
            "report it with the file (--retry tries again)",
        )
    try:
        digest = hashlib.sha256(read_stored(module.content_path)).hexdigest()
    except ReadError:
        digest = None
    return Worked(ModuleRecord(**_facts_of(module), failure=failure), stored_sha256=digest)


def limit_seconds(options: WorkOptions) -> float | None:
    """How long a module may take in all."""
    if options.module_seconds is None:
        return None
    if options.encode == ENCODE_NONE:
        return options.module_seconds
    return options.module_seconds + 2 * options.encode_seconds  # of its file and of a second one


def run_module(
    module: ModuleInput,
    index: btf.BaseIndex,
    options: WorkOptions,
    shared: Shared | None = None,
) -> Worked | AsKnown:
    """One module: its record, and the split BTF if there is one; less if all that is known.

    ``shared`` is needed if ``options.describe``.
    """
    facts = _facts_of(module)
    digest = content = None
    rows: Split | None = None
    with_debug = False  # whether the file with debug information may have had a say
    try:
        if module.problem is not None:
            raise ReadError(UNREADABLE, module.problem)
        stored = read_stored(module.content_path)
        if options.describe:
            digest = hashlib.sha256(stored).hexdigest()
            known = _known(module, digest, options, shared)
            if known is not None:
                return known
            if module.debug is not None:  # of which something may have been read
                stored = read_stored(module.content_path)
        data = decompress(stored)
        if data is stored and digest is not None:
            facts["input_sha256"] = digest
        if module.debug is not None:
            with_debug = options.encode == ENCODE_ALL or _BTF_MARK not in bytes(data)
        if not options.describe and module.debug is None and options.encode != ENCODE_ALL:
            brief = btf.dedup_bytes(data, index)
            if brief is not None:
                return Worked(_brief_record(facts, brief, len(data)), brief.content)
        content, rows = _dedup_into(facts, module, data, index, options, shared)
    except btf.BtfError as error:
        facts["failure"] = failure_of(error)
    except (EncodeError, ReadError) as error:
        facts["failure"] = Failure(error.kind, error.message)
    except _BadNameError as error:
        facts["failure"] = error.failure
    except (OutputError, SourceError, MemoryError):
        raise
    except Exception as error:
        raise InternalError(
            f"splitbtf failed on {facts['path']}: {error!r}\n{traceback.format_exc()}"
        ) from error
    record = ModuleRecord(**facts)
    debug_digest = None
    if options.describe and (with_debug or record.encoder is not None):
        debug_digest = _debug_digest(module)
    return Worked(record, content, rows, digest, debug_digest)


def _facts_of(module: ModuleInput) -> dict[str, Any]:
    """Fields of a module's record; more are filled in as they become known."""
    return {
        "module": module.name,
        "object_id": module.object_id,
        "source": module.source,
        "path": names.printable(module.path),
        "status": FAILED,
    }


def _known(
    module: ModuleInput, digest: str, options: WorkOptions, shared: Shared | None
) -> AsKnown | None:
    """The result that is known of this very content."""
    if shared is None or not shared.known:
        return None
    entry = shared.known.get(key_of(module, digest, options))
    if entry is None:
        return None
    debug = _debug_digest(module) if entry.debug_sha256 is not None else None
    return AsKnown(entry, digest, debug) if debug == entry.debug_sha256 else None


def _debug_digest(module: ModuleInput) -> str | None:
    """Digest of the file with debug information."""
    debug = module.debug
    if debug is None or debug.problem is not None:
        return None
    try:
        return hashlib.sha256(read_stored(debug.content_path)).hexdigest()
    except ReadError:
        return None


def _brief_record(facts: dict[str, Any], brief: btf.SplitBytes, input_bytes: int) -> ModuleRecord:
    """The record of a raw BTF file, without what only tables ask for."""
    return ModuleRecord(
        facts["module"],
        facts["object_id"],
        facts["source"],
        facts["path"],
        DONE,
        form=btf.STANDALONE,
        input_bytes=input_bytes,
        types_in=brief.types_in,
        type_bytes_in=brief.type_bytes_in,
        string_bytes_in=brief.string_bytes_in,
        bytes_out=len(brief.content),
        types_out=brief.types_out,
        type_bytes_out=brief.type_bytes_out,
        string_bytes_out=brief.string_bytes_out,
    )


class _BadNameError(Exception):
    """A module that calls itself what no module can be called."""

    def __init__(self, name: str) -> None:
        message = f"the module calls itself {name!r}, which is no name for a module"
        super().__init__(name)
        self.failure = Failure(BAD_NAME, message, ".modinfo")


def _dedup_into(
    facts: dict[str, Any],
    module: ModuleInput,
    data: bytes | memoryview,
    index: btf.BaseIndex,
    options: WorkOptions,
    shared: Shared | None,
) -> tuple[bytes, Split | None]:
    if options.describe and "input_sha256" not in facts:
        facts["input_sha256"] = hashlib.sha256(data).hexdigest()
    opened = open_input(module, data, index, options, facts["path"])
    found = opened.module
    facts.update(
        form=found.form,
        encoder=opened.encoder,
        module_name=default_module_name(module)
        if found.name is None
        else names.printable(found.name),
        input_bytes=found.input_bytes,
        types_in=found.btf.type_count,
        type_bytes_in=found.btf.words.nbytes,
        string_bytes_in=found.btf.strings.nbytes,
        build_id=found.build_id,
        release=names.printable(found.release) if found.release is not None else None,
        depends=tuple(names.printable(name) for name in found.depends),
    )
    if found.name is not None and not names.MODULE_NAME.fullmatch(found.name):
        raise _BadNameError(found.name)
    deduplicated = btf.dedup_module(found, index)
    result = deduplicated.btf
    content = result.to_bytes()
    facts.update(
        status=DONE,
        bytes_out=len(content),
        types_out=result.type_count,
        type_bytes_out=result.words.nbytes,
        string_bytes_out=result.strings.nbytes,
    )
    rows: Split | None = None
    if options.describe:
        from ..tables.describe import kind_counts, split_of  # late: only tables need it

        facts["output_sha256"] = hashlib.sha256(content).hexdigest()
        facts["kinds_in"], facts["kind_bytes_in"] = kind_counts(found.btf)
        facts["kinds_out"], facts["kind_bytes_out"] = kind_counts(result)
        assert shared is not None
        rows = split_of(found, deduplicated, shared.base)
    return content, rows


def default_module_name(module: ModuleInput) -> str:
    """The kernel's name for a module that does not say it: that of its file, with underscores."""
    return names.printable(names.stem(os.path.basename(module.path))).replace("-", "_")


def failure_of(error: btf.BtfError) -> Failure:
    """A BtfError as a record."""
    kind = BAD_BTF
    if isinstance(error, btf.NoBtfError):
        kind = NO_BTF
    elif isinstance(error, btf.WrongBaseError):
        kind = WRONG_BASE
    return Failure(kind, error.message, error.section, error.offset, error.type_id)
