"""Protects: whatever somebody has put into OUT, nothing outside of it is read, replaced or removed,
and what is wrong there is said in words."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline.files.storage import LocalFolder
from pipeline.model.errors import OutputError
from pipeline.model.from_json import from_json
from pipeline.model.summary import WorkSummary
from pipeline.store.check import check_output
from pipeline.store.manifest import Manifest
from pipeline.store.output import read_manifests, read_table
from support.runs import run_on, small_kernel
from support.trees import files_below

pytestmark = pytest.mark.slow

Changed = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source and an OUT, and beside them what nobody may touch."""
    folder = tmp_path_factory.mktemp("hostile")
    small_kernel(folder / "source")
    run_on(folder / "source", folder / "out")
    (folder / "outside" / "below").mkdir(parents=True)
    (folder / "outside" / "below" / "precious").write_bytes(b"mine")
    (folder / "outside" / "precious.btf").write_bytes(b"mine")
    return folder


@pytest.fixture
def there(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "x", symlinks=True))


def manifest_of(there: Path) -> Path:
    return there / "out" / "manifests" / "source.json"


def deep(_: dict[str, Any]) -> str:
    return "[" * 200_000


def changed(**fields: Any) -> Changed:
    return lambda raw: {**raw, **fields}


def part(**fields: Any) -> Changed:
    def change(raw: dict[str, Any]) -> dict[str, Any]:
        (first, *_) = raw["tables"]["types"]
        return {**raw, "tables": {**raw["tables"], "types": [{**first, **fields}]}}

    return change


MANIFESTS: dict[str, Changed] = {
    "kernel above": changed(kernel="x/../../../outside"),
    "kernel is a path": changed(kernel="/etc"),
    "kernel is another's": changed(kernel="other"),
    "kernel is no text": changed(kernel=7),
    "kernel is half a character": changed(kernel="\ud800"),
    "folder above": changed(btf_folder="versions/kernel=source/../../../outside"),
    "folder is absolute": changed(btf_folder="/outside"),
    "folder of another": changed(btf_folder="versions/kernel=other/0123456789abcdef"),
    "folder and a line": changed(btf_folder="versions/kernel=source/0123456789abcdef\n"),
    "files is no number": changed(btf_files="4"),
    "files is true": changed(btf_files=True),
    "bytes is a fraction": changed(btf_bytes=0.5),
    "tables is a list": changed(tables=[]),
    "a table is a number": changed(tables={"types": 3}),
    "a part is a text": changed(tables={"types": ["x"]}),
    "part above": part(path="tables/types/kernel=source/../../../outside/precious.btf"),
    "part is absolute": part(path="/etc/passwd"),
    "part of another name": part(path="tables/types/kernel=source/part-0123456789abcdef.parquet"),
    "part without a digest": part(sha256=""),
    "part with too many rows": part(rows="many"),
    "part and more": part(more=1),
    "summary is a number": changed(summary=3),
    "summary is empty": changed(summary={}),
    "a field too many": changed(more=1),
    "a field too few": lambda raw: {name: raw[name] for name in raw if name != "base_sha256"},
    "another format": changed(format=1),
    "a format that is none": changed(format="2"),
    "no object": lambda raw: [raw],
    "no JSON": lambda raw: json.dumps(raw)[:-5],
    "no text": lambda raw: b"\xff\xfe",
    "deep": deep,
    "a large number": lambda raw: '{"format": 1' + "0" * 5000 + "}",
}


