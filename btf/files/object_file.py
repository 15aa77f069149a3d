"""A kernel module's ELF file, to be written again with other contents of some sections.

The kernel loads a module by its section headers alone, so contents may move. A section that gets
smaller is cut where it stands, and what lies behind it moves up by a multiple of its alignment;
nothing else changes but the offsets in the headers: other bytes, gaps included, are as before.

A signature stands behind the file and covers all of it (``struct module_signature``,
include/linux/module_signature.h): whoever changes the file has to leave it out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import BtfError, UnsupportedError
from .sections import (
    MAGIC,
    SHF_COMPRESSED,
    SHT_NOBITS,
    content_of,
    damaged,
    read_headers,
    read_table,
)

_ET_REL = 1
_SHT_SYMTAB, _SHT_RELA, _SHT_REL = 2, 4, 9
_SIGNATURE_MAGIC = b"~Module signature appended~\n"
_SIGNATURE = struct.Struct(">3x2B3xI")  # lengths: of the signer's name, its key's, the signature
_OFFSET, _SIZE, _LINK, _INFO, _ALIGNMENT = 4, 5, 6, 7, 8  # fields of a section header
_NAME_BYTES = 512  # of a symbol: the kernel's own limit (KSYM_NAME_LEN)
_MOST_ALIGNED = 4096  # what a section's place in the file is kept a multiple of, at most


class Symbol(NamedTuple):
    """A symbol of one section: its name, its offset in the section, and its size in bytes."""

    name: str
    offset: int
    size: int


def without_signature(data: bytes, path: str | None = None) -> bytes:
    """Return a module's file without the signatures appended to it. Raises BtfError."""
    end = len(data)
    while data.endswith(_SIGNATURE_MAGIC, 0, end):
        info = end - len(_SIGNATURE_MAGIC) - _SIGNATURE.size
        if info < 0:
            raise BtfError("the signature at its end is cut off", path)
        total = sum(_SIGNATURE.unpack_from(data, info))
        if total > info:
            raise BtfError(f"a signature of {total} bytes, more than the file has", path)
        end = info - total
    return data[:end]


class ObjectFile:
    """A relocatable ELF file (ET_REL), as kernel modules are.

    data   the file, without a signature
    """

    def __init__(self, data: bytes, path: str | None = None) -> None:
        """Raises BtfError when it is not sound ELF, UnsupportedError for other kinds of file."""
        self.data = data
        self.path = path
        if data[:4] != MAGIC:
            raise UnsupportedError("no ELF file, as kernel modules are", path)
        self._table = table = read_table(data, path)
        kind, *_, segments, _, _, _ = table.file_header.unpack_from(data)
        if kind != _ET_REL or segments:
            raise UnsupportedError("no relocatable ELF file, as kernel modules are", path)
        self._headers, self.names = read_headers(data, table, path)

    def numbers(self, name: bytes) -> list[int]:
        """Return the numbers of all sections that begin with ``name``, but for NOBITS ones."""
        return [
            number
            for number, found in enumerate(self.names)
            if found.startswith(name) and self._headers[number][1] != SHT_NOBITS
        ]

    def content(self, number: int) -> bytes:
        """Return the content of a section. Raises BtfError if that is compressed, or not there."""
        _, _, flags, _, start, size, *_ = self._headers[number]
        name = self.names[number].decode("ascii", "replace")
        if flags & SHF_COMPRESSED:
            raise UnsupportedError(
                "a compressed section: the kernel does not read it", self.path, name
            )
        return content_of(self.data, self.path, name, start, size)

    def is_relocated(self, number: int) -> bool:
        """Whether the loader changes the section's content by relocations."""
        return any(
            header[1] in (_SHT_RELA, _SHT_REL) and header[_INFO] == number and header[_SIZE]
            for header in self._headers
        )

    def symbols(self, number: int) -> list[Symbol]:
        """Return the named symbols of a section, in the order of the symbol table, if there is one.

        Raises BtfError.
        """
        found: list[Symbol] = []
        order = self._table.order
        is_64 = self.data[4] == 2
        fields = [
            ("name", "u4"),
            ("value", "u4"),
            ("size", "u4"),
            ("rest", "u2"),
            ("section", "u2"),
        ]
        if is_64:
            fields = [
                ("name", "u4"),
                ("rest", "u2"),
                ("section", "u2"),
                ("value", "u8"),
                ("size", "u8"),
            ]
        entry = np.dtype([(name, order + kind) for name, kind in fields])
        for header in self._headers:
            if header[1] != _SHT_SYMTAB:
                continue
            table = content_of(self.data, self.path, ".symtab", header[_OFFSET], header[_SIZE])
            if not 0 < header[_LINK] < len(self._headers):
                raise damaged(self.path, "the symbol table has no strings", header[_OFFSET])
            strings = self._headers[header[_LINK]]
            texts = content_of(self.data, self.path, ".strtab", strings[_OFFSET], strings[_SIZE])
            rows = np.frombuffer(table[: len(table) // entry.itemsize * entry.itemsize], entry)
            for row in rows[(rows["section"] == number) & (rows["name"] != 0)]:
                at = int(row["name"])
                name, _, _ = texts[at : at + _NAME_BYTES].partition(b"\0")
                found.append(
                    Symbol(name.decode("ascii", "replace"), int(row["value"]), int(row["size"]))
                )
        return found

    def with_contents(self, contents: Mapping[int, bytes]) -> bytes:
        """Return the file with other contents of some sections, none longer than before.

        contents   by the number of the section

        Raises BtfError where such a section shares bytes with another part of the file.
        """
        data = bytearray(self.data)
        order, header = self._table.order, self._table.header
        headers = [list(fields) for fields in self._headers]
        table = self._table.start
        # From the back to the front: what lies before a section does not move when it is cut.
        for number in sorted(contents, key=lambda n: headers[n][_OFFSET], reverse=True):
            content = contents[number]
            start, size = headers[number][_OFFSET : _SIZE + 1]
            self._check_alone(headers, table, number)
            data[start : start + len(content)] = content
            data[start + len(content) : start + size] = bytes(size - len(content))
            headers[number][_SIZE] = len(content)
            behind = [fields for fields in headers if fields[_OFFSET] >= start + size]
            step = max([8, *(min(fields[_ALIGNMENT], _MOST_ALIGNED) for fields in behind)])
            moved = (size - len(content)) // step * step
            del data[start + size - moved : start + size]
            for fields in behind:
                fields[_OFFSET] -= moved
            if table >= start + size:
                table -= moved
        for number, fields in enumerate(headers):
            header.pack_into(data, table + number * header.size, *fields)
        at, word = (0x28, "Q") if self.data[4] == 2 else (0x20, "I")  # e_shoff
        struct.pack_into(order + word, data, at, table)
        return bytes(data)

    def _check_alone(self, headers: list[list[int]], table: int, number: int) -> None:
        """Raise UnsupportedError where a part of the file overlaps with the section."""
        start, size = headers[number][_OFFSET : _SIZE + 1]
        parts = [
            (fields[_OFFSET], fields[_SIZE])
            for other, fields in enumerate(headers)
            if other != number and fields[1] != SHT_NOBITS
        ]
        parts += [
            (0, self._table.file_header.size),
            (table, len(headers) * self._table.header.size),
        ]
        if any(other < start + size and start < other + bytes_ for other, bytes_ in parts):
            name = self.names[number].decode("ascii", "replace")
            raise UnsupportedError("the section shares bytes with another part", self.path, name)
