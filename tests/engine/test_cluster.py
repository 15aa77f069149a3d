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
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.commands import PATIENCE, splitbtf
from support.ends.disturbing import MODULES, descendants, last_run, start, wait_until, working
from support.ends.nodes import TOKEN, Cluster
from support.objectstore import ObjectStore, object_store, results_in
from support.paths import DEMO
from support.trees import results_of, small_tree

pytestmark = pytest.mark.slow


@dataclass
class Tried:
    """Two nodes, of which the first does nothing until there is a file ``go_on``. The second does
    something, makes a file ``hangs``, and hangs."""

    cluster: Cluster
    first: subprocess.Popen[str]
    second: subprocess.Popen[str]
    hangs: Path
    go_on: Path


@pytest.fixture(scope="module")
def here() -> Iterator[Path]:
    """A folder that the second node does not see."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def tried(here: Path, tmp_path: Path) -> Iterator[Tried]:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("not allowed to give a process mounts of its own")
    hangs, go_on = tmp_path / "hangs", tmp_path / "go_on"
    hide = f'mount -t tmpfs none "{here}" && exec "$@"'
    with Cluster() as nodes:
        # Its folder is where the second sees nothing.
        first = nodes.begin(place=str(here), wait_for=str(go_on))
        second = nodes.begin(
            "127.0.0.2", prefix=("unshare", "-m", "sh", "-c", hide, "sh"),
            hang_after=[3, str(hangs)],
        )  # fmt: skip
        for program in ("other", "none"):
            nodes.begin("127.0.0.2", program=program)
        yield Tried(nodes, first, second, hangs, go_on)


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
    tried: Tried,
    store: ObjectStore,
    source: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """One kernel from the store, whose keys only this machine has, and one from this disk, to the
    store. The second node dies in the middle of a batch."""
    bucket = store.bucket()
    store.upload(source / "two", f"{bucket}/two")
    sources, out = (source / "one", f"{bucket}/two"), f"{bucket}/out"
    env, said = {"RAY_AUTH_TOKEN": TOKEN, **store.environment}, tmp_path / "said"
    arguments = (
        "run",
        *sources,
        "-o",
        out,
        "--ray-address",
        tried.cluster.address,
        "--encode",
        "none",
    )
    done = splitbtf(*arguments, env={**env, "RAY_AUTH_TOKEN": "x" * 32})
    assert done.code == 2 and "wants another token than it was given" in done.err, done.err
    process = start(*arguments, env=env, said=said)
    wait_until(tried.hangs.exists, process)
    wait_until(lambda: all(map(working, (tried.first.pid, tried.second.pid))), process)
    for lost in {tried.second.pid, *descendants(tried.second.pid)}:
        with contextlib.suppress(ProcessLookupError):  # it went with its parent
            os.kill(lost, signal.SIGKILL)
    tried.go_on.touch()
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
    assert (
        run["crashes"] >= 1 and run["ray_address"] == tried.cluster.address and run["workers"] == 2
    )
