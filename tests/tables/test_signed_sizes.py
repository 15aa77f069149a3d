"""Protects: sizes of two kernels, subtracted in any of the libraries that people use, are right."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.store.output import read_table
from support import btfwriter as bw
from support.kernels import INT, kernel
from support.runs import run_on

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Of two kernels: a struct that shrank from 16 to 4 bytes, and one that grew."""
    folder = tmp_path_factory.mktemp("signed")
    for name, (shrinks, grows) in {"old": (16, 4), "new": (4, 16)}.items():

        def base(w: bw.Writer, sizes: tuple[int, int] = (shrinks, grows)) -> None:
            w.struct("shrinks", sizes[0], [("a", INT, 0)])
            w.struct("grows", sizes[1], [("a", INT, 0)])

        kernel(folder / name, {}, base)
        run_on(folder / name, folder / "out")
    structs = read_table(folder / "out", "types")
    return structs.filter(pa.compute.equal(structs["kind"], "STRUCT"))


EXPECTED = {"shrinks": -12, "grows": 12}


def test_pandas(types: pa.Table) -> None:
    by_name = types.to_pandas().pivot(index="name", columns="kernel", values="size")
    assert (by_name["new"] - by_name["old"]).to_dict() == EXPECTED


def test_polars(types: pa.Table) -> None:
    import polars as pl

    frame = pl.DataFrame(types.select(["kernel", "name", "size"]))
    both = frame.filter(kernel="old").join(frame.filter(kernel="new"), on="name", suffix="_new")
    difference = both.select("name", pl.col("size_new") - pl.col("size"))
    assert dict(difference.iter_rows()) == EXPECTED


def test_duckdb(types: pa.Table) -> None:
    import duckdb

    relation = duckdb.sql(
        "SELECT name, new.size - old.size FROM types AS old JOIN types AS new USING (name) "
        "WHERE old.kernel = 'old' AND new.kernel = 'new'"
    )
    assert relation is not None and dict(relation.fetchall()) == EXPECTED
