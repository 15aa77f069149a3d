"""How C spells INT and FLOAT, and what it has instead of those that it has no words for."""

from __future__ import annotations

from typing import NamedTuple

from ..format.kinds import FLOAT

# Sizes of what C spells with keywords, by the sorted words; 0 is the size of a pointer.
_INTS = {
    " ".join(sorted(spelling.split())): size
    for size, spellings in {
        1: ("char", "signed char", "unsigned char", "_Bool"),
        2: ("short", "short int", "signed short", "unsigned short", "unsigned short int"),
        4: ("int", "signed", "signed int", "unsigned", "unsigned int"),
        0: ("long", "long int", "signed long", "unsigned long", "unsigned long int"),
        8: ("long long", "long long int", "unsigned long long", "unsigned long long int"),
        16: ("__int128", "signed __int128", "unsigned __int128"),
    }.items()
    for spelling in spellings
}
_FLOATS = {"_Float16": 2, "float": 4, "double": 8, "long double": 16, "_Float128": 16}
_FLOATS["__float128"] = 16
_INT_OF_SIZE = {1: "char", 2: "short int", 4: "int", 8: "long long int", 16: "__int128"}
_FLOAT_OF_SIZE = {2: "_Float16", 4: "float", 8: "double", 12: "long double", 16: "long double"}

_SIGNED, _CHAR, _BOOL = 1, 2, 4


class Scalar(NamedTuple):
    """An INT or FLOAT; ``encoding`` is the word of an INT that has it."""

    kind: int
    name: str
    size: int
    encoding: int
    pointer_size: int

    @property
    def spelling(self) -> str:
        """It in keywords, or "" when C has none of that name and size."""
        if self.kind == FLOAT:
            if self.name == "long double":
                return self.name if self.stand_in == self.name else ""
            return self.name if _FLOATS.get(self.name) == self.size else ""
        if not self.name:
            return self.stand_in
        words = self.name.split()
        known = _INTS.get(" ".join(sorted(words)), _FLOATS.get(self.name))
        if known == 0:
            known = self.pointer_size
        if known != self.size or (self.size == 16 and self.pointer_size == 4):
            return ""
        return " ".join(words)

    @property
    def stand_in(self) -> str:
        """What C has of its size and signedness, "" when nothing."""
        if self.kind == FLOAT:
            if self.size in (12, 16) and self.size != (16 if self.pointer_size == 8 else 12):
                return ""
            return _FLOAT_OF_SIZE.get(self.size, "")
        encoding = self.encoding >> 24 & 0xF
        base = _INT_OF_SIZE.get(self.size, "")
        if not base or (self.size == 16 and self.pointer_size == 4):
            return ""
        if self.size == 1 and encoding & _BOOL:
            return "_Bool"
        if encoding & (_SIGNED | _CHAR):
            return "signed char" if self.size == 1 else base
        return f"unsigned {base}"

    @property
    def align(self) -> int:
        """The largest alignment in bytes that a compiler gives it, which is that of bytes if C has
        no such.

        Scalars of 16 bytes are aligned to 16 on x86-64, arm64, riscv64 and BPF, to 8 on s390x; of
        8 bytes to 8 on 32-bit machines but i386, which aligns them to 4.
        """
        if not self.stand_in:
            return self.size if self.spelling else 1
        return self.size & -self.size or 1  # a long double of 12 bytes is aligned to 4

    @property
    def is_bool(self) -> bool:
        """Whether it is C's _Bool, whatever its name."""
        return self.kind != FLOAT and (self.spelling or self.stand_in) == "_Bool"

    @property
    def width(self) -> int:
        """The most bits of a bit-field of it; 0 if there can be none."""
        words = self.spelling or self.stand_in
        if self.kind == FLOAT or not words or words in _FLOATS:
            return 0
        return 1 if self.is_bool else 8 * self.size
