"""Writes ELF files for tests: named sections, nothing else, either class and byte order.

elf({".BTF": data, ".modinfo": modinfo(name="foo", vermagic="6.1.0 SMP")})
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

SHT_PROGBITS, SHT_STRTAB, SHT_NOBITS = 1, 3, 8


def elf(
    sections: Mapping[str, bytes],
    *,
    bits: int = 64,
    order: str = "<",
    kinds: Mapping[str, int] | None = None,
    flags: Mapping[str, int] | None = None,
) -> bytes:
    """An ELF file of type ET_REL with these sections, of type PROGBITS unless ``kinds`` says."""
    word, header_bytes, entry_bytes = ("Q", 64, 64) if bits == 64 else ("I", 52, 40)
    contents = {"": b"", **sections, ".shstrtab": b""}
    table = b"\0" + b"".join(name.encode() + b"\0" for name in contents if name)
    contents[".shstrtab"] = table
    kind_of = {"": 0, ".shstrtab": SHT_STRTAB, **(kinds or {})}
    body, headers = b"", b""
    for name, content in contents.items():
        headers += struct.pack(
            f"{order}II{word * 4}II{word * 2}",
            table.index(name.encode() + b"\0") if name else 0,
            kind_of.get(name, SHT_PROGBITS),
            (flags or {}).get(name, 0),
            0,
            header_bytes + len(body),
            len(content),
            0, 0, 1, 0,
        )  # fmt: skip
        body += content + bytes(-len(content) % 8)
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    header = ident + struct.pack(
        f"{order}HHI{word * 3}IHHHHHH",
        1, 62 if bits == 64 else 3, 1, 0, 0, header_bytes + len(body),
        0, header_bytes, 0, 0, entry_bytes, len(contents), len(contents) - 1,
    )  # fmt: skip
    return header + body + headers


def modinfo(**entries: str) -> bytes:
    """A ``.modinfo`` section."""
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in entries.items())
