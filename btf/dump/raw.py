"""BTF as text, one type after another: the output of ``bpftool btf dump file``."""

from __future__ import annotations

from collections.abc import Iterator

from ..format import kinds
from ..types.btf import BTF
from . import fields
from .fields import KEYS, Names, Record


def dump_raw(btf: BTF) -> Iterator[str]:
    """Write the own types as ``bpftool btf dump file`` does, in pieces that end with a line.

    Encode the text with ``errors="surrogateescape"``: names are bytes, and so bytes that are no
    UTF-8 come out as they went in.
    """

    def lines(type_id: int, record: Record, names: Names) -> str:
        kind = record.kind
        if kind > kinds.MAX_KIND:
            return _unknown(btf, type_id, record, names)
        name = names[record.words[record.at]]
        text = _HEAD[kind] % (type_id, name, *fields.HEAD_VALUES[kind](record))
        if record.vlen and kind in _ELEMENT:
            text += "".join(_element_lines(btf, record, names))
        return text + "\n"

    return fields.pieces(btf, lines, Names(btf, fields.ANONYMOUS))


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


def _element_lines(btf: BTF, record: Record, names: Names) -> list[str]:
    template = _ELEMENT[record.kind]
    if kinds.ENUM_BITS[record.kind] == 64:
        template += _LONG_LONG_SUFFIX[record.kind_flag]
    elif record.kind == kinds.DATASEC:
        return [
            template % v + _named(btf, int(v[0]), names) for v in fields.elements(record, names)
        ]
    return fields.element_texts(record, names, template, _BITFIELD)


def _named(btf: BTF, type_id: int, names: Names) -> str:
    kind, name_off = fields.head_of(btf, type_id)
    return f" ({kind} '{names[name_off]}')"


def _unknown(btf: BTF, type_id: int, record: Record, names: Names) -> str:
    values, words = fields.unknown_record(btf, type_id, record)
    keys = fields.UNKNOWN_KEYS
    facts = " ".join(f"{k}={v}" for k, v in zip(keys.head, values, strict=True))
    listed = ",".join(f"{word:#x}" for word in words)
    name = names[record.words[record.at]]
    return f"[{type_id}] {fields.UNKNOWN_KIND} '{name}' {facts} {keys.elements}={listed}\n"
