"""Whether a result of dedup is that of a module: what is known of both is compared."""

from __future__ import annotations

import numpy as np

from ..arguments import require
from ..compiled.jit import compiled
from ..deduplication.deduplicate import DedupResult
from ..deduplication.index import BaseIndex
from ..edit.append import require_known_kinds
from ..errors import BtfError, WrongBaseError
from ..format.kinds import FWD, is_enum, kind_of
from ..format.strings import common_string
from ..types.btf import BTF


def check_related(source: BTF, result: DedupResult, index: BaseIndex) -> None:
    """Raise an error unless ``result`` can be what dedup made of ``source`` on the indexed base:
    every type has become one of its name and kind, or a declaration the definition, and there is
    no type that none has become."""
    split, id_map = result.btf, result.id_map
    bases = [level.base for level in (split, source) if level is split or level.base is not None]
    if not all(base is not None and index.is_of(base) for base in bases):
        raise WrongBaseError("the index is not that of the module's base", source.path)
    for level in (source, split):
        require_known_kinds(level, "compared")
    require(id_map, np.ndarray, "id_map")
    related = id_map.dtype == np.uint32 and id_map.shape == (source.type_end,)
    if related:
        seen = np.zeros(split.type_count, np.uint8)
        related = _is_related(
            source.words, source.offsets, source.chain_strings,
            np.ascontiguousarray(id_map[source.start_id :]),
            split.words, split.offsets, split.chain_strings,
            index.words, index.starts, index.type_end, seen,
        ) and bool(seen.all())  # fmt: skip
    if not related:
        raise BtfError("the result is not that of this module", source.path)


@compiled
def _is_related(  # type: ignore[no-untyped-def]
    words, offsets, strings, after,
    own_words, own_offsets, own_strings, base_words, base_starts, first_own, seen,
):  # fmt: skip
    """Whether T types have become types of their names and kinds.

    words, offsets            uint32: the types as they were, as in ``BTF``
    strings, own_strings      uint8: those of all levels, before and after
    after                     uint32 (T,): what each type has become: any numbers
    own_words, own_offsets    uint32: the own types after dedup, as in ``BTF``
    base_words, base_starts   uint32: the base's types, as in ``BaseIndex``
    first_own                 id of the first own type
    seen                      uint8, zeroed, by own type after dedup: out, whether one became it
    """
    for index in range(len(after)):
        now = np.int64(after[index])
        if now <= 0 or now >= first_own + len(seen):
            return False
        at = np.int64(offsets[index])
        if now >= first_own:
            seen[now - first_own] = 1
            start = np.int64(own_offsets[now - first_own])
            name, kind = own_words[start], kind_of(own_words[start + 1])
        else:
            start = np.int64(base_starts[now])
            name, kind = base_words[start], kind_of(base_words[start + 1])
        before = kind_of(words[at + 1])
        if before != FWD and before != kind and not (is_enum(before) and is_enum(kind)):
            return False
        if common_string(strings, np.int64(words[at]), own_strings, np.int64(name)) < 0:
            return False
    return True
