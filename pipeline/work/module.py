"""One module's way: read -> open -> deduplicate -> describe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import btf
from btf.unmerged.arrays import BaseArrays
from btf.unmerged.leftovers import count_kept

from ..engine.isolation import WorkerExit
from ..files.read import ReadError, decompress, read_stored
from ..model.engine import TRIES_ALONE
from ..model.errors import CommandError, InternalError, explain
from ..model.options import ENCODE_ALL, KernelContext
from ..model.records import (
    BAD_BTF,
    BAD_NAME,
    CRASHED,
    DONE,
    ENCODE_FAILED,
    ENCODE_TIMEOUT,
    FAILED,
    NO_BTF,
    TIMED_OUT,
    UNREADABLE,
    WRONG_BASE,
    Failure,
    ModuleInput,
    ModuleRecord,
)
from ..model.stages import DEDUP, OPEN, READ
from ..sources import names
from ..tables.stored.results import Entry
from .encode import EncodeError, installed_encoder
from .open import open_input

if TYPE_CHECKING:
    import pyarrow as pa

    from ..tables.describe import Describer

_KEY_DIGITS = 32
_BTF_MARK = b".BTF\0"  # the name of the section, in an ELF file that has it


class ModuleResult(NamedTuple):
    """A module that was worked on. Like its record no dataclass, which takes longer to make.

    content    its split BTF file, if there is one
    split      the same, parsed; where tables are made, with what ``Describer.describe`` found
    rows       its rows, where they were made already
    key        of its result; None where nothing can be known without trying again
    """

    record: ModuleRecord
    content: bytes | None = None
    split: btf.BTF | None = None
    described: Mapping[str, Any] = MappingProxyType({})
    rows: pa.RecordBatch | None = None
    key: str | None = None
    stored_sha256: str | None = None
    debug_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class CacheHit:
    """A module whose result is there already."""

    entry: Entry
    stored_sha256: str
    debug_sha256: str | None


def run_module(
    module: ModuleInput,
    index: btf.BaseIndex,
    context: KernelContext,
    describer: Describer | None = None,
    cached: Mapping[str, Entry] = MappingProxyType({}),
    arrays: BaseArrays | None = None,
) -> ModuleResult | CacheHit:
    """Read a module, put it on the base and describe it.

    describer  of its batch; None: only the split BTF and its sizes are wanted, and no digests
    cached     entries of the results there are, by key
    arrays     of the base, where no describer knows them

    What is wrong with the input becomes part of the record. Raises CommandError, MemoryError;
    InternalError for a bug of ours.
    """
    facts, name = _facts_of(module), names.kernel_name(module.path)
    digest = key = done = None
    with_debug = False  # whether the file with debug information may have had a say
    try:
        if module.problem is not None:
            raise ReadError(UNREADABLE, module.problem)
        stored = read_stored(module.unpacked or module.path)
        if describer is not None:
            digest = hashlib.sha256(stored).hexdigest()
            key = _key_of(module, name, digest, context)
            entry = cached.get(key)
            if entry is not None and (hit := _cache_hit(module, digest, entry)) is not None:
                return hit
            if module.debug is not None:  # of which something may have been read
                stored = read_stored(module.content_path)
        data = decompress(stored)
        if describer is not None:
            facts["input_sha256"] = digest if data is stored else hashlib.sha256(data).hexdigest()
            describer.laps.append((READ, perf_counter()))
        if module.debug is not None:
            with_debug = context.options.encode == ENCODE_ALL or _BTF_MARK not in bytes(data)
        done = _deduplicate(facts, name, module, data, index, context, describer, arrays)
    except btf.BtfError as error:
        facts["failure"] = failure_of(error)
    except (EncodeError, ReadError) as error:
        facts["failure"] = Failure(error.kind, error.message)
    except _BadNameError as error:
        facts["failure"] = error.failure
    except (CommandError, MemoryError):
        raise
    except Exception as error:
        raise InternalError(f"{facts['path']}: {explain(error)}") from error
    debug_digest = None
    if describer is not None and (with_debug or facts.get("encoder") is not None):
        debug_digest = _debug_digest(module)
    content, split, described = done or (None, None, {})
    record = ModuleRecord(**facts)
    return ModuleResult(record, content, split, described, None, key, digest, debug_digest)


def run_alone(
    module: ModuleInput,
    index: btf.BaseIndex,
    context: KernelContext,
    arrays: BaseArrays | None = None,
) -> ModuleResult:
    """Read a module and put it on the base, in this process and without tables.

    arrays  of the base: to tell whether the module's are written otherwise

    Whatever is wrong becomes part of the record. Raises CommandError.
    """
    try:
        done = run_module(module, index, context, arrays=arrays)
    except (InternalError, MemoryError) as error:
        done = failed(module, Failure(CRASHED, explain(error)))
    assert isinstance(done, ModuleResult)  # nothing is cached
    return done


def _facts_of(module: ModuleInput) -> dict[str, Any]:
    """Begin a module's record; more is filled in as it becomes known."""
    return {
        "module": module.name,
        "object_id": module.object_id,
        "source": module.source,
        "path": names.printable(module.path),
        "status": FAILED,
    }


