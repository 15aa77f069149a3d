"""The core of dedup: arrays in, arrays out, no objects. All ways to deduplicate go through it.

``dedup``, ``dedup_split`` and ``merge`` are layers that take and give ``BTF`` objects;
``dedup_module`` takes what a file held; ``dedup_bytes`` takes and gives bytes, and makes objects
when asked for them. What Python does for a module costs as much as a third of its dedup, once the
compiled functions have had the caches to themselves: hence ``Workspace.call``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..compiled.jit import PreparedCall, drop_flattened
from ..compiled.target import CHECKED
from ..compiled.workspaces import per_thread, release_workspaces
from ..edit.append import more_text
from ..errors import BtfError, UnsupportedError
from ..format.header import check_total, kind_words
from ..format.kinds import HEAD_WORDS
from ..format.scan import UNSOUND, scan
from . import passes
from .classes import classify
from .index import BaseIndex
from .signature import EPOCH
from .state import (
    BAD_MEMBER,
    CLASSIFIED,
    CROWDED,
    CURRENT_EPOCH,
    DONE,
    ENOUGH_STEPS,
    MORE_FRAMES,
    MORE_STRINGS,
    NESTED_ARRAYS,
    REFERENCE_CYCLE,
    STEPS,
    TOO_ALIKE,
)
from .tables import Scratch, blank_tables, cut_to_size, new_scratch

# Frames of walks, for each type, that a module may need. Real ones need less than one.
FRAMES_PER_TYPE = 4
MAX_EPOCHS = 1 << 31  # walks since the epochs in ``records``, which are uint32, began at 0

_NO_WORDS, _NO_BYTES = np.zeros(0, np.uint32), np.zeros(0, np.uint8)


class Workspace:
    """Scratch memory for dedup against one base. One per thread, see ``workspace_for``.

    Rows of base types are filled once; a module's rows follow them. What a module changes in the
    base's rows is undone after it, so that its cost does not depend on the base. The arguments of
    the two compiled functions that each module goes through are laid out once: laying them out
    takes 20 µs a call.
    """

    def __init__(self, index: BaseIndex) -> None:
        self.index = index
        self._calls: dict[tuple[bool, bool], PreparedCall] = {}
        self._scan = PreparedCall(scan, _NO_WORDS, kind_words(b""), 1, 0, _NO_WORDS)
        self._scratch: Scratch | None = None
        self._cut: Scratch | None = None  # where indices are checked: as large as a module needs
        self._offsets = np.empty(0, np.uint32)
        self._types = self._words = self._frames = self._text = self._own_text = 0
        # Room for all modules but the largest.
        self._resize(1 << 14, 1 << 18, 1 << 12, 1 << 19)

    def _resize(
        self, types: int = 0, words: int = 0, frames: int = 0, text: int = 0, own_text: int = 0
    ) -> None:
        """Have more room. After a MemoryError there is none at all: see ``dedup_arrays``."""
        self._types = max(types, self._types)
        self._words = max(words, self._words)
        self._frames = max(frames, self._frames)
        self._text = max(text, self._text)
        self._own_text = max(text, own_text, self._own_text)
        if self._scratch is not None:
            drop_flattened(self._scratch)
        self._calls.clear()
        self._scratch = None  # before there is more
        self._scratch = new_scratch(
            self.index.starts, self._types, self._words, self._frames, self._text, self._own_text
        )

    def reserve(self, types: int, words: int, text: int) -> Scratch:
        """Room for a module of that many types, words of types and bytes of strings."""
        if types > self._types or words > self._words or text > self._text:
            self._resize(2 * types, 2 * words, 0, 2 * text)
        assert self._scratch is not None
        state = self._scratch.state
        if state[CURRENT_EPOCH] > MAX_EPOCHS:
            self._scratch.records[:, EPOCH] = 0
            state[CURRENT_EPOCH] = 0
        if CHECKED:
            self._calls.clear()
            self._cut = cut_to_size(self._scratch, types, words, text)
            return self._cut
        return self._scratch

    def deepen(self, limit: int) -> bool:
        """Make room for walks that go deeper, up to so many frames; False at that limit."""
        before = len(self._scratch.frames) if self._scratch is not None else 0
        if before < limit:
            self._resize(frames=min(4 * before, limit))
        return before < limit

    def widen(self, source_bytes: int, path: str | None) -> None:
        """Make room for more new strings of a module: see ``append.more_text``."""
        self._resize(own_text=more_text(self._own_text, source_bytes, path))

    def scan(self, words: np.ndarray, string_bytes: int) -> np.ndarray | None:
        """Check the types of a standalone module, as ``scan_types``. The offsets are valid until
        the next call."""
        room = len(words) // HEAD_WORDS + 1
        if room > len(self._offsets):
            self._offsets = np.empty(2 * room, np.uint32)
            self._scan.set_arrays(4, self._offsets)
        self._scan.set_arrays(0, words)
        self._scan.set_argument(3, string_bytes)
        count = self._scan()
        return None if count == UNSOUND else self._offsets[: count + 1]

    def call(self, added: bool, may_match: bool) -> PreparedCall:
        """``passes.dedup_whole`` on this memory: arguments 2 to 4 are to be put."""
        found = self._calls.get((added, may_match))
        if found is None:
            found = self._calls[added, may_match] = PreparedCall(
                passes.dedup_whole, self.index.tables, self._cut or self._scratch,
                _NO_WORDS, _NO_WORDS, _NO_BYTES, added, may_match,
            )  # fmt: skip
        return found

    def call_classified(
        self,
        words: np.ndarray,
        offsets: np.ndarray,
        strings: np.ndarray,
        added: bool,
        may_match: bool,
    ) -> tuple[int, int, int, int, int, int]:
        """Call ``passes.dedup_whole`` once more, after it found the module CROWDED."""
        scratch = self._cut or self._scratch
        assert scratch is not None
        tables = classify(self.index.tables, scratch, len(offsets) - 1)
        scratch.state[CLASSIFIED] = 1
        try:
            call = PreparedCall(
                passes.dedup_whole, tables, scratch, words, offsets, strings, added, may_match
            )
            found: tuple[int, int, int, int, int, int] = call()
            return found
        finally:
            scratch.state[CLASSIFIED] = 0
            drop_flattened(tables)


def workspace_for(index: BaseIndex) -> Workspace:
    """This thread's workspace for ``index``; the one of the last index is kept."""
    workspace = getattr(per_thread, "dedup", None)
    if workspace is None or workspace.index is not index:
        workspace = per_thread.dedup = Workspace(index)
    return workspace


