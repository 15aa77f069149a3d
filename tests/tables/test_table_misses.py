"""Protects: the table misses is what ``btf.unmerged_types`` finds in the modules of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import btf
from pipeline.files.read import read_input
from pipeline.model.options import RunOptions
from pipeline.run import run
from pipeline.store.output import read_table
from support.trees import small_tree

MODULES = ("act_bpf", "ip_vs_dh", "nf_conntrack_ftp", "nft_nat", "xt_bpf")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("misses")
    small_tree(folder / "small", MODULES, whole=True)
    run(RunOptions(sources=(str(folder / "small"),), out=str(folder / "out"), engine="local"))
    return folder / "out"


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    return read_table(out, table).to_pylist()


@pytest.mark.slow
def test_rows_are_what_is_found_in_each_module(out: Path) -> None:
    types = {row["global_id"]: row for row in rows(out, "types")}
    found = rows(out, "misses")
    source = out.parent / "small"
    index = btf.BaseIndex.build(btf.load_base(read_input(str(source / "vmlinux.btf.zst"))))
    position = 0
    for number, name in enumerate(MODULES, start=1):
        opened = btf.open_module(read_input(str(source / f"{name}.btf.zst")), index)
        result = btf.dedup_module(opened, index)
        for miss in btf.unmerged_types(opened.btf, result, index):
            row = found[position]
            position += 1
            assert (row["module"], row["object_id"], row["type_id"]) == (name, number, miss.type_id)
            assert row["global_id"] == number << 32 | miss.type_id
            for column in ("kind", "name", "bytes"):
                assert row[column] == types[row["global_id"]][column]
            assert row["base_kind"] == types[row["base_type_id"]]["kind"]
            assert types[row["base_type_id"]]["name"] == row["name"]
            for column in ("base_type_id", "namesakes", "reason", "path", "sole"):
                assert row[column] == getattr(miss, column)
            root = types[row["root_global_id"]]
            assert (row["root_kind"], row["root_name"]) == (root["kind"], root["name"])
            assert row["root_global_id"] == number << 32 | miss.root.type_id
            assert row["root_base_type_id"] == miss.root.base_type_id
            assert row["difference"] == miss.root.words
            assert (row["root_types"], row["root_bytes"]) == (
                miss.root.kept_types,
                miss.root.kept_bytes,
            )
    assert position == len(found) > 5


@pytest.mark.slow
def test_every_type_of_a_name_that_the_base_has_is_there(out: Path) -> None:
    """Told from the table ``types`` alone."""
    types = rows(out, "types")
    in_base = {(row["kind"], row["name"]) for row in types if row["object_id"] == 0 and row["name"]}
    expected = {
        row["global_id"]
        for row in types
        if row["object_id"] and (row["kind"], row["name"]) in in_base
        and row["kind"] not in ("TYPE_TAG", "DECL_TAG")
    }  # fmt: skip
    found = rows(out, "misses")
    assert expected == {row["global_id"] for row in found if row["kind"] == row["base_kind"]}
    assert any(row["kind"] != row["base_kind"] for row in found)
