"""RPM packages: a lead, two headers, and a compressed cpio archive.

The headers are tables of tags (docs/manual/format_v4.md of rpm's sources): the first is about the
package's bytes, the second about the package and its files, with the sum of each. The reader is
ours because it is two tables of fixed records, and the libraries that exist follow whatever these
claim.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from btf.files.decompress import FOR_PACKAGES, find

from ..archive import Package, PackagedFile, PackageError, PackageFormat, Stored, plain_name

if TYPE_CHECKING:
    from ..cpio import ListedFile

_MAGIC = b"\xed\xab\xee\xdb"
_LEAD_BYTES = 96
_HEADER_MAGIC = b"\x8e\xad\xe8\x01"
_ENTRY = struct.Struct(">IIII")  # of a header's index: tag, type, offset, count
_MAX_ENTRIES, _MAX_STORE_BYTES = 1 << 16, 256 << 20  # as rpm has them

# Tags, of the first header and of the second.
_SIZE_IN_SIGNATURE, _LONG_SIZE_IN_SIGNATURE = 1000, 270  # of second header and payload
_HEADER_SUMS = {273: "sha256", 269: "sha1"}  # of the second header
_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_OLD_NAMES, _FOLDER_NUMBERS, _FILE_NAMES, _FOLDERS = 1027, 1116, 1117, 1118
_SIZES, _LONG_SIZES, _MODES, _FLAGS = 1028, 5008, 1030, 1037
_DEVICES, _NODES, _DIGESTS, _DIGEST_ALGORITHM = 1095, 1096, 1035, 5011
_PAYLOAD_FORMAT, _PAYLOAD_COMPRESSOR = 1124, 1125

_GHOST = 1 << 6  # of the flags of a file
_NUMBERS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q"}  # by the type of an entry
_TEXTS = (6, 8, 9)  # a string, an array of them, one that may be translated
_ALGORITHMS = {
    1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224", 12: "sha3_256",
    14: "sha3_512",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Header:
    """A header that was read: where it begins and ends in the file, its bytes, and its tags."""

    start: int
    end: int
    whole: bytes
    entries: dict[int, tuple[int, int, int]]  # tag -> type, offset, count
    store: bytes

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The numbers of a tag; none if it is not there. Raises PackageError."""
        kind, offset, count = self.entries.get(tag, (4, 0, 0))
        layout = _NUMBERS.get(kind)
        if layout is None or offset + count * struct.calcsize(layout) > len(self.store):
            raise self._damaged(tag)
        return struct.unpack_from(f">{count}{layout}", self.store, offset)

    def texts(self, tag: int) -> list[str]:
        """The strings of a tag; none if it is not there. Raises PackageError."""
        kind, offset, count = self.entries.get(tag, (8, 0, 0))
        if kind not in _TEXTS or offset > len(self.store) or count > len(self.store) - offset:
            raise self._damaged(tag)
        found = self.store[offset:].split(b"\0", count)
        if len(found) <= count:
            raise self._damaged(tag)
        return list(map(os.fsdecode, found[:count]))

    def text(self, tag: int) -> str:
        return (self.texts(tag) or [""])[0]

    def _damaged(self, tag: int) -> PackageError:
        return PackageError(f"damaged: tag {tag} of the RPM header at byte {self.start}")


def _read(stored: Stored) -> Package:
    """What the headers say; the payload is not read."""
    header, payload, problem = _parts(stored)
    version = f"{header.text(_VERSION)}-{header.text(_RELEASE)}"
    if epoch := header.numbers(_EPOCH):
        version = f"{epoch[0]}:{version}"
    if payload.size and find(payload.read_at(0, 8), FOR_PACKAGES) is None:
        compressor = header.text(_PAYLOAD_COMPRESSOR)
        if compressor not in ("", "none", *(known.name for known in FOR_PACKAGES)):
            raise PackageError(f"its payload is compressed with {compressor}, which is not read")
    files = tuple(
        file.name for file in _listed(header) if stat.S_ISREG(file.mode) and not file.is_ghost
    )
    return Package(files, header.text(_NAME), version, header.text(_ARCH), problem)


def _read_files(stored: Stored) -> Iterator[PackagedFile]:
    from ..cpio import read_cpio  # late: other packages have none

    header, payload, _ = _parts(stored)
    return read_cpio(payload, _listed(header))


