"""BTF as JSON: the output of ``bpftool -j btf dump file``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain

from ..arguments import takes
from ..format import kinds
from ..types.btf import BTF
from . import fields
from .fields import KEYS, Names, Record, valid_roots

# bpftool escapes these and nothing else.
_ESCAPES = str.maketrans(
    {
        "\t": r"\t",
        "\n": r"\n",
        "\r": r"\r",
        "\f": r"\f",
        "\b": r"\b",
        "\\": r"\\",
        '"': r"\"",
    }
)


def _string(name: bytes) -> str:
    r"""Return what stands between the quotes of a JSON string.

    Bytes that are no UTF-8 are told by name, as ``\\xff`` (in all tables too); what is not
    printable is escaped. bpftool leaves both as they are.
    """
    text = name.decode("utf-8", "backslashreplace").translate(_ESCAPES)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


@takes(btf=BTF)
def dump_json(btf: BTF, *, roots: Sequence[int] | None = None) -> Iterator[str]:
    """Write the own types as ``bpftool -j btf dump file`` does: one line of JSON, in pieces.

    roots   ids of types of any level: only these are written

    Where bpftool writes no JSON, validity wins: see ``_string``. Raises BtfError as ``dump_raw``.
    """

    def entry(type_id: int, record: Record, names: Names) -> str:
        kind = record.kind
        if kind > kinds.MAX_KIND:
            return _unknown(btf, type_id, record, names)
        name = names[record.words[record.at]]
        text = _HEAD[kind] % (type_id, name, *fields.HEAD_VALUES[kind](record))
        if kind in _ELEMENT:
            text += f"{','.join(_elements(record, names))}]}}"
        return text

    names = Names(btf, fields.ANONYMOUS, _string)
    types = fields.pieces(btf, entry, names, valid_roots(btf, roots), separator=",")
    return chain(['{"types":['], types, ["]}\n"])


_TEXT = {"name", "encoding", "linkage", "fwd_kind"}  # all other values are numbers


def _pairs(keys: tuple[str, ...]) -> str:
    return ",".join(f'"{key}":"%s"' if key in _TEXT else f'"{key}":%s' for key in keys)


def _head_template(kind: int) -> str:
    keys = KEYS[kind]
    end = f',"{keys.elements}":[' if keys.elements else "}"
    return f'{{"id":%d,"kind":"{kinds.KIND_NAMES[kind]}","name":"%s",{_pairs(keys.head)}{end}'


def _element_template(keys: tuple[str, ...]) -> str:
    return f"{{{_pairs(keys)}}}"


_HEAD = {kind: _head_template(kind) for kind in KEYS}
_ELEMENT = {kind: _element_template(f.element) for kind, f in KEYS.items() if f.elements}
_BITFIELD = _element_template((*KEYS[kinds.STRUCT].element, fields.BITFIELD_SIZE))
_SIGN_BITS = 0xFFFFFFFF_00000000


def _elements(record: Record, names: Names) -> list[str]:
    template = _ELEMENT[record.kind]
    if kinds.ENUM_BITS[record.kind] == 32 and not record.kind_flag:
        # bpftool extends the sign of an unsigned 32-bit value: 0xffffffff becomes 2**64 - 1.
        values = ((name, int(value)) for name, value in fields.elements(record, names))
        return [template % (name, v | _SIGN_BITS if v >> 31 else v) for name, v in values]
    return fields.element_texts(record, names, template, _BITFIELD)


def _unknown(btf: BTF, type_id: int, record: Record, names: Names) -> str:
    values, words = fields.unknown_record(btf, type_id, record)
    name = names[record.words[record.at]]
    # "kind" says UNKNOWN, so the number needs another key.
    facts = dict(zip(("kind_number", *fields.UNKNOWN_KEYS.head[1:]), values, strict=True))
    rest = json.dumps({**facts, fields.UNKNOWN_KEYS.elements: words}, separators=(",", ":"))
    return f'{{"id":{type_id},"kind":"{fields.UNKNOWN_KIND}","name":"{name}",{rest[1:]}'
