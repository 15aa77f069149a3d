"""An ELF file's debug sections, decompressed for programs that read DWARF.

Which compressions such a program knows depends on the libelf that it was built with: zlib since
0.165, zstd since 0.189. Here all are known, and the limits are those of all sections.

The decompressed sections go behind the file, and behind them go section headers that tell where
they are; what is before them stays where it was.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import BtfError
from . import decompress
from .sections import (
    SHF_COMPRESSED,
    SHT_NOBITS,
    Readable,
    content_of,
    decompressed,
    decompressed_gnu,
    read_headers,
    read_table,
)

_NAME, _FLAGS, _OFFSET, _SIZE = 0, 2, 4, 5  # fields of a section header
_GNU = b".zdebug_"  # how binutils called compressed sections before ELF had a flag for them
_ALIGNMENT = 16  # of what goes behind the file


class Decompressed(NamedTuple):
    """The file is ``head``, then what is behind as many bytes in the file as it was, then
    ``tail``."""

    head: bytes
    tail: bytearray


def decompress_debug_sections(data: Readable, path: str | None = None) -> Decompressed | None:
    """Return the file with no debug section compressed; None where none is.

    data   an ELF file, of which only headers and compressed sections are read

    Raises BtfError.
    """
    table = read_table(data, path)
    found, names = read_headers(data, table, path)
    chosen = [
        number
        for number, (header, name) in enumerate(zip(found, names, strict=True))
        if header[1] != SHT_NOBITS
        and (
            name.startswith(_GNU)
            or (header[_FLAGS] & SHF_COMPRESSED and name.startswith(b".debug_"))
        )
    ]
    if not chosen:
        return None
    headers = [list(header) for header in found]
    tail = bytearray()

    def append(content: bytes | bytearray) -> int:
        """Append to the tail; returns where in the file that is."""
        tail.extend(bytes(-(len(data) + len(tail)) % _ALIGNMENT))
        tail.extend(content)
        return len(data) + len(tail) - len(content)

    if sum(found[number][_SIZE] for number in chosen) > len(data):
        raise BtfError("compressed sections overlap, or end beyond the file", path)
    left = decompress.MAX_DECOMPRESSED_BYTES
    texts = bytearray(data[slice(*_place(found[table.names]))])
    for number in chosen:
        header, name = headers[number], names[number].decode("ascii", "replace")
        content = content_of(data, path, name, header[_OFFSET], header[_SIZE])
        if header[_FLAGS] & SHF_COMPRESSED:
            content = decompressed(content, table.compression, left, path, name)
            header[_FLAGS] &= ~SHF_COMPRESSED
        else:
            content = decompressed_gnu(content, left, path, name)
        left -= len(content)
        header[_OFFSET], header[_SIZE] = append(content), len(content)
        if names[number].startswith(_GNU):
            header[_NAME] = len(texts)
            texts += b"." + names[number][2:] + b"\0"
    headers[table.names][_OFFSET], headers[table.names][_SIZE] = append(texts), len(texts)
    head = bytearray(data[: table.file_header.size])
    at, word = (0x28, "Q") if head[4] == 2 else (0x20, "I")  # e_shoff
    try:
        start = append(b"".join(table.header.pack(*fields) for fields in headers))
        struct.pack_into(table.order + word, head, at, start)
    except struct.error:
        raise BtfError("too large with its debug sections decompressed", path) from None
    return Decompressed(bytes(head), tail)


def _place(header: tuple[int, ...]) -> tuple[int, int]:
    return header[_OFFSET], header[_OFFSET] + header[_SIZE]
