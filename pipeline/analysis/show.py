"""One type of one or more files, member by member."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import btf
from btf.declaration.show import Field as Field
from btf.declaration.show import Layout, layout_of, show
from btf.types.names import names_like

from ..files.remote import is_uri
from ..model.base import Announce
from ..model.errors import SourceError
from ..sources.lookup import KIND_WORD_OF, Name, resolve_kernel
from ..sources.names import RESERVED as VMLINUX
from .changes.names import KINDS
from .changes.opened import open_object
from .changes.stored import StoredKernel, in_order, stored_kernels
from .find import meant_by
from .query import Tables


@dataclass(frozen=True, slots=True)
class Shown:
    """A type of that name in a file.

    lines    as pahole prints it
    layout   of a struct or union
    """

    kind: str
    name: str
    size: int | None
    type_id: int
    lines: tuple[str, ...]
    layout: Layout | None


@dataclass(frozen=True, slots=True)
class ShownFile:
    """What a file, or an object of a kernel, has of a name: each different declaration once.

    path     the file's, or the kernel's name
    nearest  names like it, where there is none
    """

    path: str
    object: str
    found: tuple[Shown, ...]
    nearest: tuple[str, ...]


def show_files(
    name: Name,
    files: Sequence[str],
    bases: Sequence[str] = (),
    *,
    expand: bool = False,
    announce: Announce | None = None,
) -> list[ShownFile]:
    """Look a name up in files.

    files   each with BTF, or a package with one kernel's BTF
    bases   of split BTF: of all files, or one for each
    expand  whether embedded types are written out

    Raises SourceError or BaseError.
    """
    btf.warm_up(announce)
    found = []
    for at, path in enumerate(files):
        types, label = open_object(path, bases[min(at, len(bases) - 1)] if bases else None)
        try:
            shown = tuple(_shown(one, expand) for one in _distinct(types, name))
        except btf.BtfError as error:
            raise SourceError(str(error)) from error
        found.append(ShownFile(path, label, shown, () if shown else names_like(types, name.name)))
    return found


def is_out(place: str) -> bool:
    """Whether that is an output folder, not a file."""
    return is_uri(place) or os.path.isdir(place)


def show_kernels(
    name: Name,
    out: str,
    kernels: Sequence[str] = (),
    module: str | None = None,
    *,
    expand: bool = False,
) -> list[ShownFile]:
    """Look a name up in kernels of an output folder, in order of their releases.

    kernels  as people type them; all when there are none
    module   the object to look into; else vmlinux, and for names that it lacks the modules

    Raises OutputError or QueryError.
    """
    with Tables(out) as tables:
        known = stored_kernels(out, tables.manifests)
        asked = {resolve_kernel(kernel, known) for kernel in kernels} or set(known)
        if module is not None:
            places = _only_in(tables, asked, module)
        else:
            places = _declared_in(tables, {one: known[one] for one in asked}, name)
        found = []
        wanted = in_order(known.pop(one) for one in asked)[::-1]
        while wanted:
            kernel = wanted.pop()  # let go of with its BTF, when the next one is opened
            for label in places.get(kernel.name, [VMLINUX] if module is None else ()):
                types = kernel.open_btf(label)
                shown = tuple(_shown(one, expand) for one in _distinct(types, name))
                near = () if shown else names_like(types, name.name)
                found.append(ShownFile(kernel.name, label, shown, near))
    return found


def _declared_in(
    tables: Tables, kernels: Mapping[str, StoredKernel], name: Name
) -> dict[str, list[str]]:
    """By kernel vmlinux, if it has the name, else a module for each declaration."""
    columns = ("module", "object_id", "kind", "declaration_fingerprint")
    rows = tables.ask(
        f"SELECT kernel, {', '.join(columns)} FROM types WHERE name = $1 ORDER BY object_id",
        [name.name],
    ).rows
    rows = tuple(row for row in rows if row[0] in kernels)
    once: dict[str, dict[bytes, str]] = defaultdict(dict)
    for kernel, label, _, kind, declared in rows:
        if name.kind in (None, KINDS.get(kind)):
            once[kernel].setdefault(declared, label or VMLINUX)
    places = {kernel: list(dict.fromkeys(found.values())) for kernel, found in once.items()}
    return {
        kernel: those if VMLINUX not in those else [VMLINUX] for kernel, those in places.items()
    }


def _only_in(tables: Tables, kernels: set[str], module: str) -> dict[str, list[str]]:
    """By kernel the module of that name, where it has one. Raises QueryError."""
    (meant,) = meant_by([tables], kernels, module)
    return {kernel: [label or VMLINUX] for kernel, label in meant.items()}


def _distinct(types: btf.BTF, name: Name) -> list[btf.Type]:
    """Definitions of a name, the own ones first; of those that C reads alike one."""
    found = [
        one
        for one in types.find_all(name.name)
        if name.kind is None or KIND_WORD_OF.get(one.kind) == name.kind
    ]
    defined = [one for one in found if not isinstance(one, btf.Fwd)]
    once: dict[tuple[str, ...], btf.Type] = {}
    for one in sorted(defined or found, key=lambda one: (one.id < types.start_id, one.id)):
        once.setdefault(tuple(show(one, parameters=False)), one)
    return list(once.values())


def _shown(found: btf.Type, expand: bool) -> Shown:
    return Shown(
        KIND_WORD_OF.get(found.kind, found.kind_name.lower()),
        found.name,
        getattr(found, "size", None),
        found.id,
        tuple(show(found, expand=expand)),
        layout_of(found, expand=expand) if isinstance(found, btf.Composite) else None,
    )
