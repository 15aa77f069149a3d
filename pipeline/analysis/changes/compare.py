"""Two kernels compared: which names of which object changed, and how.

Objects are vmlinux and the modules, matched by name. Every name that an object has in both kernels
is of one of these, the first that fits:

changed    its set of declarations is another one
embedded   its declarations are the same, but what they lay out in memory is not: it embeds a change
reached    only the deep fingerprint differs: pointers lead from it to a change
the same
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...sources.lookup import KIND_WORDS
from ...sources.names import RESERVED as VMLINUX
from ...sources.names import kernel_name
from .names import NamedTypes, key_of, parts_of, without_object
from .numbers import among, as_arrow, differ, distinct, numbers_of, paired

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

ADDED, REMOVED, CHANGED, EMBEDDED, BOTH = "added", "removed", "changed", "embedded", "both"
_COUNTED = (BOTH, ADDED, REMOVED, CHANGED, EMBEDDED, "reached")
_STATES = ("", CHANGED, EMBEDDED, "reached", REMOVED, ADDED)
_REMOVED, _ADDED = 4, 5  # of these


class KindCounts(NamedTuple):
    """How many names of one kind there are.

    both      in either object; of these ``changed``, ``embedded`` and ``reached``
    """

    both: int
    added: int
    removed: int
    changed: int
    embedded: int
    reached: int


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """An object, how many names of each kind it has, and how many of them changed.

    status  BOTH, ADDED or REMOVED: of an object that only one of the kernels has, all names were
            added or removed
    """

    object: str
    status: str
    kinds: dict[str, KindCounts]

    @property
    def has_names(self) -> bool:
        """Whether it has names that were asked about."""
        return any(row.both or row.added or row.removed for row in self.kinds.values())

    @property
    def differs(self) -> bool:
        """Whether something was added, removed, changed, or embeds a change."""
        rows = self.kinds.values()
        return any(row.added or row.removed or row.changed or row.embedded for row in rows)


class Change(NamedTuple):
    """What became of a name of an object.

    kind      one of KIND_WORDS
    change    ADDED, REMOVED, CHANGED or EMBEDDED
    old_ids   global ids of the types of that name in OLD
    new_ids   and in NEW
    layout    whether what lies in memory is another; of a name that both have
    moved     where a name went that was removed here, or came from that was added: other objects
    same      a number: of changes of a comparison that are the same in all that leads from them,
              in whatever object, the same; -1 of names that were added or removed
    """

    object: str
    kind: str
    name: str
    change: str
    old_ids: tuple[int, ...] = ()
    new_ids: tuple[int, ...] = ()
    layout: bool = False
    moved: tuple[str, ...] = ()
    same: int = -1


_as_change = partial(tuple.__new__, Change)  # of all its fields, in half the time


@dataclass(frozen=True, slots=True)
class Unread:
    """An object that is not compared, for nothing is known of what OLD or NEW has of it.

    of_new  whether that is NEW
    error   what is wrong with it
    """

    object: str
    of_new: bool
    error: str


Chosen = tuple["NDArray[np.bool_]", "NDArray[np.bool_]"]  # names of OLD and of NEW


class Comparison:
    """What changed between two kernels. Lists are made when they are asked for.

    objects   names of all objects, vmlinux first, then the modules by name
    unread    those that are not compared
    """

    def __init__(self, old: NamedTypes, new: NamedTypes, chosen: Chosen | None = None) -> None:
        """``chosen``: the names that count, those of which one of the kernels says so; all when
        None."""
        self._old, self._new = old, new
        self.objects, of_old, of_new = _matched(old.objects, new.objects)
        self._in_old, self._in_new = (np.zeros(len(self.objects), np.bool_) for _ in range(2))
        self._in_old[of_old[[bool(name) for name in old.objects]]] = True
        self._in_new[of_new[[bool(name) for name in new.objects]]] = True
        self.unread = [
            Unread(name, types is new, error)
            for types in (old, new)
            for name, error in types.unread.items()
        ]
        plain = {kernel_name(one.object) for one in self.unread}
        is_unread = [bool(plain) and kernel_name(name) in plain for name in self.objects]
        self._is_unread = np.array(is_unread, np.bool_)
        codes, self._names = _same_codes(old.names, new.names)
        # Keys of both, with numbers of objects as in ``objects`` and codes as in ``_names``.
        object_id, kind, name = parts_of(old.keys)
        self._before = key_of(of_old[object_id], kind, codes[name])
        object_id, kind, name = parts_of(new.keys)
        self._after = key_of(of_new[object_id], kind, name)
        self._first, self._second, self._removed, self._added = paired(self._before, self._after)
        if self.unread:
            self._keep(*(~self._is_unread[parts_of(k)[0]] for k in (self._before, self._after)))
        changed, laid_out, reached = (
            differ(ours.take(self._first, axis=0), theirs.take(self._second, axis=0))
            for ours, theirs in (
                (old.declaration, new.declaration),
                (old.layout, new.layout),
                (old.deep, new.deep),
            )
        )
        self._layout = laid_out
        self._state = np.select([changed, laid_out, reached], [1, 2, 3], 0)  # in _STATES
        self._moved = self._find_moved()
        if chosen is not None:
            some = self._keep(*chosen)
            self._layout, self._state = self._layout[some], self._state[some]

    def _keep(self, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Keep the names of OLD and of NEW that these say; of the pairs, which are returned, those
        of which either is one."""
        some = ours[self._first] | theirs[self._second]
        self._first, self._second = self._first[some], self._second[some]
        self._removed = self._removed[ours[self._removed]]
        self._added = self._added[theirs[self._added]]
        return some

    @cached_property
    def counts(self) -> list[ObjectCounts]:
        """How many names of each object changed."""
        shape = len(self.objects), len(KIND_WORDS)
        counts = np.zeros((len(_COUNTED), *shape), np.int64)
        kept = self._before[self._first]
        those = [kept, self._after[self._added], self._before[self._removed]]
        those += [kept[self._state == state] for state in range(1, _REMOVED)]
        for column, keys in enumerate(those):
            object_id, kind, _ = parts_of(keys)
            places = object_id * len(KIND_WORDS) + kind
            counts[column] = np.bincount(places, minlength=math.prod(shape)).reshape(shape)
        rows_of = counts.transpose(1, 2, 0).tolist()
        found = []
        for number, name in enumerate(self.objects):
            if self._is_unread[number]:
                continue
            rows = map(KindCounts._make, rows_of[number])
            kinds = dict(zip(KIND_WORDS, rows, strict=True))
            status = BOTH if self._in_old[number] else ADDED
            if not self._in_new[number]:
                status = REMOVED
            found.append(ObjectCounts(name, status, kinds))
        return found

    @cached_property
    def changes(self) -> list[Change]:
        """What was added, removed, changed, or embeds a change: by object, kind and name."""
        return self._changes(self._removed, self._added)

    def changes_told(self, listed: Collection[str]) -> list[Change]:
        """The same, but of objects that are not among ``listed`` without names that were removed,
        or were added and came from nowhere."""
        is_listed = np.array([name in listed for name in self.objects], np.bool_)
        came = [name for name, word in self._moved if word == _ADDED]
        removed, added = self._before[self._removed], self._after[self._added]
        is_told = is_listed[parts_of(added)[0]]
        is_told |= among(np.sort(np.array(came, np.int64)), without_object(added))
        return self._changes(self._removed[is_listed[parts_of(removed)[0]]], self._added[is_told])

    def _changes(self, removed: NDArray[np.int64], added: NDArray[np.int64]) -> list[Change]:
        import pyarrow.compute as pc

        some = (self._state == 1) | (self._state == 2)
        first, second = self._first[some], self._second[some]
        absent = np.full(max(len(removed), len(added)), -1)
        keys = [self._before[first], self._before[removed], self._after[added]]
        old = np.concatenate([first, removed, absent[: len(added)]])
        new = np.concatenate([second, absent[: len(removed)], added])
        whole = np.concatenate(keys)
        object_id, kind, code = parts_of(whole)
        alone = len(removed) + len(added)
        word = np.append(
            self._state[some], np.repeat([_REMOVED, _ADDED], [len(removed), len(added)])
        )
        same = np.append(self._alike(first, second), np.full(alone, -1))
        layout = np.append(self._layout[some], np.zeros(alone, np.bool_))
        names = self._names.take(as_arrow(code))
        by_name = numbers_of(pc.rank(names, tiebreaker="dense"))
        order = np.lexsort((new, old, word, by_name, kind, object_id))
        object_id, kind, word = object_id[order], kind[order], word[order]
        name = without_object(whole)[order]
        changes = zip(
            [self.objects[number] for number in object_id.tolist()],
            [KIND_WORDS[number] for number in kind.tolist()],
            names.take(as_arrow(order)).to_pylist(),
            [_STATES[state] for state in word.tolist()],
            self._old.ids(old[order]),
            self._new.ids(new[order]),
            layout[order].tolist(),
            [self._moved.get(key, ()) for key in zip(name.tolist(), word.tolist(), strict=True)],
            same[order].tolist(),
            strict=True,
        )
        return list(map(_as_change, changes))

    def ids(self, word: str, kind: str = "") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Global ids, ascending, of the types in OLD and in NEW whose names, of all kinds or of
        one, are CHANGED or EMBEDDED."""
        some = self._state == _STATES.index(word)
        first, second = self._first[some], self._second[some]
        if kind:
            those = parts_of(self._before[first])[1] == KIND_WORDS.index(kind)
            first, second = first[those], second[those]
        return self._old.ids_of(first), self._new.ids_of(second)

    def _alike(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of changes, of names at ``first`` in OLD and ``second`` in NEW: one number where
        names and deep fingerprints are the same."""
        facts = np.column_stack(
            [
                without_object(self._before[first]).view(np.uint64),
                self._old.deep[first],
                self._new.deep[second],
            ]
        )
        whole = facts.view([("", np.void, facts.itemsize * facts.shape[1])])
        found: NDArray[np.int64] = np.unique(whole, return_inverse=True)[1].reshape(-1)
        return found

    def _find_moved(self) -> dict[tuple[int, int], tuple[str, ...]]:
        """Of names that moved, by kind and code as one number: if _REMOVED the objects that they
        were added to, if _ADDED those that they were removed from.

        A name moved if no object has it in both kernels, and all that had it and have it declare
        the same. Functions and variables of one name need not be the same one: of these only one
        object may have had it, and one have it.
        """
        sides = (
            (self._before[self._removed], self._old.declaration.take(self._removed, axis=0)),
            (self._after[self._added], self._new.declaration.take(self._added, axis=0)),
        )
        of_removed, of_added = (without_object(keys) for keys, _ in sides)
        shared = of_added[among(np.sort(of_removed), of_added)]
        both = without_object(self._before[self._first])
        moved = distinct(shared[~among(np.sort(both), shared)])
        places: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        declared: dict[int, set[tuple[int, ...]]] = defaultdict(set)
        for side, (keys, declaration) in enumerate(sides):
            some = among(moved, without_object(keys))
            names, objects = without_object(keys[some]).tolist(), parts_of(keys[some])[0].tolist()
            for name, number, words in zip(names, objects, declaration[some].tolist(), strict=True):
                places[name][side].append(number)
                declared[name].add(tuple(words))
        of_one = np.isin(parts_of(moved)[1], [KIND_WORDS.index("func"), KIND_WORDS.index("var")])
        found = {}
        for name, alone in zip(moved.tolist(), of_one.tolist(), strict=True):
            before, after = places[name]
            if len(declared[name]) == 1 and not (alone and len(before) + len(after) > 2):
                for word, others in ((_REMOVED, after), (_ADDED, before)):
                    found[name, word] = tuple(self.objects[n] for n in sorted(others))
        return found


def _matched(
    old: Sequence[str], new: Sequence[str]
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Objects of one name, however it is written: names of all, VMLINUX first, then sorted; and for
    each object of both kernels its number among these; 0 for those without a name."""
    plain = {name: kernel_name(name) for name in {*old, *new} if name}
    names = {plain[name]: name for name in (*old, *new) if name}
    number = {name: at for at, name in enumerate(sorted(names, key=lambda n: (n != VMLINUX, n)))}
    of_old, of_new = (
        np.array([number[plain[name]] if name else 0 for name in side], np.int64)
        for side in (old, new)
    )
    return [names[plain] for plain in number], of_old, of_new


def _same_codes(
    old: pa.StringArray, new: pa.StringArray
) -> tuple[NDArray[np.int64], pa.StringArray]:
    """The codes of the old names among the new ones, with what these lack behind them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if old is new:
        return np.arange(len(new)), new
    code = numbers_of(pc.index_in(old, value_set=new), -1).astype(np.int64)
    absent = np.flatnonzero(code < 0)
    code[absent] = np.arange(len(absent)) + len(new)
    return code, pa.concat_arrays([new, old.take(as_arrow(absent))])
