"""The misses of a module: every named type that stayed although the base has its name, and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..compare import reasons
from ..compare.difference import own_difference
from ..compare.paths import Hop, accessor, called, joined, way_as_c
from ..compare.shallow import only_declared
from ..compiled.arguments import drop_flattened
from ..deduplication.deduplicate import DedupResult
from ..deduplication.index import BaseIndex
from ..format import kinds
from ..types.btf import BTF
from ..types.objects import Composite, Func, Fwd, Struct, Union
from ..types.typebase import spell
from . import root_causes as blaming
from . import whatif
from .again import Mender, several_of_a_name
from .names import NAME_SPACE, VARIABLES, BaseNames, find_namesakes
from .pairs import (
    BASE_DECLARES,
    FOLLOW,
    LINKS,
    MODULE_DECLARES,
    PAIRS,
    Pairs,
    make_pairs,
    new_pairs,
)
from .records import Types

LABELS = ("vmlinux", "the module")

# Root causes of one module for which it is worked out anew which types are the first to lead to
# what the base only declares. That takes a walk through the whole module each time.
MAX_WALKS = 64

MAX_HOPS = 256  # references that a path is followed; what is beyond is left out


@dataclass(frozen=True, slots=True)
class RootCause:
    """A type that keeps others, and what it keeps.

    type_id, base_type_id   the module's type (after dedup) and the base's of its name
    reason, words           what differs between the two: a code of ``reasons``, and a phrase
    kept_types, kept_bytes  own types that would go if the module had the base's type instead, and
                            the bytes of their records; None where that was not worked out
    """

    type_id: int
    base_type_id: int
    reason: str
    words: str
    kept_types: int | None
    kept_bytes: int | None


@dataclass(frozen=True, slots=True)
class Miss:
    """A named type that stayed although the base has one of its name.

    type_id         of the module's type, after dedup
    base_type_id    the namesake in the base that it is held against: the one nearest to it
    namesakes       types of the base that have its name, in its name space
    reason          a code of ``reasons``
    path            the way to the root cause, as C says it
    root            the same object for all types that have it
    sole            whether it would go if the root cause were mended; None: not worked out
    """

    type_id: int
    base_type_id: int
    namesakes: int
    reason: str
    path: str
    root: RootCause
    sole: bool | None


def misses(
    source: BTF, result: DedupResult, index: BaseIndex, names: BaseNames | None = None
) -> list[Miss]:
    """Why types of a module stayed, in the order of their ids.

    source  the module as it was: standalone or split, as it was given to dedup
    result  what dedup made of it
    names   ``BaseNames.build(index)``; made here, and thrown away, when None
    """
    if not result.btf.type_count:
        return []
    finder = _Finder(source, result, index, names or BaseNames.build(index))
    if not finder.namesakes_found:
        return []
    try:
        return finder.rows()
    finally:
        finder.close()


@dataclass(frozen=True, slots=True)
class _Cause:
    """Why one own type stayed. ``root``: (the module's type, the base's)."""

    reason: str
    path: str
    root: tuple[int, int]


class _Finder:
    """The steps for one module, and what they hand to each other.

    Own types are numbered from 0 here, as in all arrays (``own``).
    """

    def __init__(
        self, source: BTF, result: DedupResult, index: BaseIndex, names: BaseNames
    ) -> None:
        self.source, self.id_map, self.index, self.names = source, result.id_map, index, names
        self.result = result
        self.btf = result.btf
        self.first_own = index.type_end
        self._steps: dict[int, tuple[str, int]] = {}
        count = self.btf.type_count
        self.first = np.empty(count, np.int32)
        self.count = np.empty(count, np.int32)
        self.namesakes_found = find_namesakes(
            self.btf.words, self.btf.offsets, index.str_end, names.keys, self.first, self.count
        )

    def close(self) -> None:
        """Let go of the arrays."""
        for name in ("types", "pairs", "blame", "what"):
            if name in self.__dict__:
                drop_flattened(self.__dict__[name])

    def rows(self) -> list[Miss]:
        """All misses."""
        self.types = Types(
            self.index.words,
            self.index.starts,
            self.btf.words,
            self.btf.offsets,
            self.source.words,
            self.source.offsets,
            self.source.start_id,
            self.id_map,
        )
        self.pairs = self._pairs()
        pairs, links = int(self.pairs.counts[PAIRS]), int(self.pairs.counts[LINKS])
        self.blame = blaming.new_blame(pairs, links, self.btf.type_count)
        blaming.lay_blame(
            self.types, self.pairs, self.blame, self.names.ids, self.first, self.count
        )
        self.kinds = self.btf.own_kinds
        self._composite = (self.kinds == kinds.STRUCT) | (self.kinds == kinds.UNION)
        self.what = self._firsts()
        causes = {own: self._cause(own) for own in np.flatnonzero(self.count).tolist()}
        roots, sole = self._roots(causes)
        return [
            Miss(
                self.first_own + own,
                self._namesake(own),
                int(self.count[own]),
                cause.reason or roots[cause.root].reason,
                cause.path,
                roots[cause.root],
                sole.get(own),
            )
            for own, cause in causes.items()
        ]

    def _pairs(self) -> Pairs:
        room = 4 * self.namesakes_found + 256
        while True:
            pairs = new_pairs(room, 4 * room)
            if make_pairs(self.types, pairs, self.names.ids, self.first, self.count):
                return pairs
            room *= 4

    def _firsts(self) -> whatif.WhatIf:
        """Find the types that stayed as the first that lead to what the base only declares."""
        own_words = len(self.btf.words)
        what = whatif.new_whatif(self.btf.type_count, own_words, self.source.type_count)
        found = int(self.pairs.counts[PAIRS])
        module, base = self.pairs.module[:found], self.pairs.base[:found]
        declared = np.flatnonzero(
            (self.pairs.state[:found] == BASE_DECLARES)
            & (module >= self.first_own)
            & (base < self.first_own)
        )
        own = self.pairs.module[declared].astype(np.int64) - self.first_own
        composite = self._composite[own]
        declarations, numbers = np.unique(base[declared][composite], return_inverse=True)
        what.declared[own[composite]] = numbers + 1
        self.has_definitions = bool(len(declarations))
        if self.has_definitions:
            whatif.hold_back(self.types, self.blame, what, whatif.NOBODY)
        whatif.count_users(self.types, what)
        whatif.index_references(self.types, what)
        # What should have gone and has not is beyond what is understood here: let it be.
        excuse = self.blame.excuse
        excuse[(excuse == blaming.NOTHING) & (what.held == whatif.NOT_HELD)] = blaming.SEVERAL
        return what

    def _namesake(self, own: int) -> int:
        """The base's type that an own type is held against."""
        mate = int(self.blame.mate[own])
        return int(self.pairs.base[mate] if mate >= 0 else self.names.ids[self.first[own]])

    def _cause(self, own: int) -> _Cause:
        type_id = self.first_own + own
        found = self.btf[type_id]
        myself = (type_id, self._namesake(own))
        mate = int(self.blame.mate[own])
        if NAME_SPACE[found.kind] >= VARIABLES:
            return _Cause(reasons.NEVER_MERGED, spell(found), myself)
        state = self.pairs.state[mate]
        if self.blame.root[mate] or state == BASE_DECLARES:
            return _Cause("", spell(found), myself)  # its reason is that of the root cause
        if self.blame.differs[mate]:
            end = int(self.blame.nearest[mate])
            last = int(self.pairs.module[end]), int(self.pairs.base[end])
            reason = reasons.TARGET
            if isinstance(found, (Composite, Func)):
                composite = isinstance(found, Composite)
                reason = reasons.MEMBER_TYPE if composite else reasons.PROTOTYPE
            return _Cause(reason, self._path(mate), last)
        if state == MODULE_DECLARES:
            return self._unbound(own)
        if self.what.held[own]:
            first = self.what.held[own] == whatif.FIRST
            hops, end = self._way_before(own) if first else self._way_onward(own)
            definition = int(self.id_map[self.source.start_id + end])
            namesake = self._namesake(definition - self.first_own)
            path = way_as_c(hops, self.source[self.source.start_id + end])
            reason = reasons.DECLARED if first else reasons.SEVERAL
            return _Cause(reason, path, (definition, namesake))
        return _Cause(reasons.ORDER, spell(found), myself)

    def _path(self, pair: int) -> str:
        """How a pair leads to its nearest root, as C says it."""
        steps: list[str] = []
        at, end = pair, int(self.blame.nearest[pair])
        while at != end and len(steps) < MAX_HOPS:
            text, at = self._step(at)
            steps.append(text)
        return joined(steps, self.btf[int(self.pairs.module[end])])

    def _step(self, pair: int) -> tuple[str, int]:
        """From a pair to the next one of types that have a name: (``sk_buff.dev``, that pair)."""
        known = self._steps.get(pair)
        if known is None:
            found = self.btf[int(self.pairs.module[pair])]
            text, at = called(found), pair
            link = int(self.blame.next_link[at])
            while link >= 0:
                text += accessor(found, int(self.pairs.link_word[link]))
                at = int(self.pairs.link_to[link])
                link = int(self.blame.next_link[at])
                found = self.btf[int(self.pairs.module[at])]
                if self.pairs.named[at]:
                    break
            known = self._steps[pair] = text, at
        return known

    def _way_before(self, own: int) -> tuple[list[Hop], int]:
        """How a type led, before dedup, to what the base only declares: (hops, the definition)."""
        hops: list[Hop] = []
        at = end = int(self.what.end[own])
        while int(self.id_map[self.source.start_id + at]) != self.first_own + own:
            before, word = int(self.what.way[at]), int(self.what.way_word[at])
            hops.append((self.source[self.source.start_id + before], word))
            at = before
        return hops[::-1], end

    def _way_onward(self, own: int) -> tuple[list[Hop], int]:
        """How a type led, before dedup, to a second definition of what the base only declares."""
        hops: list[Hop] = []
        at = int(self.what.end[own])
        while len(hops) < MAX_HOPS or not self._is_definition(at):
            if len(hops) < MAX_HOPS:
                word = int(self.what.onward_word[at])
                hops.append((self.source[self.source.start_id + at], word))
            at = int(self.what.onward[at])
            if self._is_definition(at):
                break
        return hops, at

    def _is_definition(self, index: int) -> bool:
        """Whether a type of the module as it was is one that the base only declares."""
        own = int(self.id_map[self.source.start_id + index]) - self.first_own
        return own >= 0 and self.what.declared[own] > 0

    def _defined(self) -> dict[int, list[int]]:
        """Own structs and unions by the offset of their name."""
        if self._by_name is None:
            self._by_name = defaultdict(list)
            composite = self._composite
            names = self.btf.words[self.btf.offsets[:-1]]
            for own in np.flatnonzero(composite & (names != 0)).tolist():
                self._by_name[int(names[own])].append(own)
        return self._by_name

    _by_name: dict[int, list[int]] | None = None

    def _unbound(self, own: int) -> _Cause:
        """A forward declaration that was not bound to the base's definition."""
        found = self.btf[self.first_own + own]
        for other in self._defined().get(found.name_off, ()):
            cause = self._cause(other)
            path = f"{spell(found)} → {cause.path}"
            return _Cause(reasons.SEVERAL, path, cause.root)
        return _Cause(reasons.SEVERAL, spell(found), (found.id, self._namesake(own)))

    # -- root causes

    def _roots(
        self, causes: dict[int, _Cause]
    ) -> tuple[dict[tuple[int, int], RootCause], dict[int, bool]]:
        """The root causes in words and figures; and of types whether they would go with theirs."""
        kept: dict[int, list[int]] = defaultdict(list)  # by root cause, if it can be mended
        for own, cause in causes.items():
            module, base = cause.root
            root = module - self.first_own
            if root >= 0 and root in causes and self._namesake(root) == base:
                if NAME_SPACE[self.kinds[root]] < VARIABLES:
                    kept[root].append(own)
        by_weight = sorted(kept, key=lambda root: (-len(kept[root]), root))
        work_out = self._by_thinking
        if several_of_a_name(self.source, self.result):
            work_out = self._by_doing
        figures, sole = work_out({root: kept[root] for root in by_weight})
        roots = {}
        for pair in dict.fromkeys(cause.root for cause in causes.values()):
            own = pair[0] - self.first_own
            known = figures.get(own) if own in kept and self._namesake(own) == pair[1] else None
            reason, words = self._difference(*pair)
            roots[pair] = RootCause(*pair, reason, words, *(known or (None, None)))
        return roots, sole

    def _by_doing(
        self, kept: dict[int, list[int]]
    ) -> tuple[dict[int, tuple[int, int]], dict[int, bool]]:
        """Types and bytes that go with each root cause, the first ones first, and whether each type
        goes with its own: by mending it and deduplicating again."""
        found = int(self.pairs.counts[PAIRS])
        module, base = self.pairs.module[:found], self.pairs.base[:found]
        follow = (self.pairs.state[:found] == FOLLOW) & (self.pairs.named[:found] != 0)
        follow &= (module >= self.first_own) & (base < self.first_own)
        follows = list(zip(module[follow].tolist(), base[follow].tolist(), strict=True))
        mender = Mender(self.source, self.result, self.index, follows)
        figures: dict[int, tuple[int, int]] = {}
        sole: dict[int, bool] = {}
        for root, types in kept.items():
            gone = mender.mend(self.first_own + root, self._namesake(root))
            if gone is not None:
                figures[root] = gone.types, gone.bytes
                sole.update((own, own in gone.own) for own in types)
        return figures, sole

    def _by_thinking(
        self, kept: dict[int, list[int]]
    ) -> tuple[dict[int, tuple[int, int]], dict[int, bool]]:
        """The same without deduplicating: see ``whatif``."""
        declarations = self._declarations()
        order, excuses = _sorted_by(self.blame.excuse)
        firsts = int(np.searchsorted(excuses, blaming.NOTHING, "right"))
        figures: dict[int, tuple[int, int]] = {}
        sole: dict[int, bool] = {}
        for root in list(kept)[: MAX_WALKS if self.has_definitions else None]:
            type_id = self.first_own + root
            if self.has_definitions:
                whatif.hold_back(self.types, self.blame, self.what, type_id)
            start, end = np.searchsorted(excuses, (type_id, type_id + 1)).tolist()
            whatif.mend(
                self.types,
                self.index.tables,
                self.blame,
                self.what,
                type_id,
                self._namesake(root),
                order,
                firsts,
                start,
                end,
                declarations,
            )
            types, size = self.what.counts[[whatif.GONE_TYPES, whatif.GONE_BYTES]].tolist()
            figures[root] = types, size
            sole.update((own, bool(self.what.fate[own])) for own in kept[root])
            whatif.forget(self.types, self.what)
        return figures, sole

    def _declarations(self) -> np.ndarray:
        """Own forward declarations of what the module defines: see ``_merge_declarations``."""
        rows = []
        names = self.btf.words[self.btf.offsets[:-1]]
        for own in np.flatnonzero((self.kinds == kinds.FWD) & (names != 0)).tolist():
            found = self.btf[self.first_own + own]
            assert isinstance(found, Fwd)
            kind = kinds.UNION if found.is_union else kinds.STRUCT
            ids = self.names.ids[self.first[own] : self.first[own] + self.count[own]].tolist()
            defined = [type_id for type_id in ids if isinstance(self.btf[type_id], Composite)]
            base = defined[0] if defined else 0
            rows += [
                (own, other, base, len(defined), kind)
                for other in self._defined().get(found.name_off, ())
            ]
        return np.array(rows, np.int64).reshape(-1, 5)

    def _difference(self, module: int, base: int) -> tuple[str, str]:
        """What differs between a root cause and its namesake: (reason, words)."""
        found, namesake = self.btf[module], self.btf[base]
        if NAME_SPACE[found.kind] >= VARIABLES:
            return reasons.NEVER_MERGED, "a module's own, never merged"
        if module < self.first_own:
            words = f"{LABELS[0]} has several types of this name: [{base}] here, [{module}] in use"
            return reasons.SEVERAL, words
        if isinstance(found, Fwd) and isinstance(namesake, Composite):
            if isinstance(namesake, Union if found.is_union else Struct):
                count = int(self.count[module - self.first_own])
                return reasons.SEVERAL, f"{LABELS[0]} has {count} types of this name"
        if self.pairs.state[self.blame.mate[module - self.first_own]] == BASE_DECLARES:
            number = self.what.declared[module - self.first_own]
            definitions = np.count_nonzero(self.what.declared == number) if number else 1
            declared = only_declared(*LABELS)
            if definitions > 1:
                words = declared.words.replace("the definition", f"{definitions} definitions")
                return declared.reason, words
            return declared.reason, declared.words
        difference = own_difference(namesake, found, labels=LABELS)
        if difference is not None:
            return difference.reason, difference.words
        mate = int(self.blame.mate[module - self.first_own])
        reason = reasons.STRINGS if self.blame.root[mate] else reasons.ORDER
        return reason, reasons.MISS_REASONS[reason]


def _sorted_by(excuses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Own types that may go, sorted by what stands against it; and what that is."""
    chances = np.flatnonzero(excuses != blaming.SEVERAL)
    order = chances[np.argsort(excuses[chances], kind="stable")].astype(np.int32)
    return order, excuses[order]
