"""Dedup: BTF in, deduplicated BTF and the map from old to new type ids out.

Three forms, one algorithm (see ``passes``):

``dedup_split``  a standalone module: added to an empty split BTF on the base, then deduplicated.
                 Strings of types that turn out to be the base's stay, as in libbpf.
``dedup``        a parsed file by itself (plain), or split BTF again on its base. Strings are
                 rebuilt in order of first use.

The results equal libbpf's to the byte (type section and string section), but for the cases that
``docs/differences.md`` lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..compiled.arguments import drop_flattened
from ..compiled.jit import PreparedCall
from ..compiled.workspaces import per_thread
from ..edit.ext import BtfExt
from ..errors import BtfError, UnsupportedError, WrongBaseError
from ..format.kinds import HEAD_WORDS
from ..types.btf import BTF, freeze
from . import passes
from .index import BaseIndex, unknown_kind_error
from .signature import EPOCH
from .state import CURRENT_EPOCH
from .tables import Scratch, blank_tables, new_scratch


@dataclass(frozen=True, eq=False)
class DedupResult:
    """The deduplicated BTF, and what became of each type.

    id_map   uint32: by id of the input (void and, for split input, the base's types included),
             the id in ``btf``: of the type itself, or of the one it was merged into
    ext      the ``.BTF.ext`` that was given, with the ids and string offsets of ``btf``
    """

    btf: BTF
    id_map: np.ndarray
    ext: BtfExt | None = None


class Workspace:
    """Scratch memory for dedup against one base, reused from module to module. One per thread.

    Rows of base types are filled once; a module's rows follow them. What a module changes in the
    base's rows is undone after it, so that its cost does not depend on the base.

    calls  of kernels on this memory, by name, for whoever makes the same ones again
    """

    def __init__(self, index: BaseIndex) -> None:
        self.index = index
        self.calls: dict[str, PreparedCall] = {}
        self._scratch: Scratch | None = None
        self._offsets = np.empty(0, np.uint32)
        self._types = self._words = self._frames = self._text = 0
        # Room for all modules but the largest.
        self._resize(1 << 14, 1 << 18, 1 << 12, 1 << 19)

    def _resize(self, types: int = 0, words: int = 0, frames: int = 0, text: int = 0) -> None:
        self._types = max(types, self._types)
        self._words = max(words, self._words)
        self._frames = max(frames, self._frames)
        self._text = max(text, self._text)
        if self._scratch is not None:
            drop_flattened(self._scratch)
        self.calls.clear()
        self._scratch = None  # before there is more
        self._scratch = new_scratch(
            self.index.starts,
            self.index.type_end,
            self._types,
            self._words,
            self._frames,
            self._text,
        )

    def reserve(self, types: int, words: int, text: int) -> Scratch:
        """Room for a module of that many types, words of types and bytes of strings."""
        if types > self._types or words > self._words or text > self._text:
            self._resize(2 * types, 2 * words, 0, 2 * text)
        assert self._scratch is not None
        state = self._scratch.state
        if state[CURRENT_EPOCH] > 0xF0000000:
            self._scratch.records[:, EPOCH] = 0
            state[CURRENT_EPOCH] = 0
        return self._scratch

    def offsets_for(self, words: int) -> np.ndarray:
        """Room for where each type starts, in a file of that many words: uint32."""
        room = words // HEAD_WORDS + 1
        if room > len(self._offsets):
            self._offsets = np.empty(2 * room, np.uint32)
        return self._offsets

    def deepen(self) -> None:
        """Room for walks that go deeper."""
        self._resize(frames=4 * self._frames)

    def widen(self) -> None:
        """Room for more new strings: names may begin inside of each other."""
        self._resize(text=4 * self._text)


def workspace_for(index: BaseIndex) -> Workspace:
    """This thread's workspace for ``index``; the one of the last index is kept."""
    workspace = getattr(per_thread, "dedup", None)
    if workspace is None or workspace.index is not index:
        workspace = per_thread.dedup = Workspace(index)
    return workspace


_PLAIN: BaseIndex | None = None


def plain_index() -> BaseIndex:
    """The index of no base: only void."""
    global _PLAIN
    if _PLAIN is None:
        _PLAIN = BaseIndex.build(None)
    return _PLAIN


def dedup_split(module: BTF, index: BaseIndex, *, ext: BtfExt | None = None) -> DedupResult:
    """Put a standalone BTF on a base: keep only what the base lacks.

    module  standalone BTF (no base of its own)
    index   of the base; both must have the same byte order
    ext     the module's ``.BTF.ext``, to be taken along

    ``result.btf`` is split BTF on ``index.base``. Raises BtfError naming the type when the module
    cannot be deduplicated.
    """
    if module.base is not None:
        raise BtfError("split BTF given where standalone BTF is expected", module.path)
    if module.byteorder != index.byteorder:
        raise WrongBaseError(
            f"the module is {module.byteorder}-endian, the base {index.byteorder}-endian",
            module.path,
            "header",
            0,
        )
    return _with_ext(_dedup(module, index, added=True), module, ext)


def dedup(btf: BTF, index: BaseIndex | None = None, *, ext: BtfExt | None = None) -> DedupResult:
    """Deduplicate a parsed BTF in place of itself: plain, or split BTF on its base.

    btf    plain BTF with no ``index``, or split BTF whose base is the one indexed
    ext    its ``.BTF.ext``, to be taken along
    """
    if btf.base is None:
        return _with_ext(_dedup(btf, plain_index(), added=False), btf, ext)
    if index is None:
        index = BaseIndex.build(btf.base)
    elif (index.type_end, index.str_end) != (btf.start_id, btf.start_str_off):
        raise WrongBaseError(
            "the index is not that of the base that this BTF was read on", btf.path
        )
    return _with_ext(_dedup(btf, index, added=False), btf, ext)


def _with_ext(result: DedupResult, source: BTF, ext: BtfExt | None) -> DedupResult:
    """The result, and ``ext`` of its source as it reads there. New strings come last."""
    if ext is None:
        return result
    moved = ext.moved_from(source, result.btf, result.id_map)
    return DedupResult(moved.btf, result.id_map, moved)


def _dedup(source: BTF, index: BaseIndex, *, added: bool, may_match: bool = True) -> DedupResult:
    if source.has_unknown_kinds:
        raise unknown_kind_error(source)
    first_own = index.type_end
    count = source.type_count
    if first_own + count > passes.UNMAPPED - 2:
        raise UnsupportedError("too many types", source.path, "types")

    workspace = workspace_for(index)
    first_source, delta = (1, index.type_end - 1) if added else (0xFFFFFFFF, 0)
    while True:
        scratch = workspace.reserve(count, len(source.words), len(source.strings) + 1)
        code, at, kept, length, text, _ = passes.dedup_whole(
            index.tables,
            scratch,
            source.words,
            source.offsets,
            source.strings,
            source.start_str_off,
            np.uint32(first_source),
            np.uint32(delta),
            added and may_match,
            -1,
            -1,
        )
        if code == passes.DONE:
            break
        if code == passes.MORE_STRINGS:
            workspace.widen()
        elif code == passes.MORE_FRAMES:
            workspace.deepen()
        else:
            raise _failure(source, code, at - (first_own - 1 if added else 0))
    result = BTF(
        words=freeze(scratch.out[:length].copy()),
        offsets=freeze(scratch.out_offsets[: kept + 1].copy()),
        strings=freeze(scratch.own_strings[:text].copy()),
        base=source.base if source.base is not None else index.base,
        byteorder=source.byteorder,
        flags=0 if added else source.flags,
        layout=b"" if added else source.layout,
        path=source.path,
    )
    unchanged = np.arange(1 if added else first_own, dtype=np.uint32)
    return DedupResult(result, np.concatenate([unchanged, scratch.new_ids[:count]]))


def prepare() -> None:
    """Have the kernel of dedup ready, which takes longer to compile than all others together."""
    word, text = np.zeros(1, np.uint32), np.zeros(1, np.uint8)
    scratch = new_scratch(word, edits=1, types=1, words=1, frames=1, text=1)
    passes.dedup_whole.prepare(  # type: ignore[attr-defined]
        blank_tables(), scratch, word, word, text, 0, np.uint32(0), np.uint32(0), True, -1, -1
    )


def _failure(source: BTF, code: int, type_id: int) -> BtfError:
    own = type_id - source.start_id
    offset = int(source.offsets[own]) * 4 if 0 <= own < source.type_count else None
    if code == passes.BAD_MEMBER:
        message = "a member reaches a VAR, DATASEC or DECL_TAG, which is no type"
    else:
        message = "pointers and modifiers refer to each other in a circle"
    return BtfError(message, source.path, "types", offset, type_id)
