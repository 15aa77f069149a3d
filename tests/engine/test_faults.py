"""Protects: whatever goes wrong, and whenever, the final bytes are those of a run without faults,
nothing is done twice that need not be, and readers never see half a kernel.

Real processes and a real Ray, killed from outside or by themselves (see faulty/sitecustomize.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.store.output import read_manifests, read_table
from support.commands import PATIENCE, Finished, splitbtf, under, wait_for
from support.ends.disturbing import (
    ENGINES,
    LOCAL,
    MODULES,
    descendants,
    faults,
    last_run,
    start,
    wait_for_lock,
    wait_until,
    working,
)
from support.paths import DEMO, ROOT
from support.trees import results_of, small_tree

pytestmark = pytest.mark.slow

POISON, HANGS, HICCUP, HUGE, BUG = "hid-elecom", "nls_cp949", "uhid", "vfio", "lz4"
assert {POISON, HANGS, HICCUP, HUGE, BUG} < set(MODULES)
SECOND = "xt_connmark", "ip_vs_nq", "ip_vs_wrr", "nft_nat"
IN_THE_SECOND_KERNEL = SECOND[0]
assert not set(SECOND) & set(MODULES)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kernels: one of several batches, one small, of which the base is a different one."""
    folder = tmp_path_factory.mktemp("source")
    small_tree(folder / "one", MODULES)
    small_tree(folder / "two", SECOND, first=5000)
    return folder


def kernels_in(out: Path) -> list[str]:
    return [manifest.kernel for manifest in read_manifests(out)]


def clean_up(out: Path, undisturbed: dict[str, bytes], source: Path, *engine: object) -> Finished:
    """Run again without faults: the bytes are those that they should be."""
    done = splitbtf("run", source, "-o", out, "--json", *engine)
    assert done.code == 0, done.err
    assert results_of(out) == undisturbed
    assert not (out / ".staging").exists()
    return done


# ------------------------------------------------------------------ workers


