"""Protects: compressed data are read to their end, all streams of them; what else is there is an
error that says where; and nothing decompresses to more than the limit, however it is written."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
from collections.abc import Callable

import pytest
import zstandard

from btf.files import decompress
from btf.files.decompress import BZIP2, GZIP, XZ, ZSTD, Compression, DecompressError, Reader

CONTENT = random.Random(7).randbytes(60_000) + bytes(940_000)
SKIPPED = b"\x5a\x2a\x4d\x18\4\0\0\0skip"  # a frame of zstd that holds no content


def zstd_stream(data: bytes) -> bytes:
    stream = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compressobj()
    return stream.compress(data) + stream.flush()


KINDS: dict[str, tuple[Compression, Callable[[bytes], bytes]]] = {
    "gzip": (GZIP, gzip.compress),
    "xz": (XZ, lzma.compress),
    "bzip2": (BZIP2, bz2.compress),
    "zstd": (ZSTD, zstandard.ZstdCompressor(write_checksum=True).compress),
    "zstd without size": (ZSTD, zstd_stream),
}
every = pytest.mark.parametrize("name", KINDS)


def whole(compression: Compression, data: bytes) -> bytes:
    """Decompressed in memory and from a file, which must be the same."""
    in_memory = compression.decompress(data)
    with io.BufferedReader(Reader(compression, io.BytesIO(data)), 1000) as file:
        assert file.read() == in_memory
    return in_memory


def refused(compression: Compression, data: bytes) -> str:
    with pytest.raises(DecompressError) as caught:
        compression.decompress(data)
    with pytest.raises(DecompressError) as streamed:
        Reader(compression, io.BytesIO(data)).readall()
    assert caught.value.message == streamed.value.message
    return caught.value.message


@every
def test_all_streams_are_read(name: str) -> None:
    compression, squeeze = KINDS[name]
    one, none = squeeze(CONTENT), squeeze(b"")
    assert whole(compression, one) == CONTENT and whole(compression, none) == b""
    assert whole(compression, one + none + one + squeeze(b"x")) == CONTENT + CONTENT + b"x"
    assert whole(compression, none + one) == CONTENT
    assert whole(compression, squeeze(b"y") * 5000) == b"y" * 5000
    if compression is ZSTD:
        assert whole(compression, one + SKIPPED + one + SKIPPED) == CONTENT + CONTENT


@every
def test_padding_is_taken_where_the_format_knows_it(name: str) -> None:
    compression, squeeze = KINDS[name]
    one = squeeze(CONTENT)
    for zeros in (1, 4, 9, 512, 1_000_000):
        data = one + bytes(zeros)
        if compression is GZIP or (compression is XZ and zeros % 4 == 0):
            assert whole(compression, data) == CONTENT
            assert whole(compression, data + squeeze(b"z")) == CONTENT + b"z"
        else:
            place = f"what follows byte {len(one)} is neither compressed data nor padding"
            assert refused(compression, data) == place


@every
@pytest.mark.parametrize("rest", [b"x", b"\1\0", b"trailing", bytes(8) + b"x", b"\n" * 300_000])
def test_what_follows_is_an_error_with_its_place(name: str, rest: bytes) -> None:
    compression, squeeze = KINDS[name]
    one, two = squeeze(CONTENT), squeeze(b"y" * 1000)
    for data in (one, one + two, two):
        assert f"what follows byte {len(data)} is neither" in refused(compression, data + rest)


@every
def test_device_trees_may_follow(name: str) -> None:
    """Image.gz-dtb: a kernel with the device trees of its boards behind it, and nothing else. In
    packages, which are read as files, they may not."""
    compression, squeeze = KINDS[name]
    one, tree = squeeze(CONTENT), b"\xd0\x0d\xfe\xed" + struct.pack(">I", 48) + bytes(40)
    for rest in (tree, tree * 3):
        assert compression.decompress(one + squeeze(b"y") + rest) == CONTENT + b"y"
    cut, small = tree[:-1], tree[:4] + struct.pack(">I", 39) + bytes(31)
    for rest in (cut, tree + cut, small, tree + b"x", tree + bytes(8), tree[:4], tree + one):
        with pytest.raises(DecompressError, match=f"what follows byte {len(one)} is neither"):
            compression.decompress(one + rest)


@every
def test_data_that_are_cut_off(name: str) -> None:
    compression, squeeze = KINDS[name]
    one = squeeze(CONTENT)
    for data, least in ((one, 8), (one + one, len(one) + 8)):
        for end in (least, least + 3, len(data) // 2 + 99, len(data) - 9, len(data) - 1):
            if end > least or compression is not XZ:
                assert "ends before the compressed data does" in refused(compression, data[:end])


@every
def test_changed_data(name: str) -> None:
    """Here all formats have check sums."""
    compression, squeeze = KINDS[name]
    one = squeeze(CONTENT)
    for at in random.Random(1).sample(range(20, len(one)), 10):
        changed = bytearray(one)
        changed[at] ^= 0x20
        assert refused(compression, bytes(changed))


@pytest.mark.slow
@every
def test_no_way_in_gives_more_than_the_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compression, squeeze = KINDS[name]
    monkeypatch.setattr(decompress, "MAX_DECOMPRESSED_BYTES", 1 << 20)
    exactly = squeeze(bytes(1 << 19))
    assert compression.decompress(exactly + exactly) == bytes(1 << 20)
    for data in (squeeze(bytes(1 << 24)), exactly * 3, exactly + exactly + squeeze(b"x")):
        with pytest.raises(DecompressError, match="unfolds to more than 1 MiB") as caught:
            compression.decompress(data)
        assert caught.value.too_large
    monkeypatch.undo()
    assert decompress.limit_of(1000) == (64 << 20) + 200_000


@every
def test_pieces_are_small_whatever_they_are_made_of(name: str) -> None:
    compression, squeeze = KINDS[name]
    total = (64 if compression is ZSTD else 8) << 20
    reader = Reader(compression, io.BytesIO(squeeze(bytes(total))))
    sizes = []
    while piece := reader.piece(1000):
        sizes.append(len(piece))
    assert sum(sizes) == total
    assert max(sizes) <= (1000 if compression is not ZSTD else 16 << 20)


def test_a_size_that_is_promised_is_not_allocated() -> None:
    frame = b"\x28\xb5\x2f\xfd\xa0" + (1 << 29).to_bytes(4, "little") + b"\1\0\0"
    with pytest.raises(DecompressError):
        ZSTD.decompress(frame)
