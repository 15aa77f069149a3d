"""A BTF's own types as columns: what tables and statistics are made from.

Parameters used throughout:

words, offsets   the own types, as in ``BTF``
base, own        uint8: strings of the chain of bases, and the own string section
name_off         uint32, global string offsets
"""

from __future__ import annotations

import numpy as np

from ..arguments import integers, takes
from ..compiled.jit import compiled
from ..errors import BtfError
from ..format.kinds import (
    ARRAY,
    ELEMENT_NAME,
    ELEMENT_WORDS,
    FIXED_WORDS,
    FUNC,
    HAS_SIZE,
    HEAD_WORDS,
    INFO_KIND_FLAG,
    INFO_VLEN_MASK,
    INT,
    KIND_COUNT,
    TARGET_AT,
    VAR,
    is_enum,
    kind_of,
)
from ..format.strings import eight_bytes, first_marked_byte, zero_bytes
from .btf import BTF

_0, _24, _ENCODINGS = np.uint64(0), np.uint32(24), np.uint32(7)
MAX_TEXT_BYTES = (1 << 31) - 1  # what Arrow's int32 offsets can count
MAX_NAME_FACTOR = 10  # of kernels, names written out have at most the bytes of the BTF itself
SMALL_NAME_BYTES = 1 << 20  # however small the BTF is


@takes(btf=BTF)
def columns(btf: BTF) -> dict[str, np.ndarray]:
    """Make a dict of arrays with an entry per own type (T of them), in order of type id:

    kind      uint8, see ``btf.kinds``
    vlen      uint32, as in the info word (a FUNC's is its linkage)
    size      uint32, bytes; 0 for kinds that have no size of their own
    bytes     uint32, length of the record in the type section
    name_off  uint32, global string offset; 0 is anonymous
    target    uint32, id of the type that it is made of, see ``kinds.TARGET_AT``; 0 is void, and
              stands with kinds that are made of none
    nelems    uint32, of an array; else 0
    linkage   uint32, of a function or variable; else 0
    encoding  uint8, of an INT, see ``btf.Encoding``; of an enum 1 where values are signed; else 0
    """
    count = btf.type_count
    out: dict[str, np.ndarray] = {
        "kind": np.empty(count, np.uint8),
        "vlen": np.empty(count, np.uint32),
        "size": np.empty(count, np.uint32),
        "bytes": np.empty(count, np.uint32),
        "name_off": np.empty(count, np.uint32),
        "target": np.empty(count, np.uint32),
        "nelems": np.empty(count, np.uint32),
        "linkage": np.empty(count, np.uint32),
        "encoding": np.empty(count, np.uint8),
    }
    _fill_columns(btf.words, btf.offsets, *out.values())
    return out


def kind_totals(btf: BTF) -> np.ndarray:
    """Count own types by kind, and the bytes of their records: int64, shape (2, KIND_COUNT)."""
    totals = np.zeros((2, KIND_COUNT), np.int64)
    _add_up(btf.words, btf.offsets, totals)
    return totals


def both_kind_totals(first: BTF, second: BTF) -> np.ndarray:
    """Count as ``kind_totals``, of two BTFs in one call: int64, shape (4, KIND_COUNT)."""
    totals = np.zeros((4, KIND_COUNT), np.int64)
    _add_up_both(first.words, first.offsets, second.words, second.offsets, totals)
    return totals


@takes(btf=BTF)
def type_names(btf: BTF) -> tuple[np.ndarray, np.ndarray]:
    """Names of own types in Arrow's layout for strings: (offsets int32 (T + 1,), data uint8)."""
    return texts(btf, btf.words[btf.offsets[:-1]])


