"""Protects the way from a kernel image to vmlinux: headers, magic numbers, every compressor."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import pytest

import btf
from btf.files import decompress, images
from btf.files.decompress import DecompressError
from btf.format.header import Header
from support.btfwriter import Writer
from support.writers.elfwriter import elf
from support.writers.imagewriter import COMPRESSORS, bzimage, lz4_legacy, with_size, zboot


def btf_bytes() -> bytes:
    w = Writer()
    w.struct("node", 16, [("next", 2, 0)])
    w.ptr(1)
    return w.to_bytes()


def vmlinux(size: int = 100_000) -> bytes:
    """An ELF file with BTF and some ballast that does not compress to nothing."""
    ballast = b"".join(struct.pack("<I", n * 2654435761 & 0xFFFFFFFF) for n in range(size // 4))
    return elf({".BTF": btf_bytes(), ".rodata": ballast})


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_in_every_wrapping(name: str) -> None:
    kernel = vmlinux()
    packed = COMPRESSORS[name](kernel)
    wrapped = {
        "as it is": packed,
        "bzImage": bzimage(packed),
        "bzImage, old set-up": bzimage(packed, setup_sects=0),
        "zboot": zboot(packed, name.encode()),
        "unknown code in front": b"\x13\x37" * 2000 + packed + b"\0" * 64,
    }
    for how, image in wrapped.items():
        assert images.vmlinux_from_image(image) == kernel, how
    assert images.is_image(packed) and images.is_image(wrapped["bzImage"])
    base = btf.load_base(wrapped["bzImage"])
    assert base.find("node", btf.Struct).size == 16
    assert btf.load_base(packed).to_bytes() == btf_bytes()


@pytest.mark.slow
def test_lz4_of_many_blocks() -> None:
    kernel = vmlinux(17 << 20)
    assert images.vmlinux_from_image(bzimage(with_size(lz4_legacy(kernel), kernel))) == kernel
    whole = vmlinux((16 << 20) - (len(kernel) - (17 << 20)))  # full blocks, then the size
    assert len(whole) == 16 << 20
    assert images.vmlinux_from_image(bzimage(with_size(lz4_legacy(whole), whole))) == whole


def test_what_is_no_image_is_left_alone() -> None:
    kernel = vmlinux()
    assert images.vmlinux_from_image(kernel) == kernel
    assert not images.is_image(kernel) and not images.is_image(btf_bytes())
    assert not images.is_image(b"") and not images.is_image(b"\x1f")
    assert btf.load_base(kernel).type_count == btf.load_base(btf_bytes()).type_count == 2


def test_a_header_that_leads_nowhere_is_passed_over() -> None:
    kernel = vmlinux()
    packed = gzip.compress(kernel)
    decoy = gzip.compress(b"IKCFG_ST " * 1000)
    assert images.vmlinux_from_image(bzimage(decoy + packed)) == kernel
    image = bytearray(bzimage(packed))
    struct.pack_into("<II", image, 0x248, 1 << 30, 1 << 30)
    assert images.vmlinux_from_image(bytes(image)) == kernel


@pytest.mark.parametrize("name", COMPRESSORS)
def test_damaged_images(name: str) -> None:
    packed = COMPRESSORS[name](vmlinux())
    with pytest.raises(btf.BtfError, match=r"vmlinuz, kernel image section: no compressed vmlinux"):
        images.vmlinux_from_image(bzimage(packed[: len(packed) // 2]), path="vmlinuz")
    flipped = bytearray(packed)
    flipped[len(flipped) // 3] ^= 0x55
    try:
        found = images.vmlinux_from_image(bytes(flipped))
    except btf.BtfError:
        return
    assert found[:4] == b"\x7fELF", "lz4 has no check sum"


def test_images_without_elf_and_with_lzo() -> None:
    flat = gzip.compress(b"\0" * 64 + os.urandom(1024) * 2048)
    with pytest.raises(btf.UnsupportedError, match="flat binary"):
        images.vmlinux_from_image(flat)
    with pytest.raises(btf.UnsupportedError, match="lzo"):
        images.vmlinux_from_image(b"MZ" + bytes(100) + b"\x89LZO\0\r\n\x1a\n" + bytes(100))
    with pytest.raises(btf.BtfError, match=r"no compressed vmlinux in this file$"):
        images.vmlinux_from_image(b"MZ" + bytes(100))


def flat_kernel(magic: bytes = b"ARMd", content: bytes | None = None) -> bytes:
    """A flat kernel as arm64 boots it: code, a banner, BTF, and things that look like BTF."""
    head = bytearray(os.urandom(512))
    head[0:2], head[56:60] = b"MZ", magic
    decoys = b"\x9f\xeb\x01\0" + bytes(20) + b"\x9f\xeb\x01\0\x18\0\0\0" + b"\xff" * 16
    whole = btf_bytes() if content is None else content
    banner = b"Linux version 6.1.0-1-arm64 (x@y) #1 SMP\0"
    return bytes(head) + decoys + banner + b"\1" * 99 + whole + decoys + b"\1" * (2 << 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, *COMPRESSORS])
def test_btf_of_flat_kernels(name: str | None) -> None:
    """The BTF of a flat kernel is found without sections, be the kernel compressed or not."""
    for magic in (b"ARMd", b"RSC\x05"):
        kernel = flat_kernel(magic)
        image = zboot(COMPRESSORS[name](kernel), name.encode()) if name else kernel
        assert images.is_image(image)
        assert images.btf_from_image(image) == (btf_bytes(), "6.1.0-1-arm64")
        assert btf.load_base(image).to_bytes() == btf_bytes()
        with pytest.raises(btf.UnsupportedError, match="flat binary"):
            images.vmlinux_from_image(image)


def test_big_endian_btf_of_a_flat_kernel() -> None:
    writer = Writer(">")
    writer.int("int", 4)
    kernel = flat_kernel(content=writer.to_bytes())
    assert images.btf_from_image(kernel)[0] == writer.to_bytes()


def test_a_flat_kernel_without_btf() -> None:
    with pytest.raises(btf.NoBtfError, match="holds no BTF"):
        images.btf_from_image(flat_kernel(content=b""))


@pytest.mark.slow
def test_what_unfolds_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "MAX_DECOMPRESSED_BYTES", 1 << 20)
    for name, compress in COMPRESSORS.items():
        packed = compress(bytes(4 << 20))
        with pytest.raises(btf.BtfError, match="unfolds to more than 1 MiB"):
            images.vmlinux_from_image(packed)
            raise AssertionError(name)


def repeated(part: bytes, size: int = 1 << 20) -> bytes:
    """An EFI image of nothing but ``part``."""
    return b"MZ" + bytes(510) + part * (size // len(part))


DECOYS = {
    "magic of gzip": b"\x1f\x8b\x08",
    "gzip with a name without end": b"\x1f\x8b\x08\x08",
    "header of gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    "gzip of nothing": gzip.compress(b""),
    "magic of lz4": b"\x02\x21\x4c\x18",
    "lz4 of one byte": lz4_legacy(b"x"),
    "magic of xz": b"\xfd7zXZ\0\0\x01",
    "header of lzma": b"\x5d\0\0\0\x04" + b"\xff" * 8,
    "magic of zstd": b"\x28\xb5\x2f\xfd",
    "header of bzip2": b"BZh91AY&SY",
    "zeros": gzip.compress(bytes(8 << 20)),
    "magic of ELF": gzip.compress(b"\x7fELF\2\1\1" * 100_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DECOYS)
def test_the_search_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often something looks like a compressed kernel: so many places are tried, and so
    much is decompressed, for all of them together."""
    real, done = decompress.Reader.piece, []

    def counted(self: decompress.Reader, most: int) -> bytes:
        before = self.at
        try:
            found = real(self, most)
        except DecompressError:
            done.append(self.at - before)
            raise
        done.append(self.at - before + len(found))
        return found

    monkeypatch.setattr(decompress.Reader, "piece", counted)
    image = repeated(DECOYS[name])
    with pytest.raises(btf.BtfError, match=r"no compressed vmlinux|damaged ELF|holds no BTF"):
        images.btf_from_image(image)
    assert len(done) <= 2 * images._MAX_PLACES + 200
    assert sum(done) <= images._SMALL_WORK + (images._MAX_RATIO + 1) * len(image) + (2 << 20)


