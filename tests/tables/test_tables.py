"""Protects: the tables say what is in the BTF files, and every column is declared and described."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import resource
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import btf
from pipeline.model.base import SharedBase
from pipeline.model.errors import OutputError, QueryError
from pipeline.model.options import RunOptions
from pipeline.model.records import DONE, ModuleRecord
from pipeline.run import run
from pipeline.store.check import check_output
from pipeline.store.output import read_manifests, read_table
from pipeline.tables import describe
from pipeline.tables.describe import BaseGroup, Describer, ModuleGroup
from pipeline.tables.members import TABLE as MEMBERS
from pipeline.tables.misses import TABLE as MISSES
from pipeline.tables.registry import all_tables, markdown, module_tables
from pipeline.tables.schema import ModuleTable, Objects, Spelled
from pipeline.tables.stored import parquet
from pipeline.tables.stored.parquet import PartWriter
from pipeline.tables.types import TABLE as TYPES
from support import btfwriter
from support.paths import ROOT
from support.trees import SMALL, small_tree


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small kernel's results, which no test changes."""
    folder = tmp_path_factory.mktemp("tables")
    return run_on(small_tree(folder / "small", whole=True), folder / "out")


def run_on(source: Path, out: Path, workers: int | None = None) -> Path:
    run(RunOptions(sources=(str(source),), out=str(out), engine="local", workers=workers))
    return out


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    return read_table(out, table).to_pylist()


@pytest.mark.slow
def test_types_are_those_of_the_files(out: Path) -> None:
    base = btf.parse((out / "btf/kernel=small/vmlinux.btf").read_bytes())
    found = read_table(out, "types")
    start = base.type_count
    assert found["name"][:start].to_pylist() == names_of(base)
    position = start
    for number, module in enumerate(SMALL, start=1):
        split = btf.parse((out / f"btf/kernel=small/{module}.btf").read_bytes(), base)
        part = found.slice(position, split.type_count)
        ids = range(split.start_id, split.start_id + split.type_count)
        assert part["module"].to_pylist() == [module] * split.type_count
        assert part["type_id"].to_pylist() == list(ids)
        assert part["global_id"].to_pylist() == [number << 32 | type_id for type_id in ids]
        assert part["name"].to_pylist() == names_of(split)
        kinds = [btf.KIND_NAMES[kind] for kind in split.own_kinds]
        assert part["kind"].to_pylist() == kinds
        assert sum(part["bytes"].to_pylist()) == len(split.type_section())
        position += split.type_count
    assert position == len(found)


def names_of(types: btf.BTF) -> list[str | None]:
    return [found.name or None for found in types.own_types()]


@pytest.mark.slow
def test_modules_agree_with_files_and_types(out: Path) -> None:
    types = rows(out, "types")
    for row in rows(out, "modules"):
        content = (out / f"btf/kernel=small/{row['module']}.btf").read_bytes()
        own = [entry for entry in types if entry["object_id"] == row["object_id"]]
        assert row["status"] == "done" and row["form"] == "standalone" and row["error"] is None
        assert row["bytes_out"] == len(content)
        assert row["bytes_out"] == 24 + row["type_bytes_out"] + row["string_bytes_out"]
        assert row["types_out"] == len(own) == sum(dict(row["types_out_by_kind"]).values())
        assert row["type_bytes_out"] == sum(dict(row["bytes_out_by_kind"]).values())
        assert row["types_in"] == sum(dict(row["types_in_by_kind"]).values())
        assert row["type_bytes_in"] == sum(dict(row["bytes_in_by_kind"]).values())


def test_kernels_are_the_sums(out: Path) -> None:
    (kernel,) = rows(out, "kernels")
    modules = rows(out, "modules")
    assert kernel["kernel"] == "small" and kernel["modules"] == len(modules) == len(SMALL)
    for column, source in [("bytes_in", "input_bytes"), ("bytes_out", "bytes_out"),
                           ("types_in", "types_in"), ("types_out", "types_out")]:  # fmt: skip
        assert kernel[column] == sum(row[source] for row in modules)
    assert kernel["base_types"] == sum(dict(kernel["base_types_by_kind"]).values())


@pytest.mark.slow
def test_any_reader_of_hive_partitions_sees_the_kernel(out: Path) -> None:
    for table in all_tables():
        found = pq.read_table(out / "tables" / table)
        assert "kernel" in found.column_names
        assert set(found["kernel"].to_pylist()) == ({"small"} if table != "leftovers" else set())


