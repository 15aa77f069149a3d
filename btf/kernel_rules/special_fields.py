"""Special fields of a program's structs (``btf_parse_struct_metas``): locks, lists, trees,
reference counts and pointers that maps own, which the kernel knows by the names of their types.

Only structs with such a member are looked at, and what lies in them. Judged from 6.12 on, where the
rules are as today but for few details; before, they changed with every release. What a tagged
pointer points to is taken for a type of the program: whether the kernel has one of that name, and
lets programs own it, is not in this BTF.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from ..format.kinds import (
    ARRAY,
    DECL_TAG,
    HEAD_WORDS,
    INFO_KIND_FLAG,
    INFO_VLEN_MASK,
    MAX_KIND,
    PTR,
    STRUCT,
    TRANSPARENT,
    TYPE_TAG,
    VOLATILE,
)
from . import rules
from .rules import Release

_MOST = 11  # BTF_FIELDS_MAX
_DEEPEST = 32  # MAX_RESOLVE_DEPTH
_LONGEST = 1100  # of "contains:", two names of 512 bytes, and what is between
_OWNERSHIP_DEPTH = 8  # BTF_MAX_OWNERSHIP_DEPTH
_WALKED = (7, 2)  # the release since which tags are looked for behind modifiers


class _Special(NamedTuple):
    """A special type: bytes, alignment, and whether a struct may have one only."""

    size: int
    align: int
    once: bool = False
    since: Release = (6, 12)
    marks: bool = True


_TYPES = {
    b"bpf_spin_lock": _Special(4, 4, once=True),
    b"bpf_res_spin_lock": _Special(4, 4, once=True, since=(6, 15), marks=False),
    b"bpf_list_head": _Special(16, 8),
    b"bpf_list_node": _Special(24, 8),
    b"bpf_rb_root": _Special(16, 8),
    b"bpf_rb_node": _Special(32, 8),
    b"bpf_refcount": _Special(4, 4, once=True),
}
_LOCKS = {b"bpf_spin_lock", b"bpf_res_spin_lock"}
_NODE_OF = {b"bpf_list_head": b"bpf_list_node", b"bpf_rb_root": b"bpf_rb_node"}
_POINTER, _POINTER_BYTES = b"", 8  # instead of a name: a pointer that may be tagged
_KPTR_TAGS = (b"kptr_untrusted", b"kptr", b"percpu_kptr")
_OWNING = (b"kptr", b"percpu_kptr")
_UPTR_TAG = b"uptr"
_REPEATABLE = {_POINTER, *_NODE_OF}

_IGNORED, _FOUND, _WRONG = 0, 1, 2  # what a pointer is
_IS_TRANSPARENT = np.isin(np.arange(MAX_KIND + 1), list(TRANSPARENT))


class _Field(NamedTuple):
    """A special field: bytes from the struct's start, its special type, and the struct that it
    owns, with the member that is its node (roots of lists and trees), or 0."""

    offset: int
    name: bytes
    owns: int = 0
    node: bytes = b""

    @property
    def size(self) -> int:
        return _TYPES[self.name].size if self.name in _TYPES else _POINTER_BYTES


class _Inside(NamedTuple):
    """Special fields of a struct, which types it has once only, how deep structs lie in it."""

    fields: tuple[_Field, ...]
    once: frozenset[bytes]
    height: int


class _BrokenError(Exception):
    """A rule that a struct breaks."""

    def __init__(self, rule: int) -> None:
        super().__init__(rule)
        self.rule = rule


def check_special_fields(
    words: np.ndarray,
    offsets: np.ndarray,
    own_kinds: np.ndarray,
    strings: np.ndarray,
    release: Release,
) -> tuple[int, int, int]:
    """Check all structs that have special fields: (rule broken or 0, own type from 0, its word).

    words, offsets   records that have passed both passes of the verifier
    own_kinds        uint8: the kind of each type
    """
    if release < (6, 12):
        return 0, 0, 0
    text = strings.tobytes()
    places = {name: _places(text, name) for name in (*_TYPES, *_KPTR_TAGS, _UPTR_TAG)}
    if not any(places.values()):
        return 0, 0, 0
    starts = offsets[: len(own_kinds)].astype(np.int64)
    types = _Types(words, starts, own_kinds, text, places, release)
    metas: dict[int, tuple[_Field, ...]] = {}
    current = 0
    try:
        for current in types.marked_structs():
            metas[current] = types.record(current)
        for current, fields in metas.items():
            if any(field.owns and field.node and field.owns not in metas for field in fields):
                raise _BrokenError(rules.FIELD_VALUE)
        depths: dict[int, int] = {}
        for current in metas:
            _ownership_depth(metas, depths, current, _OWNERSHIP_DEPTH)
    except _BrokenError as broken:
        return broken.rule, current - 1, int(offsets[current - 1])
    return 0, 0, 0


def _ownership_depth(
    metas: dict[int, tuple[_Field, ...]], depths: dict[int, int], struct: int, left: int
) -> int:
    """How many structs own each other from ``struct`` on, which is to be ``left`` at most."""
    if left == 0:
        raise _BrokenError(rules.FIELD_OWNERSHIP)
    if struct not in depths:
        owned = {field.owns for field in metas[struct] if field.owns in metas}
        below = [_ownership_depth(metas, depths, each, left - 1) for each in sorted(owned)]
        depths[struct] = max(below, default=0) + 1
    if depths[struct] > left:
        raise _BrokenError(rules.FIELD_OWNERSHIP)
    return depths[struct]


def _places(text: bytes, name: bytes) -> list[int]:
    """All offsets at which ``text`` has this string, whole or as the end of another."""
    found, at = [], text.find(name + b"\0")
    while at >= 0:
        found.append(at)
        at = text.find(name + b"\0", at + 1)
    return found


class _Types:
    """Types of a program's BTF by id, void first."""

    def __init__(
        self,
        words: np.ndarray,
        starts: np.ndarray,
        own_kinds: np.ndarray,
        text: bytes,
        places: dict[bytes, list[int]],
        release: Release,
    ) -> None:
        self._words, self._text, self._places, self._release = words, text, places, release
        self._starts = np.concatenate((np.zeros(1, np.int64), starts))
        self._kinds = np.concatenate((np.zeros(1, np.uint8), own_kinds))
        self._names = np.concatenate((np.zeros(1, np.int64), words[starts].astype(np.int64)))
        third = words[starts + 2].astype(np.int64)
        refers = _IS_TRANSPARENT[own_kinds] | (own_kinds == PTR) | (own_kinds == DECL_TAG)
        self._targets = np.concatenate((np.zeros(1, np.int64), np.where(refers, third, 0)))
        self._special = {
            at: name
            for name, special in _TYPES.items()
            if special.since <= release
            for at in places[name]
        }
        # The same for one look at a time, which takes an array three times as long.
        self._word, self._kind = words.data, self._kinds.data
        self._start, self._name_at = self._starts.data, self._names.data
        self._inside: dict[int, _Inside] = {}
        self._by_name: dict[int, dict[bytes, list[tuple[int, int]]]] = {}

    def _text_at(self, at: int) -> bytes:
        """The string at an offset, or as much of it as any name may have."""
        return self._text[at : at + _LONGEST].split(b"\0", 1)[0]

    def _name(self, type_id: int) -> bytes:
        return self._text_at(self._name_at[type_id])

    def _called(self, name: bytes, kind: int) -> np.ndarray:
        """Which types have this name and kind: a mask by id."""
        at = self._places[name] if name in self._places else _places(self._text, name)
        return np.isin(self._names, at) & (self._kinds == kind)

    def _find_struct(self, name: bytes) -> int:
        """The id of the first struct of that name, or 0."""
        mask = self._called(name, STRUCT)
        return int(mask.argmax()) if mask.any() else 0

    @functools.cached_property
    def _structs(self) -> dict[bytes, int]:
        """The first struct of each name."""
        found: dict[bytes, int] = {}
        for struct in np.flatnonzero(self._kinds == STRUCT).tolist():
            found.setdefault(self._name(struct), struct)
        return found

    @functools.cached_property
    def _tags(self) -> dict[tuple[int, int], list[bytes]]:
        """The values of declaration tags by the type and the component that they are of."""
        found: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        for tag in np.flatnonzero(self._kinds == DECL_TAG).tolist():
            start = self._start[tag]
            found[self._word[start + 2], self._word[start + HEAD_WORDS]].append(self._name(tag))
        return found

    @functools.cached_property
    def _pointers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each type: whether it is a tagged pointer (_FOUND), or wrongly is one; the struct
        behind it; whether it owns that."""
        tags = {tag: self._called(tag, TYPE_TAG) for tag in (*_KPTR_TAGS, _UPTR_TAG)}
        walked = self._release >= _WALKED
        if walked and not any(mask.any() for mask in tags.values()):
            nothing = np.zeros(len(self._kinds), np.int64)
            return nothing, nothing, nothing
        flagged = self._words[self._starts + 1] & INFO_KIND_FLAG != 0
        at, seen = self._targets.copy(), {tag: np.zeros(len(self._kinds), bool) for tag in tags}
        first_tag = self._kinds[at] == TYPE_TAG
        second_tag = first_tag & (self._kinds[self._targets[at]] == TYPE_TAG)
        for step in range(_DEEPEST + 2):
            inside = _IS_TRANSPARENT[self._kinds[at]]
            if not inside.any():
                break
            if walked or step == 0:
                for tag, mask in tags.items():
                    seen[tag] |= mask[at] & ~flagged[at]
            at = np.where(inside, self._targets[at], at)
        count = sum(mask.astype(np.int8) for mask in seen.values())
        found = functools.reduce(np.logical_or, (seen[tag] for tag in _KPTR_TAGS))
        if walked:
            wrong = (count > 1) | (found & (self._kinds[at] != STRUCT))
        else:
            wrong = first_tag & (second_tag | ~found | (self._kinds[at] != STRUCT))
        state = np.where(wrong, _WRONG, np.where(found, _FOUND, _IGNORED))
        state[self._kinds != PTR] = _IGNORED
        owning = seen[_OWNING[0]] | seen[_OWNING[1]]
        # A volatile pointer is one, too.
        volatile = (self._kinds == VOLATILE) & (self._kinds[self._targets] == PTR)
        behind = np.where(volatile, self._targets, np.arange(len(at)))
        return state[behind], at[behind], owning[behind]

    def marked_structs(self) -> list[int]:
        """Structs with a member that is of a special type, or a tagged pointer."""
        marks = [self._find_struct(name) for name, special in _TYPES.items() if special.marks]
        marks += np.flatnonzero(self._pointers[0] == _FOUND).tolist()
        at = np.flatnonzero(np.isin(self._words, [mark for mark in marks if mark]))
        owner = np.searchsorted(self._starts[1:], at, side="right")
        step = at - self._starts[owner] - HEAD_WORDS
        is_type = (self._kinds[owner] == STRUCT) & (step >= 0) & (step % 3 == 1)
        return [int(each) for each in np.unique(owner[is_type])]

    def record(self, struct: int) -> tuple[_Field, ...]:
        """Special fields of a marked struct (``btf_parse_fields``)."""
        fields = self._find(struct, 0).fields
        if not fields:
            raise _BrokenError(rules.FIELD_NONE)
        size, end = self._word[self._start[struct] + 2], 0
        for field in fields:
            if field.offset < end or field.offset + field.size > size:
                raise _BrokenError(rules.FIELD_ORDER)
            end = field.offset + field.size
            if field.name in _NODE_OF:
                self._check_node(field)
        names = {field.name for field in fields}
        locks = len(names & _LOCKS)
        if locks > 1 or (locks == 0 and names & set(_NODE_OF)):
            raise _BrokenError(rules.FIELD_LOCK)
        if b"bpf_refcount" not in names and names >= set(_NODE_OF.values()):
            raise _BrokenError(rules.FIELD_REFCOUNT)
        return fields

    def _members(self, struct: int) -> list[tuple[int, int, int]]:
        """Offset of the name, type and bit offset of each member."""
        at = self._start[struct]
        info = self._word[at + 1]
        first = at + HEAD_WORDS
        row = iter(self._word[first : first + 3 * (info & INFO_VLEN_MASK)])
        mask = 0xFFFFFF if info & INFO_KIND_FLAG else 0xFFFFFFFF
        return [
            (name, target, bits & mask) for name, target, bits in zip(row, row, row, strict=True)
        ]

    def _named_members(self, struct: int) -> dict[bytes, list[tuple[int, int]]]:
        """Type and bit offset of the members of each name; worked out once for each struct."""
        if struct not in self._by_name:
            found = self._by_name[struct] = defaultdict(list)
            for name, target, bits in self._members(struct):
                found[self._text_at(name)].append((target, bits))
        return self._by_name[struct]

    def _find(self, struct: int, level: int) -> _Inside:
        """What is in a struct that lies in ``level`` others (``btf_find_struct_field``)."""
        known = self._inside.get(struct)
        if known is None:
            if level >= _DEEPEST:
                raise _BrokenError(rules.FIELD_DEPTH)
            fields: list[_Field] = []
            once: set[bytes] = set()
            height = 0
            for number, (_, target, bits) in enumerate(self._members(struct)):
                if bits % 8:
                    raise _BrokenError(rules.FIELD_BIT)
                one = self._find_one(struct, number, target, bits // 8, level)
                if once & one.once:
                    raise _BrokenError(rules.FIELD_REPEATED)
                once |= one.once
                height = max(height, one.height)
                fields += one.fields
                if len(fields) > _MOST:
                    raise _BrokenError(rules.FIELD_COUNT)
            known = self._inside[struct] = _Inside(tuple(fields), frozenset(once), height)
        if level + known.height >= _DEEPEST:
            raise _BrokenError(rules.FIELD_DEPTH)
        return known

    def _find_one(self, struct: int, number: int, target: int, at: int, level: int) -> _Inside:
        """What is in member ``number`` of a struct, which begins at byte ``at``
        (``btf_find_field_one``)."""
        count = 1
        for _ in range(_DEEPEST):
            if self._kind[target] != ARRAY:
                break
            element, _, length = self._word[self._start[target] + 3 :][:3]
            target, count = element, count * length & 0xFFFFFFFF
        else:
            raise _BrokenError(rules.FIELD_DEPTH)
        if count == 0:
            return _Inside((), frozenset(), 0)
        is_struct = self._kind[target] == STRUCT
        size = self._word[self._start[target] + 2] if is_struct else _POINTER_BYTES
        name = self._special.get(self._name_at[target], _POINTER)
        if is_struct and name == _POINTER:
            inside = self._find(target, level + 1)
            fields = [field._replace(offset=field.offset + at) for field in inside.fields]
            return inside._replace(fields=_repeated(fields, count, size), height=inside.height + 1)
        special = _TYPES.get(name, _Special(_POINTER_BYTES, 8))
        once = frozenset({name} if special.once else ())
        found: list[_Field] = []
        if at % special.align == 0 and is_struct == (name != _POINTER) and size == special.size:
            found = self._pointer(target, at) if name == _POINTER else [_Field(at, name)]
            if name in _NODE_OF:
                found = [_Field(at, name, *self._contained(struct, number))]
        return _Inside(_repeated(found, count, size), once, 0)

    def _pointer(self, target: int, at: int) -> list[_Field]:
        """A pointer at byte ``at``, if it is tagged (``btf_find_kptr``)."""
        states, behind, owning = self._pointers
        if states[target] == _WRONG:
            raise _BrokenError(rules.FIELD_KPTR)
        if states[target] == _IGNORED:
            return []
        return [_Field(at, _POINTER, int(behind[target]) if owning[target] else 0)]

    def _contained(self, struct: int, number: int) -> tuple[int, bytes]:
        """The struct that a list or tree has, and the member that is its node: told by a tag
        (``btf_find_graph_root``)."""
        values = self._tags.get((struct, number), ())
        found = [value[9:] for value in values if value.startswith(b"contains:")]
        value, _, node = found[0].partition(b":") if len(found) == 1 else (b"", b"", b"")
        owned = self._structs.get(value, 0) if node else 0
        if not owned:
            raise _BrokenError(rules.FIELD_ROOT)
        return owned, node

    def _check_node(self, root: _Field) -> None:
        """Check that the owned struct has the node (``btf_parse_graph_root``)."""
        wanted = _NODE_OF[root.name]
        named = self._named_members(root.owns).get(root.node, ())
        if len(named) != 1:
            raise _BrokenError(rules.FIELD_NODE)
        target, bits = named[0]
        is_node = self._kind[target] == STRUCT and self._name(target) == wanted
        if not is_node or bits % (8 * _TYPES[wanted].align):
            raise _BrokenError(rules.FIELD_NODE)


def _repeated(fields: list[_Field], count: int, size: int) -> tuple[_Field, ...]:
    """The fields of ``count`` elements of ``size`` bytes (``btf_repeat_fields``)."""
    if count == 1 or not fields:
        return tuple(fields)
    once_only = any(field.name not in _REPEATABLE for field in fields)
    if once_only or len(fields) * count > _MOST:
        raise _BrokenError(rules.FIELD_COUNT)
    return tuple(
        field._replace(offset=field.offset + number * size & 0xFFFFFFFF)
        for number in range(count)
        for field in fields
    )
