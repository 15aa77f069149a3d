"""From the files of sources to kernels: one base each and the modules that belong to it.

A module's base is ``--base`` if given; else the one in the deepest folder above the module; else
one whose name tells the release that is in the module's path; else one of the same source; else
the only one that there is; else, for modules below ``lib/modules/<release>``, one that lies where
that tree has its kernels, though no source names it. A base never gets modules of which it is
known that they are of another release.

The release is what a base says itself (``releases``), where its name or its path does not tell it
or that can be read at once; else what the path says, else the name.

Bases of one release are shapes of one vmlinux (``vmlinuz``, ``vmlinux`` with debug information),
put in the order in which they are to be tried, unless they come from packages of different
versions or from folders that hold modules of their own: those are different kernels of one
release. A module with debug information (``-dbg`` packages) is the same module as the stripped
one where there is one.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

from ..model.errors import SourceError
from ..model.records import FileInput, KernelInput, ModuleInput
from . import names
from .debug_files import pair_debug_files
from .formats import FORMATS
from .listing import (
    FoundFile,
    FoundFiles,
    absolute,
    check_apart,
    find_base,
    find_files,
    installed_bases,
    is_manifest,
    read_manifest,
)
from .manifests import SUFFIX as MANIFEST_SUFFIX

_MOST_TOLD = 5  # files that a message names, or that are looked into


def find_modules(
    sources: Sequence[str], *, skip_folder: str | None = None
) -> tuple[ModuleInput, ...]:
    """All inputs of ``sources``, which belong to one base; a file that is named is an input even
    if it is a vmlinux. Raises SourceError."""
    found = find_files(sources, skip_folder=skip_folder)
    named = set(map(absolute, sources))
    files = [*found.modules, *(base for base in found.bases if base.path in named)]
    return _named(files, pair_debug_files(files, found.debug, by_build_id=False))


def find_kernels(
    sources: Sequence[str],
    *,
    base: str | None = None,
    kernel: str | None = None,
    skip_folder: str | None = None,
) -> tuple[KernelInput, ...]:
    """The kernels that ``sources`` hold, in the order of their names. Raises SourceError.

    ``skip_folder`` (where the output goes) is no source even if it lies in one. A kernel without
    any base has modules all the same: what becomes of them is for the caller to say.
    """
    others = [source for source in sources if not is_manifest(source)]
    groups = _groups(others, base, skip_folder) if others else []
    for path in filter(is_manifest, sources):
        try:
            groups += _of_manifest(path, base, skip_folder)
        except SourceError as error:
            if len(sources) == 1:
                raise
            groups.append(_broken(path, error))
    groups = _kernels_of(groups, base)
    if not groups:
        where = ", ".join(map(names.printable, sources))
        raise SourceError(
            f"no modules in {where}: looked for {', '.join(f'*{s}' for s in names.MODULE_SUFFIXES)}"
            f" and packages ({', '.join(f'*{known.suffixes[0]}' for known in FORMATS)})"
        )
    if not any(group.bases for group in groups):
        problems = [file for group in groups for file in group.modules if file.problem is not None]
        told = [f"{names.printable(file.path)}: {file.problem}" for file in problems[:_MOST_TOLD]]
        unread = f"; cannot be read: {'; '.join(told)}" if told else ""
        if len(problems) == sum(len(group.modules) for group in groups):
            raise SourceError(f"nothing of the sources can be read: {'; '.join(told)}")
        raise SourceError(
            "no vmlinux of these modules among the sources (looked for vmlinux, vmlinux-RELEASE, "
            "vmlinuz-RELEASE, vmlinux.btf, RELEASE.btf, also compressed, and in packages): name "
            f"the kernel's vmlinux or its BTF with --base{unread}"
        )
    if kernel is not None:
        if len(groups) > 1:
            raise SourceError(f"the sources hold {len(groups)} kernels: --kernel can name only one")
        if kernel != names.safe(kernel):
            raise SourceError(
                f"{kernel!r} cannot be a kernel's name: use letters, digits and _ . + @ ~ , = -"
            )
    ordered = sorted(groups, key=lambda group: (group.label, group.place))
    labels = [kernel] if kernel else names.distinct(
        [(group.label, group.place) for group in ordered], reserved=()
    )  # fmt: skip
    return tuple(
        KernelInput(
            name=label,
            bases=tuple(map(file_input, group.bases)),
            release=group.release,
            modules=_named(
                group.modules, pair_debug_files(group.modules, group.debug, by_build_id=True)
            ),
        )
        for label, group in zip(labels, ordered, strict=True)
    )


def _kernels_of(groups: Sequence[_Group], base: str | None) -> list[_Group]:
    """The groups that are kernels: those with modules, and, unless the user named the base of
    modules that are not there, those of a vmlinux alone.

    Of these, one in a folder where others have modules is none of them, such as a second kernel in
    ``/boot``; nor is one deeper down in a source whose release no name tells, which may be what a
    build has left beside the kernel's own. Where nothing else is found, it is.
    """
    whole = [group for group in groups if group.modules]
    if base is not None:
        return whole
    taken = {folder for group in whole for folder in group.folders}
    alone = [group for group in groups if not group.modules and not taken & group.folders]
    told = [group for group in alone if group.is_named or group.is_at_root]
    return whole + (told if whole or told else alone)


def _groups(sources: Sequence[str], base: str | None, skip_folder: str | None) -> list[_Group]:
    if skip_folder is not None:
        check_apart(sources, skip_folder)
    found = find_files(sources, skip_folder=skip_folder)
    groups = _on_one_base(found, base) if base is not None else _group_by_base(found)
    for group in groups:
        group.debug = found.debug
    return groups


def _of_manifest(path: str, base: str | None, skip_folder: str | None) -> list[_Group]:
    """What a manifest names, by itself: nothing else is searched for its base or its modules."""
    manifest, sources = read_manifest(path)
    if base is not None and manifest.base is not None:
        raise SourceError(f"{names.printable(path)} names a base: leave --base out")
    groups = _groups(sources, base or manifest.base, skip_folder)
    if manifest.kernel is not None:
        groups = [group for group in groups if group.modules] or groups
        if len(groups) > 1:
            raise SourceError(
                f"{names.printable(path)} calls {len(groups)} kernels {manifest.kernel!r}: "
                "a manifest with a kernel's name is of one kernel"
            )
        for group in groups:
            group.name = manifest.kernel
    return groups


def _broken(path: str, error: SourceError) -> _Group:
    """A kernel that nothing can be done of, because of its manifest."""
    source = os.path.basename(path)
    where = os.path.abspath(path)
    return _Group(
        modules=[FoundFile(where, source, os.path.dirname(where), problem=str(error))],
        name=source.removesuffix(MANIFEST_SUFFIX),
    )


def best_bases(found: FoundFiles) -> list[FoundFile]:
    """Of each vmlinux the best shape."""
    return sorted(
        (group.bases[0] for group in _group_bases(found.modules, found.bases)),
        key=lambda base: base.path,
    )


# ------------------------------------------------------------------ one group a kernel


@dataclass
class _Group:
    """The files of one kernel: shapes of its base, and its modules; and files with debug
    information of this or other kernels."""

    bases: list[FoundFile] = field(default_factory=list)
    modules: list[FoundFile] = field(default_factory=list)
    debug: Sequence[FoundFile] = ()
    name: str | None = None

    @property
    def release(self) -> str | None:
        """As far as the paths tell."""
        found = {base.release for base in self.bases} - {None}
        found = found or {module.release for module in self.modules}
        return found.pop() if len(found) == 1 else None

    @property
    def is_named(self) -> bool:
        """Whether paths or names tell the release."""
        return any(base.is_named for base in self.bases)

    @property
    def folders(self) -> set[str]:
        """Where its bases lie."""
        return {os.path.dirname(base.path) for base in self.bases}

    @property
    def is_at_root(self) -> bool:
        """Whether a base lies right in a source, not in a folder below."""
        return bool(self.folders & {base.root for base in self.bases})

    @property
    def label(self) -> str:
        """What the kernel is called: its name, else its release, else its folder.

        A build in a folder of its own is called as that is, since builds of one release are many.
        """
        if self.name is not None:
            return names.plain(self.name)
        if self.release is not None and not self._is_build:
            return names.plain(self.release)
        files = [*self.bases, *self.modules]
        # A base that was named and lies elsewhere says nothing of the kernel.
        roots = {module.root for module in self.modules}
        folder = files[0].root
        if self.bases and (not roots or self.bases[0].root in roots):
            folder = os.path.dirname(self.bases[0].path)
        elif self.modules:
            if told := next(filter(None, map(_told, self.modules[:_MOST_TOLD])), None):
                return names.plain(told)
            folder = self.modules[0].root
        return names.plain(os.path.basename(folder)) or "kernel"

    @property
    def _is_build(self) -> bool:
        """Whether only what the base itself says tells the release, and it lies where it may have
        been built."""
        if self.is_named or any(module.release for module in self.modules):
            return False
        return all(
            names.is_built_in_place(base.file_name)
            and os.path.basename(os.path.dirname(base.path)) != "boot"
            for base in self.bases
        )

    @property
    def place(self) -> str:
        """What tells kernels of one label apart: a package's version, else the folder."""
        first = (self.bases or self.modules)[0]
        return first.version or os.path.dirname(first.path)

    def has_flavour(self, release: str) -> bool:
        """Whether a base is called as such a release ends: ``vmlinuz-lts``."""
        flavours = {names.flavour_of_base(base.file_name) for base in self.bases} - {None}
        return any(release.endswith(f"-{flavour}") for flavour in flavours)

    def fits(self, module: FoundFile) -> bool:
        """False where two releases are known and differ."""
        releases = {base.release for base in self.bases}
        return module.release is None or None in releases or module.release in releases


