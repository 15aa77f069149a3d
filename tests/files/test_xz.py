"""Protects: blocks decompressed side by side give what one reader gives; nothing else is tried."""

from __future__ import annotations

import errno
import io
import lzma
import random
import shutil
import struct
import subprocess
import threading
import tracemalloc
import zlib
from pathlib import Path
from unittest.mock import Mock

import pytest

from btf.files.decompress import DecompressError
from pipeline.files import xz

needs_xz = pytest.mark.skipif(shutil.which("xz") is None, reason="xz is not installed")
CONTENT = random.Random(5).randbytes(100_000) + bytes(3_000_000) + b"end" * 50_001


def squeezed(content: bytes, *options: str) -> bytes:
    """What the xz program makes of it, in blocks of 256 KiB."""
    command = ["xz", "-c", "-2", "-T2", "--block-size=262144", *options]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def opened(
    data: bytes, before: bytes = b"", after: bytes = b"", folder: Path | None = None
) -> io.BufferedReader | None:
    file = io.BytesIO(before + data + after)
    return xz.open_blocks(file, len(before), len(data), str(folder) if folder else None)


@needs_xz
@pytest.mark.parametrize(
    "options", [(), ("--check=sha256",), ("--check=none",), ("--x86", "--lzma2")]
)
def test_blocks_give_the_content(options: tuple[str, ...]) -> None:
    data = squeezed(CONTENT, *options)
    assert lzma.decompress(data) == CONTENT
    for before, after in ((b"", b""), (b"ar header", b"\n")):
        reader = opened(data, before, after)
        assert reader is not None
        with reader:
            assert reader.read(10) + reader.read() == CONTENT and reader.read() == b""


@needs_xz
def test_others_may_read_the_same_file() -> None:
    data = squeezed(CONTENT)
    file = io.BytesIO(data)
    reader = xz.open_blocks(file, 0, len(data))
    assert reader is not None
    parts = []
    while part := reader.read(100_000):
        parts.append(part)
        file.seek(random.Random(len(parts)).randrange(len(data)))
    assert b"".join(parts) == CONTENT
    reader.close()


@needs_xz
def test_memory_is_that_of_a_few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are decompressed as they are read, not all at once."""
    read = []
    real = xz._alone
    monkeypatch.setattr(xz, "_alone", lambda *a: read.append(1) or real(*a))  # type: ignore[func-returns-value]
    reader = opened(squeezed(bytes(20 << 20)))
    assert reader is not None
    reader.read(1)
    assert 1 <= len(read) <= xz._MAX_THREADS, "of 80"
    reader.close()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("xz")]
    assert not threads


@pytest.mark.slow
@needs_xz
@pytest.mark.parametrize("room", [True, False])
def test_blocks_beside_the_first_are_not_kept_in_memory(
    room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But where the disk has no room for them, when they are read all the same."""
    data, full = squeezed(bytes(64 << 20), "--block-size=16777216"), OSError(errno.ENOSPC, "full")
    if not room:
        monkeypatch.setattr(xz, "write_all", Mock(side_effect=full))
    reader, size = opened(data, folder=tmp_path), 0
    assert reader is not None
    tracemalloc.start()
    with reader:
        while part := reader.read(1 << 20):
            size += len(part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 64 << 20
    assert not room or peak < 16 << 20


def test_what_has_one_block_is_left_to_others() -> None:
    assert opened(lzma.compress(CONTENT)) is None
    assert opened(lzma.compress(b"")) is None
    assert opened(b"") is None and opened(b"x" * 100) is None


@needs_xz
def test_streams_one_after_the_other_are_left_to_others() -> None:
    data = squeezed(CONTENT)
    for unusual in (data + data, data + bytes(4), data[:-4], data[4:], lzma.compress(b"") + data):
        assert opened(unusual) is None


@pytest.mark.slow
@needs_xz
def test_damage_is_found() -> None:
    """Every byte counts: a changed one shows when it is opened or when it is read."""
    data = squeezed(CONTENT[:600_000])
    places = random.Random(3).sample(range(len(data)), 150)
    for at in [0, 7, 8, 11, 12, 13, len(data) - 1, len(data) - 5, len(data) - 20, *places]:
        changed = bytearray(data)
        changed[at] ^= 0x40
        reader = opened(bytes(changed))
        if reader is None:
            continue
        with reader, pytest.raises(DecompressError):
            reader.read()


def test_an_index_that_lies_is_not_believed() -> None:
    """Made by hand: a sound footer and an index that promises too much."""
    data = lzma.compress(CONTENT)
    index = b"\0" + xz._number(1 << 40) + b"\0\0"
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    footer = struct.pack("<I", len(index) // 4 - 1) + data[6:8]
    footer = struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ"
    assert opened(data[:12] + index + footer) is None


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 40])
def test_numbers(value: int) -> None:
    assert list(xz.numbers(xz._number(value) * 2)) == [value, value]
