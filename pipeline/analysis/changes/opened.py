"""Files with BTF, described in memory as the tables of an output folder describe a kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

import btf

from ...files import remote
from ...model.base import SharedBase
from ...model.errors import SourceError
from ...model.steps import STEPS
from ...sources import names
from ...sources.names import RESERVED as VMLINUX
from ...sources.names import printable
from ...sources.unpack import find_one, unpacked
from ...tables.describe import BaseGroup, ModuleGroup
from ...work.base import load_base, load_base_types
from ...work.open import open_file
from .blocks import Block
from .names import NamedTypes
from .rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa

_OF_MODULES = 1 << 32  # the least global id of a module's type
_NO_END = (1 << 63) - 1


class OpenedFiles:
    """What files of one kernel hold themselves. Everything raises SourceError.

    base      plain BTF
    objects   names of what is compared by object id; empty for a base that is not, but only looked
              into
    splits    split BTF on that base, of the objects after the first
    unread    what is wrong with further objects, of which nothing is known
    """

    def __init__(
        self,
        base: btf.BTF,
        objects: Sequence[str],
        splits: Sequence[btf.BTF] = (),
        unread: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._objects = objects
        self._splits = splits
        self._unread = unread
        try:
            self._base = SharedBase.of(base, btf.BaseIndex.build(base))
        except btf.BtfError as error:
            raise SourceError(str(error)) from error

    @cached_property
    def named_types(self) -> NamedTypes:
        """All that the objects declare, by name."""
        import pyarrow as pa

        parts = [self._of_modules["types"]] if self._splits else []
        parts += [self._of_base["types"]] if self._objects[0] else []
        whole = pa.concat_tables([part.select(NamedTypes.COLUMNS) for part in parts])
        return NamedTypes.of(whole, self._objects, self._unread)

    @cached_property
    def rows(self) -> Rows:
        """Types and members by global id, those of the base too."""
        types, members = (
            [
                Block(1, _OF_MODULES - 1, partial(self._table, name, of_base=True)),
                Block(_OF_MODULES, _NO_END, partial(self._table, name, of_base=False)),
            ]
            for name in ("types", "members")
        )
        return Rows(types, members)

    def _table(self, name: str, columns: Sequence[str], *, of_base: bool) -> pa.Table:
        return (self._of_base if of_base else self._of_modules)[name].select(columns)

    @cached_property
    def _of_base(self) -> Mapping[str, pa.Table]:
        return self._described(BaseGroup(self._base), [0])

    @cached_property
    def _of_modules(self) -> Mapping[str, pa.Table]:
        group = ModuleGroup(self._base, [], self._splits, {})
        return self._described(group, range(1, len(self._splits) + 1))

    def _described(self, group: ModuleGroup, ids: Sequence[int]) -> dict[str, pa.Table]:
        """The tables ``types`` and ``members`` of some objects."""
        import pyarrow as pa

        from ...tables.members import TABLE as MEMBERS
        from ...tables.schema import Objects, Spelled, strings
        from ...tables.types import TABLE as TYPES

        try:
            made = {table: table.rows(group) for table in (TYPES, MEMBERS)}
            below = pa.array(["void"])
            if not group.is_base:
                below = strings(*self._base.declarations.spellings())
        except btf.BtfError as error:
            raise SourceError(str(error)) from error
        of_types, types = made[TYPES]
        spelled = Spelled(below, types.field("spelling"), of_types)
        labels = pa.array(self._objects, pa.string())
        start_id = 1 if group.is_base else self._base.index.type_end
        found = {}
        for table, (counts, rows) in made.items():
            columns = {field.name: rows.field(at) for at, field in enumerate(rows.type)}
            objects = Objects(np.array(ids, np.uint32), counts, [], labels, start_id, spelled)
            found[table.name] = table.of(table.to_arrow(columns, objects))
        return found


def open_object(path: str, base_path: str | None, *, dedup: bool = False) -> tuple[btf.BTF, str]:
    """Read a file; returns also the object's name. Raises SourceError or BaseError.

    base_path  of split BTF
    dedup      whether a standalone module is made split BTF on the base, which else is refused
    """
    STEPS.debug("reading %s", remote.shown(path))
    on: btf.BTF | btf.BaseIndex | None = None
    release = None
    if base_path is not None and dedup:
        base = load_base(base_path)
        on, release = base.index, base.release
    elif base_path is not None:
        on, release = load_base_types(base_path)
    with unpacked([find_one(path)]) as (file,):
        types = open_file(file, on, release).btf
    file_name = os.path.basename(file.path)
    is_base = names.looks_like_base(file_name)
    if on is not None and types.base is None:
        shown = printable(file.path)
        if is_base or not isinstance(on, btf.BaseIndex):
            raise SourceError(f"{shown}: standalone BTF, not split: leave its base (-B) out")
        try:
            types = btf.dedup_split(types, on).btf
        except btf.BtfError as error:
            raise SourceError(f"{shown}: {error}") from error
    try:
        btf.check_name_bytes(types)  # before all are written out
    except btf.BtfError as error:
        raise SourceError(str(error)) from error
    return types, VMLINUX if is_base else names.stem(file_name)
