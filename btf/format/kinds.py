"""The 19 kinds of BTF: the meaning of every word of their records, and of the kind.

``SPECS`` is the one table of the kinds. It says which words of a type are names, which refer to
other types and which are plain values; how deduplication compares the kind, in which name space
its name counts, and what dumps call its facts. Validation, string mapping, hashing, equality,
remapping, sizes and dumps all read it, so that a field cannot be known to one of them and
forgotten by another. What is derived from it stands below: sets for Python, arrays by kind and
inlined functions (``is_enum``) for compiled functions.

A record is a sequence of 32-bit words::

    name_off  info  size_or_type  [fixed words]  [vlen elements of a few words each]

``info``: vlen in bits 0-23, kind in bits 24-30, kind_flag in bit 31. (Before Linux commit
"btf: extend kind and vlen", April 2026, vlen had bits 0-15 and kind bits 24-28; what older
encoders write reads the same, because they left the bits between at zero.)

Source: include/uapi/linux/btf.h and Documentation/bpf/btf.rst of the Linux kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ..compiled.jit import inlined

VOID = 0
INT = 1
PTR = 2
ARRAY = 3
STRUCT = 4
UNION = 5
ENUM = 6
FWD = 7
TYPEDEF = 8
VOLATILE = 9
CONST = 10
RESTRICT = 11
FUNC = 12  # since Linux 5.0
FUNC_PROTO = 13  # since Linux 5.0
VAR = 14  # since Linux 5.2
DATASEC = 15  # since Linux 5.2
FLOAT = 16  # since Linux 5.13
DECL_TAG = 17  # since Linux 5.16
TYPE_TAG = 18  # since Linux 5.17
ENUM64 = 19  # since Linux 6.0

MAX_KIND = 19  # the last kind whose meaning we know
# Proposed since October 2025 for where functions that were inlined have their parameters, and not
# final. Files that have them have the layout section, which tells the size of their records.
PROPOSED = {20: "LOC_PARAM", 21: "LOC_PROTO", 22: "LOCSEC"}
KIND_COUNT = 128  # kinds that the 7 bits of info can name

HEAD_WORDS = 3  # name_off, info, size/type
INFO_KIND_SHIFT = 24
INFO_KIND_MASK = 0x7F
INFO_VLEN_MASK = 0x00FFFFFF
INFO_KIND_FLAG = 0x80000000


class Role(IntEnum):
    """What a word of a type record is."""

    VALUE = 0
    """Part of the type's identity as it stands: a size, an offset, a value, an encoding."""
    NAME = 1
    """Offset into the string section."""
    REF = 2
    """Id of another type."""


class NameSpace(IntEnum):
    """Name spaces: two named types can only be meant by the same name within one of them.

    C has one for tags and one for ordinary identifiers. BTF has typedefs, functions and variables
    of the same name, from different files, so these are apart here.
    """

    NONE = 0
    """No name, or a text that is no name: that of a tag."""
    TAGS = 1
    TYPE_NAMES = 2
    FUNCTIONS = 3
    VARIABLES = 4
    SECTIONS = 5


class Equivalence(IntEnum):
    """When deduplication takes two types for the same (libbpf's ``btf__dedup``)."""

    NEVER = 0
    """Each type stays: what is in a section belongs to one object file."""
    SCALAR = 1
    """The whole records are equal."""
    FORWARD = 2
    """Name and struct or union are the same; may be replaced by the definition."""
    ENUM = 3
    """The whole records are equal, or the names are and one has no enumerators."""
    COMPOSITE = 4
    """The records are equal and the graphs that the members span are equivalent."""
    CHAIN = 5
    """Name and info are equal and so is the one type referred to: a walk goes through it."""
    ARRAY = 6
    PROTOTYPE = 7
    DECL_TAG = 8
    """As CHAIN, and the component is equal. No other type may refer to it."""


class DumpKeys(NamedTuple):
    """What ``bpftool btf dump`` calls the facts of one kind: of the type, and of its elements."""

    head: tuple[str, ...]
    elements: str = ""
    """What the list of elements is called; "" when the kind has none."""
    element: tuple[str, ...] = ()


