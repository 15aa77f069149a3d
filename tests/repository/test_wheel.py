"""Protects what ``make wheel`` builds: installed elsewhere it is whole, and compiles nothing.

It is installed into an environment of its own, which takes its libraries from that of the tests.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.paths import DEMO, ROOT
from support.repository import tracked
from support.trees import namesakes, results_of

CPU = Path("/proc/cpuinfo").read_text().split()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not {"avx2", "bmi2", "fma"} <= set(CPU), reason="the wheel's machine code is for x86-64-v3"
    ),
]


def run(*command: object, **more: Any) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy of the checkout: machine code of this one's would be used by other tests."""
    copy = tmp_path_factory.mktemp("checkout")
    links = [path for path in (ROOT / "jobs").iterdir() if path.is_symlink()]
    for path in [*tracked(), *links]:
        if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks"):
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
    run("make", "wheel", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.run", cwd=copy)
    (made,) = (copy / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment's folder."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "libraries.pth").write_text("".join(f"{path}\n" for path in ours))
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, Any]:
    """A folder and an environment in which only what is installed can be found, but for packages
    of others; there is no cache."""
    others = namesakes(tmp_path / "others")
    env = {name: value for name, value in os.environ.items() if not name.startswith("SPLITBTF")}
    del env["PATH"]  # splitbtf needs none
    env |= {"PYTHONPATH": str(others), "HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    return {"cwd": others, "env": env}


def test_every_source_and_page_is_in_it(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [
        path for folder in ("btf", "jobs", "pipeline") for path in (ROOT / folder).rglob("*")
    ]
    for path in sources:
        if path.suffix in (".py", ".html", ".css", ".js", ".sql") or path.name == "py.typed":
            name = str(path.relative_to(ROOT)).removeprefix("jobs/installed/")
            assert name in names, name
    for path in (ROOT / "docs").glob("*.md"):
        assert f"jobs/docs/{path.name}" in names
    built = {
        level: sorted(n.split("/")[-1] for n in names if n.startswith(f"btf/machine_code/{level}-"))
        for level in ("x86-64-v3", "aarch64")
    }
    assert built["x86-64-v3"] == built["aarch64"] and len(built["aarch64"]) > 30
    top = {name.split("/")[0] for name in names if ".dist-info" not in name.split("/")[0]}
    top = {name for name in top if not name.endswith(".data")}
    assert top == {"btf", "jobs", "pipeline", "splitbtf_start"}


@pytest.mark.parametrize("engine", [("local",), ("ray", "--workers", "2")], ids=" ".join)
def test_the_demo(
    engine: tuple[str, ...], installed: Path, elsewhere: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = run(
        installed / "bin" / "splitbtf", "run", DEMO, "-o", out, "--engine", *engine, **elsewhere
    )
    assert "68 modules done" in said and "compiling" not in said
    assert not (tmp_path / ".cache" / "splitbtf").exists()
    with (DEMO / "golden.tsv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            content = results_of(out)[f"btf/kernel=demo/{row['module']}.btf"]
            types = content[24 : 24 + int(row["type_len"])]
            assert hashlib.sha256(types).hexdigest() == row["type_sha256"], row["module"]


def test_it_is_the_installed_one_that_runs(installed: Path, elsewhere: dict[str, Any]) -> None:
    code = "import splitbtf_start, btf, jobs, pipeline; print(btf.__file__, jobs.__file__)"
    where = run(installed / "bin" / "python", "-c", code, **elsewhere).split()
    assert len(where) == 2 and all(path.startswith(f"{installed}/") for path in where), where


def test_texts_manifests_and_completion_come_along(
    installed: Path, elsewhere: dict[str, Any]
) -> None:
    command = installed / "bin" / "splitbtf"
    assert "# The output folder" in run(command, "help", "output", **elsewhere)
    assert "debian-6.1.0-50-amd64" in run(command, "fetch", "--list", **elsewhere)
    assert "complete -o" in run(command, "completion", "bash", **elsewhere)
