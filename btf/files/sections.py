"""Sections of an ELF file, read without building an object for each.

All that the file says of itself is checked: the file header as far as it has to do with sections,
that the section headers and the sections lie inside the file, and what compressed sections
(``gcc -gz``) decompress to. Files of any class, byte order and number of sections are read. Time
and memory do not depend on how long names are, nor on how many sections are called the same.
"""

from __future__ import annotations

import struct
from collections.abc import Set
from dataclasses import dataclass, field

from ..errors import BtfError
from . import decompress
from .decompress import ZLIB, ZSTD, Compression, DecompressError
from .readable import Readable

MAGIC = b"\x7fELF"
_SHT_STRTAB, SHT_NOBITS, SHF_COMPRESSED = 3, 8, 0x800
_SHN_XINDEX = 0xFFFF  # the number of the section of names is in the first section header
_NAME_BYTES = 32  # as far as names are looked at
_DWARF = (b".debug_info", b".zdebug_info")
_ORDERS = {1: "<", 2: ">"}
# By class (32 or 64 bit): layouts of the file header, a section header, a compression header.
_LAYOUTS = {
    1: ("16x2HI3II6H", "10I", "II4x"),
    2: ("16x2HI3QI6H", "2I4Q2I2Q", "I4xQ8x"),
}
_COMPRESSIONS = {1: ZLIB, 2: ZSTD}  # ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD
_GNU_HEADER = struct.Struct(">4sQ")  # of .zdebug_*: ZLIB, and what it decompresses to


@dataclass(frozen=True)
class Sections:
    """Contents of the sections that were asked for, whether there is DWARF, the byte order, and
    whether it is a file of 32 bit."""

    contents: dict[str, bytes]
    has_dwarf: bool
    little_endian: bool
    narrow: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Table:
    """Where the section headers are. ``names`` is the number of the section of names."""

    order: str
    file_header: struct.Struct
    header: struct.Struct
    compression: struct.Struct
    start: int
    count: int
    names: int


def is_elf(data: Readable) -> bool:
    """Whether ``data`` begin as an ELF file does that has sections, all headers of which it has."""
    try:
        return data[:4] == MAGIC and read_table(data, None).count > 0
    except BtfError:
        return False


def read_sections(data: Readable, wanted: Set[str], path: str | None = None) -> Sections:
    """Read the sections in ``wanted``; of several of one name the last, as libbpf does.

    Raises BtfError where the file is not sound.
    """
    table = read_table(data, path)
    headers, names = read_headers(data, table, path)
    sought = {name.encode(): name for name in wanted}
    places: dict[str, tuple[int, int, int]] = {}
    has_dwarf = False
    for (_, kind, flags, _, start, size, *_), name in zip(headers, names, strict=True):
        has_dwarf = has_dwarf or name.startswith(_DWARF)
        if name in sought and kind != SHT_NOBITS:
            places[sought[name]] = (start, size, flags)
    contents: dict[str, bytes] = {}
    left = decompress.MAX_DECOMPRESSED_BYTES
    for found, (start, size, flags) in places.items():
        content = content_of(data, path, found, start, size)
        if flags & SHF_COMPRESSED:
            content = decompressed(content, table.compression, left, path, found)
            left -= len(content)
        contents[found] = content
    return Sections(contents, has_dwarf, table.order == "<", table.header.size == 40)


def read_headers(
    data: Readable, table: Table, path: str | None
) -> tuple[list[tuple[int, ...]], list[bytes]]:
    """Return the section headers (the ten fields of ``Elf64_Shdr``) and the sections' names, as far
    as names are looked at. Raises BtfError."""
    end = table.start + table.count * table.header.size
    headers = list(table.header.iter_unpack(data[table.start : end]))
    texts, names = b"", []
    if headers:
        _, kind, flags, _, start, size, *_ = headers[table.names]
        if kind != _SHT_STRTAB or flags & SHF_COMPRESSED:
            raise damaged(path, "the section of names is none", table.start)
        texts = content_of(data, path, ".shstrtab", start, size)
    for name_at, *_ in headers:
        if name_at > len(texts):
            raise damaged(path, f"a section's name at {name_at} of {len(texts)}", table.start)
        names.append(texts[name_at : name_at + _NAME_BYTES].partition(b"\0")[0])
    return headers, names


