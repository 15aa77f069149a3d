"""Names that C accepts: of scalars that compilers spell their own way, and of everything else.

C has one name space for tags (struct, union, enum) and one for typedefs and enumerators. BTF has
several types of one name (of modules, of files of one module), names that are no identifiers
(other languages), and types without a name where C wants one. The first of a name keeps it, the
next is ``name___2``, as in libbpf's dump.
"""

from __future__ import annotations

import re

from ..format import kinds
from .c_types import TypeTable

_KEYWORDS = """
    alignas alignof asm auto bool break case char const constexpr continue default do double else
    enum extern false float for goto if inline int long nullptr register restrict return short
    signed sizeof static static_assert struct switch thread_local true typedef typeof typeof_unqual
    union unsigned void volatile while _Alignas _Alignof _Atomic _BitInt _Bool _Complex _Generic
    _Imaginary _Noreturn _Static_assert _Thread_local _Decimal32 _Decimal64 _Decimal128 _Float16
    _Float32 _Float32x _Float64 _Float64x _Float128 _Float128x __alignof __asm __attribute
    __auto_type __bf16 __complex __const __extension __float80 __float128 __fp16 __ibm128 __imag
    __inline __int128 __int128_t __null __real __restrict __seg_fs __seg_gs __signed __thread
    __typeof __typeof_unqual __uint128_t __volatile
"""
KEYWORDS = frozenset(_KEYWORDS.split())
"""Reserved in C11, C23 or GNU C."""

BOOLEANS = frozenset({"bool", "true", "false"})
"""Those of KEYWORDS that are reserved since C23 and that kernels use."""

# What else compilers define, and the header itself: "__LINE__", "__builtin_offsetof", macros.
_PREDEFINED = re.compile(
    r"__\w*__|__builtin_\w+|__btf_\w+_tag|__btf_attribute|_I?LP(64|32)|__GXX_ABI_VERSION"
    r"|__(amd64|arm|corei7|i386|k8|linux|mips|mips64|riscv|sparc|sparcv9|unix|x86_64|SEG_FS|SEG_GS)"
    r"|__(ARM|ATOMIC|CLANG|FPCLASS|FP_FAST|GCC|MEMORY_SCOPE)_\w+|__U?INT(8|16|32|64|MAX)_C"
)

MACROS = ("linux", "unix", "i386", "mips", "sparc")
"""Names that GNU C predefines although they are not reserved."""


class Scope:
    """One name space: hands out identifiers, each once."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._next: dict[str, int] = {}

    def take(self, name: str, reserved: bool = False) -> str:
        """Hand out ``name`` as a C identifier, with ``___2`` and so on when it is taken.

        reserved  as it is, although C23 reserves it
        """
        wanted = name if reserved else identifier(name)
        unique, number = wanted, self._next.get(wanted, 2)
        while unique in self._used:
            unique, number = f"{wanted}___{number}", number + 1
        self._next[wanted] = number
        self._used.add(unique)
        return unique

    def __contains__(self, name: str) -> bool:
        return name in self._used


def identifier(name: str) -> str:
    """Return the identifier nearest to ``name``."""
    if not (name.isascii() and name.isidentifier()):
        name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
        if not name or name[0].isdigit():
            name = f"_{name}"
    return f"{name}_" if name in KEYWORDS or _PREDEFINED.fullmatch(name) else name


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


def spelling(types: TypeTable, type_id: int) -> str:
    """Return an INT or FLOAT in keywords, or "" when C has none of that name and size."""
    name, size = types.name(type_id), types.third(type_id)
    if types.kind(type_id) == kinds.FLOAT:
        if name == "long double":
            return name if stand_in(types, type_id) == name else ""
        return name if _FLOATS.get(name) == size else ""
    if not name:
        return stand_in(types, type_id)
    words = name.split()
    known = _INTS.get(" ".join(sorted(words)), _FLOATS.get(name))
    if known == 0:
        known = types.pointer_size
    if known != size or (size == 16 and types.pointer_size == 4):
        return ""
    return " ".join(words)


def is_integer(words: str) -> bool:
    """Whether what ``spelling`` or ``stand_in`` gives is an integer in C."""
    return words != "" and words not in _FLOATS


def stand_in(types: TypeTable, type_id: int) -> str:
    """Return what C has of the size and signedness of an INT or FLOAT, "" when nothing."""
    size = types.third(type_id)
    if types.kind(type_id) == kinds.FLOAT:
        if size in (12, 16) and size != (16 if types.pointer_size == 8 else 12):
            return ""
        return _FLOAT_OF_SIZE.get(size, "")
    encoding = types.int_encoding(type_id) >> 24 & 0xF
    base = _INT_OF_SIZE.get(size, "")
    if not base or (size == 16 and types.pointer_size == 4):
        return ""
    if size == 1 and encoding & _BOOL:
        return "_Bool"
    if encoding & (_SIGNED | _CHAR):
        return "signed char" if size == 1 else base
    return f"unsigned {base}"


def scalar_align(types: TypeTable, type_id: int) -> int:
    """Return the largest alignment in bytes that a compiler gives an INT, FLOAT or enum, which is
    that of bytes if C has no such.

    Scalars of 16 bytes are aligned to 16 on x86-64, arm64, riscv64 and BPF, to 8 on s390x; of 8
    bytes to 8 on 32-bit machines but i386, which aligns them to 4.
    """
    size = types.third(type_id)
    if types.kind(type_id) in kinds.SCALARS and not stand_in(types, type_id):
        return size if spelling(types, type_id) else 1
    return size & -size or 1  # a long double of 12 bytes is aligned to 4
