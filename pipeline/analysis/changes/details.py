"""What changed in each of many names, in C's terms."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .beside import of_both
from .compare import ADDED, EMBEDDED, REMOVED, Change
from .detail import Detail
from .embedded import MAX_EMBEDDED, MEMBER_COLUMNS_HELD, TYPE_COLUMNS_HELD, Embedding, Pair
from .inner import INNER_COLUMNS, MAX_DETAILS, inner_details
from .names import KINDS
from .numbers import Texts, is_there, numbers_of
from .rows import COMPOSITES, VOID, Rows
from .spelled import declared, written_out

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_ENUMS = ("ENUM", "ENUM64")
_SIZED = (*COMPOSITES, *_ENUMS)
_COMPARED = ("kind", "size", "target_global_id")  # columns of types that changed
_TARGET = (*_COMPARED, "name", "spelling")  # and of those to which these refer
_OF_CHANGED = (*_COMPARED, "spelling")  # what is told of them
_LAST_OF_VMLINUX, _LAST = (1 << 32) - 1, (1 << 63) - 1  # global ids


class Sides:
    """The two kernels that are compared, and how what they embed differs."""

    def __init__(self, old: Rows, new: Rows) -> None:
        self.old, self.new = old, new
        self.embedding = Embedding(old, new)
        self._called: dict[int, str] = {}

    def learn(self, ids: Iterable[int]) -> None:
        """Find out what C calls types of OLD: all at once."""
        todo = list(set(ids).difference(self._called))
        for number, kind, spelling in zip(
            todo, *self.old.each(todo, ("kind", "spelling")), strict=True
        ):
            self._called[number] = f"typedef {spelling}" if kind == "TYPEDEF" else spelling

    def called(self, type_id: int) -> str:
        """What C calls a type of OLD, with its keyword."""
        if type_id not in self._called:
            self.learn([type_id])
        return self._called[type_id]


def begin_all(*kernels: Rows) -> None:
    """Begin to read what ``details`` will need of whole kernels, vmlinux of each first: between two
    kernels there is nearly no row group in which nothing changed."""
    of_types = *TYPE_COLUMNS_HELD, *_OF_CHANGED
    of_members = *MEMBER_COLUMNS_HELD, *INNER_COLUMNS
    for last in (_LAST_OF_VMLINUX, _LAST):
        for rows in kernels:
            rows.begin_until(last, of_types, of_members)


def begin_details(
    rows: Rows,
    embedded: NDArray[np.int64],
    changed: NDArray[np.int64],
    enums: NDArray[np.int64],
) -> None:
    """Begin to read what ``details`` needs of one of the two kernels: of types with these global
    ids, ascending, that embed a change, and of those that changed themselves; enums are of
    these."""
    rows.begin(enums, (), ("value",))  # first, as what follows is much and not needed as soon
    rows.begin(embedded, TYPE_COLUMNS_HELD, MEMBER_COLUMNS_HELD)
    rows.begin(changed, _OF_CHANGED, INNER_COLUMNS)


def details(changes: Sequence[Change], old: Rows, new: Rows) -> list[list[Detail]]:
    """What changed in each of some names; of those that were added or removed, what they declare.
    What is the same in many modules is the same list.

    old, new  where the types of the changes are found
    """
    keys = []
    added: dict[int, int] = {}  # the global id, where the name stands for one type
    removed: dict[int, int] = {}
    others: dict[int, Change] = {}
    for at, change in enumerate(changes):
        key = change.same if change.same >= 0 else ~at
        keys.append(key)
        if change.change == ADDED and len(change.new_ids) == 1:
            added[key] = change.new_ids[0]
        elif change.change == REMOVED and len(change.old_ids) == 1:
            removed[key] = change.old_ids[0]
        else:
            others[key] = change  # what is the same change in many modules is looked at once
    one_sided = (added, new, ADDED), (removed, old, REMOVED)
    for ids, rows, _ in one_sided:
        rows.begin(np.array(sorted(ids.values()), np.int64), ("spelling", "size", "vlen"), ())
    found = _of_others(others, old, new)
    for ids, rows, word in one_sided:
        found.update(zip(ids, _alone(list(ids.values()), rows, word), strict=True))
    return [found[key] for key in keys]


def _alone(ids: Sequence[int], rows: Rows, change: str) -> list[list[Detail]]:
    """Of each of some types that it is a declaration ADDED or REMOVED: a list for each text."""
    texts = declarations(ids, rows)
    told = {}
    for text in set(texts):
        sides = (text, "") if change == REMOVED else ("", text)
        told[text] = [Detail(f"declaration {change}", "", *sides)]
    return [told[text] for text in texts]


def _of_others(changes: Mapping[int, Change], old: Rows, new: Rows) -> dict[int, list[Detail]]:
    """What changed in names whose types are compared with others."""
    sides = Sides(old, new)
    found = dict(_of_embedded(changes, sides))
    changed = {key: one for key, one in changes.items() if one.change != EMBEDDED}
    several = [one for one in changed.values() if max(len(one.old_ids), len(one.new_ids)) > 1]
    before = _fingerprints(old, [one.old_ids for one in several])
    after = _fingerprints(new, [one.new_ids for one in several])
    pairs: dict[int, Pair] = {}
    alone: dict[int, tuple[Sequence[int], Sequence[int]]] = {}  # that have no other to compare
    for key, one in changed.items():
        ours: Sequence[int] = one.old_ids
        theirs: Sequence[int] = one.new_ids
        if len(ours) > 1 or len(theirs) > 1:
            ours, theirs = (
                _lacking(ours, before, {after[number] for number in theirs}),
                _lacking(theirs, after, {before[number] for number in ours}),
            )
        if len(ours) == len(theirs) == 1:
            pairs[key] = ours[0], theirs[0]
        else:
            alone[key] = ours, theirs
    for key, told in zip(pairs, _of_pairs(list(pairs.values()), old, new), strict=True):
        found[key] = told[:MAX_DETAILS]
        if not told:  # they differ in what C cannot spell, such as a member that is a section
            alone[key] = [pairs[key][0]], [pairs[key][1]]
    removed = iter(_alone([one for ours, _ in alone.values() for one in ours], old, REMOVED))
    added = iter(_alone([one for _, theirs in alone.values() for one in theirs], new, ADDED))
    for key, (ours, theirs) in alone.items():
        those = chain(islice(removed, len(ours)), islice(added, len(theirs)))
        found[key] = list(chain.from_iterable(those))[:MAX_DETAILS]
    return found


def _of_embedded(changes: Mapping[int, Change], sides: Sides) -> Iterator[tuple[int, list[Detail]]]:
    """What those names hold by value that only embed a change."""
    embedded = {key: one for key, one in changes.items() if one.change == EMBEDDED}
    sides.embedding.look(
        pair for one in embedded.values() for pair in zip(one.old_ids, one.new_ids, strict=False)
    )
    inside = [list(_changed_inside(one.old_ids, one.new_ids, sides)) for one in embedded.values()]
    sides.learn(pair[0] for pairs in inside for pair in pairs)
    for key, pairs in zip(embedded, inside, strict=True):
        yield key, _embeds(pairs, sides)[:MAX_DETAILS]


def _fingerprints(rows: Rows, ids: Iterable[Sequence[int]]) -> dict[int, bytes]:
    """Fingerprints of types' declarations by their global ids."""
    once = list({number for some in ids for number in some})
    (found,) = rows.each(once, ("declaration_fingerprint",))
    return dict(zip(once, found, strict=True))


