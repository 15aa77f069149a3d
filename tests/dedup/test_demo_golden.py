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
from support.paths import DATASETS

SETS = {name: DATASETS / name for name in ("demo", "demo-s390x")}


def golden(folder: Path) -> list[dict[str, str]]:
    with (folder / "golden.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("name", SETS)
def test_every_module_equals_libbpf_s(name: str) -> None:
    folder = SETS[name]
    index = btf.BaseIndex.build(btf.parse(unpacked(folder / "vmlinux.btf.zst")))
    rows = golden(folder)
    wrong = []
    for row in rows:
        data = unpacked(folder / "modules" / f"{row['module']}.btf.zst")
        assert hashlib.sha256(data).hexdigest() == row["input_sha256"], row["module"]
        result = btf.dedup_split(btf.parse(data), index).btf
        types, strings = result.type_section(), result.string_section()
        got = [str(len(types)), str(len(strings))]
        got += [hashlib.sha256(section).hexdigest() for section in (types, strings)]
        columns = ("type_len", "str_len", "type_sha256", "str_sha256")
        if got != [row[column] for column in columns]:
            wrong.append(row["module"])
    assert not wrong, f"{len(rows) - len(wrong)} of {len(rows)} equal; not: {wrong}"
    assert len(rows) >= 5
