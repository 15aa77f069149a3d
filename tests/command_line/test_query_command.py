"""Protects what users of ``splitbtf find`` and ``splitbtf query`` see; and that they only read."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from jobs.cli import main
from jobs.query import _pieces
from pipeline.analysis.find import find
from pipeline.analysis.query import Tables, sql_type
from pipeline.files.remote import RemoteFolder
from pipeline.model.errors import QueryError
from pipeline.store.output import read_table
from pipeline.tables.registry import all_tables
from support import btfwriter as bw
from support.commands import Finished, splitbtf
from support.paths import ROOT
from support.runs import run_on, small_kernel
from support.trees import files_below

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kernels, of which the second has another struct driver in vmlinux."""
    folder = tmp_path_factory.mktemp("query")
    small_kernel(folder / "first")
    second = small_kernel(folder / "second")
    base = bw.Writer()
    integer = base.int("int", 4)
    base.struct("driver", 4, [("a", integer, 0)])
    (second / "vmlinux.btf").write_bytes(base.to_bytes())
    run_on(folder / "first", folder / "out")
    return run_on(folder / "second", folder / "out")


def found(done: Finished) -> list[tuple[str, str, int]]:
    assert done.code == 0, done.err
    return [(row["kernel"], row["module"], row["meaning"]) for row in done.json["found"]]


def test_every_definition_is_found(out: Path) -> None:
    done = splitbtf("find", "driver", out, "--json")
    assert found(done) == [
        ("first", "one", 1),
        ("first", "three", 2),
        ("first", "two", 1),
        ("second", "", 3),
        ("second", "one", 1),
        ("second", "three", 2),
        ("second", "two", 1),
    ]
    types = {(row["kernel"], row["global_id"]): row for row in read_table(out, "types").to_pylist()}
    for row in done.json["found"]:
        expected = types[row["kernel"], row["global_id"]]
        for key in ("kind", "name", "type_id", "module", "size", "bytes"):
            assert row[key] == expected[key] or (row[key], expected[key]) == ("", None)
        assert row["fingerprint"] == expected["fingerprint"].hex()
        assert row["global_id"] == expected["object_id"] << 32 | row["type_id"]


