"""The BTF header: where the sections are, and in which byte order.

    magic (u16)  version (u8)  flags (u8)  hdr_len (u32)
    type_off  type_len  str_off  str_len              24 bytes, every kernel
    layout_off  layout_len                            32 bytes, since libbpf 1.7 / Linux 7.1

Offsets count from the end of the header. ``hdr_len`` is to be trusted: longer headers are
forward compatible as long as what we do not know is zero.

The layout section has 4 bytes for each kind (``info_sz``, ``elem_sz``, u16 ``flags``): the bytes
after the 12-byte record head, and those of each of the vlen elements. It lets a reader step over
kinds it does not know.
"""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

import numpy as np

from ..errors import BtfError, UnsupportedError
from . import kinds
from .foreign import what_is

MAGIC = 0xEB9F
BYTE_ORDERS = {b"\x9f\xeb": "<", b"\xeb\x9f": ">"}  # by how BTF begins
VERSION = 1
SHORT_HEADER = 24
LONG_HEADER = 32
MAX_STRING_OFFSET = 0x7FFFFFFF
MAX_TYPE_ID = 0x7FFFFFFF
MAX_WORDS = 0xFFFFFFFF  # of types of all levels together: where they begin are uint32


class Header(NamedTuple):
    """A checked header. All lengths and offsets are in bytes; offsets are from the file's start."""

    byteorder: str
    flags: int
    header_bytes: int
    type_start: int
    type_bytes: int
    string_start: int
    string_bytes: int
    layout_start: int
    layout_bytes: int
    has_layout_fields: bool


def parse_header(data: memoryview, path: str | None = None) -> Header:
    """Read and check the header of ``data``.

    Raises BtfError when it is not BTF, or sections overlap, leave the file or are misaligned.
    """

    def fail(message: str, offset: int | None = None) -> BtfError:
        return BtfError(message, path, "header", offset)

    size = len(data)
    if size == 0:
        raise fail("the file is empty; expected BTF (magic 0xeb9f)")
    if size < 4:
        raise fail(f"only {size} bytes; a BTF header has at least {SHORT_HEADER}")
    magic = bytes(data[:2])
    order = BYTE_ORDERS.get(magic)
    if order is None:
        what = what_is(data)
        hint = f": {what}" if what is not None else ""
        raise fail(f"not BTF: magic is {magic.hex()}, expected 9feb or eb9f{hint}", 0)
    byteorder = "little" if order == "<" else "big"
    if size < SHORT_HEADER:
        raise fail(f"truncated: {size} bytes; a BTF header has at least {SHORT_HEADER}")
    version, flags, header_bytes, type_off, type_len, str_off, str_len = struct.unpack_from(
        order + "BBI4I", data, 2
    )
    if version != VERSION:
        raise fail(f"BTF version {version}; only version {VERSION} is known", 2)
    if header_bytes < SHORT_HEADER:
        raise fail(f"hdr_len is {header_bytes}; at least {SHORT_HEADER} expected", 4)
    if header_bytes > size:
        raise fail(f"hdr_len is {header_bytes}, but the file has {size} bytes", 4)
    layout_off = layout_len = 0
    has_layout_fields = header_bytes >= LONG_HEADER
    if has_layout_fields:
        layout_off, layout_len = struct.unpack_from(order + "2I", data, SHORT_HEADER)
    known = LONG_HEADER if has_layout_fields else SHORT_HEADER
    if any(data[known:header_bytes]):
        raise fail(f"hdr_len is {header_bytes} and bytes beyond {known} are in use: unknown format")

    left = size - header_bytes
    for name, field, offset, length in (
        ("type", 8, type_off, type_len),
        ("string", 16, str_off, str_len),
        ("layout", 24, layout_off, layout_len),
    ):
        if offset + length > left:
            raise fail(
                f"{name} section ({length} bytes at {offset}) ends beyond the file "
                f"({left} bytes after the header): truncated?",
                field,
            )
    if type_off % 4:
        raise fail(f"type section at {type_off} is not aligned to 4 bytes", 8)
    if type_len % 4:
        raise fail(f"type section has {type_len} bytes, not a multiple of 4", 12)
    if type_off + type_len > str_off:
        raise fail(
            f"type section ({type_len} bytes at {type_off}) overlaps strings at {str_off}", 8
        )
    if layout_len:
        if layout_off % 4 or layout_len % 4:
            raise fail(f"layout section ({layout_len} bytes at {layout_off}) is misaligned", 24)
        if layout_off < type_off + type_len or layout_off + layout_len > str_off:
            raise fail(
                f"layout section ({layout_len} bytes at {layout_off}) is not between "
                f"types and strings",
                24,
            )
    if str_len - 1 > MAX_STRING_OFFSET:
        raise fail(f"string section has {str_len} bytes", 20)
    return Header(
        byteorder=byteorder,
        flags=flags,
        header_bytes=header_bytes,
        type_start=header_bytes + type_off,
        type_bytes=type_len,
        string_start=header_bytes + str_off,
        string_bytes=str_len,
        layout_start=header_bytes + layout_off,
        layout_bytes=layout_len,
        has_layout_fields=has_layout_fields,
    )


