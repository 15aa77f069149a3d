"""Writes ELF files for tests: 64-bit little-endian, named sections, nothing else.

elf({".BTF": data, ".modinfo": modinfo(name="foo", vermagic="6.1.0 SMP")})
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

SHT_PROGBITS, SHT_STRTAB = 1, 3


def elf(sections: Mapping[str, bytes]) -> bytes:
    """An ELF file of type ET_REL with these sections."""
    contents = {"": b"", **sections, ".shstrtab": b""}
    table = b"\0" + b"".join(name.encode() + b"\0" for name in contents if name)
    contents[".shstrtab"] = table
    body, headers = b"", b""
    for name, content in contents.items():
        offset = 64 + len(body)
        kind = 0 if not name else SHT_STRTAB if name == ".shstrtab" else SHT_PROGBITS
        headers += struct.pack(
            "<IIQQQQIIQQ",
            table.index(name.encode() + b"\0") if name else 0,
            kind, 0, 0, offset, len(content), 0, 0, 1, 0,
        )  # fmt: skip
        body += content + bytes(-len(content) % 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH",
        1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(contents), len(contents) - 1,
    )  # fmt: skip
    return header + body + headers


def modinfo(**entries: str) -> bytes:
    """A ``.modinfo`` section."""
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in entries.items())
