"""What a file is that is no BTF: what kernels and packages come in, by how it begins.

For messages; what is opened is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable

# How compressed data begins, of what ``files.decompress`` reads.
COMPRESSED = {
    "gzip": b"\x1f\x8b",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh",
    "lz4": b"\x02\x21\x4c\x18",  # as kernels have it
}
# Each: (offset, bytes there, what that is). First archives and file systems, which hold files.
_ARCHIVES = (
    (0, b"\xed\xab\xee\xdb", "an RPM package"),
    (0, b"!<arch>\n", "a Debian package, or another ar archive"),
    (0, b"ADB", "an apk package of version 3"),
    (0, b"0707", "a cpio archive"),
    (0, b"\xc7\x71", "a cpio archive"),
    (0, b"PK\3\4", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"sqsh", "a squashfs file system"),
    (0, b"xar!", "a xar archive"),
    (0, b"MSWIM\0\0\0", "a WIM archive"),
    (0, b"QFI\xfb", "a disk image of QEMU"),
    (0, b"\x3a\xff\x26\xed", "a sparse image of Android"),
    (0, b"CrAU", "an update of Android"),
    (257, b"ustar", "a tar"),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (32769, b"CD001", "an ISO 9660 image"),
)
_KNOWN = (
    *_ARCHIVES,
    (0, b"\x7fELF", "an ELF file"),
    (0, b"\xd0\x0d\xfe\xed", "a device tree"),
    *((0, magic, f"{name} data") for name, magic in COMPRESSED.items()),
    (0, b"\x04\x22\x4d\x18", "lz4 data"),
    (0, b"LZIP", "lzip data"),
    (0, b"\x89LZO", "lzop data"),
    (0, b"\x1f\x9d", "data of compress"),
)
START_BYTES = max(offset + len(magic) for offset, magic, _ in _KNOWN)


def is_archive(data: bytes | memoryview) -> bool:
    """Whether a file is an archive or a file system, as far as its beginning tells."""
    return _named(data, _ARCHIVES) is not None


def what_is(data: bytes | memoryview) -> str | None:
    """Name what a file is, for a message: ``an RPM package``; None if that is not known.

    data   the file, or its first START_BYTES
    """
    return _named(data, _KNOWN)


def _named(data: bytes | memoryview, known: Iterable[tuple[int, bytes, str]]) -> str | None:
    for offset, magic, what in known:
        if bytes(data[offset : offset + len(magic)]) == magic:
            return what
    return None
