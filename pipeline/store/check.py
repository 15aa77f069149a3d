"""Whether what is committed is there as it was written: every file against its digest."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..files.storage import NO_FILE, Storage, cannot_read, open_storage
from ..model.errors import OutputError
from ..model.steps import STEPS
from .manifest import FOLDER, Manifest, files_there, load_manifest, no_kernel
from .output import TABLES, VERSIONS, kernel_of

MISSING, EXTRA, CHANGED = "missing", "extra", "changed"
_FILES_AT_ONCE = 64  # most are small
_AT_ONCE = min(4, os.cpu_count() or 1)

_Wanted = Mapping[str, tuple[int | None, str]]  # size and digest by path


@dataclass(frozen=True, slots=True)
class Fault:
    """A file, relative to the output folder, that is not as it was written.

    fault   MISSING; EXTRA: no manifest names it; CHANGED: its content is another
    detail  what was found there
    """

    path: str
    fault: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What was compared: committed kernels, their files, and what is wrong."""

    kernels: int
    files: int
    bytes: int
    faults: tuple[Fault, ...]


def check_output(out: str) -> Checked:
    """Compare all that is committed in an output folder, and find what no manifest names.

    Of kernels without a manifest, which a run may be at work on, nothing is said. Raises
    OutputError if there is nothing to compare.
    """
    try:
        checked = _check_output(open_storage(out))
    except OSError as error:
        raise cannot_read(out, error) from error
    if not checked.kernels and not checked.faults:
        raise no_kernel(out)
    return checked


def _check_output(storage: Storage) -> Checked:
    kernels = files = size = 0
    faults: list[Fault] = []
    named: dict[str, set[str]] = {}  # by kernel
    for name in files_there(storage):
        path = f"{FOLDER}/{name}"
        if not name.endswith(".json"):
            faults.append(Fault(path, EXTRA, "no manifest"))
            continue
        try:
            manifest = load_manifest(storage, path)
        except OutputError as error:
            faults.append(
                Fault(path, CHANGED, str(error).removeprefix(f"{storage.place}/{path}: "))
            )
            continue
        STEPS.debug("comparing the files of %s", manifest.kernel)
        found = check_kernel(storage, manifest)
        kernels += 1
        files, size = files + found.files + 1, size + found.bytes
        faults += found.faults
        parts = {part.path for parts in manifest.tables.values() for part in parts}
        named[manifest.kernel] = parts | {manifest.btf_folder}
    for top in (TABLES, VERSIONS):
        for name in storage.sizes(top):
            path = f"{top}/{name}"
            known = named.get(kernel_of(path))
            if known is not None and known.isdisjoint((path, os.path.dirname(path))):
                faults.append(Fault(path, EXTRA, "no manifest names it"))
    return Checked(kernels, files, size, tuple(faults))


def check_kernel(storage: Storage, manifest: Manifest, *, contents: bool = True) -> Checked:
    """Compare a kernel's files with what its manifest says of them. Raises OSError.

    contents  read them all; else only their sizes are compared
    """
    folder = manifest.btf_folder
    parts = {p.path: (p.bytes, p.sha256) for parts in manifest.tables.values() for p in parts}
    there = {
        f"{at}/{name}": size
        for at in sorted({*map(os.path.dirname, parts), folder})
        for name, size in storage.sizes(at).items()
    }
    faults = _compare(storage, parts, there, contents)
    btf_files = [path for path in there if path.startswith(f"{folder}/")]
    count, size = len(btf_files), sum(there[path] for path in btf_files)
    modules = [part.path for part in manifest.tables.get("modules", ())]
    if contents and not {fault.path for fault in faults}.intersection(modules):
        try:
            files = _btf_files(storage, manifest)
        except ValueError as error:
            faults.append(Fault(modules[0], CHANGED, str(error)))
        else:
            faults += _compare(storage, files, there, contents)
            extra = sorted(set(btf_files) - files.keys())
            faults += [Fault(path, EXTRA, "no module is called so") for path in extra]
    as_written = (count, size) == (manifest.btf_files, manifest.btf_bytes)
    if not as_written and not any(fault.path.startswith(folder) for fault in faults):
        wanted = f"not {manifest.btf_files:,} with {manifest.btf_bytes:,} bytes"
        faults.append(Fault(folder, CHANGED, f"{count:,} files with {size:,} bytes, {wanted}"))
    total = size + sum(max(there.get(path, 0), 0) for path in parts)
    return Checked(1, count + len(parts), total, tuple(faults))


def _btf_files(storage: Storage, manifest: Manifest) -> _Wanted:
    """The kernel's BTF files. Raises ValueError if the table ``modules`` is none."""
    import pyarrow as pa  # late
    import pyarrow.parquet as pq

    names = ["module", "bytes_out", "output_sha256"]
    wanted: dict[str, tuple[int | None, str]] = {}
    if manifest.base_sha256:
        wanted[f"{manifest.btf_folder}/vmlinux.btf"] = None, manifest.base_sha256
    for part in manifest.tables.get("modules", ()):
        try:
            rows = pq.ParquetFile(storage.open(part.path)).read(names)
            columns = (rows[name].to_pylist() for name in names)
            for module, size, digest in zip(*columns, strict=True):
                if digest is not None:
                    wanted[f"{manifest.btf_folder}/{module}.btf"] = size, digest
        except (pa.ArrowException, KeyError) as error:
            raise ValueError(f"not the table modules: {error}") from error
    return wanted


def _compare(
    storage: Storage, wanted: _Wanted, there: Mapping[str, int], contents: bool
) -> list[Fault]:
    faults, sound = {}, []
    for path, (size, _) in wanted.items():
        found = there.get(path)
        if found is None:
            faults[path] = Fault(path, MISSING, "")
        elif found == NO_FILE:
            faults[path] = Fault(path, CHANGED, "not a regular file")
        elif size is not None and size != found:
            faults[path] = Fault(path, CHANGED, f"{found:,} bytes, not {size:,}")
        else:
            sound.append(path)
    for path, digest in _digests(storage, sound) if contents else ():
        if digest != wanted[path][1]:
            detail = f"{there[path]:,} bytes with another SHA-256 than {wanted[path][1]}"
            faults[path] = Fault(path, CHANGED, detail)
    return [faults[path] for path in wanted if path in faults]


def _digests(storage: Storage, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The path and the SHA-256 of files, read by a few threads."""
    tasks: list[tuple[str, list[str]]] = []
    for path in paths:
        folder, _, name = path.rpartition("/")
        if not tasks or tasks[-1][0] != folder or len(tasks[-1][1]) == _FILES_AT_ONCE:
            tasks.append((folder, []))
        tasks[-1][1].append(name)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda task: storage.digests(*task), tasks)
        yield from zip(paths, itertools.chain.from_iterable(found), strict=True)
