"""From the sources a user names to kernels: one base each and the inputs that belong to it.

Looks at names and file sizes only; no file is opened. A folder is walked without following
symbolic links to folders; a link to a file is an input like the file. Hidden files and what does
not look like a module by its name are passed over, but a file that is named itself is always an
input.

Which base a module belongs to: ``--base`` if given; else the vmlinux in the deepest folder above
the module; else the only vmlinux there is; else the one whose release is in the module's path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from . import names
from .read import unreadable
from .records import KernelInput, ModuleInput


class SourceError(Exception):
    """The sources cannot be worked on as they were given; the message says what to change."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file or an unreadable folder. ``root`` is the folder of the source it was found under."""

    path: str
    source: str
    root: str
    file_bytes: int
    problem: str | None = None

    @property
    def file_name(self) -> str:
        return os.path.basename(self.path)


def find_modules(
    sources: Sequence[str], *, skip_folder: str | None = None
) -> tuple[ModuleInput, ...]:
    """All inputs of ``sources``, which belong to one base. Raises SourceError."""
    modules, _ = _find(sources, skip_folder)
    return _named(modules)


def find_kernels(
    sources: Sequence[str],
    *,
    base: str | None = None,
    kernel: str | None = None,
    skip_folder: str | None = None,
) -> tuple[KernelInput, ...]:
    """The kernels that ``sources`` hold, in the order of their names. Raises SourceError.

    ``skip_folder`` (where the output goes) is no source even if it lies in one.
    """
    modules, bases = _find(sources, skip_folder)
    if base is not None:
        if not os.path.exists(base):
            raise SourceError(f"no such file: {names.printable(base)} (given as the base)")
        path = os.path.abspath(base)
        root = modules[0].root if modules else os.path.dirname(path)
        bases = [_Found(path, os.path.basename(path), root, 0)]
        modules = [found for found in modules if found.path != path]
    if not modules:
        where = ", ".join(map(names.printable, sources))
        raise SourceError(
            f"no modules in {where}: looked for {', '.join(f'*{s}' for s in names.MODULE_SUFFIXES)}"
        )
    if not bases:
        raise SourceError(
            "no vmlinux among the sources (looked for vmlinux, vmlinux-RELEASE, vmlinux.btf, also "
            "compressed): name the kernel's vmlinux or its BTF with --base"
        )
    groups: dict[_Found, list[_Found]] = {}
    for found in modules:
        groups.setdefault(_base_of(found, bases), []).append(found)
    if kernel is not None:
        if len(groups) > 1:
            raise SourceError(f"the sources hold {len(groups)} kernels: --kernel can name only one")
        if kernel != names.safe(kernel):
            raise SourceError(
                f"{kernel!r} cannot be a kernel's name: use letters, digits and _ . + @ ~ , = -"
            )
    ordered = sorted(groups.items(), key=lambda group: (_label(*group), group[0].path))
    labels = [kernel] if kernel else names.distinct(
        [(_label(base_, group), os.path.dirname(base_.path)) for base_, group in ordered],
        reserved=(),
    )  # fmt: skip
    return tuple(
        KernelInput(
            name=label,
            base_path=base_.path,
            base_source=names.printable(base_.source),
            release=_release(base_, group),
            modules=_named(group),
        )
        for label, (base_, group) in zip(labels, ordered, strict=True)
    )


def _find(sources: Sequence[str], skip_folder: str | None) -> tuple[list[_Found], list[_Found]]:
    """Module files and base files of all sources, each path once, in the order of the paths."""
    skip = os.path.abspath(skip_folder) if skip_folder is not None else None
    modules: dict[str, _Found] = {}
    bases: dict[str, _Found] = {}
    for source in sources:
        path = os.path.abspath(source)
        if os.path.isdir(path):
            for found in _walk(path, skip):
                kind = bases if names.looks_like_base(found.file_name) else modules
                kind.setdefault(found.path, found)
        elif not os.path.lexists(path):
            raise SourceError(f"no such file or folder: {names.printable(source)}")
        else:
            found = _file(path, os.path.basename(path), os.path.dirname(path))
            modules[path] = found
    for path in modules:
        bases.pop(path, None)
    return [modules[path] for path in sorted(modules)], _one_per_folder(bases)


