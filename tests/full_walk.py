"""Walks whole kernels and many seeds from input to output: what `make oracle` runs. Prints N of N.

    python tests/full_walk.py [--seeds N] [SOURCE...]

The walker (`support/oracles/walker.py`) shows that what dedup wrote describes the same graph as
what it was given, with none of the library's code. Always: the demo kernels, and seeds of
`support/vectors.py`, each put on a base (split), by itself (plain), split again (resplit) and
merged. SOURCE: a folder or package with further kernels, as for `splitbtf run`.

Exit status 0 if all are the same, 1 if not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

import btf
from pipeline.model.records import KernelInput
from pipeline.sources.discover import find_kernels
from pipeline.sources.unpack import unpacked
from pipeline.work.base import load_base
from pipeline.work.open import open_path
from support import vectors
from support.modes import MODES, deduplicated
from support.oracles import naive_btf
from support.oracles.walker import NotTheSame, Walked, walk
from support.paths import DATASETS

Outcome = tuple[str, Walked | str]


def walked_kernel(kernel: KernelInput) -> Iterator[Outcome]:
    """Every module of a kernel, put on its base."""
    with unpacked(kernel.bases[:1]) as (first,), unpacked(kernel.modules) as modules:
        indexed = load_base(first.content_path)
        assert indexed.index.base is not None
        base = naive_btf.parse(indexed.index.base.to_bytes())
        for module in modules:
            opened = open_path(module.content_path, indexed.index, shown=module.path)
            result = btf.dedup_module(opened, indexed.index)
            source = opened.btf
            added = source.base is None
            try:
                given = naive_btf.parse(source.to_bytes(), None if added else base)
                output = naive_btf.parse(result.btf.to_bytes(), base)
                yield module.name, walk([(given, result.id_map.tolist())], output, added=added)
            except NotTheSame as error:
                yield module.name, str(error)


def walked_seed(seed: int) -> Iterator[Outcome]:
    """A seed in every mode. Seeds have names that are declared, and defined in several ways."""
    case = vectors.generate.__wrapped__(seed)  # not to keep thousands
    base, module = naive_btf.parse(case.base), naive_btf.parse(case.module)
    split = naive_btf.parse(case.split, base)
    for mode in MODES:
        result = deduplicated(mode, case.inputs(mode))
        output = naive_btf.parse(result.btf.to_bytes(), None if mode == "plain" else base)
        given = [(split if mode == "resplit" else module, result.id_map.tolist())]
        try:
            yield f"{seed} {mode}", walk(given, output, added=mode == "split", strict=False)
        except NotTheSame as error:
            yield f"{seed} {mode}", str(error)
    merged = btf.merge([btf.parse(case.base), btf.parse(case.module)])
    maps = (ids.tolist() for ids in merged.id_maps)
    output = naive_btf.parse(merged.btf.to_bytes())
    try:
        yield f"{seed} merge", walk(zip((base, module), maps, strict=True), output, strict=False)
    except NotTheSame as error:
        yield f"{seed} merge", str(error)


def report(group: str, outcomes: Iterator[Outcome]) -> bool:
    """Print how many are the same, and what was looked at; every one that is not is named."""
    started, total, same, count = time.monotonic(), Counter[str](), 0, 0
    for name, outcome in outcomes:
        count += 1
        if isinstance(outcome, str):
            print(f"  NOT THE SAME  {group}: {name}: {outcome}", flush=True)
        else:
            same += 1
            total.update(asdict(outcome))
    seen = ", ".join(f"{number:,} {what}" for what, number in total.items())
    seconds = time.monotonic() - started
    print(f"walked {group}: {same} of {count} the same ({seen}; {seconds:.1f} s)", flush=True)
    return 0 < count == same


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("sources", nargs="*", help="folders or packages of further kernels")
    given = parser.parse_args(argv)
    folders = [str(folder) for folder in sorted(DATASETS.glob("demo*"))]
    sound = [
        report(kernel.name, walked_kernel(kernel))
        for source in [*folders, *given.sources]
        for kernel in find_kernels([source])
    ]
    seeds = (outcome for seed in range(given.seeds) for outcome in walked_seed(seed))
    sound.append(report(f"{given.seeds} seeds", seeds))
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