@pytest.mark.slow
def test_every_run_has_a_row(small: Path, tmp_path: Path) -> None:
    out = run_on(small, tmp_path / "out", workers=1)
    run_on(small, out, workers=2)
    first, second = rows(out, "runs")
    assert first["started_at"] < second["started_at"]
    assert (first["workers"], first["engine"], first["worked"], first["read"]) == (1, "local", 5, 5)
    # Nothing has changed, so no worker was started.
    assert (second["workers"], second["worked"], second["reused"]) == (0, 0, 5)
    assert dict(first["versions"])["pyarrow"] == pa.__version__


def shared_base(types: btf.BTF) -> SharedBase:
    return SharedBase.of(types, btf.BaseIndex.build(types))


def table_of(table: ModuleTable, group: ModuleGroup, names: list[str], first: int = 1) -> pa.Table:
    """The rows of a group whose first module has this number in the kernel."""
    counts, rows = table.rows(group)
    ids = np.arange(first, first + len(counts), dtype=np.uint32)
    assert group.base is not None
    start_id = 1 if group.is_base else group.base.index.type_end
    below = ["void"] if group.is_base else spelled(group.base.declarations)
    of_types, types = TYPES.rows(group)
    spellings = Spelled(pa.array(below), types.field("spelling"), of_types)
    named = pa.array(names, pa.string())
    objects = Objects(ids, counts, [""] * len(ids), named, start_id, spellings)
    columns = {field.name: rows.field(number) for number, field in enumerate(rows.type)}
    return table.of(table.to_arrow(columns, objects))


def spelled(declared: btf.Declarations) -> list[str]:
    ends, data = declared.spellings()
    return [data[start:end].tobytes().decode() for start, end in itertools.pairwise(ends)]


def group_of(base: SharedBase, splits: Sequence[btf.BTF | None]) -> ModuleGroup:
    records = [ModuleRecord("m", 1, "", "", DONE) for _ in splits]
    return ModuleGroup(base, records, splits, {"misses": [None] * len(splits)})


def test_names_that_are_not_utf_8() -> None:
    writer = btfwriter.Writer()
    writer.int("int", 4)
    data = writer.to_bytes().replace(b"int", b"i\xff\xc3")
    table = table_of(TYPES, BaseGroup(shared_base(btf.parse(data))), [""], 0)
    table.validate(full=True)
    assert table["name"].to_pylist() == ["i\\xff\\xc3"]


def test_no_types_at_all() -> None:
    base = shared_base(btf.parse(btfwriter.Writer().to_bytes()))
    assert base.index.base is not None
    nothing = btf.dedup_split(base.index.base, base.index).btf
    for table in (TYPES, MEMBERS, MISSES):
        for splits in ([nothing, nothing], [None, nothing], [None]):
            found = table_of(table, group_of(base, splits), ["", "m", "n"])
            assert len(found) == 0 and found.schema.equals(table.schema)


@pytest.mark.slow
def test_modules_taken_together(
    monkeypatch: pytest.MonkeyPatch, demo_btf: Callable[[str], bytes]
) -> None:
    """However many modules are described at once, failed ones between them: the rows are those of
    each by itself."""
    base = shared_base(btf.parse(demo_btf("vmlinux")))
    splits: list[btf.BTF | None] = [
        btf.dedup_split(btf.parse(demo_btf(name)), base.index).btf for name in SMALL
    ]
    splits[2:2] = [None]
    names = ["", *(f"m{number}" for number in range(1, len(splits) + 1))]
    alone = [group_of(base, [split]) for split in splits]
    together = group_of(base, splits)
    for table in (TYPES, MEMBERS):
        each = [table_of(table, group, names, number) for number, group in enumerate(alone, 1)]
        assert table_of(table, together, names).equals(pa.concat_tables(each))
    rows = []
    for limit in (1, 700, 1 << 20):
        monkeypatch.setattr(describe, "TYPES_AT_ONCE", limit)
        describer = Describer(base, contextlib.nullcontext)
        for split in splits:
            types = split.type_count if split is not None else None
            describer.add(ModuleRecord("m", 1, "", "", DONE, types_out=types), split, {})
        batches = describer.rows()
        assert len(batches) == 1 or limit < 1 << 20
        rows.append(pa.Table.from_batches(batches).combine_chunks())
    assert rows[0].equals(rows[1]) and rows[1].equals(rows[2])
    assert rows[0].column_names == [table.name for table in module_tables()]


