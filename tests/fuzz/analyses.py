"""Operations that ask questions of a mutant (see `operations`): differences, layers, and more."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import btf
from btf.declaration.show import layout_of, show
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
    known,
    naively,
    of,
    operation,
)  # fmt: skip
from jobs import cli
from pipeline.analysis.changes.compare import Comparison
from pipeline.analysis.changes.details import details
from pipeline.analysis.changes.opened import OpenedFiles
from pipeline.sources.lookup import KIND_WORD_OF
from support.oracles import naive, naive_btf, naive_classes, naive_declared, naive_distill


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


@operation("module")
def kernel_rules(files: Files) -> Iterator[Digest]:
    """What the kernel takes of a program it takes as its own, which it asks less of."""
    for release in ("5.10", "6.1", "6.12", "7.3"):
        try:
            btf.check_kernel_rules(files.module, release=release)
        except btf.KernelRefusal as refusal:
            yield digest(*refusal.args)
            continue
        btf.check_kernel_rules(files.module, release=release, load_as="vmlinux")
        yield digest(release)


@operation("module")
def by_hand(files: Files) -> Iterator[Digest]:
    """What people look at: a file, its first types as text and as tables, near names."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(files.module)
        file.flush()
        module = btf.open(file.name)
    texts = [module._repr_html_()]
    for found in itertools.islice(module, 50):  # each may be a chain through all types
        texts += [repr(found), found.c, found._repr_html_()]
        expect(repr(found).isprintable(), "repr has what a terminal obeys")
        expect("\x1b" not in texts[-1], "a table has what a terminal obeys")
        if isinstance(found, btf.Composite) and found.members and found.members[0].name:
            first = found.members[0]
            expect(found.member(first.name).name == first.name, "another member")
    yield digest(*texts)
    with contextlib.suppress(btf.NotFoundError):
        module["no such type"]


@operation("split")
def kernel_rules_of_a_module(files: Files) -> Iterator[Digest]:
    index = indexed(files.base)
    btf.check_kernel_rules(files.split, index)
    yield digest(files.split)


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
    found = btf.declarations(split, btf.declarations(base, spell=True), spell=True)
    ends, data = found.spellings()
    yield digest(found.declaration, found.layout, ends, data)
    *both, at_once = btf.all_fingerprints(split, *btf.fingerprint_base(base))
    compared = [
        *zip(both, btf.both_fingerprints(split, fingerprinted(files.base)), strict=True),
        (at_once.declaration, found.declaration),
        (at_once.layout, found.layout),
    ]
    expect(all(np.array_equal(a, b) for a, b in compared), "all fingerprints at once: others")
    whole = data.tobytes()
    spelled: dict[bytes, bytes] = {}
    for t, values, (at, end) in zip(
        split.own_types(),
        found.values.hashes[:, :2],
        itertools.pairwise(ends.tolist()),
        strict=True,
    ):
        if t.kind not in btf.kinds.NO_TYPES:  # others have texts with names, or none
            text = whole[at:end]
            expect(spelled.setdefault(bytes(values), text) == text, f"{t} is spelled otherwise")
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
    if known(split):
        plain = naively_declared(files.split, files.base)
        rows = range(split.start_id, len(plain.types))
        pairs = [(bytes(row), plain.layout[i]) for i, row in zip(rows, found.layout, strict=True)]
        expect(naive_declared.same_partition(pairs), "other layouts than the reference's")
        pairs = [(bytes(row), plain.spelling(i))
                 for i, row in zip(rows, found.values.hashes[:, :2], strict=True)]  # fmt: skip
        expect(naive_declared.same_partition(pairs), "spelled otherwise than the reference's")
        pairs = [
            (bytes(row), plain.declaration(i))
            for i, row in zip(rows, found.declaration, strict=True)
            if naive_btf.kind_of(plain.types[i]) in naive_declared.KINDS
        ]
        expect(naive_declared.same_partition(pairs), "other declarations than the reference's")


def naively_declared(data: bytes, base: bytes | None = None) -> naive_declared.Declared:
    """Plain or split BTF as the tests' own comparison has it."""
    level = naive_btf.parse(data, naively(base) if base is not None else None)
    return naive.with_deep_stack(lambda: naive_declared.Declared(level))


