"""``.BTF.ext``: what the code of a BPF program says of its BTF.

The section lies beside ``.BTF`` in a BPF program's object file and refers to its types and strings:

    header      magic (u16)  version (u8)  flags (u8)  hdr_len (u32)
                func_info_off  func_info_len  line_info_off  line_info_len
                core_relo_off  core_relo_len                       (where hdr_len is 32 or more)
    each part   record size, then for each section of code:
                name of the section  number of records  the records

A record may be larger than we know; what follows the known words is kept as it is. Offsets of the
parts count from the end of the header, those of instructions are bytes from the beginning of the
section of code. Source: ``struct btf_ext_header`` in libbpf and Documentation/bpf/btf.rst.

Nothing is rebuilt when BTF changes: the type ids and string offsets are overwritten where they
stand, so all the rest remains, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, TypeVar

import numpy as np

from ..arguments import integers, octets, require
from ..errors import BtfError
from ..format.header import BYTE_ORDERS, MAGIC, VERSION
from ..types.btf import BTF, freeze
from ..types.typebase import Type
from .append import StringPool

SECTION = ".BTF.ext"
_SHORT_HEADER = 24
_LONG_HEADER = 32

R = TypeVar("R")


class CoreReloKind(IntEnum):
    """What a CO-RE relocation asks for (``enum bpf_core_relo_kind``)."""

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12  # since libbpf 1.0


@dataclass(frozen=True, slots=True)
class FuncInfo:
    """A function begins here, and this is its FUNC."""

    insn_off: int
    type_id: int
    type: Type


@dataclass(frozen=True, slots=True)
class LineInfo:
    """The line of source code that instructions from here on come from."""

    insn_off: int
    file: str
    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class CoreRelo:
    """An instruction whose value depends on the types of the kernel that the program runs on.

    access   which field or enumerator of the type: ``0:1:2``; ``0`` for the type itself
    kind     what is asked: a CoreReloKind, or a plain number that we do not know
    """

    insn_off: int
    type_id: int
    type: Type
    access: str
    kind: int


@dataclass(frozen=True, slots=True)
class CodeSection(Generic[R]):
    """The records of one section of code, such as ``kprobe/do_exit``."""

    name: str
    records: tuple[R, ...]


@dataclass(frozen=True)
class _RecordSpec:
    """One of the three parts: how its records are made up. Words are those of a record."""

    name: str
    words: int
    type_word: int | None
    string_words: tuple[int, ...]


_PARTS = (
    _RecordSpec("func_info", 2, 1, ()),
    _RecordSpec("line_info", 4, None, (1, 2)),
    _RecordSpec("core_relo", 4, 1, (2,)),
)


@dataclass(frozen=True, eq=False)
class BtfExt:
    """A ``.BTF.ext`` section and the BTF that it refers to. Immutable.

    btf         whose type ids and string offsets are in it
    data        the section as it stands
    byteorder   "little" or "big", the same as that of ``btf``
    sections    for each part: position of each section of code in ``data``, number of its records,
                and bytes of one
    """

    btf: BTF
    data: bytes
    byteorder: str
    sections: tuple[tuple[tuple[int, int, int], ...], ...]

    @property
    def func_info(self) -> tuple[CodeSection[FuncInfo], ...]:
        """Which function begins where."""
        return self._read(0, lambda w: FuncInfo(w[0], w[1], self.btf[w[1]]))

    @property
    def line_info(self) -> tuple[CodeSection[LineInfo], ...]:
        """Which line of source code instructions come from."""
        text = self.btf.string
        return self._read(
            1, lambda w: LineInfo(w[0], text(w[1]), text(w[2]), w[3] >> 10, w[3] & 0x3FF)
        )

    @property
    def core_relos(self) -> tuple[CodeSection[CoreRelo], ...]:
        """Which instructions are to be adapted to the kernel's types."""
        known = {int(kind): kind for kind in CoreReloKind}

        def relo(w: tuple[int, ...]) -> CoreRelo:
            kind = known.get(w[3], w[3])
            return CoreRelo(w[0], w[1], self.btf[w[1]], self.btf.string(w[2]), kind)

        return self._read(2, relo)

    def to_bytes(self) -> bytes:
        """Return the section."""
        return self.data

    def moved(self, btf: BTF, id_map: Sequence[int] | np.ndarray) -> BtfExt:
        """Rewrite type ids and string offsets for a BTF that this one's was made into.

        btf      the new BTF; strings that it lacks are appended to it
        id_map   by type id of this one's BTF: the id in ``btf``

        The result's ``btf`` is the one with the strings: write that. ``dedup``, ``permute`` and
        ``merge`` do this for the section that they are given.
        """
        data = np.frombuffer(self.data[: len(self.data) & ~3], self._dtype).copy()
        types = self._words(lambda part: () if part.type_word is None else (part.type_word,))
        require(btf, BTF, "btf")
        new_ids = integers(id_map, "id_map", btf.type_end, self.btf.type_end)
        data[types] = new_ids[data[types]]
        if btf.strings is not self.btf.strings or btf.base is not self.btf.base:
            strings = self._words(lambda part: part.string_words, heads=True)
            if btf.base is self.btf.base:  # then its strings are where they were
                strings = strings[data[strings] >= btf.start_str_off]
            pool = StringPool(btf)
            source = self.btf.chain_strings
            data[strings] = pool.add_all(data[strings].astype(np.int64), source)
            if len(pool.own_strings):
                added = np.concatenate([btf.strings, pool.own_strings])
                btf = replace(btf, strings=freeze(added), sound=True)
        changed = data.tobytes() + self.data[len(data) * 4 :]
        return replace(self, btf=btf, data=changed)

    def moved_from(self, source: BTF, btf: BTF, id_map: Sequence[int] | np.ndarray) -> BtfExt:
        """As ``moved``; raises ValueError unless ``source`` is the BTF that this one belongs to."""
        if self.btf is not source:
            raise ValueError("the .BTF.ext given belongs to another BTF")
        return self.moved(btf, id_map)

    @property
    def _dtype(self) -> str:
        return "<u4" if self.byteorder == "little" else ">u4"

    def _words(
        self, wanted: Callable[[_RecordSpec], Sequence[int]], heads: bool = False
    ) -> np.ndarray:
        """Return positions (in words, int64) of some words of all records, in the order of libbpf.

        heads   whether to give the name of each section of code too, before those of its records
        """
        found: list[np.ndarray] = [np.zeros(0, np.int64)]
        for part, sections in zip(_PARTS, self.sections, strict=True):
            columns = np.array(wanted(part), np.int64)
            for at, count, record_bytes in sections:
                if heads:
                    found.append(np.array([at // 4]))
                rows = at // 4 + 2 + np.arange(count) * (record_bytes // 4)
                found.append((rows[:, None] + columns).ravel())
        return np.concatenate(found)

    def _read(self, part: int, make: Callable[[tuple[int, ...]], R]) -> tuple[CodeSection[R], ...]:
        words = struct.Struct(("<" if self.byteorder == "little" else ">") + "4I")
        padded = self.data + bytes(16)
        result = []
        for at, count, record_bytes in self.sections[part]:
            (name, *_) = words.unpack_from(padded, at)
            starts = range(at + 8, at + 8 + count * record_bytes, record_bytes)
            records = tuple(make(words.unpack_from(padded, start)) for start in starts)
            result.append(CodeSection(self.btf.string(name), records))
        return tuple(result)

    @cached_property
    def _count(self) -> int:
        return sum(count for part in self.sections for _, count, _ in part)

    def __repr__(self) -> str:
        return f"<BtfExt {self._count} records, {len(self.data)} bytes>"


def parse_ext(data: bytes | memoryview, btf: BTF, *, path: str | None = None) -> BtfExt:
    """Read a ``.BTF.ext`` section.

    data   its content
    btf    the BTF beside it

    Every length, type id and string offset is checked. Raises BtfError.
    """
    require(btf, BTF, "btf")
    data = bytes(octets(data))

    def fail(message: str, offset: int | None = None) -> BtfError:
        return BtfError(message, path, SECTION, offset)

    order = BYTE_ORDERS.get(data[:2])
    if order is None:
        raise fail(f"magic is {data[:2].hex() or 'missing'}, expected {MAGIC:x}", 0)
    byteorder = "little" if order == "<" else "big"
    if byteorder != btf.byteorder:
        raise fail(f"{byteorder}-endian, but the BTF beside it is {btf.byteorder}-endian", 0)
    if len(data) < _SHORT_HEADER:
        raise fail(f"truncated: {len(data)} bytes; the header has at least {_SHORT_HEADER}")
    version, flags, header_bytes = struct.unpack_from(order + "BBI", data, 2)
    if version != VERSION or flags:
        raise fail(f"version {version} and flags {flags:#x}; only {VERSION} and 0 are known", 2)
    if not _SHORT_HEADER <= header_bytes <= len(data) or header_bytes % 4:
        raise fail(f"hdr_len is {header_bytes}; the section has {len(data)} bytes", 4)
    places = struct.unpack_from(order + "4I", data, 8)
    if header_bytes >= _LONG_HEADER:
        places += struct.unpack_from(order + "2I", data, _SHORT_HEADER)
    sections: list[tuple[tuple[int, int, int], ...]] = []
    for number, part in enumerate(_PARTS):
        offset, length = places[2 * number : 2 * number + 2] or (0, 0)
        start = header_bytes + offset
        if length and (offset % 4 or start + length > len(data)):
            raise fail(
                f"{part.name} ({length} bytes at {offset}) is misaligned or ends beyond the "
                f"section ({len(data) - header_bytes} bytes after the header)",
                8 + 8 * number,
            )
        sections.append(_code_sections(data, order, part, start, start + length, fail))
    used = sorted((off, off + size) for off, size in zip(places[::2], places[1::2], strict=True))
    used = [(first, end) for first, end in used if first < end]
    if any(end > following for (_, end), (following, _) in pairwise(used)):
        raise fail("two of its parts overlap", 8)
    ext = BtfExt(btf, data, byteorder, tuple(sections))
    _check(ext, fail)
    return ext


def _code_sections(
    data: bytes,
    order: str,
    part: _RecordSpec,
    start: int,
    end: int,
    fail: Callable[..., BtfError],
) -> tuple[tuple[int, int, int], ...]:
    """Return (position, number of records, bytes of one) of each section of code in a part."""
    if start == end:
        return ()
    if end - start < 4:
        raise fail(f"{part.name} has {end - start} bytes, too few for a record size", start)
    (record_bytes,) = struct.unpack_from(order + "I", data, start)
    if record_bytes < 4 * part.words or record_bytes % 4:
        raise fail(
            f"{part.name} has records of {record_bytes} bytes; "
            f"expected {4 * part.words} or more, a multiple of 4",
            start,
        )
    found = []
    at = start + 4
    while at < end:
        if end - at < 8:
            raise fail(f"{part.name} ends in the middle of a section's head", at)
        _, count = struct.unpack_from(order + "2I", data, at)
        if 8 + count * record_bytes > end - at:
            raise fail(
                f"{part.name}: {count} records of {record_bytes} bytes do not fit into the "
                f"{end - at - 8} bytes that are left",
                at + 4,
            )
        found.append((at, count, record_bytes))
        at += 8 + count * record_bytes
    return tuple(found)


def _check(ext: BtfExt, fail: Callable[..., BtfError]) -> None:
    """Raise BtfError for a type id or a string offset that is out of range."""
    btf: Any = ext.btf
    words = np.frombuffer(ext.data[: len(ext.data) & ~3], ext._dtype)
    types = ext._words(lambda part: () if part.type_word is None else (part.type_word,))
    for at in types[words[types] >= btf.type_end][:1].tolist():
        raise fail(f"refers to type [{words[at]}], the last one is [{btf.type_end - 1}]", 4 * at)
    strings = ext._words(lambda part: part.string_words, heads=True)
    for at in strings[words[strings] >= btf.str_end][:1].tolist():
        raise fail(f"a string is at offset {words[at]}, strings end at {btf.str_end}", 4 * at)
