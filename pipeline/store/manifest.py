"""The manifest of a kernel: what readers see of it. Nothing in it is believed unseen.

Whoever can write to OUT can write anything into a manifest, and its names become paths of files
that are read, linked and removed. So only the names that ``output`` gives are taken.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from btf.nearest import hint, nearest_names

from ..files.remote import is_uri
from ..files.storage import Storage, cannot_read
from ..model.errors import OutputError
from ..model.from_json import from_json
from ..model.summary import WorkSummary
from ..sources.names import safe
from ..tables.stored.parquet import Part

FORMAT = 4
FOLDER = "manifests"

_VERSION, _DIGEST = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{64}")
_TABLE = re.compile("tables/[a-z_]+")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What readers see of a kernel. ``inputs_sha256`` stands for all that it was made of."""

    kernel: str
    splitbtf_version: str
    base_sha256: str
    inputs_sha256: str
    btf_folder: str
    btf_files: int
    btf_bytes: int
    tables: Mapping[str, tuple[Part, ...]]
    summary: WorkSummary | None = None
    format: int = FORMAT

    @property
    def path(self) -> str:
        """Where it lies in the output folder."""
        return f"{FOLDER}/{self.kernel}.json"

    def to_bytes(self) -> bytes:
        """The content of its file."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    def table_paths(self) -> dict[str, list[str]]:
        """The tables for people and programs: name to paths."""
        return {name: [part.path for part in parts] for name, parts in self.tables.items()}


def load_manifests(storage: Storage) -> dict[str, Manifest]:
    """Read and check the committed kernels of an output folder, by name.

    Raises OutputError, and OSError where the folder itself cannot be read.
    """
    names = sorted(name for name in files_there(storage) if name.endswith(".json"))
    found = (load_manifest(storage, f"{FOLDER}/{name}") for name in names)
    return {manifest.kernel: manifest for manifest in found}


def files_there(storage: Storage) -> dict[str, int]:
    """The sizes of all files where manifests are. Raises as ``load_manifests``."""
    try:
        return storage.sizes(FOLDER)
    except NotADirectoryError:
        if storage.local is None or not os.path.isfile(storage.local):
            raise
        raise OutputError(
            f"{storage.place}: a file, not a folder that `splitbtf run -o FOLDER` has written; "
            "single files are read by `splitbtf show`, `dump`, `diff` and `check`"
        ) from None


def load_manifest(storage: Storage, path: str) -> Manifest:
    """Read and check one manifest. Raises OutputError."""
    where = f"{storage.place}/{path}"
    try:
        raw = json.loads(storage.read(path))
        if not isinstance(raw, dict) or type(raw.get("format")) is not int:
            raise ValueError("no format")
        if raw["format"] != FORMAT:
            raise OutputError(
                f"{where}: its tables are of {'an older' if raw['format'] < FORMAT else 'a newer'} "
                f"layout (format {raw['format']}) than this splitbtf reads (format {FORMAT}): run "
                "it on the sources again, and use another folder for that"
            )
        manifest: Manifest = from_json(Manifest, raw)
        _check(manifest, path)
        return manifest
    except OSError as error:
        raise cannot_read(where, error) from error
    except (ValueError, RecursionError) as error:
        raise OutputError(
            f"cannot read {where}: {error}; no run of splitbtf has written this: remove it, and "
            "run splitbtf on that kernel again"
        ) from error


def no_kernel(out: str) -> OutputError:
    """The message for a folder in which nothing is committed, or that is not there."""
    path = os.path.abspath(out)
    if not (is_uri(out) or os.path.lexists(path)):
        with contextlib.suppress(OSError):
            beside = os.listdir(os.path.dirname(path))
            near = nearest_names(os.path.basename(path), beside)
            shown = hint(os.path.join(os.path.dirname(out), name) for name in near)
            return OutputError(f"{out}: no such folder{shown}")
    return OutputError(
        f"{out}: no kernel there; `splitbtf run -o {out}` puts some into this folder"
    )


def unreadable_part(where: str, error: object) -> OutputError:
    """The message for a part of a table that is no Parquet, or not what it was."""
    return OutputError(f"cannot read {where}: {error}; `splitbtf verify` says what is damaged")


def no_column(where: str, name: str) -> OutputError:
    """The message for a table, or a part of one, that lacks a column which is asked about."""
    return OutputError(
        f"{where} has no column {name}: if an older splitbtf made it, run that kernel again; "
        "else `splitbtf verify` says what is damaged"
    )


def _check(manifest: Manifest, path: str) -> None:
    """Raise ValueError for names that no run gives."""
    kernel = manifest.kernel
    if kernel != safe(kernel) or path != manifest.path:
        raise ValueError(f"{kernel[:200]!r} is not the name of this file's kernel")
    folder = manifest.btf_folder
    of_kernel, _, version = folder.rpartition("/")
    if of_kernel != f"versions/kernel={kernel}" or not _VERSION.fullmatch(version):
        raise ValueError(f"{folder[:200]!r} is no folder of this kernel's BTF files")
    for name, parts in manifest.tables.items():
        for part in parts:
            file = f"/kernel={kernel}/part-{part.sha256[:16]}.parquet"
            table = part.path.removesuffix(file)
            if not (
                _DIGEST.fullmatch(part.sha256)
                and _TABLE.fullmatch(table)
                and part.path.endswith(file)
            ):
                raise ValueError(f"{part.path[:200]!r} is no part of the table {name[:50]!r}")
