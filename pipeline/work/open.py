"""From a file to its BTF: ``btf.open_module`` with reading, decompression and pahole added.

All commands open their inputs here: ``open_input`` where BTF may be made of DWARF, ``open_path``
otherwise.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import btf
from btf.files.sections import Readable

from ..files.read import ReadError, open_content, read_input
from ..model.base import IndexedBase
from ..model.errors import SourceError
from ..model.options import ENCODE_ALL, ENCODE_NONE, KernelContext
from ..model.records import FileInput, ModuleInput
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
    context: KernelContext,
    path: str,
) -> Opened:
    """Find the BTF of a module: what the file holds, else what can be made of its DWARF, else the
    same from the module's file with debug information. ``encode`` may ask for another order.

    data   content of the module's file
    path   of it, for messages

    Raises BtfError, EncodeError or ReadError.
    """
    made: list[Encoded] = []
    choice, release = context.options.encode, context.release

    def from_dwarf(content: Readable) -> bytes:
        seconds = context.options.encode_seconds
        made.append(encode(content[:], path=path, release=release, seconds=seconds))
        return made[-1].content

    def opened(content: bytes | memoryview, path: str) -> Opened:
        found = btf.open_module(
            content,
            index,
            path=path,
            release=release,
            from_dwarf=None if choice == ENCODE_NONE else from_dwarf,
            prefer_dwarf=choice == ENCODE_ALL,
        )
        return Opened(found, made[-1].encoder if made else None)

    debug = module.debug
    if choice == ENCODE_NONE or debug is None or debug.problem is not None:
        return opened(data, path)
    if choice != ENCODE_ALL:
        with contextlib.suppress(btf.NoBtfError):
            return opened(data, path)
    return opened(read_input(debug.content_path), printable(debug.path))


def open_path(
    path: str,
    on: btf.BTF | btf.BaseIndex | None = None,
    *,
    shown: str,
    release: str | None = None,
) -> btf.Module:
    """Open one file of any kind: raw BTF, ELF or a kernel image, compressed or not.

    on        the base of split BTF, if there is one
    shown     what to call the file in messages
    release   of the base's kernel

    Raises ReadError or BtfError.
    """
    return btf.open_module(open_content(path), on, path=shown, release=release)


def open_file(
    file: FileInput, on: btf.BTF | btf.BaseIndex | None, release: str | None
) -> btf.Module:
    """Open one file, see ``open_path``. Raises NeedsBaseError, or another SourceError."""
    shown = printable(file.path)
    if file.problem is not None:
        raise SourceError(f"{shown}: {file.problem}")
    try:
        return open_path(file.content_path, on, shown=shown, release=release)
    except ReadError as error:
        raise SourceError(f"{shown}: {error.message}") from error
    except btf.BtfError as error:
        if on is None and isinstance(error, btf.WrongBaseError):
            raise needs_base(shown) from error
        raise SourceError(str(error)) from error


def open_types(file: FileInput, base: IndexedBase | None) -> btf.BTF:
    """The BTF of one file, see ``open_path``. Raises NeedsBaseError, or another SourceError."""
    on, release = (base.index, base.release) if base is not None else (None, None)
    return open_file(file, on, release).btf


class NeedsBaseError(SourceError):
    """Split BTF without its base."""


def needs_base(shown: str) -> NeedsBaseError:
    """What to say of split BTF without its base."""
    return NeedsBaseError(f"{shown}: split BTF: name its base, usually vmlinux, with -B")