@operation("module")
def changes(files: Files) -> Iterator[Digest]:
    """Between a mutant and what it was made of or another file, in either direction."""
    data = [files.module, files.other]
    if files.seed & 1:
        data.reverse()
    types = [btf.parse(one) for one in data]
    old, new = (OpenedFiles(one, ["vmlinux"]) for one in types)
    found = Comparison(old.named_types, new.named_types)
    said = list(zip(found.changes, details(found.changes, old.rows, new.rows), strict=True))
    (counts,) = found.counts
    yield digest(counts.kinds, *((c.kind, c.name, [d.text for d in rest]) for c, rest in said))
    for change, rest in said:
        expect(rest or change.change == "embedded", f"{change}: and no word of what")
    if known(*types):
        plain = [naively_declared(one) for one in data]
        ours = {kind: count._asdict() for kind, count in counts.kinds.items()}
        for count in ours.values():
            count.pop("reached")
        expect(ours == naive_declared.counts(*plain), "other counts than the reference's")
    for one in (old, new):
        alone = Comparison(one.named_types, one.named_types)
        expect(not alone.changes, "it differs from itself")


@operation("split")
def show_types(files: Files) -> Iterator[Digest]:
    """As ``show`` prints them, one of them with all that it embeds."""
    split = btf.parse(files.split, indexed(files.base).base)
    named = [t for t in split if t.name and t.kind in KIND_WORD_OF]
    chosen = files.roll.sample(named, min(len(named), 12))
    seen: list[object] = []
    for t in chosen:
        try:
            seen += show(t, expand=t is chosen[0])
        except btf.BtfError as error:
            seen.append(str(error))
    yield digest(*seen)
    for t in chosen:
        with contextlib.suppress(btf.BtfError):
            if isinstance(t, btf.Composite):
                fields, lines = list(layout_of(t).walk()), list(show(t))
                expect(len(lines) > len(fields), f"{t}: fewer lines than members")
                own = [field for field in fields if field.depth == 0]
                places = [member.bit_offset for member in t.members]
                expect([field.bit_offset for field in own] == places, f"{t}: members elsewhere")


COMMANDS = (
    ("diff", "other", "module"), ("diff", "module", "other", "--json"),
    ("diff", "module", "other", "--format=markdown", "--fail-on=layout"),
    ("diff", "module", "other", "--symbols=names"), ("diff", "base", "module"),
    ("show", "NAME", "module"), ("show", "NAME", "module", "other", "--expand"),
    ("show", "NAME", "split", "-Bbase", "--json"), ("dedup", "module", "-Bbase", "-oout"),
    ("dump", "module"), ("dump", "split", "-Bbase", "--format=json"),
    ("merge", "module", "other", "-oout"), ("check", "module"), ("check", "split", "-Bbase"),
    ("dedup", "module", "-Bbase", "-oout", "--form=kernel", "--json"),
)  # fmt: skip


@operation("module")
def command(files: Files) -> Iterator[Digest]:
    """The command line: whatever a file is, a status and words that a terminal can take."""
    roll = files.roll
    with tempfile.TemporaryDirectory(prefix="splitbtf-fuzz-", dir="/dev/shm") as folder:
        for name in ("module", "other", "base", "split"):
            Path(folder, f"{name}.btf").write_bytes(getattr(files, name))
        names = [t.name for t in btf.parse(files.other) if t.name] or ["x"]
        Path(folder, "names").write_text("\n".join(names[:9]))
        words = []
        for word in roll.choice(COMMANDS):
            word = word.replace("NAME", roll.choice(names)).replace("=names", f"={folder}/names")
            if word.removeprefix("-B") in ("module", "other", "base", "split"):
                flag = "-B" * word.startswith("-B")
                word = f"{flag}{folder}/{word.removeprefix('-B')}.btf"
            words.append(word.replace("-oout", f"-o{folder}/out"))
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status: Any = cli.main(words)
            except SystemExit as exit:
                status = exit.code
        out.seek(0)
        said = (out.read() + err.getvalue()).replace(folder, "")
    yield digest(status, re.sub(r"took .*", "", said))
    expect(status in (0, 1, 2), f"{words}: exit status {status}")
    expect(status != 2 or err.getvalue(), f"{words}: status 2, and no word why")
    expect("a bug in splitbtf" not in said, f"{words}: {said}")
    odd = {c for c in said if ord(c) < 32 and c not in "\n\t"}
    expect(not odd, f"{words}: control characters {odd}")


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
    flagged = (btf.Composite, btf.Fwd, btf.AnyEnum, btf.DeclTag, btf.TypeTag)
    unnamed = (btf.Ptr, btf.Const, btf.Volatile, btf.Restrict, btf.Array, btf.FuncProto)
    for t in (*types, *others):
        flag = t.id and t.words[1] >> 31 and not isinstance(t, flagged)
        if flag or (
            (isinstance(t, (btf.Fwd, btf.Array)) and t.words[2])
            or (isinstance(t, unnamed) and t.words[0])
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
