"""Many files to one BTF, in this one process: neither tables nor Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import btf

from .base import Announce, load_base
from .discover import best_bases, file_input
from .names import printable, release_of_base
from .read import ReadError, read_input
from .records import FileInput
from .sources import SourceError, find_files
from .staging import unpacked
from .worker import OutputError


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
    inputs = _expand(files, base_path)
    index = release = None
    if base_path is not None:
        base = load_base(base_path, announce)
        index = base.index
        release = base.release or release_of_base(os.path.basename(base_path))
    else:
        btf.warm_up(announce)
    began = time.perf_counter()
    with unpacked(inputs) as readable:
        sources = [_open(file, index, release) for file in readable]
    read_seconds = time.perf_counter() - began
    began = time.perf_counter()
    try:
        merged = btf.merge(sources, index).btf
    except btf.BtfError as error:
        raise SourceError(f"cannot merge: {error}") from error
    work_seconds = time.perf_counter() - began
    content = merged.to_bytes()
    _write(output, content)
    return MergeReport(
        files=len(sources),
        bytes_in=sum(source.words.nbytes + source.strings.nbytes for source in sources),
        bytes_out=len(content),
        types_in=sum(source.type_count for source in sources),
        types_out=merged.type_count,
        read_seconds=read_seconds,
        work_seconds=work_seconds,
        output=output,
    )


def _expand(files: Sequence[str], base_path: str | None) -> list[FileInput]:
    """The inputs in their order: of a folder its vmlinux, then its modules; each path once."""
    skip = os.path.abspath(base_path) if base_path is not None else None
    inputs: dict[str, FileInput] = {}
    for source in files:
        found = find_files([source])
        for file in (*best_bases(found), *found.modules):
            if file.path != skip:
                inputs.setdefault(file.path, file_input(file))
    if not inputs:
        raise SourceError("no BTF in the folders given")
    return list(inputs.values())


def _open(file: FileInput, index: btf.BaseIndex | None, release: str | None) -> btf.BTF:
    shown = printable(file.path)
    if file.problem is not None:
        raise SourceError(f"{shown}: {file.problem}")
    try:
        data = read_input(file.content_path)
        if index is None:
            return btf.load_base(data, path=shown)
        return btf.open_module(data, index, path=shown, release=release).btf
    except ReadError as error:
        raise SourceError(f"{shown}: {error.message}") from error
    except btf.BtfError as error:
        hint = ""
        if index is None and error.section == "strings" and error.offset == 0:
            hint = "; name its base with -B"
        raise SourceError(f"cannot merge: {error}{hint}") from error


def _write(output: str, content: bytes) -> None:
    staged = f"{output}.tmp"
    try:
        with open(staged, "wb") as file:  # noqa: PTH123
            file.write(content)
        os.replace(staged, output)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
