"""Many files to one BTF, in this one process: neither tables nor Ray."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import btf

from .files.storage import publish_file
from .model.base import Announce, IndexedBase
from .model.errors import SourceError
from .model.records import FileInput
from .model.steps import STEPS
from .sources.discover import best_bases, file_input
from .sources.listing import absolute, find_files
from .sources.names import printable
from .sources.unpack import unpacked
from .work.base import load_base
from .work.open import needs_base, open_types


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What ``merge_files`` did. Bytes are of the BTF, not of the files around it."""

    files: int
    bytes_in: int
    bytes_out: int
    types_in: int
    types_out: int
    read_seconds: float
    work_seconds: float
    output: str


def merge_files(
    files: Sequence[str],
    output: str,
    *,
    base_path: str | None = None,
    announce: Announce | None = None,
) -> MergeReport:
    """Merge files and folders, in the order given, into one BTF file that holds each type once.

    base_path   what split inputs continue, and what the output then continues

    All inputs must be sound: one that is not stops the merge. Raises SourceError, BaseError or
    OutputError; then nothing was written.
    """
    inputs = _find_inputs(files, base_path)
    base = None
    if base_path is not None:
        base = load_base(base_path, announce)
    else:
        btf.warm_up(announce)
    inputs_read = _CountedInputs()
    began = time.perf_counter()
    with unpacked(inputs) as readable:
        try:
            merged = btf.merge(inputs_read.each(readable, base), base.index if base else None).btf
        except btf.BtfError as error:
            raise SourceError(f"cannot merge: {error}") from error
    seconds = time.perf_counter() - began
    content = merged.to_bytes()
    publish_file(output, content)
    return MergeReport(
        files=inputs_read.files,
        bytes_in=inputs_read.bytes,
        bytes_out=len(content),
        types_in=inputs_read.types,
        types_out=merged.type_count,
        read_seconds=inputs_read.seconds,
        work_seconds=seconds - inputs_read.seconds,
        output=output,
    )


@dataclass(slots=True)
class _CountedInputs:
    """Opens one input after the other and counts them; none is kept in memory."""

    files: int = 0
    bytes: int = 0
    types: int = 0
    seconds: float = 0.0

    def each(self, inputs: Iterable[FileInput], base: IndexedBase | None) -> Iterator[btf.BTF]:
        """The BTF of each input. Raises SourceError."""
        for file in inputs:
            STEPS.debug("merging %s", file.path)
            began = time.perf_counter()
            types = open_types(file, base)
            if base is None and types.base is not None:
                raise needs_base(printable(file.path))
            self.files += 1
            self.bytes += types.words.nbytes + types.strings.nbytes
            self.types += types.type_count
            self.seconds += time.perf_counter() - began
            yield types


def _find_inputs(files: Sequence[str], base_path: str | None) -> list[FileInput]:
    """List the inputs in their order: of a folder its vmlinux, then its modules; each path once."""
    skip = absolute(base_path) if base_path is not None else None
    inputs: dict[str, FileInput] = {}
    for source in files:
        found = find_files([source])
        for file in (*best_bases(found), *found.modules):
            if file.path != skip:
                inputs.setdefault(file.path, file_input(file))
    if not inputs:
        raise SourceError("no BTF in the folders given")
    return list(inputs.values())
