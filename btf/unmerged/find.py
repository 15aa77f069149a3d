"""Every named type that stayed in a module although the base has one of its name, and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from ..arguments import takes
from ..compare import reasons
from ..compare.difference import own_difference
from ..compare.paths import Hop, accessor, called, joined, way_as_c, written
from ..compare.shallow import only_declared
from ..compiled.jit import drop_flattened
from ..deduplication.deduplicate import DedupResult
from ..deduplication.index import BaseIndex
from ..errors import UnsupportedError, WrongBaseError
from ..format.kinds import COMPOSITES, NEVER_MERGED
from ..types.btf import BTF
from ..types.objects import Composite, Func, Fwd, Struct, Union
from ..types.typebase import spell
from .blocked import FIRST, Blocked, mark_blocked_by_fwd
from .names import BaseNames, find_namesakes
from .pairs import BASE_DECLARES, FOLLOW, LINKS, MODULE_DECLARES, PAIRS, STATES, Pairs, make_pairs
from .records import ModuleRecords
from .related import check_related
from .root_causes import Causes, propagate_root_causes
from .simulate import Simulation

LABELS = ("vmlinux", "the module")

# Root causes of a module whose replacement is simulated, where the base only declares what the
# module defines: then dedup walks through most of the module each time.
MAX_SIMULATIONS = 64

# Pairs of an own type and one of the base that are looked into. Of two circles of p and q types
# there are p * q; modules of kernels have one for a hundred types.
MAX_PAIRS_PER_TYPE = 8
MANY_PAIRS = 1 << 16

_IS_COMPOSITE = np.isin(np.arange(1 << 8), list(COMPOSITES))  # by kind

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
class UnmergedType:
    """A named type that stayed although the base has one of its name.

    type_id         of the module's type, after dedup
    base_type_id    the namesake in the base that it is held against: the one nearest to it
    namesakes       types of the base that have its name, in its name space
    reason          a code of ``reasons``
    path            the way to the root cause, as C says it
    root            the same object for all types that have it
    sole            whether it would go if the root cause were replaced; None: not worked out
    """

    type_id: int
    base_type_id: int
    namesakes: int
    reason: str
    path: str
    root: RootCause
    sole: bool | None


@takes(source=BTF, result=DedupResult, index=BaseIndex, names=(BaseNames, type(None)))
def unmerged_types(
    source: BTF, result: DedupResult, index: BaseIndex, names: BaseNames | None = None
) -> list[UnmergedType]:
    """Explain named types that stayed although the base has their name, in the order of their ids.

    source  the module as it was: standalone or split, as it was given to dedup
    result  what dedup made of it
    names   ``BaseNames.build(index)``; made here, and thrown away, when None

    Raises UnsupportedError for a module that was made to have no end of it, WrongBaseError or
    BtfError where the three do not belong together.
    """
    check_related(source, result, index)
    if names is not None and names.type_end > index.type_end:
        raise WrongBaseError("the names are not those of the module's base", source.path)
    return find_unmerged(source, result, index, names)


def find_unmerged(
    source: BTF, result: DedupResult, index: BaseIndex, names: BaseNames | None = None
) -> list[UnmergedType]:
    """As ``unmerged_types``, of what is known to belong together."""
    split, names = result.btf, names or BaseNames.build(index)
    first, count = np.empty(split.type_count, np.int32), np.empty(split.type_count, np.int32)
    if not find_namesakes(split.words, split.offsets, index.str_end, names.keys, first, count):
        return []  # as of most modules
    finder = _Finder(source, result, index, names, first, count)
    try:
        return finder.rows()
    finally:
        finder.close()


@dataclass(frozen=True, slots=True)
class _Explanation:
    """Why one own type stayed. ``root``: (the module's type, the base's)."""

    reason: str
    path: str
    root: tuple[int, int]


class _Finder:
    """The steps for one module, and what they hand to each other.

    Own types are numbered from 0 here, as in all arrays (``own``).
    """

    def __init__(
        self,
        source: BTF,
        result: DedupResult,
        index: BaseIndex,
        names: BaseNames,
        first: np.ndarray,
        count: np.ndarray,
    ) -> None:
        """``first``, ``count``: where an own type's namesakes are, see ``names.find_namesakes``."""
        self.source, self.result, self.index, self.names = source, result, index, names
        self.id_map, self.btf = result.id_map, result.btf
        self.first_own = index.type_end
        self.first, self.count = first, count
        self._steps: dict[int, tuple[str, int]] = {}
        self._type = cache(self.btf.__getitem__)  # most are asked for several times

    def close(self) -> None:
        """Let go of the arrays."""
        for name in ("records", "pairs", "causes", "blocked"):
            if name in self.__dict__:
                drop_flattened(self.__dict__[name])

    def rows(self) -> list[UnmergedType]:
        """All of them."""
        self.records = ModuleRecords(
            self.index.words,
            self.index.starts,
            self.btf.words,
            self.btf.offsets,
            self.source.words,
            self.source.offsets,
            self.source.start_id,
            self.id_map,
        )
        namesakes = self.names.ids, self.first, self.count
        self.pairs = self._pairs()
        pairs, links = int(self.pairs.counts[PAIRS]), int(self.pairs.counts[LINKS])
        self.causes = Causes.of(pairs, links, self.btf.type_count)
        propagate_root_causes(self.records, self.pairs, self.causes, *namesakes)
        self.has_definitions = self._find_definitions()
        explanations = {own: self._explain(own) for own in np.flatnonzero(self.count).tolist()}
        roots, sole = self._roots(explanations)
        return [
            UnmergedType(
                self.first_own + own,
                self._namesake(own),
                int(self.count[own]),
                explanation.reason or roots[explanation.root].reason,
                explanation.path,
                roots[explanation.root],
                sole.get(own),
            )
            for own, explanation in explanations.items()
        ]

    def _pairs(self) -> Pairs:
        """Raises UnsupportedError for a module with more pairs than any compiler's has."""
        most = MAX_PAIRS_PER_TYPE * (self.source.type_count + self.btf.type_count) + MANY_PAIRS
        room = min(4 * int(np.count_nonzero(self.count)) + 256, most)
        while True:
            pairs = Pairs.of(room, 4 * room)
            if make_pairs(self.records, pairs, self.names.ids, self.first, self.count):
                return pairs
            if room == most:
                raise UnsupportedError(
                    f"its types and the base's can be held against each other in more than {most} "
                    "ways: no compiler writes that",
                    self.source.path,
                    "types",
                )
            room = min(4 * room, most)

    def _pairs_in_state(self, state: int) -> tuple[np.ndarray, np.ndarray]:
        """(own type's id, base's id) of the pairs of namesakes that are in a state."""
        found = int(self.pairs.counts[PAIRS])
        module, base = self.pairs.module[:found], self.pairs.base[:found]
        chosen = (self.pairs.state[:found] == state) & (self.pairs.named[:found] != 0)
        chosen &= (module >= self.first_own) & (base < self.first_own)
        return module[chosen].astype(np.int64), base[chosen].astype(np.int64)

    def _find_definitions(self) -> bool:
        """Whether the module defines structs or unions that the base only declares: then
        ``blocked`` tells what stays because of them."""
        if not self.pairs.counts[STATES + BASE_DECLARES]:
            return False
        module, base = self._pairs_in_state(BASE_DECLARES)
        own = module - self.first_own
        composite = self._composite[own]
        if not composite.any():
            return False
        self.blocked = Blocked.of(self.btf.type_count, self.source.type_count)
        _, numbers = np.unique(base[composite], return_inverse=True)
        self.blocked.declared[own[composite]] = numbers + 1
        mark_blocked_by_fwd(self.records, self.causes, self.blocked)
        return True

    @cached_property
    def _composite(self) -> np.ndarray:
        """bool: whether each own type is a struct or union."""
        return _IS_COMPOSITE[self.btf.own_kinds]

    def _namesake(self, own: int) -> int:
        """The base's type that an own type is held against."""
        pair = int(self.causes.counterpart[own])
        return int(self.pairs.base[pair] if pair >= 0 else self.names.ids[self.first[own]])

    def _explain(self, own: int) -> _Explanation:
        type_id = self.first_own + own
        found = self._type(type_id)
        myself = (type_id, self._namesake(own))
        pair = int(self.causes.counterpart[own])
        if found.kind in NEVER_MERGED:
            return _Explanation(reasons.NEVER_MERGED, spell(found), myself)
        state = self.pairs.state[pair]
        if self.causes.root[pair] or state == BASE_DECLARES:
            return _Explanation("", spell(found), myself)  # its reason is that of the root cause
        if self.causes.differs[pair]:
            end = int(self.causes.nearest[pair])
            last = int(self.pairs.module[end]), int(self.pairs.base[end])
            reason = reasons.TARGET
            if isinstance(found, (Composite, Func)):
                composite = isinstance(found, Composite)
                reason = reasons.MEMBER_TYPE if composite else reasons.PROTOTYPE
            return _Explanation(reason, self._path(pair), last)
        if state == MODULE_DECLARES:
            return self._unbound(own)
        if self.has_definitions and self.blocked.state[own]:
            first = self.blocked.state[own] == FIRST
            hops, end = self._way_before(own) if first else self._way_onward(own)
            definition = int(self.id_map[self.source.start_id + end])
            namesake = self._namesake(definition - self.first_own)
            path = way_as_c(hops, self.source[self.source.start_id + end])
            reason = reasons.DECLARED if first else reasons.SEVERAL
            return _Explanation(reason, path, (definition, namesake))
        return _Explanation(reasons.ORDER, spell(found), myself)

    def _path(self, pair: int) -> str:
        """How a pair leads to its nearest root, as C says it."""
        steps: list[str] = []
        at, end = pair, int(self.causes.nearest[pair])
        while at != end and len(steps) < MAX_HOPS:
            text, at = self._step(at)
            steps.append(text)
        return joined(steps, self._type(int(self.pairs.module[end])))

    def _step(self, pair: int) -> tuple[str, int]:
        """From a pair to the next one of types that have a name: (``sk_buff.dev``, that pair)."""
        known = self._steps.get(pair)
        if known is None:
            found = self._type(int(self.pairs.module[pair]))
            text, accessors, at = called(found), [], pair
            link = int(self.causes.next_link[at])
            while link >= 0:
                accessors.append(accessor(found, int(self.pairs.link_word[link])))
                at = int(self.pairs.link_to[link])
                link = int(self.causes.next_link[at])
                found = self._type(int(self.pairs.module[at]))
                if self.pairs.named[at]:
                    break
            known = self._steps[pair] = text + written(accessors), at
        return known

    def _way_before(self, own: int) -> tuple[list[Hop], int]:
        """How a type led, before dedup, to what the base only declares: (hops, the definition)."""
        hops: list[Hop] = []
        at = end = int(self.blocked.end[own])
        while int(self.id_map[self.source.start_id + at]) != self.first_own + own:
            before, word = int(self.blocked.way[at]), int(self.blocked.way_word[at])
            hops.append((self.source[self.source.start_id + before], word))
            at = before
        return hops[::-1], end

    def _way_onward(self, own: int) -> tuple[list[Hop], int]:
        """How a type led, before dedup, to a second definition of what the base only declares."""
        hops: list[Hop] = []
        at = int(self.blocked.end[own])
        while len(hops) < MAX_HOPS or not self._is_definition(at):
            if len(hops) < MAX_HOPS:
                word = int(self.blocked.onward_word[at])
                hops.append((self.source[self.source.start_id + at], word))
            at = int(self.blocked.onward[at])
            if self._is_definition(at):
                break
        return hops, at

    def _is_definition(self, index: int) -> bool:
        """Whether a type of the module as it was is one that the base only declares."""
        own = int(self.id_map[self.source.start_id + index]) - self.first_own
        return own >= 0 and self.blocked.declared[own] > 0

    @cached_property
    def _definitions(self) -> dict[int, list[int]]:
        """Own structs and unions by the offset of their name."""
        by_name = defaultdict(list)
        names = self.btf.words[self.btf.offsets[:-1]]
        for own in np.flatnonzero(self._composite & (names != 0)).tolist():
            by_name[int(names[own])].append(own)
        return by_name

    def _unbound(self, own: int) -> _Explanation:
        """A forward declaration that was not bound to the base's definition."""
        found = self._type(self.first_own + own)
        for other in self._definitions.get(found.name_off, ()):
            cause = self._explain(other)
            path = f"{spell(found)} → {cause.path}"
            return _Explanation(reasons.SEVERAL, path, cause.root)
        return _Explanation(reasons.SEVERAL, spell(found), (found.id, self._namesake(own)))

    # -- root causes

    def _roots(
        self, explanations: dict[int, _Explanation]
    ) -> tuple[dict[tuple[int, int], RootCause], dict[int, bool]]:
        """Describe the root causes; and tell which types would go if theirs were replaced.

        explanations   why types stayed, by own type
        """
        kept: dict[int, list[int]] = defaultdict(list)  # by root cause, if it can be replaced
        for own, explanation in explanations.items():
            module, base = explanation.root
            root = module - self.first_own
            if root >= 0 and root in explanations and self._namesake(root) == base:
                if explanations[root].reason != reasons.NEVER_MERGED:
                    kept[root].append(own)
        figures, sole = self._simulate(kept)
        roots = {}
        for pair in dict.fromkeys(explanation.root for explanation in explanations.values()):
            own = pair[0] - self.first_own
            known = figures.get(own) if own in kept and self._namesake(own) == pair[1] else None
            reason, words = self._difference(*pair)
            roots[pair] = RootCause(*pair, reason, words, *(known or (None, None)))
        return roots, sole

    def _simulate(
        self, kept: dict[int, list[int]]
    ) -> tuple[dict[int, tuple[int, int]], dict[int, bool]]:
        """Find the types and bytes that go with each root cause, and whether each type goes with
        its own; for as many root causes as are allowed, those that most types have first.

        kept   own types by the own type that is their root cause
        """
        figures: dict[int, tuple[int, int]] = {}
        sole: dict[int, bool] = {}
        if not kept:
            return figures, sole
        resized = list[tuple[int, int]]()
        if self.pairs.counts[STATES + FOLLOW]:
            module, base = self._pairs_in_state(FOLLOW)
            resized = list(zip(module.tolist(), base.tolist(), strict=True))
        simulation = Simulation(
            self.source, self.result, self.index, resized, (self.names.ids, self.first, self.count)
        )
        by_weight = sorted(kept, key=lambda root: (-len(kept[root]), root))
        for root in by_weight[: MAX_SIMULATIONS if self.has_definitions else None]:
            saving = simulation.simulate_replacement(self.first_own + root, self._namesake(root))
            if saving is not None:
                figures[root] = saving.types, saving.bytes
                sole.update((own, bool(saving.gone[own])) for own in kept[root])
        return figures, sole

    def _difference(self, module: int, base: int) -> tuple[str, str]:
        """What differs between a root cause and its namesake: (reason, words)."""
        found = self._type(module)
        if found.kind in NEVER_MERGED:
            return reasons.NEVER_MERGED, "a module's own, never merged"
        if module < self.first_own:
            words = f"{LABELS[0]} has several types of this name: [{base}] here, [{module}] in use"
            return reasons.SEVERAL, words
        if self.pairs.state[self.causes.counterpart[module - self.first_own]] == BASE_DECLARES:
            number = self.blocked.declared[module - self.first_own] if self.has_definitions else 0
            definitions = np.count_nonzero(self.blocked.declared == number) if number else 1
            declared = only_declared(*LABELS)
            if definitions > 1:
                words = declared.words.replace("the definition", f"{definitions} definitions")
                return declared.reason, words
            return declared.reason, declared.words
        namesake = self._type(base)
        if isinstance(found, Fwd) and isinstance(namesake, Union if found.is_union else Struct):
            count = int(self.count[module - self.first_own])
            return reasons.SEVERAL, f"{LABELS[0]} has {count} types of this name"
        difference = own_difference(namesake, found, labels=LABELS)
        if difference is not None:
            return difference.reason, difference.words
        pair = int(self.causes.counterpart[module - self.first_own])
        reason = reasons.STRINGS if self.causes.root[pair] else reasons.ORDER
        return reason, reasons.UNMERGED_REASONS[reason]