@dataclass(frozen=True)
class KindSpec:
    """One kind: its record after ``name_off`` and ``info``, and what the kind means.

    head         name of the third word: size, type, or unused
    fixed        names of the words after it
    element      names of the words that repeat vlen times (FUNC has its linkage in vlen)
    name_space   where its name counts
    keyword      C's word for it, if C has one that stands before a name
    transparent  a value has the size and layout of the type that this one refers to
    is_type      it is a type of C, which members, pointers and typedefs may refer to; what is none
                 belongs to its object file, or says something of a type
    """

    kind: int
    name: str
    equivalence: Equivalence
    head: str
    keys: DumpKeys
    fixed: tuple[str, ...] = ()
    element: tuple[str, ...] = ()
    name_space: NameSpace = NameSpace.NONE
    keyword: str = ""
    transparent: bool = False
    is_type: bool = True

    @property
    def roles(self) -> tuple[Role, ...]:
        """Roles of the words before the elements."""
        return (Role.NAME, Role.VALUE, *map(role_of, (self.head, *self.fixed)))

    @property
    def element_roles(self) -> tuple[Role, ...]:
        """Roles of the words of an element."""
        return tuple(map(role_of, self.element))

    @property
    def enum_bits(self) -> int:
        """Bits of an enumerator's value, 0 for kinds that have none."""
        return 32 * sum(name.startswith("val") for name in self.element)


def role_of(word: str) -> Role:
    """Return the role of a word by its name."""
    if word in ("type", "index_type"):
        return Role.REF
    return Role.NAME if word == "name_off" else Role.VALUE


_E, _N = Equivalence, NameSpace
_MEMBERS = DumpKeys(("size", "vlen"), "members", ("name", "type_id", "bits_offset"))
_MEMBER = ("name_off", "type", "offset")
_VALUES = DumpKeys(("encoding", "size", "vlen"), "values", ("name", "val"))
_TARGET = DumpKeys(("type_id",))
_LINKED = DumpKeys(("type_id", "linkage"))

# fmt: off
SPECS: tuple[KindSpec, ...] = (
    KindSpec(INT, "INT", _E.SCALAR, "size",
             DumpKeys(("size", "bits_offset", "nr_bits", "encoding")), fixed=("encoding",),
             name_space=_N.TYPE_NAMES),
    KindSpec(PTR, "PTR", _E.CHAIN, "type", _TARGET),
    KindSpec(ARRAY, "ARRAY", _E.ARRAY, "unused",
             DumpKeys(("type_id", "index_type_id", "nr_elems")),
             fixed=("type", "index_type", "nelems")),
    KindSpec(STRUCT, "STRUCT", _E.COMPOSITE, "size", _MEMBERS, element=_MEMBER,
             name_space=_N.TAGS, keyword="struct"),
    KindSpec(UNION, "UNION", _E.COMPOSITE, "size", _MEMBERS, element=_MEMBER,
             name_space=_N.TAGS, keyword="union"),
    KindSpec(ENUM, "ENUM", _E.ENUM, "size", _VALUES, element=("name_off", "val"),
             name_space=_N.TAGS, keyword="enum"),
    # The third word is always 0, but libbpf treats it as a reference: it is checked and remapped.
    KindSpec(FWD, "FWD", _E.FORWARD, "type", DumpKeys(("fwd_kind",)), name_space=_N.TAGS),
    KindSpec(TYPEDEF, "TYPEDEF", _E.CHAIN, "type", _TARGET, name_space=_N.TYPE_NAMES,
             transparent=True),
    KindSpec(VOLATILE, "VOLATILE", _E.CHAIN, "type", _TARGET, keyword="volatile",
             transparent=True),
    KindSpec(CONST, "CONST", _E.CHAIN, "type", _TARGET, keyword="const", transparent=True),
    KindSpec(RESTRICT, "RESTRICT", _E.CHAIN, "type", _TARGET, keyword="restrict",
             transparent=True),
    KindSpec(FUNC, "FUNC", _E.CHAIN, "type", _LINKED, name_space=_N.FUNCTIONS,
             is_type=False),
    KindSpec(FUNC_PROTO, "FUNC_PROTO", _E.PROTOTYPE, "type",
             DumpKeys(("ret_type_id", "vlen"), "params", ("name", "type_id")),
             element=("name_off", "type")),
    KindSpec(VAR, "VAR", _E.NEVER, "type", _LINKED, fixed=("linkage",), name_space=_N.VARIABLES,
             is_type=False),
    KindSpec(DATASEC, "DATASEC", _E.NEVER, "size",
             DumpKeys(("size", "vlen"), "vars", ("type_id", "offset", "size")),
             element=("type", "offset", "size"), name_space=_N.SECTIONS, is_type=False),
    KindSpec(FLOAT, "FLOAT", _E.SCALAR, "size", DumpKeys(("size",)), name_space=_N.TYPE_NAMES),
    KindSpec(DECL_TAG, "DECL_TAG", _E.DECL_TAG, "type", DumpKeys(("type_id", "component_idx")),
             fixed=("component_idx",), is_type=False),
    KindSpec(TYPE_TAG, "TYPE_TAG", _E.CHAIN, "type", _TARGET, transparent=True),
    KindSpec(ENUM64, "ENUM64", _E.ENUM, "size", _VALUES,
             element=("name_off", "val_lo32", "val_hi32"), name_space=_N.TAGS, keyword="enum"),
)
# fmt: on
assert [spec.kind for spec in SPECS] == list(range(1, MAX_KIND + 1))