def test_a_kernel_that_its_image_tells_of_is_decompressed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether it has BTF or not; and of a file that is read in parts only parts are read."""
    started, read = [], []
    real = decompress.Compression.first_pieces

    def counted(*arguments: Any) -> Any:
        started.append(arguments)
        return real(*arguments)

    class Parts:
        def __len__(self) -> int:
            return len(image)

        def __getitem__(self, part: slice) -> bytes:
            read.append(len(image[part]))
            return image[part]

    monkeypatch.setattr(decompress.Compression, "first_pieces", counted)
    rodata = b"Linux version 6.1.0-1-amd64 (gcc)\0" + os.urandom(2 << 20)
    for name, sections in (("with", {".BTF": btf_bytes()}), ("without", {})):
        for pack in (gzip.compress, lz4_legacy):
            image = bzimage(pack(elf({**sections, ".rodata": rodata})))
            started.clear()
            read.clear()
            if sections:
                assert btf.open_module(Parts()).release == "6.1.0-1-amd64"
            else:
                with pytest.raises(btf.NoBtfError):
                    btf.open_module(Parts())
            assert len(started) == 1, name
            assert pack is lz4_legacy or max(read) < len(image) // 4


def test_an_elf_file_is_told_by_its_header() -> None:
    """Not by four bytes: neither of the whole content, nor behind set-up code."""
    kernel = vmlinux()
    decoy = b"\x7fELF\2\1\1" + b"no header" * 20_000
    assert (
        images.vmlinux_from_image(repeated(gzip.compress(decoy), 1) + gzip.compress(kernel))
        == kernel
    )
    packed = gzip.compress(decoy + kernel)
    assert images.vmlinux_from_image(packed) == kernel
    with pytest.raises(btf.BtfError, match="damaged ELF file: version"):
        images.btf_from_image(gzip.compress(decoy))


@pytest.mark.parametrize(
    "part", [b"\x9f\xeb\x01\0", b"\x9f\xeb\x01\0\x18\0\0\0" + bytes(15) + b"\1"]
)
def test_decoys_of_btf_in_a_flat_kernel(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    real = images.parse_header

    def counted(view: memoryview) -> Header:
        tried.append(1)
        return real(view)

    monkeypatch.setattr(images, "parse_header", counted)
    kernel = flat_kernel()
    assert images.btf_from_image(kernel + part * 200_000)[0] == btf_bytes()
    assert len(tried) <= 2 * images._MAX_PLACES


def test_a_kernel_image_of_this_machine() -> None:
    """SPLITBTF_VMLINUZ names an image (else /boot/vmlinuz-*): its BTF must be sound, and that of
    SPLITBTF_VMLINUX, the vmlinux of the same build (or its raw BTF), where one is named."""
    given = os.environ.get("SPLITBTF_VMLINUZ")
    found = [Path(given)] if given else sorted(Path("/boot").glob("vmlinuz-*"))[-1:]
    if not found or not os.access(found[0], os.R_OK):
        pytest.skip("no kernel image here that can be read")
    base = btf.load_base(found[0].read_bytes(), path=str(found[0]))
    assert base.find("task_struct", btf.Struct).size > 1000
    built = os.environ.get("SPLITBTF_VMLINUX")
    if built:
        assert base.to_bytes() == btf.load_base(Path(built).read_bytes()).to_bytes()
