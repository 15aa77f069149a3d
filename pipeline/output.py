"""The output folder: written under temporary names, then committed; and how it is read.

    OUT/manifests/KERNEL.json                     what counts; published last, atomically
    OUT/tables/TABLE/kernel=KERNEL/part-HASH.parquet
    OUT/btf/kernel=KERNEL/MODULE.btf              split BTF; vmlinux.btf is the base
    OUT/.staging/RUN/                             of a run that is not finished
    OUT/.lock                                     held while a run writes

A commit: all files are complete in the staging folder; parts (named by their content) move to
their place, where no manifest lists them yet; the kernel's old manifest, if any, is withdrawn,
its BTF folder gives way to the new one, and the new manifest is published. A kill at any moment
leaves a kernel as it was, or invisible (between withdrawal and publication), never half. What no
manifest lists is removed afterwards, or by the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import OutputError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
ROWS_PER_GROUP = 1 << 18


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file, relative to the output folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What readers see of a kernel."""

    kernel: str
    splitbtf_version: str
    base_sha256: str
    btf_folder: str
    btf_files: int
    btf_bytes: int
    tables: Mapping[str, tuple[Part, ...]]
    format: int = FORMAT


def read_manifests(out: str | Path) -> list[Manifest]:
    """The committed kernels of an output folder, by name. Raises OutputError."""
    return [_load_manifest(path) for path in sorted((Path(out) / "manifests").glob("*.json"))]


def read_table(out: str | Path, table: str, kernel: str | None = None) -> pa.Table:
    """A whole table over the committed kernels, with the column ``kernel`` in front."""
    import pyarrow as pa  # late: whoever only commits or lists does not need Arrow
    import pyarrow.parquet as pq

    from . import schemas

    schema = schemas.TABLES[table].schema
    parts = []
    for manifest in read_manifests(out):
        if kernel is not None and manifest.kernel != kernel:
            continue
        for part in manifest.tables.get(table, ()):
            data = pq.ParquetFile(Path(out) / part.path).read()
            name = pa.array([manifest.kernel] * len(data), pa.string())
            parts.append(data.add_column(0, "kernel", name))
    empty = schema.insert(0, pa.field("kernel", pa.string())).empty_table()
    return pa.concat_tables(parts, promote_options="permissive") if parts else empty


def _load_manifest(path: Path) -> Manifest:
    try:
        raw = json.loads(path.read_text("utf-8"))
        if raw["format"] != FORMAT:
            raise OutputError(f"{path}: format {raw['format']}; this splitbtf knows {FORMAT}")
        tables = {
            name: tuple(Part(**part) for part in parts) for name, parts in raw["tables"].items()
        }
        return Manifest(**{**raw, "tables": tables})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"cannot read {path}: {error}") from error


class TableStream:
    """A Parquet file in the making. Its bytes do not depend on the pieces that it came in."""

    def __init__(self, root: Path, folder: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq  # late, as above

        self._root, self._folder, self._schema = root, folder, schema
        self._temporary = root / folder / "part.tmp"
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._rows = 0
        with _writing(root / folder):
            (root / folder).mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                self._temporary,
                schema,
                compression="zstd",
                compression_level=1,
                version="2.6",
                use_dictionary=_with_repetition(schema),
                write_statistics=True,
            )

    def add(self, data: pa.Table) -> None:
        """Append rows."""
        self._waiting.append(data)
        self._waiting_rows += len(data)
        while self._waiting_rows >= ROWS_PER_GROUP:
            self._write_group(ROWS_PER_GROUP)

    def close(self) -> Part:
        """Write what is left and name the file by its content."""
        if self._waiting_rows or not self._rows:
            self._write_group(self._waiting_rows)
        with _writing(self._root / self._folder):
            self._writer.close()
            _sync(self._temporary)
            with self._temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            path = self._folder / f"part-{digest[:16]}.parquet"
            self._temporary.rename(self._root / path)
            return Part(str(path), self._rows, (self._root / path).stat().st_size, digest)

    def _write_group(self, rows: int) -> None:
        import pyarrow as pa

        waiting = self._waiting or [self._schema.empty_table()]
        data = pa.concat_tables(waiting).combine_chunks()
        with _writing(self._root / self._folder):
            self._writer.write_table(data.slice(0, rows), row_group_size=max(1, rows))
        self._waiting = [data.slice(rows)]
        self._waiting_rows -= rows
        self._rows += rows


def _with_repetition(schema: pa.Schema) -> list[str]:
    """Columns in which a value is likely to come again: not hashes, nor ids."""
    import pyarrow as pa

    hashes = {field.name for field in schema if pa.types.is_fixed_size_binary(field.type)}
    return [field.name for field in schema if field.name not in hashes | {"global_id"}]


