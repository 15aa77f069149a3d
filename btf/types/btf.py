"""A parsed BTF as a columnar table, and the checks that make it safe to use.

``parse`` is the only way in for untrusted bytes. It checks every id, offset, vlen and string in
one pass before anything else looks at them: compiled functions have no bounds checks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Set
from dataclasses import InitVar, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, overload

import numpy as np

from ..arguments import Bytes, number, octets, require
from ..compiled.jit import address
from ..errors import BtfError, NotFoundError, UnsupportedError
from ..format import header as hdr
from ..format import kinds
from ..format.scan import locate_fault, scan_types

if TYPE_CHECKING:
    from .layout import Resolver
    from .names import OwnNames, StringTable
    from .typebase import Type

NATIVE = sys.byteorder

T = TypeVar("T", bound="Type")
Kind: TypeAlias = "int | str | type[Type] | None"


@dataclass(frozen=True, eq=False)
class BTF:
    """One BTF: own types and strings, perhaps on a base. Immutable; cheap to share.

    A sequence of all types, void and the bases' included, with one numbering across base and
    split. What exploring needs (``typebase``, ``names``, ``layout``) is imported on first use.

    words    uint32, shape (W,): the own type section in this machine's byte order
    offsets  uint32, shape (T + 1,): for own type t (0-based) its first word; last entry is W
    strings  uint8, shape (S,): the own string section
    base     the BTF that this one continues, or None
    elf_pointer_size  bytes of a pointer by the class of the ELF file that it is from; 0: not known

    Own type t has the id ``start_id + t``; own string offsets start at ``start_str_off``. Void
    (id 0) and the empty string (offset 0) belong to the first base.
    """

    words: np.ndarray
    offsets: np.ndarray
    strings: np.ndarray
    base: BTF | None = None
    byteorder: str = "little"
    flags: int = 0
    layout: bytes = b""
    path: str | None = field(default=None, compare=False)
    elf_pointer_size: int = field(default=0, compare=False)
    sound: InitVar[bool] = False

    def __post_init__(self, sound: bool) -> None:
        """Unless the caller vouches that all is ``sound``: copy the arrays, and check everything as
        in a file. Raises TypeError or BtfError."""
        if sound:
            return
        require(self.base, (BTF, type(None)), "base")
        require(self.layout, bytes, "layout")
        if self.byteorder not in ("little", "big") or not 0 <= number(self.flags, "flags") < 256:
            raise ValueError("byteorder is 'little' or 'big', and flags are one byte")
        for name, dtype in (("words", np.uint32), ("offsets", np.uint32), ("strings", np.uint8)):
            array = getattr(self, name)
            require(array, np.ndarray, name)
            if array.dtype != dtype or array.ndim != 1:
                raise TypeError(f"{name} is to be one-dimensional, of {np.dtype(dtype)}")
            object.__setattr__(self, name, freeze(array.copy()))
        read = parse(self.to_bytes(), self.base, path=self.path)
        if not np.array_equal(read.offsets, self.offsets):
            raise BtfError("offsets are not where types start", self.path, "types")

    def __reduce__(self) -> tuple[Any, ...]:
        return BTF, tuple(getattr(self, f.name) for f in fields(self))

    @cached_property
    def start_id(self) -> int:
        """Id of the first own type: 1, or the number of types of the base, void included."""
        return self.base.type_end if self.base is not None else 1

    @cached_property
    def start_str_off(self) -> int:
        """Offset of the first own string."""
        return self.base.str_end if self.base is not None else 0

    @cached_property
    def type_count(self) -> int:
        """Number of own types."""
        return len(self.offsets) - 1

    @cached_property
    def type_end(self) -> int:
        """One more than the last type id, base included."""
        return self.start_id + self.type_count

    @cached_property
    def str_end(self) -> int:
        """One more than the last string offset, base included."""
        return self.start_str_off + len(self.strings)

    @property
    def levels(self) -> list[BTF]:
        """The chain of bases from the first to this one."""
        return [*(self.base.levels if self.base is not None else ()), self]

    @cached_property
    def _own_text(self) -> bytes:
        return self.strings.tobytes()

    @cached_property
    def words_end(self) -> int:
        """Words of types of all levels."""
        return sum(len(level.words) for level in self.levels)

    @cached_property
    def chain_strings(self) -> np.ndarray:
        """Strings of all levels, so that a global offset is an index: uint8."""
        if self.base is None:
            return self.strings
        return freeze(np.concatenate([level.strings for level in self.levels]))

    @property
    def flat(self) -> BTF:
        """All levels as one plain BTF, with the same type ids and string offsets."""
        return self if self.base is None else self._flat

    @cached_property
    def _flat(self) -> BTF:
        starts, at = [np.zeros(1, np.uint32)], 0
        for level in self.levels:
            starts.append(level.offsets[1:] + np.uint32(at))
            at += len(level.words)
        return BTF(
            words=freeze(np.concatenate([level.words for level in self.levels])),
            offsets=freeze(np.concatenate(starts)),
            strings=self.chain_strings,
            byteorder=self.byteorder,
            layout=next((level.layout for level in self.levels if level.layout), b""),
            path=self.path,
            sound=True,
        )

    @cached_property
    def has_unknown_kinds(self) -> bool:
        """Whether an own type is of a kind that only the layout section describes."""
        if not any(level.layout for level in self.levels):
            return False
        return bool(np.any(self.own_kinds > kinds.MAX_KIND))

    @cached_property
    def own_kinds(self) -> np.ndarray:
        """Kind of each own type: uint8, shape (T,)."""
        return freeze(self._kinds_at(self.offsets[:-1]))

    def _kinds_at(self, offsets: np.ndarray) -> np.ndarray:
        info = self.words[offsets + 1]
        return ((info >> kinds.INFO_KIND_SHIFT) & kinds.INFO_KIND_MASK).astype(np.uint8)

    def type_section(self) -> bytes:
        """Return the own types in the byte order of the file."""
        return self._file_words().tobytes()

    def _file_words(self) -> np.ndarray:
        """The words in the byte order of the file."""
        return self.words if self.byteorder == NATIVE else self.words.byteswap()

    def string_section(self) -> bytes:
        """Return the own strings."""
        return self.strings.tobytes()

    def to_bytes(self) -> bytes:
        """Return the whole file: a 24-byte header (32 with a layout section), types, strings."""
        return hdr.pack(
            self.byteorder,
            self.flags,
            np.ascontiguousarray(self._file_words()).view(np.uint8).data,
            np.ascontiguousarray(self.strings).data,
            self.layout,
        )

    def string_bytes(self, offset: int) -> bytes:
        """The string at a global offset, base included. Raises BtfError when out of range."""
        level = self
        while offset < (before := level.start_str_off) and level.base is not None:
            level = level.base
        text, start = level._own_text, offset - before
        if 0 <= start < len(text):
            return text[start : text.find(b"\0", start)]
        raise BtfError(f"string offset {offset} is beyond {self.str_end}", self.path, "strings")

    def string(self, offset: int) -> str:
        """Return the string at a global offset; bytes that are no UTF-8 as backslash escapes."""
        return self.string_bytes(offset).decode("utf-8", "backslashreplace")

    def __len__(self) -> int:
        """Return number of types, void and the bases' included: one more than the last type id."""
        return self.type_end

    def __iter__(self) -> Iterator[Type]:
        """Go through all types in order of id, beginning with void."""
        return (self[type_id] for type_id in range(self.type_end))

    def __getitem__(self, wanted: int | str | bytes) -> Type:
        """Return the type with this id, or of this name, see ``find``.

        Raises NotFoundError; for an id it is an IndexError too.
        """
        from .objects import type_at

        if isinstance(wanted, (str, bytes)):
            return self.find(wanted)
        if type(wanted) is not int:
            wanted = number(wanted, "a type id")
        return type_at(self, wanted)

    def _type(self, of: int | Type) -> Type:
        from .typebase import Type

        return of if isinstance(of, Type) else self[of]

    def own_types(self) -> Iterator[Type]:
        """Go through the types that this BTF holds itself, in order of id: no base's, nor void."""
        return (self[type_id] for type_id in range(self.start_id, self.type_end))

    @overload
    def find(self, name: str | bytes, kind: type[T]) -> T: ...
    @overload
    def find(self, name: str | bytes, kind: Kind = None) -> Type: ...

    def find(self, name: str | bytes, kind: Kind = None) -> Any:
        """The type called ``name``; of several the one with the lowest id, so the base's first.

        kind   a class (``btf.Struct``; ``btf.Composite`` for struct or union), a kind's name in
               upper or lower case (``"struct"``), or its number from ``btf.kinds``; any when None

        Raises NotFoundError, which knows the nearest names. ``find_all`` tells whether there are
        several.
        """
        found = self.find_all(name, kind)
        if not found:
            from .names import names_like
            from .typebase import kinds_of

            shown = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
            wanted = kinds_of(kind)
            other = sorted({t.kind_name for t in self.find_all(name)})
            hint = f", only as {', '.join(other)}" if other else ""
            error = NotFoundError(f"there is no type {shown!r}{hint}", self.path, "types")
            raise error if other else error.with_nearest(lambda: names_like(self, shown, wanted))
        return found[0]

    @overload
    def find_all(self, name: str | bytes, kind: type[T]) -> list[T]: ...
    @overload
    def find_all(self, name: str | bytes, kind: Kind = None) -> list[Type]: ...

    def find_all(self, name: str | bytes, kind: Kind = None) -> list[Type]:  # type: ignore[misc]
        """Find all types called ``name``, in order of id, the bases' included; see ``find``.

        The name "" gives the types that have none.
        """
        from .names import ids_by_name
        from .typebase import kinds_of

        wanted = kinds_of(kind)
        found = ids_by_name(self, name, wanted)
        if name in ("void", b"void") and (wanted is None or 0 in wanted):
            found.insert(0, 0)
        return [self[type_id] for type_id in found]

    def resolve(self, of: int | Type) -> Type:
        """The type behind typedefs, const, volatile, restrict, type tags and a variable's name.

        of   a type or a type id; void is given back as it is. Raises BtfError on circles.
        """
        from .layout import resolve

        return resolve(self._type(of))

    def size_of(self, of: int | Type) -> int:
        """Return the bytes that a value of this type takes.

        Raises BtfError for what has no size: void, functions, forward declarations.
        """
        from .layout import size_of

        return size_of(self._type(of))

    def align_of(self, of: int | Type) -> int:
        """Return alignment in bytes as libbpf tells it: 1 for a struct that is laid out as packed.

        Alignment attributes are not part of BTF. Raises BtfError for what has no alignment.
        """
        from .layout import align_of

        return align_of(self._type(of))

    def c_of(self, of: int | Type) -> str:
        """Return the type as C defines it, or spells it where C has no definition: a struct with
        its members, a function's prototype, ``struct file *``. Empty for sections and tags of
        declarations."""
        from .c_text import c_definition

        return c_definition(self._type(of))

    def html_of(self, of: int | Type) -> str:
        """Return the type as HTML, as notebooks show it: of a struct a table of its members."""
        from .html import type_html

        return type_html(self._type(of))

    @cached_property
    def pointer_size(self) -> int:
        """Bytes of a pointer: those of C's ``long`` in this BTF; where it has none, by the class of
        the ELF file that it is from, else as members lie behind each other, else 8."""
        from .layout import pointer_size

        return pointer_size(self)

    @cached_property
    def resolvers(self) -> dict[Set[int], Resolver]:
        """What was found behind types so far, by the kinds that are looked behind."""
        return {}

    @cached_property
    def own_strings(self) -> StringTable:
        """Look-up table of the own strings, made on first use."""
        from .names import StringTable

        return StringTable.of(self.strings)

    @cached_property
    def chain_table(self) -> StringTable:
        """Look-up table of the strings of all levels, by global offset; made on first use."""
        from .names import StringTable

        return self.own_strings if self.base is None else StringTable.of(self.chain_strings)

    @cached_property
    def own_names(self) -> OwnNames:
        """Own types by name, made on first use."""
        from .names import OwnNames

        return OwnNames.of(self)

    def __repr__(self) -> str:
        base = f", base of {self.start_id} types" if self.base is not None else ""
        return f"<BTF {self.type_count} types, {len(self.strings)} bytes of strings{base}>"

    def _repr_html_(self) -> str:
        from .html import btf_html

        return btf_html(self)


