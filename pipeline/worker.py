"""The batch function: inputs and an index in, records and columns out, BTF files on disk.

The one place where modules are worked on. The local engines and Ray call this same function, in
whatever process; it knows neither. What is wrong with an input becomes part of its record; any
other exception is a bug of ours, or the output's disk, and leaves with the module's name.
"""

from __future__ import annotations

import hashlib
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import btf

from . import names
from .base import SharedBase
from .encode import EncodeError
from .errors import InternalError, OutputError
from .opening import open_input
from .read import ReadError, read_passing
from .records import (
    BAD_BTF,
    BAD_NAME,
    DONE,
    FAILED,
    NO_BTF,
    UNREADABLE,
    WRONG_BASE,
    Failure,
    ModuleInput,
    ModuleRecord,
    WorkOptions,
)

if TYPE_CHECKING:
    from .describe import TypeColumns
    from .misses import MissRow


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of a batch: a record per input, in their order."""

    records: tuple[ModuleRecord, ...]
    types: TypeColumns | None
    busy_seconds: float
    process_id: int
    misses: tuple[MissRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """What stayed of a module: its split BTF, and why types of it stayed."""

    types: btf.BTF
    misses: Sequence[MissRow] = ()


def run_batch(inputs: Sequence[ModuleInput], base: SharedBase, options: WorkOptions) -> BatchResult:
    """Deduplicate ``inputs`` against the base and write their split BTF."""
    began = time.perf_counter()
    records: list[ModuleRecord] = []
    objects: list[tuple[int, btf.BTF]] = []
    misses: list[MissRow] = []
    for module in inputs:
        record, kept = run_module(module, base.index, options, base.names)
        records.append(record)
        if kept is not None and options.describe:
            objects.append((module.object_id, kept.types))
            misses += kept.misses
    columns = None
    if options.describe:
        from .describe import module_columns

        columns = module_columns(objects, base.fingerprints)
    seconds = time.perf_counter() - began
    return BatchResult(tuple(records), columns, seconds, os.getpid(), tuple(misses))


def run_module(
    module: ModuleInput,
    index: btf.BaseIndex,
    options: WorkOptions,
    base_names: btf.BaseNames | None = None,
) -> tuple[ModuleRecord, Kept | None]:
    """One module: its record, and what stayed of it if it could be deduplicated.

    base_names   of the base: it is worked out why types stayed if they are given
    """
    facts: dict[str, Any] = {  # fields of the record, filled as they become known
        "module": module.name,
        "object_id": module.object_id,
        "source": module.source,
        "path": names.printable(module.path),
        "status": FAILED,
    }
    kept = None
    try:
        if module.problem is not None:
            raise ReadError(UNREADABLE, module.problem)
        data = read_passing(module.content_path)
        kept = _dedup_into(facts, module, data, index, options, base_names)
    except btf.BtfError as error:
        facts["failure"] = failure_of(error)
    except (EncodeError, ReadError) as error:
        facts["failure"] = Failure(error.kind, error.message)
    except _BadNameError as error:
        facts["failure"] = error.failure
    except (OutputError, MemoryError):
        raise
    except Exception as error:
        raise InternalError(
            f"splitbtf failed on {facts['path']}: {error!r}\n{traceback.format_exc()}"
        ) from error
    return ModuleRecord(**facts), kept


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
    base_names: btf.BaseNames | None,
) -> Kept:
    if options.describe:
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
    if options.output_folder is not None:
        _write(options, module.name, content)
    facts.update(
        status=DONE,
        bytes_out=len(content),
        types_out=result.type_count,
        type_bytes_out=result.words.nbytes,
        string_bytes_out=result.strings.nbytes,
    )
    if options.describe:
        facts["output_sha256"] = hashlib.sha256(content).hexdigest()
        from .describe import kind_counts  # late: only tables need it

        facts["kinds_in"], facts["kind_bytes_in"] = kind_counts(found.btf)
        facts["kinds_out"], facts["kind_bytes_out"] = kind_counts(result)
    if base_names is None:
        return Kept(result)
    from .misses import miss_rows

    misses = btf.misses(found.btf, deduplicated, index, base_names)
    return Kept(result, miss_rows(module.object_id, result, misses))


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


def _write(options: WorkOptions, name: str, content: bytes) -> None:
    path = f"{options.output_folder}/{name}.btf"
    target = f"{path}.tmp" if options.replace_whole else path
    try:
        with open(target, "wb") as file:  # noqa: PTH123 (Path.open costs more, 4,000 times)
            file.write(content)
        if options.replace_whole:
            os.replace(target, path)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
