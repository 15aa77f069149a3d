"""Writing types anew on top of another layer: their records, references and strings."""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..edit.append import StringPool
from ..edit.fields import fields, gather
from ..format.header import check_total
from ..format.strings import find_string, hash_string, seed_of
from ..types.btf import BTF, freeze


class LayerMaker:
    """A new layer on ``base``, out of types of BTF that have the first levels of ``base``'s chain.

    Types keep the order in which they are added. A string is looked for in every level of the
    chain, the first one first, then among the new ones.
    """

    def __init__(self, base: BTF, like: BTF) -> None:
        """Begin an empty layer with byte order, flags and layout section of ``like``."""
        self._base = base
        self._like = like
        self._levels = base.levels
        self._pool = StringPool(None)  # begins with an empty string, which the layer has not
        self._words: list[np.ndarray] = []
        self._ends: list[np.ndarray] = [np.zeros(1, np.uint32)]
        self._length = 0

    def add(self, source: BTF, own: np.ndarray, id_map: np.ndarray) -> None:
        """Append types of ``source``.

        own     int64: which of its own types (0-based), in the order wanted
        id_map  uint32: by id in ``source`` (void and its base included), the id here
        """
        words, offsets = gather(source.words, source.offsets[own], source.offsets[own + 1])
        names, refs = fields(words, offsets[:-1], offsets[1:])
        words[refs] = id_map[words[refs]]
        names = names[words[names] >= max(1, source.start_str_off)]
        words[names] = self._strings(source, words[names])
        self._words.append(words)
        self._ends.append(offsets[1:] + np.uint32(self._length))
        self._length += len(words)
        str_end = self._base.str_end + self._pool.end - 1
        check_total(0, self._base.words_end + self._length, str_end, source.path)

    def _strings(self, source: BTF, offsets: np.ndarray) -> np.ndarray:
        """Global offsets here for global offsets of own strings of ``source``."""
        unique, first, inverse = np.unique(offsets, return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        starts = unique[order].astype(np.int64) - source.start_str_off
        found = np.full(len(starts), -1, np.int64)
        for level in self._levels:
            table = level.own_strings
            _look_up(starts, source.strings, table.strings, table.slots, level.start_str_off, found)
        new = found < 0
        if np.any(new):
            start = self._base.str_end - 1
            found[new] = self._pool.add_all(starts[new], source.strings).astype(np.int64) + start
        placed = np.empty(len(unique), np.uint32)
        placed[order] = found
        return placed[inverse]

    def build(self) -> BTF:
        """The layer."""
        like = self._like
        return BTF(
            words=freeze(np.concatenate([np.zeros(0, np.uint32), *self._words])),
            offsets=freeze(np.concatenate(self._ends)),
            strings=freeze(self._pool.own_strings[1:]),
            base=self._base,
            byteorder=like.byteorder,
            flags=like.flags,
            layout=like.layout,
            path=like.path,
            sound=True,
        )


@compiled
def _look_up(starts, source, strings, slots, start_off, found):  # type: ignore[no-untyped-def]
    """Look strings of ``source`` up in the own strings of a level.

    starts   int64: where each begins in ``source``
    strings, slots   of the level's ``own_strings``
    found    int64, shape of ``starts``: set to the global offset where it is negative and the level
             (whose first string has the offset ``start_off``) has the string; the empty one is 0
    """
    for i in range(len(starts)):
        if found[i] < 0:
            if source[starts[i]] == 0:
                found[i] = 0
            else:
                h, _ = hash_string(source, starts[i], seed_of(slots))
                offset = find_string(strings, slots, source, starts[i], h)
                if offset >= 0:
                    found[i] = offset + start_off


def rebase(module: BTF, base: BTF, targets: np.ndarray) -> tuple[BTF, np.ndarray]:
    """``module`` on ``base``, without the types that ``base`` has, and its types' new ids.

    base     continues the base of ``module``, or is it
    targets  uint32, one per own type: its id in ``base``; 0 for a type to keep

    The ids are uint32, one per own type of ``module``.
    """
    maker = LayerMaker(base, module)
    kept = np.flatnonzero(targets == 0)
    id_map = np.arange(module.type_end, dtype=np.uint32)
    own = id_map[module.start_id :]
    own[:] = targets
    own[kept] = np.arange(base.type_end, base.type_end + len(kept), dtype=np.uint32)
    maker.add(module, kept, id_map)
    return maker.build(), freeze(own.copy())  # not with the base's part of the map
