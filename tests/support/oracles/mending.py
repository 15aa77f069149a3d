"""What a root cause keeps, found out the plain way: mend it, deduplicate again, see what is gone.

This is the definition that ``btf.unmerged_types`` is held to, and it shares no code with it.

    bench = Bench(base, module)              # bytes of a base and of a standalone module
    bench.gone_without({type id: base's id}) # ids of own types that the module keeps no longer

To *mend* a type of the module is to let everything that refers to it refer to the base's type of
that name instead, and to drop it. Where a struct embeds it, and differs from the base's in nothing
but its size and the places of its members, a compiler would lay it out anew: so it gets the base's
size and places. Then the module is deduplicated again. A type is gone when it became one of the
base's. And a type without a name is gone when nothing refers to it any more: it was a part of
something that is gone.

Lists, dicts and loops over everything, again and again until nothing changes. Dedup itself is
naive.py's, or, for modules that are too large for that, any function of the same kind.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable

from support.oracles import naive, naive_btf
from support.oracles.naive_btf import (
    ARRAY,
    COMPOSITE,
    CONST,
    PTR,
    RESTRICT,
    TYPE_TAG,
    TYPEDEF,
    VOLATILE,
    Btf,
    Words,
    elements,
    id_words,
    kind_flag_of,
    kind_of,
)

# Deduplicates a split BTF whose types were only added: (own types, own id before -> id after).
Dedup = Callable[[Btf], tuple[list[Words], dict[int, int]]]


def naive_dedup(split: Btf) -> tuple[list[Words], dict[int, int]]:
    return naive.with_deep_stack(naive.Dedup(copy_of(split), True).run)


def copy_of(split: Btf) -> Btf:
    return Btf(split.order, [list(t) for t in split.types], split.strings, split.base)


def to_bytes(btf: Btf) -> bytes:
    """A file of these types and strings."""
    words = [word for t in btf.types for word in t]
    types = struct.pack(f"{btf.order}{len(words)}I", *words)
    head = struct.pack(f"{btf.order}HBB5I", naive_btf.MAGIC, 1, 0, 24, 0, len(types), len(types),
                       len(btf.strings))  # fmt: skip
    return head + types + btf.strings


class Bench:
    """A module added to its base, deduplicated once, to be mended in different ways."""

    def __init__(
        self,
        base: bytes | Btf,
        module: bytes | Btf,
        dedup: Dedup = naive_dedup,
        strings: dict[bytes, int] | None = None,
        alike: dict[tuple[int, ...], list[Words]] | None = None,
    ) -> None:
        """``strings`` and ``alike`` are of the base, where they are known from another bench."""
        self.base = base if isinstance(base, Btf) else naive_btf.parse(base)
        source = module if isinstance(module, Btf) else naive_btf.parse(module)
        self.dedup = dedup
        self.split = Btf(self.base.order, base=self.base)
        naive_btf.add(self.split, source, dict(strings or self.base.string_index()))
        self.below = self.base.all_types()
        self.alike = alike or {}  # the base's types by name and info
        for t in () if alike else self.below:
            self.alike.setdefault(tuple(t[:2]), []).append(t)
        self.start = self.split.start_id
        self.kept, self.went = dedup(self.split)
        self.came: list[Words] = []

    def record(self, type_id: int, types: list[Words]) -> Words:
        return self.below[type_id] if type_id < self.start else types[type_id - self.start]

    def size(self, type_id: int, types: list[Words]) -> int:
        """Bytes of a type, of the base or of ``types``; 0 for what has none."""
        t = self.record(type_id, types)
        kind = kind_of(t)
        if kind == PTR:
            return 8
        if kind == ARRAY:
            return t[5] * self.size(t[3], types)
        if kind in (TYPEDEF, CONST, VOLATILE, RESTRICT, TYPE_TAG):
            return self.size(t[2], types)
        sized = (*COMPOSITE, *naive_btf.ANY_ENUM, naive_btf.INT, naive_btf.FLOAT)
        return t[2] if kind in sized else 0

    def laid_out_anew(self, mended: dict[int, int]) -> dict[int, Words]:
        """Own structs that embed a mended type, or one of these, in the base's layout; by id."""
        anew: dict[int, Words] = {}
        while True:
            before = len(anew)
            for own, t in enumerate(self.kept, self.start):
                if own in mended or own in anew or kind_of(t) not in COMPOSITE or not t[0]:
                    continue
                for other in self.alike.get(tuple(t[:2]), ()):
                    if self.follows(t, other, {*mended, *anew}):
                        anew[own] = self.moved(t, other)
            if len(anew) == before:
                return anew

    def follows(self, t: Words, other: Words, causes: set[int]) -> bool:
        """Whether a struct differs from the base's only as what ``causes`` takes up in it."""
        bits = 24 if kind_flag_of(t) else 31
        grown = []
        moved = t[2] != other[2]
        for (name, type_id, at), (other_name, other_id, other_at) in zip(
            elements(t), elements(other), strict=True
        ):
            if name != other_name or (bits == 24 and at >> bits != other_at >> bits):
                return False
            if self.size(type_id, self.kept) != self.size(other_id, self.kept):
                grown.append(type_id)
            if at != other_at:
                if not grown:
                    return False
                moved = True
        return moved and bool(grown) and all(self.is_made_of(g, causes) for g in grown)

    def is_made_of(self, type_id: int, causes: set[int]) -> bool:
        while type_id >= self.start and type_id not in causes:
            t = self.record(type_id, self.kept)
            if kind_of(t) == ARRAY:
                type_id = t[3]
            elif kind_of(t) in (TYPEDEF, CONST, VOLATILE, RESTRICT, TYPE_TAG):
                type_id = t[2]
            elif kind_of(t) in COMPOSITE and not t[0]:
                grown = [m[1] for m in elements(t) if m[1] >= self.start]
                return any(self.is_made_of(g, causes) for g in grown)
            else:
                return False
        return type_id in causes

    @staticmethod
    def moved(t: Words, other: Words) -> Words:
        out = list(t)
        out[2] = other[2]
        for word in range(5, len(t), 3):
            out[word] = other[word]
        return out

    def gone_without(self, mended: dict[int, int]) -> set[int]:
        """Own types, by their id after the first dedup, that are no longer there.

        mended   own type -> the base's that takes its place

        Sets ``came``: types that there were not before, of which some were merged into others.
        Only a module with several definitions of a name may have those.
        """
        anew = self.laid_out_anew(mended)
        place: dict[int, int] = {}  # id before dedup -> id once the mended types are dropped
        types: list[Words] = []
        for before, t in enumerate(self.split.types, self.start):
            after = self.went[before]
            if after in mended:
                place[before] = mended[after]
                continue
            place[before] = self.start + len(types)
            types.append(list(t))
            if after in anew:
                types[-1] = self.moved(t, anew[after])
        for t in types:
            for word in id_words(t):
                t[word] = place.get(t[word], t[word])
        kept, went = self.dedup(Btf(self.split.order, types, self.split.strings, self.base))
        now: dict[int, int] = {}
        for before, after in self.went.items():
            if after >= self.start:
                now.setdefault(after, went.get(place[before], place[before]))
        gone, taken = set(), set()
        for own, after in now.items():
            if after < self.start or after in taken:
                gone.add(own)
            taken.add(after)
        self.came = [t for after, t in enumerate(kept, self.start) if after not in now.values()]
        return gone | self.unused({own: now[own] for own in now.keys() - gone}, kept)

    def unused(self, left: dict[int, int], kept: list[Words]) -> set[int]:
        """Types without a name that nothing refers to any more.

        left     the types that are not gone, and where they are now: in ``kept``
        """
        before = self.users(self.kept)
        dropped: set[int] = set()
        while True:
            now = self.users(kept, {left[own] for own in dropped})
            more = {
                own
                for own, after in left.items()
                if own not in dropped
                and (
                    kept[after - self.start][0] == 0
                    or kind_of(kept[after - self.start]) == TYPE_TAG
                )
                and before[own]
                and not now[after]
            }
            if not more:
                return dropped
            dropped |= more

    @staticmethod
    def is_unnamed(t: Words) -> bool:
        """A type tag's text is no name."""
        return t[0] == 0 or kind_of(t) == TYPE_TAG

    def users(self, types: list[Words], without: set[int] | None = None) -> Counter[int]:
        """How often each type is referred to by own ones."""
        found: Counter[int] = Counter()
        for own, t in enumerate(types, self.start):
            if own not in (without or ()):
                found.update(t[word] for word in id_words(t))
        return found

    def bytes_of(self, own: set[int]) -> int:
        return sum(4 * len(self.kept[type_id - self.start]) for type_id in own)
