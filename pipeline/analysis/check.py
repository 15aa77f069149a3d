"""Would the kernel load it: the rules of its own verifier of BTF, for files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import btf
from btf.kernel_rules.check import MODULE
from btf.kernel_rules.files import Checked, check_raw, read_raw
from btf.kernel_rules.rules import RULES, Release, parse_release, told_release

from ..files.read import ReadError, open_content
from ..model.base import Announce, IndexedBase
from ..model.errors import BaseError, SourceError
from ..model.options import ENCODE_NONE
from ..model.records import FileInput, KernelInput, ModuleInput
from ..sources.discover import find_kernels, find_modules
from ..sources.listing import find_files
from ..sources.names import printable
from ..sources.packages import opens_as_package
from ..sources.unpack import PackageUnpacker, unpacked
from ..work.base import load_base, load_file, load_first
from ..work.open import needs_base


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What became of one file.

    path      as it was given, or as it is called in its package
    loads     whether the kernel would take its BTF; None where that could not be checked
    load_as, release   as what it was checked, where the kernel would take it
    error     what the kernel refuses, or why it could not be checked
    """

    path: str
    loads: bool | None
    load_as: str | None = None
    release: str | None = None
    error: btf.BtfError | SourceError | BaseError | None = None


def check_files(
    paths: Sequence[str],
    base_path: str | None = None,
    *,
    release: str | None = None,
    load_as: str | None = None,
    pointer_size: int | None = None,
    announce: Announce | None = None,
) -> list[CheckedFile]:
    """Check files, and all files in folders and packages, in their order: of a kernel vmlinux, then
    its modules on that. With ``base_path`` only the modules are, on that base.

    release   of the kernel; default: that which the file or the base names, else the newest known
    The others are those of ``btf.check_kernel_rules``.

    Raises BaseError, or SourceError for a release that is not known.
    """
    _release(release)
    base = load_base(base_path, announce) if base_path is not None else None
    checker = _Checker(base, release, load_as, pointer_size)
    return [checked for path in paths for checked in checker.all_of(path)]


@dataclass(frozen=True, slots=True)
class _Checker:
    """Checks files as it was asked for, see ``check_files``."""

    base: IndexedBase | None
    release: str | None
    load_as: str | None
    pointer_size: int | None

    def all_of(self, path: str) -> Iterator[CheckedFile]:
        """Check a file, or all that is in a folder or package."""
        if not os.path.isdir(path) and not opens_as_package(path):
            yield self._one(FileInput(path, path), self.base)
            return
        try:
            if self.base is None and find_files([path]).bases:
                for kernel in find_kernels([path]):
                    yield from self._kernel(kernel)
                return
            modules = find_modules([path])
            if not modules:
                raise SourceError(f"no modules in {printable(path)}")
            with unpacked(modules) as files:
                yield from (self._one(file, self.base) for file in files)
        except (SourceError, BaseError) as error:
            yield CheckedFile(printable(path), None, error=error)

    def _kernel(self, kernel: KernelInput) -> Iterator[CheckedFile]:
        unpacker = PackageUnpacker(tempfile.gettempdir(), ENCODE_NONE)
        with contextlib.closing(unpacker):
            unpacker.prepare(kernel)
            base = load_first(kernel.bases, partial(unpacker.base, kernel), load_file, 0)
            assert base.file is not None
            yield self._one(base.file, None)
            for module in unpacker.modules(kernel).modules:
                yield self._one(module, base)

    def _one(self, file: FileInput | ModuleInput, base: IndexedBase | None) -> CheckedFile:
        shown = printable(file.path)
        try:
            return CheckedFile(shown, True, *self._check(file, base, shown))
        except btf.KernelRefusal as refusal:
            return CheckedFile(shown, False, error=refusal)
        except (btf.BtfError, SourceError) as error:
            return CheckedFile(shown, None, error=error)

    def _check(
        self, file: FileInput | ModuleInput, base: IndexedBase | None, shown: str
    ) -> Checked:
        if file.problem is not None:
            raise SourceError(f"{shown}: {file.problem}")
        try:
            raw = read_raw(open_content(file.content_path), shown)
        except ReadError as error:
            raise SourceError(f"{shown}: {error.message}") from error
        if base is None and raw.is_split and raw.below is None and self.load_as in (None, MODULE):
            raise needs_base(shown)
        if base is not None and self.load_as is None and not raw.is_split:
            if base is self.base:
                raise SourceError(
                    f"{shown}: standalone BTF, not split: check it without a base (-B)"
                )
            base = None
        return check_raw(
            raw,
            base.index if base is not None else None,
            path=shown,
            release=self.release or (told_release(base.release) if base is not None else None),
            load_as=self.load_as,
            pointer_size=self.pointer_size,
        )


def rules_of(release: str | None = None) -> list[dict[str, str]]:
    """The rules of a release, of all releases if it is None: what each says. Raises SourceError."""
    at = _release(release)
    return [
        {"source": rule.source, "releases": rule.releases, "words": rule.words, "what": rule.what}
        for rule in RULES
        if rule is not None and (release is None or rule.holds_in(at))
    ]


def _release(text: str | None) -> Release:
    try:
        return parse_release(text)
    except (ValueError, btf.BtfError) as error:
        raise SourceError(str(error)) from error