KIND_NAMES: tuple[str, ...] = ("VOID", *(spec.name for spec in SPECS))


def called(kind: int) -> str:
    """Name a kind in a message: ``STRUCT``, ``kind 20 (proposed as LOC_PARAM)``, ``kind 99``."""
    if kind <= MAX_KIND:
        return KIND_NAMES[kind]
    return f"kind {kind}" + (f" (proposed as {PROPOSED[kind]})" if kind in PROPOSED else "")


def _kinds(test: Callable[[KindSpec], bool]) -> frozenset[int]:
    return frozenset(spec.kind for spec in SPECS if test(spec))


# The table again, as sets of kinds for Python.
ENUMS = _kinds(lambda spec: spec.equivalence is _E.ENUM)
COMPOSITES = _kinds(lambda spec: spec.equivalence is _E.COMPOSITE)
SCALARS = _kinds(lambda spec: spec.equivalence is _E.SCALAR)
TRANSPARENT = _kinds(lambda spec: spec.transparent)
QUALIFIERS = _kinds(lambda spec: spec.transparent and spec.keyword != "")
SIZED = _kinds(lambda spec: spec.head == "size")
KEYWORDS = {spec.kind: spec.keyword for spec in SPECS if spec.keyword}
NEVER_MERGED = _kinds(lambda spec: spec.equivalence is _E.NEVER)
NO_TYPES = _kinds(lambda spec: not spec.is_type)  # FUNC, VAR, DATASEC, DECL_TAG


def _per_kind(value: Callable[[KindSpec], int]) -> np.ndarray:
    """int8 array of shape (KIND_COUNT,): ``value(spec)`` for each known kind, 0 elsewhere."""
    out = np.zeros(KIND_COUNT, np.int8)
    for spec in SPECS:
        out[spec.kind] = value(spec)
    out.setflags(write=False)
    return out


def _as_mask(kinds: np.ndarray) -> np.ndarray:
    """uint32 array of shape (KIND_COUNT,): all bits where ``kinds`` is true, none elsewhere."""
    return np.where(kinds, np.uint32(0xFFFFFFFF), np.uint32(0))


def _element_at(spec: KindSpec, role: Role) -> int:
    return spec.element_roles.index(role) if role in spec.element_roles else -1


def reference_words(spec: KindSpec, vlen: int) -> list[int]:
    """Return the positions of the references in a record of that kind, in order."""
    roles = spec.roles + vlen * spec.element_roles
    return [word for word, role in enumerate(roles) if role is Role.REF]


# And as arrays by kind, for compiled functions.
FIXED_WORDS = _per_kind(lambda spec: len(spec.fixed))
ELEMENT_WORDS = _per_kind(lambda spec: len(spec.element))
HEAD_IS_REF = _per_kind(lambda spec: spec.head == "type")
FIXED_REFS = _per_kind(lambda spec: spec.roles[3:].count(Role.REF))
ELEMENT_NAME = _per_kind(lambda spec: _element_at(spec, Role.NAME))
ELEMENT_REF = _per_kind(lambda spec: _element_at(spec, Role.REF))
# The same as masks: of the third word, where it is a reference; of an element's first word, where
# it is a name; of word REF_IN_ELEMENT of an element, where it is a reference. To look at all kinds
# alike costs a processor less than to tell them apart, which come in no order.
HEAD_REF_MASK = _as_mask(HEAD_IS_REF > 0)
ELEMENT_NAME_MASK = _as_mask((ELEMENT_NAME == 0) & (ELEMENT_WORDS > 0))
ELEMENT_REF_MASK = _as_mask((ELEMENT_REF >= 0) & (ELEMENT_WORDS > 0))
REF_IN_ELEMENT = np.where(ELEMENT_REF_MASK > 0, ELEMENT_REF, 0)
NAME_SPACE = _per_kind(lambda spec: spec.name_space)
HAS_SIZE = _per_kind(lambda spec: spec.head == "size")
HAS_MEMBERS = _per_kind(lambda spec: Role.NAME in spec.element_roles)
ENUM_BITS = _per_kind(lambda spec: spec.enum_bits)
# What libbpf deduplicates first, for it refers to nothing.
IS_PRIMITIVE = _per_kind(lambda spec: spec.equivalence in (_E.SCALAR, _E.FORWARD, _E.ENUM))


