"""What ``splitbtf diff`` is given: files of BTF, or whole kernels in folders and packages."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace

import btf

from ...model.base import Announce, IndexedBase
from ...model.errors import SourceError
from ...model.options import ENCODE_NONE, KernelContext, RunOptions
from ...model.records import FileInput, KernelInput
from ...model.steps import STEPS
from ...sources.discover import find_kernels
from ...sources.listing import is_manifest
from ...sources.names import RESERVED as VMLINUX
from ...sources.names import kernel_name, printable
from ...sources.packages import opens_as_package
from ...sources.unpack import PackageUnpacker, find_one
from ...store.output import read_manifests
from ...work.base import Unusable, load_file, load_first
from ...work.module import run_alone
from .opened import OpenedFiles, open_object
from .stored import StoredKernel, stored_kernels

Side = StoredKernel | OpenedFiles
_NAMED_AT_MOST = 5


def open_sides(
    old: str, new: str, bases: Sequence[str], announce: Announce | None = None
) -> tuple[Side, Side, str | None]:
    """Open two files of one object, or two kernels, or a kernel and a file of one of its objects.

    old, new  a file of BTF; a folder, package or manifest with one kernel; an output folder with
              one
    bases     of the old one and of the new one; a single one is of both, but beside a file no
              kernel's, which has its own

    Returns also the object that they are compared by, where one of them is a file.

    Raises SourceError, BaseError, OutputError or NoRoomError.
    """
    with contextlib.closing(PackageUnpacker(tempfile.gettempdir(), ENCODE_NONE)) as unpacker:
        asked = [
            (path, bases[min(at, len(bases) - 1)] if bases else None)
            for at, path in enumerate((old, new))
        ]
        own = len(bases) == 1 and not all(_may_be_kernel(path) for path in (old, new))
        found = [
            _find(path, None if own else base, name)
            for (path, base), name in zip(asked, "01", strict=True)
        ]
        for one in found:
            if isinstance(one, KernelInput):
                unpacker.prepare(one)
        opened: list[Side | None] = []
        for (path, _), one in zip(asked, found, strict=True):
            if isinstance(one, KernelInput) and announce is not None:
                modules = f" and {len(one.modules):,} modules" if one.modules else ""
                announce(f"reading {printable(path)}: vmlinux{modules}")
            opened.append(_open_kernel(one, unpacker) if isinstance(one, KernelInput) else one)
    files = [
        open_object(path, base, dedup=True)
        for (path, base), one in zip(asked, opened, strict=True)
        if one is None
    ]
    kernels = [one for one in opened if one is not None]
    label = None
    if files:
        labels = [label for _, label in files]
        label = VMLINUX if VMLINUX in labels else labels[-1]
        if kernels:
            plain = kernel_name(label)
            same = (n for n in kernels[0].named_types.objects if kernel_name(n) == plain)
            label = next(same, VMLINUX if files[0][0].base is None else label)
        opened = [one or _of_file(files.pop(0)[0], label) for one in opened]
    before, after = opened
    assert before is not None and after is not None
    return before, after, label


def _of_file(types: btf.BTF, label: str) -> OpenedFiles:
    """What a file holds itself, of the object of that name."""
    if types.base is None:
        return OpenedFiles(types, [label])
    return OpenedFiles(types.base.flat, ["", label], [types])


def _may_be_kernel(path: str) -> bool:
    return os.path.isdir(path) or is_manifest(path) or opens_as_package(path)


def _find(path: str, base: str | None, name: str) -> KernelInput | StoredKernel | None:
    """The kernel that a path means, called ``name``; None of a file. Raises SourceError."""
    if not _may_be_kernel(path):
        return None
    if os.path.isdir(path) and (manifests := read_manifests(path)):
        stored = stored_kernels(path, manifests)
        if len(stored) == 1 and base is None:
            return next(iter(stored.values()))
        raise SourceError(
            f"{printable(path)} is an output folder: compare kernels in it with `splitbtf diff "
            f"--in {printable(path)} OLD NEW`; it has {_listed(list(stored))}"
        )
    try:
        kernels = find_kernels([path], base=base)
    except SourceError:
        if opens_as_package(path):
            with contextlib.suppress(SourceError):
                find_one(path)
                return None
        raise
    if len(kernels) != 1:
        raise SourceError(
            f"{printable(path)} holds {len(kernels)} kernels, {_listed([k.name for k in kernels])}:"
            " name the folder or the packages of one, or have all of them in an output folder "
            "(splitbtf run) and compare there (--in)"
        )
    return replace(kernels[0], name=name)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _load(base: FileInput, _: float) -> IndexedBase | Unusable:
    found = load_file(base, 0)
    if isinstance(found, Unusable) and found.only_dwarf:
        return Unusable(f"{found.reason}: `splitbtf run` makes BTF of it, to compare with --in")
    return found


def _open_kernel(kernel: KernelInput, unpacker: PackageUnpacker) -> OpenedFiles:
    """Read vmlinux and the modules, and deduplicate these as ``splitbtf run`` does. No BTF is made
    of DWARF.

    Raises BaseError or NoRoomError.
    """
    base = load_first(kernel.bases, lambda one: unpacker.base(kernel, one), _load, 0)
    btf.make_ready(base.index)
    context = KernelContext(RunOptions((), "", encode=ENCODE_NONE), base.release)
    modules = unpacker.modules(kernel).modules
    STEPS.debug("deduplicating %d modules", len(modules))
    objects: list[str] = [VMLINUX]
    splits: list[btf.BTF] = []
    unread: dict[str, str] = {}
    for module in modules:
        done = run_alone(module, base.index, context)
        if done.content is not None:
            objects.append(module.name)
            splits.append(btf.parse(done.content, base.types.flat, path=module.name))
        elif done.record.failure is not None:
            unread[module.name] = done.record.failure.message
    unpacker.drop(kernel)
    return OpenedFiles(base.types.flat, objects, splits, unread)
