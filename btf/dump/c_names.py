"""Names that C accepts: of scalars that compilers spell their own way, and of everything else.

C has one name space for tags (struct, union, enum) and one for typedefs and enumerators. BTF has
several types of one name (of modules, of files of one module), names that are no identifiers
(other languages), and types without a name where C wants one. The first of a name keeps it, the
next is ``name___2``, as in libbpf's dump.

A name is a row of ``Tables.names``, the same one wherever the same text stands in the strings.

Parameters of compiled functions:

d, type_id, name   ``Tables``, ids of a type of any level and of a name: see ``c_tables``
start     where in ``Tables.text`` a text begins
value     int64, not negative
scope     TAG, PLAIN, or the number of a struct's own, which is above
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled, inlined, noinline
from ..format import kinds
from ..format.strings import add_string, copy_string, find_string, hash_string, seed_of
from . import c_tables as t
from .c_tables import fault, is_composite, keyword_of, vlen_of

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

# What else compilers define, and the header itself: "__LINE__", "__builtin_offsetof", macros, the
# struct that stands for what C cannot express.
_PREDEFINED = """
    __not_expressible
    _LP32 _LP64 _ILP32 _ILP64 __btf_attribute __GXX_ABI_VERSION __amd64 __arm __corei7 __i386 __k8
    __linux __mips __mips64 __riscv __sparc __sparcv9 __unix __x86_64 __SEG_FS __SEG_GS __INT8_C
    __INT16_C __INT32_C __INT64_C __INTMAX_C __UINT8_C __UINT16_C __UINT32_C __UINT64_C __UINTMAX_C
"""
_PREFIXES = """
    __builtin_ __ARM_ __ATOMIC_ __CLANG_ __FPCLASS_ __FP_FAST_ __GCC_ __MEMORY_SCOPE_
