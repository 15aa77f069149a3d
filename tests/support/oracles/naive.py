"""The reference: what dedup must give, written to be read, not to be fast.

Standard library only, nothing from btf/: an oracle must not import what it checks. Lists, dicts and
plain recursion; sizes where the library must be clever (base index, overlay, scratch) are simply
paid for here: every call hashes the whole base again, like libbpf does.

Three entry points, each on bytes of BTF files:

    split_dedup(base, module)    add a standalone module to an empty split BTF on the base, dedup
    resplit_dedup(base, split)   dedup a split BTF that was read from a file
    plain_dedup(data)            dedup a standalone BTF
    merge_dedup([data, ...])     add standalone BTFs to an empty one, dedup

The contract is libbpf's `btf__dedup` (src/btf.c, commit f7081a6b, version 1.8, July 2026) with the
exceptions that are marked "not libbpf" below. tests/dedup/test_naive.py holds this file to digests
that libbpf itself made.
"""

from __future__ import annotations

import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from support.oracles.naive_btf import (
    ANY_ENUM,
    ARRAY,
    CHAIN,
    COMPOSITE,
    DATASEC,
    ENUM,
    ENUM64,
    FLOAT,
    FUNC_PROTO,
    FWD,
    INT,
    KIND_NAMES,
    STRUCT,
    TYPEDEF,
    UNION,
    VAR,
    VOID,
    Btf,
    Words,
    add,
    elements,
    id_words,
    kind_flag_of,
    kind_of,
    parse,
    rebuild_strings,
    vlen_of,
)

IDENTITY_DEPTH = 16  # libbpf: btf_dedup_is_equiv's call of btf_dedup_identical_types
T = TypeVar("T")


class DedupError(ValueError):
    """The types can be read but not deduplicated."""


class OddMember(DedupError):
    """A comparison met a VAR, DATASEC or DECL_TAG inside another type: no sound file has that.

    libbpf refuses the whole file then; whether a comparison gets there depends on the order of the
    walk, so a library that stops earlier at another difference is not wrong.
    """


# -------------------------------------------------------------------------------- candidate table


class CandidateTable:
    """Signature -> canonical types to try, in libbpf's order.

    libbpf keeps them in a chained hash map. A new entry goes to the head of its chain. When the map
    grows, every chain is walked from its head and each entry is put at the head of its new chain,
    so
    entries with the same signature come out in reverse. Which bucket they share does not matter.

    A Python list is a chain with its head at the end.
    """

    def __init__(self, reverse_on_growth: bool = True) -> None:
        self.chains: list[list[tuple[tuple, int]]] = []
        self.size = 0
        self.reverse_on_growth = (
            reverse_on_growth  # False shows that the order matters; see vectors.py
        )

    def _chain(self, signature: tuple) -> list[tuple[tuple, int]]:
        return self.chains[hash(signature) % len(self.chains)]

    def add(self, signature: tuple, type_id: int) -> None:
        if (self.size + 1) * 4 // 3 > len(self.chains):
            self._grow()
        self._chain(signature).append((signature, type_id))
        self.size += 1

    def _grow(self) -> None:
        old = self.chains
        self.chains = [[] for _ in range(max(4, 2 * len(old)))]
        for chain in old:
            for entry in reversed(chain) if self.reverse_on_growth else chain:
                self._chain(entry[0]).append(entry)

    def candidates(self, signature: tuple) -> Iterator[int]:
        if self.chains:
            for entry, type_id in reversed(self._chain(signature)):
                if entry == signature:
                    yield type_id


def signature(t: Words) -> tuple:
    """What is hashed: all that can be compared without following an unresolved reference."""
    kind = kind_of(t)
    if kind in ANY_ENUM:  # by name only, so that forward and full declarations meet
        return ("enum", t[0])
    if kind == TYPEDEF:
        return ("typedef", t[0], t[1])
    if kind in COMPOSITE:
        return shallow_struct(t)
    return tuple(t)  # every other kind is equal when all of its words are


# ------------------------------------------------------------------------------- shallow equality


def shallow_struct(t: Words) -> tuple:
    """Name, info, size, and of the members all but their types."""
    return ("struct", *t[:3], *((m[0], m[2]) for m in elements(t)))


def shallow_proto(t: Words) -> tuple:
    """Name, info and parameter names; neither the return type nor the parameter types."""
    return (t[0], t[1], *(p[0] for p in elements(t)))


def shallow_array(t: Words) -> tuple:
    return (*t[:3], t[5])


