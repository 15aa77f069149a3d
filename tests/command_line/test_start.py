"""Protects: the command and all its workers use our packages, whatever others are called alike.

This is the installation that the tests run in, an editable one; ``test_wheel`` has the other kind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import splitbtf_start
from btf import warmup
from pipeline.engine import on_ray
from pipeline.engine.registry import ENGINES
from pipeline.model.engine import Result
from pipeline.model.errors import EngineError
from support.commands import splitbtf_process
from support.paths import ROOT
from support.trees import SMALL, namesakes, results_of

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("splitbtf")


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("local", marks=pytest.mark.long),
        pytest.param("local --workers 2", marks=pytest.mark.long),
        "ray --workers 2",
    ],
)
def test_namesakes_on_the_path_and_in_the_current_folder(
    engine: str, small: Path, tmp_path: Path
) -> None:
    expected = splitbtf_process("run", small, "-o", tmp_path / "expected", "--engine", "local")
    assert expected.code == 0, expected.err
    folder = namesakes(tmp_path / "others")
    done = subprocess.run(
        [COMMAND, "run", small, "-o", tmp_path / "out", "--engine", *engine.split()],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert results_of(tmp_path / "out") == results_of(tmp_path / "expected")


def test_processes_that_compile_use_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = namesakes(tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    started = warmup._start("import btf; print(btf.__file__)")
    assert started is not None
    assert started.communicate()[0].strip() == str(ROOT / "btf" / "__init__.py")


def test_no_other_name_is_looked_up_differently() -> None:
    (ours,) = [f for f in sys.meta_path if type(f) is splitbtf_start._OurPackages]
    for name in splitbtf_start.OURS:
        found = ours.find_spec(name, None)
        assert found is not None and found.origin == str(ROOT / name / "__init__.py")
    assert ours.find_spec("numpy", None) is None
    assert ours.find_spec("btf.table", [str(ROOT / "btf")]) is None


def test_ray_is_not_started_with_workers_of_another_splitbtf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitbtf_start, "HOME", str(tmp_path))
    with pytest.raises(EngineError, match=f"but Ray's workers would use the one in {tmp_path}"):
        on_ray.OnRay(1, None, lambda item, shared, options: Result(None, 0.0, 0))


def test_only_run_waits_for_engines(small: Path) -> None:
    """Neither the parser of all commands nor ``dedup`` imports an engine, or what it needs; and
    ``dedup`` imports no other command."""
    code = (
        "import sys; from jobs.cli import main, parser; main(sys.argv[1:]); print(*sys.modules); "
        "parser(); print(*sys.modules)"
    )
    base, module = small / "vmlinux.btf.zst", small / f"{SMALL[0]}.btf.zst"
    command = [sys.executable, "-c", code, "dedup", "--no-output", "-B", base, module]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alone, imported = (set(line.split()) for line in done.stdout.splitlines()[-2:])
    assert "jobs.dedup" in alone and not alone & {"jobs.run", "jobs.merge", "jobs.dump", "tomllib"}
    engines = {f"pipeline.engine.{engine.file}" for engine in ENGINES.values()}
    assert "pipeline.engine.registry" in imported
    assert not imported & {*engines, "ray", "pyarrow", "duckdb", "splitbtf_start", "secrets"}


def test_python_m_jobs_is_the_command() -> None:
    command = [sys.executable, "-m", "jobs", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == splitbtf_process("--version").out != ""


def test_no_command_loads_pandas(small: Path, tmp_path: Path) -> None:
    """Arrow looks for it at the first list that it is given, DuckDB at the first query: they find
    that there is none, and go on."""
    pytest.importorskip("pandas")
    script = (
        "import sys, pyarrow; from jobs.cli import main\n"
        "code = main()\n"
        "pyarrow.array([1]); print(code, 'pandas' in sys.modules)"
    )
    out = str(tmp_path / "out")
    for command in (
        ["run", str(small), "-o", out, "--engine", "local"],
        ["query", out, "select count(*) from types"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *command], cwd=ROOT, capture_output=True, text=True
        )
        assert done.stdout.endswith("\n0 False\n"), done.stdout + done.stderr
