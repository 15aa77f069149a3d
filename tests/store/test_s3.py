"""Protects: sources and OUT in an object store give what they give on a disk, to the byte; whoever
reads there sees whole kernels only; errors come soon and say what is wrong.

The store is moto's S3 server, in this process.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.analysis.explain import Explanations
from pipeline.analysis.find import find
from pipeline.analysis.layers import layer_kernels
from pipeline.analysis.query import Tables
from pipeline.files import remote, remote_lock
from pipeline.model.errors import OutputError, SourceError
from pipeline.model.options import RunOptions
from pipeline.run import RunReport, run
from pipeline.store.check import check_output
from pipeline.store.output import OutputFolder, read_manifests, read_table
from support.btfwriter import Writer
from support.commands import PATIENCE, splitbtf, wait_for
from support.objectstore import ObjectStore, object_store, results_in
from support.paths import ROOT
from support.runs import small_kernel
from support.trees import results_of, small_tree
from support.writers import debwriter

pytestmark = pytest.mark.slow

NAME = "6.12.117+deb12-amd64"  # a plus sign is a blank in some encodings of URLs


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A store that the environment leads to."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.requests.clear()
    return server


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel as files, and one as a package, whose base is a different one."""
    folder = tmp_path_factory.mktemp("source")
    small_kernel(folder / NAME)
    packaged = small_kernel(tmp_path_factory.mktemp("packaged") / "two")
    base = Writer()
    base.int("int", 4)
    (packaged / "vmlinux.btf").write_bytes(base.to_bytes())
    files = {f"lib/modules/6.1.0/{path.name}": path.read_bytes() for path in packaged.iterdir()}
    (folder / "two.deb").write_bytes(debwriter.deb(files))
    return folder


def local(*sources: object, out: object, workers: int = 1, **more: Any) -> RunReport:
    named = tuple(map(str, sources))
    return run(RunOptions(sources=named, out=str(out), engine="local", workers=workers, **more))


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run on this machine gives, without the links, which a store has not."""
    out = tmp_path_factory.mktemp("expected") / "out"
    assert not any(kernel.summary.failed for kernel in local(source, out=out).kernels)
    return {path: data for path, data in results_of(out).items() if not path.startswith("btf/")}


def left_over(store: ObjectStore, uri: str) -> list[str]:
    return [path for path in store.files(uri) if path.startswith(".staging")]


def worked(report: RunReport) -> dict[str, int]:
    return {kernel.kernel: kernel.worked for kernel in report.kernels}


def test_sources_and_output(
    store: ObjectStore, source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Same bytes, by processes that were forked; a second run reads and touches nothing."""
    bucket = store.bucket()
    kernels, out = store.upload(source, f"{bucket}/kernels"), f"{bucket}/my results"
    done = splitbtf("run", kernels, "-o", out, "--engine", "local", "--workers", 2)
    assert done.code == 0, done.err
    assert f"split BTF: {out}/versions/kernel={NAME}/" in done.out
    assert results_in(store, out) == expected
    assert not left_over(store, out)

    time.sleep(2.1)  # what was changed a moment ago could change again unseen
    local(kernels, out=out)
    store.requests.clear()
    report = run(RunOptions(sources=(kernels,), out=out))  # on Ray, which is not started
    assert report.workers == 0
    assert [(k.read, k.worked) for k in report.kernels] == [(0, 0), (0, 0)]
    read = [path for method, path in store.requests if method == "GET" and ".btf" in path]
    assert read == [], "inputs are read"
    assert results_in(store, out) == expected

    # One module changes, one goes, one comes; the rest is not worked on.
    root = f"{kernels.removeprefix('s3://')}/{NAME}"
    writer = Writer()
    writer.struct("shared", 8, [])
    store.write(f"{root}/one.btf", (source / NAME / "three.btf").read_bytes())
    store.write(f"{root}/four.btf", writer.to_bytes())
    store.fs.delete_file(f"{root}/two.btf")
    assert worked(local(kernels, out=out)) == {NAME: 2, "6.1.0": 0}
    local(kernels, out=f"{bucket}/fresh")
    assert results_in(store, out) == results_in(store, f"{bucket}/fresh")
    readers(out, tmp_path)


