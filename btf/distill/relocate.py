"""Putting split BTF that continues a distilled base onto a full one: the running vmlinux's.

Each type of the distilled base is looked for in the base by name (see ``distill`` for what it is
made of):

1. INT: the INT of that name, size and encoding (sign, char, bool, bits and their offset).
2. FLOAT: the FLOAT of that name and size.
3. ENUM: the enum of that name and size, of values of any width; its values may have changed.
4. STRUCT, UNION: the one of that name and the same kind. Its size may have changed, but must be the
   same if
   a. a struct or union of the module holds it, by itself, in an array or through typedefs and
      modifiers: the module's own layout is then made for that size; or
   b. the base has several of that name and kind, or the distilled base has.
5. FWD: the forward declaration of that name and kind (struct or union); where the base has none,
   the struct or union itself.

Exactly one type must fit. Otherwise the module cannot be put on this base, and the error names the
type and what is wrong with it. Nothing but the distilled base's types is compared: members may have
moved, as they may for CO-RE.

libbpf's ``btf__relocate`` has the same rules by intention, but compares a FWD's kind with the flag
that says whether the *struct* has bit fields, and does not compare the kind for rule 4 at all: see
``docs/differences.md``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from ..arguments import takes
from ..edit.append import StringPool, require_known_kinds
from ..edit.fields import fields
from ..edit.permute import Renumbered
from ..errors import BtfError, UnsupportedError, WrongBaseError
from ..format.kinds import (
    ARRAY,
    COMPOSITES,
    ENUM,
    ENUMS,
    FWD,
    HEAD_WORDS,
    INFO_KIND_FLAG,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
    INT,
    KEYWORDS,
    KIND_NAMES,
    SCALARS,
    STRUCT,
    TRANSPARENT,
    UNION,
)
from ..format.strings import ABSENT, map_strings
from ..types.btf import BTF, HasBase, base_of, freeze
from ..types.columns import check_name_bytes

SECTION = ".BTF.base"
_NAMED = (*SCALARS, ENUM, *COMPOSITES, FWD)
_TRANSPARENT = tuple(TRANSPARENT)  # what they stand for is held itself
_SHOWN = 3  # so many candidates are listed in an error


@takes(split=BTF)
def relocate(split: BTF, base: BTF | HasBase) -> Renumbered:
    """Put split BTF that continues a distilled base onto ``base``.

    split   split BTF; its base is a distilled one
    base    what it shall continue, or the index of that

    Gives the split BTF on ``base``, and the new id of each type, the distilled base's included.
    Types that were added to it when the base was distilled are still in it: ``dedup`` finds them in
    the base again. Raises WrongBaseError naming the type when one has no place in ``base``, and
    BtfError when what ``split`` continues is no distilled base.
    """
    onto = base_of(base)
    if split.base is None or onto is None:
        raise UnsupportedError(
            "only split BTF on a distilled base can be relocated, and only onto a base", split.path
        )
    if split.byteorder != onto.byteorder:
        raise WrongBaseError(
            f"the module is {split.byteorder}-endian, the base {onto.byteorder}-endian",
            split.path,
            SECTION,
        )
    require_known_kinds(split, "relocated")
    distilled = split.base.flat
    _require_distilled(distilled, split.path)
    targets = _Search(split, distilled, onto.flat).targets()

    id_map = np.empty(split.type_end, np.uint32)
    id_map[: distilled.type_end] = targets
    id_map[distilled.type_end :] = np.arange(
        onto.type_end, onto.type_end + split.type_count, dtype=np.uint32
    )
    words = split.words.copy()
    names, refs = fields(words, split.offsets[:-1], split.offsets[1:])
    words[refs] = id_map[words[refs]]
    words[names], strings = _renamed(words[names], split, distilled, onto.flat, targets)
    result = replace(split, words=freeze(words), strings=freeze(strings), base=onto, sound=True)
    return Renumbered(result, id_map)


def _require_distilled(distilled: BTF, path: str | None) -> None:
    kinds = distilled.own_kinds
    starts = distilled.offsets[:-1]
    nameless = distilled.strings[distilled.words[starts]] == 0
    bad = np.flatnonzero(~np.isin(kinds, _NAMED) | nameless)
    if len(bad):
        at, kind = int(bad[0]), int(kinds[bad[0]])
        known = KIND_NAMES[kind] if kind < len(KIND_NAMES) else f"type of kind {kind}"
        what = f"a {known}" if kind not in _NAMED else f"a {known} without a name"
        raise BtfError(
            f"{what} cannot be in a distilled base: is this a base as it is? "
            "Split BTF on such a base is not relocated",
            path,
            SECTION,
            int(starts[at]) * 4,
            at + 1,
        )


def _renamed(
    offsets: np.ndarray, split: BTF, distilled: BTF, base: BTF, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """String offsets of ``split`` as they read on ``base``, and the own strings that go with them.

    targets   uint32, by id of the distilled base's types: the base's type
    """
    to = np.full(distilled.str_end, ABSENT, np.uint32)
    own = targets[1:].astype(np.int64) - 1
    to[distilled.words[distilled.offsets[:-1]]] = base.words[base.offsets[own]]
    to[0] = 0
    below = offsets < distilled.str_end
    unnamed = np.unique(offsets[below & (to[np.where(below, offsets, 0)] == ABSENT)])
    strings = split.strings
    if len(unnamed):  # strings that are no type's name
        pool = StringPool(base)
        added = pool.add_all(unnamed.astype(np.int64), distilled.strings)
        to[unnamed] = added + np.uint32(len(strings)) * (added >= base.str_end)
        strings = np.concatenate([strings, pool.own_strings])
    shifted = offsets + np.uint32(base.str_end) - np.uint32(distilled.str_end)
    return np.where(below, to[np.where(below, offsets, 0)], shifted), strings


class _NamedType(NamedTuple):
    """A named type, of the distilled base or of the base. ``detail``: of an INT its last word."""

    type_id: int
    kind: int
    kind_flag: bool
    size: int
    detail: int


class _Namesakes:
    """The base's types of one name, in order of id, and which of them a type may be."""

    def __init__(self, types: list[_NamedType]) -> None:
        self.types = types
        self._by_facts = defaultdict[tuple[int, ...], list[_NamedType]](list)
        for found in types:
            if found.kind == FWD:
                self._by_facts[FWD, found.kind_flag].append(found)
            elif found.kind in (STRUCT, UNION):
                self._by_facts[found.kind,].append(found)
                self._by_facts[found.kind, found.size].append(found)
            elif found.kind in ENUMS:
                self._by_facts[ENUM, found.size].append(found)
            else:
                self._by_facts[found.kind, found.size, found.detail].append(found)

    def fit(self, wanted: _NamedType) -> list[_NamedType]:
        """Those that ``wanted`` may be, as far as they alone tell: of structs and unions those of
        any size."""
        if wanted.kind == FWD:
            of_kind = UNION if wanted.kind_flag else STRUCT
            return self._of(FWD, wanted.kind_flag) or self._of(of_kind)
        if wanted.kind in (STRUCT, UNION):
            return self._of(wanted.kind)
        if wanted.kind == ENUM:
            return self._of(ENUM, wanted.size)
        return self._of(wanted.kind, wanted.size, wanted.detail)

    def same_size(self, wanted: _NamedType) -> list[_NamedType]:
        """The structs or unions that also have its size."""
        return self._of(wanted.kind, wanted.size)

    def _of(self, *facts: int) -> list[_NamedType]:
        return self._by_facts.get(facts, [])


