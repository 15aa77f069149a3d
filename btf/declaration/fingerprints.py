"""Fingerprints of declarations and of layouts, of all types of a BTF.

Three questions are asked of two types of one name, and each has a fingerprint of its own:

* are they the same in every respect? ``fingerprint.fingerprints``, the deep one, sees all that any
  walk can see; one changed struct changes it for everything that leads there;
* was this very type changed? ``declaration``: the type's own declaration as C reads it, with the
  spelling of what it refers to, see ``spelled``;
* does a program that was compiled with the one work with the other? ``layout``: what lies in
  memory, through whatever is embedded, see ``laid_out``.

A type whose declaration changed is a cause; one that only its layout tells apart embeds a cause;
one that only the deep fingerprint tells apart leads to one by pointers. Type ids, the order of
types, byte order and what else is in the file do not count.

The spellings themselves are written where asked for, see ``written``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from ..arguments import brief_repr, takes
from ..errors import WrongBaseError
from ..fingerprint.fingerprints import BaseFingerprints, both_with_record_hashes, graph_memory
from ..fingerprint.hashing import LAYOUT
from ..fingerprint.record_hashes import read_records
from ..types.btf import BTF, freeze, unknown_kind_error
from .laid_out import declare_types
from .spelled import spell_types
from .values import VOID, Values
from .written import Texts, in_order, write_texts


@dataclass(frozen=True, eq=False)
class Declarations:
    """The two fingerprints of a BTF's types, and what is needed to work out those of split BTF.

    values   a row for each type id of plain BTF, void included; for each own type of split BTF
    str_end  of the BTF, to tell another one
    texts    how C spells each of them, if that was asked for
    """

    __repr__ = brief_repr

    values: Values
    str_end: int
    texts: Texts | None = None

    @property
    def declaration(self) -> np.ndarray:
        """Fingerprints of declarations: uint64, two columns (upper and lower half)."""
        return self.values.declaration

    @cached_property
    def layout(self) -> np.ndarray:
        """Fingerprints of layouts: uint64, two columns (upper and lower half)."""
        return np.ascontiguousarray(self.values.hashes[:, LAYOUT:])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: what sharing them costs once per machine."""
        return sum(column.nbytes for column in (*self.values, *(self.texts or ())))

    def spellings(self) -> tuple[np.ndarray, np.ndarray]:
        """How C spells each type, in Arrow's layout: (ends int32 (n + 1,), data uint8).

        Of a function its whole prototype, of a variable its declaration, with names; a longer text
        than ``MAX_SPELLING_BYTES`` is cut there and ends in ``…``. Empty for sections and tags of
        declarations. Raises ValueError where they were not asked for.
        """
        if self.texts is None:
            raise ValueError("these were made without spellings: declarations(btf, spell=True)")
        return in_order(self.texts)


@takes(btf=BTF, base=(Declarations, type(None)), spell=bool)
def declarations(
    btf: BTF, base: Declarations | None = None, *, spell: bool = False
) -> Declarations:
    """Fingerprint declarations and layouts of the types that a BTF itself holds.

    base   of all levels that ``btf`` continues: ``declarations(btf.base.flat)``; made here, and
           thrown away, when None
    spell  whether to write how C spells each of them; ``base``, if given, has that too then

    Raises UnsupportedError when there are kinds that only a layout section describes,
    WrongBaseError when ``base`` is not that of ``btf``, BtfError for spellings of more than 2 GB.
    """
    return _declared(btf, base, spell, lambda hashes: read_records(hashes, *_source(btf)))[0]


@takes(base=BTF, spell=bool)
def fingerprint_base(base: BTF, *, spell: bool = False) -> tuple[BaseFingerprints, Declarations]:
    """All three fingerprints of a base, for less than ``BaseFingerprints.build(base)`` and
    ``declarations(base.flat)`` one after the other.

    spell  see ``declarations``, which says what is raised too
    """
    build = partial(BaseFingerprints.build_with_record_hashes, base)
    declared, known = _declared(base.flat, None, spell, build)
    return known, declared


@takes(btf=BTF, base=BaseFingerprints, declared=Declarations, spell=bool)
def all_fingerprints(
    btf: BTF, base: BaseFingerprints, declared: Declarations, *, spell: bool = False
) -> tuple[np.ndarray, np.ndarray, Declarations]:
    """``both_fingerprints`` and ``declarations`` of split BTF, for less than one after the other.

    base, declared  what ``fingerprint_base`` found of the base
    spell           see ``declarations``, which says what is raised too

    Returns fingerprints, own fingerprints and declarations.
    """
    found, both = _declared(btf, declared, spell, partial(both_with_record_hashes, btf, base))
    return *both, found


_T = TypeVar("_T")


def _declared(
    btf: BTF, base: Declarations | None, spell: bool, fill: Callable[[np.ndarray], _T]
) -> tuple[Declarations, _T]:
    """What ``declarations`` returns, and what ``fill`` does, which is to fill an array as
    ``record_hashes.read_records`` does."""
    for level in btf.levels:
        if level.has_unknown_kinds:
            raise unknown_kind_error(level)
    flat = btf if btf.base is None else btf.base.flat
    if btf.base is None:
        values = Values.of(btf.type_count + 1)
        below, own = _with_void(values), values.rows(1)
        base_texts: Texts | None = Texts.of_void()
    else:
        known = base or declarations(flat, spell=spell)
        if (len(known.values.marks), known.str_end) != (btf.start_id, btf.start_str_off):
            raise WrongBaseError(
                "the fingerprints are not those of the base that this BTF was read on", btf.path
            )
        below, values = known.values, Values.of(btf.type_count)
        own, base_texts = values, known.texts
    result = fill(own.hashes)
    source = _source(btf)
    # No record has more references than words after the second.
    references = len(btf.words) - 2 * btf.type_count
    graph = graph_memory(btf.type_count, references, btf.path)
    ordered = spell_types(below, own, btf.start_id, btf.type_count, graph, *source)
    texts = None
    if spell:
        if base_texts is None:
            raise ValueError(
                "the base's were made without spellings: declarations(base, spell=True)"
            )
        texts = write_texts(btf, flat, below, own, base_texts, graph, ordered)
    declare_types(below, own, btf.start_id, btf.type_count, graph, *source)
    return Declarations(values, btf.str_end, texts), result


def _source(btf: BTF) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Records, where each begins, strings of what ``btf`` continues, and the own ones."""
    base_strings = btf.base.chain_strings if btf.base is not None else btf.strings[:0]
    return btf.words, btf.offsets, freeze(base_strings), btf.strings


def _with_void(values: Values) -> Values:
    """Fill the first row, which is void's, and return the values of this row alone."""
    values.declaration[0] = VOID
    values.hashes[0] = VOID * 2
    values.length[0] = values.many[0] = 1
    values.inner[0] = values.element[0] = values.marks[0] = 0
    return Values._make(column[:1] for column in values)
