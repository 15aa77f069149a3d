"""What tests of the pipeline and the command line share: the demo kernel, small and whole."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "datasets" / "demo"
SMALL = ("8255", "act_bpf", "hid-elecom", "nls_cp949", "xt_bpf")
# They start Ray or many processes, kill some, and give all of that limits of time.
NOT_BESIDE_EACH_OTHER = {
    "test_cluster.py", "test_faults.py", "test_pipeline_encode.py", "test_pipeline_run.py",
    "test_pipeline_schedule.py",
}  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`make test` runs on several processes: each gets one file after the other, which keeps what
    is made once for all tests of a file, and one of them gets all of ``NOT_BESIDE_EACH_OTHER``."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "many processes" if Path(file).name in NOT_BESIDE_EACH_OTHER else file

    return Files(config, log) if config.getoption("dist") == "loadfile" else None


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def splitbtf(*arguments: object, env: dict[str, str] | None = None) -> Finished:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> None:
    """A run in this process looks for garbage whenever it gives memory back, and in what the tests
    have imported and kept there is much to look at and nothing to find."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # else libraries that count their objects at the end complain


@pytest.fixture(scope="session")
def demo_btf() -> Callable[[str], bytes]:
    """The raw BTF of a demo module, or of ``vmlinux``."""
    from pipeline.files.read import read_input

    def content(name: str) -> bytes:
        folder = DEMO if name == "vmlinux" else DEMO / "modules"
        return read_input(str(folder / f"{name}.btf.zst"))

    return content


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A source folder with the demo's base and a few of its modules."""
    return small_tree(tmp_path / "small")


def small_tree(folder: Path, modules: Sequence[str] = SMALL) -> Path:
    folder.mkdir(parents=True)
    (folder / "vmlinux.btf.zst").write_bytes((DEMO / "vmlinux.btf.zst").read_bytes())
    for name in modules:
        data = (DEMO / "modules" / f"{name}.btf.zst").read_bytes()
        (folder / f"{name}.btf.zst").write_bytes(data)
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path; links to folders are followed."""
    return {
        str(Path(parent, name).relative_to(folder)): Path(parent, name).read_bytes()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if Path(parent, name).is_file()
    }


def results_of(out: Path) -> dict[str, bytes]:
    """What a run wrote that the same input must always give: all but the run itself."""
    found = files_below(out)
    return {
        path: data
        for path, data in found.items()
        if path.startswith(("btf/", "versions/", "tables/")) and "/runs/" not in f"/{path}"
    }
