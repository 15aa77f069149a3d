"""One module's way through ``slim``: read -> decompress -> slim -> compress -> write.

What is wrong with a module becomes part of its record, and the file is written as it was, so that
what is written is as complete as what was read. Nothing but a module that got smaller is changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import btf
from btf.format.header import BYTE_ORDERS
from btf.slim import BASE_SECTION

from ..engine.isolation import WorkerExit, isolated_again, time_limit
from ..files.compress import compress_like
from ..files.read import ReadError, decompress, read_stored
from ..files.storage import LocalFolder, cannot_write
from ..model.engine import Batch, Item, Result
from ..model.errors import CommandError, InternalError, explain
from ..model.records import CRASHED, TIMED_OUT, UNREADABLE, Failure, ModuleInput
from ..sources.names import printable
from ..work.module import failure_of

SMALLER = "smaller"
AS_IT_WAS = "as it was"
NO_BTF = "no .BTF section"
RAW = "raw BTF, in no module's file: `splitbtf dedup` takes it"
DISTILLED = "BTF on a distilled base, which fits more kernels than one"
NOTHING_LEFT = "nothing to be saved"


class SlimRecord(NamedTuple):
    """What came of a module.

    path       where it was found; target: where it was written below the output folder
    status     SMALLER or AS_IT_WAS
    reason     why it is as it was; None where it got smaller
    failure    what is wrong with it, where that is why
    file_bytes_before, file_bytes_after   of the file as it is stored
    bytes_before, bytes_after, types_before, types_after   of its ``.BTF``; None if not known
    signature_bytes   of a signature that was removed
    """

    module: str
    path: str
    target: str
    status: str
    reason: str | None
    failure: Failure | None
    file_bytes_before: int
    file_bytes_after: int
    bytes_before: int | None = None
    bytes_after: int | None = None
    types_before: int | None = None
    types_after: int | None = None
    signature_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; what is wrong is said elsewhere."""
        facts = self._asdict()
        del facts["failure"]
        return facts


@dataclass(frozen=True, slots=True)
class SlimOptions:
    """How modules of a kernel are worked on, and where they go.

    output     the folder that workers write to
    roots      of the sources, absolute, for paths in the output
    whole      whether files that do not change are written too
    release    of the kernel, where known
    by_name    whether BTF is sorted by name
    seconds    how long a module may take
    """

    output: LocalFolder
    roots: tuple[str, ...]
    whole: bool
    release: str | None
    by_name: bool
    seconds: float


def target_of(module: ModuleInput, roots: Sequence[str]) -> str:
    """Return where a module goes: its path below its source, or in its package."""
    if module.member is not None:
        return os.path.normpath(module.member)
    above = [root for root in roots if module.path.startswith(f"{root.rstrip('/')}/")]
    if not above:
        return os.path.basename(module.path)
    return os.path.relpath(module.path, max(above, key=len))


def work(item: Item, index: btf.BaseIndex, options: SlimOptions) -> Result:
    """Do a batch: what an engine's workers call."""
    assert isinstance(item, Batch)
    began = time.perf_counter()
    records = []
    for module in item.modules:
        if item.isolated:
            records.append(_isolated(module, index, options))
        else:
            with time_limit(options.seconds):
                records.append(slim(module, index, options))
    return Result(records, time.perf_counter() - began, os.getpid())


def _isolated(module: ModuleInput, index: btf.BaseIndex, options: SlimOptions) -> SlimRecord:
    """Work on a module in a process of its own. What kills that process is recorded."""
    done = isolated_again(lambda: slim(module, index, options), options.seconds)
    if isinstance(done, InternalError):
        return keep(module, options, Failure(CRASHED, str(done)))
    if isinstance(done, WorkerExit):
        kind = TIMED_OUT if done.timed_out else CRASHED
        return keep(module, options, Failure(kind, f"work on it was ended: {done.reason}"))
    return done


def slim(module: ModuleInput, index: btf.BaseIndex, options: SlimOptions) -> SlimRecord:
    """Make a module smaller, or write it as it is. Raises OutputError, MemoryError; InternalError
    for a bug of ours."""
    shown = printable(module.path)
    try:
        if module.problem is not None:
            raise ReadError(UNREADABLE, module.problem)
        stored = bytes(read_stored(module.content_path))
        data = bytes(decompress(memoryview(stored)))
        if data[:2] in BYTE_ORDERS:
            return keep(module, options, None, RAW)
        made = btf.slim_module(
            data, index, path=shown, release=options.release, by_name=options.by_name
        )
        if made.is_changed:
            content = compress_like(made.content, stored)
            record = _record(
                module, options, SMALLER, None, None, (len(stored), len(content)), made
            )
            _write(options.output, record.target, content)
            return record
        return keep(module, options, None, NOTHING_LEFT, made)
    except btf.NoBtfError:
        return keep(module, options, None, NO_BTF)
    except btf.BtfError as error:
        if isinstance(error, btf.UnsupportedError) and error.section == BASE_SECTION:
            return keep(module, options, None, DISTILLED)
        failure = failure_of(error)
    except ReadError as error:
        failure = Failure(error.kind, error.message)
    except (CommandError, MemoryError):
        raise
    except Exception as error:
        raise InternalError(f"{shown}: {explain(error)}") from error
    return keep(module, options, failure)


def keep(
    module: ModuleInput,
    options: SlimOptions,
    failure: Failure | None,
    reason: str = "",
    made: btf.SlimModule | None = None,
) -> SlimRecord:
    """Write a module as it is, if it can be read, and say why. Raises OutputError."""
    size = 0
    target = target_of(module, options.roots)
    try:
        if module.problem is None:
            stored = read_stored(module.content_path)
            size = len(stored)
            if options.whole:
                _write(options.output, target, bytes(stored))
    except ReadError as error:
        failure = failure or Failure(error.kind, error.message)
    return _record(module, options, AS_IT_WAS, reason, failure, (size, size), made)


def _record(
    module: ModuleInput,
    options: SlimOptions,
    status: str,
    reason: str | None,
    failure: Failure | None,
    sizes: tuple[int, int],
    made: btf.SlimModule | None,
) -> SlimRecord:
    reason = failure.message if failure is not None else reason
    target = target_of(module, options.roots)
    head = (module.name, printable(module.path), target, status, reason, failure, *sizes)
    if made is None:
        return SlimRecord(*head)
    return SlimRecord(
        *head,
        made.bytes_before,
        made.bytes_after,
        made.types_before,
        made.types_after,
        made.signature_bytes,
    )


def _write(output: LocalFolder, target: str, content: bytes) -> None:
    try:
        output.make_folder(os.path.dirname(target))
        output.write(target, content)
    except OSError as error:
        raise cannot_write(error.filename or target, error) from error
