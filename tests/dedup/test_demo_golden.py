"""Protects the contract on real kernels: every module of the demo sets, to the byte.

The digests in datasets/*/golden.tsv are libbpf's; x86-64 is little-endian, s390x big-endian.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

import btf
from support.dumping import unpacked
from support.paths import DATASETS, DEMO_LATER
from support.vectors import FACTS, section_facts

SETS = {name: DATASETS / name for name in ("demo", "demo-s390x")}


def golden(folder: Path) -> list[dict[str, str]]:
    with (folder / "golden.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def expected(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[fact] for fact in FACTS)


def sections(made: btf.BTF) -> tuple[str, ...]:
    return section_facts(made.type_section(), made.string_section())


@pytest.mark.parametrize("name", SETS)
def test_every_module_equals_libbpf_s(name: str) -> None:
    folder = SETS[name]
    index = btf.BaseIndex.build(btf.parse(unpacked(folder / "vmlinux.btf.zst")))
    rows = golden(folder)
    wrong = []
    for row in rows:
        data = unpacked(folder / "modules" / f"{row['module']}.btf.zst")
        assert hashlib.sha256(data).hexdigest() == row["input_sha256"], row["module"]
        if sections(btf.dedup_split(btf.parse(data), index).btf) != expected(row):
            wrong.append(row["module"])
    assert not wrong, f"{len(rows) - len(wrong)} of {len(rows)} equal; not: {wrong}"
    assert len(rows) >= 5


def test_what_a_build_shipped_is_deduplicated_again_as_by_libbpf() -> None:
    base = btf.parse(unpacked(DEMO_LATER / "vmlinux.btf.zst"))
    index = btf.BaseIndex.build(base)
    rows = {row["module"]: row for row in golden(DEMO_LATER)}
    paths = list((DEMO_LATER / "kernel").rglob("*.btf.zst"))
    assert len(paths) == len(rows)
    for path in paths:
        row, data = rows[path.name.removesuffix(".btf.zst")], unpacked(path)
        assert hashlib.sha256(data).hexdigest() == row["input_sha256"], path
        assert sections(btf.dedup(btf.parse(data, base), index).btf) == expected(row), path
