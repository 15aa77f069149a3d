"""What tests of the pipeline and the command line share: the demo kernel, small and whole."""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from btf import warmup
from btf.compiled.target import CHECKED, INTERPRETED
from support import dumping, hanging
from support.commands import take_all_signals
from support.oracles import oracle_libbpf
from support.paths import DEMO, TESTS
from support.runs import demo_kernels
from support.trees import small_tree

# They start Ray or many processes, and mostly wait for them: those of a group on one worker, and
# first, since they take longest.
MANY_PROCESSES = {
    "tests/engine/test_faults.py": 0, "tests/work/test_encode.py": 0,
    "tests/engine/test_cluster.py": 1, "tests/engine/test_embedding.py": 1,
    "tests/engine/test_ends.py": 1, "tests/engine/test_schedule.py": 1, "tests/run/test_run.py": 1,
}  # fmt: skip
assert all((TESTS.parent / file).exists() for file in MANY_PROCESSES)
WATCH = pytest.StashKey[hanging.Watch]()
# How long an example takes is the machine's affair.
SLOW = [HealthCheck.too_slow]
settings.register_profile("any machine", deadline=None, suppress_health_check=SLOW)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """What is started here takes all signals; no server is asked that only the environment names;
    a test that hangs is ended."""
    take_all_signals()
    config.stash[WATCH] = hanging.Watch()
    os.environ.pop("DEBUGINFOD_URLS", None)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What results are compared with here, what is not there, and whether this is all."""
    found, missing = dumping.comparisons()
    libbpf = oracle_libbpf.system_oracle() and f"libbpf {oracle_libbpf.libbpf_version()}"
    (found if libbpf else missing).append(libbpf or "libbpf (gcc, libbpf-dev)")
    lines = [f"compared with: {', '.join(found) or 'nothing but what is kept here'}"]
    if missing:
        lines.append(f"NOT INSTALLED, so tests that need it are skipped: {', '.join(missing)}")
    if CHECKED:
        lines.append(f"every index of compiled functions is checked; violations: {CHECKED}")
    if config.option.markexpr == "not slow and not long":
        lines.append("only what is quick: `make test` runs the rest too")
    if config.option.markexpr == "not long":
        lines.append("all but the long ones, each of which is like others: `make test-long`")
    return lines


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On several workers, what takes long is begun first."""
    if not hasattr(config, "workerinput"):
        return

    def order(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return 0 if file in MANY_PROCESSES else 1 if file in slow else 2

    slow = {i.nodeid.partition("::")[0] for i in items if i.get_closest_marker("slow")}
    items.sort(key=order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: who waits for a command or for Ray leaves one idle."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`make test` runs on several processes: each gets one file after the other, which keeps what
    is made once for all tests of a file, and one of them gets all of a group of MANY_PROCESSES."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return f"many processes {MANY_PROCESSES[file]}" if file in MANY_PROCESSES else file

    config.option.loadscopereorder = False  # not by the number of tests, but as they are collected
    return Files(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def _watched(item: pytest.Item) -> Generator[None, object, object]:
    with item.config.stash[WATCH].over(item.nodeid):
        return (yield)


pytest_runtest_setup = pytest_runtest_call = pytest_runtest_teardown = _watched


@pytest.fixture(scope="session", autouse=True)
def _loaded_once() -> None:
    """Load compiled functions here, so that not each worker that a run forks loads its own."""
    if not INTERPRETED:
        warmup.warm_up(tables=True)
        for part in warmup._PARTS.values():
            part()


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


@pytest.fixture(scope="session")
def both_demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run makes of both demo kernels, made once for all processes: no test changes it.
    Beside it lies ``both-demos.summary``, which the run has printed."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    out, making = folder / "both-demos", folder / "both-demos.making"
    with (folder / "both-demos.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            printed = demo_kernels(making)
            out.with_suffix(".summary").write_text(printed.replace(str(making), str(out)))
            making.rename(out)
    return out


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A source folder with the demo's base and a few of its modules."""
    return small_tree(tmp_path / "small")
