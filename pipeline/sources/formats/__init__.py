"""Package formats, one file each: every module in this folder has a ``FORMAT``.

A new format is a new file here; nothing else has to know it (see ``archive.PackageFormat``).
"""

from __future__ import annotations

import importlib
import pkgutil

from ..archive import PackageFormat

FORMATS: tuple[PackageFormat, ...] = tuple(
    importlib.import_module(f"{__name__}.{module.name}").FORMAT
    for module in pkgutil.iter_modules(__path__)
)
_BY_SUFFIX = sorted(
    ((suffix, found) for found in FORMATS for suffix in found.suffixes),
    key=lambda pair: -len(pair[0]),
)
_SUFFIXES = tuple(suffix for suffix, _ in _BY_SUFFIX)
_IN_FOLDERS = tuple(suffix for found in FORMATS for suffix in found.in_folders)


def is_package(file_name: str) -> bool:
    """Whether a file that is named itself is opened as a package."""
    return file_name.endswith(_SUFFIXES)


def is_package_in_folder(file_name: str) -> bool:
    """Whether a file that is found in a folder is opened as a package."""
    return file_name.endswith(_IN_FOLDERS)


def format_of(start: bytes, file_name: str) -> PackageFormat:
    """The format of a package that begins with ``start``: by that, else by its name, else tar."""
    for found in FORMATS:
        if found.magic and start.startswith(found.magic):
            return found
    named = (f for suffix, f in _BY_SUFFIX if file_name.endswith(suffix) and not f.magic)
    return next(named, next(found for suffix, found in _BY_SUFFIX if suffix == ".tar"))


MAGIC_BYTES = max(len(found.magic) for found in FORMATS)
