"""The table ``types``: every type of the base, and the own types of each module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import btf

from .schema import (
    HASH,
    TEXT,
    U8,
    U32,
    U64,
    WORDS,
    Column,
    ModuleTable,
    Objects,
    Rows,
    global_ids,
    kind_words,
    required,
    strings,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .describe import ModuleGroup

_RESULT = (
    *required(kind=U8, name=TEXT, size=U32, bytes=U32, vlen=U32, fingerprint=HASH),
    pa.field("own_fingerprint", HASH),
)


def _rows(group: ModuleGroup) -> Rows:
    if not group.counts.any():
        return group.counts, pa.array([], pa.struct(_RESULT))
    assert group.base is not None
    whole, base = group.whole, group.base.fingerprints
    own: NDArray[np.uint64] | None = None
    if group.is_base:
        fingerprint = base.values[1:]
    else:
        fingerprint, own = btf.both_fingerprints(whole, base)
    columns = btf.columns(whole)
    arrays = [
        pa.array(columns["kind"]),
        strings(*btf.texts(whole, columns["name_off"])),
        pa.array(columns["size"]),
        pa.array(columns["bytes"]),
        pa.array(columns["vlen"]),
        _hashes(fingerprint),
        _hashes(own) if own is not None else pa.nulls(len(fingerprint), HASH),
    ]
    return group.counts, pa.StructArray.from_arrays(arrays, fields=list(_RESULT))


def _hashes(values: NDArray[np.uint64]) -> pa.FixedSizeBinaryArray:
    """Fingerprints as 16 bytes, so that their hexadecimal digits read as the number does."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values.astype(">u8")))]
    return pa.FixedSizeBinaryArray.from_buffers(HASH, len(values), buffers)


def _to_arrow(rows: Mapping[str, pa.Array], objects: Objects) -> Mapping[str, Any]:
    object_id = objects.of_rows()
    type_id = (objects.positions() + objects.start_id).astype(np.uint32)
    return {
        **rows,
        "global_id": global_ids(object_id, type_id),
        "object_id": object_id,
        "type_id": type_id,
        "module": pa.DictionaryArray.from_arrays(object_id.astype(np.int32), objects.names),
        "kind": kind_words(rows["kind"]),
    }


TABLE = ModuleTable(
    name="types",
    rank=30,
    row="one row per type of the base and per own type in a module's split BTF",
    order="object_id, type_id",
    columns=(
        Column("global_id", U64, "", "object_id in the upper 32 bits, type_id in the lower"),
        Column("object_id", U32, "", "0 for the base, else that of the module"),
        Column("type_id", U32, "", "id in the BTF; a module's own ids follow those of the base"),
        Column("module", WORDS, "", "the module; empty for the base"),
        Column("kind", WORDS, "", "BTF kind: INT, PTR, ARRAY, STRUCT, …"),
        Column("name", TEXT, "", "name; empty for anonymous types"),
        Column("size", U32, "bytes", "size of the C type; 0 for kinds that have none"),
        Column("bytes", U32, "bytes", "size of the type's record in the type section"),
        Column("vlen", U32, "", "members, enumerators, parameters or variables"),
        Column(
            "fingerprint",
            HASH,
            "",
            "128-bit structural hash, the same in all modules and kernels for types that no walk "
            "tells apart; a forward declaration differs from the definition",
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
