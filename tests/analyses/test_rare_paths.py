"""Protects fingerprints on graphs made of circles that look alike: where the rare paths are taken.

Few names, sizes and shapes, so that nearly every type is compared with others; references to void,
to the base, and to a circle's own copies. naive_classes.py says which types are the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

import btf
from btf.edit.concat import concat_split
from btf.fingerprint import fingerprints as implementation
from support import btfwriter as bw
from support.oracles import naive_btf, naive_classes

SEEDS = range(150)


def random_types(w: bw.Writer, dice: random.Random, count: int) -> None:
    """Types of few kinds and names that refer to each other, to what is before them, and to void.

    Rings come in several copies, some with one struct that differs, or with one reference that
    leads into another copy, into the base, or to void.
    """
    before = w.next_id
    anywhere = [0, *range(1, before)]

    def elsewhere() -> int:
        return dice.choice(anywhere) if dice.random() < 0.5 else dice.randrange(before, w.next_id)

    while w.next_id < before + count:
        length = dice.choice((1, 2, 3, 3, 4))
        through_pointers, members = dice.random() < 0.5, dice.choice((1, 1, 2))
        each = 2 if through_pointers else 1
        for copy in range(dice.choice((1, 1, 2, 3))):
            first, odd = w.next_id, dice.randrange(4 * length)
            for i in range(length):
                after = first + each * ((i + 1) % length) + (each - 1)
                chord = first + each * dice.randrange(length) + (each - 1)
                targets = [after, chord if copy == 0 or dice.random() < 0.5 else after][:members]
                if i == odd:
                    targets[-1] = elsewhere() if w.next_id > before else 0
                size = 16 if i == odd - length else 8
                name = dice.choice(("S", "S", "T")) if dice.random() < 0.1 else "S"
                if dice.random() < 0.1:
                    w.typedef("t", targets[0])
                else:
                    w.struct(name, size, [("m", to, 64 * at) for at, to in enumerate(targets)])
                if through_pointers:
                    w.ptr(first + 2 * i)
        if dice.random() < 0.3:
            w.func_proto(elsewhere(), [("p", elsewhere())])
        if dice.random() < 0.2:
            w.fwd("S")


def rows(values: np.ndarray) -> list[tuple[int, int]]:
    return [(int(high), int(low)) for high, low in values]


class Kernel:
    """A base and modules on it, of one seed."""

    def __init__(self, seed: int, modules: int = 3) -> None:
        self.dice = random.Random(seed)
        base = bw.Writer()
        random_types(base, self.dice, self.dice.randrange(2, 30))
        self.base = btf.parse(base.to_bytes())
        self.known = btf.BaseFingerprints.build(self.base)
        self.naive = {"base": naive_btf.parse(base.to_bytes())}
        self.splits: list[btf.BTF] = []
        for number in range(modules):
            split = bw.Writer(base=base)
            random_types(split, self.dice, self.dice.randrange(1, 25))
            self.splits.append(btf.parse(split.to_bytes(), self.base))
            self.naive[f"{number}"] = naive_btf.parse(split.to_bytes(), self.naive["base"])

    def assert_right(self, structural: Sequence[np.ndarray], own: Sequence[np.ndarray]) -> None:
        """The modules' fingerprints are the same exactly where no walk tells types apart."""
        found = {("base", i): v for i, v in enumerate(rows(self.known.values)) if i}
        by_id = {}
        for number, split in enumerate(self.splits):
            for at in range(split.type_count):
                place = f"{number}", split.start_id + at
                found[place], by_id[place] = rows(structural[number])[at], rows(own[number])[at]
        assert naive_classes.same_partition(naive_classes.classes(self.naive), found)
        modules = {name: found for name, found in self.naive.items() if name != "base"}
        expected = naive_classes.classes(modules, base_by_id=True)
        assert naive_classes.same_partition(expected, by_id)
        assert rows(self.known.values)[0] not in found.values()


@pytest.mark.parametrize("seed", SEEDS)
def test_circles_that_look_alike(seed: int) -> None:
    kernel = Kernel(seed)
    both = [btf.both_fingerprints(split, kernel.known) for split in kernel.splits]
    kernel.assert_right([structural for structural, _ in both], [own for _, own in both])


@pytest.mark.parametrize("seed", SEEDS[:50])
def test_all_at_once_gives_the_same(seed: int) -> None:
    """What would take too long component by component is refined as a whole."""
    kernel = Kernel(seed)
    own = []
    for split in kernel.splits:
        job = implementation._Job(split)
        job.run(implementation._BASE_BY_ID)
        own.append(job.at_once(implementation._BASE_BY_ID)[0])
        assert np.array_equal(own[-1], btf.own_fingerprints(split))
        job = implementation._Job(split.flat)
        job.run(implementation._NO_BASE)
        whole = job.at_once(implementation._NO_BASE)[0][split.start_id - 1 :]
        assert np.array_equal(whole, btf.fingerprints(split, kernel.known))


@pytest.mark.parametrize("seed", SEEDS[:50])
def test_batches_may_be_cut_anywhere(seed: int) -> None:
    """In any order, any company, and after whatever was worked on before."""
    kernel = Kernel(seed, modules=6)
    alone = [btf.both_fingerprints(split, kernel.known) for split in kernel.splits]
    slow = bw.Writer()
    slow.typedef("t", 3)  # a ring without a struct: the rare way
    slow.ptr(1)
    slow.ptr(2)
    for _ in range(3):
        order = list(range(len(kernel.splits)))
        kernel.dice.shuffle(order)
        while order:
            size = kernel.dice.randrange(1, len(order) + 1)
            batch, order = order[:size], order[size:]
            if kernel.dice.random() < 0.5:
                btf.fingerprints(btf.parse(slow.to_bytes()))
            joined = concat_split([kernel.splits[number] for number in batch])
            for which, values in enumerate(btf.both_fingerprints(joined, kernel.known)):
                expected = np.concatenate([alone[number][which] for number in batch])
                assert np.array_equal(values, expected)