class _Search:
    """Which type of the base each one of the distilled base is."""

    def __init__(self, split: BTF, distilled: BTF, base: BTF) -> None:
        self.split = split
        self.distilled = distilled
        self.base = base
        self.problems: list[tuple[int, Callable[[], str]]] = []
        self.inner = _inner_types(split, distilled)
        composites = np.flatnonzero(np.isin(split.own_kinds, (STRUCT, UNION)))
        self.composites = composites
        _, refs = fields(split.words, split.offsets[composites], split.offsets[composites + 1])
        self.held = set(np.unique(self.inner[split.words[refs]]).tolist())

    def targets(self) -> np.ndarray:
        """By id of the distilled base's types, void included: the id in the base. uint32."""
        check_name_bytes(self.distilled)
        wanted = _named_types(self.distilled, np.arange(1, self.distilled.type_end))
        offsets = self.distilled.words[self.distilled.offsets[:-1]].tolist()
        names = [self.distilled.string_bytes(offset) for offset in offsets]
        times = Counter((name, w.kind) for name, w in zip(names, wanted, strict=True))
        targets = [0]
        for w, name, namesakes in zip(wanted, names, self._namesakes(), strict=True):
            targets.append(self._target(w, namesakes, several=times[name, w.kind] > 1))
        if self.problems:
            type_id, message = self.problems[0]
            more = len(self.problems) - 1
            others = f" ({more} more of its types have no place there either)" if more else ""
            raise WrongBaseError(
                f"does not fit this base: {message()}{others}",
                self.split.path,
                SECTION,
                None,
                type_id,
            )
        return np.array(targets, np.uint32)

    def _namesakes(self) -> list[_Namesakes]:
        """For each type of the distilled base, the base's types of its name."""
        distilled, base = self.distilled, self.base
        names, table = base.own_names, base.own_strings
        seen = np.empty(len(distilled.strings), np.uint32)
        map_strings(distilled.strings, table.strings, table.slots, table.repeats, seen)
        heads = distilled.words[distilled.offsets[:-1]]
        if table.repeats or not (names.begin_strings and distilled.own_names.begin_strings):
            check_name_bytes(base)
            ids_of = defaultdict[bytes, list[int]](list)
            for type_id, offset in enumerate(base.words[base.offsets[:-1]].tolist(), 1):
                ids_of[base.string_bytes(offset)].append(type_id)
            texts = map(distilled.string_bytes, heads.tolist())
            wanted = [np.array(ids_of.get(text, []), np.int64) for text in texts]
            which = np.array([int(ids[0]) if len(ids) else 0 for ids in wanted], np.int64)
        else:
            offsets = seen[heads]
            which = np.searchsorted(names.offsets, offsets, "left")
            last = np.searchsorted(names.offsets, offsets, "right").tolist()
            wanted = [names.order[a:b] + 1 for a, b in zip(which.tolist(), last, strict=True)]
        _, first, number = np.unique(which, return_index=True, return_inverse=True)
        groups = [wanted[at] for at in first.tolist()]  # of each name once
        found = iter(_named_types(base, np.concatenate([np.zeros(0, np.int64), *groups])))
        made = [_Namesakes([next(found) for _ in group]) for group in groups]
        return [made[at] for at in number.tolist()]

    def _target(self, wanted: _NamedType, namesakes: _Namesakes, several: bool) -> int:
        """The type of the base that ``wanted`` is; 0, and a problem noted, if there is none.

        several   whether the distilled base has more types of this name and kind
        """
        fit = namesakes.fit(wanted)
        if wanted.kind in (STRUCT, UNION) and (
            len(fit) > 1 or several or wanted.type_id in self.held
        ):
            same_size = namesakes.same_size(wanted)
            if fit and not same_size:
                return self._problem(wanted, partial(self._wrong_size, wanted, fit))
            fit = same_size
        if len(fit) == 1:
            return fit[0].type_id
        if fit:
            return self._problem(wanted, partial(self._ambiguous, wanted, fit))
        return self._problem(wanted, partial(self._missing, wanted, namesakes.types))

    def _problem(self, wanted: _NamedType, message: Callable[[], str]) -> int:
        self.problems.append((wanted.type_id, message))
        return 0

    # ------------------------------------------------------------------ problems in words

    def _called(self, wanted: _NamedType) -> str:
        offset = int(self.distilled.words[self.distilled.offsets[wanted.type_id - 1]])
        return f"{_kind_in_words(wanted)} {self.distilled.string(offset)}"

    def _missing(self, wanted: _NamedType, namesakes: list[_NamedType]) -> str:
        what = self._called(wanted)
        others = [f for f in namesakes if f.kind in _NAMED or f.kind in ENUMS]
        if not others:
            return f"it has no {what}"
        listed = ", ".join(_described(found) for found in others[:_SHOWN])
        return f"it has no {what} as the module needs it ({_described(wanted)}), only {listed}"

    def _ambiguous(self, wanted: _NamedType, fit: list[_NamedType]) -> str:
        listed = ", ".join(f"[{found.type_id}]" for found in fit[:_SHOWN])
        more = ", …" if len(fit) > _SHOWN else ""
        size = f" of {wanted.size} bytes" if wanted.kind != FWD else ""
        return f"it has {len(fit)} types that {self._called(wanted)}{size} may be: {listed}{more}"

    def _wrong_size(self, wanted: _NamedType, fit: list[_NamedType]) -> str:
        sizes = ", ".join(f"{found.size} in [{found.type_id}]" for found in fit[:_SHOWN])
        text = f"{self._called(wanted)} has {wanted.size} bytes for the module, but {sizes}"
        if wanted.type_id in self.held:
            return f"{text}, and {self._holder(wanted.type_id)} of the module holds one"
        where = "the base" if len(fit) > 1 else "the distilled base"
        return f"{text}; {where} has several of that name, so only the size could tell which it is"

    def _holder(self, type_id: int) -> str:
        split = self.split
        for own in self.composites.tolist():
            start, end = split.offsets[own : own + 1], split.offsets[own + 1 : own + 2]
            _, refs = fields(split.words, start, end)
            if type_id in self.inner[split.words[refs]]:
                return split[split.start_id + own].brief()
        raise AssertionError("what is held is held by something")


