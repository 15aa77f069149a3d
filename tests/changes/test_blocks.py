"""Protects what is read of row groups: only columns that were asked for, each once, and what was
let go of once more."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from threading import Barrier, Event

import pyarrow as pa
import pytest

from pipeline.analysis.changes.beside import of_both
from pipeline.analysis.changes.blocks import Block, BlockReader
from pipeline.model.errors import OutputError
from support.commands import PATIENCE

_TABLE = pa.table({"global_id": [1, 2, 4], "size": [8, 16, 32], "vlen": [0, 1, 2]})


class _Stored:
    """Rows, and which of their columns were read."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.read: list[str] = []
        self.block = Block(1, 4, self._read)

    def _read(self, columns: Sequence[str]) -> pa.Table:
        self.read += columns
        return self.table.select(columns)


def test_columns_are_read_once_and_only_when_they_are_needed() -> None:
    stored, reader = _Stored(_TABLE), BlockReader()
    reader.begin(stored.block, ["size"])
    assert reader.get(stored.block, ["size"]).columns["size"].to_pylist() == [8, 16, 32]
    assert sorted(stored.read) == ["global_id", "size"]
    found = reader.get(stored.block, ["vlen", "size"])
    assert found.ids.tolist() == [1, 2, 4]
    assert found.columns["vlen"].to_pylist() == [0, 1, 2]
    assert sorted(stored.read) == ["global_id", "size", "vlen"]


def test_what_is_needed_now_does_not_wait_for_what_may_be_needed_later() -> None:
    goes_on, reader = Event(), BlockReader()

    def slow(columns: Sequence[str]) -> pa.Table:
        assert goes_on.wait(PATIENCE)
        return _TABLE.select(columns)

    later = [Block(1, 4, slow) for _ in range(len(os.sched_getaffinity(0)) + 1)]
    for block in later:
        reader.begin(block, ["size"])
    stored = _Stored(_TABLE)
    reader.begin(stored.block, ["size"])
    assert reader.get(stored.block, ["size", "vlen"]).columns["vlen"].to_pylist() == [0, 1, 2]
    assert not goes_on.is_set()
    goes_on.set()
    for block in later:
        assert reader.get(block, ["size"]).columns["size"].to_pylist() == [8, 16, 32]
    assert sorted(stored.read) == ["global_id", "size", "vlen"]


def test_what_nobody_can_ask_for_any_more_is_not_read() -> None:
    processors = len(os.sched_getaffinity(0))
    begun, goes_on, reader = Barrier(processors + 1), Event(), BlockReader()

    def slow(columns: Sequence[str]) -> pa.Table:
        begun.wait(PATIENCE)
        assert goes_on.wait(PATIENCE)
        return _TABLE.select(columns)

    busy = [Block(1, 4, slow) for _ in range(processors)]
    stored = _Stored(_TABLE)
    for block in [*busy, stored.block]:
        reader.begin(block, ["size"])
    begun.wait(PATIENCE)
    del reader
    assert stored.block.coming["size"].cancelled()
    goes_on.set()
    assert all(len(block.coming["size"].result()) == 3 for block in busy)


def test_what_was_used_last_is_kept() -> None:
    first, second = _Stored(_TABLE), _Stored(_TABLE)
    reader = BlockReader(most_bytes=1)
    reader.get(first.block, ["size"])
    reader.get(first.block, ["size"])
    assert first.read.count("size") == 1  # the last one is kept, however large it is
    reader.get(second.block, ["size"])
    assert reader.get(first.block, ["size"]).columns["size"].to_pylist() == [8, 16, 32]
    assert (first.read.count("size"), second.read.count("size")) == (2, 1)


def test_rows_that_do_not_ascend() -> None:
    stored = _Stored(_TABLE.take([1, 0, 2]))
    with pytest.raises(OutputError, match="not in the order of their ids"):
        BlockReader().get(stored.block, ["size"])


def test_both_sides_are_worked_on_in_a_process_that_was_forked_too() -> None:
    """A thread of before the fork is not there any more: whoever waits for it waits for ever."""
    assert of_both(str, 1, 2) == ("1", "2")
    child = multiprocessing.get_context("fork").Process(target=of_both, args=(str, 1, 2))
    child.start()
    child.join(PATIENCE)
    ended = child.exitcode
    child.kill()
    assert ended == 0


def test_what_is_wrong_with_one_side_is_raised() -> None:
    for sides in (("x", "1"), ("1", "x")):
        with pytest.raises(ValueError, match="invalid literal"):
            of_both(int, *sides)
