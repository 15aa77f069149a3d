"""Why types stay: the table ``misses`` grouped by root cause, and one type in detail.

Facts only; ``jobs/explain.py`` words them. The BTF files are opened for one type in detail: for
who uses it, and for types that are not in the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import btf
from btf.compare.paths import way_to

from ..model.errors import QueryError
from ..sources.lookup import KIND_WORD_OF, Name
from ..sources.names import RESERVED as VMLINUX
from .changes.stored import stored_kernels
from .find import find, meant_by
from .query import Tables

# What became of a type that was asked for.
STAYED = "stayed"  # although vmlinux has a type of its name
OWN = "own"  # vmlinux has no type of its name
SHARED = "shared"  # the module has no type of its own by that name, but uses vmlinux's
REFERS = "refers"  # it has no name: it is the module's because of what it refers to

MAX_USERS = 8


@dataclass(frozen=True, slots=True)
class UnmergedRow:
    """A type that stayed because of a root cause."""

    type_id: int
    kind: str
    name: str
    bytes: int
    base_type_id: int
    base_kind: str
    reason: str
    path: str
    sole: bool | None


@dataclass(frozen=True, slots=True)
class Cause:
    """A root cause in one module.

    type_id, base_type_id   the module's type and vmlinux's
    reason, difference      what differs between the two
    types, bytes            what would go if it were mended; None where not worked out
    stayed                  the named types that it explains, itself included
    modules                 how many modules of the kernel have a root cause of this kind and name
    users                   who refers to it in the module: ``foo.bar``, ``probe(dev)``
    """

    kind: str
    name: str
    type_id: int
    base_type_id: int
    reason: str
    difference: str
    types: int | None
    bytes: int | None
    stayed: tuple[UnmergedRow, ...]
    modules: int
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelCause:
    """A root cause in all modules of a kernel that have it, with the same difference."""

    kind: str
    name: str
    reason: str
    difference: str
    modules: tuple[str, ...]
    types: int | None
    bytes: int | None
    stayed: int


@dataclass(frozen=True, slots=True)
class KernelAnswer:
    """All root causes of a kernel, those that keep most first."""

    kernel: str
    modules: int
    type_bytes: int
    causes: tuple[KernelCause, ...]


@dataclass(frozen=True, slots=True)
class ModuleAnswer:
    """All root causes of a module, those that keep most first."""

    kernel: str
    module: str
    types: int
    type_bytes: int
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class TypeAnswer:
    """What became of one type.

    outcome STAYED, OWN, SHARED or REFERS
    cause   of one that STAYED, or that REFERS to one that did
    row     the same type as in ``cause.stayed``; of one that REFERS, the one it leads to
    way     of one that REFERS: how it leads there
    copies  of one that is OWN: how many modules keep the same, this one included
    """

    kernel: str
    module: str
    type_bytes: int
    outcome: str
    kind: str
    name: str
    type_id: int
    bytes: int
    cause: Cause | None = None
    row: UnmergedRow | None = None
    way: str | None = None
    copies: int | None = None


@dataclass(frozen=True, slots=True)
class TypeAnswers:
    """What became of all types that were meant, and where there is none, the nearest names."""

    found: tuple[TypeAnswer, ...]
    nearest: tuple[str, ...] = ()


class Explanations(Tables):
    """The tables of an output folder, to explain its kernels. A context manager."""

    def of(self, kernel: str | None = None, module: str | None = None) -> list[Explanation]:
        """Those of the kernels that are meant; None: all, or all that have the module.

        Raises QueryError when it is not clear which kernel or module is meant, or there is none.
        """
        (meant,) = meant_by([self], kernel, module)
        return [Explanation(self, at, name) for at, name in meant.items()]


class Explanation:
    """A kernel, or a module of it, to be explained."""

    def __init__(self, tables: Tables, kernel: str, module: str | None) -> None:
        self.kernel = kernel
        self._tables = tables
        self._module = module

    @property
    def module(self) -> str:
        """The module that was asked for. Raises QueryError for vmlinux."""
        assert self._module is not None
        if self._module == VMLINUX:
            raise QueryError("vmlinux is what modules are compared with: name one of them")
        return self._module

    def of_kernel(self) -> KernelAnswer:
        """All root causes of the kernel."""
        rows = self._rows(
            """
            SELECT root_kind, root_name, any_value(own.reason), m.difference,
                   list_sort(list_distinct(list(m.module))),
                   sum(m.root_types) FILTER (m.global_id = m.root_global_id)::BIGINT,
                   sum(m.root_bytes) FILTER (m.global_id = m.root_global_id)::BIGINT,
                   count(*)
            FROM misses m
            LEFT JOIN (SELECT global_id, reason FROM misses WHERE kernel = $1) own
                   ON own.global_id = m.root_global_id
            WHERE m.kernel = $1 AND m.reason <> 'never_merged'
            GROUP BY root_kind, root_name, m.difference
            ORDER BY 7 DESC NULLS LAST, 1, 2, 4
            """,
            self.kernel,
        )
        ((modules, type_bytes),) = self._rows(
            "SELECT count(*), coalesce(sum(type_bytes_out), 0)::BIGINT FROM modules "
            "WHERE kernel = $1 AND status = 'done'",
            self.kernel,
        )
        causes = tuple(
            KernelCause(kind, name, reason or "several", said, tuple(names), *figures)
            for kind, name, reason, said, names, *figures in rows
        )
        return KernelAnswer(self.kernel, modules, type_bytes, causes)

    def of_module(self) -> ModuleAnswer:
        """All root causes of the module. Raises QueryError if it could not be deduplicated."""
        module = self.module
        types, type_bytes = self._sizes(module)
        causes = self._causes(module)
        return ModuleAnswer(self.kernel, module, types, type_bytes, causes)

    def of_type(self, wanted: str) -> TypeAnswers:
        """What became of the types that ``wanted`` means: ``foo``, ``struct foo``, or a type id.

        Raises QueryError for an id that there is not, or a module that was not deduplicated.
        """
        module = self.module
        _, type_bytes = self._sizes(module)
        split = stored_kernels(self._tables.out)[self.kernel].open_btf(module)
        name = Name.of(wanted)
        if name.name.isdecimal() and not name.kind:
            found = _by_id(split, int(name.name))
            return TypeAnswers((self._answer(module, split, type_bytes, found),))
        meant = [one for one in split.find_all(name.name) if name.kind in (None, _c_kind(one))]
        own = [found for found in meant if found.id >= split.start_id]
        if not meant:
            return TypeAnswers((), find(wanted, [self._tables.out], kernel=self.kernel).nearest)
        return TypeAnswers(
            tuple(self._answer(module, split, type_bytes, found) for found in own or meant)
        )

    def _answer(self, module: str, split: btf.BTF, type_bytes: int, found: btf.Type) -> TypeAnswer:
        facts = (found.kind_name, found.name, found.id, 4 * len(found.words))

        def answer(outcome: str, **more: Any) -> TypeAnswer:
            return TypeAnswer(self.kernel, module, type_bytes, outcome, *facts, **more)

        if found.id < split.start_id:
            return answer(SHARED)
        causes = {stayed.type_id: cause for cause in self._causes(module)
                  for stayed in cause.stayed}  # fmt: skip
        leads_to, way = way_to(found, causes.keys())
        if leads_to is None:
            return answer(OWN, copies=self._copies(module, found.id))
        cause = causes[leads_to.id]
        row = next(stayed for stayed in cause.stayed if stayed.type_id == leads_to.id)
        cause = replace(cause, users=tuple(islice(_users(split, cause.type_id), MAX_USERS)))
        if leads_to.id == found.id:
            return answer(STAYED, cause=cause, row=row)
        if found.name and found.kind not in (btf.kinds.TYPE_TAG, btf.kinds.DECL_TAG):
            return answer(OWN, copies=self._copies(module, found.id))
        return answer(REFERS, cause=cause, row=row, way=way)

    def _causes(self, module: str) -> tuple[Cause, ...]:
        rows = self._rows(
            """
            SELECT root_kind, root_name, root_global_id, root_base_type_id, difference,
                   root_types, root_bytes,
                   type_id, kind, name, bytes, base_type_id, base_kind, reason, path, sole,
                   global_id = root_global_id AS is_root
            FROM misses WHERE kernel = $1 AND module = $2
            ORDER BY root_bytes DESC NULLS LAST, root_global_id, NOT is_root, type_id
            """,
            self.kernel,
            module,
        )
        counts = {
            (kind, name): count
            for kind, name, count in self._rows(
                "SELECT root_kind, root_name, count(DISTINCT module) FROM misses "
                "WHERE kernel = $1 GROUP BY ALL",
                self.kernel,
            )
        }
        groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for row in rows:
            groups.setdefault(row[:7], []).append(row[7:])
        causes = []
        for head, members in groups.items():
            kind, name, global_id, base_type_id, difference, types, size = head
            stayed = tuple(UnmergedRow(*member[:-1]) for member in members)
            of_itself = [member[6] for member in members if member[-1]]
            reason = of_itself[0] if of_itself else "several"
            ids = (global_id & 0xFFFFFFFF, base_type_id)
            facts: tuple[Any, ...] = (reason, difference, types, size, stayed, counts[kind, name])
            causes.append(Cause(kind, name, *ids, *facts))
        return tuple(causes)

    def _copies(self, module: str, type_id: int) -> int:
        ((count,),) = self._rows(
            "SELECT count(DISTINCT module) FROM types WHERE kernel = $1 AND module IS NOT NULL "
            "AND fingerprint = (SELECT fingerprint FROM types "
            "WHERE kernel = $1 AND module = $2 AND type_id = $3)",
            self.kernel,
            module,
            type_id,
        )
        return int(count)

    def _sizes(self, module: str) -> tuple[int, int]:
        """Types and bytes of types of a module after dedup."""
        ((status, types, size, error),) = self._rows(
            "SELECT status, types_out, type_bytes_out, error FROM modules "
            "WHERE kernel = $1 AND module = $2",
            self.kernel,
            module,
        )
        if status != "done":
            raise QueryError(f"{self.kernel}: {module} could not be deduplicated: {error}")
        return types, size

    def _rows(self, sql: str, *values: Any) -> tuple[tuple[Any, ...], ...]:
        return self._tables.ask(sql, values).rows


def _c_kind(found: btf.Type) -> str | None:
    """The word for its kind; of a forward declaration that of what it declares."""
    if isinstance(found, btf.Fwd):
        return "union" if found.is_union else "struct"
    return KIND_WORD_OF.get(found.kind)


def _by_id(split: btf.BTF, type_id: int) -> btf.Type:
    try:
        return split[type_id]
    except IndexError as error:
        raise QueryError(str(error)) from error


def _users(split: btf.BTF, type_id: int) -> Iterator[str]:
    """Who refers to a type: own named types, directly or by way of unnamed ones."""
    for own in split.own_types():
        if own.name and own.id != type_id and not isinstance(own, btf.TypeTag | btf.DeclTag):
            leads_to, way = way_to(own, (type_id,))
            if leads_to is not None:
                yield way.rpartition(" → ")[0]
