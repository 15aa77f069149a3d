"""Deduplicate a module as it comes: one that was opened, or the bytes of raw standalone BTF.

Both are layers over ``core.dedup_arrays``. ``dedup_bytes`` is for callers with many modules: it
makes no objects before it is asked for them. It has no opinion on anything but sound standalone
BTF in the base's byte order: it returns None, and ``open_module`` and ``dedup_module`` do the work,
or say what is wrong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..arguments import brief_repr, octets, require, takes
from ..compiled.jit import address
from ..errors import BtfError, WrongBaseError
from ..files.open import DISTILLED, SPLIT, Module, open_module
from ..format.header import MAX_STRING_OFFSET, SHORT_HEADER, pack
from ..types.btf import BTF, NATIVE, freeze
from .core import dedup_arrays, workspace_for
from .deduplicate import DedupResult, dedup, deduplicated, require_standalone
from .index import BaseIndex


def dedup_module(module: Module, index: BaseIndex) -> DedupResult:
    """Deduplicate an opened module against its base, as its form asks for.

    Raises WrongBaseError when a standalone module turns out to be of another kernel.
    """
    require(module, Module, "module")
    require(index, BaseIndex, "index")
    if module.form in (SPLIT, DISTILLED):
        return dedup(module.btf, index)
    require_standalone(module.btf, index)
    result, clash = deduplicated(module.btf, index, added=True)
    if clash >= 0:
        split = result.btf
        struct = split.words[int(split.offsets[clash]) :]
        raise WrongBaseError(
            f"its struct {split.string(int(struct[0]))} ({struct[2]} bytes) is laid out "
            "unlike the base's: the module was built for another kernel or configuration",
            module.btf.path,
            "types",
            None,
            int(np.flatnonzero(result.id_map == index.type_end + clash)[0]),
        )
    return result


@dataclass(frozen=True, eq=False)
class SplitBytes:
    """A module that was put on a base: the raw split BTF file, and what it was made of.

    content         the split BTF file
    id_map          uint32, shape (types_in + 1,): by type id of the input, void included, the id in
                    the result: of the type itself, or of the one it was merged into
    offsets         uint32, shape (types_out + 1,): where each type of the result starts
    has_nested_arrays   whether any array of the result has arrays as elements
    source_words, source_offsets, source_strings   the input, as in ``BTF``. Words and strings may
                    be views of the bytes that were given
    index           of the base

    ``source`` and ``result`` are made when asked for, without reading or copying anything again.
    """

    __repr__ = brief_repr

    content: bytes
    id_map: np.ndarray
    offsets: np.ndarray
    has_nested_arrays: bool
    source_words: np.ndarray
    source_offsets: np.ndarray
    source_strings: np.ndarray
    index: BaseIndex

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes below, by name."""
        words = int(self.offsets[-1])
        return {
            "types_in": len(self.source_offsets) - 1,
            "type_bytes_in": self.source_words.nbytes,
            "string_bytes_in": len(self.source_strings),
            "types_out": len(self.offsets) - 1,
            "type_bytes_out": 4 * words,
            "string_bytes_out": len(self.content) - SHORT_HEADER - 4 * words,
        }

    @property
    def types_in(self) -> int:
        """Types of the input."""
        return self.sizes["types_in"]

    @property
    def type_bytes_in(self) -> int:
        """Bytes of the input's type section."""
        return self.sizes["type_bytes_in"]

    @property
    def string_bytes_in(self) -> int:
        """Bytes of the input's string section."""
        return self.sizes["string_bytes_in"]

    @property
    def types_out(self) -> int:
        """Types of the result."""
        return self.sizes["types_out"]

    @property
    def type_bytes_out(self) -> int:
        """Bytes of the result's type section."""
        return self.sizes["type_bytes_out"]

    @property
    def string_bytes_out(self) -> int:
        """Bytes of the result's string section."""
        return self.sizes["string_bytes_out"]

    @property
    def words(self) -> np.ndarray:
        """The type section of the result, as in ``BTF``."""
        words = np.frombuffer(self.content, np.uint32, int(self.offsets[-1]), SHORT_HEADER)
        return words if self.index.byteorder == NATIVE else words.byteswap()

    @cached_property
    def source(self) -> BTF:
        """The input. It may share the memory of the bytes that were given."""
        return BTF(
            freeze(self.source_words),
            freeze(self.source_offsets),
            freeze(self.source_strings),
            byteorder=self.index.byteorder,
            sound=True,
        )

    @cached_property
    def result(self) -> DedupResult:
        """What ``dedup_module`` returns for the input."""
        words = self.words
        btf = BTF(
            freeze(words),
            freeze(self.offsets),
            np.frombuffer(self.content, np.uint8, -1, SHORT_HEADER + words.nbytes),
            base=self.index.base,
            byteorder=self.index.byteorder,
            sound=True,
        )
        return DedupResult(btf, self.id_map)


