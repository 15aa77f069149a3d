"""What a BTF answers when it is explored by hand: types by id and by name, sizes, alignments.

``BTF`` inherits this; the work is done in ``typebase``, ``lookup`` and ``layout``. Everything works
across base and split alike: one numbering, from void at 0 through the bases to the own types.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, overload

from ..errors import NotFoundError

if TYPE_CHECKING:
    from ..table import BTF
    from .lookup import OwnNames, StringTable
    from .typebase import Type

T = TypeVar("T", bound="Type")


class Explorable:
    """The part of ``BTF`` that is for exploring. A sequence of all types, void included."""

    def __len__(self: BTF) -> int:  # type: ignore[misc]
        """Number of types, void and the bases' included: one more than the last type id."""
        return self.type_end

    def __iter__(self: BTF) -> Iterator[Type]:  # type: ignore[misc]
        """All types in order of id, beginning with void."""
        return (self[type_id] for type_id in range(self.type_end))

    def __getitem__(self: BTF, type_id: int) -> Type:  # type: ignore[misc]
        """The type with this id. Raises IndexError."""
        from .typebase import type_at

        return type_at(self, type_id)

    def own_types(self: BTF) -> Iterator[Type]:  # type: ignore[misc]
        """The types that this BTF holds itself, in order of id: not its base's, nor void."""
        return (self[type_id] for type_id in range(self.start_id, self.type_end))

    @overload
    def find(self, name: str | bytes, kind: type[T]) -> T: ...
    @overload
    def find(self, name: str | bytes, kind: int | None = None) -> Type: ...

    def find(self: BTF, name: str | bytes, kind: int | type[Type] | None = None) -> Type:  # type: ignore[misc]
        """The type called ``name``; of several the one with the lowest id, so the base's first.

        kind   a class (``btf.Struct``; ``btf.Composite`` for struct or union), or a kind's number
               from ``btf.kinds``; any kind when None

        Raises NotFoundError. ``find_all`` tells whether there are several.
        """
        found = self.find_all(name, kind)
        if not found:
            from .typebase import kinds_of

            other = [t.kind_name for t in self.find_all(name)] if kinds_of(kind) else []
            hint = f", only as {', '.join(sorted(set(other)))}" if other else ""
            shown = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
            raise NotFoundError(f"there is no type {shown!r}{hint}", self.path, "types")
        return found[0]

    @overload
    def find_all(self, name: str | bytes, kind: type[T]) -> list[T]: ...
    @overload
    def find_all(self, name: str | bytes, kind: int | None = None) -> list[Type]: ...

    def find_all(self: BTF, name: str | bytes, kind: int | type[Type] | None = None) -> list[Type]:  # type: ignore[misc]
        """All types called ``name``, in order of id, the bases' included; see ``find``.

        The name "" gives the types that have none.
        """
        from .lookup import ids_by_name
        from .typebase import kinds_of

        wanted = kinds_of(kind)
        found = ids_by_name(self, name, wanted)
        if name in ("void", b"void") and (wanted is None or 0 in wanted):
            found.insert(0, 0)
        return [self[type_id] for type_id in found]

    def resolve(self: BTF, of: int | Type) -> Type:  # type: ignore[misc]
        """The type behind typedefs, const, volatile, restrict, type tags and a variable's name.

        of   a type or a type id; void is given back as it is. Raises BtfError on circles.
        """
        from .layout import resolve

        return resolve(self[of] if isinstance(of, int) else of)

    def size_of(self: BTF, of: int | Type) -> int:  # type: ignore[misc]
        """Bytes that a value of this type takes.

        Raises BtfError for what has no size: void, functions, forward declarations.
        """
        from .layout import size_of

        return size_of(self[of] if isinstance(of, int) else of)

    def align_of(self: BTF, of: int | Type) -> int:  # type: ignore[misc]
        """Alignment in bytes as libbpf tells it: 1 for a struct that is laid out as packed.

        Alignment attributes are not part of BTF. Raises BtfError for what has no alignment.
        """
        from .layout import align_of

        return align_of(self[of] if isinstance(of, int) else of)

    @cached_property
    def pointer_size(self: BTF) -> int:  # type: ignore[misc]
        """Bytes of a pointer: those of C's ``long`` in this BTF; 8 when it has none."""
        from .layout import pointer_size

        return pointer_size(self)

    @cached_property
    def own_strings(self: BTF) -> StringTable:  # type: ignore[misc]
        """Look-up table of the own strings, made on first use."""
        from .lookup import StringTable

        return StringTable.of(self.strings)

    @cached_property
    def chain_table(self: BTF) -> StringTable:  # type: ignore[misc]
        """Look-up table of the strings of all levels, by global offset; made on first use."""
        from .lookup import StringTable

        return self.own_strings if self.base is None else StringTable.of(self.chain_strings)

    @cached_property
    def own_names(self: BTF) -> OwnNames:  # type: ignore[misc]
        """Own types by name, made on first use."""
        from .lookup import OwnNames

        return OwnNames.of(self)
