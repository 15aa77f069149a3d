"""What tests of the pipeline and the command line share: the demo kernel, small and whole."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from support.paths import DEMO, TESTS
from support.trees import small_tree

# They start Ray or many processes, kill some, and give all of that limits of time.
NOT_BESIDE_EACH_OTHER = {
    "tests/engine/test_cluster.py", "tests/engine/test_faults.py", "tests/engine/test_schedule.py",
    "tests/run/test_run.py", "tests/work/test_encode.py",
}  # fmt: skip
assert all((TESTS.parent / file).exists() for file in NOT_BESIDE_EACH_OTHER)

# How long an example takes is the machine's affair.
SLOW = [HealthCheck.too_slow]
settings.register_profile("any machine", deadline=None, suppress_health_check=SLOW)
settings.load_profile("any machine")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`make test` runs on several processes: each gets one file after the other, which keeps what
    is made once for all tests of a file, and one of them gets all of ``NOT_BESIDE_EACH_OTHER``."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "many processes" if file in NOT_BESIDE_EACH_OTHER else file

    return Files(config, log) if config.getoption("dist") == "loadfile" else None


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
