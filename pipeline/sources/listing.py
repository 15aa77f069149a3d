"""From the sources that a user names to the files in them: modules, and bases to put them on.

    folder     walked without following links to folders; hidden files are passed over
    package    a package of a distribution, or a tar, looked into without unpacking it
    manifest   a .toml file that says which of these make a kernel (see ``manifests``)
    file       always an input, under any name

Each may be named by a path or by a URI that pyarrow knows (``s3://bucket/kernels``).

Looks at names only, with one exception: in a folder where nothing has a suffix, as in
``/sys/kernel/btf``, a file is raw BTF if it begins like it. What a file is good for is found out
when it is read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from urllib.parse import unquote, urlsplit

from ..files.read import begins_like_btf, near_files, unreadable
from ..files.remote import is_uri, list_remote, uri_below, without_secrets
from ..model.errors import SourceError
from . import manifests, names
from .archive import Package, PackageError
from .formats import is_package, is_package_in_folder
from .packages import begins_like_tar, opens_as_package, read_package

_RUNNING = "/sys/kernel/btf/"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a source, or one that should be and cannot be read (``problem``).

    ``path`` says where it is. That of a file in a package is the package's path and then its name
    in it, as if the package were a folder. ``root`` is the folder of the source, or the package;
    ``source`` is the path relative to it. ``version`` is that of a Debian package, with its
    architecture, ``package_name`` what it is called. ``told`` is the release that a base itself
    says. ``release`` is the kernel's: that, else what the path or a base's name tells; ``is_named``
    says whether these tell it.
    """

    path: str
    source: str
    root: str
    file_bytes: int = 0
    problem: str | None = None
    package: str | None = None
    version: str | None = None
    package_name: str | None = None
    told: str | None = None

    release: str | None = field(init=False)
    is_named: bool = field(init=False)
    file_name: str = field(init=False)

    def __post_init__(self) -> None:
        folder, file_name = os.path.split(self.path)
        object.__setattr__(self, "file_name", file_name)
        named = None
        if not self.is_damaged_package:
            named = _release_of_folder(folder) or names.release_of_base(file_name)
        object.__setattr__(self, "release", self.told or named)
        object.__setattr__(self, "is_named", named is not None and self.told in (None, named))

    @property
    def is_damaged_package(self) -> bool:
        """Whether this says what is wrong with a package; its name says nothing of a kernel."""
        return self.problem is not None and self.package is None and is_package(self.file_name)