"""
_TAKEN, _PREFIXES_TAKEN = KEYWORDS | frozenset(_PREDEFINED.split()), tuple(_PREFIXES.split())

MACROS = ("linux", "unix", "i386", "mips", "sparc")
"""Names that GNU C predefines although they are not reserved."""


def identifier(name: str) -> str:
    """Return the identifier nearest to ``name``."""
    if not (name.isascii() and name.isidentifier()):
        name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
        if not name or name[0].isdigit():
            name = f"_{name}"
    return f"{name}_" if name in _TAKEN or _is_predefined(name) else name


def _is_predefined(name: str) -> bool:
    if name.startswith(_PREFIXES_TAKEN):
        return name not in _PREFIXES_TAKEN
    if name.startswith("__btf_") and name.endswith("_tag"):
        return len(name) > len("__btf__tag")
    return name.startswith("__") and name.endswith("__") and len(name) >= 4


# ------------------------------------------------------------------ texts that are always there

TEXTS: list[str] = []
"""The first names of all: the number of each is its place here, from 1. "" is 0."""


def _texts(*texts: str) -> range:
    """Add texts; returns their numbers."""
    TEXTS.extend(texts)
    return range(len(TEXTS) - len(texts) + 1, len(TEXTS) + 1)


STRUCT_WORD, UNION_WORD, ENUM_WORD = _texts("struct ", "union ", "enum ")
BOOL_NAME, TRUE_NAME, FALSE_NAME = _texts("bool", "true", "false")
BUILT_IN, OLD_LIST = _texts("__builtin_va_list", "__gnuc_va_list")
ANONYMOUS, OPAQUE_NAME, NO_VALUE_NAME = _texts("__anon", "__opaque", "__no_values")
ANONYMOUS_NUMBER, PAD_NUMBER, NEXT_NUMBER, UNDERSCORE = _texts("__anon_", "__pad_", "___", "_")
CONST_WORD, VOLATILE_WORD, RESTRICT_WORD = _texts("const", "volatile", "restrict")
VOID_WORD, ELLIPSIS, TYPEDEF_WORD, EXTERN, BYTES = _texts(
    "void", "...", "typedef ", "extern ", "unsigned char "
)
UNIT_8, UNIT_16, UNIT_32, UNIT_64 = _texts("char", "short", "int", "long")
COMMA, BEGIN, NEWLINE, TAB, CLOSE_BRACE, SEMICOLON, EMPTY_LINE = _texts(
    ", ", "{", "\n", "\t", "}", ";", "\n\n"
)
COLON, EQUALS, END_VALUE, OPEN_ROUND, CLOSE_ROUND, OPEN_SQUARE, CLOSE_SQUARE = _texts(
    ": ", " = ", ",", "(", ")", "[", "]"
)
STAR, SPACE, MINUS, LONG_LONG, UNSIGNED_LONG_LONG, DOT, FIRST_ELEMENT = _texts(
    "*", " ", "-", "LL", "ULL", ".", "[0]"
)
LOWEST, PACKED_TEXT = _texts("(-9223372036854775807LL - 1)", " __attribute__((packed))")
MODE, END_MODE, MODE_1, MODE_2, MODE_8 = _texts(" __attribute__((mode(", ")))", "byte", "HI", "DI")
BEFORE_C23, END_IF, FAST, WEAK = _texts(
    "#if __STDC_VERSION__ < 202311L\n", "\n#endif", "__bpf_fastcall ", " __weak __ksym;\n"
)
STRUCT_OF_BYTES, END_STRUCT_OF_BYTES = _texts("struct { unsigned char bytes[", "]; }")
ASSERT, SIZEOF, OFFSETOF = _texts("_Static_assert(", "sizeof(", "__builtin_offsetof(")
IS, SAYING, END_ASSERT = _texts(" == ", ', "', '");\n')
BEGIN_COMMENT, END_COMMENT, END_COMMENT_LINE = _texts("/* ", " */", " */\n")
NOT_EXPRESSIBLE, NO_FUNCTION = _texts(
    "/* not expressible in C: ", "/* not expressible in C: a function "
)
LOST_STRUCT, LOST_NAME = _texts("struct __not_expressible", "__not_expressible")
(NEEDS_ITSELF,) = _texts(" needs itself to be declared: not expressible in C */\n")
TOO_LARGE, ENUM_OF, BYTES_WORD = _texts(" is too large */", "an enum of ", " bytes")
A_MEMBER, SIZELESS, IS_ENUM_OF = _texts(
    "a member", " is of a type without a size", " is an enum of "
)
NO_INTEGER, HAS, TOO_MANY_BITS = _texts(
    " is a bit-field, but no integer", " has ", " bits, more than its type"
)
(INSIDE,) = _texts(" is no bit-field, but begins inside a byte")
(CROSSES,) = _texts("a bit-field crosses a boundary of its type")
NOT_ALIGNED, OVERLAP = _texts("a member is not aligned", "members overlap")
(UNION_OFFSET,) = _texts("a member of the union does not begin where the union does")
(ODD_SIZE,) = _texts("the size is no multiple of the alignment")
(TOO_LONG,) = _texts("the members need more than the size of the whole")
BUILT_IN_LIST = TEXTS[BUILT_IN - 1]
"""A typedef in BTF, but the compiler has it already."""

_LETTERS = np.array(
    [chr(byte) == "_" or chr(byte).isalnum() for byte in range(128)] + 128 * [0], np.uint8
)
_LETTERS.setflags(write=False)
# By a number made of two characters: whether they may stand behind "__" in what is predefined.
_RESERVED = np.zeros(1024, np.uint8)
for _word in (*_PREDEFINED.split(), *_PREFIXES_TAKEN):
    _RESERVED[(ord(_word[2]) * 5 + ord(_word[3]) * 11) & 1023] = 1
_RESERVED.setflags(write=False)

FIRST_SCOPE = 16  # of those of structs
MARGIN = 64  # bytes behind a text, and what its digits need
_0, _10, _32 = np.uint64(0), np.uint64(10), np.int64(32)


@compiled
def _is_odd(d, start, end):  # type: ignore[no-untyped-def]
    """Whether the text that ends at ``end``, or it and ``_``, may be something else for
    ``identifier``: it is no identifier, or may be predefined. Keywords are known from the first."""
    for i in range(start, end):
        if _LETTERS[d.text[i]] == 0:
            return True
    if 48 <= d.text[start] <= 57:
        return True
    if d.text[start] != 95 or end - start < 2:
        return False
    if d.text[start + 1] != 95:
        return d.text[start + 1] == 73 or d.text[start + 1] == 76  # _ILP32, _LP64
    if d.text[end - 1] == 95 or end - start < 4:
        return True
    third, fourth = np.int64(d.text[start + 2]), np.int64(d.text[start + 3])
    return _RESERVED[(third * 5 + fourth * 11) & 1023] != 0


@noinline
def name_at(d, start):  # type: ignore[no-untyped-def]
    """Return the name of the text at ``start``, a new one if it was never met: its identifier is
    itself until another one is known. The empty text is 0."""
    if d.text[start] == 0:
        return np.int64(0)
    known = np.int64(d.seen[start])
    if known > 0:
        return known
    h, end = hash_string(d.text, start, seed_of(d.slots))
    found = find_string(d.text, d.slots, d.text, start, h)
    if found >= 0:
        known = np.int64(d.seen[found])
    else:
        known = d.state[t.NAMES]
        if known >= len(d.names):
            fault(d, t.FULL, 0, 0)
            return np.int64(0)
        d.state[t.NAMES] += 1
        add_string(d.slots, h, start)
        for column in range(t.NAME_COLUMNS):
            d.names[known, column] = 0
        d.names[known, t.AT], d.names[known, t.LENGTH] = start, end - start
        d.names[known, t.IDENTIFIER] = d.names[known, t.SAFE] = known
    d.seen[start] = known
    return known


@compiled
def collect_names(d, funcs, odd):  # type: ignore[no-untyped-def]
    """Fill NAME of all types whose names C has and of ``funcs`` (int64, ids), and meet the names of
    all elements. ``odd`` (int64, an entry for each name) gets those of which ``identifier`` may be
    something else; returns how many."""
    for type_id in range(len(d.rows)):
        kind = np.int64(d.rows[type_id, t.KIND])
        start = np.int64(d.rows[type_id, t.START])
        if (
            is_composite(kind)
            or kinds.is_enum(kind)
            or kinds.is_scalar(kind)
            or kind == kinds.FWD
            or kind == kinds.TYPEDEF
        ):
            d.rows[type_id, t.NAME] = name_at(d, np.int64(d.words[start]))
        if kinds.ELEMENT_NAME[kind] == 0 and kinds.ELEMENT_WORDS[kind] > 0:
            stride = np.int64(kinds.ELEMENT_WORDS[kind])
            for number in range(vlen_of(d, type_id)):
                name_at(d, np.int64(d.words[start + kinds.HEAD_WORDS + stride * number]))
    for i in range(len(funcs)):
        start = np.int64(d.rows[funcs[i], t.START])
        d.rows[funcs[i], t.NAME] = name_at(d, np.int64(d.words[start]))
    count = 0
    for name in range(1, d.state[t.NAMES]):
        first = np.int64(d.names[name, t.AT])
        if _is_odd(d, first, first + d.names[name, t.LENGTH]):
            odd[count] = name
            count += 1
    return count


@compiled
def enter_texts(d, first, found):  # type: ignore[no-untyped-def]
    """Make names of the texts from ``first`` to the end of those made here: ``found`` (int64)."""
    start = first
    for i in range(len(found)):
        found[i] = name_at(d, start)
        while d.text[start] != 0:
            start += 1
        start += 1


@inlined
def _append(d, at, name):  # type: ignore[no-untyped-def]
    """Write a name at ``at`` of ``text``; returns where it ends."""
    length = np.int64(d.names[name, t.LENGTH])
    copy_string(d.text, np.int64(d.names[name, t.AT]), d.text, at, length)
    return at + length


@noinline
def make_name(d, first, second, value):  # type: ignore[no-untyped-def]
    """Return the name made of ``first``, ``second`` and, unless it is negative, ``value``."""
    start = d.state[t.TEXT_END]
    if start + d.names[first, t.LENGTH] + d.names[second, t.LENGTH] + MARGIN > len(d.text):
        fault(d, t.FULL, 0, 0)
        return first
    end = _append(d, _append(d, start, first), second)
    if value >= 0:
        end = put_digits(d.text, end, np.uint64(value))
    d.text[end] = 0
    name = name_at(d, start)
    if d.names[name, t.AT] == start:
        d.state[t.TEXT_END] = end + 1
    else:
        d.seen[start] = 0
    return name


@compiled
def put_digits(data, at, value):  # type: ignore[no-untyped-def]
    """Write ``value`` (uint64) at ``at`` of ``data`` in decimal digits, 20 at most; returns where
    they end."""
    end, rest = at + 1, value // _10
    while rest != _0:
        end, rest = end + 1, rest // _10
    for place in range(end - at):
        data[end - 1 - place] = np.uint8(48) + np.uint8(value % _10)
        value //= _10
    return end


# ------------------------------------------------------------------ name spaces


@inlined
def _local(d, scope, name):  # type: ignore[no-untyped-def]
    """Where the table of local names has a name of a ``scope``, or has room for it."""
    mask = len(d.locals_keys) - 1
    key = scope << _32 | name
    # Nobody who writes an input knows the factor, nor which names would come to lie in one place.
    at = (key * np.int64(d.state[t.FACTOR]) >> _32) & mask
    while d.locals_keys[at] != 0 and d.locals_keys[at] != key:
        at = (at + 1) & mask
    return at


@noinline
def is_taken(d, scope, name):  # type: ignore[no-untyped-def]
    """0 while a name is free in a scope, else the number after ``___`` that the next one gets."""
    if scope <= t.PLAIN:
        return np.int64(d.names[name, scope])
    at = _local(d, scope, name)
    return np.int64(d.locals_values[at]) if d.locals_keys[at] != 0 else np.int64(0)


@noinline
def note_taken(d, scope, name, number):  # type: ignore[no-untyped-def]
    """Note ``number``, what ``is_taken`` is to say of a name."""
    if scope <= t.PLAIN:
        d.names[name, scope] = number
        return
    at = _local(d, scope, name)
    if d.locals_keys[at] == 0:
        count = d.state[t.LOCALS]
        if 2 * count >= len(d.locals_keys):
            fault(d, t.FULL, 0, 0)
            return
        d.locals_used[count] = at
        d.state[t.LOCALS] = count + 1
        d.locals_keys[at] = scope << _32 | name
    d.locals_values[at] = number


@noinline
def take(d, scope, name):  # type: ignore[no-untyped-def]
    """Hand out an identifier: ``name``, or with ``___2`` and so on when it is taken."""
    number = is_taken(d, scope, name)
    if number == 0:
        note_taken(d, scope, name, np.int64(2))
        return name
    unique = np.int64(name)
    while is_taken(d, scope, unique) > 0 and d.state[t.FAULT] == 0:
        unique = make_name(d, name, np.int64(NEXT_NUMBER), number)
        number += 1
    note_taken(d, scope, name, number)
    note_taken(d, scope, unique, np.int64(2))
    return unique


@inlined
def new_scope(d):  # type: ignore[no-untyped-def]
    """Return the number of a new scope, of a struct or of parameters."""
    d.state[t.SCOPES] += 1
    return d.state[t.SCOPES]


@compiled
def leave_scopes(d):  # type: ignore[no-untyped-def]
    """Forget what was taken in all scopes but TAG and PLAIN."""
    for i in range(d.state[t.LOCALS]):
        d.locals_keys[d.locals_used[i]] = 0
    d.state[t.LOCALS] = 0


@compiled
def name_types(d):  # type: ignore[no-untyped-def]
    """Fill C_NAME of what is mentioned, tags, typedefs and stand-ins for scalars, in order of type
    id: the base's come first."""
    rows, names = d.rows, d.names
    for type_id in range(len(rows)):
        if rows[type_id, t.FLAGS] & t.MENTIONED == 0:
            continue
        kind, name = np.int64(rows[type_id, t.KIND]), np.int64(rows[type_id, t.NAME])
        wanted = np.int64(names[name, t.IDENTIFIER])
        if kind == kinds.FWD or rows[type_id, t.FLAGS] & t.NO_VALUES != 0:
            continue
        if is_composite(kind) or kinds.is_enum(kind):
            tag = take(d, np.int64(t.TAG), wanted)
            rows[type_id, t.C_NAME] = tag
            first = t.FIRST + keyword_of(d, type_id)
            if names[name, first] == 0:
                names[name, first] = tag
        elif name != BUILT_IN:
            if name == BOOL_NAME:
                behind = rows[type_id, t.STRIP]
                if rows[behind, t.KIND] == kinds.INT and rows[behind, t.FLAGS] & t.BOOL != 0:
                    wanted = name
            rows[type_id, t.C_NAME] = take(d, np.int64(t.PLAIN), wanted)
        else:
            rows[type_id, t.C_NAME] = name
            rows[type_id, t.FLAGS] |= t.WRITTEN
    for type_id in range(len(rows)):
        flags = rows[type_id, t.FLAGS]
        if flags & t.MENTIONED and (rows[type_id, t.KIND] == kinds.FWD or flags & t.NO_VALUES != 0):
            name = np.int64(rows[type_id, t.NAME])
            first = t.FIRST + keyword_of(d, type_id)
            if names[name, first] == 0:
                names[name, first] = take(d, np.int64(t.TAG), np.int64(names[name, t.IDENTIFIER]))
            rows[type_id, t.C_NAME] = names[name, first]
