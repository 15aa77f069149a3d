"""BTF as a C header that compiles: every type after what it needs, laid out as it was.

``dump_c`` makes arrays of all types for the compiled functions that do the work: names in
``c_names``, the order in ``c_order``, padding and attributes in ``c_layout``, text in ``c_write``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np

from ..arguments import takes
from ..compiled.huge_pages import alloc_zeros, power_of_two
from ..compiled.jit import is_stored
from ..errors import BtfError, UnsupportedError
from ..format import kinds
from ..format.strings import new_slots
from ..types.btf import BTF
from ..types.columns import check_name_bytes
from . import c_tables as t
from .c_declare import MAX_DECLARATOR, MAX_DEPTH, MAX_PARTS, MAX_TASKS, TASK
from .c_names import (
    FIRST_SCOPE,
    KEYWORDS,
    MACROS,
    TEXTS,
    UNDERSCORE,
    collect_names,
    enter_texts,
    identifier,
)
from .c_scalars import Scalar
from .c_tables import Tables
from .c_tags import comment_safe, macro, why_no_tag
from .c_text import WHOLE
from .c_write import write_types
from .fields import valid_roots

MOST = (1 << 31) - 1
"""Words of types, and bytes of strings and of names that are made, that can be counted here."""
KFUNC = "bpf_kfunc"
"""The tag that pahole puts on kfuncs."""
FAST_CALL = "bpf_fastcall"
"""Its tag of those that leave registers alone."""


@takes(btf=BTF)
def dump_c(
    btf: BTF,
    *,
    asserts: bool = False,
    roots: Sequence[int] | None = None,
    announce: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Write a C header with the own types, in pieces that end with a line.

    Of split BTF: the own types, preceded by what they need of the base, so that the header compiles
    alone. kfuncs (functions tagged ``bpf_kfunc``, by pahole since 1.26) get their prototypes, in
    the order of their names.

    asserts   static assertions of the size of every struct, union and enum, and of the offset of
              every member that is no bit-field
    roots     ids of types of any level: only these, and what they need; no kfuncs but those among
              them
    announce  called with a sentence for the user before something is compiled

    Raises BtfError for types that C cannot express at all, such as a typedef of itself.
    """
    for level in btf.levels:
        check_name_bytes(level)
    chosen = valid_roots(btf, roots)
    if announce is not None and not is_stored(write_types):
        announce("compiling what writes C, once, about 10 s")
    room = 1
    while not (header := _Header(btf, chosen, asserts, room)).is_written:
        room *= 4
    yield _prologue(btf.chain_strings)
    types, kfuncs = header.text
    yield types.decode()
    if kfuncs:
        yield _KFUNCS.replace("@", kfuncs.decode())
    yield _EPILOGUE


def _prologue(strings: np.ndarray) -> str:
    ends = np.flatnonzero(strings == 0)
    lengths = np.diff(ends) - 1
    undefined = []
    for name in MACROS:
        as_long = strings[ends[1:][lengths == len(name), None] + np.arange(-len(name), 0)]
        if (as_long == np.frombuffer(name.encode(), np.uint8)).all(axis=1).any():
            undefined.append(f"#undef {name}\n")
    return _HEAD.replace("@", "".join((*undefined, "\n")) if undefined else "")


