"""Protects: a cluster of several nodes, of which one sees nothing of this machine's files, gives
the bytes of a run on this machine, with sources here and in an object store, also if a node is lost
on the way; nodes with another splitbtf, or none, are passed over.

Real nodes of Ray on loopback addresses. The second has its own mounts: where sources, OUT and
the first one's working folder are, it sees empty folders. Two more share its address, and are of no
use.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.commands import PATIENCE, splitbtf
from support.disturbing import MODULES, descendants, faults, last_run, start, wait_until, working
from support.objectstore import ObjectStore, object_store, results_in
from support.paths import DEMO, ROOT, TESTS
from support.trees import results_of, small_tree

pytestmark = pytest.mark.slow

TOKEN = "a token that only this cluster knows"


@dataclass
class Cluster:
    """Two nodes; ``address`` is of the first, which does nothing until there is a file ``go_on``.
    The second does something, makes a file ``hangs``, and hangs."""

    address: str
    first: subprocess.Popen[str]
    second: subprocess.Popen[str]
    hangs: Path
    go_on: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"RAY_AUTH_TOKEN": TOKEN}


def node(*command: object, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env={**os.environ, **env}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def here() -> Iterator[Path]:
    """A folder that the second node does not see."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def cluster(here: Path) -> Iterator[Cluster]:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("not allowed to give a process mounts of its own")
    with contextlib.ExitStack() as stack:
        # Paths of sockets are short. The first node's folder is where the second sees nothing.
        folders = [
            stack.enter_context(tempfile.TemporaryDirectory(prefix="r", dir=place))
            for place in (here, "/tmp", "/tmp", "/tmp")
        ]
        python = (sys.executable, TESTS / "support" / "raynode.py")
        hangs, go_on = Path(folders[1], "hangs"), Path(folders[0], "go_on")
        env = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            # A dead node is missed after 1.5 seconds, not 15; one that is slow is not given up.
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": str(int(PATIENCE * 1000)),
            "RAY_health_check_failure_threshold": "3",
        }

        def begin(*command: object, **what: object) -> tuple[subprocess.Popen[str], str]:
            process = node(*command, env={**env, **faults(**what)})
            stack.callback(end, process)
            assert process.stdout is not None
            return process, process.stdout.readline().strip()

        first, address = begin(*python, folders[0], "127.0.0.1", wait_for=str(go_on))
        hide = f'mount -t tmpfs none "{here}" && exec "$@"'
        second, joined = begin(
            "unshare", "-m", "sh", "-c", hide, "sh", *python, folders[1], "127.0.0.2", address,
            hang_after=[3, str(hangs)],
        )  # fmt: skip
        assert joined == address, "the second node does not start"
        for folder, program in zip(folders[2:], ("other", "none"), strict=True):
            _, joined = begin(*python, folder, "127.0.0.2", address, program=program)
            assert joined == address, "a node with another program does not start"
        yield Cluster(address, first, second, hangs, go_on)


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def source(here: Path) -> Path:
    small_tree(here / "source" / "one", MODULES[:24])
    shutil.copytree(DEMO.parent / "demo-s390x", here / "source" / "two")
    return here / "source"


@pytest.fixture(scope="module")
def expected(source: Path, here: Path) -> dict[str, bytes]:
    done = splitbtf(
        "run", source / "one", source / "two", "-o", here / "local", "--engine", "local"
    )
    assert done.code == 0, done.err
    return results_of(here / "local")


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


def test_two_nodes_of_which_one_is_lost(
    cluster: Cluster,
    store: ObjectStore,
    source: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """One kernel from the store, whose keys only this machine has, and one from this disk, to the
    store. The second node dies when it has done something."""
    bucket = store.bucket()
    store.upload(source / "two", f"{bucket}/two")
    sources, out = (source / "one", f"{bucket}/two"), f"{bucket}/out"
    env, said = {**cluster.environment, **store.environment}, tmp_path / "said"
    arguments = ("run", *sources, "-o", out, "--ray-address", cluster.address, "--encode", "none")
    done = splitbtf(*arguments, env={**env, "RAY_AUTH_TOKEN": "x" * 32})
    assert done.code == 2 and "wants another token than it was given" in done.err, done.err
    process = start(*arguments, env=env, said=said)
    wait_until(cluster.hangs.exists, process)
    wait_until(lambda: all(map(working, (cluster.first.pid, cluster.second.pid))), process)
    assert written(store, out) >= 3
    for lost in {cluster.second.pid, *descendants(cluster.second.pid)}:
        with contextlib.suppress(ProcessLookupError):  # it went with its parent
            os.kill(lost, signal.SIGKILL)
    cluster.go_on.touch()
    assert process.wait(PATIENCE) == 0
    words = said.read_text()
    for what in "has another version of splitbtf", "has no splitbtf that could be imported":
        assert words.count(f"the Ray node 127.0.0.2 {what}") == 1, words
    assert "the Ray node 127.0.0.2 is lost" in words and TOKEN not in words
    found = results_in(store, out)
    told = ("tables/modules/kernel=two/", "tables/kernels/kernel=two/")  # of where the inputs are
    for path, data in expected.items():
        if not path.startswith(("btf/", *told)):
            assert found[path] == data, path
    assert len(found) == len([path for path in expected if not path.startswith("btf/")])
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    run = last_run(out, "one")
    assert run["crashes"] >= 1 and run["ray_address"] == cluster.address and run["workers"] == 2


def written(store: ObjectStore, out: str) -> int:
    """How many modules' BTF files there are, or were."""
    folder = f"{out.removeprefix('s3:/')}/.staging/"
    return sum(method == "PUT" and path.startswith(folder) for method, path in store.requests)
