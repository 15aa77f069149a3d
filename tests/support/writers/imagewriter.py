"""Writes kernel images for tests: every compressor, in every wrapping."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable

import lz4.block
import zstandard


def lz4_legacy(data: bytes, block: int = 8 << 20) -> bytes:
    """What ``lz4 -l`` writes."""
    parts = [b"\x02\x21\x4c\x18"]
    for start in range(0, len(data), block):
        packed = lz4.block.compress(data[start : start + block], store_size=False)
        parts += [struct.pack("<I", len(packed)), packed]
    return b"".join(parts)


def with_size(packed: bytes, data: bytes) -> bytes:
    """The kernel's build appends the unfolded size."""
    return packed + struct.pack("<I", len(data))


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": lambda data: with_size(bz2.compress(data), data),
    "lzma": lambda data: with_size(lzma.compress(data, lzma.FORMAT_ALONE), data),
    "xz": lambda data: with_size(
        lzma.compress(
            data,
            check=lzma.CHECK_CRC32,
            filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 32 << 20}],
        ),
        data,
    ),
    "lz4": lambda data: with_size(lz4_legacy(data), data),
    "zstd": lambda data: with_size(zstandard.ZstdCompressor(level=19).compress(data), data),
    "zstd-stream": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
}


def bzimage(
    payload: bytes, setup_sects: int = 27, head: bytes = b"\x90" * 300, version: bytes = b""
) -> bytes:
    """A bzImage as far as the boot protocol goes: set-up code, decompressor, payload, the rest."""
    setup = bytearray(512 * ((setup_sects or 4) + 1))
    setup[0:2] = b"MZ"
    setup[0x1F1] = setup_sects
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    struct.pack_into("<II", setup, 0x248, len(head), len(payload))
    if version:
        struct.pack_into("<H", setup, 0x20E, 0x400)  # from 0x200 on
        setup[0x600 : 0x600 + len(version)] = version
    return bytes(setup) + head + payload + b"\xcc" * 500


def zboot(payload: bytes, name: bytes) -> bytes:
    """An EFI zboot image."""
    head = struct.pack("<4s4sII8s32s", b"MZ\0\0", b"zimg", 128, len(payload), b"", name)
    return head.ljust(128, b"\0") + payload + bytes(200)