def _walk(root: str, skip: str | None) -> Iterable[_Found]:
    unreadable_folders: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unreadable_folders.append):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.join(folder, name) != skip
        )
        for name in sorted(files):
            if name.startswith("."):
                continue
            if names.looks_like_module(name) or names.looks_like_base(name):
                path = os.path.join(folder, name)
                yield _file(path, os.path.relpath(path, root), root)
    for error in unreadable_folders:
        path = os.fsdecode(error.filename)
        yield _Found(path, os.path.relpath(path, root), root, 0, unreadable(path, error))


def _file(path: str, source: str, root: str) -> _Found:
    try:
        status = os.stat(path)
    except OSError as error:
        return _Found(path, source, root, 0, unreadable(path, error))
    if not stat.S_ISREG(status.st_mode):
        return _Found(path, source, root, 0, "this is no regular file; only files can be read")
    return _Found(path, source, root, status.st_size)


def _one_per_folder(bases: dict[str, _Found]) -> list[_Found]:
    """Of a kernel's vmlinux in several shapes in one folder, one: raw BTF before ELF."""
    best: dict[tuple[str, str | None], _Found] = {}
    order = (".btf", ".btf.zst", ".btf.xz", ".btf.gz")

    def rank(found: _Found) -> tuple[int, str]:
        ends = [index for index, end in enumerate(order) if found.path.endswith(end)]
        return (ends[0] if ends else len(order), found.path)

    for found in sorted(bases.values(), key=rank):
        key = (os.path.dirname(found.path), names.release_of_base(found.file_name))
        best.setdefault(key, found)
    return sorted(best.values(), key=lambda found: found.path)


def _base_of(module: _Found, bases: Sequence[_Found]) -> _Found:
    if len(bases) == 1:
        return bases[0]
    above = [base for base in bases if PurePath(base.path).parent in PurePath(module.path).parents]
    if above:
        depth = max(len(PurePath(base.path).parts) for base in above)
        above = [base for base in above if len(PurePath(base.path).parts) == depth]
    candidates = above or list(bases)
    if len(candidates) > 1:
        named = [
            base
            for base in candidates
            if names.release_of_base(base.file_name) in PurePath(module.path).parts
        ]
        candidates = named or candidates
    if len(candidates) > 1:
        listed = ", ".join(names.printable(base.path) for base in candidates)
        raise SourceError(
            f"cannot tell which vmlinux {names.printable(module.path)} belongs to: {listed}; "
            "name one with --base"
        )
    return candidates[0]


def _release(base: _Found, modules: Sequence[_Found]) -> str | None:
    """A kernel's release, as far as the paths tell."""
    found = names.release_of_base(base.file_name) or names.release_in_path(base.path)
    if found:
        return found
    releases = {names.release_in_path(module.path) for module in modules}
    return releases.pop() if len(releases) == 1 else None


def _label(base: _Found, modules: Sequence[_Found]) -> str:
    """What a kernel is called if the user does not say: its release, else its folder."""
    if release := _release(base, modules):
        return names.plain(release)
    folder = os.path.dirname(base.path)
    if Path(base.root) not in Path(base.path).parents:  # --base FILE from elsewhere
        folder = base.root
    return names.plain(os.path.basename(folder)) or "kernel"


def _named(found: Sequence[_Found]) -> tuple[ModuleInput, ...]:
    """Inputs with distinct names, numbered in the order of the names."""
    keyed = sorted(found, key=lambda f: (names.stem(f.file_name), f.source, f.path))
    labels = names.distinct([(names.stem(f.file_name), os.path.dirname(f.source)) for f in keyed])
    ordered = sorted(zip(labels, keyed, strict=True), key=lambda pair: pair[0])
    return tuple(
        ModuleInput(
            name=label,
            path=f.path,
            source=names.printable(f.source),
            object_id=number,
            file_bytes=f.file_bytes,
            problem=f.problem,
        )
        for number, (label, f) in enumerate(ordered, start=1)
    )