def _parts(stored: Stored) -> tuple[_Header, Stored, str | None]:
    """The second header, the payload, and whether it is cut off. Raises PackageError."""
    import hashlib  # late: it loads OpenSSL

    signature = _header(stored, _LEAD_BYTES)
    header = _header(stored, signature.end + -signature.end % 8)
    kind = header.text(_PAYLOAD_FORMAT) or "cpio"
    if kind != "cpio":
        what = "a delta RPM, which holds but the differences to another package"
        raise PackageError(
            f"this is {what}" if kind == "drpm" else f"its payload is {kind}, which is not read"
        )
    for tag, algorithm in _HEADER_SUMS.items():
        expected = signature.text(tag)
        found = hashlib.new(algorithm, header.whole, usedforsecurity=False).hexdigest()
        if expected not in ("", found):
            raise PackageError(
                f"damaged: the {algorithm} of the RPM header at byte {header.start} is {found}, "
                f"but the package says {expected}"
            )
    sizes = signature.numbers(_LONG_SIZE_IN_SIGNATURE) or signature.numbers(_SIZE_IN_SIGNATURE)
    end = header.start + sizes[0] if sizes else stored.size
    problem = None
    if end > stored.size:
        problem = f"truncated: the last {end - stored.size} bytes are missing"
    elif end < stored.size or end < header.end:
        problem = f"damaged: it has {stored.size} bytes, but its first header says {end}"
    return header, stored.part(header.end, max(header.end, end) - header.end), problem


def _header(stored: Stored, start: int) -> _Header:
    """Read the header at a place. Raises PackageError."""
    head = stored.read_at(start, 16)
    if len(head) < 16 or not head.startswith(_HEADER_MAGIC):
        what = "truncated" if start + 16 > stored.size else "damaged"
        raise PackageError(f"{what}: no RPM header at byte {start}")
    count, store_bytes = struct.unpack(">II", head[8:])
    index_bytes = count * _ENTRY.size
    if count > _MAX_ENTRIES or store_bytes > _MAX_STORE_BYTES:
        raise PackageError(
            f"damaged: the RPM header at byte {start} has {count} tags in {store_bytes} bytes, "
            "more than there can be"
        )
    end = start + 16 + index_bytes + store_bytes
    if end > stored.size:
        raise PackageError(
            f"truncated: {end - stored.size} bytes are missing of the RPM header at byte {start}"
        )
    whole = stored.read_at(start, end - start)
    index = _ENTRY.iter_unpack(whole[16 : 16 + index_bytes])
    entries = {tag: (kind, offset, number) for tag, kind, offset, number in index}
    return _Header(start, end, whole, entries, whole[16 + index_bytes :])


def _listed(header: _Header) -> list[ListedFile]:
    """All files that the package has. Raises PackageError."""
    from ..cpio import ListedFile

    folders = header.texts(_FOLDERS)
    names = header.texts(_OLD_NAMES)
    if not names:
        numbers = header.numbers(_FOLDER_NUMBERS)
        base_names = header.texts(_FILE_NAMES)
        if len(numbers) != len(base_names) or max(numbers, default=-1) >= len(folders):
            raise PackageError(
                f"damaged: the files' folders in the RPM header at byte {header.start}"
            )
        names = [f"{folders[at]}{name}" for at, name in zip(numbers, base_names, strict=True)]
    count = len(names)
    algorithm = _ALGORITHMS.get((header.numbers(_DIGEST_ALGORITHM) or (1,))[0])
    columns = {
        "sizes": header.numbers(_LONG_SIZES) or header.numbers(_SIZES),
        "modes": header.numbers(_MODES),
        "flags": header.numbers(_FLAGS) or (0,) * count,
        "devices": header.numbers(_DEVICES) or (0,) * count,
        "inodes": header.numbers(_NODES) or tuple(range(count)),
        "sums": header.texts(_DIGESTS) or [""] * count,
    }
    for what, values in columns.items():
        if len(values) != count:
            raise PackageError(
                f"damaged: the RPM header at byte {header.start} has {len(values)} {what} of "
                f"{count} files"
            )
    return [
        ListedFile(
            plain_name(name), mode, size, (device, node),
            (algorithm, digest) if algorithm and digest.strip("0") else None,
            bool(flags & _GHOST),
        )
        for name, size, mode, flags, device, node, digest in zip(
            names, *columns.values(), strict=True
        )
    ]  # fmt: skip


FORMAT = PackageFormat(
    suffixes=(".rpm", ".drpm"),
    in_folders=(".rpm", ".drpm"),
    magic=_MAGIC,
    read=_read,
    read_files=_read_files,
)