def _lacking(
    ids: Sequence[int], declared: Mapping[int, bytes], others: Collection[bytes]
) -> list[int]:
    """Of types, one of each declaration that ``others`` lack."""
    ours = {declared[number]: number for number in reversed(ids)}
    return [number for key, number in reversed(ours.items()) if key not in others]


def declarations(ids: Sequence[int], rows: Rows) -> list[str]:
    """Named types, each on one line: with its size where it has one."""
    kinds, spellings = rows.each(ids, ("kind", "spelling"))
    found = [f"`{spelling}`" for spelling in spellings]
    sized = [at for at, kind in enumerate(kinds) if kind in _SIZED]
    columns = rows.each([ids[at] for at in sized], ("size", "vlen"))
    for at, size, vlen in zip(sized, *columns, strict=True):
        inner = "members" if kinds[at] in COMPOSITES else "values"
        found[at] += f" of {size} bytes, {inner}: {vlen}"
    typedefs = [at for at, kind in enumerate(kinds) if kind == "TYPEDEF"]
    names, targets = rows.each([ids[at] for at in typedefs], ("name", "target_global_id"))
    for at, name, target in zip(typedefs, names, rows.each(targets, ("spelling",))[0], strict=True):
        found[at] = f"`{declared(target, name)}`"
    return found


