"""From a file to its BTF: a module's for the base, by way of pahole if need be; any file's."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import btf
from btf import elf, images

from ..files.read import ReadError, read_input
from ..model.base import IndexedBase
from ..model.errors import SourceError
from ..model.records import ENCODE_ALL, ENCODE_NONE, ModuleInput, WorkOptions
from ..sources.names import printable
from .encode import Encoded, encode


@dataclass(frozen=True, slots=True)
class Opened:
    """A module, and what made its BTF where it had none of use (``pahole 1.24``)."""

    module: btf.Module
    encoder: str | None = None


def open_input(
    module: ModuleInput,
    data: bytes | memoryview,
    index: btf.BaseIndex,
    options: WorkOptions,
    path: str,
) -> Opened:
    """The BTF of a module: what the file holds, else what can be made of its DWARF, else the same
    from the module's file with debug information. ``options.encode`` may ask for another order.

    data   content of the module's file
    path   of it, for messages

    Raises BtfError, EncodeError or ReadError.
    """
    made: list[Encoded] = []

    def from_dwarf(content: bytes) -> bytes:
        seconds = options.encode_seconds
        made.append(encode(content, path=path, release=options.release, seconds=seconds))
        return made[-1].content

    def opened(content: bytes | memoryview, path: str) -> Opened:
        found = btf.open_module(
            content,
            index,
            path=path,
            release=options.release,
            from_dwarf=None if options.encode == ENCODE_NONE else from_dwarf,
            prefer_dwarf=options.encode == ENCODE_ALL,
        )
        return Opened(found, made[-1].encoder if made else None)

    debug = module.debug
    if options.encode == ENCODE_NONE or debug is None or debug.problem is not None:
        return opened(data, path)
    if options.encode != ENCODE_ALL:
        with contextlib.suppress(btf.NoBtfError):
            return opened(data, path)
    return opened(read_input(debug.content_path), printable(debug.path))


def open_types(path: str, base: IndexedBase | None, *, shown: str | None = None) -> btf.BTF:
    """The BTF of any one file: raw, ELF or a kernel image, each perhaps compressed.

    base    what split BTF continues, and what BTF on a distilled base is relocated to. Without a
            base the former is refused, and the latter continues its distilled base
    shown   what to call the file in messages

    Raises SourceError.
    """
    shown = shown or printable(path)
    try:
        data = read_input(path)
        if base is not None:
            return btf.open_module(data, base.index, path=shown, release=base.release).btf
        if images.is_image(data):
            return btf.load_base(data, path=shown)
        distilled = None
        if elf.is_elf(data):
            file = elf.read_elf(data, shown)
            data = bytes(elf.btf_section(file, shown))
            if file.btf_base is not None:
                distilled = btf.parse(file.btf_base, path=shown)
        if distilled is None and btf.detect_form(data, shown) == "split":
            raise SourceError(f"{shown}: split BTF: name its base, usually vmlinux, with -B")
        return btf.parse(data, distilled, path=shown)
    except ReadError as error:
        raise SourceError(f"{shown}: {error.message}") from error
    except btf.BtfError as error:
        raise SourceError(str(error)) from error
