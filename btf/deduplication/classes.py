"""Classes of types that a walk could find equal: what bounds the search among hostile candidates.

libbpf tries every candidate of a type, each by a walk: for many structs or typedefs of one name
that differ only far away from where they begin, that is cubic. Once a module has taken more steps
than real ones do, its types and the base's are put into classes by partition refinement
(``fingerprint.refine``, O(m log n) for m references), and the module begins again. From then on a
type's candidates are those of its signature and its class.

That changes no result: types that dedup may call equal are in one class. Whatever takes part in a
walk that succeeds agrees word for word, reference by reference, but for two things, and there a
class looks at the kind and the name only and not further:

* a struct or union of whose name there is a forward declaration, in the base or the module, and
  that declaration itself;
* an enum of whose name there is a forward one, and that.

The order of the candidates that are left is libbpf's.

Parameters used throughout:

base, scratch  see ``tables``
own       uint32: the module's words in the base's numbering
at        position of a type's first word, see ``signature.word_at``
declared, forward_enums   uint64: tables of names (``hash_tables``): of what there are forward
          declarations, and forward enums
p         ``Partition``: its nodes are all types of base and module, by type id
"""

from __future__ import annotations

import numpy as np

from ..compiled.huge_pages import power_of_two
from ..compiled.jit import compiled, drop_flattened
from ..fingerprint.hashing import absorb, finish, start
from ..fingerprint.refine import Partition, refine
from ..format.kinds import (
    ELEMENT_REF,
    ELEMENT_WORDS,
    ENUM,
    FIXED_REFS,
    FIXED_WORDS,
    FWD,
    HEAD_IS_REF,
    HEAD_WORDS,
    INFO_VLEN_MASK,
    STRUCT,
    UNION,
    is_enum,
    kind_of,
)
from ..format.records import reference_count, reference_word
from ..format.strings import seed_of
from .hash_tables import enter_name, find_name
from .index import group_types
from .signature import START, mix, signature, word_at
from .state import CLASSIFIED
from .tables import BaseTables, Scratch

# Where a label begins.
_BY_NAME = np.uint64(1)  # of kind and name alone
_WHOLE = np.uint64(2)

_31 = np.uint32(31)


@compiled
def candidate_key(base, own, scratch, type_id):  # type: ignore[no-untyped-def]
    """Key of the candidates of a struct, union or typedef (``type_id``): uint64."""
    h = signature(base.words, own, scratch.records, type_id, seed_of(base.string_slots))
    if scratch.state[CLASSIFIED]:
        h = mix(h, scratch.classes[type_id])
    return h


def classify(base: BaseTables, scratch: Scratch, types: int) -> BaseTables:
    """Fill ``scratch.classes`` for a module of that many types, which is in ``scratch.own``.

    Returns ``base`` with its candidates grouped by signature and class.
    """
    nodes = base.type_end + types
    declared, forward_enums = (np.zeros(power_of_two(2 * nodes), np.uint64) for _ in range(2))
    references = _note_names(base, scratch, nodes, declared, forward_enums)
    p = Partition.of(nodes, references)
    _load(base, scratch, nodes, declared, forward_enums, p)
    refine(p, nodes, False)
    drop_flattened(p)
    scratch.classes[:nodes] = p.class_of
    records = scratch.records[: base.type_end]
    seed = base.string_slots[-1]
    return base._replace(**group_types(base.words, records, seed, scratch.classes))


@compiled
def _note_names(base, scratch, nodes, declared, forward_enums):  # type: ignore[no-untyped-def]
    """Fill ``declared`` and ``forward_enums``, empty tables; returns how many references there are
    in all ``nodes`` types."""
    seed = seed_of(base.string_slots)
    references = np.int64(0)
    for type_id in range(1, nodes):
        at = np.int64(scratch.records[type_id, START])
        info = word_at(base.words, scratch.own, at + 1)
        kind = kind_of(info)
        if kind == FWD:
            enter_name(declared, word_at(base.words, scratch.own, at), type_id, seed)
        elif is_enum(kind) and info & INFO_VLEN_MASK == 0:
            enter_name(forward_enums, word_at(base.words, scratch.own, at), type_id, seed)
        references += reference_count(info)
    return references


@compiled
def _counts_by_name(base, own, at, declared, forward_enums):  # type: ignore[no-untyped-def]
    """The kind that a type counts as if nothing counts but that and its name; else 0."""
    info = word_at(base.words, own, at + 1)
    kind = kind_of(info)
    seed = seed_of(base.string_slots)
    if kind == FWD:
        return UNION if info >> _31 else STRUCT
    if kind == STRUCT or kind == UNION:
        return kind if find_name(declared, word_at(base.words, own, at), seed) >= 0 else 0
    if is_enum(kind):
        return ENUM if find_name(forward_enums, word_at(base.words, own, at), seed) >= 0 else 0
    return 0


@compiled
def _label(base, own, at):  # type: ignore[no-untyped-def]
    """Hash of all words of a record that are no type ids."""
    words = base.words
    info = word_at(words, own, at + 1)
    kind = kind_of(info)
    a, b = start(_WHOLE, np.uint64(info))
    a, b = absorb(a, b, np.uint64(word_at(words, own, at)))
    if not HEAD_IS_REF[kind]:
        a, b = absorb(a, b, np.uint64(word_at(words, own, at + 2)))
    body = at + HEAD_WORDS
    for word in range(body + FIXED_REFS[kind], body + FIXED_WORDS[kind]):
        a, b = absorb(a, b, np.uint64(word_at(words, own, word)))
    stride = np.int64(ELEMENT_WORDS[kind])
    body += FIXED_WORDS[kind]
    if stride > 0:
        for _ in range(np.int64(info & INFO_VLEN_MASK)):
            for part in range(stride):
                if part != ELEMENT_REF[kind]:
                    a, b = absorb(a, b, np.uint64(word_at(words, own, body + part)))
            body += stride
    return finish(a, b)


@compiled
def _load(base, scratch, nodes, declared, forward_enums, p):  # type: ignore[no-untyped-def]
    """Fill ``p`` with labels and references of all ``nodes`` types."""
    own = scratch.own
    for node in range(nodes + 2):
        p.in_first[node] = 0
    for fill in range(2):
        for node in range(nodes):
            at = np.int64(scratch.records[node, START])
            kind = _counts_by_name(base, own, at, declared, forward_enums)
            if fill == 0:
                if kind > 0:
                    a, b = start(_BY_NAME, np.uint64(kind))
                    a, b = absorb(a, b, np.uint64(word_at(base.words, own, at)))
                    a, b = finish(a, b)
                else:
                    a, b = _label(base, own, at)
                p.colours[node, 0], p.colours[node, 1] = a, b
            if kind > 0:
                continue
            info = word_at(base.words, own, at + 1)
            for number in range(reference_count(info)):
                child = np.int64(word_at(base.words, own, at + reference_word(info, number)))
                if fill == 0:
                    p.in_first[child + 2] += 1
                else:
                    edge = p.in_first[child + 1]
                    p.in_first[child + 1] += 1
                    p.in_edges[edge, 0], p.in_edges[edge, 1] = node, number
        if fill == 0:
            for node in range(nodes + 1):
                p.in_first[node + 1] += p.in_first[node]
