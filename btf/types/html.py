"""Types and BTF as HTML, for notebooks: what ``repr`` says, and a table. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ..format import kinds
from ..format.text import printable
from .c_text import c_definition, member_text
from .objects import AnyEnum, Composite, Datasec

if TYPE_CHECKING:
    from .btf import BTF
    from .typebase import Type

MAX_ROWS = 1000  # of one table


def type_html(found: Type) -> str:
    """Show a type: of a struct or union where each member lies, else as C writes it."""
    if isinstance(found, Composite):
        columns: tuple[str, ...] = ("offset", "bits", "member")
        rows: Iterable[Sequence[object]] = (
            (member.byte_offset, member.bitfield_size or "", member_text(member))
            for member in found.members
        )
    elif isinstance(found, AnyEnum):
        columns, rows = ("value", "name"), ((value.value, value.name) for value in found.values)
    elif isinstance(found, Datasec):
        columns = ("offset", "size", "variable")
        rows = ((entry.offset, entry.size, entry.type.name) for entry in found.entries)
    else:
        text = "\n".join(map(printable, c_definition(found).split("\n")))
        return f"{_title(found)}<pre>{escape(text)}</pre>"
    return _title(found) + _table(columns, rows, found.vlen)


def btf_html(btf: BTF) -> str:
    """Show a BTF: how many own types there are of each kind, and the bytes of their records."""
    counts = np.bincount(btf.own_kinds, minlength=kinds.KIND_COUNT)
    sizes = np.bincount(btf.own_kinds, np.diff(btf.offsets) * 4, minlength=kinds.KIND_COUNT)
    there = sorted(np.flatnonzero(counts).tolist(), key=lambda kind: -sizes[kind])
    names = dict(enumerate(kinds.KIND_NAMES))
    rows = ((names.get(k, f"KIND_{k}"), f"{counts[k]:,}", f"{int(sizes[k]):,}") for k in there)
    return _title(btf) + _table(("kind", "types", "bytes"), rows, len(there))


def _title(of: object) -> str:
    return f"<div><code>{escape(printable(repr(of)))}</code></div>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]], count: int) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    parts = [f"<table><thead><tr>{head}</tr></thead><tbody>"]
    for row in islice(rows, MAX_ROWS):
        cells = (f"<td>{escape(printable(str(value)))}</td>" for value in row)
        parts.append(f"<tr>{''.join(cells)}</tr>")
    if count > MAX_ROWS:
        left = count - MAX_ROWS
        parts.append(f'<tr><td colspan="{len(columns)}">… and {left:,} more</td></tr>')
    return "".join([*parts, "</tbody></table>"])
