"""Writes Debian packages and tar files for tests, with what the standard library has."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping
from functools import partial

import zstandard

XZ = partial(lzma.compress, preset=0)  # ten times as fast
COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".xz": XZ,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def tar(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    """A tar as dpkg-deb makes it: names begin with ``./``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return out.getvalue()


def ar(members: Mapping[str, bytes]) -> bytes:
    content = b"!<arch>\n"
    for name, data in members.items():
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        content += data + b"\n" * (len(data) % 2)
    return content


def deb(
    files: Mapping[str, bytes],
    *,
    package: str = "linux-image-1.0",
    version: str = "1.0-1",
    architecture: str = "amd64",
    compression: str = ".xz",
    md5sums: bool = True,
    links: Mapping[str, str] | None = None,
) -> bytes:
    """A package with these files."""
    facts = f"Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n"
    facts += "Description: a kernel\n Version: not this one\n"
    control = {"control": facts.encode()}
    if md5sums:
        lines = (
            f"{hashlib.md5(data).hexdigest()}  {name}\n".encode() for name, data in files.items()
        )
        control["md5sums"] = b"".join(lines)
    squeeze = COMPRESSIONS[compression]
    return ar(
        {
            "debian-binary": b"2.0\n",
            f"control.tar{compression}": squeeze(tar(control)),
            f"data.tar{compression}": squeeze(tar(files, links)),
        }
    )