def spoil(there: Path, change: Changed) -> None:
    path = manifest_of(there)
    made = change(json.loads(path.read_bytes()))
    if isinstance(made, dict | list):
        made = json.dumps(made)
    path.write_bytes(made if isinstance(made, bytes) else made.encode())


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_is_not_believed(
    change: Changed, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(there, change)
    before = files_below(there)
    commands = (
        ("run", there / "source", "-o", there / "out", "--engine", "local", "-q"),
        ("query", there / "out", "SELECT 1"),
        ("find", "int", there / "out"),
        ("explain", there / "out"),
        ("layers", there / "out", "-o", there / "layers"),
    )
    for command in commands:
        assert main([*map(str, command)]) == 2
        said = capsys.readouterr()
        assert said.out == "" and f"{manifest_of(there)}: " in said.err
        assert "remove it, and run" in said.err or "use another folder" in said.err
        assert said.err.count("\n") == 1 and said.err[:-1].isprintable()
    assert files_below(there) == before


def test_a_manifest_of_another_name_is_refused(there: Path) -> None:
    manifest_of(there).rename(there / "out" / "manifests" / "zz.json")
    with pytest.raises(OutputError, match="is not the name of this file's kernel"):
        read_manifests(there / "out")


LINKS = (
    "versions", "versions/kernel=source", "tables", "tables/types", "tables/types/kernel=source",
    "cache", "cache/kernel=source", "manifests", ".staging", ".staging/kernel=source", "btf",
)  # fmt: skip


@pytest.mark.parametrize("place", LINKS)
def test_folders_of_out_are_no_links(
    place: str, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What lies behind them stays as it is, also when everything in OUT is done again."""
    path = there / "out" / place
    if path.is_dir():
        shutil.move(path, there / "moved")
    else:
        path.parent.mkdir(exist_ok=True)
        (there / "moved").mkdir()
    shutil.copytree(there / "outside", there / "moved" / "x")
    path.symlink_to(there / "moved")
    shutil.copyfile(there / "source" / "one.btf", there / "source" / "four.btf")
    before = files_below(there / "moved")
    code = main(["run", str(there / "source"), "-o", str(there / "out"), "--engine", "local"])
    said = capsys.readouterr()
    assert files_below(there / "moved") == before
    if code == 0:  # nothing was needed there
        assert path.is_symlink() or path.is_dir()
    else:
        assert (code == 2 and f"{path} is a link" in said.err) or f"{path}: a link" in said.err


FILES = ("manifests/source.json", ".lock", "cache/kernel=source/index.json", "btf/kernel=source")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "hard link"])
@pytest.mark.parametrize("place", FILES)
def test_files_of_out_are_nothing_else(
    place: str, kind: str, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = there / "out" / place
    precious = there / "outside" / "precious.btf"
    path.unlink()
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.hardlink_to(precious)
    source, out = str(there / "source"), str(there / "out")
    code = main(["run", source, "-o", out, "--engine", "local", "-q"])
    said = capsys.readouterr()
    assert precious.read_bytes() == b"mine"
    lines = 2 if said.err.startswith("splitbtf: error: kernel source: nothing could be") else 1
    assert code == 0 or (code == 2 and str(path) in said.err and said.err.count("\n") == lines)


@pytest.fixture(scope="module")
def fresh(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run makes of the source with one module more."""
    folder = tmp_path_factory.mktemp("fresh")
    shutil.copytree(written / "source", folder / "source")
    shutil.copyfile(folder / "source" / "one.btf", folder / "source" / "four.btf")
    return run_on(folder / "source", folder / "out")


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ("versions/*/*/one.btf", "link"),
        ("tables/types/*/*", "pipe"),
        ("cache/*/*.res*", "hard link"),
        *(pytest.param(*both, marks=pytest.mark.long) for both in [
            ("versions/*/*/one.btf", "pipe"), ("versions/*/*/one.btf", "hard link"),
            ("tables/types/*/*", "link"), ("tables/types/*/*", "hard link"),
            ("cache/*/*.res*", "link"), ("cache/*/*.res*", "pipe"),
        ]),
    ],
)  # fmt: skip
def test_committed_files_are_nothing_else(
    pattern: str, kind: str, there: Path, fresh: Path
) -> None:
    (path,) = sorted((there / "out").glob(pattern))[:1]
    precious = there / "outside" / "precious.btf"
    path.unlink()
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.hardlink_to(precious)
    shutil.copyfile(there / "source" / "one.btf", there / "source" / "four.btf")
    for command in (
        ("find", "int", str(there / "out")),
        ("layers", str(there / "out"), "-o", str(there / "layers")),
        ("explain", str(there / "out"), "--module", "one"),
    ):
        assert main([*command]) in (0, 2)
    assert main(["run", str(there / "source"), "-o", str(there / "out"), "--engine", "local"]) == 0
    assert precious.read_bytes() == b"mine"
    for folder in ("versions", "tables/types"):
        assert files_below(there / "out" / folder) == files_below(fresh / folder)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a//x", "./x", "a/..", "x\0y", ""])
def test_no_path_leads_out_of_a_folder(path: str, tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "x").write_bytes(b"mine")
    folder = LocalFolder(str(tmp_path / "in"))
    (tmp_path / "in" / "source").write_bytes(b"")
    for attempt in (
        lambda: folder.write(path, b""),
        lambda: folder.publish(path, b""),
        lambda: folder.read(path),
        lambda: folder.open(path),
        lambda: folder.upload(str(tmp_path / "in" / "source"), path),
        lambda: folder.link("source", path),
        lambda: folder.move_folder("a", path),
        lambda: folder.sync(path),
        lambda: folder.point(path, "x"),
    ):
        with pytest.raises(OSError, match=r"not the name of a file|regular") as caught:
            attempt()
        assert caught.value.filename is not None
    assert files_below(tmp_path) == {"x": b"mine", "in/source": b""}


def test_from_json() -> None:
    summary = {
        "modules": 1, "failed": 0, "bytes_in": 1, "bytes_out": 1, "types_in": 1, "types_out": 1,
        "largest": [{"module": "m", "input_bytes": 1, "bytes_out": None}], "failures": [],
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"^largest: bytes_out: 'None' is no int"):
        from_json(WorkSummary, summary)
    with pytest.raises(ValueError, match="kernel is missing"):
        from_json(Manifest, {})


