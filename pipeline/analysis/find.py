"""Every definition of a name in the tables of one or more output folders."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from btf.format.kinds import KIND_NAMES
from btf.nearest import hint_of, listed, nearest_names

from ..model.errors import QueryError
from ..sources.lookup import KIND_WORD_OF, Name, resolve_kernel, resolve_module
from ..sources.names import RESERVED as VMLINUX
from .query import Tables


@dataclass(frozen=True, slots=True)
class FoundType:
    """One type.

    module     empty for vmlinux
    global_id  the object's number above, the type id below
    size       None where the kind has none
    meaning    numbers declarations that differ from 1, in the order in which they were found
    level      in what it differs from the first one of its kind and name, if anything: ``layout``,
               ``declaration`` or ``fingerprint``, whichever comes first
    fingerprint, layout_fingerprint, declaration_fingerprint   see the table ``types``
    """

    out: str
    kernel: str
    module: str
    kind: str
    name: str
    type_id: int
    global_id: int
    size: int | None
    bytes: int
    fingerprint: str
    layout_fingerprint: str
    declaration_fingerprint: str
    meaning: int
    level: str | None


_LEVELS = {"layout": -2, "declaration": -1, "fingerprint": -3}  # and where rows have the hash


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, and where nothing was, the nearest names of these kinds."""

    found: tuple[FoundType, ...]
    nearest: tuple[str, ...]


def find(
    name: str,
    outs: Sequence[str],
    *,
    kind: str | None = None,
    module: str | None = None,
    kernel: str | None = None,
) -> Search:
    """Look ``name`` up in all kernels of all output folders.

    name    also with the word for its kind in front, also with wildcards
    kind    only this BTF kind
    module  a hint: what this module sees by that name: its own types, else those of vmlinux
    kernel  only this kernel

    Raises OutputError for a folder without kernels; QueryError when it is not clear which kernel
    or module is meant, or there is none.
    """
    wanted = Name.of(name)
    kinds = tuple(
        name
        for kind, word in KIND_WORD_OF.items()
        if word == wanted.kind
        for name in (KIND_NAMES[kind], f"FWD {word}")
    )
    if kind is not None:
        if kinds and kind not in kinds:
            raise QueryError(f"{name!r} is not of the kind {kind.lower()}")
        kinds = (kind,)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(Tables(out)) for out in outs]
        meant = meant_by(opened, kernel, module)
        rows: list[Any] = [
            (out, *row)
            for out, tables, kernels in zip(outs, opened, meant, strict=True)
            for row in _seen_from(kernels, _rows(tables, wanted, kinds, kernels))
        ]
        meanings: dict[tuple[Any, ...], int] = {}
        firsts: dict[tuple[Any, ...], Sequence[Any]] = {}
        found = []
        for row in rows:
            meaning = meanings.setdefault((row[3], row[4], row[-1]), len(meanings) + 1)
            first = firsts.setdefault((row[3], row[4]), row)
            level = next((level for level, at in _LEVELS.items() if row[at] != first[at]), None)
            facts: list[Any] = [v.hex() if isinstance(v, bytes) else v for v in row]
            found.append(FoundType(*[*facts, meaning, level]))
        if found or wanted.is_pattern:
            return Search(tuple(found), ())
        names = {
            row[0]
            for tables, kernels in zip(opened, meant, strict=True)
            for row in tables.ask(_NAMES, [list(kernels), list(kinds)]).rows
        }
        return Search((), nearest_names(wanted.name, names))


_COLUMNS = (
    "kind", "name", "type_id", "global_id", "size", "bytes",
    "fingerprint", "layout_fingerprint", "declaration_fingerprint",
)  # fmt: skip
_FILTER = (
    "kernel IN (SELECT unnest($1)) AND (len($2) = 0 OR kind IN (SELECT unnest($2)) "
    "OR kind || ' ' || split_part(spelling, ' ', 1) IN (SELECT unnest($2)))"  # FWD struct
)
_MODULES = "SELECT kernel, module, module_name FROM modules WHERE module IS NOT NULL"
_NAMES = f"SELECT DISTINCT name FROM types WHERE name IS NOT NULL AND {_FILTER}"


def meant_by(
    opened: Sequence[Tables], kernel: str | Collection[str] | None, module: str | None
) -> list[dict[str, str | None]]:
    """Which kernels and modules names that people type mean.

    kernel  a name as it was typed, or names as they are in the tables; None: all
    module  None: none, and the values are None

    Returns for each folder the kernels that are meant, of those that have such a module, each with
    the module's name in the tables. Raises QueryError if there is none, or it is not clear which.
    """
    there = sorted({name for tables in opened for name in tables.kernels})
    if isinstance(kernel, str):
        kernels = [resolve_kernel(kernel, there)]
    else:
        kernels = there if kernel is None else sorted(kernel)
    meant: list[dict[str, str | None]] = []
    names = {VMLINUX}
    for tables in opened:
        if module is None:
            meant.append(dict.fromkeys(name for name in tables.kernels if name in kernels))
            continue
        known: dict[str, dict[str, str | None]] = {}
        for at, name, own in tables.ask(_MODULES).rows:
            if at in kernels:
                known.setdefault(at, {VMLINUX: None})[name] = own
        found = {at: resolve_module(module, modules) for at, modules in known.items()}
        meant.append({at: name for at, name in found.items() if name is not None})
        names.update(name for modules in known.values() for name in modules)
    if not any(meant):
        raise QueryError(f"no module {module!r} in {listed(kernels)}{hint_of(module or '', names)}")
    return meant


def _rows(
    tables: Tables, wanted: Name, kinds: Sequence[str], kernels: Collection[str]
) -> list[tuple[Any, ...]]:
    fits = "name = $3" if not wanted.is_pattern else "(name = $3 OR name GLOB $3)"
    rows = tables.ask(
        f"SELECT kernel, module, object_id, {', '.join(_COLUMNS)} FROM types "
        f"WHERE {fits} AND {_FILTER} ORDER BY name, kernel, global_id",
        [list(kernels), list(kinds), wanted.name],
    ).rows
    return [(row[0], row[1] or "", *row[3:]) for row in rows]


def _seen_from(
    kernels: Mapping[str, str | None], rows: Sequence[tuple[Any, ...]]
) -> Sequence[tuple[Any, ...]]:
    """Of each kernel, kind and name the module's own types, else the base's."""
    own = {(row[0], row[2], row[3]) for row in rows if row[1] == kernels[row[0]]}
    return [
        row
        for row in rows
        if (module := kernels[row[0]]) is None
        or row[1] == module
        or (row[1] == "" and (row[0], row[2], row[3]) not in own)
    ]
