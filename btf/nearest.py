"""Names like one that is not there, for messages: of types, members, modules, kernels, options."""

from __future__ import annotations

from collections.abc import Collection, Iterable

NEAREST = 5
_ALIKE = 0.6  # of difflib's ratio, as there
_COMPARED = 50
_ALIGNED = 64  # which takes the square, too
_LISTED = 20
MAX_CHARACTERS = 512  # of names that are compared, which takes the square: the kernel's are shorter


def nearest_names(wanted: str, known: Iterable[str], at_most: int = NEAREST) -> tuple[str, ...]:
    """The names of ``known`` that are spelled much like ``wanted``, the likest first.

    Those that fewest edits make of it come first: a character more, less or another one, or two
    neighbours exchanged (optimal string alignment); then short names. Case, and ``-`` for ``_``, do
    not count. Of many names those with most pairs of characters in common with the wanted one are
    compared in full, and those with the same characters, as one with two exchanged has.
    """
    if not 0 < len(wanted) <= MAX_CHARACTERS:
        return ()
    import difflib  # late: of use when something is wrong
    import heapq

    plain = _plain(wanted)
    pairs = {plain[at : at + 2] for at in range(len(plain) - 1)} or {plain}
    characters = sorted(plain)
    known = {name for name in known if 0 < len(name) <= min(5 * len(plain), MAX_CHARACTERS)}
    likely = heapq.nsmallest(
        _COMPARED,
        (
            (-sum(map(_plain(name).__contains__, pairs)) / (len(plain) + len(name)), name)
            for name in known
        ),
    )
    same = (
        name for name in known if len(name) == len(plain) and sorted(_plain(name)) == characters
    )
    candidates = {name for _, name in likely}.union(heapq.nsmallest(NEAREST, same))
    matcher = difflib.SequenceMatcher(b=plain, autojunk=False)
    found = []
    for name in candidates:
        other = _plain(name)
        matcher.set_seq1(other)
        if matcher.ratio() >= _ALIKE or _begins(plain, other):
            found.append((_edits(plain, other), len(name), name))
    return tuple(name for *_, name in sorted(found)[:at_most])


def _edits(one: str, other: str) -> int:
    """How many edits make one text of another: their distance by optimal string alignment.

    Of long texts that differ over more than _ALIGNED characters, as many as the longer one has.
    """
    for _ in range(2):  # what both begin with is no edit, nor what both end with
        shorter = min(len(one), len(other))
        alike = next((at for at in range(shorter) if one[at] != other[at]), shorter)
        one, other = one[alike:][::-1], other[alike:][::-1]
    if max(len(one), len(other)) > _ALIGNED:
        return max(len(one), len(other))
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, character in enumerate(one, 1):
        last, before, row = before, row, [at]
        for to, another in enumerate(other, 1):
            edits = min(before[to] + 1, row[-1] + 1, before[to - 1] + (character != another))
            if to > 1 < at and (character, one[at - 2]) == (other[to - 2], another):
                edits = min(edits, last[to - 2] + 1)
            row.append(edits)
    return row[-1]


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
