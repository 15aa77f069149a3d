"""The BTF of one file as text, in one of the formats of ``splitbtf dump``."""

from __future__ import annotations

from collections.abc import Iterable

import btf

from .model.base import Announce
from .model.errors import SourceError
from .sources.discover import find_one
from .sources.names import printable
from .sources.unpack import unpacked
from .work.base import load_base
from .work.open import open_types

FORMATS = ("raw", "c", "json")


def dump_file(
    path: str,
    base_path: str | None = None,
    style: str = "raw",
    *,
    asserts: bool = False,
    announce: Announce | None = None,
) -> Iterable[str]:
    """Dump the types that a file itself holds, in pieces of text.

    path     a file, or a package with one kernel's BTF
    style    one of FORMATS
    asserts  of the C header: whether it asserts its own layout

    Raises SourceError or BaseError, always before the first piece is yielded.
    """
    base = load_base(base_path, announce) if base_path is not None else None
    with unpacked([find_one(path)]) as (file,):
        types = open_types(file, base)
    if base is not None and types.base is None:
        shown = printable(file.path)
        raise SourceError(f"{shown}: standalone BTF, not split: dump it without a base (-B)")
    try:
        if style == "c":
            return list(btf.dump_c(types, asserts=asserts))  # whole: it may still find a fault
        return btf.dump_json(types) if style == "json" else btf.dump_raw(types)
    except btf.BtfError as error:
        raise SourceError(str(error)) from error