def _target_at(spec: KindSpec) -> int:
    if spec.head == "type":
        return 2 if spec.equivalence is not _E.FORWARD else 0
    return HEAD_WORDS + spec.fixed.index("type") if "type" in spec.fixed else 0


# The word that holds the one type that a type is made of: what a pointer points to, an array has
# elements of, a function returns; 0 for kinds that are not made of one.
TARGET_AT = _per_kind(_target_at)

# The references of a record are evenly spaced: the first is at word FIRST_REF, each further one
# REF_STEP words on; there are FEWEST_REFS, and one more for each element if REF_EACH is 1.
FIRST_REF = _per_kind(lambda spec: (reference_words(spec, 1) or [0])[0])
FEWEST_REFS = _per_kind(lambda spec: len(reference_words(spec, 0)))
REF_EACH = _per_kind(lambda spec: Role.REF in spec.element_roles)
REF_STEP = _per_kind(lambda spec: ([*reference_words(spec, 2), 0, 0])[1] - FIRST_REF[spec.kind])
for _spec in SPECS:
    _words = reference_words(_spec, 5)
    _first, _step = int(FIRST_REF[_spec.kind]), int(REF_STEP[_spec.kind])
    assert _words == [_first + _step * i for i in range(len(_words))]
    assert len(_words) == FEWEST_REFS[_spec.kind] + 5 * REF_EACH[_spec.kind]
    # What compiled functions rely on beyond the arrays: references among the fixed words come
    # first, a name in an element is its first word, and an element has at most one of each.
    assert Role.NAME not in _spec.roles[3:]
    assert list(_spec.roles[3:]) == sorted(_spec.roles[3:], reverse=True)
    assert _element_at(_spec, Role.NAME) in (-1, 0)
    assert _spec.element_roles.count(Role.REF) <= 1


def info_word(kind: int, vlen: int = 0, kind_flag: bool | int = False) -> int:
    """Return the ``info`` word of a type record."""
    return (INFO_KIND_FLAG if kind_flag else 0) | kind << INFO_KIND_SHIFT | vlen


@inlined
def kind_of(info):  # type: ignore[no-untyped-def]
    """Return the kind of a type (int64) whose ``info`` word is given (uint32)."""
    return np.int64((info >> INFO_KIND_SHIFT) & INFO_KIND_MASK)


# Kinds as bits of a number, so that a test compiles to a shift and a mask, without a look-up.
def _mask(found: frozenset[int]) -> int:
    return sum(1 << kind for kind in found)


_ENUM_MASK, _SCALAR_MASK, _TRANSPARENT_MASK = _mask(ENUMS), _mask(SCALARS), _mask(TRANSPARENT)
_CHAIN_MASK = _mask(_kinds(lambda spec: spec.equivalence is _E.CHAIN))
_NEVER_MASK = _mask(NEVER_MERGED)
_NO_TYPE_MASK = _mask(NO_TYPES)
assert MAX_KIND < 63


@inlined
def _is_in(mask, kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) is one of those that are bits of ``mask`` (int64)."""
    return kind <= MAX_KIND and (mask >> kind) & 1 != 0


@inlined
def is_enum(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) is an enum, of values of any width."""
    return _is_in(_ENUM_MASK, kind)


@inlined
def is_scalar(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) is of ``Equivalence.SCALAR``: INT, FLOAT."""
    return _is_in(_SCALAR_MASK, kind)


@inlined
def is_transparent(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) stands for its target: typedefs, qualifiers, type tags."""
    return _is_in(_TRANSPARENT_MASK, kind)


@inlined
def is_chain(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) is of ``Equivalence.CHAIN``: a name, a flag and one reference."""
    return _is_in(_CHAIN_MASK, kind)


@inlined
def is_never_merged(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) is of ``Equivalence.NEVER``: VAR, DATASEC."""
    return _is_in(_NEVER_MASK, kind)


@inlined
def is_no_type(kind):  # type: ignore[no-untyped-def]
    """Whether ``kind`` (int64) is in ``NO_TYPES``: no type of C."""
    return _is_in(_NO_TYPE_MASK, kind)