# -- types that are compared with one another


def _of_pairs(pairs: Sequence[Pair], old: Rows, new: Rows) -> list[list[Detail]]:
    """What differs between types of one kind, one of OLD and one of NEW."""
    found: list[list[Detail]] = [[] for _ in pairs]
    ids = list(zip(*pairs, strict=True)) or [(), ()]
    before, after = of_both(_compared, (old, ids[0]), (new, ids[1]))
    inner, functions, others = [], [], []  # each with its place in ``found``
    for at, (one, other) in enumerate(zip(before, after, strict=True)):
        if one[0] in _SIZED:
            inner.append((at, pairs[at], one, other))
        elif one[0] == "FUNC":
            functions.append((at, (one[2], other[2])))
        else:
            others.append((at, (one[2], other[2])))
    ours, theirs = (
        list(zip(*rows.each([of[side] for _, of in others], _TARGET), strict=True))
        for side, rows in enumerate((old, new))
    )
    for (at, targets), one, other in zip(others, ours, theirs, strict=True):
        if written_out(one[4]) and _keyword(one) == _keyword(other):
            inner.append((at, targets, one, other))
        else:
            found[at].append(Detail("target", "", f"`{one[4]}`", f"`{other[4]}`"))
    for at, _, one, other in inner:
        if one[1] != other[1]:
            found[at].append(Detail("size", "", f"{one[1]}", f"{other[1]} bytes"))
    is_enum = np.array([one[0] in _ENUMS for _, _, one, _ in inner], np.bool_)
    told = inner_details(_ids(of for _, of, *_ in inner), is_enum, (old, new))
    for (at, *_), more in zip(inner, told, strict=True):
        found[at] += more
    prototypes = _prototypes(_ids(of for _, of in functions), old, new)
    for (at, _), more in zip(functions, prototypes, strict=True):
        found[at] += more
    return found


def _compared(where: tuple[Rows, Sequence[int]]) -> list[tuple[Any, ...]]:
    rows, ids = where
    return list(zip(*rows.each(ids, _COMPARED), strict=True))


def _keyword(found: Sequence[Any]) -> str | None:
    """What C calls a struct, union or enum without a name; None for all else."""
    return None if found[3] else KINDS.get(found[0])


# -- prototypes


class _Read(NamedTuple):
    """What prototypes return, as it is spelled, and their parameters, as
    ``Rows.members_of_each`` gives them."""

    returned: Sequence[str]
    parameters: tuple[NDArray[np.int64], NDArray[np.int64], pa.Table]

    @classmethod
    def of(cls, where: tuple[Rows, NDArray[np.int64]]) -> _Read:
        """Look them up by the prototypes' ids."""
        rows, ids = where
        parameters = rows.members_of_each(ids, ("type", "type_global_id", "name"))
        (targets,) = rows.each(ids.tolist(), ("target_global_id",))
        return cls(rows.each(targets, ("spelling",))[0], parameters)


