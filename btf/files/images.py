"""vmlinux out of the compressed kernel image that a machine boots.

    x86           bzImage: a boot sector and set-up code, then vmlinux compressed; the boot
                  protocol's header says where (Documentation/arch/x86/boot.rst, since 2.08)
    EFI "zboot"   arm64, loongarch, riscv: a small EFI program that carries the compressed kernel
                  (drivers/firmware/efi/libstub/zboot-header.S, since Linux 6.1)
    others        some set-up code of their own, and the compressed kernel somewhere behind it

Where no header helps, the image is searched for the magic numbers of the kernel's compressors, as
``scripts/extract-vmlinux`` does. What is found counts when it decompresses to an ELF file.

arm64 and riscv boot a flat binary, a vmlinux without sections, compressed or not. Its BTF is in it
all the same, as the running kernel shows it: it begins with a header that says how long it is, and
that nothing else in a kernel looks like.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from ..errors import BtfError, NoBtfError, UnsupportedError
from ..format.header import LONG_HEADER, parse_header
from . import elf
from .decompress import COMPRESSIONS, Compression, DecompressError, find

MAX_DECOMPRESSED_BYTES = 1 << 30  # of a damaged or hostile image, no more than this

# Flat kernels say so at 56: Documentation/arch/arm64/booting.rst, .../arch/riscv/boot-image-header.
_FLAT_MAGIC, _FLAT_MAGICS = 56, (b"ARMd", b"RSC\x05")

# x86 boot protocol: offsets in the image.
_SETUP_SECTS, _BOOT_MAGIC, _BOOT_VERSION, _PAYLOAD = 0x1F1, 0x202, 0x206, 0x248


def is_image(data: bytes | memoryview | mmap.mmap) -> bool:
    """Whether ``data`` begins as a kernel image does: as x86, EFI or compressed code."""
    view = memoryview(data)
    if _x86_payload(view) is not None or bytes(view[:2]) == b"MZ":
        return True
    return find(view) is not None


def vmlinux_from_image(data: bytes | memoryview | mmap.mmap, *, path: str | None = None) -> bytes:
    """Extract the vmlinux (an ELF file) from a kernel image: bzImage, EFI zboot, or compressed.

    data   the image, ``/boot/vmlinuz`` say; an ELF file is given back as it is

    Payloads of all ``decompress.COMPRESSIONS`` are decompressed. Raises UnsupportedError for lzo
    and for flat kernels without ELF, BtfError when there is no sound kernel in it.
    """
    content, is_elf = _kernel(memoryview(data).cast("B"), path)
    if not is_elf:
        raise UnsupportedError(
            "the kernel in this image is a flat binary without ELF sections: "
            "give the vmlinux of the build",
            path,
            "kernel image",
        )
    return content


def btf_from_image(
    data: bytes | memoryview | mmap.mmap, *, path: str | None = None
) -> tuple[bytes, str | None]:
    """Extract the raw BTF from a kernel image of any kind, and the release in its banner.

    Raises NoBtfError when the kernel has none; else as ``vmlinux_from_image``.
    """
    content, is_elf = _kernel(memoryview(data).cast("B"), path)
    if is_elf:
        file = elf.read_elf(content, path)
        return elf.btf_section(file, path), file.release
    found = _flat_btf(content)
    if found is None:
        raise NoBtfError("the flat kernel in this image holds no BTF", path, "kernel image")
    return found, elf.release_of_banner(content)


def _kernel(view: memoryview, path: str | None) -> tuple[bytes, bool]:
    """Return the kernel in an image, and whether it is an ELF file rather than a flat binary."""
    if elf.is_elf(view):
        return bytes(view), True
    tried: list[str] = []
    flat, total = b"", 0
    for compression, at, payload in _candidates(view):
        if total > MAX_DECOMPRESSED_BYTES:
            break
        try:
            content = compression.decompress(payload, MAX_DECOMPRESSED_BYTES)
        except DecompressError as error:
            if len(tried) < 3:
                tried.append(f"{compression.name} at {at}: {error}")
            continue
        if elf.is_elf(content):
            return content, True
        total += len(content)
        start = content.find(elf.MAGIC, 0, 1 << 20) if len(content) > 1 << 20 else -1
        if start > 0:  # set-up code in front of it
            return content[start:], True
        flat = max(flat, content, key=len)
    if len(flat) > 1 << 20:
        return flat, False
    if bytes(view[_FLAT_MAGIC : _FLAT_MAGIC + 4]) in _FLAT_MAGICS:
        return bytes(view), False
    if bytes(view).find(b"\x89LZO\0\r\n\x1a\n") >= 0:
        raise UnsupportedError(
            "the kernel in this image is compressed with lzo; scripts/extract-vmlinux of the "
            "kernel's source can unfold it",
            path,
            "kernel image",
        )
    found = f" ({'; '.join(tried)})" if tried else ""
    raise BtfError(f"no compressed vmlinux in this file{found}", path, "kernel image")


def _flat_btf(content: bytes) -> bytes | None:
    """The largest part of a flat kernel that is BTF as far as header and string section tell."""
    view = memoryview(content)
    best = view[:0]
    for magic in (b"\x9f\xeb\x01\0", b"\xeb\x9f\x01\0"):
        at = content.find(magic)
        while at >= 0:
            try:
                head = parse_header(view[at:])
            except BtfError:
                head = None
            if head is not None and head.string_bytes and head.header_bytes <= LONG_HEADER:
                end = head.string_start + head.string_bytes
                whole = view[at : at + end]
                if whole[head.string_start] == 0 == whole[-1] and len(whole) > len(best):
                    best = whole
            at = content.find(magic, at + 1)
    return bytes(best) or None


def _candidates(view: memoryview) -> Iterator[tuple[Compression, int, memoryview]]:
    """Yield places where a compressed kernel may begin, the likeliest first."""
    told = [place for place in (_x86_payload(view), _zboot_payload(view)) if place is not None]
    for start, size in told:
        payload = view[start : start + size]
        if (compression := find(payload)) is not None:
            yield compression, start, payload
    content = bytes(view)
    places = []
    for compression in COMPRESSIONS:
        at = content.find(compression.magic)
        while at >= 0:
            if all(at != start for start, _ in told):
                places.append((at, compression))
            at = content.find(compression.magic, at + 1)
    for at, compression in sorted(places, key=lambda place: place[0]):
        yield compression, at, view[at:]


def _x86_payload(view: memoryview) -> tuple[int, int] | None:
    """Return (start, bytes) of the payload of a bzImage, by its header."""
    if len(view) < _PAYLOAD + 8 or bytes(view[_BOOT_MAGIC : _BOOT_MAGIC + 4]) != b"HdrS":
        return None
    (version,) = struct.unpack_from("<H", view, _BOOT_VERSION)
    if version < 0x208:
        return None
    offset, size = struct.unpack_from("<II", view, _PAYLOAD)
    start = (view[_SETUP_SECTS] or 4) * 512 + 512 + offset
    return (start, size) if size and start + size <= len(view) else None


def _zboot_payload(view: memoryview) -> tuple[int, int] | None:
    """Return (start, bytes) of the payload of an EFI zboot image."""
    if len(view) < 64 or bytes(view[:2]) != b"MZ" or bytes(view[4:8]) != b"zimg":
        return None
    start, size = struct.unpack_from("<II", view, 8)
    return (start, size) if size and start + size <= len(view) else None
