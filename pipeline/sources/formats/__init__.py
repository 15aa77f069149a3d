"""Package formats, one file each: every module in this folder has a ``FORMAT``.

A new format is a new file here; nothing else has to know it (see ``archive.PackageFormat``).
"""

from __future__ import annotations

import importlib
import pkgutil

from ..archive import PackageFormat


def _formats() -> tuple[PackageFormat, ...]:
    """All formats; one without a magic number fits everything and comes last."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    )
    return tuple(sorted((module.FORMAT for module in modules), key=lambda f: not f.magic))


FORMATS = _formats()
_SUFFIXES = tuple(suffix for found in FORMATS for suffix in found.suffixes)
_IN_FOLDERS = tuple(suffix for found in FORMATS for suffix in found.in_folders)


def is_package(file_name: str) -> bool:
    """Whether a file that is named itself is opened as a package."""
    return file_name.endswith(_SUFFIXES)


def is_package_in_folder(file_name: str) -> bool:
    """Whether a file that is found in a folder is opened as a package."""
    return file_name.endswith(_IN_FOLDERS)


def format_of(start: bytes) -> PackageFormat:
    """The format of a package that begins with ``start``."""
    return next(found for found in FORMATS if start.startswith(found.magic))


MAGIC_BYTES = max(len(found.magic) for found in FORMATS)
