"""Protects: sizes of two kernels can be subtracted in whatever library reads the tables.

Files are opened as the libraries open folders of Parquet, not through ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.kernels import INT, LONG, kernel
from support.runs import run_on

Differences = dict[str, tuple[int, int]]  # of a struct: in size, in members

EXPECTED: Differences = {"grown": (8, 1), "same": (0, 0), "shrunk": (-12, -2)}


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table ``types`` of two kernels."""
    folder = tmp_path_factory.mktemp("two")

    def structs(**sizes: tuple[int, int]) -> Callable[..., None]:
        def make(w: object) -> None:
            for name, (size, members) in sizes.items():
                fields = [(f"m{at}", INT, 32 * at) for at in range(members)]
                w.struct(name, size, fields)  # type: ignore[attr-defined]

        return make

    made = {
        "old": structs(grown=(8, 2), same=(4, 1), shrunk=(20, 5)),
        "new": structs(grown=(16, 3), same=(4, 1), shrunk=(8, 3)),
    }
    for name, make in made.items():
        run_on(kernel(folder / name, {"m": lambda w: w.ptr(LONG)}, make), folder / "out")
    return folder / "out/tables/types"


def test_duckdb(types: Path) -> None:
    import duckdb

    rows = duckdb.sql(
        f"""
        WITH t AS (FROM read_parquet('{types}/*/*.parquet', hive_partitioning = true)
                   WHERE kind = 'STRUCT')
        SELECT name, new.size - old.size, new.vlen - old.vlen
        FROM (FROM t WHERE kernel = 'new') new JOIN (FROM t WHERE kernel = 'old') old USING (name)
        """
    ).fetchall()
    assert {name: tuple(rest) for name, *rest in rows} == EXPECTED


def test_arrow(types: Path) -> None:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    table = ds.dataset(types, partitioning="hive").to_table(filter=ds.field("kind") == "STRUCT")
    sides = [table.filter(pc.field("kernel") == name) for name in ("new", "old")]
    both = sides[0].join(sides[1], "name", right_suffix="_old", join_type="inner")
    found = zip(
        both["name"].to_pylist(),
        pc.subtract(both["size"], both["size_old"]).to_pylist(),
        pc.subtract(both["vlen"], both["vlen_old"]).to_pylist(),
        strict=True,
    )
    assert {name: (size, vlen) for name, size, vlen in found} == EXPECTED


def test_pandas(types: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.read_parquet(types)
    structs = table[table["kind"] == "STRUCT"].set_index("name")
    new, old = (structs[structs["kernel"] == name] for name in ("new", "old"))
    size, vlen = new["size"] - old["size"], new["vlen"] - old["vlen"]
    assert {name: (int(size[name]), int(vlen[name])) for name in size.index} == EXPECTED


def test_polars(types: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    structs = polars.read_parquet(f"{types}/*/*.parquet", hive_partitioning=True).filter(
        polars.col("kind").cast(polars.String) == "STRUCT"
    )
    new, old = (structs.filter(polars.col("kernel") == name) for name in ("new", "old"))
    both = new.join(old, on="name", suffix="_old").select(
        "name",
        polars.col("size") - polars.col("size_old"),
        polars.col("vlen") - polars.col("vlen_old"),
    )
    assert {name: (size, vlen) for name, size, vlen in both.iter_rows()} == EXPECTED
