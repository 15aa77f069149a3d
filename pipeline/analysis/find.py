"""Every definition of a name in the tables of one or more output folders."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..model.errors import QueryError
from .query import Tables, check_kernel

NEAREST = 5


@dataclass(frozen=True, slots=True)
class FoundType:
    """One type.

    module     empty for vmlinux
    global_id  the object's number above, the type id below
    size       None where the kind has none
    meaning    numbers declarations that differ from 1, in the order in which they were found
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

    kind    only this BTF kind
    module  a hint: what this module sees by that name: its own types, else those of vmlinux
    kernel  only this kernel

    Raises OutputError for a folder without kernels; QueryError when no kernel is called
    ``kernel``, or none has that module.
    """
    with contextlib.ExitStack() as stack:
        opened = [(out, stack.enter_context(Tables(out))) for out in outs]
        _check(opened, kernel, module)
        rows: list[Any] = [
            (out, *row) for out, tables in opened for row in _rows(tables, name, kernel)
        ]
        if kind is not None:
            rows = [row for row in rows if row[3] == kind]
        if module is not None:
            rows = _seen_from(module, rows)
        meanings: dict[bytes, int] = {}
        found = []
        for row in rows:
            meaning = meanings.setdefault(row[-1], len(meanings) + 1)
            facts: list[Any] = [v.hex() if isinstance(v, bytes) else v for v in row]
            found.append(FoundType(*[*facts, meaning]))
        return Search(tuple(found), () if found else _nearest(opened, name, kind, kernel))


_COLUMNS = (
    "kernel, coalesce(module, ''), kind, name, type_id, global_id, size, bytes, "
    "fingerprint, layout_fingerprint, declaration_fingerprint"
)
_Opened = Sequence[tuple[str, Tables]]


def _check(opened: _Opened, kernel: str | None, module: str | None) -> None:
    kernels = sorted(kernel for _, tables in opened for kernel in tables.kernels)
    check_kernel(kernel, kernels)
    if module is not None:
        asked = "SELECT count(*) FROM modules WHERE module = $1 AND ($2 IS NULL OR kernel = $2)"
        if not any(tables.ask(asked, [module, kernel]).rows[0][0] for _, tables in opened):
            raise QueryError(f"no module {module!r} in {kernel or ', '.join(kernels)}")


def _rows(tables: Tables, name: str, kernel: str | None) -> tuple[tuple[Any, ...], ...]:
    return tables.ask(
        f"SELECT {_COLUMNS} "
        "FROM types WHERE name = $1 AND ($2 IS NULL OR kernel = $2) ORDER BY kernel, global_id",
        [name, kernel],
    ).rows


def _seen_from(module: str, rows: list[Any]) -> list[Any]:
    """Of each kernel and kind the module's own types, else the base's."""
    own = {(row[0], row[1], row[3]) for row in rows if row[2] == module}
    return [
        row
        for row in rows
        if row[2] == module or (row[2] == "" and (row[0], row[1], row[3]) not in own)
    ]


def _nearest(opened: _Opened, name: str, kind: str | None, kernel: str | None) -> tuple[str, ...]:
    """Names that are spelled much like ``name``: the same but for case first."""
    scores: dict[str, tuple[bool, int, str]] = {}
    for _, tables in opened:
        answer = tables.ask(
            "SELECT name, damerau_levenshtein(lower(name), lower($1)) AS distance "
            "FROM (SELECT DISTINCT name FROM types WHERE name IS NOT NULL "
            "AND ($2 IS NULL OR kind = $2) AND ($3 IS NULL OR kernel = $3) "
            "AND abs(len(name) - len($1)) <= 2 + len($1) // 2) "
            "ORDER BY distance, name LIMIT $4",
            [name, kind, kernel, NEAREST],
        )
        scores |= {other: (distance, other) for other, distance in answer.rows}
    return tuple(sorted(scores, key=lambda other: scores[other])[:NEAREST])