class Kept(NamedTuple):
    """What dedup left of a module: views of the thread's workspace, valid until its next module.

    words    uint32: type section, in this machine's byte order
    offsets  uint32, shape (kept types + 1,): where each type starts
    strings  uint8: string section
    new_ids  uint32, shape (T,): by own type of the input (0-based), its id in the result
    clash    own type of the result (0-based) that shows that the base is another kernel's, see
             ``passes.clashing_struct``; -1 for none
    nested   whether any array among them has arrays as elements, of an input that was ``added``
    steps    of walks beyond ENOUGH_STEPS for each type: 0 for modules of compilers
    """

    words: np.ndarray
    offsets: np.ndarray
    strings: np.ndarray
    new_ids: np.ndarray
    clash: int
    nested: bool
    steps: int


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

    Raises BtfError or UnsupportedError naming the input's type that stopped it. After whatever
    else is raised, a MemoryError for one, the thread begins its next module with new memory.
    """
    count = len(offsets) - 1
    check_total(
        index.type_end + count, len(index.words) + len(words), index.str_end + len(strings), path
    )
    try:
        workspace = workspace_for(index)
        while True:
            scratch = workspace.reserve(count, len(words), len(strings) + 1)
            call = workspace.call(added, added and may_match)
            call.set_arrays(2, words, offsets, strings)
            code, at, kept, length, text, clash = call()
            if code == CROWDED:
                code, at, kept, length, text, clash = workspace.call_classified(
                    words, offsets, strings, added, added and may_match
                )
            if code == DONE:
                return Kept(
                    scratch.out[:length],
                    scratch.out_offsets[: kept + 1],
                    scratch.own_strings[:text],
                    scratch.new_ids[:count],
                    clash,
                    bool(scratch.state[NESTED_ARRAYS]),
                    max(0, int(scratch.state[STEPS]) - ENOUGH_STEPS * count),
                )
            if code == MORE_STRINGS:
                workspace.widen(len(strings), path)
            elif code == MORE_FRAMES:
                if not workspace.deepen(FRAMES_PER_TYPE * (index.type_end + count) + len(words)):
                    raise too_alike("memory", path)
            elif code == TOO_ALIKE:
                raise too_alike("time", path)
            else:
                number = at - index.type_end
                raise BtfError(
                    FAULTS[code],
                    path,
                    "types",
                    int(offsets[number]) * 4 if 0 <= number < count else None,
                    number + 1 if added else at,
                )
    except BtfError:
        raise
    except BaseException:
        release_workspaces()
        raise


def too_alike(resource: str, path: str | None) -> UnsupportedError:
    message = "its types are like each other in too many ways: comparing them takes more "
    return UnsupportedError(f"{message}{resource} than any module should", path, "types")


FAULTS = {
    BAD_MEMBER: "a member reaches a VAR, DATASEC or DECL_TAG, which is no type",
    REFERENCE_CYCLE: "pointers and modifiers refer to each other in a circle",
}


def prepare() -> None:
    """Compile the core, which takes longer than all other compiled functions together."""
    word, text = np.zeros(1, np.uint32), np.zeros(1, np.uint8)
    scratch = new_scratch(word, types=1, words=1, frames=1, text=1, own_text=1)
    passes.dedup_whole.prepare(  # type: ignore[attr-defined]
        blank_tables(), scratch, word, word, text, True, True
    )
