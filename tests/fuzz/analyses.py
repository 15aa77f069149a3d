"""Operations that ask questions of a mutant (see `operations`): differences, layers, and more."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

import btf
from btf.layers.chains import chain
from btf.layers.shared import share
from fuzz.operations import (
    Digest,
    Files,
    Wrong,
    digest,
    expect,
    fingerprinted,
    indexed,
    naively,
    of,
    operation,
)  # fmt: skip
from support.oracles import naive_btf, naive_classes, naive_distill


@operation("module")
def unmerged(files: Files) -> Iterator[Digest]:
    index, module = indexed(files.base), btf.parse(files.module)
    result = btf.dedup_split(module, index)
    rows = btf.unmerged_types(module, result, index)
    yield digest(*((row.type_id, row.reason, row.path, row.root.words) for row in rows))
    own = {t.id: t.name for t in result.btf.own_types()}
    assert index.base is not None
    for row in rows:
        expect(own.get(row.type_id), f"[{row.type_id}] has no name, or is the base's")
        expect(index.base.find_all(own[row.type_id]), "the base has none of that name")


@operation("split")
def fingerprints(files: Files) -> Iterator[Digest]:
    base = fingerprinted(files.base)
    split = btf.parse(files.split, indexed(files.base).base)
    values, own = btf.both_fingerprints(split, base)
    yield digest(values, own)
    expect(np.array_equal(values, btf.fingerprints(split, base)), "by themselves: others")
    expect(np.array_equal(own, btf.own_fingerprints(split)), "own ones by themselves: others")
    level, below = naive_btf.parse(files.split, naively(files.base)), naively(files.base)
    pot = naive_classes.classes({"base": below, "split": level})
    found = {("base", i): tuple(map(int, row)) for i, row in enumerate(base.values) if i}
    found |= {("split", split.start_id + i): tuple(map(int, row)) for i, row in enumerate(values)}
    expect(naive_classes.same_partition(pot, found), "other classes than the reference's")
    pot = naive_classes.classes({"split": level}, base_by_id=True)
    found = {("split", split.start_id + i): tuple(map(int, row)) for i, row in enumerate(own)}
    expect(naive_classes.same_partition(pot, found), "own: other classes than the reference's")


@operation("module")
def plain_fingerprints(files: Files) -> Iterator[Digest]:
    types = btf.parse(files.module)
    values = btf.fingerprints(types)
    yield digest(values)
    pot = naive_classes.classes({"it": naive_btf.parse(files.module)})
    found = {("it", i): tuple(map(int, row)) for i, row in enumerate(values) if i}
    expect(naive_classes.same_partition(pot, found), "other classes than the reference's")


@operation("split")
def declarations(files: Files) -> Iterator[Digest]:
    base = indexed(files.base).base
    assert base is not None
    split = btf.parse(files.split, base)
    found = btf.declarations(split, btf.declarations(base))
    yield digest(found.declaration, found.layout)
    again = btf.declarations(split)
    expect(np.array_equal(found.declaration, again.declaration), "without the base's: others")
    expect(np.array_equal(found.layout, again.layout), "without the base's: other layouts")
    order = list(range(split.start_id, split.type_end))
    files.roll.shuffle(order)
    mixed = btf.permute(split, order)
    other = btf.declarations(mixed.btf)
    ids = np.array(mixed.id_map[split.start_id :], np.int64) - split.start_id
    expect(np.array_equal(found.declaration, other.declaration[ids]), "in another order: others")
    expect(np.array_equal(found.layout, other.layout[ids]), "in another order: other layouts")


@operation("module")
def difference(files: Files) -> Iterator[Digest]:
    roll, types, others = files.roll, btf.parse(files.module), btf.parse(files.base)
    seen = []
    pairs = [(roll.choice(list(types)), roll.choice(list(others))) for _ in range(6)]
    named = [(t, found) for t in types if t.name for found in others.find_all(t.name)]
    for a, b in pairs + named[:: len(named) // 8 + 1]:
        seen.append((a, b, btf.difference(a, b)))
    yield digest(*(str(found) for _, _, found in seen))
    # Nobody writes these, and nobody shows them: for fingerprints they count.
    unnamed = (btf.Ptr, btf.Const, btf.Volatile, btf.Restrict, btf.Array, btf.FuncProto)
    for t in (*types, *others):
        if (isinstance(t, (btf.Fwd, btf.Array)) and t.words[2]) or (
            isinstance(t, unnamed) and t.words[0]
        ):
            return
    ours, theirs = btf.fingerprints(types), btf.fingerprints(others)
    for a, b, found in seen:
        same = bool((ours[a.id] == theirs[b.id]).all())
        expect(same == (found is None), f"{a} and {b}: {found}, fingerprints are {same}")
        expect(btf.difference(a, a) is None, f"{a} differs from itself")


@operation("module")
def layers(files: Files) -> Iterator[Digest]:
    index = indexed(files.base)
    star = [btf.dedup_split(btf.parse(d), index).btf for d in (files.module, files.other)]
    star.append(star[0])
    shared = share(star, min_modules=2)
    chained = chain(star, [[], [0], [1, 0]])
    parts = [shared.shared, *shared.modules, *chained.modules]
    yield digest(*(part.to_bytes() for part in parts if part is not None), chained.parents)
    for part in parts:
        if part is not None:
            again = btf.parse(part.to_bytes(), part.base)
            expect(again.to_bytes() == part.to_bytes(), "a layer is read otherwise")


@operation("split")
def distill(files: Files) -> Iterator[Digest]:
    split = btf.parse(files.split, indexed(files.base).base)
    distilled, portable = btf.distill_base(split)
    yield digest(*of(distilled), *of(portable))
    plain = naive_btf.parse(files.split, naively(files.base))
    try:
        base, moved = naive_distill.distill(plain)
    except naive_distill.NotDistilled as error:
        raise Wrong(f"done, though the reference refuses: {error}") from None
    expect(of(distilled) == _sections(base), "another distilled base than the reference's")
    expect(of(portable) == _sections(moved), "another split BTF than the reference's")


def _sections(plain: naive_btf.Btf) -> tuple[bytes, bytes]:
    data = naive_distill.to_bytes(plain)
    return naive_btf.sections(data)[1:]


@operation("split")
def relocate(files: Files) -> Iterator[Digest]:
    split = btf.parse(files.split, indexed(files.base).base)
    _, portable = btf.distill_base(split)
    moved = btf.relocate(portable, indexed(files.base))
    yield digest(*of(moved.btf), moved.id_map)
    assert portable.base is not None
    base = naively(files.base)
    distilled = naive_btf.parse(portable.base.to_bytes())
    before = naive_btf.parse(portable.to_bytes(), distilled)
    places = naive_distill.places(before, base)
    found = {i: int(moved.id_map[i]) for i in places}
    expect(all(found[i] == at for i, at in places.items() if at), "types are found elsewhere")


@operation("base")
def relocate_to_a_mutated_base(files: Files) -> Iterator[Digest]:
    sound = _sound_split(files.module, files.other)
    if sound is None:
        return
    moved = btf.relocate(sound, btf.parse(files.base))
    yield digest(*of(moved.btf), moved.id_map)


@functools.lru_cache(64)
def _sound_split(base: bytes, module: bytes) -> btf.BTF | None:
    """One unchanged module on the other, with the distilled base of that."""
    try:
        split = btf.dedup_split(btf.parse(module), btf.BaseIndex.build(btf.parse(base))).btf
        return btf.distill_base(split).split
    except btf.BtfError:
        return None
