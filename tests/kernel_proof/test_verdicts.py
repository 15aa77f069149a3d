"""The comparison with the kernel's verdicts, without qemu: that it sees what differs.

`make kernel-proof` makes the comparison itself; it is no part of the test suite.
"""

from __future__ import annotations

import random

from kernel_proof import verdicts
from kernel_proof.guest import Report


def test_the_sources_load_and_some_of_their_mutants_do_not() -> None:
    good = verdicts.sources()
    assert [verdicts.verdict(data, release) for data in good for release in ("6.1", "7.3")] == (
        [None] * 2 * len(good)
    )
    rng = random.Random(3)
    mutants = [verdicts.mutant(rng.choice(good), rng) for _ in range(100)]
    refused = sum(verdicts.verdict(data, "6.1") is not None for data in mutants)
    assert 30 < refused < 90


def test_what_differs_is_seen() -> None:
    good, bad = verdicts.every_kind(), b"no BTF at all, of some length"
    told = [Report("load", "0", "0 "), Report("load", "1", "22 btf_header not found")]
    assert verdicts.differences([good, bad], told, "6.1") == []
    for wrong in (
        [Report("load", "0", "22 Invalid name"), told[1]],
        [told[0], Report("load", "1", "0 ")],
        [told[0], Report("load", "1", "22 Invalid magic")],
    ):
        assert len(verdicts.differences([good, bad], wrong, "6.1")) == 1
