"""Many files to one BTF, in this one process: neither tables nor Ray.

Split BTF is merged with the vmlinux among the files that it continues. Its ids and string offsets
go on from vmlinux's, so both together are plain BTF, which is then deduplicated: the result is that
of the same modules when they were standalone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import btf

from .engine.malloc import map_large_blocks
from .files.read import release_buffer
from .files.storage import publish_file
from .model.base import Announce, IndexedBase
from .model.errors import SourceError
from .model.records import FileInput
from .model.steps import STEPS
from .sources.debug_files import pair_debug_files
from .sources.discover import best_bases, file_input
from .sources.listing import FoundFile, FoundFiles, absolute, find_files
from .sources.names import printable
from .sources.unpack import unpacked
from .work.base import load_base
from .work.open import NeedsBaseError, needs_base, open_file

_MOST_TOLD = 5  # kernels that a message names


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
    """Merge files, folders and packages, in their order, into one BTF that holds each type once.

    base_path   what split inputs continue, and what the output then continues. None: split inputs
                continue the vmlinux among the files, and the output is standalone

    All inputs must be sound: one that is not stops the merge. Raises SourceError, BaseError or
    OutputError; then nothing was written.
    """
    inputs, merged, seconds = merge_types(files, base_path, announce)
    content = merged.to_bytes()
    publish_file(output, content)
    return MergeReport(
        files=inputs.files,
        bytes_in=inputs.bytes,
        bytes_out=len(content),
        types_in=inputs.types,
        types_out=merged.type_count,
        read_seconds=inputs.seconds,
        work_seconds=seconds - inputs.seconds,
        output=output,
    )


def merge_types(
    files: Sequence[str], base_path: str | None, announce: Announce | None
) -> tuple[Inputs, btf.BTF, float]:
    """Merge files, see ``merge_files``: what was counted of them, the BTF, and seconds.

    Raises SourceError or BaseError.
    """
    map_large_blocks()
    found, kernels = _find_inputs(files)
    btf.warm_up(announce, merge=True)
    indexed = load_base(base_path, announce) if base_path is not None else None
    if base_path is not None and absolute(base_path) in found:
        del found[absolute(base_path)]
        if announce is not None:
            announce(f"{printable(base_path)} is the base: what it has is not merged again")
    began = time.perf_counter()
    with unpacked(found.values()) as readable:
        first = readable[0].path if readable else ""
        try:
            joined = indexed is None and [base.path for base in kernels] == [first]
            inputs, merged = _merge(readable, indexed, first if joined else None)
        except NeedsBaseError as error:
            if indexed is not None or joined:
                raise
            if len(kernels) > 1:
                what = "split BTF continues one vmlinux, but these are several"
                raise _several(what, kernels) from error
            inputs, merged = _merge(readable, None, kernels[0].path if kernels else first)
    return inputs, merged, time.perf_counter() - began


def _merge(
    files: Sequence[FileInput], indexed: IndexedBase | None, first: str | None
) -> tuple[Inputs, btf.BTF]:
    """Merge files onto a base, or all of them with the one called ``first``, which the others may
    continue, or none of them continuing another. Raises NeedsBaseError, or another SourceError."""
    inputs = Inputs([file for file in files if file.path != first])
    if indexed is not None:
        inputs.base, inputs.release = indexed.index, indexed.release
    elif first is not None:
        opened = inputs.open(next(file for file in files if file.path == first))
        inputs.count(opened.btf)
        inputs.base, inputs.release = opened.btf, opened.release
        release_buffer()  # vmlinux is larger than any module
    try:
        merged = btf.merge(inputs, inputs.base, standalone=first is not None, id_maps=False)
        return inputs, merged.btf
    except btf.BtfError as error:
        raise SourceError(f"cannot merge: {error}") from error


class Inputs:
    """Opens one input after the other, as often as asked, and counts each once; none is kept."""

    def __init__(self, later: Sequence[FileInput]) -> None:
        self.base: btf.BTF | btf.BaseIndex | None = None
        self.release: str | None = None
        self.files = self.bytes = self.types = 0
        self.seconds = 0.0
        self._later, self._counted = later, 0

    def __iter__(self) -> Iterator[btf.BTF]:
        """Raises NeedsBaseError, or another SourceError."""
        for number, file in enumerate(self._later):
            types = self.open(file).btf
            if number == self._counted:
                self._counted += 1
                self.count(types)
            yield types

    def open(self, file: FileInput) -> btf.Module:
        """Open an input. Raises NeedsBaseError, or another SourceError."""
        STEPS.debug("merging %s", file.path)
        began = time.perf_counter()
        opened = open_file(file, self.base, self.release)
        if self.base is None and opened.btf.base is not None:
            raise needs_base(printable(file.path))
        self.seconds += time.perf_counter() - began
        return opened

    def count(self, types: btf.BTF) -> None:
        """Count an input."""
        self.files += 1
        self.bytes += types.words.nbytes + types.strings.nbytes
        self.types += types.type_count


def _find_inputs(files: Sequence[str]) -> tuple[dict[str, FileInput], list[FoundFile]]:
    """List the inputs by their paths in their order, of a folder or a package its vmlinux, then its
    modules; and of each kernel among them its vmlinux. Raises SourceError."""
    inputs: dict[str, FileInput] = {}
    modules: dict[str, FoundFile] = {}
    bases: dict[str, FoundFile] = {}
    for source in files:
        found = find_files([source])
        best = best_bases(found)
        if len(best) > 1:
            raise _several(f"{printable(source)} holds {len(best)} kernels", best)
        pairs = pair_debug_files(found.modules, found.debug, by_build_id=False)
        debug = {file.path for file in pairs.values()}
        own = [file for file in found.modules if file.path not in debug]
        modules.update((file.path, file) for file in own)
        bases.update((file.path, file) for file in best)
        for file in (*best, *own):
            inputs.setdefault(file.path, file_input(file))
    if not inputs:
        raise SourceError("no BTF in the folders given")
    return inputs, best_bases(FoundFiles(tuple(modules.values()), tuple(bases.values())))


def _several(what: str, bases: Sequence[FoundFile]) -> SourceError:
    listed = ", ".join(printable(base.path) for base in bases[:_MOST_TOLD])
    return SourceError(f"{what}: {listed}; give the files of one kernel")
