"""The kernels of an output folder, and rows of their tables, read straight from Parquet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import tee
from typing import TYPE_CHECKING, Any

import btf

from ...files.storage import Storage, open_storage
from ...model.errors import OutputError
from ...model.records import FAILED
from ...sources.names import RESERVED as VMLINUX
from ...store.manifest import Manifest, no_column, unreadable_part
from ..query import committed_kernels
from .beside import of_both
from .blocks import REPEATED, Block, BlockReader
from .names import NamedTypes
from .numbers import encoded_together, numbers_of
from .rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FACTS = ("release", "release_key", "flavour", "architecture")
_OF_MODULES = ("object_id", "module", "status", "error")
_TEXTS = {*FACTS, "kind", "name", "spelling", "type", "module", "status", "error"}


@dataclass(eq=False)
class StoredKernel:
    """A committed kernel. What was read of its tables is kept."""

    manifest: Manifest
    storage: Storage = field(repr=False)
    reader: BlockReader = field(repr=False)
    _named: NamedTypes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What it is called in the output folder."""
        return self.manifest.kernel

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Its row of the table ``kernels``."""
        rows: list[dict[str, Any]] = self.read("kernels", FACTS).to_pylist()
        return rows[0] if rows else dict.fromkeys(FACTS)

    @property
    def release_key(self) -> str:
        """Sorts as releases do; where that is not known, as the kernel's name."""
        from ...tables.identity import release_key

        return self.facts["release_key"] or release_key(self.name) or ""

    @property
    def configuration(self) -> tuple[str, str]:
        """Flavour and architecture, as far as they are known."""
        return self.facts["flavour"] or "", self.facts["architecture"] or ""

    def read(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Read some columns of a table. Raises OutputError."""
        import pyarrow as pa

        parts = []
        for part in self.manifest.tables.get(table, ()):
            with _opened(self.storage, part.path, columns) as file:
                parts.append(file.read(list(columns)))
        if not parts:
            from ...tables.registry import all_tables  # late: what makes tables

            schema = all_tables()[table].schema
            return pa.schema([schema.field(name) for name in columns]).empty_table()
        return pa.concat_tables(parts)

    @cached_property
    def object_names(self) -> list[str]:
        """Names of its objects by object id; that of the base, 0, is VMLINUX."""
        names = dict(zip(self._modules["object_id"], self._modules["module"], strict=True))
        return [VMLINUX, *(names.get(number, "") for number in range(1, max(names, default=0) + 1))]

    @cached_property
    def _modules(self) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = self.read("modules", _OF_MODULES).to_pydict()
        return columns

    @property
    def unread(self) -> dict[str, str]:
        """What is wrong with modules that failed, by name."""
        rows = zip(*(self._modules[name] for name in ("module", "status", "error")), strict=True)
        return {name: error or status for name, status, error in rows if status == FAILED}

    def begin(self) -> None:
        """Begin to read what ``named_types`` is made of, beside whatever the caller does."""
        for block in self._all_types:
            self.reader.begin(block, NamedTypes.COLUMNS)

    @cached_property
    def _all_types(self) -> list[Block]:
        return list(self._type_blocks[0])

    @property
    def named_types(self) -> NamedTypes:
        """All that its objects declare, by name. Raises OutputError."""
        if self._named is None:  # `cached_property` would let only one kernel be read at a time
            types = self.named_columns()
            self._named = NamedTypes.of(types, self.object_names, self.unread)
        return self._named

    def named_columns(self) -> pa.Table:
        """What ``named_types`` is made of. Raises OutputError."""
        import pyarrow as pa

        self.begin()
        columns = NamedTypes.COLUMNS
        parts = [
            pa.table([read.columns[name] for name in columns], names=columns)
            for read in (self.reader.get(block, columns) for block in self._all_types)
        ]
        types = pa.concat_tables(parts) if parts else self.read("types", columns)
        ids = numbers_of(types["global_id"])
        last = (len(self.object_names) << 32) - 1
        if len(ids) and not 0 <= ids.min() <= ids.max() <= last:
            raise OutputError(
                f"{self.storage.place}: the tables of {self.name} have types of a module that is "
                "not among its modules: `splitbtf verify` says what is damaged"
            )
        return types

    def open_btf(self, name: str) -> btf.BTF:
        """Read the BTF of vmlinux or a module that ``run`` wrote. Raises OutputError."""
        if name == VMLINUX:
            return self._base_btf
        return self._parse(name, self._base_btf)

    @cached_property
    def _base_btf(self) -> btf.BTF:
        return self._parse(VMLINUX, None)

    def _parse(self, name: str, base: btf.BTF | None) -> btf.BTF:
        path = f"{self.manifest.btf_folder}/{name}.btf"
        try:
            return btf.parse(self.storage.read(path), base, path=path)
        except OSError as error:
            raise OutputError(f"cannot read {error.filename}: {error.strerror}") from error
        except btf.BtfError as error:
            raise OutputError(str(error)) from error

    @cached_property
    def rows(self) -> Rows:
        """Its types and their members by global id."""
        return Rows(self._type_blocks[1], self._blocks("members"), self.reader)

    @cached_property
    def _type_blocks(self) -> tuple[Iterator[Block], Iterator[Block]]:
        """Those of ``types``, twice the same: for ``named_types`` and for ``rows``."""
        return tee(self._blocks("types"))  # type: ignore[return-value]  # two of them

    def _blocks(self, table: str) -> Iterator[Block]:
        """The row groups of a table that is ordered by global id."""
        for part in self.manifest.tables.get(table, ()):
            with _opened(self.storage, part.path, ("global_id",)) as file:
                at = file.schema_arrow.get_field_index("global_id")
                whole = file.metadata
                groups = range(file.num_row_groups)
                ids = [whole.row_group(number).column(at).statistics for number in groups]
            for number, of in zip(groups, ids, strict=True):
                read = partial(_read_group, self.storage, part.path, whole, number, REPEATED[table])
                yield Block(of.min, of.max, read)


def named_types_of(old: StoredKernel, new: StoredKernel) -> tuple[NamedTypes, NamedTypes]:
    """``named_types`` of two kernels, which know them from then on, with one list of names: nearly
    all are in both, and are looked at once. Raises OutputError."""
    kernels, read = (old, new), of_both(StoredKernel.named_columns, old, new)
    codes, texts = encoded_together(*(types["name"] for types in read))

    def make(side: int) -> NamedTypes:
        kernel = kernels[side]
        called = codes[side], texts
        return NamedTypes.of(read[side], kernel.object_names, kernel.unread, called)

    found = of_both(make, 0, 1)
    old._named, new._named = found
    return found


def _read_group(
    storage: Storage,
    path: str,
    whole: pq.FileMetaData,
    number: int,
    repeated: Sequence[str],
    columns: Sequence[str],
) -> pa.Table:
    with _opened(storage, path, columns, repeated, whole) as file:
        return file.read_row_group(number, list(columns), use_threads=False)  # the caller has some


@contextlib.contextmanager
def _opened(
    storage: Storage,
    path: str,
    columns: Sequence[str],
    repeated: Sequence[str] = (),
    whole: pq.FileMetaData | None = None,
) -> Iterator[pq.ParquetFile]:
    """A part, as Parquet, of which these columns are to be read, some of them as dictionaries.
    ``whole``: what it says of itself, if that was read. Raises OutputError, also for what is wrong
    when it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = storage.open(path)
        with pq.ParquetFile(content, metadata=whole, read_dictionary=list(repeated)) as file:
            types = {field.name: field.type for field in file.schema_arrow}
            for name in columns:
                _check_column(f"{storage.place}/{path}", name, types.get(name))
            yield file
    except (OSError, pa.ArrowException, LookupError, AttributeError, ValueError) as error:
        raise unreadable_part(f"{storage.place}/{path}", error) from error


def _check_column(where: str, name: str, found: pa.DataType | None) -> None:
    if found is None:
        raise no_column(where, name)
    there, wanted = str(getattr(found, "value_type", found)), column_type(name)
    if there != wanted:
        raise OutputError(
            f"{where}: the column {name} is {there}, not {wanted}: no run of splitbtf has written "
            "that; `splitbtf verify` says what is damaged"
        )


def column_type(name: str) -> str:
    """The type of a column that is read here, or of a dictionary's values."""
    if name == "value":
        return "decimal128(20, 0)"
    if name.endswith("fingerprint"):
        return "fixed_size_binary[16]"
    return "string" if name in _TEXTS else "int64"


def in_order(kernels: Iterable[StoredKernel]) -> list[StoredKernel]:
    """Kernels of one flavour and architecture behind one another, by release."""
    return sorted(kernels, key=lambda one: (one.configuration, one.release_key, one.name))


def stored_kernels(
    out: str, manifests: Sequence[Manifest] | None = None, most_bytes: int | None = None
) -> dict[str, StoredKernel]:
    """The committed kernels of an output folder, by name. Raises OutputError.

    manifests   of all of them, if they have been read
    most_bytes  of row groups of their tables that are kept for what is looked up next; all when
                None
    """
    storage, reader = open_storage(out), BlockReader(most_bytes)
    manifests = committed_kernels(out) if manifests is None else manifests
    return {one.kernel: StoredKernel(one, storage, reader) for one in manifests}
