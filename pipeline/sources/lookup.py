"""Names as people type them: which kernel, module or type is meant, of those that are there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from btf.format import kinds
from btf.nearest import NEAREST, hint, hint_of, listed, nearest_names

from ..model.errors import QueryError
from .names import kernel_name

#: The words that may stand in front of a type's name, by kind of BTF.
KIND_WORD_OF = {
    kinds.STRUCT: "struct",
    kinds.UNION: "union",
    kinds.ENUM: "enum",
    kinds.ENUM64: "enum",
    kinds.TYPEDEF: "typedef",
    kinds.FUNC: "func",
    kinds.VAR: "var",
}
KIND_WORDS = tuple(dict.fromkeys(KIND_WORD_OF.values()))
_WITH_KIND = re.compile(rf"({'|'.join(KIND_WORDS)})\s+(.*)", re.DOTALL)
_OF_MANIFEST = re.compile(r"[a-z]+-(\d.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Name:
    """A type's name as people type it: ``task_struct``, ``struct task_struct``, ``tcp_*``."""

    name: str
    kind: str | None = None

    @classmethod
    def of(cls, text: str) -> Name:
        """Take the kind off, where it is said."""
        match = _WITH_KIND.fullmatch(text.strip())
        return cls(match[2], match[1]) if match else cls(text.strip())

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.kind else self.name

    @property
    def is_pattern(self) -> bool:
        """Whether there are wildcards in it."""
        return any(mark in self.name for mark in "*?[")

    def fits(self, kind: str, name: str) -> bool:
        """Whether a name is meant, which may be given with wildcards."""
        return self.kind in (None, kind) and fnmatchcase(name, self.name)


def resolve_kernel(wanted: str, known: Collection[str]) -> str:
    """The one kernel that ``wanted`` means: its name, the beginning of that, or a part of it.

    A beginning does not end within a number: ``6.12.11`` is another release than ``6.12.117``. A
    part is a release or the like, ``6.12.117`` or ``cloud-amd64`` of
    ``debian-6.12.117+deb12-cloud-amd64``: neither letters nor digits go on at its ends. Where
    several fit, those count that begin with it; raises QueryError if these are several, too, or
    none fits: the message names them, or the nearest. A manifest's name means the kernel that a run
    calls by its release alone: ``debian-6.12.117+deb12-cloud-amd64`` that without ``debian-``.
    """
    fits = _fitting(wanted.strip(), known)
    if not fits and (manifest := _OF_MANIFEST.fullmatch(wanted.strip())):
        fits = _fitting(manifest[1], [name for name in known if name[:1].isdigit()])
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise QueryError(f"which kernel? {wanted!r} fits {listed(fits)}")
    parts: dict[str, list[str]] = {}  # as long as what was asked for
    for name in sorted(known):
        for at in re.finditer(r"(?<![A-Za-z0-9.])[A-Za-z0-9]", name):
            parts.setdefault(name[at.start() :][: len(wanted)], []).append(name)
    near = [name for part in nearest_names(wanted, parts) for name in parts[part]]
    raise QueryError(
        f"no kernel {wanted!r}"
        + (hint(list(dict.fromkeys(near))[:NEAREST]) if near else hint_of(wanted, known))
    )


def _fitting(wanted: str, known: Collection[str]) -> list[str]:
    """The kernels that a name or a part of one fits best."""
    typed = re.escape(wanted)
    part = rf"{typed}(?![A-Za-z0-9])"
    beginning = rf"{typed}(?![0-9])" if wanted[-1:].isdigit() else typed
    for way in (rf"{typed}\Z", part, beginning, rf".*(?<![A-Za-z0-9.]){part}"):
        fits = sorted({name for name in known if typed and re.match(way, name, re.DOTALL)})
        if fits:
            return fits
    return []


def resolve_module(wanted: str, known: Mapping[str, str | None]) -> str | None:
    """The one module of a kernel that ``wanted`` means; None if there is none.

    wanted  a module's name, or its file; ``-`` and ``_`` are the same in it, as for the kernel
    known   of each module what it calls itself, if that is known

    Raises QueryError where several are called so.
    """
    if wanted in known:
        return wanted
    plain = kernel_name(wanted)
    fits = [name for name, own in known.items() if plain in (kernel_name(name), own)]
    if len(fits) > 1:
        raise QueryError(f"which module? {wanted!r} fits {listed(fits)}")
    return fits[0] if fits else None
