"""Protects: a file is compressed as another one was, whatever that one says of itself."""

from __future__ import annotations

import lzma
from typing import Any

import pytest

from pipeline.files.compress import compress_like

DATA = b"data" * 100_000
LZMA2, X86, DELTA = lzma.FILTER_LZMA2, lzma.FILTER_X86, lzma.FILTER_DELTA


def options(file: bytes) -> tuple[int, bytes]:
    """Of an xz file the check sum, and the header of its first block as far as filters go."""
    return file[7], file[13:24].rstrip(b"\0")


@pytest.mark.parametrize("check", [lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_CRC64])
@pytest.mark.parametrize("size", [4096, 96 << 10, 1 << 20])
@pytest.mark.parametrize("machine_code", [False, True])
def test_options_of_xz_stay(check: int, size: int, machine_code: bool) -> None:
    filters: list[dict[str, Any]] = [{"id": X86}] if machine_code else []
    filters += [{"id": LZMA2, "preset": 0, "dict_size": size}]
    stored = lzma.compress(b"x" * 5000, check=check, filters=filters)
    made = compress_like(DATA, stored)
    assert lzma.decompress(made) == DATA
    assert options(made)[0] == check
    assert made[13] & 3 == machine_code and made[14:19] == stored[14:19]


def test_a_dictionary_is_no_larger_than_the_data() -> None:
    """Else a small file would take hundreds of MB: this is what ``xz -9`` writes for any file."""
    stored = lzma.compress(b"x", filters=[{"id": LZMA2, "dict_size": 1536 << 20, "preset": 0}])
    made = compress_like(DATA, stored)
    smallest = lzma.LZMADecompressor(memlimit=4 << 20)
    assert smallest.decompress(made) == DATA


def test_other_filters_are_those_of_the_kernel() -> None:
    filters = [{"id": DELTA, "dist": 4}, {"id": LZMA2, "preset": 0}]
    made = compress_like(DATA, lzma.compress(b"x", filters=filters))
    assert options(made) == options(
        lzma.compress(DATA, check=lzma.CHECK_CRC32, filters=[{"id": LZMA2, "dict_size": 1 << 20}])
    )


def test_what_is_not_compressed_is_not() -> None:
    assert compress_like(DATA, b"\x7fELF") == DATA