def dedup_bytes(
    data: bytes | memoryview, index: BaseIndex, *, copy: bool = True
) -> SplitBytes | None:
    """Put raw standalone BTF on the indexed base; None if this is not the simple case.

    data   a raw BTF file, or the ``.BTF`` section of an ELF file; copied unless it is ``bytes``
    copy   False: what is in ``data`` stays as it is for as long as the input in what is returned is
           of use, so that no copy is needed

    The content is that of ``dedup_module(open_module(data, index), index).btf.to_bytes()`` where
    there is one. None for all else: BTF that is split, distilled, in another byte order than the
    base, with flags or a longer header, damaged, or of another kernel.
    """
    require(index, BaseIndex, "index")
    sections = _simple_sections(octets(data) if copy else memoryview(data), index.byteorder)
    if sections is None:
        return None
    words, strings = sections
    try:
        offsets = workspace_for(index).scan(words, len(strings))
        if offsets is None:
            return None
        kept = dedup_arrays(index, words, offsets, strings, added=True)
    except BtfError:
        return None
    if kept.clash >= 0:
        return None
    id_map = np.empty(len(offsets), np.uint32)
    id_map[0] = 0
    id_map[1:] = kept.new_ids
    types = kept.words if index.byteorder == NATIVE else kept.words.byteswap()
    return SplitBytes(
        pack(index.byteorder, 0, types.tobytes(), kept.strings.tobytes()),
        id_map,
        kept.offsets.copy(),
        kept.nested,
        words,
        offsets.copy(),
        strings,
        index,
    )


def _simple_sections(view: memoryview, byteorder: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Words and strings of a file that is as all encoders write standalone BTF: the short header,
    then the types, then the strings, and nothing else. None for any other, good or bad."""
    layout, start = _SIMPLE[byteorder]
    if len(view) <= SHORT_HEADER:
        return None
    first, header_bytes, type_off, type_len, str_off, str_len = layout.unpack_from(view)
    if (
        (first, header_bytes, type_off, str_off) != (start, SHORT_HEADER, 0, type_len)
        or SHORT_HEADER + type_len + str_len != len(view)
        or type_len % 4
        or not 0 < str_len <= MAX_STRING_OFFSET
        or view[SHORT_HEADER + type_len]
        or view[-1]
    ):
        return None
    words = np.frombuffer(view, np.uint32, type_len >> 2, SHORT_HEADER)
    if address(words) % 4:
        words = words.copy()
    strings = np.frombuffer(view, np.uint8, str_len, SHORT_HEADER + type_len)
    return words if byteorder == NATIVE else words.byteswap(), strings


# How a header is read, and the word that it begins with: magic number, version, no flags.
_SIMPLE = {
    order: (layout, layout.unpack_from(pack(order, 0, b"", b""))[0])
    for order, layout in (("little", struct.Struct("<6I")), ("big", struct.Struct(">6I")))
}


@takes(index=BaseIndex)
def make_ready(index: BaseIndex) -> None:
    """Do now what this thread's first module on ``index`` would have to wait for."""
    nothing = pack(index.byteorder, 0, b"", b"\0")
    dedup_module(open_module(nothing, index), index)
    dedup_bytes(nothing, index)
