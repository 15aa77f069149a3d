"""Compression of files: in the way in which another one was compressed, or of a stream.

The kernel decompresses modules itself where it is built to (CONFIG_MODULE_DECOMPRESS), with little
memory and without some check sums. So what the stored file says of itself is kept: check sum,
dictionary and filters of xz; zstd gets a check sum and the content's size, as from ``zstd`` itself.
Nothing is written that tells when it was: the same content gives the same file.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from typing import Any, Protocol

from btf.files.decompress import FOR_PACKAGES, GZIP, XZ, ZSTD, Compression, find

from .xz import numbers

_XZ_HEADER_BYTES = 12
_LZMA2, _X86 = 0x21, 4
_BCJ = range(_X86, 10)  # filters for machine code, by their numbers in the file
_PRESET = 6  # what xz takes by itself, and the kernel's build with it
_ZSTD_LEVEL = 19
_GZIP_LEVEL = 9
# What the kernel's build asks of xz for modules (scripts/Makefile.modinst).
_CHECK, _DICTIONARY_BYTES = lzma.CHECK_CRC32, 1 << 20


def compress_like(data: bytes, stored: bytes) -> bytes:
    """Compress ``data`` as the file that begins with ``stored`` is compressed; not at all if that
    one is not."""
    compression = find(stored, FOR_PACKAGES)
    if compression is XZ:
        check, filters = _xz_options(stored, len(data))
        return lzma.compress(data, lzma.FORMAT_XZ, check, None, filters)
    if compression is ZSTD:
        compressed: bytes = _zstd().compress(data)
        return compressed
    if compression is GZIP:
        return gzip.compress(data, _GZIP_LEVEL, mtime=0)
    return data


def _xz_options(stored: bytes, size: int) -> tuple[int, list[dict[str, Any]]]:
    """Return the check sum and the filters of an xz file's first block (the .xz file format,
    2.1.1.2 and 3.1); those of the kernel's build for what is not known.

    stored   the file, which can be decompressed
    size     bytes that are to be compressed: a larger dictionary only takes memory
    """
    flags = stored[_XZ_HEADER_BYTES + 1]
    fields = numbers(stored[_XZ_HEADER_BYTES + 2 : _XZ_HEADER_BYTES + 64])
    for bit in (0x40, 0x80):  # sizes of the block
        if flags & bit:
            next(fields)
    filters: list[dict[str, Any]] = []
    for _ in range((flags & 3) + 1):
        number, properties = next(fields), next(fields)
        if number in _BCJ and not properties:
            filters.append({"id": number})
        elif number == _LZMA2:
            exponent = next(fields)
            most = max(_DICTIONARY_BYTES, 1 << size.bit_length())
            dictionary = min((2 | exponent & 1) << exponent // 2 + 11, most)
            filters.append({"id": number, "preset": _PRESET, "dict_size": dictionary})
        else:
            default = {"id": _LZMA2, "preset": _PRESET, "dict_size": _DICTIONARY_BYTES}
            return _CHECK, [default]
    return stored[7] & 0xF, filters


class Compressor(Protocol):
    """Compresses a stream, piece by piece."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Stored:
    """No compression."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor_of(compression: Compression | None) -> Compressor:
    """Return what compresses a stream with XZ, ZSTD or GZIP, as the programs of these names do; not
    at all with None."""
    if compression is XZ:
        return lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC64)
    if compression is ZSTD:
        return _zstd().compressobj()  # type: ignore[no-any-return]
    if compression is GZIP:
        return zlib.compressobj(_GZIP_LEVEL, wbits=31)
    assert compression is None
    return _Stored()


def _zstd() -> Any:
    import zstandard  # late: most files are not

    return zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True, write_content_size=True)