@pytest.mark.parametrize(
    "query", ["FROM modules ORDER BY kernel, module", "size-per-kernel", "repeated-in-modules"]
)
def test_a_limit_gives_the_first_rows(
    query: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.analysis.query._ROWS_AT_ONCE", 1)  # one kernel after the other
    whole = splitbtf("query", out, query, "--json").json
    assert len({row["kernel"] for row in whole}) == 2, "some of the limits end in the first one"
    for limit in sorted({1, len(whole) - 1, len(whole), len(whole) + 1}):
        limited = [splitbtf("query", out, query, "--limit", limit, "--format", style)
                   for style in ("json", "csv", "table")]  # fmt: skip
        assert limited[0].json == whole[:limit]
        assert len(limited[1].out.splitlines()) == 1 + min(limit, len(whole))
        last = limited[2].out.splitlines()[-1]
        assert last.startswith("(the first ") == (limit <= len(whole)), last


def test_find_says_at_which_level_types_differ(tmp_path: Path) -> None:
    base = bw.Writer()
    integer = base.int("int", 4)
    base.struct("reached", 4, [("a", integer, 0)])
    for name, of in {"one": "reached", "two": "declared", "three": "other", "four": "wide"}.items():
        module = bw.Writer()
        integer = module.int("int", 4)
        member = {
            "other": lambda w: w.typedef("number", 1),
            "wide": lambda w: w.array(1, 1, 2),
        }.get(of, lambda w: 1)(module)  # fmt: skip
        behind = module.struct("reached", 4 + 4 * (of == "declared"), [("a", integer, 0)])
        members = [("m", member, 0), ("p", module.ptr(behind), 64)]
        module.struct("thing", 16, members)
        (tmp_path / f"{name}.btf").write_bytes(module.to_bytes())
    (tmp_path / "vmlinux.btf").write_bytes(base.to_bytes())
    out = run_on(tmp_path, tmp_path / "out")
    rows = splitbtf("find", "struct thing", out, "--json").json["found"]
    levels = {row["module"]: (row["meaning"], row["level"]) for row in rows}
    assert levels == {
        "four": (1, None), "one": (2, "layout"), "three": (3, "layout"), "two": (2, "layout"),
    }  # fmt: skip
    rows = splitbtf("find", "struct thing", out, "--json", "--module", "one").json["found"]
    assert [row["level"] for row in rows] == [None]
    (out / "../four.btf").unlink()
    rows = splitbtf("find", "thing", run_on(tmp_path, tmp_path / "next"), "--json").json["found"]
    levels = {row["module"]: (row["meaning"], row["level"]) for row in rows}
    assert levels == {"one": (1, None), "three": (2, "declaration"), "two": (1, "fingerprint")}
    text = splitbtf("find", "thing", tmp_path / "next").out
    assert "2 different declarations" in text and "16 bytes, same layout" in text


def test_module_is_a_hint(out: Path) -> None:
    seen = found(splitbtf("find", "driver", out, "--module", "three", "--json"))
    assert seen == [("first", "three", 1), ("second", "three", 1)]
    seen = found(splitbtf("find", "int", out, "--module", "one", "--kernel", "first", "--json"))
    assert seen == [("first", "", 1)], "what a module does not define it has from vmlinux"


def test_names_as_people_type_them(out: Path) -> None:
    def names(name: str, **more: str) -> list[tuple[str, str, str, str]]:
        seen = find(name, [str(out)], **more).found
        return [(one.kernel, one.module, one.kind, one.name) for one in seen]

    assert names("struct driver") == names("driver") == names(" struct  driver", kind="STRUCT")
    assert names("struct hidden") == names("hidden"), "of what is only declared, too"
    assert names("hidden")[0][2] == "FWD" and names("union hidden") == []
    assert names("hidden", kind="STRUCT") == []
    assert names("union driver") == [] and names("func start") == names("start")
    assert names("driver", module="three.ko", kernel="sec") == [
        ("second", "three", "STRUCT", "driver")
    ]
    assert {one[1] for one in names("driver", module="vmlinux")} == {""}
    several = names("s*r*")
    assert [one[3] for one in several] == sorted(one[3] for one in several)
    assert set(names("start")) < set(several) and set(names("struct s*r*")) < set(several)
    done = splitbtf("find", "s*r*", out)
    assert re.match(r"\d+ different declarations of \d+ names:\n", done.out)
    with pytest.raises(QueryError, match="'struct driver' is not of the kind union"):
        names("struct driver", kind="UNION")
    search = find("func sturct", [str(out)])
    assert not search.found and "struct" not in search.nearest


def test_kind_and_kernel(out: Path) -> None:
    seen = found(splitbtf("find", "driver", out, "--kernel", "second", "--json"))
    assert len(seen) == 4
    assert splitbtf("find", "driver", out, "--kind", "union").code == 1
    assert len(found(splitbtf("find", "start", out, "--kind", "func", "--json"))) == 6


def test_in_words(out: Path, tmp_path: Path) -> None:
    shown = splitbtf("find", "driver", out).out.splitlines()
    assert shown[0] == "3 different declarations of that name:"
    assert re.fullmatch(r"struct driver, 8 bytes  [0-9a-f]{32}", shown[1])
    assert shown[2] == "  first"
    assert re.fullmatch(r"    one      \[\d+\]  0x00000001[0-9a-f]{8}", shown[3])
    assert sum(line.startswith("    vmlinux  [2]  0x") for line in shown) == 1
    shutil.copytree(out, tmp_path / "copy")
    both = splitbtf("find", "int", out, tmp_path / "copy").out
    assert f"  {out}: first\n" in both and f"  {tmp_path / 'copy'}: second\n" in both
    assert both.startswith("int int, 4 bytes  ")


def test_none_is_a_negative_answer(out: Path) -> None:
    done = splitbtf("find", "Drivr", out)
    assert done.code == 1 and not done.err
    assert done.out.startswith("no type is called 'Drivr'; the nearest names: driver")
    done = splitbtf("find", "drive", out, "--kind", "struct", "--json")
    assert done.code == 1 and done.json["found"] == [] and done.json["nearest"][0] == "driver"
    assert "start" not in done.json["nearest"], "of other kinds nothing is proposed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kernel", "third"), "no kernel 'third'; there are: first, second"),
        (("--module", "four"), "no module 'four' in first, second"),
        (("--kind", "class"), "invalid choice: 'class' (choose from int, struct, "),
    ],
)
def test_what_does_not_exist_is_said(arguments: Any, message: str, out: Path) -> None:
    done = splitbtf("find", "driver", out, *arguments)
    assert done.code == 2 and message in done.err


