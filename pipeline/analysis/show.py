"""One type of one or more files, member by member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import btf
from btf.declaration.show import Field as Field
from btf.declaration.show import Layout, layout_of, show
from btf.types.names import names_like

from ..model.base import Announce
from ..model.errors import SourceError
from ..sources.lookup import KIND_WORD_OF, Name
from .changes.opened import open_object


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
    """What a file has of a name: each different declaration once; else the nearest names."""

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
        once.setdefault(tuple(show(one)), one)
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