@pytest.mark.parametrize("with_room", [False, True])  # for all the text, among all of them
def test_spellings_are_those_of_each_module_by_itself(with_room: bool) -> None:
    """Where one of those that are described together has far more text than its types have bytes,
    as no compiler writes it: its texts are short, those of others are not."""
    base = btfwriter.Writer()
    base.int("int", 4)
    kept = shared_base(btf.parse(base.to_bytes()))
    small, large = btfwriter.Writer(base=base), btfwriter.Writer(base=base)
    small.struct("s" * 40, 4, [("a", 1, 0)])
    named = large.struct("l" * 900, 4, [("a", 1, 0)])
    for _ in range(3000):
        large.ptr(named)
    filler = btfwriter.Writer(base=base)
    for _ in range(20_000 * with_room):
        filler.int("x", 4)
    parsed = [btf.parse(w.to_bytes(), kept.index.base) for w in (small, large, filler)]
    splits: list[btf.BTF | None] = [parsed[0], None, *parsed[1:]]
    found = table_of(TYPES, group_of(kept, splits), ["", "a", "b", "c", "d"])
    spellings = found["spelling"].to_pylist()
    assert spellings[0] == "struct " + "s" * 40
    assert spellings[1] == spellings[3000] == "struct " + "l" * 22 + "…"
    assert spellings[3002:] == ["x"] * (20_000 * with_room)


def test_a_part_without_rows(tmp_path: Path) -> None:
    writer = PartWriter(str(tmp_path / "none.parquet"), TYPES.schema)
    writer.close()
    table = pq.read_table(tmp_path / "none.parquet")
    assert len(table) == 0 and table.schema.equals(TYPES.schema)


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_a_part_depends_on_its_rows_alone(
    pieces: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_btf: Callable[[str], bytes]
) -> None:
    """However many pieces the rows came in, and where they ended: the same bytes."""
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 5000)
    base = shared_base(btf.parse(demo_btf("vmlinux")))
    chunk = table_of(TYPES, BaseGroup(base), [""], 0).slice(0, 23456)
    contents = []
    for name, sizes in (("whole", [len(chunk)]), ("pieces", [len(chunk) // pieces + 1] * pieces)):
        writer = PartWriter(str(tmp_path / name), TYPES.schema)
        at = 0
        for size in sizes:
            writer.add(chunk.slice(at, size))
            at += size
        writer.close()
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert pq.ParquetFile(tmp_path / "whole").metadata.num_row_groups == 5
    assert pq.read_table(tmp_path / "pieces").equals(chunk)


def test_columns_are_described(out: Path) -> None:
    for table in all_tables().values():
        names = [column.name for column in table.columns]
        assert len(set(names)) == len(names) and table.row
        for column in table.columns:
            assert len(column.description) > 10 or column.unit, (table.name, column.name)
        found = next((out / "tables" / table.name / "kernel=small").iterdir())
        schema = pq.read_schema(found)
        assert schema.equals(table.schema)
        for column in table.columns:
            metadata = schema.field(column.name).metadata
            assert metadata[b"description"].decode() == column.description
            assert metadata[b"unit"].decode() == column.unit


def test_each_table_has_a_rank_of_its_own() -> None:
    ranks = [table.rank for table in all_tables().values()]
    assert ranks == sorted(set(ranks))


def test_docs_tables_is_what_the_schemas_say() -> None:
    assert (ROOT / "docs/tables.md").read_text() == markdown(), "run: make docs"


def test_read_table_of_one_kernel(out: Path) -> None:
    assert len(read_table(out, "modules", "small")) == len(SMALL)
    assert read_table(out, "modules", "sma").equals(read_table(out, "modules"))


def test_read_table_says_what_is_wrong(out: Path, tmp_path: Path) -> None:
    for table, kernel, said in (
        ("typs", None, r"no table 'typs'; the nearest names: types$"),
        ("x", None, r"no table 'x'; there are: conflicts, duplicates, kernels, "),
        ("types", "smalll", r"no kernel 'smalll'; the nearest names: small$"),
        ("types", "other", r"no kernel 'other'; there are: small$"),
    ):
        with pytest.raises(QueryError, match=said):
            read_table(out, table, kernel)
    with pytest.raises(OutputError, match=r"no kernel there; `splitbtf run -o"):
        read_table(tmp_path, "types")
    (tmp_path / "output").mkdir()
    with pytest.raises(OutputError, match=r"ouput: no such folder; the nearest names: .*/output$"):
        read_table(tmp_path / "ouput", "types")
    (tmp_path / "all.btf").touch()
    for read in (read_manifests, check_output, partial(read_table, table="types")):
        with pytest.raises(OutputError, match=r"all\.btf: a file, not a folder that `splitbtf run"):
            read(str(tmp_path / "all.btf"))


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it fills up in the middle of a large table; Arrow names no file."""
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 1000)
    schema = pa.schema([("hash", pa.binary(16))])
    hashes = [hashlib.md5(bytes([n % 256, n // 256])).digest() for n in range(20_000)]
    path = tmp_path / "large.parquet"
    writer = PartWriter(str(path), schema)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, hard))
    try:
        with pytest.raises(OutputError, match=f"cannot write {path}: File too large"):
            writer.add(pa.table({"hash": hashes}, schema=schema))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.discard()
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left on device"):
        PartWriter("/dev/full", schema)
