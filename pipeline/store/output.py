"""The output folder: written where nobody looks, then committed; and how it is read.

    OUT/manifests/KERNEL.json                     what counts; published last, in one step
    OUT/tables/TABLE/kernel=KERNEL/part-DIGEST.parquet
    OUT/versions/kernel=KERNEL/DIGEST/MODULE.btf  split BTF; vmlinux.btf is the base
    OUT/btf/kernel=KERNEL                         link to the version that counts, for people
    OUT/cache/kernel=KERNEL/                      results to be used again; may be deleted
    OUT/.staging/kernel=KERNEL/                   of a kernel that is not finished
    OUT/.lock                                     held while a run writes
    OUT/ray.log                                   the end of Ray's logs, where it has ended a run

Everything that a manifest names is named by its content and never changed. So a kernel is
replaced by putting the new files beside the old ones and then publishing the new manifest over
the old one, in one step. A kill at any moment leaves the kernel as it was or as it will be. What
no manifest names any more is removed when a run has done all its work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from btf.nearest import hint_of

from ..files.scratch import ScratchFolder
from ..files.storage import LocalFolder, Storage, cannot_read, open_storage
from ..model.errors import OutputError, PlaceError, QueryError
from ..sources.lookup import resolve_kernel
from ..tables.stored.parquet import Part
from ..tables.stored.parts import new_parts, writing
from .manifest import FOLDER as MANIFESTS
from .manifest import Manifest, load_manifests, no_kernel, unreadable_part

if TYPE_CHECKING:
    import pyarrow as pa

_STAGING = ".staging"
_SCRATCH = f"{_STAGING}/scratch"
_CACHE = "cache"
TABLES, VERSIONS = "tables", "versions"
LOG = "ray.log"


def read_manifests(out: str | os.PathLike[str]) -> list[Manifest]:
    """The committed kernels of an output folder, by name. Raises OutputError."""
    try:
        return list(load_manifests(open_storage(out)).values())
    except OSError as error:
        raise cannot_read(out, error) from error


def read_table(out: str | os.PathLike[str], table: str, kernel: str | None = None) -> pa.Table:
    """A whole table over the committed kernels, with the column ``kernel`` in front.

    out     what ``splitbtf run`` has written, a path or a URI
    table   ``types``, ``modules``, …: see docs/tables.md
    kernel  only this kernel, named as people type it; all when None

    Raises OutputError for a folder without kernels or with damage in it, QueryError for a table or
    a kernel that there is not; both name what may have been meant.
    """
    for attempt in range(3):
        try:
            return _read_table(open_storage(out), table, kernel)
        except FileNotFoundError as error:
            # A run has replaced the kernel and removed the old files just now: look again.
            if attempt == 2:
                raise cannot_read(error.filename or out, error) from error
        except OSError as error:
            raise cannot_read(error.filename or out, error) from error
    raise AssertionError("not reached")


def _read_table(storage: Storage, table: str, kernel: str | None) -> pa.Table:
    import pyarrow as pa  # late: whoever only commits or lists does not need Arrow
    import pyarrow.parquet as pq

    from ..tables.registry import all_tables

    tables = all_tables()
    if table not in tables:
        raise QueryError(f"there is no table {table!r}{hint_of(table, tables)}")
    manifests = load_manifests(storage)
    if not manifests:
        raise no_kernel(storage.place)
    if kernel is not None:
        kernel = resolve_kernel(kernel, manifests)
    schema, parts = tables[table].schema, []
    for manifest in manifests.values():
        if kernel is not None and manifest.kernel != kernel:
            continue
        for part in manifest.tables.get(table, ()):
            try:
                data = pq.ParquetFile(storage.open(part.path)).read()
                pa.unify_schemas([schema, data.schema])
            except (pa.ArrowException, KeyError) as error:
                raise unreadable_part(f"{storage.place}/{part.path}", error) from error
            name = pa.array([manifest.kernel] * len(data), pa.string())
            parts.append(data.add_column(0, "kernel", name))
    empty = schema.insert(0, pa.field("kernel", pa.string())).empty_table()
    if not parts:
        return empty
    # With every column, whatever a prepared file lacks.
    return pa.concat_tables([empty, *parts], promote_options="permissive").unify_dictionaries()


class OutputFolder:
    """An output folder that this run alone writes to, until ``close``."""

    def __init__(self, out: str | os.PathLike[str]) -> None:
        try:
            self.storage = open_storage(out)
        except OSError as error:
            raise OutputError(f"cannot use {os.fspath(out)}: {error.strerror}") from error
        self._scratch: str | None = None
        self._temporary: ScratchFolder | None = None  # where OUT is on no disk
        self._flusher = ThreadPoolExecutor(1, "flush")
        self._flushing: list[Future[None]] = []
        self._place = self.storage.place
        with writing(self.storage):
            try:
                self._lock = self.storage.lock()
            except BlockingIOError as error:
                more = error.strerror if self.storage.local is None else ""
                raise OutputError(
                    f"another splitbtf run is writing to {self._place}{more}"
                ) from None
            try:
                if self.storage.local is not None:
                    self.storage.delete_folder(_SCRATCH)  # of a run that was killed
                self.manifests = load_manifests(self.storage)
            except BaseException:
                self._lock.release()
                raise

    @property
    def scratch(self) -> str:
        """A folder of this machine for what this run needs for a while."""
        if self._scratch is None:
            if self.storage.local is not None:
                with writing(self.storage):
                    self.storage.make_folder(_SCRATCH)
                self._scratch = f"{self.storage.local}/{_SCRATCH}"
            else:
                with writing(self.storage):
                    self._temporary = ScratchFolder()
                self._scratch = self._temporary.path
        return self._scratch

    @property
    def parts_scratch(self) -> str | None:
        """The same for ``new_parts``, on whatever machine: None where OUT is on no disk."""
        return self.scratch if self.storage.local is not None else None

    def close(self) -> None:
        """Let others write. What was done and not committed stays for the next run."""
        self._flusher.shutdown(cancel_futures=True)
        if self._temporary is not None:
            self._temporary.close()
        elif self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        if self.storage.local is not None:
            with contextlib.suppress(OSError):
                os.rmdir(f"{self.storage.local}/{_STAGING}")
        self._lock.release()

    def keep_log(self, content: bytes) -> str:
        """Keep what an engine's processes wrote, until a run has done all its work; returns where
        it is. Raises OutputError."""
        with writing(self.storage):
            self.storage.publish(LOG, content, durable=False)
        return f"{self._place}/{LOG}"

    # -------------------------------------------------------------- a kernel in the making

    def stage(self, kernel: str) -> OutputStage:
        """Where a kernel's files go. What an earlier run left there is still there."""
        stage = OutputStage(kernel)
        with writing(self.storage):
            for folder in (stage.btf, stage.rows, stage.results):
                self.storage.make_folder(folder)
        return stage

    def table(self, kernel: str, table: str, rows: pa.Table) -> Part:
        """A table's part of these rows."""
        with new_parts(self.storage, kernel, self.parts_scratch) as parts:
            parts.add(table, rows)
            part = parts.finish()[table]
        self.schedule_fsync(part)
        return part

    def schedule_fsync(self, part: Part) -> None:
        """A part is in its place, whoever made it: see that it is on the disk when it counts."""
        # Beside what is still to be done: a disk takes its time.
        self._flushing.append(self._flusher.submit(self.storage.sync, part.path))

    def write(self, path: str, content: bytes, *, whole: bool = False) -> None:
        """Write a file that nothing names yet. ``whole``: it is there completely or not at all."""
        with writing(self.storage):
            if whole:
                self.storage.publish(path, content, durable=False)
            else:
                self.storage.write(path, content)

    def promote_stage(
        self, stage: OutputStage, files: Mapping[str, int], name: str, *, replace: bool = False
    ) -> str:
        """Make a version of the staged BTF files, which must be these; returns its folder.

        files    bytes by file name
        name     of the version: a digest of names and contents
        replace  the version that may be there is damaged
        """
        target = f"{VERSIONS}/kernel={stage.kernel}/{name}"
        with writing(self.storage):
            if replace or self.storage.sizes(target) != files:
                staged = self.storage.sizes(stage.btf)
                for file, size in files.items():
                    if staged.get(file) != size:
                        raise PlaceError(
                            f"{self._place}/{stage.btf}/{file} is not there, or not as it was "
                            "written; were files removed?"
                        )
                extra = [f"{stage.btf}/{file}" for file in staged.keys() - files.keys()]
                self.storage.delete(extra)
                self.storage.delete_folder(target)  # of a run that was killed
                self.storage.move_folder(stage.btf, target)
            self.storage.delete_folder(stage.folder)
        return target

    def versions(self, kernel: str) -> list[str]:
        """The folders of all versions of a kernel that are there, committed or not."""
        folder = f"{VERSIONS}/kernel={kernel}"
        return [f"{folder}/{name}" for name in self.storage.folders(folder)]

    def has_version(
        self, kernel: str, files: Mapping[str, int], digests: Mapping[str, str], name: str
    ) -> bool:
        """Whether this version is there already and whole; ``digests`` are by module."""
        folder = f"{VERSIONS}/kernel={kernel}/{name}"
        with writing(self.storage):
            if self.storage.sizes(folder) != files:
                return False
            return self.storage.local is None or all(
                hashlib.sha256(self.storage.read(f"{folder}/{module}.btf")).hexdigest() == digest
                for module, digest in digests.items()
            )

    def commit(self, manifest: Manifest) -> None:
        """Make this what readers see of the kernel, instead of what they saw before."""
        with writing(self.storage):
            while self._flushing:
                self._flushing.pop().result()
            for table in manifest.tables:
                self.storage.sync(f"tables/{table}/kernel={manifest.kernel}")
            self._lock.check()
            if isinstance(self.storage, LocalFolder):
                self.storage.check_point(btf_folder(manifest.kernel))
            self.storage.make_folder(MANIFESTS)
            self.storage.publish(manifest.path, manifest.to_bytes())
            self.manifests[manifest.kernel] = manifest
            self._link(manifest)

    def _link(self, manifest: Manifest) -> None:
        """Have a plain path lead to the version that counts, where there are such links."""
        if isinstance(self.storage, LocalFolder):
            self.storage.point(btf_folder(manifest.kernel), f"../{manifest.btf_folder}")

    def collect_garbage(self, results: Mapping[str, Iterable[str]]) -> list[str]:
        """Remove what no manifest names, as far as it can be; returns what stands in the way.

        Of kernels that have no manifest nothing is removed: it is for the run that finishes them.

        results  files of results by kernel that stay
        """
        tables = [table for m in self.manifests.values() for table in m.tables.values()]
        named = {part.path for parts in tables for part in parts}
        problems: list[str] = []
        with writing(self.storage):
            self._lock.check()
        with _tolerant(self.storage, problems):
            self.storage.delete([LOG])
            for name in self.storage.sizes(MANIFESTS):
                if not name.endswith(".json"):
                    self.storage.delete([f"{MANIFESTS}/{name}"])
        with _tolerant(self.storage, problems):
            for path in self.storage.sizes(TABLES):
                if kernel_of(path) in self.manifests and f"tables/{path}" not in named:
                    self.storage.delete([f"tables/{path}"])
        for manifest in self.manifests.values():
            with _tolerant(self.storage, problems):
                self._link(manifest)  # a kill may have come between manifest and link
                for folder in self.versions(manifest.kernel):
                    if folder != manifest.btf_folder:
                        self.storage.delete_folder(folder)
        for kernel, names in results.items():
            with _tolerant(self.storage, problems):
                folder = OutputStage(kernel).results
                kept_names = {*names, INDEX_FILE}
                gone = self.storage.sizes(folder).keys() - kept_names
                self.storage.delete(f"{folder}/{name}" for name in gone)
        return problems