def _on_one_base(found: FoundFiles, base: str) -> list[_Group]:
    """Every module on the base that the user named."""
    bases = sorted(map(_informed, find_base(base)), key=_preference)
    if not bases:
        raise SourceError(f"no vmlinux in {names.printable(base)} (given as the base)")
    paths = {file.path for file in bases}
    return [_Group(bases, [module for module in found.modules if module.path not in paths])]


def _group_by_base(found: FoundFiles) -> list[_Group]:
    """Groups of bases, and each module in one of them."""
    groups = _group_bases(found.modules, found.bases)
    without_base: dict[str, _Group] = {}
    known: dict[tuple[str, bool], list[_Group]] = {}  # the same for all files of a folder
    for module in found.modules:
        key = (os.path.dirname(module.path), module.problem is None)
        if key not in known:
            known[key] = _groups_of(module, groups)
        group = _one_of(known[key], module)
        if group is None:  # no base fits: that much can be recorded
            group = without_base.setdefault(module.release or module.source, _Group())
        group.modules.append(module)
    for group in without_base.values():
        one_of_folder = {os.path.dirname(m.path): m for m in group.modules if m.release}
        bases = {
            base.path: base
            for module in one_of_folder.values()
            for base in map(_informed, installed_bases(module))
            if base.release == module.release
        }
        group.bases = sorted(bases.values(), key=_preference)
    return groups + list(without_base.values())


