"""From a module's file to BTF that can be put on the base, by way of pahole if need be."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import btf

from .encode import Encoded, encode
from .names import printable
from .read import read_input
from .records import ENCODE_ALL, ENCODE_NONE, ModuleInput, WorkOptions


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