def _cache_hit(module: ModuleInput, digest: str, entry: Entry) -> CacheHit | None:
    """Return the result that there is of this very content, if it still holds."""
    debug = _debug_digest(module) if entry.debug_sha256 is not None else None
    return CacheHit(entry, digest, debug) if debug == entry.debug_sha256 else None


def _debug_digest(module: ModuleInput) -> str | None:
    """Digest the file with debug information."""
    debug = module.debug
    return (
        _stored_digest(debug.content_path) if debug is not None and debug.problem is None else None
    )


def _stored_digest(path: str) -> str | None:
    try:
        return hashlib.sha256(read_stored(path)).hexdigest()
    except ReadError:
        return None


class _BadNameError(Exception):
    """A module that calls itself what no module can be called."""

    def __init__(self, name: str) -> None:
        message = f"the module calls itself {name!r}, which is no name for a module"
        super().__init__(name)
        self.failure = Failure(BAD_NAME, message, ".modinfo")


def _deduplicate(
    facts: dict[str, Any],
    name: str,
    module: ModuleInput,
    data: bytes | memoryview,
    index: btf.BaseIndex,
    context: KernelContext,
    describer: Describer | None,
    arrays: BaseArrays | None,
) -> tuple[bytes, btf.BTF | None, Mapping[str, Any]]:
    """Open a module, put it on the base, and describe it; ``facts`` are filled in on the way.

    name  what the module is called if it does not say so itself

    Returns the split BTF file, the same parsed, and what ``Describer.describe`` found.
    """
    done = None
    if module.debug is None and context.options.encode != ENCODE_ALL:
        # Its input is looked at below, and no more when the next file is read into its memory.
        done = btf.dedup_bytes(data, index, copy=False)
    if done is None:
        return _open_and_deduplicate(facts, name, module, data, index, context, describer, arrays)
    split: btf.BTF | None = None
    content = done.content
    described: Mapping[str, Any] = {}
    if describer is not None or context.by_name:
        result = done.result
        if context.by_name:
            result = btf.kernel_form(result)
            content = result.btf.to_bytes()
        split = result.btf
        if describer is not None:
            described = _describe(facts, done.source, result, content, describer)
    if arrays is not None:
        facts["kept_by_arrays"] = 0
        if arrays.may_differ(done):
            facts["kept_by_arrays"] = _kept_by(arrays, done.source, done.result, index)
    facts.update(
        form=btf.STANDALONE,
        module_name=name,
        input_bytes=len(data),
        depends=(),
        status=DONE,
        bytes_out=len(content),
        **done.sizes,
        **_check(content, index, context),
    )
    return content, split, described