def _group_bases(modules: Sequence[FoundFile], bases: Sequence[FoundFile]) -> list[_Group]:
    """Group the bases that are shapes of one vmlinux, the best of each group first."""
    own_modules = {
        (module.root, module.release) for module in modules if not names.has_debug_info(module.path)
    }

    def site(base: FoundFile) -> str | None:
        """What tells bases of one release apart, if anything does."""
        whole = (base.root, base.release) in own_modules
        return base.version or (base.root if whole else None)

    bases = [_informed(base) for base in bases]
    sites: dict[str, set[str]] = defaultdict(set)
    for base in bases:
        if base.is_named and base.release is not None and (where := site(base)) is not None:
            sites[base.release].add(where)
    groups: dict[tuple[str | None, str | None], _Group] = defaultdict(_Group)
    for base in sorted(bases, key=_preference):
        flavour = names.flavour_of_base(base.file_name)
        key: tuple[str | None, str | None] = (base.release or flavour, os.path.dirname(base.path))
        if base.is_named and base.release is not None:
            key = (base.release, site(base) if len(sites[base.release]) > 1 else None)
        groups[key].bases.append(base)
    return list(groups.values())


def _informed(base: FoundFile) -> FoundFile:
    """A base with the release that it says itself, as far as that is needed or read at once."""
    if base.problem is not None or ".btf" in base.file_name or base.path.startswith("/sys/"):
        return base
    told = _told(base, whole=base.release is None)
    return replace(base, told=told) if told is not None else base


