"""``btf.open``: a file of this machine. All else in ``btf`` takes bytes, whatever they are of."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import BtfError, WrongBaseError
from ..types.btf import BTF, HasBase
from .decompress import FOR_FILES, DecompressError, find
from .open import open_module


def open(
    path: str | os.PathLike[str], base: BTF | HasBase | str | os.PathLike[str] | None = None
) -> BTF:
    """Open a file with BTF: raw BTF, an ELF file (vmlinux, a module) or a kernel image; it may be
    compressed with zstd, xz or gzip.

    base   what split BTF continues: its BTF, or the path of its file. BTF on a distilled base is
           relocated to it; without one it continues the distilled base

    Raises OSError where the file cannot be read, WrongBaseError for split BTF without its base or
    on another one, NoBtfError or BtfError, which name the path.
    """
    if isinstance(base, (str, os.PathLike)):
        base = open(base)
    shown = os.fsdecode(path)
    content = Path(shown).read_bytes()
    compression = find(content, FOR_FILES)
    try:
        if compression is not None:
            content = compression.decompress(content)
        return open_module(content, base, path=shown).btf
    except DecompressError as error:
        assert compression is not None
        raise BtfError(f"damaged {compression.name}: {error}", shown) from error
    except WrongBaseError as error:
        if base is not None:
            raise
        message = f"{error.message}; name it: btf.open({shown!r}, base=…)"
        raise WrongBaseError(message, shown, error.section, error.offset) from error