def _prototypes(ids: NDArray[np.int64], old: Rows, new: Rows) -> Iterator[list[Detail]]:
    """What differs between prototypes, one of OLD and one of NEW."""
    of_old, of_new = of_both(_Read.of, (old, ids[:, 0]), (new, ids[:, 1]))
    parameters = _parameters(of_old.parameters, of_new.parameters)
    for one, other, told in zip(of_old.returned, of_new.returned, parameters, strict=True):
        if one != other:
            told.insert(0, Detail("returns", "", f"`{one}`", f"`{other}`"))
        yield told


def _parameters(
    *read: tuple[NDArray[np.int64], NDArray[np.int64], pa.Table],
) -> Iterator[list[Detail]]:
    """What differs between the parameters of prototypes of OLD and of NEW."""
    types = Texts(*(table["type"] for *_, table in read))
    sides = []
    for (counts, first, table), codes in zip(read, types.codes, strict=True):
        last = (first + counts - 1)[counts > 0]
        if len(last):
            variadic = numbers_of(table["type_global_id"])[last] == VOID
            variadic &= ~is_there(table["name"].chunk(0))[last]
            codes[last[variadic]] = types.number("...")
        whole, ends = codes.tolist(), (first + counts).tolist()
        sides.append([whole[begin:end] for begin, end in zip(first.tolist(), ends, strict=True)])
    for ours, theirs in zip(*sides, strict=True):
        yield list(_differing(ours, theirs, types.all))


def _differing(ours: list[int], theirs: list[int], types: Sequence[str]) -> Iterator[Detail]:
    """What differs between parameters, which are numbers of types."""
    # What is alike before and behind stays in its place, also where a neighbour is alike.
    first = _equal_first(ours, theirs)
    last = _equal_first(ours[first:][::-1], theirs[first:][::-1])
    ours, theirs = ours[first : len(ours) - last], theirs[first : len(theirs) - last]
    ways: Sequence[tuple[str, int, int, int, int]] = [("replace", 0, len(ours), 0, len(theirs))]
    if ours and theirs and len(ours) + len(theirs) > 2:
        ways = SequenceMatcher(None, ours, theirs, False).get_opcodes()
    for tag, i, end, j, stop in ways:
        if tag == "equal":
            continue
        for number, (before, after) in enumerate(zip_longest(ours[i:end], theirs[j:stop]), 1):
            what = "removed" if after is None else "added" if before is None else "retyped"
            at = first + number + (i if after is None else j)
            was, now = ("" if code is None else f"`{types[code]}`" for code in (before, after))
            yield Detail(f"parameter {what}", str(at), was, now)


def _equal_first(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many numbers, from the first on, are equal."""
    for at, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return at
    return min(len(ours), len(theirs))


def _ids(pairs: Iterable[Pair]) -> NDArray[np.int64]:
    return np.array(list(pairs), np.int64).reshape(-1, 2)


# -- what embeds a change


def embeds(before: Sequence[int], after: Sequence[int], sides: Sides) -> list[Detail]:
    """The types that types embed, by value, and that changed themselves: nearest first.

    before, after  ids of types of OLD, and of those of NEW that they are compared with
    """
    return _embeds(list(_changed_inside(before, after, sides)), sides)


def _embeds(pairs: Iterable[Pair], sides: Sides) -> list[Detail]:
    texts = dict.fromkeys(sides.called(pair[0]) for pair in pairs)
    return [Detail("embeds", text, "", "") for text in texts]


def _changed_inside(before: Sequence[int], after: Sequence[int], sides: Sides) -> Iterator[Pair]:
    """What ``embeds`` tells, as pairs of types."""
    seen: set[Pair] = set()
    todo = deque(zip(before, after, strict=False))
    while todo and len(seen) < MAX_EMBEDDED:
        pair = todo.popleft()
        if pair in seen:
            continue
        seen.add(pair)
        inner = sides.embedding.inside(pair)
        if inner is None:
            yield pair
        else:
            todo.extend(inner)