class HasBase(Protocol):
    """Anything that was made of a base and gives it back, such as ``btf.BaseIndex``."""

    @property
    def base(self) -> BTF | None:
        """The base; None where there is none."""


def base_of(given: BTF | HasBase) -> BTF | None:
    """Return the base that is meant: ``given`` itself, or the one that it was made of."""
    if isinstance(given, BTF):
        return given
    base = getattr(given, "base", given)
    require(base, (BTF, type(None)), "base")
    return base  # type: ignore[return-value]


def freeze(array: np.ndarray) -> np.ndarray:
    """Make an array read-only: compiled functions then see one type, whatever it comes from."""
    if array.flags.writeable:
        array = array.view()
        array.setflags(write=False)
    return array


def unknown_kind_error(level: BTF, what: str = "deduplicated or compared") -> UnsupportedError:
    """Make the error for a BTF with kinds whose meaning is not known, which cannot be ``what``."""
    index = int(np.flatnonzero(level.own_kinds > kinds.MAX_KIND)[0])
    kind, size = int(level.own_kinds[index]), 4 * int(np.diff(level.offsets[index : index + 2])[0])
    advice = "a newer splitbtf may know it"
    if kind in kinds.PROPOSED:
        advice = "this kind is not final; pahole writes none without its feature `inline`"
    return UnsupportedError(
        f"{kinds.called(kind)}: the layout section tells that it has {size} bytes here, but not "
        f"what they mean, so that it can be read and written, but not {what}; {advice}",
        level.path,
        "types",
        int(level.offsets[index]) * 4,
        level.start_id + index,
    )


