"""What is remembered of a kernel's inputs, so that what has not changed need not be read again.

``cache/kernel=KERNEL/index.json`` in the output holds, for each file, a signature (size, times,
inode) and the digest of its content, and which base the kernel had. A file whose signature is as it
was has the content that it had; one with another is read, and may turn out to be the same. Nothing
depends on the index but time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..files.read import ReadError, read_stored
from ..files.remote import is_uri, list_remote, uri_below
from ..files.storage import Storage
from ..model.from_json import from_json
from ..model.records import FileInput, KernelInput, ModuleInput
from ..tables.stored.results import Entry
from .output import INDEX_FILE, OutputStage

FORMAT = 2
_RECENT_NANOSECONDS = 2_000_000_000  # changed so shortly ago that it could change unseen
_HASH_IN_DRIVER_BYTES = 1 << 30  # what is read to find that there is nothing to do
_SMALL_BYTES = 64 << 20
_NO_FILE = "not there"

StatSignature = tuple[Any, ...]  # size, times, inode of a file, or why they cannot be had


@dataclass(frozen=True, slots=True)
class BaseMemory:
    """The base that a kernel had: what the results depend on, and where it was found.

    ``path`` is that of the file that was used, of those that could be.
    """

    path: str
    sha256: str
    source: str
    release: str | None
    encoder: str | None


@dataclass(slots=True)
class Memory:
    """What is remembered of a kernel.

    signatures  of each file that holds inputs, a package or an input itself, by path
    digests  of each input as it is stored, by path; of one that cannot be read, the reason,
             beginning with an exclamation mark
    conditional  those of their results that may become invalid though nothing changes
    version  folder of the BTF files, and ``files`` their digests by name
    results  files of results that hold what came of the inputs
    """

    signatures: dict[str, StatSignature] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    base: BaseMemory | None = None
    conditional: list[Entry] = field(default_factory=list)
    version: str = ""
    files: dict[str, str] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)

    def write(self, storage: Storage, kernel: str) -> None:
        """Remember for the next run. Raises OSError."""
        raw: dict[str, Any] = {"format": FORMAT}
        raw |= {each.name: getattr(self, each.name) for each in fields(self)}
        raw["base"] = asdict(self.base) if self.base is not None else None
        raw["conditional"] = [asdict(entry) for entry in self.conditional]
        content = json.dumps(raw, separators=(",", ":")).encode()
        storage.publish(f"{OutputStage(kernel).results}/{INDEX_FILE}", content, durable=False)


def read_memory(storage: Storage, kernel: str) -> Memory:
    """What is remembered of a kernel; nothing, if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        raw = json.loads(storage.read(f"{OutputStage(kernel).results}/{INDEX_FILE}"))
        if isinstance(raw, dict) and raw.pop("format", None) == FORMAT:
            memory: Memory = from_json(Memory, raw)
            return memory
    return Memory()


class Inputs:
    """A kernel's inputs as they are now, beside what is remembered of them.

    ``signatures`` are of those that are named by URIs: see ``remote_signatures``.
    """

    def __init__(
        self, kernel: KernelInput, memory: Memory, signatures: Mapping[str, StatSignature]
    ) -> None:
        self._memory = memory
        self.digests: dict[str, str] = {}
        now = time.time_ns()
        self.signatures: dict[str, StatSignature] = {}
        for file in _files(kernel):
            holder = file.package or file.path
            if holder not in self.signatures:
                self.signatures[holder] = (
                    signatures[holder] if is_uri(holder) else _signature(holder, now)
                )
            if self._is_as_it_was(holder):
                digest = memory.digests.get(file.path)
                if digest is not None:
                    self.digests[file.path] = digest

    def _is_as_it_was(self, holder: str) -> bool:
        signature = self.signatures[holder]
        return bool(signature) and signature == self._memory.signatures.get(holder)

    def base(self, kernel: KernelInput) -> BaseMemory | None:
        """The kernel's base, if it is certain that it is still what it was."""
        remembered = self._memory.base
        if remembered is None:
            return None
        for base in kernel.bases:  # in the order in which they are tried
            is_used = base.path == remembered.path
            as_it_was = self._is_as_it_was(base.package or base.path)
            if is_used and as_it_was:
                return remembered
            if os.path.basename(base.path) == os.path.basename(remembered.path):
                digest = _digest_of_small(base)
                if digest is not None and digest == self._memory.digests.get(remembered.path):
                    self.digests[base.path] = digest
                    return replace(remembered, path=base.path, source=base.source)
            if is_used or not as_it_was:
                return None
        return None

    def remember_base(self, base: FileInput) -> None:
        """Learn the digest of a base, so that it is known when only its signature differs."""
        if base.path not in self.digests and (digest := _digest_of_small(base)) is not None:
            self.digests[base.path] = digest

    def read_what_changed(self, modules: Iterable[ModuleInput]) -> None:
        """Learn the digests of inputs whose signatures differ, if that takes little time."""
        wanted = [
            module
            for module in modules
            if module.path not in self.digests and module.problem is None
        ]
        local = all(not is_uri(m.path) and m.package is None and m.debug is None for m in wanted)
        if not local or sum(module.file_bytes for module in wanted) > _HASH_IN_DRIVER_BYTES:
            return
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for module, digest in zip(wanted, pool.map(_digest, wanted), strict=True):
                self.digests[module.path] = digest

    def to_memory(self, **more: Any) -> Memory:
        """What the next run should know; ``more`` are the fields that this knows nothing of."""
        signatures = {path: signature for path, signature in self.signatures.items() if signature}
        return Memory(signatures, self.digests, **more)


