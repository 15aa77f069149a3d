"""Writes RPM packages for tests: both headers and the payload, in every way that rpm had."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import struct
from collections.abc import Callable, Mapping, Sequence

import zstandard

COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
REGULAR, LINK, GHOST = 0o100644, 0o120777, 1 << 6
Value = tuple[int, Sequence[int] | Sequence[str] | str]  # type of a tag, and what it has
_LAYOUTS = {3: "H", 4: "I", 5: "Q"}


def header(tags: Mapping[int, Value]) -> bytes:
    """A header with these tags."""
    index, store = b"", b""
    for tag, (kind, value) in tags.items():
        if kind in _LAYOUTS:
            store += bytes(-len(store) % struct.calcsize(_LAYOUTS[kind]))
            data = struct.pack(f">{len(value)}{_LAYOUTS[kind]}", *value)
        else:
            texts = [value] if isinstance(value, str) else value
            data = b"".join(os.fsencode(str(text)) + b"\0" for text in texts)
        count = 1 if isinstance(value, str) else len(value)
        index += struct.pack(">IIII", tag, kind, len(store), count)
        store += data
    return struct.pack(">4sIII", b"\x8e\xad\xe8\x01", 0, len(tags), len(store)) + index + store


def entry(
    name: str, content: bytes, *, mode: int = REGULAR, node: int = 1, size: int | None = None
) -> bytes:
    """A file in a cpio archive with names; ``size`` is what its header says."""
    raw = f"./{name}".encode() + b"\0" if name != "TRAILER!!!" else b"TRAILER!!!\0"
    stored = len(content) if size is None else size
    fields = (node, mode, 0, 0, 1, 0, stored, 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + raw
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def numbered(number: int, content: bytes) -> bytes:
    """The same in an archive without names."""
    head = b"07070X%08x" % number
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


END = entry("TRAILER!!!", b"")


def rpm(
    files: Mapping[str, bytes],
    *,
    same: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    ghosts: Sequence[str] = (),
    compression: str = "zstd",
    stripped: bool = False,
    old_names: bool = False,
    md5: bool = False,
    payload: bytes | None = None,
    more: Mapping[int, Value] | None = None,
    size: int | None = None,
) -> bytes:
    """A package with these files.

    same       hard links: further names, and the file that each of them is
    links      symbolic links
    stripped   the archive has neither names nor sizes
    old_names  whole paths in the header, as the oldest packages have them
    md5        sums are these, not sha256
    payload    the archive, not compressed, instead of that of the files
    more       further tags of the second header, or others
    size       what the first header says of the second and the payload
    """
    same, links = same or {}, links or {}
    names = sorted([*files, *same, *links, *ghosts])
    nodes = {name: number for number, name in enumerate(names, 1)}
    content = {**files, **{name: files[first] for name, first in same.items()}}
    content |= {name: target.encode() for name, target in links.items()}
    node_of = [nodes[same.get(name, name)] for name in names]
    digest = hashlib.md5 if md5 else hashlib.sha256
    sums = [digest(content[n]).hexdigest() if n in files or n in same else "" for n in names]
    archive = b""
    for number, name in enumerate(names):
        if name in ghosts:
            continue
        last = number == max(n for n, node in enumerate(node_of) if node == node_of[number])
        data = content[name] if last else b""
        mode = LINK if name in links else REGULAR
        archive += (
            numbered(number, data) if stripped
            else entry(name, data, mode=mode, node=node_of[number])
        )  # fmt: skip
    packed = COMPRESSIONS[compression](archive + END if payload is None else payload)
    folders = sorted({f"/{os.path.dirname(name)}/" for name in names})
    tags: dict[int, Value] = {
        1000: (6, "kernel-core"), 1001: (6, "1.0"), 1002: (6, "1.fc40"), 1022: (6, "x86_64"),
        1028: (4, [len(content.get(name, b"")) for name in names]),
        1030: (3, [LINK if name in links else REGULAR for name in names]),
        1035: (8, sums), 1037: (4, [GHOST if name in ghosts else 0 for name in names]),
        1095: (4, [1] * len(names)), 1096: (4, node_of),
        1124: (6, "cpio"), 1125: (6, compression),
    }  # fmt: skip
    if stripped:
        tags[5008] = (5, tags.pop(1028)[1])
    if old_names:
        tags[1027] = (8, [f"/{name}" for name in names])
    else:
        tags[1116] = (4, [folders.index(f"/{os.path.dirname(name)}/") for name in names])
        tags[1117], tags[1118] = (8, [os.path.basename(name) for name in names]), (8, folders)
    if not md5:
        tags[5011] = (4, [8])
    second = header({**tags, **(more or {})})
    first = header({
        1000: (4, [len(second) + len(packed) if size is None else size]),
        273: (6, hashlib.sha256(second).hexdigest()),
    })  # fmt: skip
    lead = struct.pack(">4sBBHH66sHH16x", b"\xed\xab\xee\xdb", 3, 0, 0, 1, b"kernel", 1, 5)
    return lead + first + bytes(-len(lead + first) % 8) + second + packed
