"""Protects: however a run is ended, what it had done counts, the next one gives the bytes of a run
that nobody disturbed, and then nothing is left of either: no process, no temporary file, no shared
memory.

Each engine, each process of it, each signal; at moments that the run itself tells of.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.commands import PATIENCE, splitbtf, wait_for
from support.ends.disturbing import (
    ENGINES,
    MODULES,
    descendants,
    faults,
    last_run,
    named,
    start,
    wait_for_lock,
    wait_until,
    working,
)
from support.trees import results_of, small_tree

pytestmark = pytest.mark.slow

HANGS = "nls_cp949"
KERNEL = "source"
SHARED = Path("/dev/shm")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tree(tmp_path_factory.mktemp("of") / KERNEL, MODULES)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, of this test alone. Short: Ray's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def to_all(process: subprocess.Popen[bytes], number: int) -> None:
    """As a terminal does."""
    os.killpg(process.pid, number)


def kill(*processes: int) -> None:
    assert processes, "there is none"
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # it went with another one
            os.kill(process, signal.SIGKILL)


# What is done to a run, what it ends with, and what it says, by what is to be read.
Ends = dict[str, tuple[Callable[[subprocess.Popen[bytes]], object], int, str]]
ON_BOTH: Ends = {
    "SIGKILL of the driver": (subprocess.Popen.kill, -signal.SIGKILL, ""),
    "SIGKILL of all": (
        lambda run: kill(run.pid, *descendants(run.pid)), -signal.SIGKILL, "",
    ),
    "SIGKILL of a worker": (lambda run: kill(*working(run.pid)), 0, ""),
    "SIGINT to all": (lambda run: to_all(run, signal.SIGINT), 130, "interrupted"),
    "SIGHUP to all": (lambda run: to_all(run, signal.SIGHUP), 129, "ended by SIGHUP"),
    "SIGTERM": (subprocess.Popen.terminate, 143, "ended by SIGTERM"),
}  # fmt: skip
ON_RAY: Ends = {
    "SIGKILL of the raylet": (
        lambda run: kill(*named(run.pid, "raylet/raylet")), 2, "Ray's raylet has died",
    ),
    "SIGKILL of the GCS": (
        lambda run: kill(*named(run.pid, "gcs_server")), 2, "Ray's gcs_server has died",
    ),
    "SIGKILL of Ray": (lambda run: kill(*descendants(run.pid)), 2, "has died"),
}  # fmt: skip
ON_LOCAL: Ends = {
    "SIGKILL of who forks": (lambda run: kill(*named(run.pid, "splitbtf:fork")), 0, ""),
}
# One of each kind of end is tried in every run of the suite.
ALWAYS = {"SIGKILL of all", "SIGKILL of who forks", "SIGKILL of the GCS", "SIGTERM"}
CASES = [
    pytest.param(
        engine, *case, id=f"{engine}: {what}", marks=() if what in ALWAYS else pytest.mark.long
    )
    for engine, ends in (("local", ON_BOTH | ON_LOCAL), ("ray", ON_BOTH | ON_RAY))
    for what, case in ends.items()
]


@pytest.mark.parametrize(("engine", "end", "code", "said"), CASES)
def test_at_work(
    engine: str,
    end: Callable[[subprocess.Popen[bytes]], object],
    code: int,
    said: str,
    source: Path,
    undisturbed: dict[str, bytes],
    temporary: Path,
    tmp_path: Path,
) -> None:
    out, hangs = tmp_path / "out", tmp_path / "hangs"
    env = faults(modules={HANGS: ["hang", str(hangs)]})
    run = begin(source, out, engine, env, tmp_path / "said")
    wait_until(lambda: hangs.exists() and len(list(out.glob("cache/*/*.results"))) >= 1, run)
    finish(run, end, code, said, tmp_path / "said", temporary)
    log = f"the end of Ray's logs is in {out}/ray.log"
    assert (log in (tmp_path / "said").read_text()) == (out / "ray.log").exists() == (code == 2)
    if code == 0:
        assert last_run(out, KERNEL)["crashes"] >= 1
        assert results_of(out) == undisturbed
    again(source, out, engine, undisturbed, temporary)


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.long)])
def test_while_tables_are_made(
    engine: str, source: Path, undisturbed: dict[str, bytes], temporary: Path, tmp_path: Path
) -> None:
    out, hangs = tmp_path / "out", tmp_path / "hangs"
    env = faults(tables={KERNEL: ["hang", str(hangs)]})
    run = begin(source, out, engine, env, tmp_path / "said")
    wait_until(hangs.exists, run)
    finish(run, subprocess.Popen.kill, -signal.SIGKILL, "", tmp_path / "said", temporary)
    again(source, out, engine, undisturbed, temporary)


def begin(
    source: Path, out: Path, engine: str, env: dict[str, str], said: Path
) -> subprocess.Popen[bytes]:
    return start("run", source, "-o", out, *ENGINES[engine], env=env, said=said)


def finish(
    run: subprocess.Popen[bytes],
    end: Callable[[subprocess.Popen[bytes]], object],
    code: int,
    said: str,
    file: Path,
    temporary: Path,
) -> None:
    """End a run: with this status, saying this, and with all that it had started."""
    below = descendants(run.pid)
    end(run)
    assert run.wait(PATIENCE) == code, file.read_text()
    assert said in file.read_text() and "Traceback" not in file.read_text()
    running = "the end of all that it had started"
    wait_for(lambda: not any(Path(f"/proc/{child}/exe").exists() for child in below), running)
    if code != -signal.SIGKILL:
        assert not list(temporary.iterdir()), "what it could remove itself is left"


def again(
    source: Path, out: Path, engine: str, undisturbed: dict[str, bytes], temporary: Path
) -> None:
    """The next run, on the other engine's leavings as on its own."""
    wait_for_lock(out)
    shared = set(SHARED.iterdir())
    done = splitbtf("run", source, "-o", out, *ENGINES[engine])
    assert done.code == 0, done.err
    assert results_of(out) == undisturbed
    assert not (out / ".staging").exists() and not (out / "ray.log").exists()
    assert not list(temporary.iterdir()), "temporary files are left"
    wait_for(  # other processes of this machine may have some for a moment
        lambda: (
            not any(
                path.name.startswith(("plasma", "splitbtf"))
                for path in set(SHARED.iterdir()) - shared
            )
        ),
        "the end of shared memory",
    )