def is_forward_enum(t: Words) -> bool:
    return kind_of(t) in ANY_ENUM and vlen_of(t) == 0


def compatible_enums(a: Words, b: Words) -> bool:
    """Equal, or one is a forward declaration of the same name; size and kind may differ then."""
    if is_forward_enum(a) or is_forward_enum(b):
        return a[0] == b[0] and kind_of(a) in ANY_ENUM and kind_of(b) in ANY_ENUM
    return a == b


def declares(fwd: Words) -> int:
    """The kind that a FWD stands for."""
    return UNION if kind_flag_of(fwd) else STRUCT


# ------------------------------------------------------------------------------------------ dedup


class Dedup:
    """One run over the own types of a BTF whose strings are final already."""

    def __init__(self, btf: Btf, reverse_on_growth: bool = True) -> None:
        self.start = btf.start_id
        self.types = btf.all_types()  # by id; own ones are rewritten in pass 5
        self.own = range(btf.start_id, btf.end_id)
        # Canonical map. Base types, VAR and DATASEC stand for themselves; None: not known yet.
        self.map: list[int | None] = list(range(self.start))
        self.map += [i if kind_of(self.types[i]) in (VAR, DATASEC) else None for i in self.own]
        self.table = CandidateTable(reverse_on_growth)
        self.in_progress: set[int] = set()  # own types that pass 5 is inside of
        # State of one comparison of type graphs, see `equivalent`.
        self.paired: dict[int, int] = {}
        self.base_would_change = False
        # What `identical` found out: pair -> smallest depth that said yes, largest that said no.
        self.identical_from: dict[tuple[int, int], int] = {}
        self.different_to: dict[tuple[int, int], int] = {}

    def run(self) -> tuple[list[Words], dict[int, int]]:
        """-> (types that stay, with final ids; own id before -> id after, perhaps in the base)."""
        for type_id in range(1, self.start):
            if kind_of(self.types[type_id]) not in (VAR, DATASEC):
                self.table.add(signature(self.types[type_id]), type_id)
        for type_id in self.own:
            self.primitive(type_id)
        for type_id in self.own:
            self.composite(type_id)
        self.resolve_forwards()
        for type_id in self.own:
            self.reference(type_id)
        return self.compact()

    # ---- the canonical map

    def resolve(self, type_id: int) -> int:
        """Follows the map to its end, which may be a type that has no entry yet."""
        while (mapped := self.map[type_id]) is not None and mapped != type_id:
            type_id = mapped
        return type_id

    def resolve_forward(self, type_id: int) -> int:
        """A FWD whose definition is known becomes that definition; everything else stays."""
        if kind_of(self.types[type_id]) == FWD:
            end = self.resolve(type_id)
            if kind_of(self.types[end]) != FWD:
                return end
        return type_id

    def settle(self, type_id: int, canonical: int, sign: tuple) -> None:
        self.map[type_id] = canonical
        if canonical == type_id:
            self.table.add(sign, type_id)

    # ---- pass 2: INT, FLOAT, FWD, ENUM, ENUM64

    def primitive(self, type_id: int) -> None:
        t = self.types[type_id]
        if kind_of(t) not in (INT, FLOAT, FWD, ENUM, ENUM64):
            return
        sign = signature(t)
        canonical = type_id
        for candidate in self.table.candidates(sign):
            other = self.types[candidate]
            if t == other:
                canonical = candidate
                break
            if kind_of(t) in ANY_ENUM and compatible_enums(t, other):
                if is_forward_enum(t):
                    canonical = candidate
                    break
                # The candidate is a forward declaration of t. Go on: an equal full enum may follow.
                self.map[candidate] = type_id
        self.settle(type_id, canonical, sign)

    # ---- pass 3: STRUCT, UNION, TYPEDEF

    def composite(self, type_id: int) -> None:
        t = self.types[type_id]
        if kind_of(t) not in (STRUCT, UNION, TYPEDEF) or self.map[type_id] is not None:
            return
        sign = signature(t)
        canonical = type_id
        for candidate in self.table.candidates(sign):
            self.paired = {}
            self.base_would_change = False
            if not self.equivalent(type_id, candidate):
                continue
            self.merge_pairs()
            if not self.base_would_change:
                canonical = candidate
                break
        self.settle(type_id, canonical, sign)

    def equivalent(self, own: int, canon: int) -> bool:
        """Walks two type graphs side by side; `paired` collects canonical id -> own id."""
        if self.resolve(own) == self.resolve(canon):
            return True
        canon = self.resolve_forward(canon)
        if canon in self.paired:
            # Paired with something else already: fine only if the compiler wrote one type twice.
            return self.paired[canon] == own or self.identical(
                self.paired[canon], own, IDENTITY_DEPTH
            )
        self.paired[canon] = own

        a, b = self.types[own], self.types[canon]
        kind = kind_of(a)
        if a[0] != b[0]:
            return False
        if kind != kind_of(b):
            if kind == FWD:
                return declares(a) == kind_of(b)
            if kind_of(b) == FWD and declares(b) == kind:
                if canon < self.start:
                    self.base_would_change = True
                return True
            return False
        if kind in (INT, FLOAT, FWD):
            return a == b
        if kind in ANY_ENUM:
            return compatible_enums(a, b)
        if kind in CHAIN:
            return a[1] == b[1] and self.equivalent(a[2], b[2])
        if kind == ARRAY:
            return (
                shallow_array(a) == shallow_array(b)
                and self.equivalent(a[4], b[4])  # index type first
                and self.equivalent(a[3], b[3])
            )
        if kind in COMPOSITE:
            return shallow_struct(a) == shallow_struct(b) and all(
                self.equivalent(m[1], n[1]) for m, n in zip(elements(a), elements(b), strict=True)
            )
        if kind == FUNC_PROTO:
            return (
                shallow_proto(a) == shallow_proto(b)
                and self.equivalent(a[2], b[2])
                and all(
                    self.equivalent(p[1], q[1])
                    for p, q in zip(elements(a), elements(b), strict=True)
                )
            )
        raise OddMember(f"type {own}: {KIND_NAMES[kind]} cannot be part of another type")

    def identical(self, a: int, b: int, depth: int) -> bool:
        """Structural identity, at most `depth` levels of struct, array and prototype deep.

        Follows the ids as written, no map. A copy of a cyclic struct runs out of depth and counts
        as
        different. More depth never turns a yes into a no, hence the two bounds that are remembered.
        They change no result; without them ("not libbpf") crafted input takes exponential time.
        """
        if (a, b) in self.identical_from and depth >= self.identical_from[a, b]:
            return True
        if (a, b) in self.different_to and depth <= self.different_to[a, b]:
            return False
        result = self.walk_identical(a, b, depth)
        if result:
            self.identical_from[a, b] = depth
        else:
            self.different_to[a, b] = depth
        return result

    def walk_identical(self, a: int, b: int, depth: int) -> bool:
        if depth <= 0:
            return False

        def same(x: int, y: int) -> bool:
            return x == y or self.identical(x, y, depth - 1)

        seen = set()
        while True:
            s, t = self.types[a], self.types[b]
            kind = kind_of(s)
            if kind != kind_of(t):
                return False
            if kind not in CHAIN:
                break
            if s[:2] != t[:2]:
                return False
            if (a, b) in seen:  # not libbpf: it never leaves a cycle of typedefs and pointers
                return True
            seen.add((a, b))
            a, b = s[2], t[2]  # a chain costs no depth, and equal ids are followed all the same

        if kind == VOID:
            return True
        if kind in (INT, FLOAT, FWD):
            return s == t
        if kind in ANY_ENUM:
            return compatible_enums(s, t)
        if kind == ARRAY:  # not libbpf: f7081a6b compares the first array with itself here
            return shallow_array(s) == shallow_array(t) and same(s[4], t[4]) and same(s[3], t[3])
        if kind in COMPOSITE:
            return shallow_struct(s) == shallow_struct(t) and all(
                same(m[1], n[1]) for m, n in zip(elements(s), elements(t), strict=True)
            )
        if kind == FUNC_PROTO:
            return (
                shallow_proto(s) == shallow_proto(t)
                and same(s[2], t[2])
                and all(same(p[1], q[1]) for p, q in zip(elements(s), elements(t), strict=True))
            )
        return False  # VAR, DATASEC, DECL_TAG

    def merge_pairs(self) -> None:
        """Keeps what a comparison showed. Each pair sees the effect of those before it."""
        for canon, own in self.paired.items():
            t, c = self.resolve(own), self.resolve(canon)
            t_kind, c_kind = kind_of(self.types[t]), kind_of(self.types[c])
            if c_kind == FWD and t_kind != FWD:
                self.map[c] = t  # may be a base FWD: the one thing about the base that changes
            if self.base_would_change:
                continue
            if t_kind == FWD and c_kind != FWD:
                self.map[t] = c
            if (
                t_kind in COMPOSITE
                and c_kind != FWD
                and self.map[c] is not None
                and self.map[t] is None
            ):
                self.map[t] = c

    # ---- pass 4: FWD

    def resolve_forwards(self) -> None:
        """A FWD that stands for itself gets the one struct or union of its name, if unique."""
        by_name: dict[int, int | None] = {}  # name offset -> id, None if there are several
        for type_id, t in enumerate(self.types):
            if kind_of(t) in COMPOSITE and self.map[type_id] == type_id:
                by_name[t[0]] = None if t[0] in by_name else type_id
        for type_id in self.own:
            t = self.types[type_id]
            if kind_of(t) == FWD and self.map[type_id] == type_id:
                found = by_name.get(t[0])
                if found is not None and kind_of(self.types[found]) == declares(t):
                    self.map[type_id] = found

    # ---- pass 5: what refers to others

    def reference(self, type_id: int) -> int:
        """Resolves a type's references depth first, then looks for its equal; -> canonical id."""
        if self.map[type_id] is not None:
            return self.resolve(type_id)
        if type_id in self.in_progress:
            raise DedupError(f"type {type_id}: refers to itself without a struct, union or typedef")
        self.in_progress.add(type_id)
        t = self.types[type_id]
        for word in id_words(t):  # an array's element comes first here
            t[word] = self.reference(t[word])
        self.in_progress.remove(type_id)

        sign = signature(t)
        canonical = next(self.table.candidates(sign), type_id)
        self.settle(type_id, canonical, sign)
        return canonical

    # ---- passes 6 and 7

    def compact(self) -> tuple[list[Words], dict[int, int]]:
        kept = [type_id for type_id in self.own if self.map[type_id] == type_id]
        new_id = {old: self.start + i for i, old in enumerate(kept)}

        def final(type_id: int) -> int:
            canonical = self.resolve(type_id)
            return new_id.get(canonical, canonical)

        out = [list(self.types[type_id]) for type_id in kept]
        for t in out:
            for word in id_words(t):
                t[word] = final(t[word])
        return out, {type_id: final(type_id) for type_id in self.own}


