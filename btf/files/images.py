"""vmlinux out of the kernel image that a machine boots, compressed or not.

    x86           bzImage: a boot sector and set-up code, then vmlinux compressed; the boot
                  protocol's header says where (Documentation/arch/x86/boot.rst, since 2.08)
    EFI "zboot"   arm64, loongarch, riscv: a small EFI program that carries the compressed kernel
                  (drivers/firmware/efi/libstub/zboot-header.S, since Linux 6.1)
    others        code or a header of their own, and the kernel somewhere behind it: zImage of ARM,
                  s390x, ELF wrappers (zImage of powerpc, vmlinuz of MIPS), uImage and FIT of
                  U-Boot, boot.img of Android

Where no header helps, the image is searched for the magic numbers of the kernel's compressors, as
``scripts/extract-vmlinux`` does, and at last for a kernel that is not compressed. What is found
counts when it is an ELF file with BTF, or has BTF in it; the first of these is taken. The search is
bounded: so many places are tried, and so much is decompressed, for all of them together.

arm64, riscv, ARM and s390x boot a flat binary, a vmlinux without sections, compressed or not. Its
BTF is in it all the same, as the running kernel shows it: it begins with a header that says how
long it is, and that nothing else in a kernel looks like.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from ..errors import BtfError, NoBtfError, UnsupportedError
from ..format.foreign import START_BYTES, is_archive
from ..format.header import LONG_HEADER, SHORT_HEADER, parse_header
from . import decompress, elf
from .decompress import MAGIC_BYTES, Compression, DecompressError, find
from .readable import OpenFile, Part, Readable, readable
from .sections import MAGIC as ELF_MAGIC
from .sections import is_elf

_MAX_PLACES = 200  # where something is tried: magic numbers of three bytes are met by chance
_MAX_DEPTH = 3  # images in each other: a bzImage in a FIT, compressed once more
_SMALL_WORK, _MAX_RATIO = 64 << 20, 50  # what may be decompressed, successfully or not
_SMALL_BYTES = 1 << 20  # a kernel has more, the set-up code in front of it less

# What compressed data begins with, beyond the magic number: gzip has no name or a short one, xz a
# check, bzip2 a level and a block, lz4 a block of 8 MiB at most, lzma a dictionary of a power of
# two, or one and a half times that, and the size of the content, if it is known.
_POWERS = rb"[\x01\x02\x03\x04\x06\x08\x0c\x10\x18\x20\x30\x40\x60\x80\xc0]"
_BEGINS = re.compile(
    rb"(?s:\x1f\x8b\x08(?:\0|\x08.{6}[ -~]{1,255}\0)"
    rb"|\xfd7zXZ\0\0[\0\x01\x04\x0a]"
    rb"|\x28\xb5\x2f\xfd"
    rb"|\x02\x21\x4c\x18..[\0-\x88]\0"
    rb"|BZh[1-9]1AY&SY"
    rb"|\x5d\0\0(?:\0" + _POWERS + rb"|" + _POWERS + rb"\0)(?:\xff{8}|.{5}\0{3}))"
)
_ELF_BEGINS = re.compile(rb"\x7fELF[\x01\x02][\x01\x02]\x01")
_BTF_BEGINS = {"<": 0x0001EB9F, ">": 0xEB9F0100}  # magic, version and flags

# What images begin with, beside x86's and compressed ones.
_HEADERS = (
    (0, b"MZ"),  # EFI
    (0, b"\x27\x05\x19\x56"),  # uImage, include/image.h of U-Boot
    (0, b"\xd0\x0d\xfe\xed"),  # FIT: a device tree with the kernel in it
    (0, b"ANDROID!"),  # boot.img, system/tools/mkbootimg
    (0x24, b"\x18\x28\x6f\x01"),  # zImage of ARM, arch/arm/boot/compressed/head.S
    (0x24, b"\x01\x6f\x28\x18"),  # the same, big-endian
    (0x10008, b"S390EP"),  # arch/s390/boot/head.S
)
_START_BYTES = max(START_BYTES, *(at + len(magic) for at, magic in _HEADERS))
# Flat kernels say so at 56: Documentation/arch/arm64/booting.rst, .../arch/riscv/boot-image-header.
_FLAT_MAGIC, _FLAT_MAGICS = 56, (b"ARMd", b"RSC\x05")

# x86 boot protocol: offsets in the image.
_SETUP_SECTS, _BOOT_MAGIC, _BOOT_VERSION, _PAYLOAD = 0x1F1, 0x202, 0x206, 0x248
_VERSION_TEXT = 0x20E  # where, from 0x200 on, the release begins
_RELEASE = re.compile(rb"(\d+\.\d+\S*)[ \0]")


def is_image(data: bytes | memoryview) -> bool:
    """Whether ``data`` begins as a kernel image does: as x86, EFI or compressed code, or as one of
    the headers that are known. Of others only a search tells, see ``btf_if_image``."""
    view = memoryview(data).cast("B")
    if _told_payloads(view) or find(view) is not None:
        return True
    return any(bytes(view[at : at + len(magic)]) == magic for at, magic in _HEADERS)


def btf_if_image(data: Readable, *, path: str | None = None) -> tuple[bytes, str | None] | None:
    """Extract the BTF and the release from a kernel image, see ``btf_from_image``; None where
    ``data`` is no image: it neither begins as one, nor is a kernel with BTF found in it."""
    data = readable(data)
    start = bytes(data[:_START_BYTES])
    if is_archive(start):
        return None
    try:
        return btf_from_image(data, path=path)
    except BtfError:
        if _told_payloads(data) or is_image(start):
            raise
        return None


def vmlinux_from_image(data: bytes | memoryview, *, path: str | None = None) -> bytes:
    """Extract the vmlinux (an ELF file) from a kernel image: bzImage, EFI zboot, or compressed.

    data   the image, ``/boot/vmlinuz`` say; an ELF file is given back as it is

    Payloads of all ``decompress.COMPRESSIONS`` are decompressed. Raises UnsupportedError for lzo
    and for flat kernels without ELF, BtfError when there is no sound kernel in it.
    """
    content, with_sections = _kernel(memoryview(data).cast("B"), path)
    if not with_sections:
        raise UnsupportedError(
            "the kernel in this image is a flat binary without ELF sections: "
            "give the vmlinux of the build",
            path,
            "kernel image",
        )
    return content


def btf_from_image(data: Readable, *, path: str | None = None) -> tuple[bytes, str | None]:
    """Extract the raw BTF from a kernel image of any kind, and the release in its banner.

    Raises NoBtfError when the kernel has none; else as ``vmlinux_from_image``.
    """
    data = readable(data)
    file = _told_kernel(data)
    if file is not None:
        return elf.btf_section(file, path), file.release
    content, with_sections = _kernel(memoryview(data[:]), path)
    if with_sections:
        file = elf.read_elf(content, path)
        return elf.btf_section(file, path), file.release
    found = _flat_btf(content)
    if found is None:
        raise NoBtfError(
            "the flat kernel in this image holds no BTF, as without CONFIG_DEBUG_INFO_BTF; "
            "`splitbtf run` makes BTF of a vmlinux with DWARF, as debug packages have it",
            path,
            "kernel image",
        )
    return found, elf.release_of_banner(content)


def release_of_image(data: bytes | memoryview, whole: bool = True) -> str | None:
    """The release of the kernel in an image; None if that is not found.

    data   the image; its first 64 KiB do for x86
    whole  whether the image is decompressed for that, where its header does not say it

    Raises as ``vmlinux_from_image``, where it is decompressed.
    """
    view = memoryview(data).cast("B")
    if bytes(view[_BOOT_MAGIC : _BOOT_MAGIC + 4]) == b"HdrS":
        at = int.from_bytes(view[_VERSION_TEXT : _VERSION_TEXT + 2], "little") + 0x200
        told = _RELEASE.match(bytes(view[at : at + 128])) if at > 0x200 else None
        if told is not None:
            return told[1].decode("ascii", "replace")
    return elf.release_of_banner(_kernel(view, None)[0]) if whole else None


@dataclass
class _Found:
    """What was found in an image so far that may be the kernel: flat code with BTF and no banner,
    ELF files without BTF, damaged ones, and flat code without BTF, of which the largest.

    left    bytes that may still be made for the search
    places  that were tried
    tried   what became of some of them
    """

    left: int
    bare: bytes = b""
    plain: bytes = b""
    broken: bytes = b""
    flat: bytes = b""
    places: int = 0
    tried: list[str] = field(default_factory=list)


def _kernel(view: memoryview, path: str | None) -> tuple[bytes, bool]:
    """Return the kernel in an image, and whether it is an ELF file rather than a flat binary."""
    found = _Found(_most_work(view))
    if view[:4] == ELF_MAGIC:
        if not is_elf(view) or _elf_rank(view) != _PLAIN:
            return bytes(view), True
        found.plain = bytes(view)  # a wrapper, perhaps
    kernel = _decompressed_kernel(view, found, _MAX_DEPTH)
    if kernel is not None:
        return kernel
    is_flat = bytes(view[_FLAT_MAGIC : _FLAT_MAGIC + 4]) in _FLAT_MAGICS
    if is_flat or elf.release_of_banner(view) is not None:
        kernel = _kernel_in(bytes(view), len(view), found)
        if kernel is not None:
            return kernel
    if found.bare:
        return found.bare, False
    for content in (found.plain, found.broken):
        if content:
            return content, True
    if len(found.flat) > _SMALL_BYTES or is_flat:
        return found.flat, False
    if re.search(rb"\x89LZO\0\r\n\x1a\n", view):
        raise UnsupportedError(
            "the kernel in this image is compressed with lzo; scripts/extract-vmlinux of the "
            "kernel's source can unfold it",
            path,
            "kernel image",
        )
    places = f" ({'; '.join(found.tried)})" if found.tried else ""
    raise BtfError(f"no compressed vmlinux in this file{places}", path, "kernel image")


def _told_kernel(data: Readable) -> elf.ElfBtf | None:
    """The kernel that lies compressed where the header says; None if that is no Linux with
    sections.

    It is decompressed into a file without a name, of which only sections are read: with its code it
    takes more memory than all else.
    """
    import tempfile  # late: few files are images

    for start, size in _told_payloads(data):
        payload = Part(data, start, size)
        compression = find(bytes(payload[:MAGIC_BYTES]))
        if compression is None:
            continue
        with contextlib.suppress(DecompressError, BtfError, OSError):
            with tempfile.TemporaryFile() as file:
                for part in compression.first_pieces(payload, _most_work(data)):
                    if file.tell() == 0 and not part.startswith(ELF_MAGIC):
                        break
                    file.write(part)
                    del part  # before there is the next one
                kernel = elf.read_elf(OpenFile(file))
            if kernel.name is None and (kernel.btf is not None or kernel.release is not None):
                return kernel
    return None


def _most_work(data: Readable) -> int:
    """How many bytes may be made in the search of an image."""
    return min(decompress.MAX_DECOMPRESSED_BYTES, _SMALL_WORK + _MAX_RATIO * len(data))


def _decompressed_kernel(view: memoryview, found: _Found, depth: int) -> tuple[bytes, bool] | None:
    """The kernel with BTF that some part of an image decompresses to, or that is in an image that
    it decompresses to, so many times in each other; None if there is none."""
    for compression, at, payload in _candidates(view):
        if found.places == _MAX_PLACES or not found.left:
            found.tried.append(f"given up at {at}, as too much looks like one and is none")
            break
        found.places += 1
        try:
            content = compression.decompress_first(payload, found.left)
        except DecompressError as error:
            found.left -= min(found.left, error.work)
            if len(found.tried) < 3:
                found.tried.append(f"{compression.name} at {at}: {error}")
            continue
        found.left -= len(content)
        kernel = _kernel_in(content, _SMALL_BYTES, found)
        if kernel is None and depth > 1 and is_image(content):
            kernel = _decompressed_kernel(memoryview(content), found, depth - 1)
        if kernel is not None:
            return kernel
    return None


def _kernel_in(content: bytes, most: int, found: _Found) -> tuple[bytes, bool] | None:
    """The kernel with BTF that ``content`` is, or that begins in its first ``most`` bytes behind
    set-up code; None if there is none: then ``found`` has what it may be."""
    view = memoryview(content)
    if is_archive(view):
        return None  # a ramdisk, whose modules have BTF too
    plain, has_elf = -1, False
    for begin in islice(_ELF_BEGINS.finditer(content, 0, most), _MAX_PLACES):
        start = begin.start()
        if not is_elf(view[start:]):
            continue
        has_elf = True
        rank = _elf_rank(view[start:])
        if rank == _WITH_BTF:
            return content[start:], True
        if rank == _PLAIN and plain < 0 and start < _SMALL_BYTES:
            plain = start  # or something that lies in a flat kernel, such as its vDSO
    if _flat_btf(content) is not None:
        if elf.release_of_banner(content) is not None:
            return content, False
        if not has_elf:
            found.bare = found.bare or content
    if plain >= 0:
        found.plain = found.plain or content[plain:]
    elif content.startswith(ELF_MAGIC):
        found.broken = found.broken or content
    else:
        found.flat = max(found.flat, content, key=len)
    return None


_WITH_BTF, _PLAIN, _MODULE = range(3)


def _elf_rank(view: memoryview) -> int:
    """What an ELF file is: one with BTF, one without, or a module, which no image is made of."""
    try:
        file = elf.read_elf(view)
    except BtfError:
        return _MODULE
    if file.name is not None:
        return _MODULE
    return _PLAIN if file.btf is None else _WITH_BTF


def _flat_btf(content: bytes) -> bytes | None:
    """The largest part of a flat kernel that is BTF as far as header and string section tell."""
    view = memoryview(content)
    best = view[:0]
    for order, begins in _BTF_BEGINS.items():
        if begins.to_bytes(4, "little" if order == "<" else "big") not in content:
            continue
        for at, size in _sound_headers(content, order, begins):
            try:
                head = parse_header(view[at : at + size])
            except BtfError:
                continue
            if head.header_bytes <= LONG_HEADER and size > len(best):
                best = view[at : at + size]
                break
    return bytes(best) or None


def _sound_headers(content: bytes, order: str, begins: int) -> Iterator[tuple[int, int]]:
    """(start, bytes) of what may be BTF, the largest first: sections that fit, and strings that
    begin and end with a zero. All at once, since there may be very many that are none."""
    count = len(content) - SHORT_HEADER + 1
    if count <= 0:
        return

    def words(at: int) -> np.ndarray:
        """The word ``at`` bytes after each place."""
        return np.ndarray((count,), f"{order}u4", content, at, (1,))

    def field(at: int) -> np.ndarray:
        return words(at)[places].astype(np.int64)

    whole = np.frombuffer(content, np.uint8)
    known = (words(4) >= SHORT_HEADER) & (words(4) <= LONG_HEADER)
    places = np.flatnonzero((words(0) == begins) & known)
    strings = places + field(4) + field(16)
    ends = strings + field(20)
    fits = (ends <= len(content)) & (ends > strings)
    places, strings, ends = places[fits], strings[fits], ends[fits]
    sound = (whole[strings] == 0) & (whole[ends - 1] == 0)
    places, ends = places[sound], ends[sound]
    for which in np.argsort(places - ends, kind="stable")[:_MAX_PLACES]:
        yield int(places[which]), int(ends[which] - places[which])


def _candidates(view: memoryview) -> Iterator[tuple[Compression, int, memoryview]]:
    """Yield places where a compressed kernel may begin, the likeliest first."""
    told = _told_payloads(view)
    for start, size in told:
        payload = view[start : start + size]
        if (compression := find(payload)) is not None:
            yield compression, start, payload
    for begin in _BEGINS.finditer(view):
        at = begin.start()
        compression = find(view[at : at + MAGIC_BYTES])
        if compression is not None and all(at != start for start, _ in told):
            yield compression, at, view[at:]


def _told_payloads(data: Readable) -> list[tuple[int, int]]:
    """(start, bytes) of what headers say to be the compressed kernel."""
    start = bytes(data[: _PAYLOAD + 8])
    told = (place for place in (_x86_payload(start), _zboot_payload(start)) if place is not None)
    return [(at, size) for at, size in told if size and at + size <= len(data)]


def _x86_payload(start: bytes) -> tuple[int, int] | None:
    """Return (start, bytes) of the payload of a bzImage, by its header."""
    if len(start) < _PAYLOAD + 8 or start[_BOOT_MAGIC : _BOOT_MAGIC + 4] != b"HdrS":
        return None
    (version,) = struct.unpack_from("<H", start, _BOOT_VERSION)
    if version < 0x208:
        return None
    offset, size = struct.unpack_from("<II", start, _PAYLOAD)
    return (start[_SETUP_SECTS] or 4) * 512 + 512 + offset, size


def _zboot_payload(start: bytes) -> tuple[int, int] | None:
    """Return (start, bytes) of the payload of an EFI zboot image."""
    if len(start) < 64 or start[:2] != b"MZ" or start[4:8] != b"zimg":
        return None
    at, size = struct.unpack_from("<II", start, 8)
    return at, size
