"""The 19 kinds of BTF and the meaning of every word of their records.

This is the one table that says which words of a type are names, which refer to other types and
which are plain values. Validation, string mapping, hashing, equality, remapping and dumping all
read it, so that a field cannot be known to one of them and forgotten by another.

A record is a sequence of 32-bit words::

    name_off  info  size_or_type  [fixed words]  [vlen elements of a few words each]

``info``: vlen in bits 0-23, kind in bits 24-30, kind_flag in bit 31. (Before Linux commit
"btf: extend kind and vlen", April 2026, vlen had bits 0-15 and kind bits 24-28; what older
encoders write reads the same, because they left the bits between at zero.)

Source: include/uapi/linux/btf.h and Documentation/bpf/btf.rst of the Linux kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

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


@dataclass(frozen=True)
class KindSpec:
    """How one kind is laid out after ``name_off`` and ``info``.

    ``head`` is the role of the third word; ``fixed`` the words after it; ``element`` the words
    that repeat vlen times. FUNC has vlen too, but uses it for its linkage: no elements follow.
    """

    kind: int
    name: str
    head: tuple[str, Role]
    fixed: tuple[tuple[str, Role], ...] = ()
    element: tuple[tuple[str, Role], ...] = ()


_SIZE = ("size", Role.VALUE)
_TYPE = ("type", Role.REF)
_UNUSED = ("size", Role.VALUE)
_MEMBER = (("name_off", Role.NAME), ("type", Role.REF), ("offset", Role.VALUE))

SPECS: tuple[KindSpec, ...] = (
    KindSpec(INT, "INT", _SIZE, fixed=(("encoding", Role.VALUE),)),
    KindSpec(PTR, "PTR", _TYPE),
    KindSpec(
        ARRAY,
        "ARRAY",
        _UNUSED,
        fixed=(("type", Role.REF), ("index_type", Role.REF), ("nelems", Role.VALUE)),
    ),
    KindSpec(STRUCT, "STRUCT", _SIZE, element=_MEMBER),
    KindSpec(UNION, "UNION", _SIZE, element=_MEMBER),
    KindSpec(ENUM, "ENUM", _SIZE, element=(("name_off", Role.NAME), ("val", Role.VALUE))),
    # Always 0 in practice, but libbpf treats it as a reference, so it is checked and remapped.
    KindSpec(FWD, "FWD", _TYPE),
    KindSpec(TYPEDEF, "TYPEDEF", _TYPE),
    KindSpec(VOLATILE, "VOLATILE", _TYPE),
    KindSpec(CONST, "CONST", _TYPE),
    KindSpec(RESTRICT, "RESTRICT", _TYPE),
    KindSpec(FUNC, "FUNC", _TYPE),
    KindSpec(
        FUNC_PROTO, "FUNC_PROTO", _TYPE, element=(("name_off", Role.NAME), ("type", Role.REF))
    ),
    KindSpec(VAR, "VAR", _TYPE, fixed=(("linkage", Role.VALUE),)),
    KindSpec(
        DATASEC,
        "DATASEC",
        _SIZE,
        element=(("type", Role.REF), ("offset", Role.VALUE), ("size", Role.VALUE)),
    ),
    KindSpec(FLOAT, "FLOAT", _SIZE),
    KindSpec(DECL_TAG, "DECL_TAG", _TYPE, fixed=(("component_idx", Role.VALUE),)),
    KindSpec(TYPE_TAG, "TYPE_TAG", _TYPE),
    KindSpec(
        ENUM64,
        "ENUM64",
        _SIZE,
        element=(("name_off", Role.NAME), ("val_lo32", Role.VALUE), ("val_hi32", Role.VALUE)),
    ),
)

KIND_NAMES: tuple[str, ...] = ("VOID", *(spec.name for spec in SPECS))


def _per_kind(value: object) -> np.ndarray:
    """int8 array of shape (KIND_COUNT,): ``value(spec)`` for each known kind, 0 elsewhere."""
    out = np.zeros(KIND_COUNT, np.int8)
    for spec in SPECS:
        out[spec.kind] = value(spec)  # type: ignore[operator]
    out.setflags(write=False)
    return out


def _element_at(spec: KindSpec, role: Role) -> int:
    for position, (_, word_role) in enumerate(spec.element):
        if word_role is role:
            return position
    return -1


# The table again, as flat arrays by kind for the compiled kernels.
FIXED_WORDS = _per_kind(lambda spec: len(spec.fixed))
ELEMENT_WORDS = _per_kind(lambda spec: len(spec.element))
HEAD_IS_REF = _per_kind(lambda spec: spec.head[1] is Role.REF)
FIXED_REFS = _per_kind(lambda spec: sum(role is Role.REF for _, role in spec.fixed))
ELEMENT_NAME = _per_kind(lambda spec: _element_at(spec, Role.NAME))
ELEMENT_REF = _per_kind(lambda spec: _element_at(spec, Role.REF))


def reference_words(spec: KindSpec, vlen: int) -> list[int]:
    """Positions of the references in a record of that kind, in order."""
    roles = [Role.NAME, Role.VALUE, spec.head[1], *(role for _, role in spec.fixed)]
    roles += vlen * [role for _, role in spec.element]
    return [word for word, role in enumerate(roles) if role is Role.REF]


# The references of a record are evenly spaced: the first is at word FIRST_REF, each further one
# REF_STEP words on; there are FEWEST_REFS, and one more for each element if REF_EACH is 1.
FIRST_REF = _per_kind(lambda spec: (reference_words(spec, 1) or [0])[0])
FEWEST_REFS = _per_kind(lambda spec: len(reference_words(spec, 0)))
REF_EACH = _per_kind(lambda spec: _element_at(spec, Role.REF) >= 0)
REF_STEP = _per_kind(lambda spec: ([*reference_words(spec, 2), 0, 0])[1] - FIRST_REF[spec.kind])
for _spec in SPECS:
    _words = reference_words(_spec, 5)
    _first, _step = int(FIRST_REF[_spec.kind]), int(REF_STEP[_spec.kind])
    assert _words == [_first + _step * i for i in range(len(_words))]
    assert len(_words) == FEWEST_REFS[_spec.kind] + 5 * REF_EACH[_spec.kind]

# What the kernels rely on beyond the arrays: references among the fixed words come first, a name
# in an element is its first word, and an element has at most one of each.
for _spec in SPECS:
    _roles = [role for _, role in _spec.fixed]
    assert Role.NAME not in _roles
    assert _roles == sorted(_roles, reverse=True)
    assert _element_at(_spec, Role.NAME) in (-1, 0)
    assert sum(role is Role.REF for _, role in _spec.element) <= 1


def info_word(kind: int, vlen: int = 0, kind_flag: bool | int = False) -> int:
    """The ``info`` word of a type record."""
    return (INFO_KIND_FLAG if kind_flag else 0) | kind << INFO_KIND_SHIFT | vlen


@inlined
def kind_of(info):  # type: ignore[no-untyped-def]
    """Kind of a type (int64) whose ``info`` word is given (uint32)."""
    return np.int64((info >> INFO_KIND_SHIFT) & INFO_KIND_MASK)
