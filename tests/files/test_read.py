"""Protects: any kind of file gives its bytes or says why not, without hanging or filling memory."""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pipeline.files import read
from pipeline.files.read import ReadError, read_input
from pipeline.model.records import COMPRESSION, UNREADABLE

CONTENT = bytes(range(256)) * 1000
STREAMED = zstandard.ZstdCompressor(write_content_size=False)


def compressed_stream(data: bytes) -> bytes:
    stream = STREAMED.compressobj()
    return stream.compress(data) + stream.flush()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd without size": compressed_stream,
    "xz": lzma.compress,
    "gzip": gzip.compress,
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_content_comes_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"x", CONTENT):
        path.write_bytes(COMPRESSIONS[name](content))
        assert read_input(str(path)) == content


@pytest.mark.parametrize("name", [name for name in COMPRESSIONS if name != "none"])
def test_truncated(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(COMPRESSIONS[name](CONTENT)[:-9])
    with pytest.raises(ReadError, match="damaged") as caught:
        read_input(str(path))
    assert caught.value.kind == COMPRESSION


@pytest.mark.parametrize("name", [name for name in COMPRESSIONS if name != "none"])
def test_bomb(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_DECOMPRESSED_BYTES", 1 << 20)
    path = tmp_path / "file"
    path.write_bytes(COMPRESSIONS[name](bytes(1 << 24)))
    with pytest.raises(ReadError, match="unfolds to more than 1 MiB") as caught:
        read_input(str(path))
    assert caught.value.kind == COMPRESSION


def test_what_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    reasons = {
        "pipe": "no regular file",
        "dangling": "No such file or directory \\(a symbolic link to 'nowhere'\\)",
        "loop": "symbolic link",
        "missing": "No such file",
        ".": "this is a folder",
    }
    for name, reason in reasons.items():
        with pytest.raises(ReadError, match=reason) as caught:
            read_input(str(tmp_path / name))
        assert caught.value.kind == UNREADABLE


def test_files_that_lie_about_their_size() -> None:
    assert b"Name:" in read_input("/proc/self/status")
