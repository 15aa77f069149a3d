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

import threading
from dataclasses import dataclass

import numpy as np

from . import passes
from .equivalence import CURRENT_EPOCH, STATE_SLOTS
from .errors import BtfError, UnsupportedError, WrongBaseError
from .index import BaseIndex, new_records, unknown_kind_error
from .kinds import HEAD_WORDS
from .strings import OWN_STRINGS_FULL, UNSEEN, map_names
from .table import BTF, freeze


@dataclass(frozen=True, eq=False)
class DedupResult:
    """The deduplicated BTF, and what became of each type.

    id_map   uint32: by id of the input (void and, for split input, the base's types included),
             the id in ``btf``: of the type itself, or of the one it was merged into
    """

    btf: BTF
    id_map: np.ndarray


class Workspace:
    """Scratch memory for dedup against one base, reused from module to module. One per thread.

    Rows of base types are filled once; a module's rows follow them. What a module changes in the
    base's rows is undone after it, so that its cost does not depend on the base.
    """

    def __init__(self, index: BaseIndex) -> None:
        self.index = index
        self.state = np.zeros(STATE_SLOTS, np.int64)
        self.edits = np.empty(index.type_end, np.uint32)
        self._resize(4096)

    def _resize(self, own_types: int) -> None:
        first_own = self.index.type_end
        self.capacity = own_types
        self.records = new_records(self.index.starts, first_own + own_types)
        self.pairs = np.empty(first_own + own_types, np.uint32)
        self.ends = np.empty((own_types, 4), np.uint32)
        self.links = np.empty((own_types, 2), np.uint32)
        self.list_slots = np.empty(_power_of_two(2 * own_types), np.uint64)

    def reserve(self, own_types: int) -> np.ndarray:
        """Room for a module of ``own_types``; returns the zeroed table of its candidate lists."""
        if own_types > self.capacity:
            self._resize(2 * own_types)
        if self.state[CURRENT_EPOCH] > 0xF0000000:
            self.records[:, 3] = 0
            self.state[CURRENT_EPOCH] = 0
        slots = self.list_slots[: _power_of_two(2 * own_types)]
        slots[:] = 0
        return slots


_local = threading.local()


def _workspace(index: BaseIndex) -> Workspace:
    """This thread's workspace for ``index``; the one of the last index is kept."""
    workspace = getattr(_local, "workspace", None)
    if workspace is None or workspace.index is not index:
        workspace = _local.workspace = Workspace(index)
    return workspace


def _power_of_two(at_least: int) -> int:
    return 1 << max(4, (at_least - 1).bit_length())


_PLAIN: BaseIndex | None = None


def plain_index() -> BaseIndex:
    """The index of no base: only void."""
    global _PLAIN
    if _PLAIN is None:
        _PLAIN = BaseIndex.build(None)
    return _PLAIN


def dedup_split(module: BTF, index: BaseIndex) -> DedupResult:
    """Put a standalone BTF on a base: keep only what the base lacks.

    module  standalone BTF (no base of its own)
    index   of the base; both must have the same byte order

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
    return _dedup(module, index, added=True)


def dedup(btf: BTF, index: BaseIndex | None = None) -> DedupResult:
    """Deduplicate a parsed BTF in place of itself: plain, or split BTF on its base.

    btf    plain BTF with no ``index``, or split BTF whose base is the one indexed
    """
    if btf.base is None:
        return _dedup(btf, plain_index(), added=False)
    if index is None:
        index = BaseIndex.build(btf.base)
    elif (index.type_end, index.str_end) != (btf.start_id, btf.start_str_off):
        raise WrongBaseError("the index is not that of the base that this BTF was read on", btf.path)
    return _dedup(btf, index, added=False)


def _dedup(source: BTF, index: BaseIndex, *, added: bool) -> DedupResult:
    if source.has_unknown_kinds:
        raise unknown_kind_error(source)
    first_own = index.type_end
    count = source.type_count
    if first_own + count > passes.UNMAPPED - 2:
        raise UnsupportedError("too many types", source.path, "types")

    own, own_strings = _map_strings(source, index)
    if added:
        delta = np.uint32(first_own - 1)
        passes.shift_references(own, source.offsets, np.uint32(1), delta)

    workspace = _workspace(index)
    list_slots = workspace.reserve(count)
    records, state = workspace.records, workspace.state
    passes.start_module(
        records, first_own, len(index.words), source.offsets, state, index.entries, index.capacity
    )
    try:
        code, at = passes.dedup_types(
            index.words, index.group_slots, index.group_starts, index.candidates, index.name_slots,
            own, count, records, first_own, workspace.pairs, workspace.edits, state,
            list_slots, workspace.ends, workspace.links,
        )  # fmt: skip
        if code != passes.DONE:
            raise _failure(source, code, at - (first_own - 1 if added else 0))
        new_ids = np.empty(count, np.uint32)
        out = np.empty_like(own)
        out_offsets = np.empty(count + 1, np.uint32)
        kept, length = passes.compact(
            index.words, own, count, records, first_own, new_ids, out, out_offsets
        )
    finally:
        passes.end_module(records, workspace.edits, state)

    result = BTF(
        words=freeze(out[:length].copy()),
        offsets=freeze(out_offsets[: kept + 1].copy()),
        strings=freeze(own_strings),
        base=source.base if source.base is not None else index.base,
        byteorder=source.byteorder,
        flags=0 if added else source.flags,
        layout=b"" if added else source.layout,
        path=source.path,
    )
    unchanged = np.arange(1 if added else first_own, dtype=np.uint32)
    return DedupResult(result, np.concatenate([unchanged, new_ids]))


def _map_strings(source: BTF, index: BaseIndex) -> tuple[np.ndarray, np.ndarray]:
    """The source's words with names mapped, and its new own strings."""
    first = b"" if index.str_end else b"\0"  # a BTF without a base begins with the empty string
    size = len(source.strings) + 1
    slots = 1024
    while True:
        own_strings = np.empty(size, np.uint8)
        own_strings[: len(first)] = np.frombuffer(first, np.uint8)
        seen = np.full(len(source.strings), UNSEEN)
        words = np.empty(len(source.words), np.uint32)
        length = map_names(
            source.words, source.offsets, source.strings, source.start_str_off,
            index.strings, index.string_slots, index.strings_repeat,
            seen, own_strings, len(first), np.zeros(slots, np.uint64), words,
        )  # fmt: skip
        if length != OWN_STRINGS_FULL:
            return words, own_strings[:length].copy()
        # Names may begin inside of each other, so they can need more room than the source had.
        size *= 2
        slots *= 4


def _failure(source: BTF, code: int, type_id: int) -> BtfError:
    own = type_id - source.start_id
    offset = int(source.offsets[own]) * 4 if 0 <= own < source.type_count else None
    if code == passes.BAD_MEMBER:
        message = "a member reaches a VAR, DATASEC or DECL_TAG, which is no type"
    else:
        message = "pointers and modifiers refer to each other in a circle"
    return BtfError(message, source.path, "types", offset, type_id)
