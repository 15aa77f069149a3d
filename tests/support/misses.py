"""Modules of which it is known why a type stayed, held to what mending says."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import btf
from support import btfwriter as bw
from support.btfwriter import Writer
from support.oracles import naive
from support.oracles.mending import Bench

Write = Callable[[Writer], object]


@dataclass
class Found:
    """The misses of a module, and what they are judged by."""

    rows: list[btf.UnmergedType]
    split: btf.BTF
    bench: Bench

    def row(self, name: str) -> btf.UnmergedType:
        (found,) = [row for row in self.rows if self.split[row.type_id].name == name]
        return found

    @property
    def names(self) -> list[str]:
        return [self.split[row.type_id].name for row in self.rows]

    def line(self, name: str) -> str:
        """What is to be read of a type: reason | path: words."""
        row = self.row(name)
        return f"{row.reason} | {row.path}: {row.root.words}"

    def kept(self, name: str) -> tuple[int | None, int | None]:
        root = self.row(name).root
        return root.kept_types, root.kept_bytes


def found(write_base: Write, write_module: Write, order: str = "<") -> Found:
    """Write, deduplicate, explain; and check what is said to be kept."""
    base, module = Writer(order), Writer(order)
    write_base(base)
    write_module(module)
    return judged(base.to_bytes(), module.to_bytes())


def judged(base: bytes, module: bytes) -> Found:
    index = btf.BaseIndex.build(btf.parse(base))
    opened = btf.open_module(module, index)
    result = btf.dedup_module(opened, index)
    rows = btf.unmerged_types(opened.btf, result, index)
    bench = Bench(base, module)
    assert [t.words for t in result.btf.own_types()] == [tuple(t) for t in bench.kept]
    check(rows, bench)
    return Found(rows, result.btf, bench)


def check(rows: list[btf.UnmergedType], bench: Bench) -> int:
    """Hold what is said of every root cause to what mending it does; returns how many."""
    checked = 0
    for root in {id(row.root): row.root for row in rows}.values():
        if root.kept_types is None:
            assert all(row.sole is None for row in rows if row.root is root)
            continue
        gone = bench.gone_without({root.type_id: root.base_type_id})
        left = sum(4 * len(words) for words in bench.came)
        saved = len(gone) - len(bench.came), bench.bytes_of(gone) - left
        assert (root.kept_types, root.kept_bytes) == saved, root
        for row in rows:
            if row.root is root:
                assert row.sole == (row.type_id in gone), row
        checked += 1
    return checked


def small_kernel(seed: int, agreed: bool = True) -> tuple[bytes, bytes]:
    """A base of distinct names, and a module that repeats it with a few changes, in one or two
    source files: in another order, some definitions changed, some known on one side only. As from
    any encoder, neither holds a type twice.

    agreed  whether the files agree; else there are two or three, each with changes of its own
    """
    draw = random.Random(seed).random

    def pick(count: int) -> int:
        return int(draw() * count)

    count = 4 + pick(12)
    members = [[(pick(5), pick(count)) for _ in range(3)] for _ in range(count)]
    declared = {at for at in range(count) if pick(10) == 0}  # by the base, and only that
    changed = {at: pick(5) for at in range(count) if pick(6) == 0 and at not in declared}

    def write(w: Writer, order: list[int], hidden: set[int], change: dict[int, int]) -> None:
        """Structs in this order, each with a typedef; of hidden ones only a declaration."""
        i = w.int("int", 4)
        long = w.int("long int", 8)
        ids, at = {}, w.next_id
        for number in order:  # what a member needs, and the typedef, come before their struct
            at += 1 if number in hidden else 5
            ids[number] = at - 1
        for number in order:
            how = change.get(number, -1)
            if number in hidden:
                w.fwd(f"s{number}", union=how == 4)
                continue
            written = []
            for position, (kind, target) in enumerate(members[number]):
                target = (target + 1) % count if how == 0 and position == 1 else target
                name = "renamed" if how == 1 and position == 2 else f"m{position}"
                if kind == 0:
                    made = w.array(i, i, 2)
                elif kind == 1:
                    made = w.func_proto(long, [("a", ids[target])])
                else:
                    made = w.ptr(ids[target])
                written.append((name, made, 64 * position))
            if how == 2:
                written.append(("more", long, 64 * 3))
            w.typedef(f"t{number}", ids[number])
            size = 8 * len(written) + (8 if how == 3 else 0)
            (w.union if how == 4 else w.struct)(f"s{number}", size, written)
            assert w.next_id - 1 == ids[number]

    base, module = Writer(), Writer()
    write(base, list(range(count)), declared, {})
    files, own = 1 + pick(2) + (not agreed), pick(3)
    for _ in range(files):
        if not agreed:
            changed = {at: pick(5) for at in range(count) if pick(6) == 0}
        order = sorted(range(count), key=lambda _: draw())
        hidden = {number for number in order if pick(5) == 0}
        write(module, order, hidden, changed)
        for number in range(own):
            target = module.ptr(module.next_id - 1 - pick(4))
            module.struct(f"own{number}", 8, [("it", target, 0)])
    return alone(base), alone(module)


def alone(writer: Writer) -> bytes:
    """The file after plain dedup."""
    result = naive.plain_dedup(writer.to_bytes())
    return bw.assemble(result.types, result.strings)


def pointer_holder(w: Writer, name: str, target: int, more: str = "") -> int:
    """A struct with a pointer to ``target``, and maybe one more member."""
    members = [("p", w.ptr(target), 0)]
    if more:
        members.append((more, w.ptr(0), 64))
    return w.struct(name, 8 * len(members), members)
