"""Protects: any kind of file gives its bytes or says why not, without hanging or filling memory."""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from btf.files import decompress
from pipeline.files import read
from pipeline.files.read import LargeFile, ReadError, open_content, read_input
from pipeline.model.errors import SourceError
from pipeline.model.records import COMPRESSION, UNREADABLE
from pipeline.sources.listing import find_files

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
    monkeypatch.setattr(decompress, "MAX_DECOMPRESSED_BYTES", 1 << 20)
    path = tmp_path / "file"
    path.write_bytes(COMPRESSIONS[name](bytes(1 << 24)))
    with pytest.raises(ReadError, match="unfolds to more than 1 MiB") as caught:
        read_input(str(path))
    assert caught.value.kind == COMPRESSION


def test_the_nearest_files_are_named(tmp_path: Path) -> None:
    for name in ("kvm-amd.btf", "xfs.btf", "kvm-amd\n.btf"):
        (tmp_path / name).write_bytes(b"x")
    said = r"No such file or directory; the nearest names: kvm-amd\.btf, 'kvm-amd\\n\.btf'$"
    with pytest.raises(ReadError, match=said):
        read_input(str(tmp_path / "kvm_amd.btf"))
    with pytest.raises(ReadError, match=r"No such file or directory$"):
        read_input(str(tmp_path / "none/kvm_amd.btf"))
    with pytest.raises(SourceError, match=r"no such file or folder: .*xfs\.bft; .*: xfs\.btf$"):
        find_files([str(tmp_path / "xfs.bft")])


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


def test_several_streams_and_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for name, squeeze in COMPRESSIONS.items():
        if name != "none":
            path.write_bytes(squeeze(CONTENT) + squeeze(b"more"))
            assert read_input(str(path)) == CONTENT + b"more"
            path.write_bytes(squeeze(CONTENT) + b"junk")
            with pytest.raises(ReadError, match=r"damaged .*: what follows byte \d+") as caught:
                read_input(str(path))
            assert caught.value.kind == COMPRESSION


def test_files_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    """A file with holes has whatever size it says."""
    with (tmp_path / "huge.ko").open("wb") as file:
        file.truncate(200 << 30)
    for read_it in (read_input, lambda path: open_content(path)[:]):
        with pytest.raises(ReadError, match="larger than 1024 MiB") as caught:
            read_it(str(tmp_path / "huge.ko"))
        assert caught.value.kind == UNREADABLE


def test_a_large_file_that_is_cut_off_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read in parts: what is missing is an error, not the end of the process."""
    monkeypatch.setattr(read, "_LARGE_BYTES", 1000)
    path = tmp_path / "vmlinux"
    path.write_bytes(CONTENT)
    found = open_content(str(path))
    assert isinstance(found, LargeFile) and len(found) == len(CONTENT)
    assert found[:4] == CONTENT[:4] and found[100_000:100_100] == CONTENT[100_000:100_100]
    assert found[:] == CONTENT and found[len(CONTENT) :] == b""
    os.truncate(path, 100_050)
    assert found[:4] == CONTENT[:4]
    with pytest.raises(ReadError, match="the file was cut off at 100050 meanwhile") as caught:
        found[100_000:100_100]
    assert caught.value.kind == UNREADABLE
