"""Protects: a kernel is found in whatever it is wrapped in, compressed or not, and nothing else
that lies beside it is taken for one."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable

import pytest

import btf
from btf.files import images
from support.btfwriter import Writer
from support.writers.debwriter import tar
from support.writers.elfwriter import elf, modinfo
from support.writers.imagewriter import COMPRESSORS
from support.writers.rpmwriter import entry

RELEASE = "6.6.32-vendor"


def types(order: str = "<") -> bytes:
    writer = Writer(order)
    writer.struct("node", 16, [("next", 2, 0)])
    writer.ptr(1)
    return writer.to_bytes()


VDSO = elf({".text": b"v" * 400})
MODULE = elf({".BTF": types()[:60], ".modinfo": modinfo(name="m")})
RAMDISK = gzip.compress(entry("bin/sh", VDSO) + entry("m.ko", MODULE) + os.urandom(1 << 20))


def flat(order: str = "<", content: bytes | None = None) -> bytes:
    """Flat code with a vDSO, the four bytes of ELF in an instruction, a banner, and BTF."""
    banner = f"\0Linux version {RELEASE} (x@y) #1 SMP\0".encode()
    code = b"\x13\x37" * 5000 + b"\x7fELF\x14\x00" + b"\x13" * 1000 + VDSO
    return code + banner + (types(order) if content is None else content) + b"\1" * (1 << 20)


def uimage(kernel: bytes) -> bytes:
    head = struct.pack(">IIIIIIIBBBB32s", 0x27051956, 0, 0, len(kernel), 0, 0, 0, 5, 22, 2, 0, b"k")
    return head + kernel


def fit(kernel: bytes) -> bytes:
    """A device tree with other data before and after, as far as the search goes."""
    return struct.pack(">10I", 0xD00DFEED, 0, 56, 0, 40, 17, 16, 0, 0, 0) + RAMDISK + kernel


def boot_img(version: int) -> Callable[[bytes], bytes]:
    def image(kernel: bytes) -> bytes:
        page = 4096 if version > 2 else 2048
        if version > 2:  # sizes of kernel and ramdisk, ..., version at 40
            head = struct.pack("<8sIII20xI", b"ANDROID!", len(kernel), len(RAMDISK), 0, version)
        else:
            head = struct.pack("<8s8I", b"ANDROID!", len(kernel), 0, len(RAMDISK), 0, 0, 0, 0, page)
        parts = (head, kernel, RAMDISK)
        return b"".join(part + bytes(-len(part) % page) for part in parts)

    return image


def zimage(kernel: bytes) -> bytes:
    """ARM's: no-ops, the magic number, a decompressor, the kernel."""
    head = b"\0\0\xa0\xe1" * 8 + b"\x1c\0\0\xea" + struct.pack("<III", 0x016F2818, 0, 9999)
    return head + b"\x90" * 3000 + kernel + b"\x90" * 64


def s390x(kernel: bytes) -> bytes:
    return (b"\0\x08\0\0\x80\0" + b"\x18" * 999).ljust(0x10008, b"\0") + b"S390EP" + kernel


def elf_wrapper(kernel: bytes) -> bytes:
    """As powerpc's zImage and MIPS's vmlinuz."""
    return elf({".text": b"x" * 100, ".kernel:vmlinux.strip": kernel})


WRAPPERS: dict[str, Callable[[bytes], bytes]] = {
    "uImage": uimage, "FIT": fit, "zImage": zimage, "s390x": s390x, "ELF": elf_wrapper,
    **{f"boot.img v{version}": boot_img(version) for version in range(5)},
    "boot.img of a zImage": lambda kernel: boot_img(3)(zimage(kernel)),
    "uImage of a zImage": lambda kernel: uimage(zimage(kernel)),
    "code in front": lambda kernel: b"\x55\xaa" * 3000 + kernel,
}  # fmt: skip
BANNER = f"Linux version {RELEASE} (".encode()
CASES = [*((w, c) for w in WRAPPERS for c in ("none", "gzip")), ("zImage", "xz"), ("FIT", "lz4")]


def packed(kernel: bytes, compression: str) -> bytes:
    return kernel if compression == "none" else COMPRESSORS[compression](kernel)


@pytest.mark.parametrize(("wrapper", "compression"), CASES)
def test_a_kernel_in_every_wrapper(wrapper: str, compression: str) -> None:
    order = ">" if wrapper == "s390x" else "<"
    image = WRAPPERS[wrapper](packed(flat(order), compression))
    assert images.btf_from_image(image) == (types(order), RELEASE)
    assert btf.load_base(image).to_bytes() == types(order)
    assert wrapper in ("ELF", "code in front") or images.is_image(image)
    vmlinux = elf({".BTF": types(order), ".rodata": BANNER, ".x": os.urandom(99)})
    image = WRAPPERS[wrapper](packed(vmlinux, compression))
    assert images.btf_from_image(image) == (types(order), RELEASE)
    assert images.vmlinux_from_image(image)[:4] == b"\x7fELF"


@pytest.mark.parametrize("inner", ["zImage", "s390x", "uImage"])
def test_compressed_once_more(inner: str) -> None:
    """An image that holds a compressed kernel, compressed in another one, as far as that goes."""
    order = ">" if inner == "s390x" else "<"
    image = WRAPPERS[inner](gzip.compress(flat(order), 1))
    for squeeze in (COMPRESSORS["lz4"], lambda data: fit(COMPRESSORS["bzip2"](data))):
        assert images.btf_from_image(squeeze(image)) == (types(order), RELEASE)
    for _ in range(3):
        image = COMPRESSORS["bzip2"](image)
    with pytest.raises(btf.BtfError):
        images.btf_from_image(image)


def test_work_is_that_of_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images in images, many in each, are not all searched."""
    made: list[int] = []
    real = images.Compression.decompress_first

    def counted(self: object, payload: memoryview, limit: int) -> bytes:
        content = real(self, payload, limit)  # type: ignore[arg-type]
        made.append(len(content))
        return content

    monkeypatch.setattr(images.Compression, "decompress_first", counted)
    image = b"MZ" + b"x" * 100
    for _ in range(4):
        image = b"MZ" + gzip.compress(image) * 40
    with pytest.raises(btf.BtfError):
        images.btf_from_image(image)
    assert len(made) <= images._MAX_PLACES


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_kernel_without_btf(wrapper: str) -> None:
    """What lies beside it is not taken for it: a vDSO, a module, a ramdisk."""
    image = WRAPPERS[wrapper](gzip.compress(flat(content=b"")))
    with pytest.raises(btf.BtfError) as caught:
        btf.load_base(image, path="image")
    known = wrapper == "code in front"
    assert ("not BTF: magic is" if known else "BTF") in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"junk" * 999,
        bytes(4096),
        tar(
            {"vmlinux.btf": types(), "a.ko": MODULE, "notes": f"Linux version {RELEASE} (".encode()}
        ),
        b"\xed\xab\xee\xdb" + gzip.compress(flat()),
        b"x" + types(),
    ],
)
def test_what_is_no_image(data: bytes) -> None:
    """Archives are not searched, and BTF counts only where a kernel is around it."""
    assert images.btf_if_image(data) is None
    with pytest.raises(btf.BtfError, match="not BTF: magic is"):
        btf.load_base(data)
