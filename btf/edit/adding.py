"""Putting types at the end of a BTF in the making: their strings, and where their references go.

A string is looked for in the base first (the first one that is equal, from the deepest level on),
then among the new strings, and is appended to those when neither has it: as libbpf does when types
are added.
"""

from __future__ import annotations

import numpy as np

from ..deduplication.index import unknown_kind_error
from ..errors import UnsupportedError
from ..jit import kernel
from ..kinds import (
    ELEMENT_NAME,
    ELEMENT_REF,
    ELEMENT_WORDS,
    FIXED_REFS,
    FIXED_WORDS,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
    INFO_VLEN_MASK,
)
from ..strings import add_string, count_strings, find_string, hash_string, index_strings
from ..table import BTF, freeze
from ..view.lookup import power_of_two

_FULL = -1  # status: no room for another string
_NOT_SEEN = 0xFFFFFFFF
_NO_STRINGS = freeze(np.zeros(0, np.uint8))
_NO_SLOTS = freeze(np.zeros(16, np.uint64))


class StringPool:
    """The strings of a BTF in the making, on the strings of its base."""

    def __init__(self, base: BTF | None) -> None:
        self._base = base.chain_table.strings if base is not None else _NO_STRINGS
        self._base_slots = base.chain_table.slots if base is not None else _NO_SLOTS
        self._own = np.zeros(1 << 10, np.uint8)
        self._slots = np.zeros(1 << 8, np.uint64)
        self.start = len(self._base)  # offset of the first own string
        self.length = 0 if base is not None else 1  # without a base: the empty string
        self._entries = 0

    @property
    def end(self) -> int:
        """One more than the last string offset."""
        return self.start + self.length

    def find(self, text: bytes) -> int:
        """Global offset of a string; -1 when neither the base nor the pool has it."""
        if not text:
            return 0
        buffer = np.frombuffer(text + b"\0", np.uint8)
        return int(_find(buffer, self._base, self._base_slots, self._own, self._slots))

    def add(self, text: bytes) -> int:
        """Global offset of a string, which is appended if need be. It holds no NUL."""
        if not text:
            return 0
        self._reserve(len(text) + 1, 1)
        buffer = np.frombuffer(text + b"\0", np.uint8)
        offset = int(
            _add(buffer, self._base, self._base_slots, self._own, self.length, self._slots)
        )
        if offset == self.end:
            self.length += len(text) + 1
            self._entries += 1
        return offset

    def add_types(self, source: BTF, first_id: int) -> np.ndarray:
        """The source's own type records as they read here, the first one getting ``first_id``.

        Names of own strings are mapped, references to own types moved; what refers to the source's
        base stays. Raises UnsupportedError for kinds that are not known.
        """
        if source.has_unknown_kinds:
            error = unknown_kind_error(source)
            raise UnsupportedError(
                error.message.replace("deduplicated", "added to another"), *error.args[1:]
            )
        target = np.empty(len(source.words), np.uint32)
        room, entries = len(source.strings), int(count_strings(source.strings))
        while True:
            self._reserve(room, entries)
            seen = np.full(len(source.strings), _NOT_SEEN, np.uint32)
            length, added = _add_types(
                source.words, source.offsets, source.strings, source.start_str_off,
                source.start_id, first_id - source.start_id, self._base, self._base_slots,
                self._own, self.length, self._slots, self._entries, seen, target,
            )  # fmt: skip
            if length != _FULL:
                self.length = int(length)
                self._entries += int(added)
                return target
            # Names that begin inside of others need more room than the source had.
            room, entries = 2 * room + 64, 2 * entries + 64
            self._index(len(self._slots))

    def section(self) -> bytes:
        """The own strings so far."""
        return self._own[: self.length].tobytes()

    def _reserve(self, room: int, entries: int) -> None:
        if self.length + room > len(self._own):
            grown = np.zeros(2 * (self.length + room), np.uint8)
            grown[: self.length] = self._own[: self.length]
            self._own = grown
        if 2 * (self._entries + entries) > len(self._slots):
            self._index(power_of_two(4 * (self._entries + entries)))

    def _index(self, slots: int) -> None:
        self._slots = np.zeros(slots, np.uint64)
        index_strings(freeze(self._own[: self.length]), self._slots)