def readers(out: str, tmp_path: Path) -> None:
    """What lies there can be asked, searched, explained and put into layers."""
    with Tables(out) as tables:
        sql = f"SELECT module FROM modules WHERE kernel = '{NAME}' ORDER BY module"
        names = [name for (name,) in tables.ask(sql).rows]
    assert names == ["four", "one", "three"]
    found = find("driver", [out], kernel=NAME).found
    assert {(one.out, one.module) for one in found} == {(out, "one"), (out, "three")}
    with Explanations(out) as explanations:
        (explanation,) = explanations.of(NAME, "four")
        assert explanation.of_type("struct shared").found
    (layers,) = layer_kernels(out, str(tmp_path / "layers"), kernel=NAME)
    assert layers.modules == 3
    assert (tmp_path / "layers" / f"kernel={NAME}" / "modules" / "four.btf").exists()
    with pytest.raises(OutputError, match="to a folder of this machine only"):
        layer_kernels(out, f"{out}/layers")


def test_names_that_mean_something_in_a_uri(store: ObjectStore, tmp_path: Path) -> None:
    folder = small_tree(tmp_path / "50% of a #1?", ["xt_bpf"])
    (folder / "xt_bpf.btf.zst").rename(folder / "a%41 b.btf.zst")  # compressed, and left so
    uri = store.upload(folder, f"{store.bucket()}/50% of a #1?")
    (bucket, _, _) = uri.partition("/50")
    (kernel,) = local(bucket, out=tmp_path / "out").kernels
    assert (kernel.summary.modules, kernel.summary.failed) == (1, 0)
    assert list((tmp_path / "out/btf").glob("*/a*.btf"))