def read_table(data: Readable, path: str | None) -> Table:
    """Find the section headers. Raises BtfError if the header of the file is not sound."""
    begin = bytes(data[:64])
    if len(begin) < 16:
        raise damaged(path, f"the file has only {len(data)} bytes: truncated?", len(begin))
    layout, order = _LAYOUTS.get(begin[4]), _ORDERS.get(begin[5])
    if layout is None or order is None:
        raise damaged(path, f"class {begin[4]} and byte order {begin[5]} are none", 4)
    file_header, section_header, compression_header = (struct.Struct(order + f) for f in layout)
    if len(begin) < file_header.size:
        raise damaged(path, f"the file has only {len(data)} bytes: truncated?", len(begin))
    _, _, version, _, _, start, _, own, _, _, each, count, names = file_header.unpack_from(begin)
    if begin[6] != 1 or version != 1:
        raise damaged(path, f"version {version}; only version 1 is known", 6)
    if own != file_header.size:
        raise damaged(path, f"a header of {own} bytes, not of {file_header.size}", 40)
    if start == 0:  # a file without sections
        return Table(order, file_header, section_header, compression_header, 0, 0, 0)
    if each != section_header.size:
        raise damaged(path, f"section headers of {each} bytes, not of {section_header.size}", 46)
    first = bytes(data[start : start + each])
    if len(first) == each and (count == 0 or names == _SHN_XINDEX):
        _, _, _, _, _, many, index, *_ = section_header.unpack(first)
        count, names = count or many, index if names == _SHN_XINDEX else names
    if start < own or start + count * each > len(data):
        raise damaged(
            path,
            f"{count} section headers of {each} bytes at {start} end beyond the file "
            f"({len(data)} bytes): truncated?",
            start,
        )
    if not 0 < names < count:
        raise damaged(path, f"section {names} of {count} should hold the names", start)
    return Table(order, file_header, section_header, compression_header, start, count, names)


def content_of(data: Readable, path: str | None, name: str, start: int, size: int) -> bytes:
    if start + size > len(data):
        raise BtfError(
            f"section of {size} bytes at {start} ends beyond the file ({len(data)} bytes): "
            "truncated?",
            path,
            name,
            start,
        )
    return bytes(data[start : start + size])


def decompressed(
    content: bytes, header: struct.Struct, left: int, path: str | None, name: str
) -> bytes:
    """Decompress a section, to ``left`` bytes at most. Raises BtfError.

    header   layout of what it begins with, ``Elf64_Chdr`` or ``Elf32_Chdr``
    """
    if len(content) < header.size:
        raise BtfError(f"compressed, but of {len(content)} bytes only", path, name)
    kind, size = header.unpack_from(content)
    compression = _COMPRESSIONS.get(kind)
    if compression is None:
        raise BtfError(f"compressed in the unknown way {kind}", path, name)
    return _decompress(memoryview(content)[header.size :], compression, size, left, path, name)


def decompressed_gnu(content: bytes, left: int, path: str | None, name: str) -> bytes:
    """Decompress a section ``.zdebug_*``, like ``decompressed``."""
    if len(content) < _GNU_HEADER.size or content[:4] != b"ZLIB":
        raise BtfError("not compressed as its name says: it does not begin with ZLIB", path, name)
    _, size = _GNU_HEADER.unpack_from(content)
    return _decompress(memoryview(content)[_GNU_HEADER.size :], ZLIB, size, left, path, name)


def _decompress(
    content: memoryview, compression: Compression, size: int, left: int, path: str | None, name: str
) -> bytes:
    try:
        if size > left:
            raise DecompressError(f"unfolds to more than {left >> 20} MiB", True)
        found = compression.decompress(content, size)
    except DecompressError as error:
        raise BtfError(f"the {compression.name} data {error}", path, name) from error
    if len(found) != size:
        raise BtfError(f"unfolds to {len(found)} bytes, not to {size} as it says", path, name)
    return found


def damaged(path: str | None, what: str, offset: int) -> BtfError:
    return BtfError(f"damaged ELF file: {what}", path, "ELF header", offset)
