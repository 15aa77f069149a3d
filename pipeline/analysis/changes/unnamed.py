"""Which members without a name are the same one in OLD and NEW: those that hold the same members.

C knows them by nothing but what is in them. Where two hold nothing of the same name, one is gone
and the other is new.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .rows import Rows

_MAX_NAMES = 200_000  # that are looked at, of each side


class Unnamed(NamedTuple):
    """A member without a name.

    within   number of the type that it is in
    type     how C spells its type, and
    type_id  the global id of that
    """

    within: int
    type: str
    type_id: int


def same_ones(
    old: Sequence[Unnamed], new: Sequence[Unnamed], sides: tuple[Rows, Rows]
) -> Iterator[tuple[int, int]]:
    """Match members: numbers of an old one and of the new one that it is, each at most once.

    old, new  in the order of the types that they are in, and there in that of their records

    Those that hold no members at all match one another in their order. Raises OutputError.
    """
    before, after = (_held(members, rows) for members, rows in zip((old, new), sides, strict=True))
    holder: dict[tuple[int, str], int] = {}  # by type and name, the new member that holds it
    plain: dict[int, list[int]] = defaultdict(list)
    for number, (member, names) in enumerate(zip(new, after, strict=True)):
        if names is None:
            plain[member.within].append(number)
        for name in names or ():
            holder.setdefault((member.within, name), number)
    taken: set[int] = set()
    for number, (member, names) in enumerate(zip(old, before, strict=True)):
        if names is None:
            if plain[member.within]:
                yield number, plain[member.within].pop(0)
            continue
        shared = Counter(
            found for name in names if (found := holder.get((member.within, name))) is not None
        )
        best = next((found for found, _ in shared.most_common() if found not in taken), None)
        if best is not None:
            taken.add(best)
            yield number, best


def _held(members: Sequence[Unnamed], rows: Rows) -> list[list[str] | None]:
    """Names of what each holds; None of those whose type holds no members."""
    inside = rows.seen_through((member.type, member.type_id) for member in members)
    rows.look_up_flat(type_id for type_id in inside if type_id is not None)
    found: list[list[str] | None] = []
    left = _MAX_NAMES
    for type_id in inside:
        names = None
        if type_id is not None:
            names = [member.name for member in islice(rows.flat_members(type_id), left)]
            left -= len(names)
        found.append(names)
    return found
