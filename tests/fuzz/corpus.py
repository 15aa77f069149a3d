"""What the fuzzer begins with: small kernels, each a base and modules, and pieces of real ones.

Nothing here is from `btf/`: a cut through a demo module is read and written by the tests' own code.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from support import btfwriter as bw
from support import handmade, vectors
from support.dumping import unpacked
from support.oracles import naive_btf
from support.oracles.naive_btf import Btf, id_words, string_words
from support.paths import DEMO, DEMO_S390X
from support.writers import extwriter

CUT_TYPES = 90
CUTS = (
    (DEMO, "8255", "hid-elecom"), (DEMO, "act_bpf", "xt_bpf"),
    (DEMO_S390X, "nhc_ghc_udp", "xt_tcpmss"),
)  # fmt: skip
SEEDS = (0, 2, 3, 5, 6, 9, 12)


@dataclass(frozen=True)
class Subject:
    """Files of one kernel: ``split`` is ``module`` as split BTF on ``base``, not deduplicated;
    ``ext`` a ``.BTF.ext`` that goes with ``module``."""

    name: str
    base: bytes
    module: bytes
    split: bytes
    ext: bytes


def written(btf: Btf) -> bytes:
    """The file of what was read."""
    words = [word for t in btf.types for word in t]
    return bw.assemble(struct.pack(f"{btf.order}{len(words)}I", *words), btf.strings, btf.order)


@functools.cache
def subjects() -> tuple[Subject, ...]:
    """Everything to begin with, always in the same order."""
    return tuple(_subjects())


def _subjects() -> Iterator[Subject]:
    for name in ("all-kinds-new", "all-kinds-known", "all-kinds-known-be", "tags"):
        yield _subject(name, *handmade.CASES[name]()[:2])
    for seed in SEEDS:
        case = vectors.generate(seed)
        yield _subject(case.name, case.base, case.module)
    for folder, first, second in CUTS:
        cuts = [_cut(folder / "modules" / f"{name}.btf.zst") for name in (first, second)]
        yield _subject(f"{folder.name}:{first}+{second}", *cuts)


def _subject(name: str, base: bytes, module: bytes) -> Subject:
    below, own = naive_btf.parse(base), naive_btf.parse(module)
    split = Btf(below.order, base=below)
    naive_btf.add(split, own, split.string_index())
    functions = [i for i, t in enumerate(own.types, 1) if naive_btf.kind_of(t) == naive_btf.FUNC]
    named = [t[0] for t in own.types if t[0]] or [0]
    ext = extwriter.write(
        own.order,
        func=[(named[0], [[8 * at, found] for at, found in enumerate(functions[:3])])],
        line=[(named[0], [[0, named[-1], named[0], 12 << 10 | 3], [8, named[0], 0, 99 << 10]])],
        core=[(named[-1], [[16, len(own.types), named[0], 0], [24, 1, named[0], 8]])],
    )
    return Subject(name, base, module, written(split), ext)


def _cut(path) -> bytes:  # type: ignore[no-untyped-def]
    """Types of a file that are found by walking from its last structs; what lies beyond is void."""
    whole = naive_btf.parse(unpacked(path))
    roots = [i for i, t in enumerate(whole.types, 1) if naive_btf.kind_of(t) == naive_btf.STRUCT]
    kept: dict[int, None] = {}
    todo = roots[-12::3] + roots[:1]
    for type_id in todo:
        if type_id and type_id not in kept and len(kept) < CUT_TYPES:
            kept[type_id] = None
            t = whole.types[type_id - 1]
            todo += [t[word] for word in id_words(t)]
    new_ids = {old: new for new, old in enumerate(sorted(kept), 1)} | {0: 0}
    out = Btf(whole.order, strings=b"\0")
    index = out.string_index()
    for old in sorted(kept):
        words = list(whole.types[old - 1])
        naive_btf.intern(out, words, whole, 0, index)
        for word in id_words(words):
            words[word] = new_ids.get(words[word], 0)
        if naive_btf.kind_of(words) == naive_btf.FUNC and words[2] == 0:
            words[1] = naive_btf.TYPEDEF << 24
        out.types.append(words)
    assert string_words(out.types[0])
    return written(out)