@lru_cache(maxsize=4096)  # a folder holds many modules
def _release_of_folder(folder: str) -> str | None:
    if f"{folder}/".startswith(_RUNNING):
        return os.uname().release
    return names.release_in_path(f"{folder}/")


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What was found, in the order of the paths, each path once. ``debug`` are files that have
    debug information of others, and are nothing else."""

    modules: tuple[FoundFile, ...]
    bases: tuple[FoundFile, ...]
    debug: tuple[FoundFile, ...] = ()


def find_files(sources: Sequence[str], *, skip_folder: str | None = None) -> FoundFiles:
    """All modules and bases of ``sources``. Raises SourceError.

    ``skip_folder`` (where the output goes) is no source even if it lies in one.
    """
    skip = absolute(skip_folder) if skip_folder is not None else None
    modules: dict[str, FoundFile] = {}
    bases: dict[str, FoundFile] = {}
    debug: dict[str, FoundFile] = {}
    copies: dict[tuple[str | None, str, str], str] = {}  # package, version, file -> where
    for source in sources:
        path = absolute(source)
        if not is_uri(path) and not os.path.lexists(path):
            near = near_files(path)
            raise SourceError(f"no such file or folder: {names.printable(source)}{near}")
        for file in _find(path, skip):
            if file.package is not None and file.version is not None:
                what = (file.package_name, file.version, file.source)
                first = copies.setdefault(what, file.package)
                if first != file.package:  # the same package lies in two places
                    continue
            kind = modules
            if names.looks_like_base(file.file_name) and not file.is_damaged_package:
                kind = bases
            elif file.path != path and names.is_only_debug_info(file.path):
                kind = debug
            kind.setdefault(file.path, file)
    for file_path in modules:
        debug.pop(file_path, None)  # named itself
    ordered = (tuple(kind[path] for path in sorted(kind)) for kind in (modules, bases, debug))
    return FoundFiles(*ordered)


def find_base(path: str) -> tuple[FoundFile, ...]:
    """What a file is that is named as a base: itself, or of a package the bases in it.

    Raises SourceError.
    """
    where = absolute(path)
    if not is_uri(where) and not os.path.isfile(where):
        what = "a folder, not a file" if os.path.isdir(where) else "no such file"
        near = near_files(where) if what == "no such file" else ""
        raise SourceError(f"{what}: {names.printable(path)} (given as the base){near}")
    if opens_as_package(where):
        in_package = sorted(_files_in_package(where), key=lambda file: file.path)
        for file in in_package:
            if file.path == where and file.problem is not None:
                raise SourceError(f"{names.printable(path)}: {file.problem}")
        return tuple(file for file in in_package if names.looks_like_base(file.file_name))
    found = tuple(_find(where, None))
    if [file.path for file in found] != [where]:
        raise SourceError(f"no such file: {names.printable(path)} (given as the base)")
    return found


def absolute(source: str) -> str:
    """The absolute path of a source, or its URI without secrets."""
    if not is_uri(source):
        return os.path.abspath(source)
    if source.startswith("file://"):
        return os.path.abspath(unquote(urlsplit(source).path))
    return without_secrets(source)


def check_apart(sources: Sequence[str], out: str) -> None:
    """Raise SourceError for a source that is the output folder, or lies in it: a run replaces and
    removes what is there."""
    where = _real(out)
    for source in sources:
        if f"{_real(source)}/".startswith(f"{where}/"):
            raise SourceError(
                f"{names.printable(source)} lies in the output folder {names.printable(out)}, "
                "where a run replaces and removes files: give another OUT"
            )


def check_outside(sources: Sequence[str], out: str) -> None:
    """Raise SourceError where the output folder is a source, lies in one, or one lies in it."""
    check_apart(sources, out)
    for source in sources:
        if f"{_real(out)}/".startswith(f"{_real(source)}/"):
            raise SourceError(
                f"the output folder {names.printable(out)} lies in the source "
                f"{names.printable(source)}: give another one"
            )


def _real(source: str) -> str:
    path = absolute(source)
    return path if is_uri(path) else os.path.realpath(path)


def is_manifest(source: str) -> bool:
    """Whether a source that is named is a manifest."""
    return source.endswith(manifests.SUFFIX) and os.path.isfile(source)


def read_manifest(path: str) -> tuple[manifests.KernelManifest, list[str]]:
    """A manifest, and the sources that it names, each of them what it should be.

    Packages that are only for debugging need not be there. Raises SourceError.
    """
    try:
        manifest = manifests.load(path)
    except manifests.ManifestError as error:
        raise SourceError(str(error)) from error
    beside = os.path.dirname(os.path.abspath(path))
    sources = []
    for package in manifest.packages:
        where = os.path.join(beside, package.file_name)
        if os.path.exists(where):
            _check_sha256(where, package.sha256)
            sources.append(where)
        elif not package.only_debug:
            raise SourceError(
                f"{package.file_name} is not beside {names.printable(path)}: `splitbtf fetch "
                f"{manifest.name}` puts it and the manifest into kernels/{manifest.name}"
            )
    for file in manifest.files:
        if file.sha256 is not None:
            _check_sha256(file.path, file.sha256)
        sources.append(file.path)
    return manifest, sources


def _check_sha256(path: str, expected: str) -> None:
    try:
        found = manifests.sha256_of(path)
    except OSError as error:
        raise SourceError(f"{names.printable(path)}: {unreadable(path, error)}") from error
    if found != expected:
        raise SourceError(
            f"{names.printable(path)}: sha256 is {found}, but the manifest says {expected}"
        )


def installed_bases(module: FoundFile) -> list[FoundFile]:
    """Bases that no source names, but that an installed kernel has for a module below
    ``lib/modules/<release>``: in the same tree, or, of the running kernel, in sysfs."""
    if module.package is not None or is_uri(module.path):
        return []
    folder = os.path.dirname(module.path)
    paths = names.likely_bases(folder)
    running = f"/lib/modules/{os.uname().release}"
    if f"{folder}/".startswith((f"{running}/", f"/usr{running}/")):
        paths.insert(0, f"{_RUNNING}vmlinux")
    return [_file(path, path, os.path.dirname(path)) for path in paths if os.path.isfile(path)]


def _find(path: str, skip: str | None) -> Iterator[FoundFile]:
    if is_uri(path):
        yield from _find_remote(path, skip)
        return
    if os.path.isdir(path):
        yield from _walk(path, skip)
    elif opens_as_package(path):
        found = list(_files_in_package(path))
        if not found:
            raise SourceError(
                f"{names.printable(path)} holds neither modules nor a vmlinux: for a Debian "
                "kernel take the packages linux-image-RELEASE and linux-image-RELEASE-dbg, or "
                "linux-binary-RELEASE and linux-modules-RELEASE, for one of RPM kernel-core and "
                "kernel-modules"
            )
        yield from found
    else:
        yield _file(path, os.path.basename(path), os.path.dirname(path))


def _is_same(path: str, skip: str | None) -> bool:
    with contextlib.suppress(OSError):
        return skip is not None and os.path.samefile(path, skip)
    return False


def _walk(root: str, skip: str | None) -> Iterator[FoundFile]:
    """Find files below a folder. Not by os.walk, which ends at a thousand folders in each other."""
    problems: list[OSError] = []
    folders, prefix = [root], os.path.join(root, "")
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(error)
            continue
        inner = {entry.name: entry.is_symlink() for entry in entries if _is_folder(entry)}
        if folder != root and {"manifests", "tables", "versions"} <= inner.keys():
            continue  # what an earlier run has written is not what it was made of
        below = [os.path.join(folder, name) for name, is_link in inner.items() if not is_link]
        folders += [
            path
            for path in reversed(below)
            if not _is_same(path, skip) and not _is_hidden(os.path.basename(path))
        ]
        files = [e.name for e in entries if e.name not in inner and not e.name.startswith(".")]
        links = {entry.name for entry in entries if entry.is_symlink()}
        bare = "vmlinux" in files and begins_like_btf(os.path.join(folder, "vmlinux"))
        for name in files:
            path = os.path.join(folder, name)
            if name in links and _is_found_itself(path, root):
                continue
            if is_package_in_folder(name) or (is_package(name) and begins_like_tar(path)):
                yield from _files_in_package(path)
            elif _is_wanted(name) or (
                bare and "." not in name and begins_like_btf(path, unreadable=True)
            ):
                yield _file(path, path[len(prefix) :], root)
    for problem in problems:
        path = os.fsdecode(problem.filename)
        yield FoundFile(path, os.path.relpath(path, root), root, problem=unreadable(path, problem))


def _is_found_itself(link: str, root: str) -> bool:
    """Whether what a link leads to is found below ``root`` too, as a file of the same kernel: as
    ``weak-updates/foo.ko`` to ``../extra/foo.ko``, and ``vmlinuz`` to ``vmlinuz-RELEASE``."""
    target, top = os.path.realpath(link), os.path.realpath(root)
    inside = os.path.relpath(target, top)
    own = names.release_in_path(os.path.join(os.path.realpath(os.path.dirname(link)), ""))
    return (
        target.startswith(f"{top}/")
        and os.path.isfile(target)
        and not any(map(_is_hidden, inside.split("/")))
        and _is_called_alike(os.path.basename(target), os.path.basename(link))
        and names.release_in_path(target) == own
    )


def _is_called_alike(target: str, link: str) -> bool:
    """Whether two files are one module by their names, or both a vmlinux."""
    if names.looks_like_base(link):
        return names.looks_like_base(target)
    return names.looks_like_input(target) and names.kernel_name(target) == names.kernel_name(link)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") and name not in names.DEBUG_FOLDERS


def _is_wanted(file_name: str) -> bool:
    return names.looks_like_input(file_name) or names.is_only_debug_info(file_name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; links in a circle lead to none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _find_remote(uri: str, skip: str | None) -> Iterator[FoundFile]:
    """Find files in the folder, or the one file, that a URI names."""
    try:
        files = sorted(list_remote(uri), key=itemgetter(0))
    except OSError as error:
        raise SourceError(f"cannot read {names.printable(uri)}: {error.strerror}") from error
    if not files:
        raise SourceError(f"no such file or folder: {names.printable(uri)}")
    for relative, info in files:
        path = uri_below(uri, relative) if relative else uri
        folders = relative.split("/")
        if any(map(_is_hidden, folders)) or (
            skip is not None and f"{path}/".startswith(f"{skip}/")
        ):
            continue
        name = os.path.basename(path)
        if is_package_in_folder(name) or (
            is_package(name) and (not relative or begins_like_tar(path))
        ):
            yield from _files_in_package(path)
        elif not relative or _is_wanted(name):
            root = uri if relative else os.path.dirname(uri)
            yield FoundFile(path, relative or name, root, info.size)


def _files_in_package(path: str) -> Iterator[FoundFile]:
    """The modules and bases of a package; of one that cannot be read, or not to its end, itself
    with its problem."""
    try:
        package = read_package(path)
    except PackageError as error:
        root = os.path.dirname(path)
        yield FoundFile(path, os.path.basename(path), root, problem=f"package: {error}")
        return
    yield from _in_package(package, path, "")


def _in_package(package: Package, path: str, inside: str) -> Iterator[FoundFile]:
    """The modules and bases of a package. ``inside``: of one in another, which part of that it is,
    with a slash behind it."""
    root = os.path.join(path, inside).rstrip("/")
    if package.problem is not None:
        told = f"package, not all of it: {package.problem}"
        yield FoundFile(root, os.path.relpath(root, os.path.dirname(path)), root, problem=told)
    version = f"{package.version}_{package.architecture}" if package.version else None
    for name in package.files:
        if _is_wanted(os.path.basename(name)):
            yield FoundFile(
                os.path.join(root, name), f"{inside}{name}", root,
                package=path, version=version, package_name=package.package or None,
            )  # fmt: skip
    for name, inner in package.inner:
        yield from _in_package(inner, path, f"{inside}{name}/")


def _file(path: str, source: str, root: str) -> FoundFile:
    try:
        status = os.stat(path)
    except OSError as error:
        return FoundFile(path, source, root, problem=unreadable(path, error))
    if not stat.S_ISREG(status.st_mode):
        return FoundFile(
            path, source, root, problem="this is no regular file; only files can be read"
        )
    return FoundFile(path, source, root, status.st_size)
