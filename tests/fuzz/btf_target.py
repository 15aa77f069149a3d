"""Mutants of BTF: every operation gets as many as every other."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace

import btf
from fuzz import analyses, corpus, mutate, operations
from fuzz.operations import ALLOWED, MUTATES, OPERATIONS, Files
from support.oracles import naive_btf

Mutant = tuple[str, Files]
assert analyses.__name__  # which are operations too


class BtfTarget:
    """One operation on a small kernel of which one file is a mutant."""

    name = "btf"
    is_compiled = True

    def prepare(self) -> None:
        """Every operation once, on what is sound."""
        btf.warm_up()
        largest = max(corpus.subjects(), key=lambda subject: len(subject.module))
        files = Files(largest.base, largest.module, largest.split, largest.module, largest.ext, 0)
        for operation in OPERATIONS.values():
            with contextlib.suppress(btf.BtfError):
                list(operation(files))

    def mutant(self, seed: int) -> Mutant:
        roll = random.Random(seed)
        names = list(OPERATIONS)
        operation = names[seed % len(names)]
        subjects = corpus.subjects()
        subject = roll.choice(subjects)
        other = roll.choice([s for s in subjects if s.module[:2] == subject.module[:2]]).module
        if roll.random() < 0.3:  # what the mutant was
            other = subject.module
        ext = subject.ext
        files = Files(subject.base, subject.module, subject.split, other, ext, seed)
        match MUTATES[operation]:
            case "module":
                module = mutate.mutated(mutate.draft(files.module), roll)
                return operation, replace(files, module=module)
            case "base":
                return operation, replace(
                    files, base=mutate.mutated(mutate.draft(files.base), roll)
                )
            case "split":
                base = operations.naively(subject.base)
                draft = mutate.draft(files.split, base.end_id, base.end_str)
                return operation, replace(files, split=mutate.mutated(draft, roll))
            case what:
                assert what == "ext"
                if roll.random() < 0.3:
                    module = mutate.mutated(mutate.draft(files.module), roll)
                    return operation, replace(files, module=module)
                return operation, replace(files, ext=mutate.noise(ext, roll))

    def group(self, mutant: Mutant) -> str:
        return mutant[0]

    def size(self, mutant: Mutant) -> int:
        files = mutant[1]
        return sum(map(len, (files.base, files.module, files.split, files.other, files.ext)))

    def run(self, mutant: Mutant) -> Iterator[bytes]:
        return OPERATIONS[mutant[0]](mutant[1])

    def allowed(self, mutant: Mutant) -> tuple[type[Exception], ...]:
        return ALLOWED.get(mutant[0], ())

    def shrunk(self, mutant: Mutant) -> Iterator[Mutant]:
        """Smaller ones, the most promising first: without some of the types, then of the bytes."""
        operation, files = mutant
        what = MUTATES[operation]
        data = getattr(files, what)
        for smaller in _smaller(data, *self._start(operation, files)):
            if len(smaller) < len(data) or smaller < data:
                yield operation, replace(files, **{what: smaller})  # type: ignore[arg-type]
        if what != "base" and operation in ("parse", "explore", "dedup", "dump c", "permute"):
            yield operation, replace(files, base=operations.EMPTY)
        if files.other != operations.EMPTY:
            yield operation, replace(files, other=operations.EMPTY)

    def _start(self, operation: str, files: Files) -> tuple[int, int]:
        if MUTATES[operation] != "split":
            return 1, 0
        base = operations.naively(files.base)
        return base.end_id, base.end_str

    def files(self, mutant: Mutant) -> dict[str, bytes]:
        """What a reproducer consists of."""
        files = mutant[1]
        return {name: getattr(files, name) for name in ("base", "module", "split", "other", "ext")}

    def again(self, group: str, seed: int, files: dict[str, bytes]) -> Mutant:
        """The mutant of a reproducer."""
        return group, Files(seed=seed, **files)


def _smaller(data: bytes, start_id: int, start_str: int) -> Iterator[bytes]:
    try:
        draft = mutate.draft(data, start_id, start_str)
        assert draft.to_bytes() == data
    except Exception:
        yield from pieces_less(data)
        return
    count = len(draft.types)
    size = count
    while size:
        for at in range(0, count, size):
            fewer = mutate.draft(data, start_id, start_str)
            kept = [i for i in range(count) if not at <= i < at + size]
            mutate.reorder(fewer, kept, follow=True)
            yield fewer.to_bytes()
        size //= 2
    for at, t in enumerate(draft.types):
        if naive_btf.kind_of(t) in naive_btf.ELEMENT_WORDS and naive_btf.vlen_of(t):
            fewer = mutate.draft(data, start_id, start_str)
            step = naive_btf.ELEMENT_WORDS[naive_btf.kind_of(t)]
            del fewer.types[at][-step:]
            fewer.types[at][1] -= 1
            yield fewer.to_bytes()


def pieces_less(data: bytes) -> Iterator[bytes]:
    """Data without one piece, from halves to single bytes."""
    size = len(data) // 2
    while size:
        for at in range(0, len(data), size):
            yield data[:at] + data[at + size :]
        size //= 2
