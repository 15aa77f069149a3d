"""Protects the library from what it is given: neither answer nor crash, but an error in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import btf
from support import vectors
from support.btfwriter import Writer

CASE, OTHER = vectors.build("seed-7"), vectors.build("seed-8")


@pytest.mark.parametrize(
    "buffer", [bytearray, lambda data: np.frombuffer(data, np.uint8).copy()], ids=["bytes", "numpy"]
)
def test_what_is_changed_after_it_was_read(buffer: Callable[[bytes], bytearray]) -> None:
    """What was checked stays as it was."""
    index = btf.BaseIndex.build(btf.parse(CASE.base))
    data = buffer(CASE.module)
    module, brief = btf.parse(data), btf.dedup_bytes(memoryview(data), index)
    opened = btf.open_module(memoryview(data), index).btf
    assert brief is not None
    for at in range(24, len(data)):
        data[at] = 255
    for found in (module, opened, brief.source):
        assert found.to_bytes() == CASE.module


class Kernel:
    def __init__(self, case: vectors.Case) -> None:
        self.base = btf.parse(case.base)
        self.index = btf.BaseIndex.build(self.base)
        self.module = btf.parse(case.module)
        self.result = btf.dedup_split(self.module, self.index)


def test_results_of_something_else() -> None:
    one, other = Kernel(CASE), Kernel(OTHER)
    assert isinstance(btf.unmerged_types(one.module, one.result, one.index), list)
    wrong = [
        (one.module, one.result, other.index),
        (one.module, other.result, one.index),
        (other.module, one.result, one.index),
        (one.result.btf, other.result, one.index),
    ]
    for id_map in (
        one.result.id_map[:-1],
        one.result.id_map + np.uint32(1),
        np.zeros_like(one.result.id_map),
        np.full_like(one.result.id_map, 0xFFFFFFFF),
        one.result.id_map[::-1].copy(),
        one.result.id_map.astype(np.int64),
    ):
        wrong.append((one.module, replace(one.result, id_map=id_map), one.index))
    for asked in wrong:
        with pytest.raises(btf.BtfError, match="is not that of"):
            btf.unmerged_types(*asked)


def test_names_of_another_base() -> None:
    one, other = Kernel(CASE), Writer()
    for number in range(len(one.base)):
        other.struct(f"s{number}", 4)
    names = btf.BaseNames.build(btf.BaseIndex.build(btf.parse(other.to_bytes())))
    with pytest.raises(btf.WrongBaseError, match="the names are not those"):
        btf.unmerged_types(one.module, one.result, one.index, names)


def test_a_result_of_another_module_of_the_same_size() -> None:
    def module(size: int, kind: str) -> btf.BTF:
        writer = Writer()
        number = writer.int("int", 4)
        getattr(writer, kind)("thing", size, [("m", number, 0)])
        return btf.parse(writer.to_bytes())

    base = Writer()
    base.struct("thing", 4, [])
    index = btf.BaseIndex.build(btf.parse(base.to_bytes()))
    struct, union = module(8, "struct"), module(8, "union")
    results = [btf.dedup_split(found, index) for found in (struct, union)]
    assert btf.unmerged_types(struct, results[0], index)
    with pytest.raises(btf.BtfError, match="the result is not that of this module"):
        btf.unmerged_types(struct, results[1], index)