class OutputFolder:
    """An output folder that this run alone writes to, until ``close``."""

    def __init__(self, out: str | Path, run_id: str) -> None:
        self.path = Path(out).absolute()
        self._staging = self.path / ".staging"
        self._mine = self._staging / run_id
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise OutputError(f"another splitbtf run is writing to {self.path}") from None
            shutil.rmtree(self._staging, ignore_errors=True)  # of runs that were killed
            self._mine.mkdir(parents=True)
        except OSError as error:
            raise _cannot(error, self.path) from error

    def close(self) -> None:
        """Remove what was not committed and let others write."""
        shutil.rmtree(self._staging, ignore_errors=True)
        os.close(self._lock)

    @property
    def scratch(self) -> Path:
        """A folder for what a run needs for a while; it is not made until it is used."""
        return self._mine / "scratch"

    def stage_btf(self, kernel: str) -> Path:
        """A new folder for the kernel's BTF files, not visible to readers."""
        folder = self._mine / "btf" / f"kernel={kernel}"
        with _writing(folder):
            folder.mkdir(parents=True)
        return folder

    def stage_table(self, kernel: str, table: str, data: pa.Table) -> Part:
        """Write a table's only part to the staging folder, named by its content."""
        stream = self.stream_table(kernel, table, data.schema)
        stream.add(data)
        return stream.close()

    def stream_table(self, kernel: str, table: str, schema: pa.Schema) -> TableStream:
        """As ``stage_table``, for a table that comes piece by piece."""
        return TableStream(self._mine, Path("tables") / table / f"kernel={kernel}", schema)

    def staged(self, part: Part) -> Path:
        """Where a part is that was not committed yet."""
        return self._mine / part.path

    def committed_parts(self, kernel: str, table: str) -> tuple[Part, ...]:
        """The parts of a kernel's table that readers see now."""
        path = self._manifest_path(kernel)
        return _load_manifest(path).tables.get(table, ()) if path.exists() else ()

    def commit(self, manifest: Manifest) -> None:
        """Make a kernel's staged files what readers see, instead of what they saw before."""
        path = self._manifest_path(manifest.kernel)
        with _writing(path):
            path.parent.mkdir(exist_ok=True)
            staged = self._mine / f"{manifest.kernel}.json"
            staged.write_text(json.dumps(asdict(manifest), indent=1) + "\n", "utf-8")
            _sync(staged)
            self._place_parts(manifest)
            # From here on only renames within one file system.
            target = self.path / manifest.btf_folder
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                path.unlink(missing_ok=True)
                _sync(path.parent)
                target.rename(self._mine / "replaced-btf")
            (self._mine / manifest.btf_folder).rename(target)
            _sync(target.parent)
            staged.replace(path)
            _sync(path.parent)
            self._remove_unlisted(manifest)
            shutil.rmtree(self._mine / "replaced-btf", ignore_errors=True)

    def _place_parts(self, manifest: Manifest) -> None:
        for table, parts in manifest.tables.items():
            folder = self.path / "tables" / table / f"kernel={manifest.kernel}"
            folder.mkdir(parents=True, exist_ok=True)
            for part in parts:
                if (self._mine / part.path).exists():
                    (self._mine / part.path).replace(self.path / part.path)
            _sync(folder)

    def _remove_unlisted(self, manifest: Manifest) -> None:
        listed = {part.path for parts in manifest.tables.values() for part in parts}
        for folder in (self.path / "tables").glob(f"*/kernel={manifest.kernel}"):
            for file in folder.iterdir():
                if str(file.relative_to(self.path)) not in listed:
                    file.unlink()

    def _manifest_path(self, kernel: str) -> Path:
        return self.path / "manifests" / f"{kernel}.json"


def btf_folder(kernel: str) -> str:
    """Where a kernel's BTF files are, relative to the output folder."""
    return f"btf/kernel={kernel}"


def write_base(folder: Path, content: bytes) -> None:
    """Put the base beside its modules: split BTF is read together with it."""
    with _writing(folder):
        (folder / "vmlinux.btf").write_bytes(content)


def folder_facts(folder: Path, names: Sequence[str]) -> tuple[int, int]:
    """Files in a folder of BTF and their bytes. Raises OutputError if one of ``names`` is not."""
    with _writing(folder), os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries}
    missing = [name for name in names if f"{name}.btf" not in sizes]
    if missing:
        raise OutputError(f"{folder}: {missing[0]}.btf is not there; were files removed?")
    return len(sizes), sum(sizes.values())


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot(error, path) from error


def _cannot(error: OSError, path: Path) -> OutputError:
    return OutputError(f"cannot write {error.filename or path}: {error.strerror or error}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """A manifest's tables for people and programs: name to paths."""
    return {name: [part.path for part in parts] for name, parts in manifest.tables.items()}
