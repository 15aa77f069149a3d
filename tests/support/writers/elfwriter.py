"""Writes ELF files for tests: named sections, nothing else, either class and byte order.

elf({".BTF": data, ".modinfo": modinfo(name="foo", vermagic="6.1.0 SMP")})
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS = 1, 2, 3, 4, 8
ET_REL, ET_EXEC = 1, 2
ENTRY_BYTES = {SHT_SYMTAB: {64: 24, 32: 16}, SHT_RELA: {64: 24, 32: 12}}  # by class


def elf(
    sections: Mapping[str, bytes],
    *,
    bits: int = 64,
    order: str = "<",
    kinds: Mapping[str, int] | None = None,
    flags: Mapping[str, int] | None = None,
    links: Mapping[str, tuple[str, str]] | None = None,
    alignments: Mapping[str, int] | None = None,
    file_kind: int = ET_REL,
) -> bytes:
    """An ELF file with these sections, of type PROGBITS unless ``kinds`` says.

    links   the sections that sh_link and sh_info of some mean
    """
    word, header_bytes, entry_bytes = ("Q", 64, 64) if bits == 64 else ("I", 52, 40)
    contents = {"": b"", **sections, ".shstrtab": b""}
    table = b"\0" + b"".join(name.encode() + b"\0" for name in contents if name)
    contents[".shstrtab"] = table
    kind_of = {"": 0, ".shstrtab": SHT_STRTAB, **(kinds or {})}
    body, headers = b"", b""
    for name, content in contents.items():
        body += bytes(-(header_bytes + len(body)) % (alignments or {}).get(name, 1))
        headers += struct.pack(
            f"{order}II{word * 4}II{word * 2}",
            table.index(name.encode() + b"\0") if name else 0,
            kind_of.get(name, SHT_PROGBITS),
            (flags or {}).get(name, 0),
            0,
            header_bytes + len(body),
            len(content),
            *(list(contents).index(linked) for linked in (links or {}).get(name, ("", ""))),
            (alignments or {}).get(name, 1),
            ENTRY_BYTES.get((kinds or {}).get(name, 0), {bits: 0})[bits],
        )
        body += content + bytes(-len(content) % 8)
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    header = ident + struct.pack(
        f"{order}HHI{word * 3}IHHHHHH",
        file_kind, 62 if bits == 64 else 3, 1, 0, 0, header_bytes + len(body),
        0, header_bytes, 0, 0, entry_bytes, len(contents), len(contents) - 1,
    )  # fmt: skip
    return header + body + headers


def symbol_table(
    symbols: Iterable[tuple[str, int, int]], section: int, *, bits: int = 64, order: str = "<"
) -> tuple[bytes, bytes]:
    """``.symtab`` and ``.strtab`` of local symbols (name, offset, size) of one section."""
    table, texts = b"", b"\0"
    for name, offset, size in [("", 0, 0), *symbols]:
        at = len(texts) if name else 0
        texts += name.encode() + b"\0" if name else b""
        if bits == 64:
            table += struct.pack(f"{order}IBBHQQ", at, 0, 0, section, offset, size)
        else:
            table += struct.pack(f"{order}IIIBBH", at, offset, size, 0, 0, section)
    return table, texts


def modinfo(**entries: str) -> bytes:
    """A ``.modinfo`` section."""
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in entries.items())
