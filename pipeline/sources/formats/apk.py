"""apk's packages (Alpine Linux): tars that are compressed one by one and follow each other, of the
signature, of ``.PKGINFO``, and of the files.

The newer version of the format, which apk-tools 3 makes, is no tar and is not read.
"""

from __future__ import annotations

from ..archive import PackageError, Stored
from .pacman import pkginfo
from .tar import packages_with_facts

_NEWER = b"ADB"


def _checked(stored: Stored) -> None:
    """Raise PackageError for a newer package."""
    if stored.read_at(0, len(_NEWER)) == _NEWER:
        raise PackageError(
            "this is an apk package of version 3 (ADB), which is not read: unpack it with "
            "`apk extract` (apk-tools 3) and give the folder"
        )


FORMAT = packages_with_facts((".apk",), ".PKGINFO", pkginfo, check=_checked, several=True)