def _files(kernel: KernelInput) -> Iterable[ModuleInput | FileInput]:
    yield from kernel.bases
    for module in kernel.modules:
        yield module
        if module.debug is not None:
            yield module.debug


def _digest(module: ModuleInput) -> str:
    try:
        return hashlib.sha256(read_stored(module.path)).hexdigest()
    except ReadError as error:
        return reason(error.kind, error.message)


def _digest_of_small(base: FileInput) -> str | None:
    """Digest of a base as it is stored; None if it takes long to read, or cannot be."""
    with contextlib.suppress(OSError, ReadError):
        here = base.package is None and not is_uri(base.path)
        if here and os.stat(base.path).st_size <= _SMALL_BYTES:
            return hashlib.sha256(read_stored(base.path)).hexdigest()
    return None


def reason(kind: str, message: str) -> str:
    """In place of a digest: why there is none."""
    return f"!{kind}: {message}"


def _signature(path: str, now: int) -> StatSignature:
    """Take the signature of a file; empty if it says nothing of the content."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (_NO_FILE, error.strerror)
    if max(status.st_mtime_ns, status.st_ctime_ns) > now - _RECENT_NANOSECONDS:
        return ()
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def remote_signatures(kernels: Iterable[KernelInput]) -> dict[str, StatSignature]:
    """Take the signatures of files that are named by URIs: one question for each source, or file
    in none."""
    wanted: dict[str, set[str]] = defaultdict(set)  # folder of a source -> paths
    for kernel in kernels:
        for file in _files(kernel):
            holder = file.package or file.path
            if is_uri(holder):
                inside = file.package is None and holder.endswith(f"/{file.source}")
                folder = holder[: -len(file.source) - 1] if inside else os.path.dirname(holder)
                wanted[folder].add(holder)
    signatures: dict[str, StatSignature] = {}
    now = time.time_ns()
    for folder, paths in wanted.items():
        there: dict[str, Any] = {}
        with contextlib.suppress(OSError):  # what cannot be seen has to be read
            where = next(iter(paths)) if len(paths) == 1 else folder
            for relative, info in list_remote(where):
                there[uri_below(where, relative) if relative else where] = info
        for path in paths:
            info = there.get(path)
            recent = info is None or not info.mtime_ns or info.mtime_ns > now - _RECENT_NANOSECONDS
            signatures[path] = () if recent or info is None else (info.size, info.mtime_ns)
    return signatures


def inputs_digest(
    context: str,
    kernel: KernelInput,
    base: BaseMemory | None,
    keys: Mapping[int, str],
) -> str:
    """What stands for all that a kernel's tables and files are made of.

    keys  for each module, by its object id: the key of its result, or why there is none
    """
    lines = [context, kernel.name]
    if base is not None:
        lines += [base.sha256, base.source, base.release or "", base.encoder or ""]
    lines += [f"{m.name}\0{m.source}\0{keys[m.object_id]}" for m in kernel.modules]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
