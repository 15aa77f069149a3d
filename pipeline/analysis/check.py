"""Would the kernel load it: the rules of its own verifier of BTF, for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import btf
from btf.kernel_rules.files import check_raw, read_raw
from btf.kernel_rules.rules import RULES, Release, parse_release

from ..files.read import ReadError, open_content
from ..model.base import Announce
from ..model.errors import SourceError
from ..sources.discover import find_one
from ..sources.names import printable
from ..sources.unpack import unpacked
from ..work.base import load_base


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What became of one file.

    path      as it was given, or as it is called in its package
    loads     whether the kernel would take its BTF
    load_as, release   as what it was checked, where the kernel would take it
    error     why not: what the kernel refuses, or why there is no BTF to be checked
    """

    path: str
    loads: bool
    load_as: str | None = None
    release: str | None = None
    error: btf.BtfError | None = None


def check_files(
    paths: Sequence[str],
    base_path: str | None = None,
    *,
    release: str | None = None,
    load_as: str | None = None,
    pointer_size: int | None = None,
    announce: Announce | None = None,
) -> list[CheckedFile]:
    """Check files, or packages with one kernel's BTF each, in their order.

    release   of the kernel; default: that which the file or the base names, else the newest known
    The others are those of ``btf.check_kernel_rules``.

    Raises SourceError, UnsupportedError for a release that is not known, or BaseError.
    """
    _release(release)
    base = load_base(base_path, announce) if base_path is not None else None
    on = base.index if base is not None else None
    known = release or (base.release if base is not None else None)

    def check(path: str) -> CheckedFile:
        with unpacked([find_one(path)]) as (file,):
            shown = printable(file.path)
            if file.problem is not None:
                raise SourceError(f"{shown}: {file.problem}")
            try:
                raw = read_raw(open_content(file.content_path), shown)
                checked = check_raw(
                    raw,
                    on,
                    path=shown,
                    release=known,
                    load_as=load_as,
                    pointer_size=pointer_size,
                )
            except ReadError as error:
                raise SourceError(f"{shown}: {error.message}") from error
            except btf.BtfError as error:
                return CheckedFile(shown, loads=False, error=error)
        return CheckedFile(shown, True, checked.load_as, checked.release)

    return [check(path) for path in paths]


def rules_of(release: str | None = None) -> list[dict[str, str]]:
    """The rules of a release, of all releases if it is None: what each says. Raises SourceError."""
    at = _release(release)
    return [
        {"source": rule.source, "releases": rule.releases, "words": rule.words, "what": rule.what}
        for rule in RULES
        if rule is not None and (release is None or rule.holds_in(at))
    ]


def _release(text: str | None) -> Release:
    try:
        return parse_release(text)
    except (ValueError, btf.BtfError) as error:
        raise SourceError(str(error)) from error
