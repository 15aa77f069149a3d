"""Columns of numbers between Arrow and numpy, without copies.

Arrow's own functions for this import pandas, where it is installed, which takes long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def as_arrow(numbers: NDArray[np.int64]) -> pa.Int64Array:
    """Make a column of numbers."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(np.ascontiguousarray(numbers, np.int64))]
    return pa.Int64Array.from_buffers(pa.int64(), len(numbers), buffers)


def one_piece(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array: without a copy if it is that."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def numbers_of(column: pa.Array | pa.ChunkedArray, absent: int = 0) -> NDArray[Any]:
    """Read a column of whole numbers, of any width; ``absent`` where there is none."""
    if not hasattr(column, "chunks"):
        array = column
    elif column.num_chunks:
        array = one_piece(column)
    else:
        return np.empty(0, np.int64)
    data = array.buffers()[1]
    found = np.frombuffer(data or b"", np.dtype(f"i{array.type.bit_width // 8}"))
    found = found[array.offset : array.offset + len(array)]
    return np.where(is_there(array), found, absent) if array.null_count else found


def is_there(array: pa.Array) -> NDArray[np.bool_]:
    """Tell of each value whether there is one."""
    if not array.null_count:
        return np.ones(len(array), np.bool_)
    end = array.offset + len(array)
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    return np.unpackbits(bits, count=end, bitorder="little")[array.offset :].astype(np.bool_)


def encoded(column: pa.ChunkedArray) -> tuple[NDArray[Any], pa.StringArray]:
    """A column of texts, or of dictionaries of such, as numbers of texts, -1 where there is none;
    and the texts."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    return numbers_of(whole.indices, -1), whole.dictionary


def encoded_together(
    old: pa.ChunkedArray, new: pa.ChunkedArray
) -> tuple[tuple[NDArray[Any], NDArray[Any]], pa.StringArray]:
    """Two columns as numbers of the same texts, see ``encoded``; and these texts."""
    import pyarrow as pa

    chunks = [chunk for column in (old, new) for chunk in column.chunks if len(chunk)]
    if not chunks:
        nothing = np.empty(0, np.int64)
        return (nothing, nothing), pa.array([], pa.string())
    codes, texts = encoded(pa.chunked_array(chunks))
    return (codes[: len(old)], codes[len(old) :]), texts


class Texts:
    """Names, or spellings of types, of both sides: ``all`` by number, an empty one last; and the
    numbers of both sides' members, -1 of what has none."""

    def __init__(self, old: pa.ChunkedArray, new: pa.ChunkedArray) -> None:
        codes, texts = encoded_together(old, new)
        self.codes = [some.astype(np.int64) for some in codes]
        self.all = [*texts.to_pylist(), ""]

    def of(self, codes: NDArray[np.int64]) -> list[str]:
        """Texts of some numbers."""
        return [self.all[code] for code in codes.tolist()]

    def number(self, text: str) -> int:
        """The number of a text, which may be a new one."""
        if text not in self.all:
            self.all.insert(-1, text)
        return self.all.index(text)


def halves(column: pa.Array) -> NDArray[np.int64]:
    """A column of decimals of no more than 127 bits: the lower 64 and the upper ones of each, 0
    where there is none; int64 (N, 2)."""
    if not len(column):
        return np.empty((0, 2), np.int64)
    parts = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)
    return np.where(is_there(column)[:, None], parts[column.offset :][: len(column)], 0)


def decimals(column: pa.Array) -> list[int]:
    """The same as whole numbers of Python."""
    low, high = halves(column).T
    whole: list[int] = low.tolist()
    for at in np.flatnonzero(high != low >> 63).tolist():  # more than 63 bits
        whole[at] += (int(high[at]) + (whole[at] < 0)) << 64
    return whole


def differ(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether values, of two numbers each, are others."""
    low, high = (ours[:, at] != theirs[:, at] for at in range(2))
    differs: NDArray[np.bool_] = low | high  # np.any(axis=1) takes five times as long
    return differs


def ranges(first: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers from each of ``first`` on, as many as ``counts`` says, one behind the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(first - before, counts) + np.arange(counts.sum())


def distinct(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each number once, ascending: np.unique() imports masked arrays for that, which takes 10 ms
    of a command."""
    ordered = np.sort(numbers)
    once: NDArray[np.int64] = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return once


def among(ordered: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of many numbers whether they are among a few, which ascend; none is negative."""
    found: NDArray[np.bool_] = np.append(ordered, -1)[np.searchsorted(ordered, numbers)] == numbers
    return found


def occurrences(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each number how many equal ones are before it, and where the first of them is."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    begins = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(order)])
    begin = np.repeat(begins, np.diff(np.append(begins, len(order))))
    before, first = np.empty((2, len(order)), np.int64)
    before[order] = np.arange(len(order)) - begin
    first[order] = order[begin]
    return before, first


def paired(before: NDArray[np.int64], after: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Positions of numbers that are in both, in ``before`` and ``after``; of those that are in one.
    None is negative, or twice in either."""
    order = np.argsort(after, kind="stable")  # often nearly in order
    ordered = after[order]
    by_number = np.argsort(before)  # what ascends is looked up in a fifth of the time
    place = np.empty(len(before), np.int64)
    place[by_number] = np.searchsorted(ordered, before[by_number])
    same = np.append(ordered, -1)[place] == before
    place = np.append(order, 0)[place]
    is_added = np.ones(len(after), np.bool_)
    is_added[place[same]] = False
    return np.flatnonzero(same), place[same], np.flatnonzero(~same), np.flatnonzero(is_added)