def _inner_types(split: BTF, distilled: BTF) -> np.ndarray:
    """By type id of ``split``: the struct or union that a value of the type is or consists of.

    That is the type itself, or what is behind typedefs, modifiers and arrays; 0 for the others.
    int64.
    """
    kinds = np.concatenate([[0], distilled.own_kinds, split.own_kinds])
    inner = np.zeros(split.type_end, np.int64)
    composite = np.isin(kinds, (STRUCT, UNION))
    inner[composite] = np.flatnonzero(composite)
    heads = split.offsets[:-1].astype(np.int64)
    own = inner[distilled.type_end :]
    modifiers = np.isin(split.own_kinds, _TRANSPARENT)
    own[modifiers] = split.words[heads[modifiers] + 2]
    arrays = split.own_kinds == ARRAY
    own[arrays] = split.words[heads[arrays] + HEAD_WORDS]
    for _ in range(split.type_end.bit_length()):  # each round doubles the steps taken
        further = inner[inner]
        if np.array_equal(further, inner):
            break
        inner = further
    inner[~composite[inner]] = 0  # what refers to itself in a circle holds nothing
    return inner


def _named_types(btf: BTF, ids: np.ndarray) -> list[_NamedType]:
    """Some types (by id) of a BTF without a base, as far as they matter here."""
    starts = btf.offsets[ids - 1].astype(np.int64)
    infos = btf.words[starts + 1]
    kinds = (infos >> INFO_KIND_SHIFT) & INFO_KIND_MASK
    sizes = np.where(kinds == FWD, 0, btf.words[starts + 2])
    last = np.minimum(starts + HEAD_WORDS, len(btf.words) - 1)
    details = np.where(kinds == INT, btf.words[last], 0)
    columns = (ids, kinds, infos >= INFO_KIND_FLAG, sizes, details)
    return [_NamedType(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _kind_in_words(found: _NamedType) -> str:
    if found.kind == FWD:
        return "forward union" if found.kind_flag else "forward struct"
    return KEYWORDS.get(found.kind, KIND_NAMES[found.kind])


def _described(found: _NamedType) -> str:
    size = "" if found.kind == FWD else f" of {found.size} bytes"
    if found.kind == INT:
        size += f", encoding {found.detail:#010x}"
    return f"{KIND_NAMES[found.kind]}{size}"