def replace_table(there: Path, name: str, made: bytes) -> None:
    """Put another part in place of a table's, with the right digest."""
    digest = hashlib.sha256(made).hexdigest()
    path = f"tables/{name}/kernel=source/part-{digest[:16]}.parquet"
    (there / "out" / path).write_bytes(made)
    part = {"path": path, "rows": 1, "bytes": len(made), "sha256": digest}
    raw = json.loads(manifest_of(there).read_bytes())
    raw["tables"][name] = [part]
    manifest_of(there).write_text(json.dumps(raw))


def parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink)
    return bytes(sink.getvalue())


def with_column(name: str, values: Any) -> Callable[[pa.Table], bytes]:
    def change(rows: pa.Table) -> bytes:
        column = pa.array([values] * len(rows)) if not isinstance(values, pa.Array) else values
        return parquet(rows.set_column(rows.schema.get_field_index(name), name, column))

    return change


def of_nulls(rows: pa.Table) -> bytes:
    return parquet(pa.table({f.name: pa.nulls(len(rows), f.type) for f in rows.schema}))


TABLES: dict[str, tuple[str, Callable[[pa.Table], bytes]]] = {
    "no Parquet": ("types", lambda _: b"PAR1 and nothing more"),
    "nothing": ("modules", lambda _: b""),
    "cut off": ("types", lambda rows: parquet(rows)[:-9]),
    "a module above": ("modules", with_column("module", "../../../outside/precious")),
    "a module elsewhere": ("modules", with_column("module", "/etc/passwd")),
    "a module below": ("modules", with_column("module", "below/precious")),
    "a module with a zero": ("modules", with_column("module", "a\0b")),
    "a module without a name": ("modules", with_column("module", pa.nulls(3, pa.string()))),
    "a module is a number": ("modules", with_column("module", 3)),
    "a digest is a list": ("modules", with_column("output_sha256", [1])),
    "no digests": ("modules", with_column("output_sha256", pa.nulls(3, pa.string()))),
    "a fingerprint is a text": ("types", with_column("fingerprint", "abc")),
    "a fingerprint is short": ("types", with_column("fingerprint", b"abc")),
    "a name is a number": ("types", with_column("name", 7)),
    "an id is a text": ("types", with_column("type_id", "x")),
    "columns missing": ("types", lambda rows: parquet(rows.select(["name"]))),
    "columns missing in misses": ("misses", lambda rows: parquet(rows.select(["name"]))),
    "a column of another kind": ("misses", with_column("reason", [{"a": 1}])),
    "nulls in modules": ("modules", of_nulls),
    "nulls in types": ("types", of_nulls),
    "nulls in misses": ("misses", of_nulls),
    "runs of another kind": ("runs", lambda _: parquet(pa.table({"run_id": [[1]], "x": [1]}))),
    "runs are no table": ("runs", lambda _: b"PAR1"),
    "duplicates": ("duplicates", of_nulls),
}  # fmt: skip


# Each like one of the others: of another column, or of another table.
ALIKE = {
    "cut off", "a module below", "a module is a number", "an id is a text", "a name is a number",
    "a fingerprint is short", "columns missing in misses", "nulls in misses", "runs are no table",
    "a module elsewhere", "a module with a zero", "a digest is a list",
}  # fmt: skip
assert TABLES.keys() >= ALIKE


@pytest.mark.parametrize(
    ("table", "change"),
    [
        pytest.param(*both, id=name, marks=pytest.mark.long if name in ALIKE else ())
        for name, both in TABLES.items()
    ],
)
def test_a_table_is_not_believed(
    table: str, change: Callable[[pa.Table], bytes], there: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rows = read_table(there / "out", table).drop_columns("kernel")
    replace_table(there, table, change(rows))
    out = str(there / "out")
    outside = files_below(there / "outside")
    for command in (
        ("query", out, f"FROM {table}", "--json"),
        ("find", "driver", out),
        ("find", "drver", out, "--module", "one"),
        ("explain", out),
        ("explain", out, "--module", "one"),
        ("explain", out, "--module", "one", "--type", "driver"),
        ("layers", out, "-o", str(there / "layers")),
        ("verify", out),
        ("run", str(there / "source"), "-o", out, "--engine", "local"),
    ):
        code = main([*command])
        said = capsys.readouterr()
        assert code in (0, 1, 2), command
        assert "a bug" not in said.err and "Traceback" not in said.err + said.out
        # DuckDB's own lines, of which older versions have one more, show where in a query it is.
        assert said.err.count("\n") <= 3 + 2 * said.err.count("LINE"), said.err
        assert files_below(there / "outside") == outside
    assert code == 0
    shutil.rmtree(there / "layers", ignore_errors=True)
    (there / "source" / "one.btf").unlink()
    assert main([*command]) == 0, "what is made of it now does not depend on what was there"
    assert check_output(out).faults == ()