def test_keys_in_the_uri(
    server: ObjectStore, source: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and endpoint may be part of the URI; on Ray too; nothing tells them."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = server.bucket()
    server.upload(source, f"{bucket}/kernels")
    sources, out = (server.with_keys(f"{bucket}/{name}") for name in ("kernels", "out"))
    done = splitbtf("run", sources, "-o", out, "--json", "--workers", 1)
    assert done.code == 0, done.err
    assert done.json["output"] == f"{bucket}/out"
    assert results_in(server, f"{bucket}/out") == expected
    content = b"".join(server.files(f"{bucket}/out").values())
    assert b"test:test" not in content and "test:test" not in done.out + done.err


def test_access_goes_with_the_work(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker elsewhere learns what its environment does not say, and keeps what it says."""
    remote.remote("s3://bucket/x")
    known = remote.export_access()
    assert known.environment["AWS_ENDPOINT_URL"] == store.endpoint
    for name in known.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "elsewhere")
    remote.import_access(known)
    region = {"AWS_DEFAULT_REGION": "elsewhere"}
    assert remote.export_access().environment == {**known.environment, **region}
    for name in known.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "its own")
    remote.import_access(known)
    assert "AWS_ACCESS_KEY_ID" not in remote.export_access().environment


# ------------------------------------------------------------------ errors


def test_errors_are_soon_and_clear(
    store: ObjectStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = store.upload(source / NAME, f"{store.bucket()}/kernels")
    here = source / NAME

    def refused(*sources: object, out: object, tries: int = 3) -> str:
        store.requests.clear()
        with pytest.raises((OutputError, SourceError)) as caught:
            local(*sources, out=out)
        assert len(store.requests) <= tries, "what cannot change is not tried again"
        return str(caught.value)

    said = refused(here, out="s3://no-bucket/out")
    assert "cannot write s3://no-bucket/out/.lock: there is no such bucket" in said
    said = refused("s3://no-bucket/k", out=tmp_path / "out")
    assert "no such file or folder: s3://no-bucket/k" in said
    with store.fault("PUT", "/denied/", 403):
        said = refused(here, out=f"{store.bucket()}/denied/out")
    assert "refuses access (told to fail)" in said and "AWS_ACCESS_KEY_ID" in said
    with store.fault("GET", ".*", 403), store.fault("HEAD", ".*", 403):
        assert "refuses access" in refused(kernels, out=tmp_path / "out")
    assert "cannot use" in refused(here, out="s3://bucket/out?no_such_option=1")
    with store.fault("PUT", "/dropped/", "drop"):  # tries are 0.2 seconds apart
        said = refused(here, out=f"{store.bucket()}/dropped/out", tries=40)
    assert "the store cannot be reached" in said
    assert "Empty reply" in said or "Server returned nothing" in said  # as curl words it
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setattr(remote, "_file_systems", {})
    said = refused(here, out=f"{store.bucket()}/out")
    assert "the store cannot be reached" in said and re.search(r"Could( not|n't) connect", said)


def test_objects_that_cannot_be_read(
    store: ObjectStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that may not be read is a failed input; a store that is out of order ends the run."""
    kernels = store.upload(source / NAME, f"{store.bucket()}/kernels")
    out = tmp_path / "out"
    with store.fault("GET", "/three.btf", 403), store.fault("HEAD", "/three.btf", 403):
        (kernel,) = local(kernels, out=out).kernels
    (failure,) = kernel.summary.failures
    assert failure.module == "three" and failure.failure is not None
    assert failure.failure.kind == "unreadable"
    assert "refuses access" in failure.failure.message

    def out_of_order(*_: object) -> bytes:  # after six seconds of trying
        raise OSError("AWS Error INTERNAL_FAILURE during GetObject operation: ")

    with monkeypatch.context() as changed, pytest.raises(SourceError, match="out of order"):
        changed.setattr(remote, "_content", out_of_order)
        local(kernels, out=out)
    assert worked(local(kernels, out=out)) == {"kernels": 1}


# ------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("method", "path", "after", "visible"),
    [
        pytest.param("PUT", r"\.results$", 0, 0, marks=pytest.mark.long),
        pytest.param("PUT", r"/\.staging/.*\.btf$", 1, 0, marks=pytest.mark.long),
        ("PUT", r"/versions/.*\.btf$", 2, 0),  # copies: a version that is not whole
        pytest.param("PUT", r"/tables/types/", 2, 1, marks=pytest.mark.long),
        ("PUT", r"/manifests/", 1, 1),
        # Before the copies' originals are removed:
        pytest.param("HEAD", r"/\.staging/.*/btf$", 0, 0, marks=pytest.mark.long),
    ],
)
def test_writes_fail(
    store: ObjectStore,
    source: Path,
    expected: dict[str, bytes],
    method: str,
    path: str,
    after: int,
    visible: int,
) -> None:
    """From the n-th on: the run says so; readers see whole kernels; the next run goes on."""
    out = f"{store.bucket()}/out"
    with store.fault(method, path, 403, after=after) as fault:
        report = local(source, out=out)
    assert fault.hit
    said = [kernel.problem for kernel in report.kernels if kernel.problem is not None]
    assert said and all(
        re.search(r"cannot write s3://.* the store refuses access", problem) for problem in said
    )
    manifests = read_manifests(out)
    assert len(manifests) == visible
    for manifest in manifests:
        assert len(store.files(f"{out}/{manifest.btf_folder}")) == manifest.btf_files
        assert len(read_table(out, "modules", manifest.kernel)) == manifest.btf_files - 1
    report = local(source, out=out)
    assert results_in(store, out) == expected
    assert not left_over(store, out)
    if path != r"\.results$" and ".staging" not in path:
        assert worked(report)[NAME] == 0, "what was done is done again"


def test_hiccups(store: ObjectStore, source: Path, expected: dict[str, bytes]) -> None:
    """What is over soon is not even noticed."""
    bucket = store.bucket()
    kernels, out = store.upload(source, f"{bucket}/kernels"), f"{bucket}/out"
    with (
        store.fault("PUT", r"\.btf$", 500, after=1, times=2) as first,
        store.fault("PUT", r"/tables/", 503, after=1, times=1) as second,
        store.fault("GET", r"/three", "drop", times=1) as third,
        store.fault("PUT", r"/manifests/", "drop", times=1) as fourth,
    ):
        local(kernels, out=out)
    assert first.hit and second.hit and third.hit and fourth.hit
    assert results_in(store, out) == expected


# ------------------------------------------------------------------ several runs


def flags(store: ObjectStore, out: str) -> list[str]:
    return [path for path in store.files(out) if path.startswith(".lock/")]


def test_the_second_run_is_refused(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lock, "_PAUSE_SECONDS", 0.1)
    out = f"{store.bucket()}/out"
    first = OutputFolder(out)
    (flag,) = flags(store, out)
    with pytest.raises(OutputError) as caught:
        OutputFolder(out)
    said = str(caught.value)
    assert said.startswith(f"another splitbtf run is writing to {out}: process {os.getpid()} on ")
    assert said.endswith(f"wait for 10 minutes after that time, or remove {out}/{flag}")
    assert flags(store, out) == [flag]
    first.close()
    assert flags(store, out) == []
    OutputFolder(out).close()


def test_a_killed_run_locks_nobody_out_for_ever(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{store.bucket()}/out"
    first = OutputFolder(out)
    monkeypatch.setattr(remote_lock, "_EXPIRES_SECONDS", -1.0)  # as if time had passed
    second = OutputFolder(out)
    assert len(flags(store, out)) == 1
    with pytest.raises(OutputError, match="another run has taken this one for dead"):
        first.collect_garbage({})
    first.close()
    assert len(flags(store, out)) == 1, "the second's"
    second.close()


def test_a_flag_is_kept_up(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lock, "_REFRESH_SECONDS", 0.01)
    out = f"{store.bucket()}/out"
    lock = OutputFolder(out)
    (flag,) = flags(store, out)
    store.requests.clear()
    wait_for(lambda: sum(path.endswith(flag) for _, path in store.requests) > 5, "it put anew")

    def stays_away() -> bool:
        """Take it away, which may be while it is put anew: then it is there once more."""
        with contextlib.suppress(FileNotFoundError):
            store.fs.delete_file(f"{out.removeprefix('s3://')}/{flag}")
        store.requests.clear()
        wait_for(lambda: sum(path.endswith(flag) for _, path in store.requests) > 5, "a look")
        return flags(store, out) == []

    wait_for(stays_away, "that what another run has taken away is not put there again")
    lock.close()


def test_a_run_that_cannot_begin_leaves_no_flag(store: ObjectStore) -> None:
    out = f"{store.bucket()}/out"
    store.write(f"{out.removeprefix('s3://')}/manifests/k.json", b"")
    with pytest.raises(OutputError, match=r"cannot read .*k\.json"):
        OutputFolder(out)
    assert flags(store, out) == []


def test_runs_at_once_lose_nothing(store: ObjectStore, tmp_path: Path) -> None:
    """Whoever says that it is done has its kernel there, and others say why they are not."""
    out, names = f"{store.bucket()}/out", [f"kernel-{number}" for number in range(3)]
    command = [sys.executable, "-m", "jobs.cli", "run", "-o", out, "--engine", "local"]
    runs = {
        name: subprocess.Popen(
            [*command, small_kernel(tmp_path / name)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for name in names
    }
    ended = {name: (run.communicate(timeout=PATIENCE)[1], run.returncode)
             for name, run in runs.items()}  # fmt: skip
    done = {name for name, (_, code) in ended.items() if code == 0}
    for name in set(names) - done:
        assert ended[name][1] == 2 and "another splitbtf run is writing to" in ended[name][0]
    assert {manifest.kernel for manifest in read_manifests(out)} == done
    for name in names:
        local(tmp_path / name, out=out)
    assert {manifest.kernel for manifest in read_manifests(out)} == set(names)
    assert check_output(out).faults == ()