@takes(btf=BTF)
def texts(btf: BTF, name_off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strings at n global offsets in Arrow's layout: (offsets int32 (n + 1,), data uint8).

    Raises BtfError for an offset beyond the strings, and for more text than int32 can count.
    """
    name_off = integers(name_off, "string offsets", 1 << 32).astype(np.uint32)
    if len(name_off) and int(name_off.max()) >= btf.str_end:
        raise BtfError(
            f"string offset {int(name_off.max())} is beyond {btf.str_end}", btf.path, "strings"
        )
    base_strings = btf.base.chain_strings if btf.base is not None else btf.strings[:0]
    offsets = np.zeros(len(name_off) + 1, np.int32)
    total = int(_string_lengths(base_strings, btf.strings, name_off, MAX_TEXT_BYTES, offsets))
    if total > MAX_TEXT_BYTES:
        raise BtfError(
            f"the strings asked for have more than {MAX_TEXT_BYTES} bytes in all: ask for fewer",
            btf.path,
            "strings",
        )
    data = np.empty(total, np.uint8)
    _copy_strings(base_strings, btf.strings, name_off, offsets, data)
    return offsets, data


@takes(btf=BTF)
def check_name_bytes(btf: BTF) -> None:
    """Raise BtfError if the names of types, members, parameters and enumerators, each written out,
    have far more bytes than the BTF itself: as no compiler writes it, where many share a long name.

    What tables of names cost in memory is bounded by this.
    """
    limit = name_byte_limit(btf)
    base_strings = btf.base.chain_strings if btf.base is not None else btf.strings[:0]
    if _name_bytes(btf.words, btf.offsets, base_strings, btf.strings, limit) > limit:
        raise too_many_name_bytes(btf)


def name_byte_limit(btf: BTF) -> int:
    """Return the most bytes that names may have, each written out."""
    return SMALL_NAME_BYTES + MAX_NAME_FACTOR * (btf.words.nbytes + len(btf.strings))


def too_many_name_bytes(btf: BTF) -> BtfError:
    """Make the error to be raised where names have more."""
    return BtfError(
        f"its names, each written out, have more than {name_byte_limit(btf)} bytes, "
        f"{MAX_NAME_FACTOR} times those of the BTF: no compiler writes that",
        btf.path,
        "types",
    )


@compiled
def _fill_columns(  # type: ignore[no-untyped-def]
    words, offsets, kind, vlen, size, nbytes, name_off, target, nelems, linkage, encoding
):
    """Fill ``kind``, ``vlen``, ``size``, ``nbytes``, ``name_off``, ``target``, ``nelems``,
    ``linkage`` and ``encoding``: the arrays of ``columns``."""
    for index in range(len(kind)):
        at = np.int64(offsets[index])
        info = words[at + 1]
        k = kind_of(info)
        kind[index] = k
        vlen[index] = info & INFO_VLEN_MASK
        size[index] = words[at + 2] if HAS_SIZE[k] else 0
        nbytes[index] = 4 * (offsets[index + 1] - offsets[index])
        name_off[index] = words[at]
        target[index] = words[at + TARGET_AT[k]] if TARGET_AT[k] > 0 else 0
        nelems[index] = words[at + HEAD_WORDS + 2] if k == ARRAY else 0
        linkage[index] = 0
        if k == FUNC:
            linkage[index] = info & INFO_VLEN_MASK
        elif k == VAR:
            linkage[index] = words[at + HEAD_WORDS]
        encoding[index] = 0
        if k == INT:
            encoding[index] = words[at + HEAD_WORDS] >> _24 & _ENCODINGS
        elif is_enum(k):
            encoding[index] = (info & INFO_KIND_FLAG) != 0


@compiled
def _add_up(words, offsets, totals):  # type: ignore[no-untyped-def]
    """Add to ``totals``, int64 of shape (2, KIND_COUNT), the types and their bytes by kind."""
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        kind = kind_of(words[at + 1])
        totals[0, kind] += 1
        totals[1, kind] += 4 * (np.int64(offsets[index + 1]) - at)


@compiled
def _add_up_both(words, offsets, other_words, other_offsets, totals):  # type: ignore[no-untyped-def]
    """Add up ``words`` and ``offsets`` in the first two rows of ``totals``, int64 of shape
    (4, KIND_COUNT), and another BTF's ``other_words`` and ``other_offsets`` in the last two."""
    _add_up(words, offsets, totals[:2])
    _add_up(other_words, other_offsets, totals[2:])


@compiled
def _string_length(base, own, offset, limit):  # type: ignore[no-untyped-def]
    """Bytes of the string at a global ``offset`` (int64), at most ``limit`` + 1 of them."""
    strings = base
    if offset >= len(base):
        strings = own
        offset -= len(base)
    length = np.int64(0)
    while length <= limit:
        zeros = zero_bytes(eight_bytes(strings, offset + length))
        if zeros != _0:
            return min(length + first_marked_byte(zeros), limit + 1)
        length += 8
    return limit + 1


@compiled
def _string_lengths(base, own, name_off, limit, offsets):  # type: ignore[no-untyped-def]
    """Fill ``offsets``, int32 of shape (n + 1,): where each string begins in Arrow's data.

    Returns the bytes of all (int64); more than ``limit`` if it stopped there.
    """
    total = np.int64(0)
    for index in range(len(name_off)):
        offsets[index] = total
        total += _string_length(base, own, np.int64(name_off[index]), limit - total)
        if total > limit:
            return total
    offsets[len(name_off)] = total
    return total


@compiled
def _name_bytes(words, offsets, base, own, limit):  # type: ignore[no-untyped-def]
    """Bytes of the names of all own types and of their elements (int64); more than ``limit`` if it
    stopped there."""
    total = np.int64(0)
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        kind = kind_of(words[at + 1])
        total += _string_length(base, own, np.int64(words[at]), limit - total)
        stride = np.int64(ELEMENT_WORDS[kind])
        name_at = np.int64(ELEMENT_NAME[kind])
        if name_at >= 0 and stride > 0:
            first = at + HEAD_WORDS + FIXED_WORDS[kind]
            for element in range(first, np.int64(offsets[index + 1]), stride):
                if total > limit:
                    return total
                name = np.int64(words[element + name_at])
                total += _string_length(base, own, name, limit - total)
        if total > limit:
            return total
    return total


@compiled
def _copy_strings(base, own, name_off, offsets, data):  # type: ignore[no-untyped-def]
    """Fill ``data``, uint8, with the strings that ``_string_lengths`` made ``offsets`` for."""
    for index in range(len(name_off)):
        at = np.int64(name_off[index])
        first = np.int64(offsets[index])
        last = np.int64(offsets[index + 1])
        if at < len(base):
            for i in range(last - first):
                data[first + i] = base[at + i]
        else:
            at -= len(base)
            for i in range(last - first):
                data[first + i] = own[at + i]