def parse(
    data: Bytes,
    base: BTF | None = None,
    *,
    path: str | None = None,
    head: hdr.Header | None = None,
) -> BTF:
    """Read a raw BTF file; with ``base``, read it as split BTF on that base.

    Both byte orders, 24- and 32-byte headers, layout section kept. Every reference, string offset
    and length is checked. Raises BtfError naming section, offset and type id; WrongBaseError is
    not raised here (see ``files.open``). ``head`` is the header, where it was read already.

    The BTF shares the memory of ``bytes``; anything else, which might change, is copied.
    """
    require(base, (BTF, type(None)), "base")
    require(head, (hdr.Header, type(None)), "head")
    view = octets(data)
    head = head or hdr.parse_header(view, path)
    if base is not None and base.byteorder != head.byteorder:
        raise BtfError(
            f"{head.byteorder}-endian, but its base is {base.byteorder}-endian", path, "header", 0
        )

    words, strings = read_sections(view, head, path, split=base is not None)
    layout = bytes(view[head.layout_start : head.layout_start + head.layout_bytes])
    inherited = layout
    level = base
    while not inherited and level is not None:  # split BTF shares the layout of its base
        inherited, level = level.layout, level.base
    kind_words = hdr.kind_words(inherited, path if inherited else None)

    start_id = base.type_end if base is not None else 1
    str_end = (base.str_end if base is not None else 0) + head.string_bytes
    words = freeze(words)
    offsets = scan_types(words, kind_words, start_id, str_end)
    if offsets is None:
        raise locate_fault(words, kind_words, start_id, str_end, path)
    words_below = base.words_end if base is not None else 0
    hdr.check_total(start_id + len(offsets) - 1, words_below + len(words), str_end, path)
    result = BTF(
        words=words,
        offsets=freeze(offsets),
        strings=freeze(strings),
        base=base,
        byteorder=head.byteorder,
        flags=head.flags,
        layout=layout,
        path=path,
        sound=True,
    )
    if base is not None:
        _check_funcs_on_base(result)
    return result