class _Header:
    """One attempt to write the header.

    room        how often as much memory there is as real kernels need
    is_written  whether there was enough
    text        the types and the prototypes of kfuncs
    """

    def __init__(self, btf: BTF, chosen: list[int] | None, asserts: bool, room: int) -> None:
        self._btf = btf
        self._strings = btf.chain_strings.tobytes()
        self._tables = self._make_tables(room)
        self._tables.state[t.ASSERTS] = bool(asserts)
        self._fill_scalars()
        tags = self._fill_tags()
        wanted = np.arange(btf.start_id, btf.type_end) if chosen is None else chosen
        kfuncs = np.array(self._kfuncs(tags, chosen), np.int64)
        self._fill_names(kfuncs)
        d = self._tables
        write_types(d, np.array(wanted, np.int64), chosen is None, kfuncs)
        if d.state[t.FAULT] not in (0, t.FULL):
            raise self._error()
        self.is_written = d.state[t.FAULT] == 0
        end, middle = int(d.state[t.END]), int(d.state[t.KFUNCS])
        self.text = d.out[:middle].tobytes(), d.out[middle:end].tobytes()

    def _make_tables(self, room: int) -> Tables:
        btf = self._btf
        words = [np.zeros(kinds.HEAD_WORDS, np.uint32), *(level.words for level in btf.levels)]
        starts, at = [np.zeros(1, np.int64)], kinds.HEAD_WORDS
        for level in btf.levels:
            starts.append(level.offsets[:-1].astype(np.int64) + at)
            at += len(level.words)
        strings = btf.chain_strings
        types, budget = sum(map(len, starts)), 4 * at + len(strings)
        names = room * (4096 + int(np.count_nonzero(strings == 0)))
        made = room * (1 << 18)
        local = power_of_two(room << 12)
        if max(at, len(strings) + made) > MOST:
            raise UnsupportedError(f"C can be written of {MOST} words and bytes", btf.path)
        arrays = alloc_zeros(
            {
                "words": (at, np.uint32),
                "rows": ((types, t.COLUMNS), np.int32),
                "many": (types, np.int64),
                "text": (len(strings) + made, np.uint8),
                "seen": (len(strings) + made, np.int32),
                "names": ((names, t.NAME_COLUMNS), np.int32),
                "order": (at, np.int32),
                "merged": (at, np.int32),
                "spare": (2 * types + 2, np.int64),
                "stamps": ((types, 4), np.int32),
                "pending": (2 * at + 16, np.int64),
                "needs": ((t.SMALL + t.MAX_GROWTH * budget) // t.STEP + 2 * types + 16, np.int64),
                "open": ((2 * types, 3), np.int64),
                "steps": (3 * types, np.int64),
                "state": (t.STATES, np.int64),
                "locals_keys": (local, np.int64),
                "locals_values": (local, np.int32),
                "locals_used": (local, np.int32),
                "tasks": ((MAX_TASKS, TASK), np.int64),
                "chain": ((MAX_PARTS, 4), np.int64),
                "tags": (MAX_PARTS, np.int64),
                "facts": ((local, 3), np.int64),
                "paths": (64 * local, np.uint8),
                "out": (room * (1 << 16) + room * 2 * budget, np.uint8),
            }
        )
        none = np.empty(0, np.int64)
        d = Tables(slots=new_slots(names), tag_keys=none.view(np.uint64), tag_ids=none, **arrays)
        np.concatenate(words, out=d.words)
        d.text[: len(strings)] = strings
        d.rows[:, t.START] = np.concatenate(starts)
        t.read_rows(d)
        d.state[t.LEFT] = t.SMALL + t.MAX_GROWTH * budget
        d.state[t.POINTER] = btf.pointer_size
        agreed = btf.pointer_size == 8 and btf.byteorder == "little"
        d.state[t.LEAST] = 16 if agreed else btf.pointer_size  # of what may have a larger one
        d.state[t.SCOPES] = FIRST_SCOPE
        d.state[t.FACTOR] = int.from_bytes(os.urandom(4), "little") | 1
        d.state[t.TEXT_END] = len(strings)
        d.state[t.NAMES] = 1
        self._enter(TEXTS, d)
        self._note_forms(self._enter(KEYWORDS, d), KEYWORDS, d)
        d.names[0, t.IDENTIFIER] = UNDERSCORE
        return d

    def _enter(self, texts: Collection[str], d: Tables) -> np.ndarray:
        """Make names of texts: int64."""
        found = np.empty(len(texts), np.int64)
        data = "".join(f"{text}\0" for text in texts).encode()
        first = int(d.state[t.TEXT_END])
        if first + len(data) > len(d.text):
            d.state[t.FAULT] = t.FULL
            return found * 0
        d.text[first : first + len(data)] = np.frombuffer(data, np.uint8)
        d.state[t.TEXT_END] = first + len(data)
        enter_texts(d, first, found)
        return found

    def _string(self, offset: int) -> str:
        """Text of the strings; bytes that are no UTF-8 become lone surrogates."""
        text = self._strings[offset : self._strings.index(0, offset)]
        return text.decode("utf-8", "surrogateescape")

    def _distinct(self, ids: np.ndarray, *words: int) -> tuple[list[list[int]], np.ndarray]:
        """What types say in these ``words`` of their records: each that is different, and for each
        type which it is."""
        d = self._tables
        said = d.words[d.rows[ids, t.START][:, None] + np.array(words)]
        different, which = np.unique(said, axis=0, return_inverse=True)
        return different.tolist(), which.ravel()

    def _fill_scalars(self) -> None:
        d, pointer_size = self._tables, self._btf.pointer_size
        for kind in sorted(kinds.SCALARS):
            last = 2 + int(kinds.FIXED_WORDS[kind])  # the encoding, of kinds that have it
            ids = np.flatnonzero(d.rows[:, t.KIND] == kind)
            different, which = self._distinct(ids, 0, 2, last)
            scalars = [
                Scalar(kind, self._string(name), size, encoding, pointer_size)
                for name, size, encoding in different
            ]
            texts = [text for one in scalars for text in (one.spelling, one.stand_in)]
            numbers = [(one.align, one.width, t.BOOL * one.is_bool) for one in scalars]
            names, facts = self._enter(texts, d), np.array(numbers, np.int32).reshape(-1, 3)
            d.rows[ids, t.SPELLED], d.rows[ids, t.STAND_IN] = names[0::2][which], names[1::2][which]
            d.rows[ids, t.ALIGN], d.rows[ids, t.WIDTH], d.rows[ids, t.FLAGS] = facts[which].T

    def _fill_tags(self) -> np.ndarray:
        """Fill what there is of tags; returns the ids of those named ``KFUNC``, in order."""
        d, all_kinds = self._tables, self._tables.rows[:, t.KIND]
        ids = np.flatnonzero((all_kinds == kinds.TYPE_TAG) | (all_kinds == kinds.DECL_TAG))
        different, which = self._distinct(ids, 0, 1)
        tags = [
            (self._string(name), info >> kinds.INFO_KIND_SHIFT & kinds.INFO_KIND_MASK, info >> 31)
            for name, info in different
        ]
        d.rows[ids, t.MACRO] = self._enter([macro(*tag) for tag in tags], d)[which]
        are_kfuncs = np.array([tag == (KFUNC, kinds.DECL_TAG, 0) for tag in tags], bool)
        kfuncs = ids[are_kfuncs[which]]
        are_fast = np.array([tag == (FAST_CALL, kinds.DECL_TAG, 0) for tag in tags], bool)
        fast = d.rows[ids[are_fast[which]], t.START]
        d.rows[d.words[fast[d.words[fast + 3] == WHOLE] + 2], t.FLAGS] |= t.FAST_CALL
        ids = np.flatnonzero(all_kinds == kinds.DECL_TAG)
        starts = d.rows[ids, t.START]
        targets = d.words[starts + 2]
        d.rows[targets, t.FLAGS] |= t.TAGGED
        keys = targets.astype(np.uint64) << np.uint64(32) | d.words[starts + 3]
        order = np.argsort(keys, kind="stable")
        self._tables = d._replace(tag_keys=keys[order], tag_ids=ids[order].astype(np.int64))
        return kfuncs

    def _kfuncs(self, tags: np.ndarray, chosen: list[int] | None) -> list[int]:
        d = self._tables
        starts = d.rows[tags, t.START]
        targets, whole = d.words[starts + 2], d.words[starts + 3] == WHOLE
        found = [
            target
            for tag, target in zip(tags[whole].tolist(), targets[whole].tolist(), strict=True)
            if d.rows[target, t.KIND] == kinds.FUNC
            and (tag >= self._btf.start_id if chosen is None else target in chosen)
        ]
        return sorted(found, key=lambda func: self._string(d.words[d.rows[func, t.START]]))

    def _fill_names(self, kfuncs: np.ndarray) -> None:
        d = self._tables
        odd = np.empty(len(d.names), np.int64)
        odd = odd[: collect_names(d, kfuncs, odd)]
        if d.state[t.FAULT]:
            return
        places = d.names[odd, t.AT : t.LENGTH + 1].tolist()
        texts = [d.text[at : at + length].tobytes() for at, length in places]
        self._note_forms(odd, [text.decode("utf-8", "surrogateescape") for text in texts], d)

    def _note_forms(self, names: np.ndarray, texts: Iterable[str], d: Tables) -> None:
        """Note what the identifiers of names are, by their texts."""
        forms: dict[int, dict[int, str]] = {t.IDENTIFIER: {}, t.SAFE: {}, t.SECOND: {}}
        for name, text in zip(names.tolist(), texts, strict=True):
            if (made := identifier(text)) != text:
                forms[t.IDENTIFIER][name] = made
                forms[t.SAFE][name] = comment_safe(text)
            if made.startswith("__"):
                forms[t.SECOND][name] = identifier(f"{made}_")
        for column, made_of in forms.items():
            d.names[[*made_of], column] = self._enter([*made_of.values()], d)

    def _error(self) -> BtfError:
        d = self._tables
        code, type_id, other = d.state[[t.FAULT, t.SUBJECT, t.DETAIL]].tolist()
        message = _FAULTS[code]
        if callable(message):
            message = message(self, type_id, other)
        return BtfError(message, self._btf.path, "types", None, type_id)

    def name(self, type_id: int) -> str:
        """Return the name of a type, of any level, empty when anonymous."""
        return self._string(int(self._tables.words[self._tables.rows[type_id, t.START]]))

    def third(self, type_id: int) -> int:
        """Return the word after info."""
        return int(self._tables.words[self._tables.rows[type_id, t.START] + 2])

    def flag(self, type_id: int) -> bool:
        """Return kind_flag."""
        return int(self._tables.words[self._tables.rows[type_id, t.START] + 1]) > 0x7FFFFFFF


# What is said of faults; of some, by the type and another one.
_FAULTS: dict[int, str | Callable[[_Header, int, int], str]] = {
    t.ITSELF: lambda of, type_id, _: (
        f"{of.name(type_id) or 'an anonymous type'} contains itself: C has no such type"
    ),
    t.HUGE: lambda of, type_id, _: (
        f"{of.third(type_id)} bytes, more than can be addressed: C has no such type"
    ),
    t.BEFORE_ITSELF: lambda of, type_id, other: (
        f"{of.name(type_id)} has to be complete before itself, by way of {of.name(other)}: "
        "C has no such types"
    ),
    t.SIZELESS_ARRAY: (
        "an array of what has no size, or of more than can be addressed: C has no such type"
    ),
    t.RETURNS: "a function that returns an array or a function: C has no such type",
    t.LONG: (
        f"more than {MAX_DECLARATOR} pointers, qualifiers, arrays and functions around one name, "
        "perhaps of themselves: C has no such type"
    ),
    t.ARRAY_OF_OPEN: "an array of the typedef it is part of: C has no such type",
    t.VOID_PARAMETER: "a parameter that is void: C has no such type",
    t.DEEP: (
        f"anonymous structs or parameters nested {MAX_DEPTH} deep, perhaps in a cycle: C has no "
        "such type"
    ),
    t.MEMBER_OF_OPEN: (
        "a member of a typedef that needs itself to be declared: C has no such type"
    ),
    t.ENUM_SIZE: lambda of, type_id, _: f"an enum of {of.third(type_id)} bytes: C has no such type",
    t.NO_TAG: lambda of, type_id, _: why_no_tag(of.name(type_id), of.flag(type_id)),
    t.REPEATED: (
        f"types repeat one another so often that the header would have more than {t.MAX_GROWTH} "
        "times the bytes of the BTF: no compiler writes that"
    ),
}


# The guard is the one that BPF headers look for to know that kernel types are there.
_HEAD = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

/* Tags are for compilers that know them (clang); others need not see them. */
#if defined(__clang__)
#define __btf_type_tag(tag) __attribute__((btf_type_tag(tag)))
#define __btf_decl_tag(tag) __attribute__((btf_decl_tag(tag)))
#define __btf_attribute(attribute) __attribute__((attribute))
#else
#define __btf_type_tag(tag)
#define __btf_decl_tag(tag)
#define __btf_attribute(attribute)
#endif

/* For BPF programs: offsets are relocated to those of the running kernel. */
#if defined(__clang__) && defined(__bpf__) && !defined(BPF_NO_PRESERVE_ACCESS_INDEX)
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

@"""

_KFUNCS = """\
/* BPF kfuncs */
#ifndef BPF_NO_KFUNC_PROTOTYPES
#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif
#ifndef __bpf_fastcall
#if __has_attribute(bpf_fastcall)
#define __bpf_fastcall __attribute__((bpf_fastcall))
#else
#define __bpf_fastcall
#endif
#endif

@#endif

"""

_EPILOGUE = """\
#if defined(__clang__) && defined(__bpf__) && !defined(BPF_NO_PRESERVE_ACCESS_INDEX)
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""
