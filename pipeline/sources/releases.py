"""Which release a kernel's files are of, by what they say themselves: banner and vermagic.

What a file is called may say nothing (``vmlinuz-lts``, ``kernel8.img``) or something else.
"""

from __future__ import annotations

import os
from functools import lru_cache

from btf import BtfError
from btf.files.elf import read_elf
from btf.files.images import release_of_image
from btf.files.sections import MAGIC as ELF_MAGIC

from ..files.read import LargeFile, ReadError, open_content
from ..files.remote import is_uri
from ..files.scratch import ScratchFolder
from .packages import unpack

_START_BYTES = 64 << 10  # of an image: x86 tells its release there


def told_release(path: str, package: str | None, member: str | None, whole: bool) -> str | None:
    """The release that a base or a module says it is of; None where it does not, or cannot be read.

    package, member   where ``path`` is in a package: which, and the name in it
    whole             whether it is unpacked and decompressed for that, if need be
    """
    if package is not None:
        return _of_packaged(package, member or "") if whole else None
    if is_uri(path):
        return _of_file(path, whole) if whole else None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _of_local(path, whole, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _of_local(path: str, whole: bool, _time: int, _size: int) -> str | None:
    return _of_file(path, whole)


@lru_cache(maxsize=1024)
def _of_packaged(package: str, member: str) -> str | None:
    with ScratchFolder() as folder:
        target = os.path.join(folder.path, "file")
        dict(unpack(package, {member: target}))
        return _of_file(target, True) if os.path.exists(target) else None


def _of_file(path: str, whole: bool) -> str | None:
    try:
        if not whole:
            file = LargeFile(path)
            start = file[:_START_BYTES]
            content = file if start.startswith(ELF_MAGIC) else start
        else:
            content = open_content(path)
        if content[:4] == ELF_MAGIC:
            return read_elf(content, path).release
        return release_of_image(content[:], whole)
    except (OSError, ReadError, BtfError):
        return None  # it is reported when it is worked on
