"""A BTF's own types as columns: what tables and statistics are made from.

Parameters used throughout:

words, offsets   the own types, as in ``BTF``
base, own        uint8: strings of the chain of bases, and the own string section
name_off         uint32, global string offsets
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..format.kinds import HAS_SIZE, INFO_VLEN_MASK, KIND_COUNT, kind_of
from .btf import BTF


def columns(btf: BTF) -> dict[str, np.ndarray]:
    """Make a dict of arrays with an entry per own type (T of them), in order of type id:

    kind      uint8, see ``btf.kinds``
    vlen      uint32, as in the info word (a FUNC's is its linkage)
    size      uint32, bytes; 0 for kinds that have no size of their own
    bytes     uint32, length of the record in the type section
    name_off  uint32, global string offset; 0 is anonymous
    """
    count = btf.type_count
    out: dict[str, np.ndarray] = {
        "kind": np.empty(count, np.uint8),
        "vlen": np.empty(count, np.uint32),
        "size": np.empty(count, np.uint32),
        "bytes": np.empty(count, np.uint32),
        "name_off": np.empty(count, np.uint32),
    }
    _fill_columns(btf.words, btf.offsets, *out.values())
    return out


def kind_totals(btf: BTF) -> tuple[np.ndarray, np.ndarray]:
    """Return the own types of each kind, and the bytes of their records: int64, by kind."""
    totals = np.zeros((2, KIND_COUNT), np.int64)
    _add_up(btf.words, btf.offsets, totals)
    return totals[0], totals[1]


def type_names(btf: BTF) -> tuple[np.ndarray, np.ndarray]:
    """Names of own types in Arrow's layout for strings: (offsets int32 (T + 1,), data uint8)."""
    return texts(btf, btf.words[btf.offsets[:-1]])


def texts(btf: BTF, name_off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strings at n global offsets in Arrow's layout: (offsets int32 (n + 1,), data uint8)."""
    base_strings = btf.base.chain_strings if btf.base is not None else btf.strings[:0]
    offsets = np.zeros(len(name_off) + 1, np.int32)
    _string_lengths(base_strings, btf.strings, name_off, offsets)
    data = np.empty(int(offsets[-1]), np.uint8)
    _copy_strings(base_strings, btf.strings, name_off, offsets, data)
    return offsets, data


@compiled
def _fill_columns(words, offsets, kind, vlen, size, nbytes, name_off):  # type: ignore[no-untyped-def]
    """Fill ``kind``, ``vlen``, ``size``, ``nbytes`` and ``name_off``: the arrays of ``columns``."""
    for index in range(len(kind)):
        at = np.int64(offsets[index])
        info = words[at + 1]
        k = kind_of(info)
        kind[index] = k
        vlen[index] = info & INFO_VLEN_MASK
        size[index] = words[at + 2] if HAS_SIZE[k] else 0
        nbytes[index] = 4 * (offsets[index + 1] - offsets[index])
        name_off[index] = words[at]


@compiled
def _add_up(words, offsets, totals):  # type: ignore[no-untyped-def]
    """Add to ``totals``, int64 of shape (2, KIND_COUNT), the types and their bytes by kind."""
    for index in range(len(offsets) - 1):
        at = np.int64(offsets[index])
        kind = kind_of(words[at + 1])
        totals[0, kind] += 1
        totals[1, kind] += 4 * (np.int64(offsets[index + 1]) - at)


@compiled
def _string_lengths(base, own, name_off, offsets):  # type: ignore[no-untyped-def]
    """Fill ``offsets``, int32 of shape (n + 1,): where each string begins in Arrow's data."""
    total = 0
    for index in range(len(name_off)):
        offsets[index] = total
        at = np.int64(name_off[index])
        if at < len(base):
            while base[at] != 0:
                at += 1
                total += 1
        else:
            at -= len(base)
            while own[at] != 0:
                at += 1
                total += 1
    offsets[len(name_off)] = total


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