def test_the_empty_name_is_that_of_no_type(out: Path) -> None:
    done = splitbtf("find", "", out)
    assert done.code == 2 and "NAME is empty" in done.err


def test_no_kernels(tmp_path: Path) -> None:
    for command in (("find", "int", tmp_path), ("query", tmp_path, "SELECT 1")):
        done = splitbtf(*command)
        assert done.code == 2 and "no kernel there; `splitbtf run -o" in done.err


def test_query(out: Path) -> None:
    sql = "SELECT kernel, count(*) AS types FROM types GROUP BY kernel ORDER BY kernel"
    done = splitbtf("query", out, sql)
    counts = [len(read_table(out, "types", kernel)) for kernel in ("first", "second")]
    assert done.out.splitlines() == [
        "kernel  types",
        "------  -----",
        f"first   {counts[0]:>5}",
        f"second  {counts[1]:>5}",
        "(2 rows)",
    ]
    done = splitbtf("query", out, sql, "--json")
    assert done.json == [
        {"kernel": "first", "types": counts[0]},
        {"kernel": "second", "types": counts[1]},
    ]


def test_all_values_can_be_printed(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Maps, lists, times, hashes and numbers beyond 64 bits with a sign."""
    for table in all_tables():  # not a process for each
        expected = read_table(out, table)
        assert main(["query", str(out), f"FROM {table}", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == len(expected)
        assert main(["query", str(out), f"FROM {table}"]) == 0
        assert capsys.readouterr().out.endswith(
            f"({len(expected):,} row{'s' if len(expected) != 1 else ''})\n"
        )
    (row,) = splitbtf("query", out, "FROM members WHERE name = 'all' LIMIT 1", "--json").json
    assert row["value"] == (1 << 64) - 1
    (row,) = splitbtf("query", out, "FROM runs WHERE kernel = 'first'", "--json").json
    assert row["versions"]["pyarrow"] == pa.__version__ and row["started_at"].endswith("+00:00")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "Parser Error"),
        ("SELECT nothing FROM types", "nothing"),
        ("SELECT 1; SELECT 2", "one query is wanted, these are 2"),
        ("", "one query is wanted, these are 0"),
        ("COPY (SELECT 1) TO 'stolen.csv'", "only queries can be run here"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO 'stolen.csv'", "only queries can be run here"),
        ("EXPORT DATABASE 'stolen'", "only queries can be run here"),
        ("ATTACH 'stolen.db'", "only queries can be run here"),
        ("CREATE TABLE t (i INT)", "only queries can be run here"),
        ("SET enable_external_access = true", "only queries can be run here"),
        ("INSTALL httpfs", "only queries can be run here"),
        ("SELECT * FROM read_text('/etc/hostname')", "Permission Error"),
        ("FROM glob('/*')", "Permission Error"),
        ("SELECT * FROM tables", "Catalog Error"),
    ],
)
def test_only_queries_over_the_tables(sql: str, message: str, out: Path) -> None:
    before = files_below(out)
    with Tables(str(out)) as tables, pytest.raises(QueryError, match=message):
        tables.ask(sql)
    assert files_below(out) == before and not Path("stolen.csv").exists()


def test_errors_are_short(out: Path) -> None:
    done = splitbtf("query", out, "SELECT 1 FROM nowhere")
    assert done.code == 2 and "nowhere" in done.err and "Traceback" not in done.err


def test_tables_of_an_older_version(out: Path, tmp_path: Path) -> None:
    """A kernel may lack a table that was not there when it was written: it is empty then."""
    old = tmp_path / "old"
    for name, content in files_below(out).items():
        if name.startswith("manifests/"):
            content = content.replace(b'"members"', b'"forgotten"')
        path = old / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with Tables(str(old)) as tables:
        assert tables.ask("SELECT count(*) FROM members").rows == ((0,),)
        described = {row[0]: row[1] for row in tables.ask("DESCRIBE members").rows}
    with Tables(str(out)) as tables:
        assert {row[0]: row[1] for row in tables.ask("DESCRIBE members").rows} == described
        for table in all_tables().values():
            types = {row[0]: row[1] for row in tables.ask(f"DESCRIBE {table.name}").rows}
            for column in table.columns:
                assert types[column.name] == sql_type(column.type)


def test_tables_that_lie_elsewhere(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file system that only pyarrow reaches, parts are read as data sets of Arrow."""
    elsewhere = RemoteFolder.__new__(RemoteFolder)
    elsewhere.place, elsewhere._root = "s3://bucket/out", str(out)
    elsewhere._fs = LocalFileSystem()
    with Tables(str(out)) as tables:
        sql = "SELECT * FROM duplicates ORDER BY kernel, own_fingerprint"
        expected = tables.ask(sql)
    monkeypatch.setattr("pipeline.analysis.query.open_storage", lambda _: elsewhere)
    with Tables(str(out)) as tables:
        assert tables.ask(sql) == expected and len(expected.rows) > 10
        with pytest.raises(QueryError, match="Permission Error"):
            tables.ask("FROM read_text('/etc/hostname')")


def test_what_does_not_fit_into_memory(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to a folder for temporary files, which goes with the query, and nowhere else."""
    connect = duckdb.connect
    little: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": "40MB",
        "threads": 1,
    }
    monkeypatch.setattr(duckdb, "connect", lambda: connect(config=little))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    sql = "SELECT sum(x), max(h) FROM (SELECT range AS x, md5(range::VARCHAR) AS h \
        FROM range(1000000) ORDER BY h)"
    before = files_below(out)
    with Tables(str(out)) as tables:
        (folder,) = (tmp_path / "temporary").iterdir()
        (used,) = tables.ask("SELECT current_setting('temp_directory')").rows
        assert used == (str(folder),) and folder.stat().st_mode & 0o77 == 0
        assert tables.ask(sql).rows[0][0] == 1000000 * 999999 // 2
    assert files_below(tmp_path) == {} and files_below(out) == before
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("sql", ["SELECT DATE '12000-01-01'", "SELECT TIMESTAMP '29000-01-01'"])
def test_values_beyond_python_s(sql: str, out: Path) -> None:
    with Tables(str(out)) as tables, pytest.raises(QueryError, match="out of range"):
        tables.ask(sql)


@pytest.mark.parametrize(
    ("sql", "as_json", "in_words"),
    [
        ("MAP {'a': 1}", {"a": 1}, "a=1"),
        ("MAP {'\\x01'::BLOB: 1}", {"01": 1}, "01=1"),
        ("[MAP {'a': 1}]", [{"a": 1}], "a=1"),
        pytest.param(
            "{'x': MAP {1: MAP {2: 3}}}",
            {"x": {"1": {"2": 3}}},
            "x=1=2=3",
            marks=pytest.mark.skipif(
                duckdb.__version__.startswith("1.2."),
                reason="NOT RUN: DuckDB 1.2 gives a map in a map as a list of pairs",
            ),
        ),
        ("MAP {[1]: 2, [3]: NULL}", [[[1], 2], [[3], None]], "1=2, 3="),
        ("MAP {[1, 2]::INT[2]: 3}", [[[1, 2], 3]], "1, 2=3"),
        ("MAP {{'a': 1}: 2}", [[{"a": 1}, 2]], "a=1=2"),
        ("MAP {MAP {1: 2}: 3}", [[[[1, 2]], 3]], "1=2=3"),
        ("MAP {union_value(a := [1]): 2}", [[[1], 2]], "1=2"),
        ("[MAP {[1]: 2}]", [[[[1], 2]]], "1=2"),
        ("NULL::MAP(INT[], INT)", None, ""),
    ],
)
def test_maps(
    sql: str, as_json: Any, in_words: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever their keys are, and wherever they stand."""
    assert main(["query", str(out), f"SELECT {sql} AS m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"m": as_json}]
    assert main(["query", str(out), f"SELECT {sql} AS m"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [in_words, "(1 row)"]


# And makes maps whose keys may be absent, which Parquet does not have.
names_by_itself = pytest.mark.skipif(
    tuple(map(int, duckdb.__version__.split(".")[:2])) < (1, 3),
    reason="DuckDB before 1.3 tells columns of one name apart itself, otherwise",
)
KINDS_OF_VALUES = """
    SELECT 'a"b,c' AS text, NULL AS absent, 1.50::DECIMAL(4,2) AS price, true AS yes,
           '\\xff'::BLOB AS hash, [1, 2] AS list, MAP {'k': 1} AS map, '' AS empty,
           DATE '2026-11-26' AS day, 5::HUGEINT AS large, 'x' AS text"""


def test_csv(out: Path, tmp_path: Path) -> None:
    for arguments in ((), ("-o", tmp_path / "answer.csv")):
        done = splitbtf("query", out, KINDS_OF_VALUES, "--format", "csv", *arguments)
        assert done.code == 0, done.err
        written = (tmp_path / "answer.csv").read_text() if arguments else done.out
        assert list(csv.reader(io.StringIO(written))) == [
            [
                "text",
                "absent",
                "price",
                "yes",
                "hash",
                "list",
                "map",
                "empty",
                "day",
                "large",
                "text_1",
            ],
            ['a"b,c', "", "1.50", "true", "ff", "[1, 2]", '{"k": 1}', "", "2026-11-26", "5", "x"],
        ]
    done = splitbtf("query", out, "SELECT chr(27) || '[31m' || chr(10) AS x", "--format", "csv")
    assert done.out == 'x\n"\x1b[31m\n"\n', "for programs: as it is, and quoted"
    done = splitbtf("query", out, "SELECT 1 AS x WHERE false", "--format", "csv")
    assert done.out == "x\n"


def test_what_is_larger_than_a_batch(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    sql = "SELECT range AS number, 'n' || range AS name FROM range(300000)"
    assert splitbtf("query", out, sql, "-o", path).code == 0
    with path.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["number", "name"] and rows[-1] == ["299999", "n299999"]
    assert len(rows) == 300_001
    assert splitbtf("query", out, sql, "-o", tmp_path / "many.parquet").code == 0
    assert pq.read_table(tmp_path / "many.parquet")["number"].to_pylist() == list(range(300_000))


@names_by_itself
def test_parquet_has_the_types_of_the_answer(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "answer.parquet"
    done = splitbtf(
        "query", out, "SELECT union_value(a := 1) AS x, INTERVAL 1 MONTH AS y", "-o", path
    )
    assert done.code == 2 and "cannot be written as Parquet" in done.err and not path.exists()
    assert splitbtf("query", out, KINDS_OF_VALUES, "-o", path).code == 0
    answer = pq.read_table(path)
    assert answer.column_names[-1] == "text_1" and str(answer.schema.field("hash").type) == "binary"
    assert answer.to_pylist()[0]["list"] == [1, 2]
    assert splitbtf("query", out, "FROM types", "-o", path).code == 0
    assert len(pq.read_table(path)) == len(read_table(out, "types"))
    done = splitbtf("query", out, "SELECT nothing", "-o", path)
    assert done.code == 2 and len(pq.read_table(path)) > 1, "as it was"
    done = splitbtf("query", out, "SELECT 1", "--format", "parquet")
    assert done.code == 2 and "-o FILE says where it goes" in done.err


def test_json_and_tables_in_files(out: Path, tmp_path: Path) -> None:
    sql = "SELECT kernel, modules FROM kernels ORDER BY kernel"
    for name, arguments in (("a.json", ()), ("b", ("--format", "json")), ("c", ("--json",))):
        assert splitbtf("query", out, sql, "-o", tmp_path / name, *arguments).out == ""
        assert (tmp_path / name).read_text() == splitbtf("query", out, sql, "--json").out
    assert splitbtf("query", out, sql, "-o", tmp_path / "d.txt").code == 0
    assert (tmp_path / "d.txt").read_text() == splitbtf("query", out, sql).out
    done = splitbtf("query", out, sql, "-o", tmp_path / "nowhere" / "x.csv")
    assert done.code == 2 and "cannot write" in done.err


@names_by_itself
def test_columns_of_one_name_are_all_told(out: Path) -> None:
    done = splitbtf("query", out, "SELECT 1 AS a, 2 AS A, 3 AS a_1, 4 AS b", "--json")
    assert done.json == [{"a": 1, "A_2": 2, "a_1": 3, "b": 4}]


def test_sql_of_a_file_and_of_standard_input(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "query.sql"
    path.write_text("-- how many\nSELECT count(*) AS kernels FROM kernels;\n")
    command = [sys.executable, "-m", "jobs", "query", str(out), "--json"]
    assert splitbtf("query", out, "--json", "-f", path).json == [{"kernels": 2}]
    for arguments, given in ((["-"], path.read_text()), (["-f", "-"], path.read_text())):
        ended = subprocess.run(
            [*command, *arguments], input=given, capture_output=True, text=True, cwd=ROOT
        )
        assert json.loads(ended.stdout) == [{"kernels": 2}], ended.stderr
    done = splitbtf("query", out, "-f", tmp_path / "none.sql")
    assert done.code == 2 and "none.sql: No such file" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("OUT",), "the following arguments are required: QUERY"),
        (("OUT", "SELECT 1", "-f", "x"), "two queries: 'SELECT 1' and -f x"),
        (
            ("OUT", "size-per-kernl"),
            "no question is called 'size-per-kernl'; the nearest names: size-",
        ),
        (("--show", "modules_grew"), "the nearest names: modules-that-grew"),
        (("OUT", "size-per-kernel", "--from", "first"), "compares no kernels: --kernel names one"),
        (("OUT", "layouts-changed", "--kernel", "first"), "--from and --to name them"),
        (("OUT", "SELECT 1", "--kernel", "first", "--to", "second"), "--kernel is one kernel"),
        (("OUT", "SELECT 1", "--kernel", "frist"), "no kernel 'frist'; the nearest names: first"),
        (("OUT", "SELECT 1", "--json", "--format", "csv"), "two formats"),
    ],
)
def test_what_is_asked_wrongly(arguments: tuple[str, ...], said: str, out: Path) -> None:
    done = splitbtf("query", *(out if word == "OUT" else word for word in arguments))
    assert done.code == 2 and said in done.err, done.err


def test_kernels_that_are_compared(out: Path) -> None:
    def pairs(*arguments: str) -> list[tuple[str, str]]:
        done = splitbtf("query", out, "FROM pairs ORDER BY pair", "--json", *arguments)
        return [(row["old_kernel"], row["new_kernel"]) for row in done.json]

    assert pairs() == [("first", "second")]
    assert pairs("--from", "second", "--to", "first") == [("second", "first")]
    assert pairs("--from", "first") == pairs("--to", "second") == [("first", "second")]
    assert pairs("--from", "second") == pairs("--kernel", "first") == []
    done = splitbtf("query", out, "layouts-changed", "--from", "second")
    assert done.code == 2 and "--from and --to name any two" in done.err
    done = splitbtf("query", out, "SELECT DISTINCT kernel FROM types", "--kernel", "fir", "--json")
    assert done.json == [{"kernel": "first"}]


@pytest.mark.parametrize("source, expected", [
    ("lib/modules/6.1.0/kernel/drivers/net/ethernet/intel/e1000.ko", "drivers/net"),
    ("kernel/fs/xfs/xfs.ko.xz", "fs"),
    ("usr/lib/modules/6.1/kernel/kernel/torture.ko", "kernel"),
    ("modules/xfs.btf", ""),
    ("6.1/kernel/sound/soundcore.ko", "sound"),
])  # fmt: skip
def test_subsystem(source: str, expected: str, out: Path) -> None:
    with Tables(str(out)) as tables:
        assert tables.ask("SELECT subsystem($1)", [source]).rows == ((expected,),)


def at_a_terminal(out: Path, sql: str, columns: int) -> list[str]:
    with pytest.MonkeyPatch.context() as patch, Tables(str(out)) as tables:
        patch.setenv("COLUMNS", str(columns))
        return "".join(_pieces(tables, sql, "table", on_terminal=True)).splitlines()


def test_long_texts_are_wrapped_at_a_terminal(out: Path) -> None:
    sql = "SELECT 12345 AS number, repeat('ab', 50) AS long, repeat('k', 30) AS name, 'x' AS short"
    whole = splitbtf("query", out, sql).out.splitlines()
    assert whole[2].split() == ["12345", "ab" * 50, "k" * 30, "x"]
    for columns, most in ((80, 33), (90, 43), (40, 30), (20, 30), (200, 100)):
        head, rule, first, *more, last = at_a_terminal(out, sql, columns)
        assert head.split() == ["number", "long", "name", "short"] and last == "(1 row)"
        assert first.split() == ["12345", ("ab" * 50)[:most], "k" * 30, "x"]
        rest = [line.removeprefix(" " * 10) for line in more]  # two further in
        assert ("ab" * 50)[:most] + "".join(rest) == "ab" * 50
        assert columns <= 40 or max(map(len, [head, rule, first, *more])) <= columns
    words = at_a_terminal(out, "SELECT 'a' AS n, 'int f(struct file *file, size_t n)' AS t", 25)
    assert words[2:] == ["a  int f(struct file", "     *file, size_t n)", "(1 row)"]
    assert at_a_terminal(out, "SELECT repeat(' ', 90) AS t", 80)[2:] == ["", "(1 row)"]


def test_what_is_the_same_in_all_rows_stands_above_a_table_that_does_not_fit(out: Path) -> None:
    sql = (
        "SELECT 'kernel' AS old, n AS number, repeat('n', 50) || n AS name, 'to' AS new, "
        "NULL AS no FROM (SELECT unnest([1, 2]) AS n)"
    )
    wide = at_a_terminal(out, sql, 100)
    assert wide[0].split() == ["old", "number", "name", "new", "no"], "there is room"
    assert at_a_terminal(out, sql, 65) == [
        "old: kernel", "new: to", "no:", "",
        f"number  {'name':51}".rstrip(), f"------  {'-' * 51}",
        f"     1  {'n' * 50}1", f"     2  {'n' * 50}2", "(2 rows)",
    ]  # fmt: skip
    narrow = at_a_terminal(out, sql, 40)
    assert narrow[6] == f"     1  {'n' * 32}" and narrow[7] == f"          {'n' * 18}1"
    same = at_a_terminal(out, "SELECT repeat('x', 90) AS a, 'b' AS b FROM range(2)", 40)
    assert same[:3] == ["b: b", "", "a"], "not all of them"
    assert at_a_terminal(out, f"SELECT * FROM ({sql}) WHERE false", 20)[-1] == "(0 rows)"
    assert "old: kernel" not in splitbtf("query", out, sql).out


def test_a_table_without_parts_has_no_rows(out: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "out", symlinks=True))
    for path in (copy / "manifests").glob("*.json"):
        manifest = json.loads(path.read_text())
        manifest["tables"]["misses"] = []
        path.write_text(json.dumps(manifest))
    asked = splitbtf("query", copy, "SELECT count(*) AS n FROM misses", "--format", "json")
    assert asked.code == 0 and asked.json == [{"n": 0}], asked.err
    assert splitbtf("query", copy, "SELECT count(*) FROM types").code == 0
    manifest["tables"]["kernels"] = []
    path.write_text(json.dumps(manifest))
    done = splitbtf("ls", copy)
    assert done.code == 2 and f"says nothing of {manifest['kernel']}" in done.err