def read_sections(
    view: memoryview, head: hdr.Header, path: str | None = None, *, split: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The sections of a raw BTF file whose header was read: (words, strings), as in ``BTF``.

    split  whether it is read on a base: then it may have no strings, and no empty one first

    They share the memory of ``view`` where it is aligned and in this machine's byte order. Raises
    BtfError where the strings are not sound; the types are not looked at, see ``scan_types``.
    """
    strings = np.frombuffer(view, np.uint8, head.string_bytes, head.string_start)
    if not split and head.string_bytes == 0:
        raise BtfError("no string section", path, "strings", 0)
    if head.string_bytes and strings[-1]:
        raise BtfError(
            "the last string is not terminated by NUL", path, "strings", head.string_bytes - 1
        )
    if not split and strings[0]:
        raise BtfError(
            "the first string is not empty: is this split BTF, and its base not given?",
            path,
            "strings",
            0,
        )
    words = np.frombuffer(view, np.uint32, head.type_bytes >> 2, head.type_start)
    if address(words) % 4:
        words = words.copy()
    return words if head.byteorder == NATIVE else words.byteswap(), strings


def _check_funcs_on_base(split: BTF) -> None:
    """Check that FUNCs whose type is in the base refer to a FUNC_PROTO: the scan cannot see it."""
    starts = split.offsets[:-1].astype(np.int64)
    own = starts[split.own_kinds == kinds.FUNC]
    protos = split.words[own + 2]
    for level in split.levels[:-1]:
        inside = (protos >= level.start_id) & (protos < level.type_end)
        # Only of those: a base has a hundred times as many types.
        kind = level._kinds_at(level.offsets[protos[inside].astype(np.int64) - level.start_id])
        wrong = np.flatnonzero(kind != kinds.FUNC_PROTO)
        if len(wrong):
            at = own[inside][wrong[0]]
            type_id = split.start_id + int(np.searchsorted(starts, at))
            raise BtfError(
                f"FUNC refers to type [{protos[inside][wrong[0]]}] of the base, "
                "which is no FUNC_PROTO: wrong base?",
                split.path,
                "types",
                int(at) * 4,
                type_id,
            )
