"""The table ``types``: every type of the base, and the own types of each module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import btf
from btf.format.kinds import ELEMENT_WORDS, HAS_SIZE, TARGET_AT

from ..model.stages import DESCRIBE, FINGERPRINTS
from .schema import (
    HASH,
    I64,
    TEXT,
    U8,
    U32,
    WORDS,
    Column,
    ModuleTable,
    Objects,
    Rows,
    filled,
    global_ids,
    kind_words,
    required,
    strings,
    without,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .describe import ModuleGroup

_LINKED = (btf.kinds.FUNC, btf.kinds.VAR)
_LINKAGES = ("static", "global", "extern", "other")
_ENCODED = (btf.kinds.INT, *sorted(btf.kinds.ENUMS))
_ENCODINGS = (
    "unsigned", "signed", "char", "signed char", "bool", "signed bool", "char bool", "all",
)  # fmt: skip
# Ids are those in the module's own BTF.
_RESULT = (
    *required(kind=U8, name=TEXT, size=U32, bytes=U32, vlen=U32, target=U32, nelems=U32),
    *required(linkage=U32, encoding=U8, spelling=TEXT),
    *required(fingerprint=HASH, layout_fingerprint=HASH, declaration_fingerprint=HASH),
    pa.field("own_fingerprint", HASH),
)


def _rows(group: ModuleGroup) -> Rows:
    if not group.counts.any():
        return group.counts, pa.array([], pa.struct(_RESULT))
    assert group.base is not None
    group.laps.append((DESCRIBE, perf_counter()))
    whole, base = group.whole, group.base.fingerprints
    own: NDArray[np.uint64] | None = None
    if group.is_base:
        fingerprint, declared, first = base.values[1:], group.base.declarations, 1
    else:
        fingerprint, own, declared = btf.all_fingerprints(
            whole, base, group.base.declarations, spell=True
        )
        first = 0
    spellings = group.spellings(declared)
    group.laps.append((FINGERPRINTS, perf_counter()))
    columns = btf.columns(whole)
    target, start_id = columns["target"], np.uint32(whole.start_id)
    ours = target >= start_id
    target[ours] -= group.types_before[target[ours] - start_id]
    arrays = [
        pa.array(columns["kind"]),
        strings(*btf.texts(whole, columns["name_off"])),
        pa.array(columns["size"]),
        pa.array(columns["bytes"]),
        pa.array(columns["vlen"]),
        pa.array(target),
        pa.array(columns["nelems"]),
        pa.array(columns["linkage"]),
        pa.array(columns["encoding"]),
        spellings,
        _hashes(fingerprint),
        _hashes(declared.layout[first:]),
        _hashes(declared.declaration[first:]),
        _hashes(own) if own is not None else pa.nulls(len(fingerprint), HASH),
    ]
    return group.counts, pa.StructArray.from_arrays(arrays, fields=list(_RESULT))


def _hashes(values: NDArray[np.uint64]) -> pa.FixedSizeBinaryArray:
    """Fingerprints as 16 bytes, so that their hexadecimal digits read as the number does."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values.astype(">u8")))]
    return pa.FixedSizeBinaryArray.from_buffers(HASH, len(values), buffers)


def _to_arrow(rows: Mapping[str, pa.Array], objects: Objects) -> Mapping[str, Any]:
    object_id, kind = objects.of_rows(), rows["kind"].to_numpy()
    type_id = objects.positions() + objects.start_id
    target = objects.global_ids_of(rows["target"].to_numpy())
    module = pa.array(object_id.astype(np.int32), mask=object_id == 0)
    return {
        **rows,
        "global_id": global_ids(object_id, type_id),
        "object_id": object_id,
        "type_id": type_id,
        "module": pa.DictionaryArray.from_arrays(module, objects.names),
        "kind": kind_words(rows["kind"]),
        "name": filled(rows["name"]),
        "spelling": filled(rows["spelling"]),
        "size": without(HAS_SIZE[kind] == 0, rows["size"]),
        "vlen": without(ELEMENT_WORDS[kind] == 0, rows["vlen"]),
        "target_global_id": without(TARGET_AT[kind] == 0, target),
        "nelems": without(kind != btf.kinds.ARRAY, rows["nelems"]),
        "linkage": _worded(rows["linkage"], _LINKAGES, ~np.isin(kind, _LINKED)),
        "encoding": _worded(rows["encoding"], _ENCODINGS, ~np.isin(kind, _ENCODED)),
    }


def _worded(numbers: pa.Array, words: Sequence[str], absent: NDArray[np.bool_]) -> pa.Array:
    """The word for each number; the last one for all that are higher, which no compiler writes."""
    values = np.minimum(numbers.to_numpy(), len(words) - 1).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(values, mask=absent), pa.array(words))


TABLE = ModuleTable(
    name="types",
    rank=30,
    row="one row per type of the base and per own type in a module's split BTF",
    order="object_id, type_id",
    columns=(
        Column("global_id", I64, "", "object_id in the upper 32 bits, type_id in the lower"),
        Column("object_id", I64, "", "0 for the base, else that of the module"),
        Column("type_id", I64, "", "id in the BTF; a module's own ids follow those of the base"),
        Column("module", WORDS, "", "the module; null for the base"),
        Column("kind", WORDS, "", "BTF kind: INT, PTR, ARRAY, STRUCT, …"),
        Column("name", TEXT, "", "name; null for anonymous types"),
        Column(
            "spelling",
            TEXT,
            "",
            "how C spells it where it is referred to; of a FUNC its prototype, of a VAR its "
            "declaration, with names; null for DATASEC and DECL_TAG; what has no name is written "
            "out; arrays of arrays count as one with the product of their lengths; `…` stands "
            "where a type contains itself, and ends what is cut at 1,024 bytes",
        ),
        Column("size", I64, "bytes", "size of the C type; null for kinds that have none"),
        Column("bytes", I64, "bytes", "size of the type's record in the type section"),
        Column("vlen", I64, "", "members, enumerators, parameters or variables; else null"),
        Column(
            "target_global_id",
            I64,
            "",
            "what a pointer points to, a name or qualifier stands for, an array has elements of, a "
            "function returns or a tag tags; 0 is void; null for other kinds",
        ),
        Column("nelems", I64, "", "elements of an array; else null"),
        Column("linkage", WORDS, "", "of a function or variable: `static`, `global`, `extern`"),
        Column(
            "encoding",
            WORDS,
            "",
            "of an INT or enum: `signed`, `unsigned`; of an INT also `bool`, `char`",
        ),
        Column(
            "fingerprint",
            HASH,
            "",
            "is it the same in every respect: 128-bit hash, the same in all modules and kernels "
            "for types that no walk tells apart; a forward declaration differs from the definition",
        ),
        Column(
            "layout_fingerprint",
            HASH,
            "",
            "is it the same in memory: sizes, offsets, names of members, encodings, and what is "
            "embedded; what a pointer points to counts by kind and name only",
        ),
        Column(
            "declaration_fingerprint",
            HASH,
            "",
            "does it say the same: its own declaration as C reads it, with the spelling of what it "
            "refers to",
        ),
        Column(
            "own_fingerprint",
            HASH,
            "",
            "of a module's type: as `fingerprint`, but a type of the base counts as its id. The "
            "same for types of two modules of this kernel of which one could stand for the other",
        ),
    ),
    result=_RESULT,
    rows=_rows,
    to_arrow=_to_arrow,
    of_base=True,
)
