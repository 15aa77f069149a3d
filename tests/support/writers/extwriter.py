"""Writes ``.BTF.ext`` for tests, sound or broken, without any of the library's own code.

A part is a list of sections of code, each (string offset of its name, records); a record is a list
of words, as many as the part's record size says or fewer (the rest is filled up).

    write("<", func=[(name, [[0, func_id]])], line=[(name, [[0, file, text, 12 << 10 | 3]])])
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

Section = tuple[int, Sequence[Sequence[int]]]
FILL = 0xDEADBEEF


def part(order: str, sections: Sequence[Section], record_bytes: int) -> bytes:
    if not sections:
        return b""
    out = struct.pack(order + "I", record_bytes)
    for name, records in sections:
        out += struct.pack(order + "2I", name, len(records))
        for record in records:
            words = [*record, *[FILL] * (record_bytes // 4 - len(record))]
            out += struct.pack(f"{order}{len(words)}I", *words)
    return out


def write(
    order: str = "<",
    func: Sequence[Section] = (),
    line: Sequence[Section] = (),
    core: Sequence[Section] = (),
    record_bytes: tuple[int, int, int] = (8, 16, 16),
    header_bytes: int = 32,
    **fields: int,
) -> bytes:
    """A section. ``fields`` overrides what the header says: magic, version, flags, hdr_len,
    func_off, func_len, line_off, line_len, core_off, core_len."""
    bodies = [part(order, *given) for given in zip((func, line, core), record_bytes, strict=True)]
    header = {"magic": 0xEB9F, "version": 1, "flags": 0, "hdr_len": header_bytes}
    at = 0
    for name, body in zip(("func", "line", "core"), bodies, strict=True):
        header |= {f"{name}_off": at, f"{name}_len": len(body)}
        at += len(body)
    unknown = set(fields) - set(header)
    assert not unknown, unknown
    header |= fields
    packed = struct.pack(order + "HBB7I", *header.values())
    return packed[:header_bytes].ljust(header_bytes, b"\0") + b"".join(bodies)
