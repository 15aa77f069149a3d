"""One file's BTF as text, in one of the formats of ``splitbtf dump``."""

from __future__ import annotations

from collections.abc import Iterable

import btf
from btf import elf

from .base import Announce, load_base
from .names import printable
from .read import ReadError, read_input
from .sources import SourceError

FORMATS = ("raw", "c", "json")


def dump_file(
    path: str,
    base_path: str | None = None,
    style: str = "raw",
    *,
    asserts: bool = False,
    announce: Announce | None = None,
) -> Iterable[str]:
    """The own types of a file, in pieces of text to be encoded with ``surrogateescape``.

    style    one of FORMATS
    asserts  of the C header: whether it asserts its own layout

    Raises SourceError or BaseError; nothing is yielded before all that can go wrong has not.
    """
    try:
        types = _open(path, base_path, announce)
        if style == "c":
            return list(btf.dump_c(types, asserts=asserts))  # whole: it may still find a fault
    except ReadError as error:
        raise SourceError(f"{printable(path)}: {error.message}") from error
    except btf.BtfError as error:
        raise SourceError(str(error)) from error
    return btf.dump_json(types) if style == "json" else btf.dump_raw(types)


def _open(path: str, base_path: str | None, announce: Announce | None) -> btf.BTF:
    shown = printable(path)
    data = read_input(path)
    if base_path is not None:
        base = load_base(base_path, announce)
        module = btf.open_module(data, base.index, path=shown, release=base.release)
        if module.form == "standalone":
            raise SourceError(f"{shown}: standalone BTF, not split: dump it without a base (-B)")
        return module.btf
    if not elf.is_elf(data) and btf.images.is_image(data):
        return btf.load_base(data, path=shown)
    distilled = None
    if elf.is_elf(data):
        file = elf.read_elf(data, shown)
        data = elf.btf_section(file, shown)
        if file.btf_base is not None:  # the little base that it was made with is enough to read it
            distilled = btf.parse(file.btf_base, path=shown)
    if distilled is None and btf.detect_form(data, shown) == "split":
        raise SourceError(f"{shown}: split BTF: name its base, usually vmlinux, with -B")
    return btf.parse(data, distilled, path=shown)
