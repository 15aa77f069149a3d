"""Protects compiled functions from BTF that is nearly right: it is refused, or nothing goes wrong.

Words, names and bytes of good files are changed at random, most of them so that the file is still
sound. Under ``make test-checked`` five thousand are, and an index that is out of range is seen.
"""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable

import pytest

import btf
from btf.compiled import target
from support import vectors

CASES = "seed-1", "seed-7", "seed-19", "seed-33", "deep-graph"
MUTANTS = 5000 if target.CHECKED else 100
BATCH = 100


def changed(data: bytes, dice: random.Random) -> bytes:
    """``data`` with a few words, or bytes of strings, set to others that may well stand there."""
    out = bytearray(data)
    type_bytes, strings, string_bytes = struct.unpack_from("<3I", data, 12)
    words = type_bytes // 4
    for _ in range(dice.choice((1, 1, 2, 3, 8))):
        at = 24 + 4 * dice.randrange(words)
        value = struct.unpack_from("<I", out, at)[0]
        other = struct.unpack_from("<I", out, 24 + 4 * dice.randrange(words))[0]
        choices = (
            other, other, other, 0, value ^ 1 << dice.randrange(32), value + dice.choice((-1, 1)),
            dice.randrange(string_bytes), dice.randrange(words // 3 + 1),
            value & 0xFFFF | dice.randrange(21) << 24,
            dice.choice((0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFF, 0x1000000)),
        )  # fmt: skip
        struct.pack_into("<I", out, at, dice.choice(choices) & 0xFFFFFFFF)
    if dice.random() < 0.2:
        out[24 + strings + dice.randrange(string_bytes)] = dice.choice((0, 0, 65, 255))
    if dice.random() < 0.05:
        del out[-dice.randrange(1, len(out)) :]
    return bytes(out)


def everything(base: btf.BTF, index: btf.BaseIndex, data: bytes) -> None:
    """All that compiled functions do with a module on a base, or with a base."""
    module = btf.parse(data)
    btf.dedup_bytes(data, index)
    result = btf.dedup_split(module, index)
    split = result.btf
    known = btf.BaseFingerprints.build(base)
    asked: list[Callable[[], object]] = [
        lambda: btf.both_fingerprints(split, known),
        lambda: btf.fingerprints(module),
        lambda: btf.declarations(split),
        lambda: btf.unmerged_types(module, result, index),
        lambda: btf.columns(split),
        lambda: btf.members(split),
        lambda: btf.type_names(split),
        lambda: btf.dedup(module),
        lambda: btf.dedup(split, index),
        lambda: btf.merge([split, split], index),
        lambda: btf.open_module(data, index),
        lambda: btf.distill_base(split),
        lambda: list(btf.dump_c(split)),
    ]
    for ask in asked:
        with contextlib.suppress(btf.BtfError):
            ask()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, MUTANTS, BATCH))
def test_files_that_are_nearly_right(first: int) -> None:
    refused = 0
    for seed in range(first, first + BATCH):
        dice = random.Random(seed)
        case = vectors.build(dice.choice(CASES))
        try:
            if dice.random() < 0.3:
                base = btf.parse(changed(case.base, dice))
                everything(base, btf.BaseIndex.build(base), case.module)
            else:
                base = btf.parse(case.base)
                everything(base, btf.BaseIndex.build(base), changed(case.module, dice))
        except btf.BtfError:
            refused += 1
    assert 0 < refused < BATCH
