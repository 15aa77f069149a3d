"""All types that a BTF and its bases hold, as the C dump walks them: by id, whatever the level.

Sizes are BTF's own. Nothing here knows how C lays types out or spells them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import BtfError
from ..format import kinds
from ..types.btf import BTF
from ..types.layout import Resolver
from ..types.typebase import enum_values
from .fields import Names

MAX_GROWTH = 20  # characters of C for each byte of BTF; vmlinux has about one
STEP = 40  # characters that take as long as one type that is looked at
SMALL = 1_000_000  # however small the BTF is

ENUM_SIZES = frozenset({1, 2, 4, 8})  # that C can give an enum


class MemberRecord(NamedTuple):
    """A member of a struct or union; ``bits`` is 0 unless it is a bit-field."""

    name_off: int
    type_id: int
    bit_offset: int
    bits: int


class TypeTable:
    """Random access to the types of all levels. Id 0 is void, of kind ``kinds.VOID``."""

    def __init__(self, btf: BTF) -> None:
        levels = btf.levels
        words = [np.zeros(kinds.HEAD_WORDS, np.uint32), *(level.words for level in levels)]
        starts, at = [np.zeros(1, np.int64)], kinds.HEAD_WORDS
        for level in levels:
            starts.append(level.offsets[:-1].astype(np.int64) + at)
            at += len(level.words)
        all_words, all_starts = np.concatenate(words), np.concatenate(starts)
        info = all_words[all_starts + 1]
        self.words: list[int] = all_words.tolist()
        self.starts: list[int] = all_starts.tolist()
        self.kinds: list[int] = ((info >> kinds.INFO_KIND_SHIFT) & kinds.INFO_KIND_MASK).tolist()
        # Bytes that are no UTF-8 become lone surrogates: one "_" each in identifiers.
        self.names = Names(btf, "", lambda name: name.decode("utf-8", "surrogateescape"))
        self.path = btf.path
        self.big_endian = btf.byteorder == "big"
        self.pointer_size = btf.pointer_size
        self._unaddressable = 1 << (8 * btf.pointer_size - 1)
        self._resolver = Resolver(self)
        self._left = SMALL + MAX_GROWTH * (4 * len(self.words) + len(btf.chain_strings))
        self._members: dict[int, list[MemberRecord]] = {}

    def kind(self, type_id: int) -> int:
        return self.kinds[type_id]

    def vlen(self, type_id: int) -> int:
        return self.words[self.starts[type_id] + 1] & kinds.INFO_VLEN_MASK

    def flag(self, type_id: int) -> bool:
        """Return kind_flag."""
        return self.words[self.starts[type_id] + 1] > 0x7FFFFFFF

    def name(self, type_id: int) -> str:
        """Return the name, empty when anonymous."""
        return self.names[self.words[self.starts[type_id]]]

    def third(self, type_id: int) -> int:
        """Return the word after info: a size, or the id of the type that it refers to."""
        return self.words[self.starts[type_id] + 2]

    def int_encoding(self, type_id: int) -> int:
        """Return the word that follows an INT: encoding, offset and number of bits."""
        return self.words[self.starts[type_id] + 3]

    def array(self, type_id: int) -> tuple[int, int]:
        """Return the type of the elements and how many there are."""
        at = self.starts[type_id]
        return self.words[at + 3], self.words[at + 5]

    def members(self, type_id: int) -> list[MemberRecord]:
        """Return the members of a struct or union.

        Encoders before kind_flag (Linux 5.0) said the width of a bit-field in its INT; such members
        come out as the bit-fields that they are.
        """
        found = self._members.get(type_id)
        if found is None:
            found = self._members[type_id] = self._read_members(type_id)
        return found

    def _read_members(self, type_id: int) -> list[MemberRecord]:
        words, first = self.words, self.starts[type_id] + kinds.HEAD_WORDS
        ats = range(first, first + 3 * self.vlen(type_id), 3)
        if self.flag(type_id):
            return [
                MemberRecord(
                    words[at], words[at + 1], words[at + 2] & 0xFFFFFF, words[at + 2] >> 24
                )
                for at in ats
            ]
        members = []
        for at in ats:
            shift, bits = self._int_bits(words[at + 1])
            members.append(MemberRecord(words[at], words[at + 1], words[at + 2] + shift, bits))
        return members

    def _int_bits(self, type_id: int) -> tuple[int, int]:
        """Offset and number of bits when the type is an INT narrower than its bytes; else 0, 0."""
        target = self.strip(type_id)
        if self.kind(target) == kinds.INT:
            encoding = self.int_encoding(target)
            bits, shift = encoding & 0xFF, encoding >> 16 & 0xFF
            if 0 < bits < 8 * self.third(target):
                return shift, bits
        return 0, 0

    def params(self, type_id: int) -> list[tuple[int, int]]:
        """Return (name_off, type) of each parameter of a FUNC_PROTO."""
        words, first = self.words, self.starts[type_id] + kinds.HEAD_WORDS
        ats = range(first, first + 2 * self.vlen(type_id), 2)
        return [(words[at], words[at + 1]) for at in ats]

    def enumerators(self, type_id: int) -> list[tuple[int, int]]:
        """Return (name_off, value) of each value of an enum, signed where kind_flag says so."""
        first = self.starts[type_id] + kinds.HEAD_WORDS
        kind, vlen = self.kind(type_id), self.vlen(type_id)
        return list(enum_values(self.words, first, kind, vlen, self.flag(type_id)))

    def head(self, type_id: int) -> tuple[int, int]:
        """Return the kind, and the word after info."""
        return self.kinds[type_id], self.words[self.starts[type_id] + 2]

    def strip(self, type_id: int) -> int:
        """The type behind qualifiers, tags and typedefs; void when there is none but themselves."""
        try:
            return self._resolver.follow(type_id)
        except BtfError:
            return kinds.VOID

    def element(self, type_id: int) -> int:
        """As ``strip``, and behind arrays."""
        try:
            return self._resolver.element(type_id)[0]
        except BtfError:
            return kinds.VOID

    def size(self, type_id: int) -> int | None:
        """Bytes, or None for what has no size in C: void, functions, declarations, circles, and
        arrays larger than a pointer can span."""
        try:
            size = self._resolver.size(type_id)
        except BtfError:
            return None
        if size is None or size >= self._unaddressable:
            return None
        return None if self.kinds[self.element(type_id)] == kinds.DATASEC else size

    def defined_size(self, type_id: int) -> int:
        """Return the bytes of a struct, union or scalar that is to be written. Raises BtfError when
        a pointer cannot span them."""
        size = self.size(type_id)
        if size is None:
            message = f"{self.third(type_id)} bytes, more than can be addressed: C has no such type"
            raise self.error(message, type_id)
        return size

    def spend(self, type_id: int, characters: int = 0) -> None:
        """Count a type that was looked at, and the characters that came of it; raises BtfError
        when it becomes far more than the BTF has.

        C repeats what BTF says once: a type without a name wherever it is used, and so all in it.
        """
        self._left -= STEP + characters
        if self._left < 0:
            raise self.error(
                f"types repeat one another so often that the header would have more than "
                f"{MAX_GROWTH} times the bytes of the BTF: no compiler writes that",
                type_id,
            )

    def error(self, message: str, type_id: int) -> BtfError:
        return BtfError(message, self.path, "types", None, type_id)
