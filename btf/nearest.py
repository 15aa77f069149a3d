"""Names like one that is not there, for messages: of types, members, modules, kernels, options."""

from __future__ import annotations

from collections.abc import Collection, Iterable

NEAREST = 5
_ALIKE = 0.6  # of difflib's ratio, as there
_COMPARED = 50
_LISTED = 20
MAX_CHARACTERS = 512  # of names that are compared, which takes the square: the kernel's are shorter


def nearest_names(wanted: str, known: Iterable[str], at_most: int = NEAREST) -> tuple[str, ...]:
    """The names of ``known`` that are spelled much like ``wanted``, the likest first.

    Case, and ``-`` for ``_``, do not count. Of many names those with most pairs of characters in
    common with the wanted one are compared in full.
    """
    if not 0 < len(wanted) <= MAX_CHARACTERS:
        return ()
    import difflib  # late: of use when something is wrong
    import heapq

    plain = _plain(wanted)
    pairs = {plain[at : at + 2] for at in range(len(plain) - 1)} or {plain}
    likely = heapq.nsmallest(
        _COMPARED,
        (
            (-sum(map(_plain(name).__contains__, pairs)) / (len(plain) + len(name)), name)
            for name in set(known)
            if 0 < len(name) <= min(5 * len(plain), MAX_CHARACTERS)
        ),
    )
    matcher = difflib.SequenceMatcher(b=plain, autojunk=False)
    found = []
    for _, name in likely:
        matcher.set_seq1(_plain(name))
        if (ratio := matcher.ratio()) >= _ALIKE or _begins(plain, _plain(name)):
            found.append((-ratio, name))
    return tuple(name for _, name in sorted(found)[:at_most])


def _begins(part: str, name: str) -> bool:
    """Whether it is the first of the words of a name, or some of them."""
    return len(part) > 2 and name.startswith(part) and name[len(part) :].startswith("_")


def hint(nearest: Iterable[str]) -> str:
    """The end of a message about a name that was not found: the nearest ones, if there are any."""
    names = ", ".join(nearest)
    return f"; the nearest names: {names}" if names else ""


def hint_of(wanted: str, known: Collection[str]) -> str:
    """The end of a message about one of a few names: the nearest, else the first that there are."""
    if near := hint(nearest_names(wanted, known)):
        return near
    return f"; there are: {listed(sorted(known))}" if known else ""


def listed(names: Collection[str]) -> str:
    """Names in a message, not more than a line or two of them."""
    shown = ", ".join(list(names)[:_LISTED])
    more = len(names) - _LISTED
    return f"{shown} and {more:,} more" if more > 0 else shown


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
