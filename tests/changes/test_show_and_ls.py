"""Protects ``splitbtf show`` and ``splitbtf ls`` of an output folder."""

from __future__ import annotations

import gc
import json
import re
import shutil
import weakref
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import btf
from pipeline.analysis.changes.names import NamedTypes
from pipeline.analysis.changes.rows import MEMBER_COLUMNS, TYPE_COLUMNS
from pipeline.analysis.changes.stored import _OF_MODULES, FACTS, StoredKernel, column_type
from pipeline.analysis.questions import questions
from pipeline.tables.registry import all_tables
from support.commands import splitbtf
from support.kernels import INT, LONG, Make, kernel
from support.runs import run_on

pytestmark = pytest.mark.slow

KERNELS = ("6.1.0-9-cloud", "6.1.0-50-cloud", "6.12.1-cloud")
NOT_LOOKED_AT = {"find": ("vlen",), "show": ("vlen", "global_id")}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")

    def base(step: int) -> Make:
        return lambda w: w.struct("s", 8 + 8 * (step > 1), [("a", INT, 0), ("b", LONG, 64)])

    def module(step: int) -> Make:
        return lambda w: w.struct("t", 4, [("a" if step else "z", INT, 0)])

    for step, name in enumerate(KERNELS):
        kernel(folder / name, {"one": module(step), "two": module(0)}, base(step))
        run_on(folder / name, folder / "out")
    return folder / "out"


def test_kernels_side_by_side(out: Path) -> None:
    lines = splitbtf("show", "s", out).out.splitlines()
    assert lines[1] == "6.1.0-9: the same in 6.1.0-50"
    assert ["6.1.0-9", "6.12.1"] in [line.split() for line in lines]
    assert ["size", "8", "16"] in [line.split() for line in lines]
    once = splitbtf("show", "struct s", out, "--kernel", "6.1.0-50", "--kernel", "6.1.0-9").out
    assert once.splitlines()[:3] == [
        f"/* {KERNELS[0]} */", f"/* {KERNELS[1]} */", "struct s {",
    ]  # fmt: skip
    facts = splitbtf("show", "s", out, "--kernel", "6.12", "--json").json
    (one,) = facts["kernels"]
    assert (one["kernel"], one["object"], one["found"][0]["size"]) == (KERNELS[2], "vmlinux", 16)