# ----------------------------------------------------------------------------------- entry points


@dataclass
class Result:
    """What must be written, and where each input type went."""

    types: bytes
    strings: bytes
    id_map: dict[int, int]  # own id in the input -> id in the output (or in the base)
    order: str

    def __iter__(self) -> Iterator:
        return iter((self.types, self.strings, self.id_map))


def with_deep_stack(function: Callable[[], T]) -> T:
    """Calls a function where it may recurse as deep as type graphs go, in Python and in C."""
    done: list[T] = []
    failed: list[Exception] = []

    def body() -> None:
        try:
            done.append(function())
        except Exception as error:
            failed.append(error)

    limit, size = sys.getrecursionlimit(), threading.stack_size(512 << 20)
    sys.setrecursionlimit(1_000_000)
    try:
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(size)
    if failed:
        raise failed[0]
    return done[0]


def finish(btf: Btf, first_id: int, reverse_on_growth: bool) -> Result:
    types, id_map = with_deep_stack(Dedup(btf, reverse_on_growth).run)
    words = [word for t in types for word in t]
    packed = struct.pack(f"{btf.order}{len(words)}I", *words)
    renumbered = {old - btf.start_id + first_id: new for old, new in id_map.items()}
    return Result(packed, btf.strings, renumbered, btf.order)


