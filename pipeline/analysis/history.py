"""How one type, function, variable or member changed from kernel to kernel of an output folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from btf.nearest import nearest_names

from ..sources.lookup import KIND_WORDS, Name
from ..sources.names import RESERVED as VMLINUX
from .changes.compare import ADDED, CHANGED, EMBEDDED, REMOVED, Change
from .changes.detail import Detail
from .changes.details import Sides, declarations, details
from .changes.members import FoundMember, find_member, member_details, member_names
from .changes.names import KINDS
from .changes.rows import TYPE_COLUMNS, Rows, TypeRow
from .changes.stored import StoredKernel, in_order, stored_kernels
from .query import Tables


@dataclass(frozen=True, slots=True)
class Presence:
    """What a kernel has of a name, of one kind.

    objects        that declare it: VMLINUX, else modules
    declarations   texts of what these declare: size, number of members, prototype, place
    """

    kernel: str
    kind: str
    objects: tuple[str, ...]
    declarations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """From one kernel to the next one of its configuration; to the first one of a configuration
    from the kernel of another one that is nearest to it.

    change   ADDED, REMOVED, CHANGED, EMBEDDED or ``reached``: see ``changes.compare``; else empty
    layout   whether what lies in memory is another
    """

    old: str
    new: str
    kind: str
    change: str
    layout: bool
    details: Sequence[Detail]

    @property
    def changed(self) -> bool:
        """Whether the declaration is another one, or only one of the kernels has one."""
        return self.change in (ADDED, REMOVED, CHANGED)


@dataclass(frozen=True, slots=True)
class History:
    """A name through all kernels.

    declarations   how many different ones there are
    tracks         kernels in order, those of one configuration after the other
    presence       of all kernels that have the name, in that order
    steps          in that order
    nearest        of a name that no kernel has, those like it
    """

    name: str
    declarations: int
    tracks: Sequence[Sequence[StoredKernel]]
    presence: Sequence[Presence]
    steps: Sequence[Step]
    nearest: Sequence[str] = ()


def history(text: str, out: str) -> History:
    """Follow a name through the kernels of an output folder.

    text   of a type, function or variable, also with its kind (``struct file``), or of a member:
           ``task_struct.pid``, ``task_struct.se.load``

    Raises OutputError.
    """
    name = Name.of(text)
    with Tables(out) as tables:
        kernels = stored_kernels(out, tables.manifests, _KEPT_BYTES)
        tracks = _tracks(kernels.values())
        owner, path = name.name, ""
        whole, outer = owner, owner.partition(".")[0]
        found = _rows(tables, {whole, outer}, name.kind)
        rows = [row for row in found if row[2].name == whole]
        if not rows and outer != whole:
            owner, _, path = owner.partition(".")
            rows = [row for row in found if row[2].kind in _HAVE_MEMBERS]
        if not rows:
            known = tables.ask("SELECT DISTINCT name FROM types WHERE name IS NOT NULL").rows
            near = nearest_names(owner, (row[0] for row in known))
            return History(text, 0, tracks, (), (), near)
    states = _states(kernels, rows, path)
    presence: list[Presence] = []
    steps: list[Step] = []
    for kind in KIND_WORDS:
        of_kind = [(one.name, states.get((one.name, kind))) for track in tracks for one in track]
        presence += [state.presence for _, state in of_kind if state is not None]
        if any(state is not None for _, state in of_kind):
            steps += [
                _step(kind, (old, states.get((old, kind))), (new, states.get((new, kind))))
                for old, new in _pairs(tracks)
            ]
    declared = {(one.kind, key) for one in states.values() for key in one.declared}
    near = () if states else _near_members(kernels, rows, path)
    return History(text, len(declared), tracks, presence, steps, near)


_KEPT_BYTES = 128 << 20  # of two kernels what is looked at for a change
_HAVE_MEMBERS = ("STRUCT", "UNION", "TYPEDEF")
_ENUMS = ("ENUM", "ENUM64")
_Row = tuple[str, str, TypeRow, bytes]  # kernel, object, type, fingerprint


def _rows(tables: Tables, names: Iterable[str], kind: str | None) -> list[_Row]:
    """All types of some names; without enums of no enumerators, which are declared elsewhere."""
    named = sorted(names)
    kinds = [one for one, word in KINDS.items() if kind in (None, word)]
    columns = ("module", "object_id", "fingerprint", *TYPE_COLUMNS)
    rows = tables.ask(
        f"SELECT kernel, {', '.join(columns)} FROM types "
        f"WHERE name IN ({', '.join(f'${at + 2}' for at in range(len(named)))}) "
        "AND list_contains($1, kind)",
        [kinds, *named],
    ).rows
    types = [TypeRow.of(row[4:]) for row in rows]
    return [
        (row[0], row[1] or VMLINUX, one, row[3])
        for row, one in zip(rows, types, strict=True)
        if one.vlen or one.kind not in _ENUMS
    ]


@dataclass(frozen=True, eq=False)
class _State:
    """What a kernel has of a name, of one kind: vmlinux, or the modules together.

    types   of these one for each declaration and layout
    deep    fingerprints of all, unless a member was asked for
    members that member of each type
    """

    kernel: StoredKernel
    kind: str
    objects: tuple[str, ...]
    types: tuple[TypeRow, ...]
    deep: frozenset[bytes]
    members: tuple[FoundMember, ...]

    @property
    def declared(self) -> set[Any]:
        """What tells its declarations apart, in whatever kernel."""
        if self.members:
            return {member.declaration for member in self.members}
        return {found.declaration_fingerprint for found in self.types}

    @property
    def layouts(self) -> set[bytes]:
        """Fingerprints of layouts."""
        if self.members:
            return {member.layout for member in self.members}
        return {found.layout_fingerprint for found in self.types}

    @property
    def presence(self) -> Presence:
        """The same as text."""
        texts = [member.text for member in self.members] or declarations(
            [found.global_id for found in self.types], self.kernel.rows
        )
        return Presence(self.kernel.name, self.kind, self.objects, tuple(dict.fromkeys(texts)))


def _states(
    kernels: Mapping[str, StoredKernel], rows: Sequence[_Row], path: str
) -> dict[tuple[str, str], _State]:
    """By kernel and kind, where there is something of that name, or such a member."""
    grouped: dict[tuple[str, str], list[_Row]] = defaultdict(list)
    for row in rows:
        grouped[row[0], KINDS[row[2].kind]].append(row)
    found = {}
    for (name, kind), those in grouped.items():
        of_vmlinux = [row for row in those if row[1] == VMLINUX]
        those = of_vmlinux or those
        once = {(t.declaration_fingerprint, t.layout_fingerprint): t for _, _, t, _ in those}
        kernels[name].rows.learn(once.values())
        members: list[FoundMember] = []
        if path:
            each = (find_member(kernels[name].rows, t.global_id, path) for t in once.values())
            members = [member for member in each if member is not None]
        if members or not path:
            objects = tuple(sorted({row[1] for row in those}))
            deep = frozenset(row[3] for row in those if not path)
            found[name, kind] = _State(
                kernels[name], kind, objects, tuple(once.values()), deep, tuple(members)
            )
    return found


def _step(kind: str, old: tuple[str, _State | None], new: tuple[str, _State | None]) -> Step:
    (before, ours), (after, theirs) = old, new
    layout = False
    if ours is None or theirs is None:
        change = ADDED if theirs is not None else REMOVED if ours is not None else ""
    else:
        layout = ours.layouts != theirs.layouts
        change = EMBEDDED if layout else "reached" if ours.deep != theirs.deep else ""
        if ours.declared != theirs.declared:
            change = CHANGED
    if change in ("", "reached"):
        return Step(before, after, kind, change, layout, ())
    return Step(before, after, kind, change, layout, _details(kind, change, ours, theirs))


def _details(
    kind: str, change: str, ours: _State | None, theirs: _State | None
) -> Sequence[Detail]:
    old, new = (state.kernel.rows if state else Rows((), ()) for state in (ours, theirs))
    first, second = (state.members if state else () for state in (ours, theirs))
    if first or second:
        if len(first) == len(second) == 1:
            return list(member_details(first[0], second[0], Sides(old, new)))
        return [
            *(Detail("member removed", one.path, one.text, "") for one in first),
            *(Detail("member added", one.path, "", one.text) for one in second),
        ]
    before, after = (
        tuple(found.global_id for found in state.types) if state else () for state in (ours, theirs)
    )
    (found,) = details([Change("", kind, "", change, before, after)], old, new)
    return found


def _near_members(
    kernels: Mapping[str, StoredKernel], rows: Sequence[_Row], path: str
) -> tuple[str, ...]:
    """Names of members that are like the path's first one."""
    known = {
        name
        for kernel, _, found, _ in rows
        for name in member_names(kernels[kernel].rows, found.global_id)
    }
    return nearest_names(path.partition(".")[0], known)


# -- which kernels are compared


def _tracks(kernels: Iterable[StoredKernel]) -> list[list[StoredKernel]]:
    """Kernels of one flavour and architecture, in order of release."""
    return [list(those) for _, those in groupby(in_order(kernels), lambda one: one.configuration)]


def _pairs(tracks: Sequence[Sequence[StoredKernel]]) -> Iterator[tuple[str, str]]:
    """Names of kernels that are compared: see ``Step``."""
    for number, track in enumerate(tracks):
        if number:
            others = [one for other in tracks[:number] for one in other]
            yield _nearest(track[0], others).name, track[0].name
        yield from ((old.name, new.name) for old, new in pairwise(track))


def _nearest(kernel: StoredKernel, others: Sequence[StoredKernel]) -> StoredKernel:
    """The kernel whose release is next to that of ``kernel``: the last one that is not newer, if
    there is one."""
    older = [one for one in others if one.release_key <= kernel.release_key]
    if older:
        return max(older, key=lambda one: one.release_key)
    return min(others, key=lambda one: one.release_key)
