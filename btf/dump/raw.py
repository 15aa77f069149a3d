"""BTF as text, one type after another: the output of ``bpftool btf dump file``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..arguments import takes
from ..format import kinds
from ..format.text import printable
from ..types.btf import BTF
from ..types.columns import name_byte_limit, too_many_name_bytes
from . import fields
from .fields import KEYS, Names, Record, valid_roots


@takes(btf=BTF)
def dump_raw(btf: BTF, *, roots: Sequence[int] | None = None) -> Iterator[str]:
    """Write the own types as ``bpftool btf dump file`` does, in pieces that end with a line.

    roots   ids of types of any level: only these are written

    Names are ``printable``: what a terminal would obey, and bytes that are no UTF-8, are escaped.
    Raises BtfError where names, each written out, are far larger than the BTF.
    """

    def lines(type_id: int, record: Record, names: Names) -> str:
        kind = record.kind
        if kind > kinds.MAX_KIND:
            return _unknown(btf, type_id, record, names)
        name = names[record.words[record.at]]
        text = _HEAD[kind] % (type_id, name, *fields.HEAD_VALUES[kind](record))
        if record.vlen and kind in _ELEMENT:
            text += "".join(_element_lines(record, names, in_sections))
        return text + "\n"

    known = Names(btf, fields.ANONYMOUS, printable)
    in_sections = _in_sections(btf, known)
    return fields.pieces(btf, lines, known, valid_roots(btf, roots))


def _head_template(kind: int) -> str:
    # bpftool puts a comma between the two facts of a VAR, and of no other kind.
    separator = ", " if kind == kinds.VAR else " "
    facts = separator.join(f"{key}=%s" for key in KEYS[kind].head)
    return f"[%d] {kinds.KIND_NAMES[kind]} '%s' {facts}"


def _element_template(keys: tuple[str, ...]) -> str:
    return "\n\t" + " ".join("'%s'" if key == "name" else f"{key}=%s" for key in keys)


_HEAD = {kind: _head_template(kind) for kind in KEYS}
_ELEMENT = {kind: _element_template(f.element) for kind, f in KEYS.items() if f.elements}
_BITFIELD = _element_template((*KEYS[kinds.STRUCT].element, fields.BITFIELD_SIZE))
_LONG_LONG_SUFFIX = ("ULL", "LL")  # of 64-bit values, by kind_flag


def _element_lines(record: Record, names: Names, in_sections: dict[int, str]) -> list[str]:
    template = _ELEMENT[record.kind]
    if kinds.ENUM_BITS[record.kind] == 64:
        template += _LONG_LONG_SUFFIX[record.kind_flag]
    elif record.kind == kinds.DATASEC:
        return [template % v + in_sections[int(v[0])] for v in fields.elements(record, names)]
    return fields.element_texts(record, names, template, _BITFIELD)


def _in_sections(btf: BTF, names: Names) -> dict[int, str]:
    """Return what is said, by type id, of all that DATASECs hold: its kind and name."""
    said: dict[int, str] = {}
    left = name_byte_limit(btf)
    for at in btf.offsets[np.flatnonzero(btf.own_kinds == kinds.DATASEC)].tolist():
        first, vlen = at + kinds.HEAD_WORDS, int(btf.words[at + 1]) & kinds.INFO_VLEN_MASK
        for type_id in btf.words[first : first + 3 * vlen : 3].tolist():
            if type_id not in said:
                kind, name_off = fields.head_of(btf, type_id)
                said[type_id] = f" ({kind} '{names[name_off]}')"
            left -= len(said[type_id])
            if left < 0:
                raise too_many_name_bytes(btf)
    return said


def _unknown(btf: BTF, type_id: int, record: Record, names: Names) -> str:
    values, words = fields.unknown_record(btf, type_id, record)
    keys = fields.UNKNOWN_KEYS
    facts = " ".join(f"{k}={v}" for k, v in zip(keys.head, values, strict=True))
    listed = ",".join(f"{word:#x}" for word in words)
    name = names[record.words[record.at]]
    return f"[{type_id}] {fields.UNKNOWN_KIND} '{name}' {facts} {keys.elements}={listed}\n"