def _open_and_deduplicate(
    facts: dict[str, Any],
    name: str,
    module: ModuleInput,
    data: bytes | memoryview,
    index: btf.BaseIndex,
    context: KernelContext,
    describer: Describer | None,
    arrays: BaseArrays | None,
) -> tuple[bytes, btf.BTF | None, Mapping[str, Any]]:
    """Like ``_deduplicate``, for all that is not sound standalone BTF by itself."""
    opened = open_input(module, data, index, context, facts["path"])
    if describer is not None:
        describer.laps.append((OPEN, perf_counter()))
    found = opened.module
    facts.update(
        form=found.form,
        encoder=opened.encoder,
        module_name=name if found.name is None else names.printable(found.name),
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
    result = btf.dedup_module(found, index)
    if context.by_name:
        result = btf.kernel_form(result)
    split = result.btf
    content = split.to_bytes()
    described: Mapping[str, Any] = {}
    if describer is not None:
        described = _describe(facts, found.btf, result, content, describer)
    elif arrays is not None:
        facts["kept_by_arrays"] = _kept_by(arrays, found.btf, result, index)
    facts.update(
        status=DONE,
        bytes_out=len(content),
        types_out=split.type_count,
        type_bytes_out=split.words.nbytes,
        string_bytes_out=split.strings.nbytes,
        **_check(content, index, context),
    )
    return content, split, described


def _describe(
    facts: dict[str, Any],
    source: btf.BTF,
    result: btf.DedupResult,
    content: bytes,
    describer: Describer,
) -> Mapping[str, Any]:
    """Work out what only tables ask for. Raises BtfError, and leaves ``facts`` as they are then."""
    describer.laps.append((DEDUP, perf_counter()))
    btf.check_name_bytes(result.btf)
    described = describer.describe(source, result)
    totals = described.get("leftovers")
    facts["kept_by_arrays"] = count_kept(totals) if totals is not None else 0
    facts["output_sha256"] = hashlib.sha256(content).hexdigest()
    return described


def _kept_by(
    arrays: BaseArrays, source: btf.BTF, result: btf.DedupResult, index: btf.BaseIndex
) -> int:
    """Count the types that a module keeps only because its arrays are written otherwise."""
    kept = arrays.kept_types(source, result, index)
    return int(kept.sum()) if kept is not None else 0


def _check(content: bytes, index: btf.BaseIndex, context: KernelContext) -> dict[str, Any]:
    """Tell whether the kernel would load a module's split BTF, if that is asked."""
    if not context.options.check:
        return {}
    from btf.kernel_rules.rules import told_release  # late: most runs do not ask

    try:
        btf.check_kernel_rules(content, index, release=told_release(context.release))
    except btf.KernelRefusal as refusal:
        return {"loads": False, "check_error": str(refusal)}
    except btf.UnsupportedError:  # a release that is too old
        return {}
    return {"loads": True}


def failure_of(error: btf.BtfError) -> Failure:
    """Put a BtfError into a record."""
    kind = BAD_BTF
    if isinstance(error, btf.NoBtfError):
        kind = NO_BTF
    elif isinstance(error, btf.WrongBaseError):
        kind = WRONG_BASE
    return Failure(kind, error.message, error.section, error.offset, error.type_id)


def failed(module: ModuleInput, failure: Failure) -> ModuleResult:
    """Record a module that nothing can be had of."""
    return ModuleResult(ModuleRecord(**_facts_of(module), failure=failure))


def lost(
    module: ModuleInput, end: WorkerExit | InternalError, context: KernelContext
) -> ModuleResult:
    """Record a module that nothing can be had of: whoever works on it dies, or has a bug."""
    if isinstance(end, InternalError):
        failure = Failure(CRASHED, f"{end} (--retry tries again)")
    elif end.timed_out:
        failure = Failure(
            TIMED_OUT,
            f"work on it was ended: {end.reason} (--module-seconds allows more, and --retry "
            "tries again)",
        )
    else:
        failure = Failure(
            CRASHED,
            f"the worker died on this module alone, {TRIES_ALONE} times ({end.reason}); please "
            "report it with the file (--retry tries again)",
        )
    digest = _stored_digest(module.content_path)
    key = key_of(module, digest, context) if digest is not None else None
    return failed(module, failure)._replace(key=key, stored_sha256=digest)


def key_of(module: ModuleInput, stored_sha256: str, context: KernelContext) -> str:
    """Make the key under which a module's result is kept.

    stored_sha256  of the module's file as it is stored
    """
    return _key_of(module, names.kernel_name(module.path), stored_sha256, context)


def _key_of(module: ModuleInput, name: str, stored_sha256: str, context: KernelContext) -> str:
    text = f"{context.digest}\0{name}\0{stored_sha256}\0{module.debug is not None}"
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def entry_of(module: ModuleInput, done: ModuleResult, context: KernelContext) -> Entry:
    """Say what has to be known of a result to use it again; without a key where it cannot be."""
    record = done.record
    kind = record.failure.kind if record.failure is not None else None
    encoder, seconds = record.encoder, None
    if kind in (ENCODE_FAILED, ENCODE_TIMEOUT):
        encoder = installed_encoder()
    if kind == ENCODE_TIMEOUT:
        seconds = context.options.encode_seconds
    if kind == TIMED_OUT:
        seconds = context.options.module_seconds
    return Entry(
        key=done.key or "",
        module=module.name,
        error_kind=kind,
        bytes_out=record.bytes_out,
        output_sha256=record.output_sha256,
        encoder=encoder,
        debug_sha256=done.debug_sha256,
        seconds=seconds,
    )