def check_total(type_end: int, words: int, str_end: int, path: str | None = None) -> None:
    """Raise UnsupportedError for BTF that is, with all that it continues, larger than type ids,
    string offsets and positions of 32 bits can count. All sums of sizes of levels rely on it.

    type_end, words, str_end   types (void included), words of types and bytes of strings, in all
    """
    for size, limit, what in (
        (type_end - 1, MAX_TYPE_ID, "types"),
        (words, MAX_WORDS, "words of types"),
        (str_end - 1, MAX_STRING_OFFSET, "bytes of strings"),
    ):
        if size > limit:
            raise UnsupportedError(f"too many {what}: {size}, at most {limit} can be counted", path)


@functools.lru_cache(maxsize=16)
def kind_words(layout: bytes, path: str | None = None) -> np.ndarray:
    """Return the words of each kind's record: int32 array of shape (KIND_COUNT, 2).

    Column 0 is the words after the record head, column 1 those of one element; -1 in column 0
    where neither we nor ``layout`` know the kind. Kinds we know are taken from our own table.
    """
    words = np.full((kinds.KIND_COUNT, 2), -1, np.int32)
    for kind in range(1, kinds.MAX_KIND + 1):
        words[kind] = kinds.FIXED_WORDS[kind], kinds.ELEMENT_WORDS[kind]
    for kind in range(kinds.MAX_KIND + 1, min(len(layout) // 4, kinds.KIND_COUNT)):
        info_bytes, element_bytes = layout[4 * kind], layout[4 * kind + 1]
        if info_bytes % 4 or element_bytes % 4:
            raise BtfError(
                f"kind {kind} is laid out in {info_bytes} + {element_bytes} bytes, "
                "not multiples of 4",
                path,
                "layout",
                4 * kind,
            )
        words[kind] = info_bytes // 4, element_bytes // 4
    words.setflags(write=False)
    return words


def pack(
    byteorder: str,
    flags: int,
    types: bytes | memoryview,
    strings: bytes | memoryview,
    layout: bytes = b"",
) -> bytes:
    """A whole BTF file: header, types, (layout,) strings; a 24-byte header if it has no layout.

    types, strings   the sections, one byte an element
    """
    order = "<" if byteorder == "little" else ">"
    header_bytes = LONG_HEADER if layout else SHORT_HEADER
    fields = [len(types), len(types) + len(layout), len(strings)]
    head = struct.pack(
        order + "HBBI4I", MAGIC, VERSION, flags, header_bytes, 0, fields[0], fields[1], fields[2]
    )
    if layout:
        head += struct.pack(order + "2I", len(types), len(layout))
    return b"".join((head, types, layout, strings))