def _told(file: FoundFile, whole: bool = True) -> str | None:
    """The release that a file itself says. ``whole``: whatever has to be read for that."""
    from .releases import told_release  # late: most files tell it by their names

    return told_release(file.path, file.package, file.source, whole)


def _preference(base: FoundFile) -> tuple[int, str]:
    """Order shapes: raw BTF, vmlinux, the compressed image (which holds the same), and last what
    is large because of its debug information."""
    if ".btf" in base.file_name or base.path.startswith("/sys/"):
        rank = 0
    elif names.has_debug_info(base.path):
        rank = 3
    else:
        rank = 2 if names.is_image(base.file_name) else 1
    return (rank, base.path)


def _groups_of(module: FoundFile, groups: Sequence[_Group]) -> list[_Group]:
    """The groups whose base may be that of the modules of a folder, of which this is one."""
    fitting = [group for group in groups if group.fits(module)]
    depths = [_depth_above(group, module) for group in fitting]
    same_release = [
        group
        for group in fitting
        if module.release is not None and any(b.release == module.release for b in group.bases)
    ]
    same_root = [g for g in fitting if any(base.root == module.root for base in g.bases)]
    if module.is_damaged_package and same_root:
        fitting = same_root
    elif (deepest := max(depths, default=0)) > 0:
        fitting = [g for g, depth in zip(fitting, depths, strict=True) if depth == deepest]
    elif same_release:
        fitting = [g for g in same_release if g.place == module.version] or same_release
    elif module.release is not None and len(groups) > 1:
        fitting = same_root  # a base of unknown release from elsewhere is no better than any
    if len(fitting) > 1:
        fitting = [group for group in fitting if group in same_root] or fitting
    return fitting


def _one_of(fitting: Sequence[_Group], module: FoundFile) -> _Group | None:
    """The one group that is the module's: by the flavour in the base's name, else by vermagic; None
    if none can be. Raises SourceError."""
    if not fitting or (len(fitting) > 1 and module.problem is not None):
        return None
    if len(fitting) > 1 and module.release is not None:
        fitting = [group for group in fitting if group.has_flavour(module.release)] or fitting
    if len(fitting) > 1 and module.release is not None:  # others are copies: vmlinuz, or .old
        fitting = [group for group in fitting if group.is_named] or fitting
    if len(fitting) > 1 and module.release is None:
        told = _told(module)
        fitting = [group for group in fitting if told and group.release == told] or fitting
    if len(fitting) > 1:
        listed = ", ".join(names.printable(group.bases[0].path) for group in fitting)
        raise SourceError(
            f"cannot tell which vmlinux {names.printable(module.path)} belongs to: {listed}; "
            "name one with --base"
        )
    return fitting[0]


def _depth_above(group: _Group, module: FoundFile) -> int:
    """How deep the deepest folder is that holds a base of the group and, perhaps further down,
    the module; 0 if there is none."""
    folders = {os.path.join(folder, "") for folder in group.folders}
    return max((f.count("/") for f in folders if module.path.startswith(f)), default=0)


# ------------------------------------------------------------------ records


def _named(found: Sequence[FoundFile], debug: Mapping[str, FoundFile]) -> tuple[ModuleInput, ...]:
    """Inputs with distinct names, numbered in the order of the names.

    debug  files with debug information, by the path of the module
    """
    used = {file.path for file in debug.values()}
    stripped = [file for file in found if file.path not in used]
    keyed = sorted((names.stem(f.file_name), f.source, f.path, at) for at, f in enumerate(stripped))
    labels = names.distinct([(stem, os.path.dirname(source)) for stem, source, _, _ in keyed])
    named = [(label, stripped[key[-1]]) for label, key in zip(labels, keyed, strict=True)]
    ordered = sorted(named, key=itemgetter(0))
    return tuple(
        ModuleInput(
            name=label,
            path=f.path,
            source=names.printable(f.source),
            object_id=number,
            file_bytes=f.file_bytes,
            problem=f.problem,
            package=f.package,
            debug=file_input(debug[f.path]) if f.path in debug else None,
        )
        for number, (label, f) in enumerate(ordered, start=1)
    )


def file_input(found: FoundFile) -> FileInput:
    """The record of a file that later stages work with."""
    return FileInput(
        found.path, names.printable(found.source), found.problem, found.package,
        package_name=found.package_name, package_version=found.version,
    )  # fmt: skip
