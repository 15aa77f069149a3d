"""Which results there are in an output folder, of whatever kernel, that can be used again."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

from ..files.storage import NO_FILE, Storage, cannot_read
from ..model.options import KernelContext, RunOptions
from ..model.records import CRASHED, ENCODE_TIMEOUT, NO_BTF, NO_ENCODER, TIMED_OUT
from ..tables.stored.results import DamagedError, Entry, Results
from ..tables.stored.slices import ResultRef
from ..work.encode import installed_encoder
from .input_cache import read_memory
from .output import OutputFolder, OutputStage


@dataclass(frozen=True, slots=True)
class CachedResult:
    """A result that is there: what is said of it, and where it is."""

    entry: Entry
    result: ResultRef


def find_cached(out: OutputFolder, context: KernelContext) -> dict[str, CachedResult]:
    """Find the results that were obtained in this context, by key. Raises OutputError.

    Only what is complete counts: with the BTF file, if there has to be one, to the letter.
    """
    try:
        return _find(out, context)
    except OSError as error:
        raise cannot_read(out.storage.place, error) from error


def _find(out: OutputFolder, context: KernelContext) -> dict[str, CachedResult]:
    found: dict[str, CachedResult] = {}
    files: dict[str, dict[tuple[str, str], str]] = {}
    for path, size in sorted(_files_there(out.storage).items()):
        folder, _, name = path.rpartition("/")
        wanted = name.startswith(context.digest[:16]) and name.endswith(".results")
        if not wanted or size == NO_FILE:
            continue
        try:
            results = Results(name, out.storage.read(f"cache/{path}"))
        except (OSError, DamagedError):
            continue
        kernel = folder.removeprefix("kernel=")
        if kernel not in files:
            files[kernel] = {}
            with contextlib.suppress(OSError):
                files[kernel] = _files_of(out, kernel)
        for position, entry in enumerate(results.entries):
            if not entry.key or not is_valid(entry, context.options):
                continue
            btf = ""
            if entry.output_sha256 is not None:
                btf = files[kernel].get((f"{entry.module}.btf", entry.output_sha256), "")
                if not btf:
                    continue
            found[entry.key] = CachedResult(entry, ResultRef(f"cache/{path}", position, btf))
    return found


def _files_there(storage: Storage) -> dict[str, int]:
    """The sizes of all files of results that can be read, by their paths below the cache."""
    if storage.local is None:
        return storage.sizes("cache")
    found = {}
    for folder in storage.folders("cache"):
        with contextlib.suppress(OSError):
            sizes = storage.sizes(f"cache/{folder}")
            found.update({f"{folder}/{name}": size for name, size in sizes.items()})
    return found


def _files_of(out: OutputFolder, kernel: str) -> dict[tuple[str, str], str]:
    """A kernel's BTF files by name and digest: those that are committed, and those that a run has
    left that was killed before, or before it had tidied up."""
    found: dict[tuple[str, str], str] = {}
    folders = [OutputStage(kernel).btf, *out.versions(kernel)]
    manifest = out.manifests.get(kernel)
    if manifest is not None and out.storage.local is None:  # here they are read: that is soon done
        memory = read_memory(out.storage, kernel)
        if memory.version == manifest.btf_folder:
            folders.remove(manifest.btf_folder)
            sizes = out.storage.sizes(manifest.btf_folder)
            for name, digest in memory.files.items():
                if name in sizes:
                    found[name, digest] = f"{manifest.btf_folder}/{name}"
    for folder in folders:
        sizes = out.storage.sizes(folder)
        names = [name for name in sizes if sizes[name] != NO_FILE]
        contents = out.storage.read_all([f"{folder}/{name}" for name in names])
        for name, content in zip(names, contents, strict=True):
            digest = hashlib.sha256(content).hexdigest()
            found.setdefault((name, digest), f"{folder}/{name}")
    return found


def is_valid(entry: Entry, options: RunOptions) -> bool:
    """Whether the same would come of it today; with ``options.retry`` only if neither time nor
    chance had a say."""
    kind = entry.error_kind
    if kind in (CRASHED, TIMED_OUT, ENCODE_TIMEOUT):
        limit = options.encode_seconds if kind == ENCODE_TIMEOUT else options.module_seconds
        longer = entry.seconds is not None and limit > entry.seconds
        if options.retry or longer:
            return False
    if kind == NO_BTF and options.debuginfod is not None:
        return False  # a server may have it by now
    if kind == NO_ENCODER:
        return installed_encoder() is None
    return entry.encoder is None or installed_encoder() in (entry.encoder, None)