def test_as_many_kernels_beside_each_other_as_there_is_room(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    lines = splitbtf("show", "s", out).out.splitlines()
    assert sum(line.lstrip().startswith("* b") or line.startswith("  b") for line in lines) == 2


def test_the_btf_of_a_kernel_is_let_go_of_before_the_next(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else memory grows with their number: 10 MB each."""
    opened: list[weakref.ref[btf.BTF]] = []
    there = []
    original = StoredKernel.open_btf

    def open_btf(kernel: StoredKernel, name: str) -> btf.BTF:
        gc.collect()
        there.append(sum(one() is not None for one in opened))
        found = original(kernel, name)
        opened.append(weakref.ref(found))
        return found

    monkeypatch.setattr(StoredKernel, "open_btf", open_btf)
    assert splitbtf("show", "s", out).code == 0
    assert len(there) == len(KERNELS) and max(there) <= 1


def test_what_modules_have(out: Path) -> None:
    said = splitbtf("show", "t", out).out
    assert "one" in said and "two" in said, "where it is declared in different ways"
    done = splitbtf("show", "t", out, "--module", "two")
    assert done.out.count("struct t {") == 1 and f"/* {KERNELS[1]}: two */" in done.out
    assert " z;" in done.out and " a;" not in done.out
    nothing = splitbtf("show", "u", out)
    assert (nothing.code, nothing.out) == (1, "") and "none of the 3 has 'u'" in nothing.err
    member = splitbtf("show", "s.a", out, "--kernel", KERNELS[0])
    assert f"{KERNELS[0]}: no 's.a'" in member.err and "splitbtf history s.a OUT" in member.err
    assert splitbtf("show", "s", out, "--kernel", "7").code == 2
    nothing = splitbtf("show", "t", out, "--kernel", KERNELS[0], "--module", "twoo")
    said = f"no module 'twoo' in {KERNELS[0]}; the nearest names: two\n"
    assert nothing.code == 2 and nothing.err.endswith(said)
    assert splitbtf("show", "s", out, "-B", "x").code == 2


def test_ls(out: Path) -> None:
    lines = splitbtf("ls", out).out.splitlines()
    assert [line.split()[0] for line in lines] == ["kernel", *KERNELS]
    assert [row["modules"] for row in splitbtf("ls", out, "--json").json] == [2, 2, 2]
    rows = splitbtf("ls", out, "6.12", "--json").json
    assert [(row["module"], row["types_out"]) for row in rows] == [("one", 1), ("two", 1)]
    assert {row["kernel"] for row in rows} == {KERNELS[2]}
    heading, empty, head, first, *_ = splitbtf("ls", out, "6.12").out.splitlines()
    assert (heading, empty) == (f"{KERNELS[2]}: 2 modules", "")
    assert head.split()[0] == "module" and first.split()[0] == "one"
    assert splitbtf("ls", out, "5").code == 2
    for command in (["ls", out, "6.1.0-5"], ["diff", "--in", out, "6.1.0-5", "6.12"]):
        done = splitbtf(*command)
        assert (done.code, done.out) == (2, "")
        assert f"no kernel '6.1.0-5'; the nearest names: {KERNELS[1]}, " in done.err, done


def without_column(out: Path, copy: Path, table: str, column: str, *, as_text: bool) -> Path:
    """A copy of an output folder of which somebody wrote a table anew without a column, or with the
    column as text."""
    shutil.copytree(out, copy, symlinks=True)
    for path in (copy / "manifests").glob("*.json"):
        manifest = json.loads(path.read_text())
        for part in manifest["tables"][table]:
            rows = pq.ParquetFile(copy / part["path"]).read()
            values = rows[column]
            rows = rows.drop_columns(column)
            if as_text:
                rows = rows.append_column(column, values.cast("string"))
            pq.write_table(rows, copy / part["path"])
            part["bytes"] = (copy / part["path"]).stat().st_size
        path.write_text(json.dumps(manifest))
    return copy


@pytest.mark.parametrize("column", ["global_id", "module", "object_id", "kind", "name", "vlen"])
def test_a_name_is_not_missing_for_want_of_a_column(out: Path, tmp_path: Path, column: str) -> None:
    changed = without_column(out, tmp_path / "out", "types", column, as_text=False)
    name = "t" if column == "module" else "s"  # modules have that one
    for command in (["history", name], ["history", f"{name}.b"], ["find", name], ["show", name]):
        if column not in NOT_LOOKED_AT.get(command[0], ()):
            done = splitbtf(*command, changed)
            assert done.code == 2 and f"has no column {column}: " in done.err, (command, done)


COLUMNS_OF = (  # of these commands, some that they ask about
    ("ls", "kernels", ("package", "base_bytes")),
    (f"ls {KERNELS[1]}", "modules", ("form", "bytes_out")),
    ("explain", "misses", ("difference", "root_bytes")),
    ("explain", "modules", ("type_bytes_out",)),
    ("audit", "leftovers", ("cause", "bytes")),
    ("audit", "modules", ("form", "bytes_out")),
    ("report", "types", ("bytes", "layout_fingerprint")),
)


@pytest.mark.parametrize(
    ("command", "table", "column"),
    [(command, table, one) for command, table, columns in COLUMNS_OF for one in columns],
)
def test_no_answer_is_of_nulls_in_place_of_a_column(
    out: Path, tmp_path: Path, command: str, table: str, column: str
) -> None:
    name, *more = command.split()
    changed = without_column(out, tmp_path / "out", table, column, as_text=False)
    output = ["-o", tmp_path / "report.html"] if name == "report" else []
    done = splitbtf(name, changed, *more, *output)
    assert done.code == 2 and f"has no column {column}: " in done.err, done
    assert f"/{table}/" in done.err and done.err.count("\n") == 1
    assert splitbtf("query", changed, f"SELECT count(*) FROM {table}").code == 0


@pytest.mark.parametrize("name", sorted(questions()))
def test_questions_say_which_column_they_miss(out: Path, tmp_path: Path, name: str) -> None:
    asked = questions()[name]
    words = {*re.findall(r"\w+", re.sub("--.*", "", asked.sql))}
    compared = ["--from", KERNELS[0], "--to", KERNELS[2]] if asked.compares else []
    named = {
        (table.name, column.name)
        for table in all_tables().values()
        for column in table.columns
        if {table.name, column.name} <= words
    }
    assert named or words & {"fields", "pairs"}
    for table, column in sorted(named)[:: max(1, len(named) // 4)]:
        changed = without_column(out, tmp_path / f"{table}-{column}", table, column, as_text=False)
        done = splitbtf("query", changed, name, *compared)
        assert done.code == 2 and f"has no column {column}: " in done.err, (table, column, done)


@pytest.mark.parametrize("column", ["flavour", "release_key"])
def test_kernels_are_not_paired_by_a_column_that_is_missing(
    out: Path, tmp_path: Path, column: str
) -> None:
    changed = without_column(out, tmp_path / "out", "kernels", column, as_text=False)
    done = splitbtf("query", changed, "layouts-changed")
    assert done.code == 2 and f"has no column {column}: " in done.err, done
    named = splitbtf("query", changed, "layouts-changed", "--from", KERNELS[0], "--to", KERNELS[2])
    assert named.code == 0, "these are given, not found"


@pytest.mark.parametrize("table", ["types", "members"])
@pytest.mark.parametrize("as_text", [False, True])
def test_tables_with_other_columns(out: Path, tmp_path: Path, table: str, as_text: bool) -> None:
    """One command after another may not look there; diff does."""
    changed = without_column(out, tmp_path / "out", table, "global_id", as_text=as_text)
    old, new = KERNELS[1:]
    diff, *others = (
        splitbtf(*command)
        for command in (["diff", "--in", changed, old, new], ["history", "s.b", changed],
                        ["history", "s", changed], ["show", "s", changed])
    )  # fmt: skip
    assert diff.code == 2 and "global_id" in diff.err
    for done in others:
        assert "a bug in splitbtf" not in done.err
        assert done.code < 2 or "global_id" in done.err, done.err


@pytest.mark.parametrize("table", ["kernels", "modules", "types", "members"])
def test_what_columns_are_read_as(table: str) -> None:
    read = {
        "kernels": FACTS,
        "modules": _OF_MODULES,
        "types": (*NamedTypes.COLUMNS, *TYPE_COLUMNS),
        "members": MEMBER_COLUMNS,
    }
    schema = all_tables()[table].schema
    for name in read[table]:
        found = schema.field(name).type
        assert column_type(name) == str(getattr(found, "value_type", found)), name
