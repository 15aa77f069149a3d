"""The split BTF of kernels in chains longer than vmlinux -> module, and what each layout costs.

    DIR/kernel=KERNEL/vmlinux.btf          the base, as in OUT
    DIR/kernel=KERNEL/shared.btf           by shared: the layer that all modules continue
    DIR/kernel=KERNEL/modules/MODULE.btf   each on the file that layers.json names
    DIR/kernel=KERNEL/layers.json          what continues what

A kernel's folder is written under another name and renamed when it is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import btf
from btf.layers.chains import Chains, chain
from btf.layers.classes import classify
from btf.layers.shared import SharedLayer, share

from ..files.remote import is_uri
from ..files.storage import Stored, open_storage, publish_folder
from ..model.errors import OutputError, SourceError
from ..model.steps import STEPS
from ..sources.lookup import resolve_kernel
from ..sources.names import safe
from ..store.manifest import Manifest
from ..store.output import read_table
from .query import committed_kernels

FORMAT = 1
BASE, SHARED, DESCRIPTION = "vmlinux.btf", "shared.btf", "layers.json"


@dataclass(frozen=True, slots=True)
class LayoutCost:
    """What one layout of a kernel costs, without the base, which is the same in all of them.

    loaded_bytes   of the modules that are loaded and of what they continue; None without a list
    """

    files: int
    types: int
    bytes: int
    loaded_bytes: int | None


@dataclass(frozen=True, slots=True)
class KernelLayers:
    """What was written for a kernel, and the layouts to compare.

    on_others      modules that continue another module, by depends
    without_depends   modules whose dependencies are not known: inputs that were raw BTF
    layouts        star, shared, and depends where dependencies of some module are known
    loaded         modules of the list that are in this kernel; None without a list
    not_there      names of the list that are not
    """

    kernel: str
    by: str
    folder: str
    base_bytes: int
    modules: int
    shared_types: int
    on_others: int | None
    without_depends: int
    layouts: Mapping[str, LayoutCost]
    loaded: int | None
    not_there: tuple[str, ...]


def layer_kernels(
    out: str,
    target: str,
    *,
    by: str = "shared",
    min_modules: int = 2,
    kernel: str | None = None,
    loaded: str | None = None,
) -> list[KernelLayers]:
    """Write the kernels of OUT to ``target`` in chains; measure all layouts.

    by        ``shared`` or ``depends``: what is written
    kernel    only this one
    loaded    a file as /proc/modules, or what lsmod prints

    Raises OutputError, QueryError or SourceError; what was written of other kernels stays.
    """
    if is_uri(target):
        raise OutputError(f"{target}: layers are written to a folder of this machine only")
    names = loaded_modules(loaded) if loaded is not None else None
    manifests = committed_kernels(out)
    if kernel is not None:
        name = resolve_kernel(kernel, [manifest.kernel for manifest in manifests])
        manifests = [manifest for manifest in manifests if manifest.kernel == name]
    return [_LayeredKernel(out, m, min_modules).write(target, by, names) for m in manifests]


def loaded_modules(path: str) -> list[str]:
    """The names in a file as /proc/modules or lsmod's output. Raises SourceError."""
    try:
        lines = Path(path).read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    rows = [line.split() for line in lines if line.strip()]
    if rows and rows[0][:2] == ["Module", "Size"]:
        del rows[0]
    for row in rows:
        if len(row) < 3 or not row[1].isdigit():
            raise SourceError(
                f"{path}: not a list of loaded modules, see line {' '.join(row)!r}; "
                "give a copy of /proc/modules or what lsmod prints"
            )
    return [row[0] for row in rows]


def _plain(name: str) -> str:
    """A module's name as the kernel spells it."""
    return name.replace("-", "_")


