"""Modules to split BTF files in this one process: no tables, no commit, neither Ray nor Arrow."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import btf
from btf.unmerged.arrays import BaseArrays

from .files.storage import cannot_write, publish_file
from .model.base import Announce
from .model.errors import OutputError, SourceError
from .model.options import ENCODE_NONE, FORM_AUTO, KernelContext, RunOptions
from .model.records import ModuleInput, ModuleRecord
from .model.summary import WorkSummary, on_base, summarize
from .sources.discover import find_modules
from .sources.unpack import unpacked
from .work.base import load_base
from .work.module import run_alone

Progress = Callable[[int, int, int], None]  # done, failed, of


@dataclass(frozen=True, slots=True)
class DedupReport:
    """What ``dedup_files`` did."""

    summary: WorkSummary
    output_folder: str | None
    index_seconds: float
    work_seconds: float


def dedup_files(
    base_path: str,
    files: Sequence[str],
    output_folder: str | None,
    *,
    form: str = FORM_AUTO,
    announce: Announce | None = None,
    progress: Progress | None = None,
) -> DedupReport:
    """Deduplicate files and folders of modules against one base.

    form  of the split BTF: one of ``FORM_CHOICES``

    Raises SourceError, BaseError or OutputError when nothing can be done.
    """
    modules = find_modules(files, skip_folder=output_folder)
    if not modules:
        raise SourceError("no modules in the folders given")
    base = load_base(base_path, announce)
    btf.make_ready(base.index)
    arrays = BaseArrays.build(base.index)
    if output_folder is not None:
        try:
            Path(output_folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(output_folder, error) from error
        for module in modules:
            _check_apart(module, f"{output_folder}/{module.name}.btf")
    options = RunOptions(
        tuple(files), output_folder or "", base_path, encode=ENCODE_NONE, form=form
    )
    context = KernelContext(options, base.release, by_name=options.sorts(base.is_sorted))
    records: list[ModuleRecord] = []
    failures = 0
    gc.freeze()  # what is there now stays: not to be looked through again and again
    began = time.perf_counter()
    with unpacked(modules) as readable:
        for module in readable:
            worked = run_alone(module, base.index, context, arrays)
            if output_folder is not None and worked.content is not None:
                publish_file(f"{output_folder}/{module.name}.btf", worked.content)
            records.append(worked.record)
            failures += worked.record.failure is not None
            if progress is not None:
                progress(len(records), failures, len(modules))
    seconds = time.perf_counter() - began
    summary = on_base(summarize(records), base)
    return DedupReport(summary, output_folder, base.index_seconds, seconds)


def _check_apart(module: ModuleInput, target: str) -> None:
    with contextlib.suppress(OSError):
        if os.path.samefile(module.path, target):
            raise OutputError(f"{target} is an input, which would be replaced: give another folder")