@pytest.mark.parametrize("engine", [pytest.param("local, 1 worker", marks=pytest.mark.long), "ray"])
def test_workers_die_and_hang(
    engine: str, source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """A module that kills whoever touches it, one that hangs, one for which there is no memory, one
    that shows a bug, a death without a reason."""
    out = tmp_path / "out"
    log = tmp_path / "log"
    what = {POISON: "kill", HANGS: "hang", HUGE: "memory", BUG: "bug",
            HICCUP: ["kill", str(tmp_path / "flag")]}  # fmt: skip
    env = faults(modules=what, limits_of=HANGS, log=str(log))
    arguments = ("run", source, "-o", out, "--json", "--module-seconds", 1,
                 *ENGINES[engine])  # fmt: skip
    done = splitbtf(*arguments, env=env)
    assert done.code == 1 and "Traceback" not in done.err, done.err
    json.loads(done.out)  # nothing but the result is there
    failures = {failure["module"]: failure for failure in done.json["failures"]}
    words = {module: failure["error"] for module, failure in failures.items()}
    kinds = {module: failure["error_kind"] for module, failure in failures.items()}
    assert kinds == {POISON: "crashed", HANGS: "timed_out", HUGE: "crashed", BUG: "crashed"}
    assert "killed by SIGKILL" in words[POISON]
    assert "took more than 1 s" in words[HANGS]
    assert "out of memory" in words[HUGE]
    assert "please report it: KeyError('a bug') in sitecustomize.py" in words[BUG]
    run = last_run(out, "one")
    assert run["crashes"] >= 2 and run["worked"] == run["modules"] == len(MODULES)
    for path, content in results_of(out).items():
        if path.startswith("btf/"):
            assert content == undisturbed[path]

    # It is known what became of them: not tried for ever, unless that is asked for.
    assert set(log.read_text().split()) >= set(MODULES)
    log.unlink()
    assert splitbtf(*arguments, env=env).json["worked"] == 0
    assert not log.exists(), "somebody tried again"
    again = splitbtf(*arguments, "--retry", "--module-seconds", PATIENCE)
    assert again.code == 0 and again.json["worked"] == len(kinds), again.err
    assert results_of(out) == undisturbed


@pytest.mark.parametrize(
    ("engine", "what", "said"),
    [
        pytest.param(
            "local", "memory", "workers die of make_parts: out of memory", marks=pytest.mark.long
        ),
        ("local", "bug", "KeyError('a bug') in sitecustomize.py"),
        pytest.param("ray", "kill", "workers die of make_parts: ", marks=pytest.mark.long),
    ],
)
def test_tables_of_a_kernel_cannot_be_made(
    engine: str,
    what: str,
    said: str,
    source: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """The others are done, and it is as it was before."""
    out = tmp_path / "out"
    env = faults(tables={"one": what})
    done = splitbtf("run", source, "-o", out, *ENGINES[engine], env=env)
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert "kernel one: nothing could be made of it" in done.err and said in done.err
    assert kernels_in(out) == ["two"]
    # All its modules are done now: no worker of the engine is needed, and it ends as before.
    done = splitbtf("run", source, "-o", out, *ENGINES[engine], env=env)
    assert done.code == 1 and said in done.err and "Traceback" not in done.err, done.err
    if what == "bug":  # of a run on this kernel alone nothing comes
        done = splitbtf("run", source / "one", "-o", tmp_path / "other", *LOCAL, env=env)
        assert done.code == 2 and said in done.err and "Traceback" not in done.err, done.err
    done = clean_up(out, undisturbed, source, *ENGINES[engine])
    assert done.json["worked"] == 0, "what was done of the first kernel is done again"


@pytest.mark.parametrize(
    ("engine", "what", "said"),
    [
        pytest.param("local", "kill", "killed by SIGKILL", marks=pytest.mark.long),
        pytest.param("local", "memory", "out of memory", marks=pytest.mark.long),
        ("local", "hang", "it took more than 1 s"),
        pytest.param(
            "local", "bug", "KeyError('a bug') in sitecustomize.py", marks=pytest.mark.long
        ),
        ("ray", "kill", "killed by SIGKILL"),
        pytest.param("ray", "hang", "it took more than 1 s", marks=pytest.mark.long),
    ],
)
def test_a_base_cannot_be_read(
    engine: str,
    what: str,
    said: str,
    source: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """Whatever it does to who reads it: its modules cannot be done, and the other kernel is."""
    out = tmp_path / "out"
    limit = ("--module-seconds", 1) if what == "hang" else ()
    arguments = ("run", source, "-o", out, "--json", *limit, *ENGINES[engine])
    done = splitbtf(*arguments, env=faults(bases={"one": what}, limits_of="one"))
    assert done.code == 1 and "Traceback" not in done.err, done.err
    one, two = done.json["kernels"]
    assert (two["kernel"], two["failed"]) == ("two", 0) and one["failed"] == len(MODULES)
    for failure in one["failures"]:
        assert failure["error_kind"] == "no_base"
        assert f"one has no base that can be used: {source}/one/vmlinux" in failure["error"]
        assert said in failure["error"]
    clean_up(out, undisturbed, source, *LOCAL)


def test_worker_killed_from_outside(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out, hangs = tmp_path / "out", tmp_path / "hangs"
    env = faults(modules={HANGS: ["hang", str(hangs)]})
    process = start("run", source, "-o", out, "--workers", 2, env=env)
    wait_until(hangs.exists, process)
    for worker in working(process.pid):
        os.kill(worker, signal.SIGKILL)
    assert process.wait(PATIENCE) == 0
    assert results_of(out) == undisturbed
    assert last_run(out, "one")["crashes"] >= 1


# ------------------------------------------------------------------ the driver


def killed_at(moment: str, source: Path, out: Path, engine: tuple[object, ...]) -> None:
    """A run that is killed at a moment, with all that it has started. What hangs keeps it from
    being further than that."""
    env = faults(modules={HANGS: "hang"})
    if moment == "in the second kernel":
        env = faults(modules={IN_THE_SECOND_KERNEL: "hang"})
    if moment == "before the manifest":
        env = faults(die_in=["pipeline.store.output", "OutputFolder", "commit", 1])
    if moment == "before anything is tidied up":
        env = faults(die_in=["pipeline.store.output", "OutputFolder", "collect_garbage", 1])
    process = start("run", source, "-o", out, *engine, env=env)
    if moment == "at work":
        wait_until(lambda: len(list(out.glob("cache/kernel=one/*.results"))) >= 2, process)
        below = descendants(process.pid)
        process.kill()
        wait_for(
            lambda: not any(Path(f"/proc/{child}/exe").exists() for child in below),
            "the end of all that it had started",
        )
    if moment == "in the second kernel":
        wait_until(lambda: kernels_in(out) == ["one"], process)
        process.kill()
    assert process.wait(PATIENCE) == -signal.SIGKILL
    wait_for_lock(out)


@pytest.mark.parametrize(
    ("moment", "engine", "visible"),
    [
        ("at work", ("--workers", 2), []),
        pytest.param("at work", LOCAL, [], marks=pytest.mark.long),
        pytest.param("before the manifest", LOCAL, [], marks=pytest.mark.long),
        ("in the second kernel", LOCAL, ["one"]),
        pytest.param("before anything is tidied up", LOCAL, ["one", "two"], marks=pytest.mark.long),
    ],
)
def test_driver_killed(
    moment: str,
    engine: tuple[object, ...],
    visible: list[str],
    source: Path,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """kill -9: nothing is left running, readers see whole kernels, the next run goes on."""
    out = tmp_path / "out"
    killed_at(moment, source, out, engine)
    assert kernels_in(out) == visible
    for manifest in read_manifests(out):
        folder = out / manifest.btf_folder
        assert len(list(folder.iterdir())) == manifest.btf_files
    done = clean_up(out, undisturbed, source, *LOCAL)
    worked = {kernel["kernel"]: kernel["worked"] for kernel in done.json["kernels"]}
    if moment == "at work":
        assert 0 < worked["one"] < len(MODULES), "what was done before is done again"
    else:
        assert worked["one"] == 0
    if "two" in visible:
        assert worked["two"] == 0


def test_killed_while_a_kernel_is_replaced(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """The kernel that is there stays until the new one is, and so do the rows of its runs."""
    out, changing = tmp_path / "out", tmp_path / "source"
    small_tree(changing / "one", MODULES)
    assert splitbtf("run", changing, "-o", out, *LOCAL).code == 0
    before = results_of(out)
    (changing / "one" / f"{HICCUP}.btf.zst").unlink()
    (changing / "one" / "new.btf.zst").write_bytes(
        (DEMO / "modules" / f"{HICCUP}.btf.zst").read_bytes()
    )
    killed_at("before the manifest", changing, out, LOCAL)
    assert set(before.items()) <= set(results_of(out).items())
    assert splitbtf("run", changing, "-o", out, *LOCAL).code == 0
    modules = read_table(out, "modules")["module"].to_pylist()
    assert "new" in modules and HICCUP not in modules
    folder = out / "btf" / "kernel=one"
    assert (folder / "new.btf").read_bytes() == before[f"btf/kernel=one/{HICCUP}.btf"]
    assert not (folder / f"{HICCUP}.btf").exists()
    assert [row["worked"] for row in read_table(out, "runs").to_pylist()] == [len(MODULES), 0]

    # Byte for byte what a first run on these inputs gives.
    fresh = tmp_path / "fresh"
    assert splitbtf("run", changing, "-o", fresh, *LOCAL).code == 0
    assert results_of(out) == results_of(fresh)


# ------------------------------------------------------------------ the disk


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], object]]:
    """A file system that is soon full; calling what is given makes it large."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "splitbtf-test", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("not allowed to mount a file system")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_disk_full(source: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as enlarge:
        out = tmp_path / "disk" / "out"
        done = splitbtf("run", source, "-o", out, "--workers", 2)
        assert done.code == 2 and "No space left on device" in done.err, done.err
        assert "cannot write" in done.err and "Traceback" not in done.err, done.err
        assert kernels_in(out) == []
        enlarge()
        clean_up(out, undisturbed, source, *LOCAL)


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.long)])
def test_file_too_large(
    engine: str, source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """A limit that no privilege lifts, and that the memory which processes share comes up to."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jobs.cli", "run", source, "-o", out, *ENGINES[engine]]
    done = subprocess.run(
        under("-f 4000", command=command),  # of 512 bytes
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "data to the workers: File too large" in done.stderr and "Traceback" not in done.stderr
    clean_up(out, undisturbed, source, *LOCAL)


# ------------------------------------------------------------------ what changes, and what not


def test_unchanged_inputs_are_not_touched(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out, copied = tmp_path / "out", tmp_path / "source"
    assert splitbtf("run", source, "-o", out, *LOCAL).code == 0
    time.sleep(2.1)  # what was changed a moment ago could change again unseen
    assert splitbtf("run", source, "-o", out, *LOCAL).code == 0
    # On Ray, which is not started: who starts it dies of that.
    env = faults(die_in=["pipeline.engine.on_ray", "OnRay", "__init__", 1])
    done = splitbtf("run", source, "-o", out, "--json", env=env)
    assert done.code == 0 and done.json["workers"] == 0, done.err
    assert (done.json["worked"], done.json["read"]) == (0, 0)
    for kernel in ("one", "two"):
        run = last_run(out, kernel)
        assert (run["worked"], run["read"], run["reused"]) == (0, 0, run["modules"])
    assert results_of(out) == undisturbed

    # A copy looks different, and has the same content: it is read, and found to be the same.
    shutil.copytree(source, copied)
    done = splitbtf("run", copied, "-o", out, "--json")
    assert (done.json["workers"], done.json["worked"]) == (0, 0)
    assert done.json["read"] == done.json["modules"]
    assert results_of(out) == undisturbed

    # One module changes, one goes, one comes; the rest is not worked on.
    folder = copied / "one"
    first, second = MODULES[0], MODULES[1]
    (folder / f"{first}.btf.zst").write_bytes((folder / f"{second}.btf.zst").read_bytes())
    (folder / f"{second}.btf.zst").unlink()
    (folder / "new.btf.zst").write_bytes((DEMO / "modules/xfs.btf.zst").read_bytes())
    done = splitbtf("run", copied, "-o", out, "--json", *LOCAL)
    assert done.code == 0, done.err
    worked = {kernel["kernel"]: kernel["worked"] for kernel in done.json["kernels"]}
    assert worked == {"one": 2, "two": 0}
    fresh = tmp_path / "fresh"
    assert splitbtf("run", copied, "-o", fresh, *LOCAL).code == 0
    assert results_of(out) == results_of(fresh)


def test_a_changed_program_does_all_again(tmp_path: Path) -> None:
    """Results of another version are not taken for its own."""
    program = tmp_path / "program"
    for package in ("btf", "pipeline", "jobs"):
        unfinished = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(ROOT / package, program / package, ignore=unfinished)
    source = small_tree(tmp_path / "small")
    out = tmp_path / "out"

    def run() -> int:
        command = [sys.executable, "-m", "jobs.cli", "run", source, "-o", out, "--engine", "local",
                   "--json"]  # fmt: skip
        done = subprocess.run(list(map(str, command)), cwd=program, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout)["worked"])

    assert [run(), run()] == [5, 0]
    with (program / "pipeline" / "work" / "worker.py").open("a") as file:
        file.write("# changed\n")
    assert run() == 5


def test_the_same_module_in_two_kernels_is_done_once(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    small_tree(source / "one")
    small_tree(source / "two")
    (source / "two" / "more.btf.zst").write_bytes((DEMO / "modules/xfs.btf.zst").read_bytes())
    done = splitbtf("run", source, "-o", out, "--json", *LOCAL)
    assert done.code == 0, done.err
    worked = {kernel["kernel"]: kernel["worked"] for kernel in done.json["kernels"]}
    assert worked == {"one": 5, "two": 1}
    alone = tmp_path / "alone"
    assert splitbtf("run", source / "two", "-o", alone, *LOCAL).code == 0
    together = {path: data for path, data in results_of(out).items() if "kernel=two" in path}
    # Where a file was found is told relative to the source, which here is another one.
    for path, content in results_of(alone).items():
        if not path.startswith(("tables/kernels", "tables/modules")):
            assert together[path] == content, path


def test_the_cache_may_go_or_be_damaged(
    source: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert splitbtf("run", source, "-o", out, *LOCAL).code == 0
    damaged = sorted((out / "cache/kernel=one").glob("*.results"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (out / "cache/kernel=one/index.json").write_text("{")
    shutil.rmtree(out / "cache/kernel=two")
    done = clean_up(out, undisturbed, source, *LOCAL)
    worked = {kernel["kernel"]: kernel["worked"] for kernel in done.json["kernels"]}
    assert 0 < worked["one"] < len(MODULES) and worked["two"] > 0
