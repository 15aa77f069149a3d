"""Protects sums of sizes: what 32 bits cannot count is refused before anything is allocated.

The large arrays here are one element each, seen billions of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import btf
from btf.edit.concat import concat_split
from btf.format import header
from btf.format.header import MAX_STRING_OFFSET, MAX_TYPE_ID, MAX_WORDS
from btf.layers.rebase import rebase
from support.btfwriter import Writer


def many(count: int, dtype: type) -> np.ndarray:
    return np.broadcast_to(dtype(0), (count,))


def files() -> tuple[bytes, bytes]:
    """A base, and split BTF on it: a type of three words, and a name of two bytes."""
    base = Writer()
    base.int("int", 4)
    split = Writer(base=base)
    split.typedef("t", 1)
    return base.to_bytes(), split.to_bytes()


BASE, SPLIT = files()
LOADED = btf.parse(BASE)
# How much a base may have with that on it.
ROOM: dict[str, tuple[str, int, type]] = {
    "types": ("offsets", MAX_TYPE_ID, np.uint32),
    "words of types": ("words", MAX_WORDS - 3, np.uint32),
    "bytes of strings": ("strings", MAX_STRING_OFFSET + 1 - 2, np.uint8),
}


@pytest.mark.parametrize("what", ROOM)
def test_parse(what: str) -> None:
    base = btf.parse(BASE)
    btf.parse(SPLIT, base)
    field, count, dtype = ROOM[what]
    changes: dict[str, Any] = {field: many(count + 1, dtype), "sound": True}
    with pytest.raises(btf.UnsupportedError, match=f"^too many {what}: .* can be counted"):
        btf.parse(SPLIT, replace(base, **changes))


@pytest.mark.parametrize("what", ROOM)
def test_dedup(what: str) -> None:
    index = btf.BaseIndex.build(btf.parse(BASE))
    module = btf.parse(BASE)
    btf.dedup_split(module, index)
    sizes: dict[str, tuple[str, int, type]] = {
        "types": ("starts", MAX_TYPE_ID + 1, np.uint32),
        "words of types": ("words", MAX_WORDS - 3, np.uint32),
        "bytes of strings": ("strings", MAX_STRING_OFFSET - 3, np.uint8),
    }
    field, count, dtype = sizes[what]
    changes: dict[str, Any] = {field: many(count, dtype)}
    with pytest.raises(btf.UnsupportedError, match=f"too many {what}: "):
        btf.dedup_split(module, replace(index, **changes))


def added(split: btf.BTF) -> object:
    builder = btf.Builder(split.base)
    builder.add_btf(split)
    return builder.add_btf(split)


ADDING: dict[str, Callable[[btf.BTF], object]] = {
    "concatenated": lambda split: concat_split([split, split]),
    "added to a builder": added,
    "merged": lambda split: btf.merge([split, split], split.base),
    "moved": lambda split: rebase(split, LOADED, np.zeros(split.type_count, np.uint32)),
}


# By limit, the least at which it is done: the base has a type of four words, and five bytes of
# strings. (With as many words as there can be, there are fewer types than ids.)
COUNTED = {
    "concatenated": {"MAX_TYPE_ID": 3, "MAX_WORDS": 6, "MAX_STRING_OFFSET": 8},
    "added to a builder": {"MAX_TYPE_ID": 3, "MAX_WORDS": 6, "MAX_STRING_OFFSET": 6},
    "merged": {"MAX_TYPE_ID": 3, "MAX_WORDS": 13, "MAX_STRING_OFFSET": 6},
    "moved": {"MAX_TYPE_ID": 1, "MAX_WORDS": 7, "MAX_STRING_OFFSET": 6},
}


@pytest.mark.parametrize("how", ADDING)
@pytest.mark.parametrize("limit", ["MAX_TYPE_ID", "MAX_WORDS", "MAX_STRING_OFFSET"])
def test_adding(how: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = btf.parse(SPLIT, LOADED)
    refused = []
    for value in range(1, 30):
        monkeypatch.setattr(header, limit, value)
        try:
            ADDING[how](split)
        except btf.UnsupportedError as error:
            assert str(error).startswith("too many ")
            refused.append(value)
    assert refused == list(range(1, COUNTED[how][limit]))
