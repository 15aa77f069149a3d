"""The match of graphs is a short cut: it must be taken on real modules, and change nothing.

Protects: every reason for which ``match`` declines is reached; with and without it the bytes and
the id map are the same.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import btfwriter
import numpy as np
import pytest
import vectors
import zstandard

import btf
from btf.deduplication import deduplicate, matching
from btf.deduplication.state import VERDICT

DEMO = Path(__file__).parent.parent / "datasets" / "demo"


def verdict_of(module: btf.BTF, index: btf.BaseIndex) -> int:
    """What ``match`` said of a module; checks that the walk alone gives the same result."""
    matched = btf.dedup_split(module, index)
    verdict = int(deduplicate.workspace_for(index).reserve(0, 0, 0).state[VERDICT])
    walked = deduplicate._dedup(module, index, added=True, may_match=False)
    assert matched.btf.to_bytes() == walked.btf.to_bytes()
    assert np.array_equal(matched.id_map, walked.id_map)
    return verdict


def test_it_changes_nothing_and_every_verdict_occurs() -> None:
    verdicts: Counter[int] = Counter()
    for name in vectors.cases():
        case = vectors.build(name)
        index = btf.BaseIndex.build(btf.parse(case.base))
        try:
            verdicts[verdict_of(btf.parse(case.module), index)] += 1
        except btf.BtfError:
            continue
    assert set(verdicts) >= {
        matching.MATCHED,
        matching.ENUMS_REMAPPED,
        matching.DECLARATION_UNCLEAR,
        matching.PARTNER_SHARED,
        matching.PARTNER_AMBIGUOUS,
    }, verdicts


def test_two_of_a_name_of_which_one_is_the_base_s() -> None:
    def declare(writer: btfwriter.Writer, *sizes: int) -> btf.BTF:
        for size in sizes:
            member = writer.int("long" if size == 8 else "int", size, bits=8 * size)
            inner = writer.struct("inner", size, [("x", member, 0)])
            writer.struct("outer", 8, [("to", writer.ptr(inner), 0)])
        return btf.parse(writer.to_bytes())

    index = btf.BaseIndex.build(declare(btfwriter.Writer(), 4))
    module = declare(btfwriter.Writer(), 4, 8)
    assert verdict_of(module, index) == matching.PARTNER_CONTESTED


@pytest.mark.parametrize("name", ["xfs", "kvm", "hid-steam", "nls_cp949", "libsas"])
def test_real_modules(name: str) -> None:
    def read(path: Path) -> bytes:
        return zstandard.ZstdDecompressor().decompress(path.read_bytes(), 1 << 26)

    index = btf.BaseIndex.build(btf.parse(read(DEMO / "vmlinux.btf.zst")))
    module = btf.parse(read(DEMO / "modules" / f"{name}.btf.zst"))
    verdict = verdict_of(module, index)
    # kvm fills in a forward enum of vmlinux
    assert verdict == (matching.ENUMS_REMAPPED if name == "kvm" else matching.MATCHED)
