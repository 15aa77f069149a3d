"""The core of dedup: arrays in, arrays out, no objects. All ways to deduplicate go through it.

``dedup``, ``dedup_split`` and ``merge`` are layers that take and give ``BTF`` objects;
``dedup_module`` takes what a file held; ``dedup_bytes`` takes and gives bytes, and makes objects
when asked for them. What Python does for a module costs as much as a third of its dedup, once the
compiled functions have had the caches to themselves: hence ``Workspace.call``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import BtfError, UnsupportedError
from . import passes
from .index import BaseIndex
from .signature import UNMAPPED
from .state import BAD_MEMBER, DONE, MORE_FRAMES, MORE_STRINGS, REFERENCE_CYCLE
from .tables import blank_tables, new_scratch
from .workspace import workspace_for


class Kept(NamedTuple):
    """What dedup left of a module: views of the thread's workspace, valid until its next module.

    words    uint32: type section, in this machine's byte order
    offsets  uint32, shape (kept types + 1,): where each type starts
    strings  uint8: string section
    new_ids  uint32, shape (T,): by own type of the input (0-based), its id in the result
    clash    own type of the result (0-based) that shows that the base is another kernel's, see
             ``abi.clashing_struct``; -1 for none
    """

    words: np.ndarray
    offsets: np.ndarray
    strings: np.ndarray
    new_ids: np.ndarray
    clash: int


def dedup_arrays(
    index: BaseIndex,
    words: np.ndarray,
    offsets: np.ndarray,
    strings: np.ndarray,
    *,
    added: bool,
    may_match: bool = True,
    path: str | None = None,
) -> Kept:
    """Deduplicate a module on the indexed base.

    words    uint32: type section in this machine's byte order, of known kinds and sound (``scan``)
    offsets  uint32, shape (T + 1,): where each type starts, see ``scan``
    strings  uint8: string section
    added    whether the input is standalone and to be added to the base, as libbpf does; else it is
             split BTF on the base (or plain, on the index of no base) and deduplicated in place
    may_match  whether to match type graphs before walking them, which changes no result; only
             where ``added``
    path     of the input, for messages

    Raises BtfError or UnsupportedError naming the input's type that stopped it.
    """
    count = len(offsets) - 1
    if index.type_end + count > UNMAPPED - 2:
        raise UnsupportedError("too many types", path, "types")
    workspace = workspace_for(index)
    while True:
        scratch = workspace.reserve(count, len(words), len(strings) + 1)
        call = workspace.call(added, added and may_match)
        call.set_argument(2, words)
        call.set_argument(3, offsets)
        call.set_argument(4, strings)
        code, at, kept, length, text, clash = call()
        if code == DONE:
            return Kept(
                scratch.out[:length],
                scratch.out_offsets[: kept + 1],
                scratch.own_strings[:text],
                scratch.new_ids[:count],
                clash,
            )
        if code == MORE_STRINGS:
            workspace.widen()
        elif code == MORE_FRAMES:
            workspace.deepen()
        else:
            number = at - index.type_end
            raise BtfError(
                _FAULTS[code],
                path,
                "types",
                int(offsets[number]) * 4 if 0 <= number < count else None,
                number + 1 if added else at,
            )


_FAULTS = {
    BAD_MEMBER: "a member reaches a VAR, DATASEC or DECL_TAG, which is no type",
    REFERENCE_CYCLE: "pointers and modifiers refer to each other in a circle",
}


def prepare() -> None:
    """Compile the core, which takes longer than all other compiled functions together."""
    word, text = np.zeros(1, np.uint32), np.zeros(1, np.uint8)
    scratch = new_scratch(word, types=1, words=1, frames=1, text=1)
    passes.dedup_whole.prepare(  # type: ignore[attr-defined]
        blank_tables(), scratch, word, word, text, True, True
    )
