"""From a file to its BTF: ``btf.open_module`` with reading, decompression and pahole added.

All commands open their inputs here: ``open_input`` where BTF may be made of DWARF, ``open_path``
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import btf
from btf.files.elf import read_elf
from btf.files.readable import Readable
from btf.files.sections import MAGIC

from ..files.read import ReadError, open_content, read_input
from ..model.errors import SourceError
from ..model.options import ENCODE_ALL, ENCODE_NONE, KernelContext
from ..model.records import FileInput, ModuleInput
from ..sources.names import printable

if TYPE_CHECKING:
    from .encode import Encoded


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
    same from the module's file with debug information, which a debuginfod server may have.
    ``encode`` may ask for another order.

    data   content of the module's file
    path   of it, for messages

    Raises BtfError, EncodeError or ReadError.
    """
    return _Ways(module, data, index, context, path).open()


@dataclass(slots=True)
class _Ways:
    """Where a module's BTF may come from, see ``open_input``."""

    module: ModuleInput
    data: bytes | memoryview
    index: btf.BaseIndex
    context: KernelContext
    path: str

    def open(self) -> Opened:
        choice, debug = self.context.options.encode, self.module.debug
        if choice == ENCODE_NONE:
            return self._own()
        ways, problems = [self._own, self._from_server], []
        if debug is not None and debug.problem is None:
            ways.insert(0 if choice == ENCODE_ALL else 1, self._separate)
        elif debug is not None:
            problems.append(f"{printable(debug.path)}: {debug.problem}")
        missing = None
        for way in ways:
            try:
                return way()
            except btf.NoBtfError as error:
                if way == self._own:
                    missing = error
                elif error.message:
                    problems.append(str(error))
        assert missing is not None
        message = "; ".join([missing.message, *problems])
        raise btf.NoBtfError(message, self.path, missing.section) from missing

    def _own(self) -> Opened:
        return self._opened(self.data, self.path)

    def _separate(self) -> Opened:
        """From its file with debug information."""
        assert self.module.debug is not None
        self.data = bytes(self.data)  # which reading may overwrite
        content, shown = read_input(self.module.debug.content_path), self.module.debug.path
        own, told = build_id_of(self.data), build_id_of(content)
        if None not in (own, told) and own != told:
            message = f"of another build: its build id is {told}, not {own}"
            raise btf.NoBtfError(message, printable(shown))
        return self._opened(content, printable(shown))

    def _from_server(self) -> Opened:
        from ..engine.isolation import no_time_limit
        from ..sources.debuginfod import NotFoundError, find_debug_info

        options, build_id = self.context.options, build_id_of(self.data)
        if options.debuginfod is None or build_id is None:
            raise btf.NoBtfError("")
        try:
            with no_time_limit():
                found = find_debug_info(build_id, options.debuginfod, options.encode_seconds)
        except NotFoundError as error:
            raise btf.NoBtfError(f"debuginfod: {error}") from error
        shown, content = found
        return self._opened(content, shown)

    def _opened(self, content: bytes | memoryview, path: str) -> Opened:
        made: list[Encoded] = []
        choice, release = self.context.options.encode, self.context.release
        seconds = self.context.options.encode_seconds

        def from_dwarf(content: Readable) -> bytes:
            from .encode import encode  # late: few files take it

            made.append(encode(content[:], path=path, release=release, seconds=seconds))
            return made[-1].content

        found = btf.open_module(
            content,
            self.index,
            path=path,
            release=release,
            from_dwarf=None if choice == ENCODE_NONE else from_dwarf,
            prefer_dwarf=choice == ENCODE_ALL,
        )
        return Opened(found, made[-1].encoder if made else None)


def build_id_of(content: Readable) -> str | None:
    """The build id of an ELF file, if it has one; None of other files. Raises BtfError."""
    return read_elf(content).build_id if content[:4] == MAGIC else None


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


class NeedsBaseError(SourceError):
    """Split BTF without its base."""


def needs_base(shown: str) -> NeedsBaseError:
    """What to say of split BTF without its base."""
    return NeedsBaseError(f"{shown}: split BTF: name its base, usually vmlinux, with -B")