class _LayeredKernel:
    """One kernel of OUT, read and put into all layouts."""

    def __init__(self, out: str, manifest: Manifest, min_modules: int) -> None:
        self.name = manifest.kernel
        STEPS.debug("reading the modules of %s", self.name)
        self.min_modules = min_modules
        rows = read_table(out, "modules", self.name)
        columns = rows.select(["module", "module_name", "depends", "release", "status"]).to_pylist()
        self.rows = [row for row in columns if row["status"] == "done"]
        if not all(row["module"] == safe(row["module"] or "") for row in self.rows):
            raise OutputError(f"{out}: the table modules of {self.name!r} holds names of no module")
        if not self.rows:
            raise OutputError(f"{out}: kernel {self.name!r} has no modules")
        files = Stored(open_storage(out), manifest.btf_folder)
        self.base = _parse(files, BASE)
        self.modules = [_parse(files, f"{row['module']}.btf", self.base) for row in self.rows]
        classes = classify(self.modules)
        self.shared = share(self.modules, min_modules=min_modules, classes=classes)
        self.chains: Chains | None = None
        if any(self._knows_depends()):
            self.chains = chain(self.modules, self._depends(), classes=classes)

    def _knows_depends(self) -> list[bool]:
        """For each module whether it came with a .modinfo; what is raw BTF has none."""
        return [bool(row["depends"] or row["release"]) for row in self.rows]

    def _depends(self) -> list[list[int]]:
        """For each module the numbers of those that it needs: the first of each name."""
        numbers: dict[str, int] = {}
        for number, row in enumerate(self.rows):
            numbers.setdefault(_plain(row["module_name"]), number)
        return [
            [numbers[_plain(name)] for name in row["depends"] or () if _plain(name) in numbers]
            for row in self.rows
        ]

    def write(self, target: str, by: str, names: Sequence[str] | None) -> KernelLayers:
        """Write the layout ``by`` to ``target``; measure all."""
        layers: SharedLayer | Chains | None = self.shared if by == "shared" else self.chains
        if layers is None:
            raise SourceError(
                f"kernel {self.name!r}: no module says what it depends on; "
                "run splitbtf on its modules as ELF files (.ko), not as raw BTF"
            )
        folder = str(Path(target, f"kernel={self.name}"))
        self._write_files(folder, by, layers)
        loaded, missing = self._find(names)
        parents = self.chains.parents if self.chains is not None else ()
        return KernelLayers(
            kernel=self.name,
            by=by,
            folder=folder,
            base_bytes=len(self.base.to_bytes()),
            modules=len(self.modules),
            shared_types=self.shared.shared.type_count,
            on_others=sum(p is not None for p in parents) if self.chains is not None else None,
            without_depends=self._knows_depends().count(False),
            layouts=self._layouts(loaded),
            loaded=len(loaded) if loaded is not None else None,
            not_there=tuple(missing),
        )

    def _find(self, names: Sequence[str] | None) -> tuple[set[int] | None, list[str]]:
        """Numbers of the modules of these names, and the names that no module has."""
        if names is None:
            return None, []
        known: dict[str, list[int]] = {}
        for number, row in enumerate(self.rows):
            known.setdefault(_plain(row["module_name"]), []).append(number)
        # Of several modules with one name any may be the loaded one: the first stands for it.
        found = {known[_plain(name)][0] for name in names if _plain(name) in known}
        return found, [name for name in names if _plain(name) not in known]

    def _layouts(self, loaded: set[int] | None) -> dict[str, LayoutCost]:
        on_shared = loaded | {len(self.modules)} if loaded else loaded
        layouts = {
            "star": _layout(self.modules, loaded),
            "shared": _layout([*self.shared.modules, self.shared.shared], on_shared),
        }
        if self.chains is not None:
            needed = None if loaded is None else self._with_parents(loaded)
            layouts["depends"] = _layout(self.chains.modules, needed)
        return layouts

    def _with_parents(self, loaded: set[int]) -> set[int]:
        assert self.chains is not None
        needed: set[int] = set()
        for number in loaded:
            at: int | None = number
            while at is not None:
                needed.add(at)
                at = self.chains.parents[at]
        return needed

    def _write_files(self, folder: str, by: str, layers: SharedLayer | Chains) -> None:
        if os.path.exists(folder) and not os.path.exists(f"{folder}/{DESCRIPTION}"):
            raise OutputError(f"{folder} is there and is not of splitbtf layers: remove it")
        files = [f"modules/{row['module']}.btf" for row in self.rows]
        contents = dict(zip(files, layers.modules, strict=True)) | {BASE: self.base}
        if isinstance(layers, SharedLayer):
            contents[SHARED] = layers.shared
            bases = {SHARED: BASE} | dict.fromkeys(files, SHARED)
        else:
            bases = {
                file: files[parent] if parent is not None else BASE
                for file, parent in zip(files, layers.parents, strict=True)
            }
        facts: dict[str, Any] = {"format": FORMAT, "kernel": self.name, "by": by}
        if by == "shared":
            facts["min_modules"] = self.min_modules
        facts["bases"] = bases
        with publish_folder(folder) as staged:
            staged.make_folder("modules")
            for path, layer in contents.items():
                staged.write(path, layer.to_bytes())
            staged.write(DESCRIPTION, f"{json.dumps(facts, indent=1)}\n".encode())


def _parse(folder: Stored, name: str, base: btf.BTF | None = None) -> btf.BTF:
    shown = f"{folder}/{name}"
    try:
        return btf.parse(folder.read(name), base, path=shown)
    except OSError as error:
        raise OutputError(f"cannot read {shown}: {error.strerror or error}") from error
    except btf.BtfError as error:
        raise OutputError(f"{error}; was the file changed?") from error


def _layout(layers: Sequence[btf.BTF], loaded: Iterable[int] | None) -> LayoutCost:
    """Sums over all layers, and over those that are loaded."""
    sizes = [len(layer.to_bytes()) for layer in layers]
    return LayoutCost(
        files=len(layers),
        types=sum(layer.type_count for layer in layers),
        bytes=sum(sizes),
        loaded_bytes=None if loaded is None else sum(sizes[number] for number in loaded),
    )
