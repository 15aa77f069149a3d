"""A kernel's base, indexed, and what all workers share of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import btf

from .records import FileInput

if TYPE_CHECKING:
    from btf.unmerged.arrays import BaseArrays

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class IndexedBase:
    """A base, its index, and what making the index took.

    ``is_sorted`` says whether its types are sorted by name. ``release`` is known of a vmlinux.
    ``file`` is the input that was used, of those that a kernel has. ``encoder`` made its BTF where
    it had none.
    """

    types: btf.BTF
    index: btf.BaseIndex
    content: bytes
    sha256: str
    index_seconds: float
    is_sorted: bool = False
    release: str | None = None
    file: FileInput | None = None
    encoder: str | None = None


@dataclass(frozen=True, slots=True)
class SharedBase:
    """What all workers have of a base, read-only, one copy per machine."""

    index: btf.BaseIndex
    fingerprints: btf.BaseFingerprints
    names: btf.BaseNames
    declarations: btf.Declarations
    arrays: BaseArrays

    @classmethod
    def of(cls, types: btf.BTF, index: btf.BaseIndex) -> SharedBase:
        """Work out the rest. Raises BtfError."""
        from btf.unmerged.arrays import BaseArrays  # late: most only name the types of this file

        fingerprints, declarations = btf.fingerprint_base(types, spell=True)
        names = btf.BaseNames.build(index)
        return cls(index, fingerprints, names, declarations, BaseArrays.build(index))
