"""Many files to one BTF, in this one process: neither tables nor Ray.

Split BTF is merged with the vmlinux among the files that it continues. Its ids and string offsets
go on from vmlinux's, so both together are plain BTF, which is then deduplicated: the result is that
of the same modules when they were standalone.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import btf

from .engine.malloc import map_large_blocks, release_memory
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
        inputs.open_base(next(file for file in files if file.path == first))
    try:
        merged = btf.merge(inputs, inputs.base, standalone=first is not None, id_maps=False)
        return inputs, merged.btf
    except btf.BtfError as error:
        raise SourceError(f"cannot merge: {error}") from error


class _Kept(NamedTuple):
    """BTF that was opened before: where in the temporary file it is, and what it does not say."""

    at: int
    size: int
    is_split: bool
    elf_pointer_size: int
    path: str | None


class Inputs:
    """Opens one input after the other, as often as asked, and counts each once.

    None is kept in memory: BTF that had to be decompressed, or looked for in a file, is kept in a
    temporary one. When an iteration ends that no other is waiting for, the base is let go of.
    """

    def __init__(self, later: Sequence[FileInput]) -> None:
        self.base: btf.BTF | btf.BaseIndex | None = None
        self.release: str | None = None
        self.files = self.bytes = self.types = 0
        self.seconds = 0.0
        self._later, self._counted = later, 0
        self._waiting = 0
        self._kept: dict[int, _Kept] = {}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def __iter__(self) -> Iterator[btf.BTF]:
        """Raises NeedsBaseError, or another SourceError."""
        self._waiting += 1
        for number, file in enumerate(self._later):
            kept = self._kept.get(number)
            if kept is not None:
                types = self._again(kept)
            else:
                opened = self.open(file)
                types = opened.btf
                if number == self._counted:
                    self._counted += 1
                    self.count(types)
                    self._keep(number, file, opened)
                del opened
            yield types
            del types  # before there is the next one
        self._waiting -= 1
        release_buffer()  # a module is much larger than its BTF
        if not self._waiting:
            self._kept.clear()
            self._file.close()
            self.base = None
        release_memory()

    def open_base(self, file: FileInput) -> None:
        """Open the input that others may continue. Raises SourceError."""
        opened = self.open(file)
        self.count(opened.btf)
        self.base, self.release = opened.btf, opened.release
        release_buffer()  # vmlinux is larger than any module
        release_memory()

    def _keep(self, number: int, file: FileInput, opened: btf.Module) -> None:
        """Keep BTF that takes more than reading a file."""
        types = opened.btf
        with contextlib.suppress(OSError):  # no room: it is opened once more
            if os.path.getsize(file.content_path) != opened.input_bytes:
                at = self._file.seek(0, os.SEEK_END)
                size = self._file.write(types.to_bytes())
                is_split = types.base is not None
                self._kept[number] = _Kept(at, size, is_split, types.elf_pointer_size, types.path)

    def _again(self, kept: _Kept) -> btf.BTF:
        """Read BTF that was kept."""
        began = time.perf_counter()
        self._file.seek(kept.at)
        base = self.base.base if isinstance(self.base, btf.BaseIndex) else self.base
        content = self._file.read(kept.size)
        types = btf.parse(content, base if kept.is_split else None, path=kept.path)
        self.seconds += time.perf_counter() - began
        return replace(types, elf_pointer_size=kept.elf_pointer_size, sound=True)

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
