"""Would the kernel load it: the rules of its own verifier of BTF, for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import btf
from btf.kernel_rules.check import MODULE
from btf.kernel_rules.files import Checked, check_raw, read_raw
from btf.kernel_rules.rules import RULES, Release, parse_release, told_release

from ..files.read import ReadError, open_content
from ..model.base import Announce
from ..model.errors import SourceError
from ..model.records import FileInput
from ..sources.discover import find_one
from ..sources.names import printable
from ..sources.unpack import unpacked
from ..work.base import load_base
from ..work.open import needs_base


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What became of one file.

    path      as it was given, or as it is called in its package
    loads     whether the kernel would take its BTF; None where that could not be checked
    load_as, release   as what it was checked, where the kernel would take it
    error     what the kernel refuses, or why it could not be checked
    """

    path: str
    loads: bool | None
    load_as: str | None = None
    release: str | None = None
    error: btf.BtfError | SourceError | None = None


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

    Raises BaseError, or SourceError for a release that is not known.
    """
    _release(release)
    base = load_base(base_path, announce) if base_path is not None else None
    judge = partial(
        check_raw,
        base=base.index if base is not None else None,
        release=release or (told_release(base.release) if base is not None else None),
        load_as=load_as,
        pointer_size=pointer_size,
    )

    def check(file: FileInput, shown: str) -> Checked:
        if file.problem is not None:
            raise SourceError(f"{shown}: {file.problem}")
        try:
            raw = read_raw(open_content(file.content_path), shown)
        except ReadError as error:
            raise SourceError(f"{shown}: {error.message}") from error
        if base is None and raw.is_split and raw.below is None and load_as in (None, MODULE):
            raise needs_base(shown)
        if base is not None and load_as is None and not raw.is_split:
            raise SourceError(f"{shown}: standalone BTF, not split: check it without a base (-B)")
        return judge(raw, path=shown)

    def one(path: str) -> CheckedFile:
        shown = printable(path)
        try:
            with unpacked([find_one(path)]) as (file,):
                shown = printable(file.path)
                return CheckedFile(shown, True, *check(file, shown))
        except btf.KernelRefusal as refusal:
            return CheckedFile(shown, False, error=refusal)
        except (btf.BtfError, SourceError) as error:
            return CheckedFile(shown, None, error=error)

    return [one(path) for path in paths]


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
