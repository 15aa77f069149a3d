"""Protects what a user of ``splitbtf run`` sees: output, JSON, messages, exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import main
from pipeline.model.errors import CommandError
from pipeline.model.options import RunOptions
from pipeline.model.records import ModuleRecord
from pipeline.model.stages import OF_RUN, OF_WORKERS
from pipeline.model.summary import summarize
from pipeline.store.output import read_manifests, read_table
from pipeline.tables.registry import all_tables
from support.commands import splitbtf
from support.paths import DEMO, ROOT
from support.trees import SMALL, small_tree

pytestmark = pytest.mark.slow


def test_the_summary(tmp_path: Path) -> None:
    small = small_tree(tmp_path / "small", whole=True)
    out = tmp_path / "out"
    done = splitbtf("run", small, "-o", out, "--engine", "local")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert re.fullmatch(r"small: 5 modules done in [\d.]+ s \(.*/s\)", lines[0])
    assert lines[1] == "  vmlinux   4.11 MB    (95,068 types)"
    assert re.fullmatch(r"  modules +\d+ kB -> [\d.]+ kB +\([\d.]+ times smaller\)", lines[2])
    assert lines[4] == "  kept by several modules: 4 types, 48 bytes beyond the first of each"
    assert lines[-3] == f"  split BTF: {out}/btf/kernel=small/"
    assert lines[-2] == f"  tables:    {out}/tables/*/kernel=small/"
    cores = len(os.sched_getaffinity(0))
    workers = "1 worker" if cores == 1 else f"{cores} workers"
    assert re.fullmatch(rf"[\d.]+ s in all, on local with {workers}", lines[-1])


def test_json_names_the_output_and_its_tables(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    facts = splitbtf("run", small, "-o", out, "--engine", "local", "--json").json
    assert facts["modules"] == len(SMALL) and facts["failed"] == 0 and facts["failures"] == []
    assert facts["output"] == str(out)
    assert set(facts["tables"]) == set(all_tables())
    for paths in facts["tables"].values():
        assert paths and all((out / path).is_file() for path in paths)
    for key in ("bytes_in", "bytes_out", "types_in", "types_out", "index_seconds", "work_seconds"):
        assert facts[key] > 0
    (kernel,) = facts["kernels"]
    assert kernel["kernel"] == "small" and (out / kernel["btf"] / "vmlinux.btf").is_file()


def test_where_the_time_went(small: Path, tmp_path: Path) -> None:
    """Each stage has a line; those of workers add up; the table ``runs`` has the same."""
    out = tmp_path / "out"
    done = splitbtf("run", small, "-o", out, "--engine", "local", "--profile")
    assert done.code == 0, done.err
    _, _, below = done.out.partition("where the time went:\n")
    lines = [line.split(maxsplit=1) for line in below.splitlines()[2:-1]]
    shown = {name: float(rest.split()[0]) for name, rest in lines}
    of_workers = [name for name in OF_WORKERS if name in shown]
    assert set(shown) == {"start", "workers", *OF_RUN, *of_workers}
    assert set(OF_WORKERS) - set(of_workers) == {"open", "isolated"}  # sound BTF, nobody died
    assert sum(shown[name] for name in of_workers) == pytest.approx(shown["workers"], abs=0.06)
    (row,) = read_table(out, "runs").to_pylist()
    stages = dict(row["stages"])
    assert set(stages) == {*OF_RUN, *of_workers}
    assert all(seconds >= 0 for seconds in stages.values()) and stages["dedup"] > 0
    assert shown["workers"] == pytest.approx(sum(stages[name] for name in of_workers), abs=0.01)


def test_two_kernels_at_once(tmp_path: Path) -> None:
    small_tree(tmp_path / "src" / "one")
    second = small_tree(tmp_path / "src" / "two", ["xt_bpf"])
    (second / "bad.btf").write_bytes(b"")
    done = splitbtf("run", tmp_path / "src", "-o", tmp_path / "out", "--engine", "local", "--json")
    assert done.code == 1
    assert [(k["kernel"], k["modules"], k["failed"]) for k in done.json["kernels"]] == [
        ("one", 5, 0),
        ("two", 2, 1),
    ]
    assert done.json["modules"] == 7 and len(done.json["failures"]) == 1
    assert [manifest.kernel for manifest in read_manifests(tmp_path / "out")] == ["one", "two"]


def test_base_and_kernel_named(small: Path, tmp_path: Path) -> None:
    (small / "vmlinux.btf.zst").rename(tmp_path / "base.zst")
    arguments = ("run", small, "-o", tmp_path / "out", "--engine", "local", "--json")
    assert "--base" in splitbtf(*arguments).err
    done = splitbtf(*arguments, "--base", tmp_path / "base.zst", "--kernel", "mine")
    assert done.code == 0, done.err
    assert done.json["kernels"][0]["kernel"] == "mine"


def test_big_endian(tmp_path: Path) -> None:
    source = DEMO.parent / "demo-s390x"
    done = splitbtf("run", source, "-o", tmp_path / "out", "--engine", "local", "--json")
    assert done.code == 0 and done.json["failed"] == 0 and done.json["modules"] >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", DEMO), "-o/--output"),
        (("run", "missing", "-o", "OUT"), "no such file or folder: missing"),
        (("run", ROOT / "docs", "-o", "OUT"), "no modules in"),
        (("run", DEMO, "-o", "OUT", "--base", "missing"), "no such file: missing"),
        (("run", DEMO, "-o", "OUT", "--base", ROOT / "LICENSE"), "cannot use the base"),
        (
            ("run", DEMO, "-o", "OUT", "--workers", "0"),
            "'0' is no whole number from 1 to",
        ),
        (("run", DEMO, "-o", "OUT", "--kernel", "../x"), "cannot be a kernel's name"),
        (("run", DEMO, "-o", "OUT", "--ray-address", "a:1"), "--ray-address needs --engine ray"),
        (("run", DEMO, "-o", "/proc/x"), "cannot write /proc/x"),
    ],
)
def test_nothing_could_be_done(arguments: tuple[object, ...], message: str, tmp_path: Path) -> None:
    placed = [tmp_path / "out" if argument == "OUT" else argument for argument in arguments]
    done = splitbtf(*placed, "--engine", "local")
    assert done.code == 2 and done.out == ""
    assert message in done.err and "Traceback" not in done.err, done.err
    assert not (tmp_path / "out" / "manifests").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "of-the-environment:1"),
        (("--ray-address", "given:1"), "given:1"),
        (("--ray-address", "local"), None),
        (("--engine", "local"), None),
    ],
)
def test_the_cluster(
    arguments: tuple[str, ...], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all programs on Ray, a run is on the cluster that the environment names."""
    asked: list[RunOptions] = []

    def run(options: RunOptions, **_: object) -> None:
        asked.append(options)
        raise CommandError("enough is known")

    monkeypatch.setattr("pipeline.run.run", run)
    monkeypatch.setenv("RAY_ADDRESS", "of-the-environment:1")
    assert main(["run", str(DEMO), "-o", "OUT", *arguments]) == 2
    assert [options.ray_address for options in asked] == [expected]


def test_no_cluster_there(small: Path, tmp_path: Path) -> None:
    done = splitbtf("run", small, "-o", tmp_path / "out", "--ray-address", "127.0.0.1:1")
    assert done.code == 2 and "no Ray cluster at 127.0.0.1:1" in done.err, done.err
    assert "Traceback" not in done.err


def test_the_local_engine_imports_no_ray(small: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from jobs.cli import main; "
        f"code = main(['run', {str(small)!r}, '-o', {str(tmp_path / 'out')!r}, "
        "'--engine', 'local']); print(code, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr


def test_sums_are_over_what_is_done() -> None:
    def record(number: int, status: str, size: int | None) -> ModuleRecord:
        return ModuleRecord(f"m{number}", number, "", "", status, input_bytes=size, bytes_out=size)

    summary = summarize([record(1, "done", 5), record(2, "failed", 100), record(3, "done", 7)])
    assert (summary.modules, summary.failed, summary.bytes_in) == (3, 1, 12)
    assert [size.module for size in summary.largest] == ["m3", "m1"]
