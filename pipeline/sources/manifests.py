"""Manifests: TOML files that say what a kernel is made of, and what its files must be.

    format = 1
    name = "debian-6.1.0-50-cloud-amd64"
    kernel = "..."              what to call the kernel, if not by its release
    base = "..."                its base, if it is not to be searched for
    architecture = "amd64"      of the packages
    suite = "sid"               of Debian that has them, where apt's own sources do not

    [[package]]                 a Debian package, which lies beside the manifest once it is fetched
    name = "linux-image-6.1.0-50-cloud-amd64"
    version = "6.1.176-1"
    bytes = 26484304
    sha256 = "..."
    when = "debug"              only if asked for; if missing: always

    [[file]]                    any other source: a file, a package or a folder
    path = "modules"            relative to the manifest
    sha256 = "..."              of a file; if missing, it is not checked

``release`` and ``licence`` are for readers. Other keys are an error: a misspelt one would be lost.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.read import open_stored
from ..model.errors import CommandError, QueryError

FORMAT = 1
SUFFIX = ".toml"
DEBUG = "debug"
_KEYS = {
    "format", "name", "kernel", "base", "release", "architecture", "suite", "licence", "package",
    "file",
}  # fmt: skip
_PACKAGE_KEYS = {"name", "version", "bytes", "sha256", "when"}
_FILE_KEYS = {"path", "sha256"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What Debian allows: names and versions go into file names and on apt's command line.
_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+:~-]*")
_ARCHITECTURE = _SUITE = re.compile(r"[a-z0-9][a-z0-9-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*")


class ManifestError(CommandError):
    """A manifest that cannot be used, or none of that name."""


@dataclass(frozen=True, slots=True)
class PackageEntry:
    """A Debian package. ``bytes`` and ``sha256`` are of the .deb file, ``suite`` is the one of the
    archive that has it; None: one of those that apt knows."""

    name: str
    version: str
    architecture: str
    bytes: int
    sha256: str
    only_debug: bool
    suite: str | None = None

    @property
    def file_name(self) -> str:
        """As apt names it."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Another source. ``path`` is absolute."""

    path: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class KernelManifest:
    """A manifest; ``path`` is the file it was read from."""

    path: str
    name: str
    kernel: str | None
    base: str | None
    packages: tuple[PackageEntry, ...]
    files: tuple[FileEntry, ...]


def load(path: str) -> KernelManifest:
    """Read a manifest. Raises ManifestError, which says what is wrong in it."""
    import tomllib  # late: few sources are manifests

    try:
        with open_stored(path) as file:
            return _checked(path, tomllib.load(file))
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: no TOML: {error}") from error
    except RecursionError as error:  # arrays in arrays
        raise ManifestError(f"{path}: nested too deeply") from error
    except _Wrong as error:
        raise ManifestError(f"{path}: {error}") from error


def known() -> dict[str, str]:
    """Paths of the manifests that come with splitbtf, by name: those of an installation, and of a
    checkout, which go first."""
    checkout = Path(__file__).resolve().parents[2] / "datasets"
    folders = (Path(sys.prefix) / "share" / "splitbtf" / "datasets", checkout)
    paths = (path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}")))
    return {path.stem: str(path) for path in paths}


def find(name: str) -> KernelManifest:
    """A manifest by its kernel's name, as people type it, or by its path. Raises ManifestError."""
    if name.endswith(SUFFIX) or os.path.dirname(name):
        return load(name)
    paths = known()
    from .lookup import resolve_kernel  # late: a run has no use for it

    try:
        return load(paths[resolve_kernel(name, paths)])
    except QueryError as error:
        raise ManifestError(f"{error}; `splitbtf fetch --list` lists all") from error


def sha256_of(path: str) -> str:
    """Of a file's content. Raises OSError."""
    with open_stored(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Wrong(Exception):
    """What is wrong in a manifest."""


def _checked(path: str, raw: Mapping[str, Any]) -> KernelManifest:
    _keys(raw, _KEYS, "the manifest")
    if raw.get("format") != FORMAT:
        raise _Wrong(f"format is {raw.get('format')!r}; this splitbtf knows {FORMAT}")
    architecture = _text(raw, "architecture", _ARCHITECTURE) if "package" in raw else ""
    folder = os.path.dirname(os.path.abspath(path))
    files = tuple(
        FileEntry(
            path=os.path.join(folder, _text(entry, "path")),
            sha256=_text(entry, "sha256", _SHA256) if "sha256" in entry else None,
        )
        for entry in _tables(raw, "file", _FILE_KEYS)
    )
    packages = tuple(
        PackageEntry(
            name=_text(entry, "name", _PACKAGE_NAME),
            version=_text(entry, "version", _VERSION),
            architecture=architecture,
            bytes=_count(entry, "bytes"),
            sha256=_text(entry, "sha256", _SHA256),
            only_debug="when" in entry and bool(_text(entry, "when", re.compile(DEBUG))),
            suite=_text(raw, "suite", _SUITE) if "suite" in raw else None,
        )
        for entry in _tables(raw, "package", _PACKAGE_KEYS)
    )
    if not packages and not files:
        raise _Wrong("it names neither packages nor files")
    return KernelManifest(
        path=path,
        name=_text(raw, "name", _NAME),
        kernel=_text(raw, "kernel") if "kernel" in raw else None,
        base=os.path.join(folder, _text(raw, "base")) if "base" in raw else None,
        packages=packages,
        files=files,
    )


def _tables(raw: Mapping[str, Any], key: str, keys: set[str]) -> Iterator[Mapping[str, Any]]:
    entries = raw.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _Wrong(f"{key} must be tables: [[{key}]]")
    for entry in entries:
        _keys(entry, keys, f"a {key}")
        yield entry


def _keys(raw: Mapping[str, Any], allowed: set[str], where: str) -> None:
    if unknown := sorted(set(raw) - allowed):
        raise _Wrong(f"{where} has the unknown key {unknown[0]!r}; known: {sorted(allowed)}")


def _text(raw: Mapping[str, Any], key: str, pattern: re.Pattern[str] | None = None) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise _Wrong(f"{key} is {value!r}; a text is needed")
    if pattern is not None and pattern.fullmatch(value) is None:
        raise _Wrong(f"{key} is {value!r}, which it cannot be")
    return value


def _count(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Wrong(f"{key} is {value!r}; a number is needed")
    return value