@contextlib.contextmanager
def _tolerant(storage: Storage, problems: list[str]) -> Iterator[None]:
    """Go on after a place that cannot be used. Raises other OutputErrors."""
    try:
        with writing(storage):
            yield
    except PlaceError as error:
        problems.append(str(error))


INDEX_FILE = "index.json"


@dataclass(frozen=True, slots=True)
class OutputStage:
    """Where the files of a kernel go that is being worked on."""

    kernel: str

    @property
    def folder(self) -> str:
        return f"{_STAGING}/kernel={self.kernel}"

    @property
    def btf(self) -> str:
        return f"{self.folder}/btf"

    @property
    def rows(self) -> str:
        """Of rows that are not kept with results, until they are in tables."""
        return f"{self.folder}/rows"

    @property
    def results(self) -> str:
        return f"{_CACHE}/kernel={self.kernel}"


def kernel_of(path: str) -> str:
    """The kernel of a path with a folder ``kernel=NAME``; empty if there is none."""
    for part in path.split("/"):
        if part.startswith("kernel="):
            return part.removeprefix("kernel=")
    return ""


def btf_folder(kernel: str) -> str:
    """Where people find a kernel's BTF files, relative to an output folder of this machine."""
    return f"btf/kernel={kernel}"


def version_name(base_sha256: str, files: Mapping[str, str]) -> str:
    """What to call a version: a digest of the base and of all files, digests by module."""
    lines = [base_sha256, *(f"{name}\0{files[name]}" for name in sorted(files))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
