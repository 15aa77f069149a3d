"""Everything there is to compare with libbpf's results: what `make oracle` runs. Prints N of N.

    python tests/full_oracle.py [--oracle DIR] [--contract TSV --generator PY] [--golden DIR]

Always: the frozen vectors of this repository (split, plain, resplit) and the demo kernels.
With a larger collection, named by the options or by SPLITBTF_ORACLE (a folder that holds `oracle/`
and `data/`), also:

  contract   a table of seeds and the generator that makes their files (`GENERATOR SEED OUTDIR
  --size
             SIZE`, leaving base.btf and module.btf): every seed, split and plain
  golden     a folder with KERNEL.golden.tsv, KERNEL.vmlinux.btf.zst and KERNEL.standalone.tar.zst:
             every module of every kernel

Exit status 0 if all are equal, 1 if not, 2 if something that was named is not there.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

import btf
from support import vectors
from support.dumping import unpacked
from support.paths import DATASETS

FACTS = vectors.FACTS
# A comparison: what it is called, and whether all facts are equal (None: the table has no result).
Outcome = tuple[str, bool | None]


def facts(result: btf.BTF) -> tuple[str, ...]:
    return vectors.section_facts(result.type_section(), result.string_section())


def attempt(function: Callable[..., btf.DedupResult], *given: object) -> tuple[str, ...]:
    """Facts of a result; an error is a result that equals nothing."""
    try:
        return facts(function(*given).btf)
    except btf.BtfError as error:
        return (f"error: {error}",)


def frozen_vectors() -> Iterator[Outcome]:
    for row in vectors.contract():
        case = vectors.build(row["case"])
        base, module = btf.parse(case.base), btf.parse(case.module)
        index = btf.BaseIndex.build(base)
        made = {
            "split": attempt(btf.dedup_split, module, index),
            "plain": attempt(btf.dedup, module),
            "resplit": attempt(btf.dedup, btf.parse(case.split, base), index),
        }
        for mode, got in made.items():
            expected = vectors.expected(row, mode)
            yield f"{row['case']} {mode}", got == expected if any(expected) else None


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("oracle_generator", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contract(table: Path, generator: Path) -> Iterator[Outcome]:
    """The generator is a program; its `generate(seed, size)` is called directly: faster."""
    generate = load_module(generator).generate
    with table.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            base, module = map(btf.parse, generate(int(row["seed"]), row["size"])[:2])
            index = btf.BaseIndex.build(base)
            made = {
                "split": attempt(btf.dedup_split, module, index),
                "plain": attempt(btf.dedup, module),
            }
            for mode, got in made.items():
                has_result = row[f"{mode}_ok"] == "1"
                name = f"{row['size']} {row['seed']} {mode}"
                yield name, got == vectors.expected(row, mode) if has_result else None


def golden(table: Path, base: bytes, modules: Iterable[tuple[str, bytes]]) -> Iterator[Outcome]:
    """Every module of a table. What is no BTF by itself is split on the base, as builds ship it."""
    with table.open(newline="") as file:
        rows = {row["module"]: row for row in csv.DictReader(file, delimiter="\t")}
    vmlinux = btf.parse(base)
    index = btf.BaseIndex.build(vmlinux)
    missing = set(rows)
    for name, data in modules:
        row = rows.get(name)
        if row is None:
            continue
        missing.remove(name)
        same_input = hashlib.sha256(data).hexdigest() == row["input_sha256"]
        try:
            got = attempt(btf.dedup_split, btf.parse(data), index)
        except btf.BtfError:
            got = attempt(btf.dedup, btf.parse(data, vmlinux), index)
        yield name, same_input and got == tuple(row[fact] for fact in FACTS)
    for name in sorted(missing):
        yield f"{name} (file missing)", False


def demo_modules(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*.btf.zst")):
        yield path.name.removesuffix(".btf.zst"), unpacked(path)


def archived_modules(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(unpacked(archive))) as files:
        for member in files:
            content = files.extractfile(member)
            if content is not None:
                yield Path(member.name).name.removesuffix(".btf"), content.read()


def report(group: str, outcomes: Iterable[Outcome]) -> bool:
    started = time.monotonic()
    equal = compared = without = 0
    for name, same in outcomes:
        if same is None:
            without += 1
            continue
        compared += 1
        equal += same
        if not same:
            print(f"  DIFFERS  {group}: {name}", flush=True)
    note = f", {without} without a result of libbpf" if without else ""
    seconds = time.monotonic() - started
    print(f"{group}: {equal} of {compared} equal{note} ({seconds:.1f} s)", flush=True)
    return equal == compared and compared > 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--oracle", type=Path, help="folder with oracle/ and data/")
    parser.add_argument("--contract", type=Path, help="table of seeds")
    parser.add_argument("--generator", type=Path, help="program that makes a seed's files")
    parser.add_argument("--golden", type=Path, help="folder of kernels with golden results")
    given = parser.parse_args(argv)
    if given.oracle is None and os.environ.get("SPLITBTF_ORACLE"):
        given.oracle = Path(os.environ["SPLITBTF_ORACLE"])
    if given.oracle:
        given.contract = given.contract or given.oracle / "oracle" / "contract.tsv"
        given.generator = given.generator or given.oracle / "oracle" / "gen.py"
        given.golden = given.golden or given.oracle / "data"
    if bool(given.contract) != bool(given.generator):
        parser.error("--contract and --generator go together")
    for path in (given.contract, given.generator, given.golden):
        if path and not path.exists():
            parser.error(f"{path} is not there")
    return given


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    sound = [report("vectors", frozen_vectors())]
    for folder in sorted(DATASETS.glob("demo*")):
        base = unpacked(folder / "vmlinux.btf.zst")
        outcomes = golden(folder / "golden.tsv", base, demo_modules(folder))
        sound.append(report(f"datasets/{folder.name}", outcomes))
    if given.contract:
        sound.append(report("contract", contract(given.contract, given.generator)))
    if given.golden:
        for table in sorted(given.golden.glob("*.golden.tsv")):
            kernel = table.name.removesuffix(".golden.tsv")
            base = unpacked(given.golden / f"{kernel}.vmlinux.btf.zst")
            modules = archived_modules(given.golden / f"{kernel}.standalone.tar.zst")
            sound.append(report(f"golden {kernel}", golden(table, base, modules)))
    if not (given.contract or given.golden):
        print("Only what this repository holds: no --oracle, and SPLITBTF_ORACLE is not set.")
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
