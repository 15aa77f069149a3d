"""pacman's packages (Arch Linux): a tar with ``.PKGINFO`` (alpm-package(7))."""

from __future__ import annotations

from .tar import SUFFIXES, packages_with_facts

_SUFFIXES = tuple(f".pkg{suffix}" for suffix in SUFFIXES)


def pkginfo(text: str) -> tuple[str, str, str]:
    """Name, version and architecture of lines ``KEY = VALUE``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        fields.setdefault(key.strip(), value.strip())
    return fields.get("pkgname", ""), fields.get("pkgver", ""), fields.get("arch", "")


FORMAT = packages_with_facts(_SUFFIXES, ".PKGINFO", pkginfo)