def same_chain(a: BTF, b: BTF | None) -> bool:
    """Whether two bases are the same in content, in however many levels."""
    if a is b:
        return True
    if b is None or (a.type_end, a.str_end) != (b.type_end, b.str_end):
        return False
    if not np.array_equal(a.chain_strings, b.chain_strings):
        return False
    words_a, words_b = (np.concatenate([lv.words for lv in btf.levels]) for btf in (a, b))
    return np.array_equal(words_a, words_b)


@kernel
def _find(text, base, base_slots, own, own_slots):  # type: ignore[no-untyped-def]
    h, _ = hash_string(text, 0)
    found = find_string(base, base_slots, text, 0, h)
    if found < 0:
        found = find_string(own, own_slots, text, 0, h)
        if found >= 0:
            found += len(base)
    return found


@kernel
def _add(text, base, base_slots, own, own_length, own_slots):  # type: ignore[no-untyped-def]
    h, end = hash_string(text, 0)
    found = find_string(base, base_slots, text, 0, h)
    if found >= 0:
        return found
    found = find_string(own, own_slots, text, 0, h)
    if found < 0:
        found = np.int64(own_length)
        for i in range(end + 1):
            own[found + i] = text[i]
        add_string(own_slots, h, found)
    return len(base) + found


@kernel
def _add_types(  # type: ignore[no-untyped-def]
    words, offsets, source, source_start, first_source, shift, base, base_slots,
    own, own_length, own_slots, own_entries, seen, target,
):  # fmt: skip
    """Copy type records to ``target``, names mapped and references of own types moved.

    words, offsets         the source's own records (uint32)
    source, source_start   its own strings (uint8) and the offset of the first one
    first_source, shift    id of its first type, and by how much ids from there on move
    own, own_length        uint8 buffer for new strings and how much of it is in use
    own_slots, own_entries the table (uint64) of the strings in ``own``, and how many there are
    seen                   uint32, shape (len(source),), all ones: scratch

    Names are visited in the order of types, within a type its own name first. Returns (bytes in
    use of ``own``, strings added), or (_FULL, 0) when there was no room for another string.
    """
    added = 0
    room = 3 * (len(own_slots) // 4) - own_entries
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        end = np.int64(offsets[index + 1])
        info = words[at + 1]
        kind = np.int64((info >> INFO_KIND_SHIFT) & INFO_KIND_MASK)
        for word in range(at, end):
            target[word] = words[word]

        body = at + HEAD_WORDS
        if HEAD_IS_REF[kind] and words[at + 2] >= first_source:
            target[at + 2] = words[at + 2] + shift
        for word in range(body, body + FIXED_REFS[kind]):
            if words[word] >= first_source:
                target[word] = words[word] + shift
        body += FIXED_WORDS[kind]
        stride = np.int64(ELEMENT_WORDS[kind])
        ref_at = np.int64(ELEMENT_REF[kind])
        if stride > 0 and ref_at >= 0:
            for word in range(body + ref_at, end, stride):
                if words[word] >= first_source:
                    target[word] = words[word] + shift

        names = 1
        if stride > 0 and ELEMENT_NAME[kind] == 0:
            names += np.int64(info & INFO_VLEN_MASK)
        for name in range(names):
            word = at if name == 0 else body + (name - 1) * stride
            offset = np.int64(words[word])
            if offset == 0 or offset < source_start:
                continue
            start = offset - source_start
            if seen[start] != _NOT_SEEN:
                target[word] = seen[start]
                continue
            found = np.int64(0)
            if source[start] != 0:
                h, stop = hash_string(source, start)
                found = find_string(base, base_slots, source, start, h)
                if found < 0:
                    found = find_string(own, own_slots, source, start, h)
                    if found < 0:
                        length = stop - start + 1
                        if own_length + length > len(own) or added >= room:
                            return np.int64(_FULL), np.int64(0)
                        found = np.int64(own_length)
                        for i in range(length):
                            own[found + i] = source[start + i]
                        own_length += length
                        add_string(own_slots, h, found)
                        added += 1
                    found += len(base)
            seen[start] = found
            target[word] = found
    return np.int64(own_length), np.int64(added)
