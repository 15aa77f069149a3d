"""Protects slices: however a kernel is cut, the parts put together are the tables of the run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.files.storage import LocalFolder
from pipeline.model.base import SharedBase
from pipeline.model.errors import OutputError
from pipeline.store.output import read_table
from pipeline.tables.stored.results import Results
from pipeline.tables.stored.slices import (
    ModuleResultRef,
    ResultRef,
    ResultsLRU,
    Slice,
    SliceSummary,
    make_parts,
)
from pipeline.work.base import load_base
from support.runs import run_on, small_kernel


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slices")
    return run_on(small_kernel(folder / "kernel"), folder / "out")


def base_of(out: Path) -> SharedBase:
    base = load_base(str(out / "btf/kernel=kernel/vmlinux.btf"))
    return SharedBase.of(base.types, base.index)


def refs(out: Path) -> list[ModuleResultRef]:
    """Where the results of a run are, in the order of the modules."""
    found = {}
    (version,) = out.glob("versions/*/*")
    for path in out.glob("cache/*/*.results"):
        for position, entry in enumerate(Results(path.name, path.read_bytes()).entries):
            of_btf = str((version / f"{entry.module}.btf").relative_to(out))
            found[entry.module] = ResultRef(str(path.relative_to(out)), position, of_btf)
    rows = sorted(read_table(out, "modules").to_pylist(), key=lambda row: row["object_id"])
    return [
        ModuleResultRef(row["module"], row["object_id"], row["source"], found[row["module"]])
        for row in rows
    ]


def test_results_come_in_the_order_that_is_asked_for(out: Path) -> None:
    """Neighbours of a file come in one piece, whatever else is asked for before and after."""
    modules = refs(out)
    assert len(modules) == 3
    results = ResultsLRU(LocalFolder(str(out)), base_of(out))
    entries, whole = results.read(modules)
    assert [entry.module for entry in entries] == ["one", "three", "two"]
    alone = [rows for module in modules for rows in results.read([module])[1]]
    assert [len(rows) for rows in alone] == [1] * 3
    assert pa.Table.from_batches(whole).equals(pa.Table.from_batches(alone))
    entries, backwards = results.read(modules[::-1])
    assert [entry.module for entry in entries] == ["two", "three", "one"]
    assert pa.Table.from_batches(backwards).equals(pa.Table.from_batches(alone[::-1]))
    assert results.read([]) == ([], [])


def test_results_that_are_not_there(out: Path, tmp_path: Path) -> None:
    """The message says which file it is, and what to do."""
    (first, *_) = refs(out)
    results = ResultsLRU(LocalFolder(str(out)), base_of(out))
    beyond = ModuleResultRef("m", 1, "m", ResultRef(first.result.path, 99, ""))
    with pytest.raises(OutputError, match=r"no result 99; remove it and run again"):
        results.read([beyond])
    packed = (out / first.result.path).read_bytes()
    path = tmp_path / first.result.path
    path.parent.mkdir(parents=True)
    damaged = ResultsLRU(LocalFolder(str(tmp_path)), None)
    with pytest.raises(OutputError, match=r"cannot read .*results"):
        damaged.read([first])
    path.write_bytes(packed[:-1] + b"x")
    with pytest.raises(OutputError, match="damaged; remove it and run again"):
        damaged.read([first])


def test_a_btf_file_that_is_not_what_the_result_says(out: Path, tmp_path: Path) -> None:
    """Rows are made of it: not of whatever it holds by then."""
    (first, *_) = refs(out)
    for name in (first.result.path, first.result.btf):
        (tmp_path / name).parent.mkdir(parents=True)
    path = tmp_path / first.result.path
    path.write_bytes((out / first.result.path).read_bytes())
    results = ResultsLRU(LocalFolder(str(tmp_path)), base_of(out))
    with pytest.raises(OutputError, match=r"cannot read .*one\.btf"):
        results.read([first])
    content = (out / first.result.btf).read_bytes()
    (tmp_path / first.result.btf).write_bytes(content[:-1] + b"x")
    with pytest.raises(OutputError, match=r"one\.btf: it has changed; remove it and run again"):
        results.read([first])
    (tmp_path / first.result.btf).write_bytes(content)
    assert results.read([first])[1][0]["types"].value_lengths().to_pylist() != [0]


@pytest.mark.parametrize("cut", [(3,), (1, 3), (2, 3), (1, 2, 3)])
def test_any_cut_gives_the_rows_of_the_run(cut: tuple[int, ...], out: Path) -> None:
    modules = refs(out)
    shared = base_of(out)
    storage = LocalFolder(str(out))
    names = ["", *(module.name for module in modules)]
    made = SliceSummary()
    for start, end in zip((0, *cut), cut, strict=False):
        task = Slice(storage, None, "again", names, modules[start:end])
        made.add(make_parts(shared, task))
    made_of_base = make_parts(shared, Slice(storage, None, "again", names, ()))
    assert set(made.digests) == {"one", "two", "three"} and len(made.keys) == 3
    assert sum(summary.modules for summary in made.summaries) == 3
    for table, parts in made.parts.items():
        of_base = made_of_base.parts.get(table, [])
        rows = pa.concat_tables([pq.read_table(out / part.path) for part in (*of_base, *parts)])
        expected = read_table(out, table, "kernel").drop_columns(["kernel"])
        columns = [name for name in expected.column_names if name in rows.column_names]
        assert columns and rows.select(columns).to_pylist() == expected.select(columns).to_pylist()
