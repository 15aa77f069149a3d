"""Protects: the files of tables are read as they are by the libraries that people use, whatever
their columns are encoded with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.store.output import read_table
from support.runs import run_on, small_kernel

Sums = dict[str, int]
TABLES = {"types": ("global_id", "type_id", "size", "vlen"), "members": ("global_id", "position")}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    for name in ("one", "two"):
        run_on(small_kernel(folder / name), folder / "out")
    return folder / "out"


def sums_of(table: Any, columns: tuple[str, ...]) -> Sums:
    import pyarrow.compute as pc

    return {name: pc.sum(table[name]).as_py() for name in columns}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_numbers_and_texts(name: str, out: Path) -> None:
    import duckdb
    import pandas
    import polars

    expected, columns = read_table(out, name), TABLES[name]
    text = "spelling" if name == "types" else "type"
    texts = sorted(filter(None, expected[text].to_pylist()))
    files = f"{out}/tables/{name}/*/*.parquet"
    found = duckdb.read_parquet(files, hive_partitioning=True).to_arrow_table()
    frame = pandas.read_parquet(out / "tables" / name)
    lazy = polars.read_parquet(files, hive_partitioning=True)
    sums = sums_of(expected, columns)
    assert sums_of(found, columns) == sums
    assert {column: int(frame[column].sum()) for column in columns} == sums
    assert {column: lazy[column].sum() for column in columns} == sums
    assert sorted(filter(None, found[text].to_pylist())) == texts
    assert sorted(frame[text].dropna()) == texts
    assert sorted(lazy[text].drop_nulls()) == texts