def split_dedup(base: bytes | Btf, module: bytes | Btf, reverse_on_growth: bool = True) -> Result:
    """Output in the base's byte order; id_map is keyed by the module's own ids."""
    base = base if isinstance(base, Btf) else parse(base)
    module = module if isinstance(module, Btf) else parse(module)
    split = Btf(base.order, base=base)
    add(split, module, split.string_index())
    return finish(split, 1, reverse_on_growth)


def resplit_dedup(base: bytes | Btf, split: bytes | Btf, reverse_on_growth: bool = True) -> Result:
    base = base if isinstance(base, Btf) else parse(base)
    split = split if isinstance(split, Btf) else parse(split, base)
    return finish(rebuild_strings(split), split.start_id, reverse_on_growth)


def plain_dedup(data: bytes | Btf, reverse_on_growth: bool = True) -> Result:
    btf = data if isinstance(data, Btf) else parse(data)
    return finish(rebuild_strings(btf), 1, reverse_on_growth)


def merge_dedup(files: list[bytes], reverse_on_growth: bool = True) -> Result:
    """id_map is keyed by the ids that the types have after being added one file after another."""
    merged = Btf(strings=b"\0")
    index = merged.string_index()
    for data in files:
        add(merged, parse(data), index)
    return finish(merged, 1, reverse_on_growth)
