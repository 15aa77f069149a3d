"""The straight way from a module's file to its split BTF, for callers who want nothing else.

What Python does for a module costs as much as a third of its dedup, once the kernels have had the
caches to themselves. So the common case, a raw standalone BTF file that nothing is wrong with, goes
through two kernels and no objects. What these take is laid out once for all modules, which is 20 of
35 µs even when nothing else is in the caches. ``dedup_bytes`` has no opinion on anything else: it
returns None, and ``open_module`` and ``dedup_module`` do the work, or say what is wrong.
"""

from __future__ import annotations

import struct
import sys
from typing import NamedTuple

import numpy as np

from ..compiled.arguments import address
from ..compiled.jit import PreparedCall, compiled
from ..format.header import MAGIC, SHORT_HEADER, VERSION, kind_words, pack
from ..format.scan import scan
from . import passes
from .abi import abi_names
from .deduplicate import Workspace, workspace_for
from .index import BaseIndex
from .tables import Scratch

# How a file without flags begins.
_COMMON_START = {
    "little": struct.pack("<HBB", MAGIC, VERSION, 0),
    "big": struct.pack(">HBB", MAGIC, VERSION, 0),
}


class SplitBytes(NamedTuple):
    """A split BTF file, and how much it holds (``out``) of how much (``in``)."""

    content: bytes
    types_in: int
    type_bytes_in: int
    string_bytes_in: int
    types_out: int
    type_bytes_out: int
    string_bytes_out: int


def dedup_bytes(data: bytes | memoryview, index: BaseIndex) -> SplitBytes | None:
    """Put a raw standalone BTF file on the indexed base; None if this is not the simple case.

    The same as ``dedup_module(open_module(data, index), index).btf.to_bytes()`` where it is.
    """
    if sys.byteorder != "little" or bytes(data[:4]) != _COMMON_START[index.byteorder]:
        return None
    content = np.frombuffer(data, np.uint8)
    if address(content) % 4:
        return None
    workspace = workspace_for(index)
    words = content[: len(content) & ~3].view(np.uint32)
    foreign = index.byteorder != sys.byteorder
    if foreign:
        words = words.byteswap()
    offsets = workspace.offsets_for(len(words))
    opening = workspace.calls.get("open") or _opening(workspace)
    opening.set_array(_CONTENT, content, 0, len(content))
    opening.set_array(_CONTENT_WORDS, words, 0, len(words))
    opening.set_array(_STARTS, offsets, 0, len(offsets))
    count, types_at, type_words, strings_at, string_bytes = opening()
    if count < 0:
        return None
    scratch = workspace.reserve(count, type_words, string_bytes + 1)
    whole = workspace.calls.get("whole") or _whole(workspace, scratch)
    whole.set_array(_WORDS, words, types_at, type_words)
    whole.set_array(_OFFSETS, offsets, 0, count + 1)
    whole.set_array(_SOURCE, content, strings_at, string_bytes)
    code, _, kept, length, text, clash = whole()
    if code != passes.DONE or clash >= 0:
        return None
    types = scratch.out[:length]
    if foreign:
        types = types.byteswap()
    strings = scratch.own_strings[:text].tobytes()
    return SplitBytes(
        pack(index.byteorder, 0, types.tobytes(), strings),
        count, 4 * type_words, string_bytes, kept, 4 * length, text,
    )  # fmt: skip


# Positions of what changes from module to module among the arguments of ``_open`` and of
# ``passes.dedup_whole``.
_CONTENT, _CONTENT_WORDS, _STARTS = 0, 1, 3
_WORDS, _OFFSETS, _SOURCE = 2, 3, 4
_NO_BYTES, _NO_WORDS = np.zeros(0, np.uint8), np.zeros(0, np.uint32)


def _opening(workspace: Workspace) -> PreparedCall:
    call = PreparedCall(_open, _NO_BYTES, _NO_WORDS, kind_words(b""), _NO_WORDS)
    workspace.calls["open"] = call
    return call


def _whole(workspace: Workspace, scratch: Scratch) -> PreparedCall:
    index = workspace.index
    first, second = abi_names(index)
    call = PreparedCall(
        passes.dedup_whole, index.tables, scratch, _NO_WORDS, _NO_WORDS, _NO_BYTES, 0,
        np.uint32(1), np.uint32(index.type_end - 1), True, first, second,
    )  # fmt: skip
    workspace.calls["whole"] = call
    return call


@compiled
def _open(content, words, kind_words, offsets):  # type: ignore[no-untyped-def]
    """Check a file as ``header`` and ``table`` do, and find where its types start.

    content, words   the file as uint8 and, in this machine's byte order, as uint32; its first word
                     was looked at
    kind_words       see ``header.kind_words``
    offsets          uint32, room for a type in every three words: filled as ``scan.scan`` does

    Returns (number of types, first word of the types, words of types, first byte of the strings,
    bytes of strings); -1 for the number if there is anything unusual about the file.
    """
    size = len(content)
    declined = np.int64(-1), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    if size <= SHORT_HEADER or words[1] != SHORT_HEADER:
        return declined
    type_off = np.int64(words[2])
    type_len = np.int64(words[3])
    str_off = np.int64(words[4])
    str_len = np.int64(words[5])
    if (type_off | type_len) & 3 or type_off + type_len > str_off:
        return declined
    strings_at = SHORT_HEADER + str_off
    if str_len == 0 or strings_at + str_len > size:
        return declined
    if content[strings_at] != 0 or content[strings_at + str_len - 1] != 0:
        return declined
    types_at = (SHORT_HEADER + type_off) >> 2
    type_words = type_len >> 2
    count, max_ref, max_name, bad_func = scan(
        words[types_at : types_at + type_words], kind_words, 1, offsets
    )
    if count < 0 or max_ref > count or max_name >= str_len or bad_func >= 0:
        return declined
    return np.int64(count), types_at, type_words, strings_at, str_len
