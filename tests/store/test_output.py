"""Protects: readers see a whole kernel, the old or the new one, whenever the writer dies."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.files.storage import LocalFolder
from pipeline.model.errors import OutputError, QueryError
from pipeline.store import output
from pipeline.store.manifest import Manifest
from pipeline.store.output import (
    OutputFolder,
    OutputStage,
    read_manifests,
    read_table,
    version_name,
)
from pipeline.tables.modules import TABLE as MODULES
from support.trees import files_below

pytestmark = pytest.mark.slow


def write_kernel(out: Path, value: int, kernel: str = "k") -> None:
    """A kernel of one BTF file and one row, both of which say ``value``."""
    folder = OutputFolder(out)
    try:
        stage = folder.stage(kernel)
        folder.write(f"{stage.btf}/m.btf", bytes([value]))
        folder.write(f"{stage.results}/{value}.results", b"r", whole=True)
        row = {"module": "m", "object_id": value, "source": "m", "status": "done"}
        table = pa.Table.from_pylist([row], schema=MODULES.schema)
        part = folder.table(kernel, "modules", table)
        settled = folder.promote_stage(stage, {"m.btf": 1}, version_name("", {"m": str(value)}))
        folder.commit(Manifest(kernel, "0", "", str(value), settled, 1, 1, {"modules": (part,)}))
        folder.collect_garbage({kernel: [f"{value}.results"]})
    finally:
        folder.close()


def value_of(out: Path, kernel: str = "k") -> int | None:
    """What readers see: None for nothing; fails on half a kernel."""
    rows = []
    with contextlib.suppress(OutputError, QueryError):  # no such folder, or no kernel in it
        rows = read_table(out, "modules", kernel).to_pylist()
    manifests = {manifest.kernel: manifest for manifest in read_manifests(out)}
    if not rows:
        assert kernel not in manifests
        return None
    (row,) = rows
    content = (out / manifests[kernel].btf_folder / "m.btf").read_bytes()
    assert content == bytes([row["object_id"]])
    assert manifests[kernel].inputs_sha256 == str(row["object_id"])
    return int(row["object_id"])


def left_in(out: Path) -> set[str]:
    """All files but the lock, links not followed."""
    return {path for path in files_below(out) if path != ".lock" and not path.startswith("btf/")}


def test_commit_and_replace(tmp_path: Path) -> None:
    write_kernel(tmp_path, 1)
    write_kernel(tmp_path, 7, kernel="other")
    assert (value_of(tmp_path), value_of(tmp_path, "other")) == (1, 7)
    write_kernel(tmp_path, 2)
    assert (value_of(tmp_path), value_of(tmp_path, "other")) == (2, 7)
    # Manifest, part, BTF and results of each: nothing of what was replaced.
    assert len(left_in(tmp_path)) == 2 * 4
    link = tmp_path / output.btf_folder("k")
    assert link.is_symlink() and (link / "m.btf").read_bytes() == bytes([2])
    assert not Path(os.readlink(link)).is_absolute()  # the whole folder may be moved
    write_kernel(tmp_path, 1)  # as it once was
    assert value_of(tmp_path) == 1


CHANGES = ("rename", "replace", "unlink", "open", "mkdir", "symlink", "link", "rmdir", "fsync")


def die_at(step: int) -> None:
    """From now on, kill this process before its n-th change to the file system."""
    left = [step]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if original.__name__ != "open" or arguments[1] & os.O_CREAT:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
            return original(*arguments, **options)

        return wrapper

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize(
    ("before", "steps"),
    [
        (None, range(0, 300, 2)),
        (1, range(1, 300, 2)),
        pytest.param(None, range(1, 300, 2), marks=pytest.mark.long),
        pytest.param(1, range(0, 300, 2), marks=pytest.mark.long),
    ],
    ids=str,
)
def test_killed_at_every_step(before: int | None, steps: range, tmp_path: Path) -> None:
    """SIGKILL before the n-th change to the file system, for all n until the end."""
    survived, seen = False, set()
    for step in steps:
        out = tmp_path / str(step)
        if before is not None:
            write_kernel(out, before)
        child = os.fork()
        if child == 0:
            die_at(step)
            write_kernel(out, 2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        survived = status == 0
        seen.add(value_of(out))  # at no moment is there less than before
        assert value_of(out) in ({2} if survived else {before, 2})
        write_kernel(out, 3)
        assert value_of(out) == 3
        assert len(left_in(out)) == 4, "leftovers of the run that was killed"
        assert (out / output.btf_folder("k") / "m.btf").read_bytes() == bytes([3])
        if survived:
            break
    assert survived and step > 20 and seen == {before, 2}


def test_what_is_staged_must_be_whole(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    stage = folder.stage("k")
    folder.write(f"{stage.btf}/m.btf", b"12")
    folder.write(f"{stage.btf}/stray.btf", b"of an earlier attempt")
    with pytest.raises(OutputError, match=r"m\.btf is not there, or not as it was written"):
        folder.promote_stage(stage, {"m.btf": 3}, "v")
    settled = folder.promote_stage(stage, {"m.btf": 2}, "v")
    assert [path.name for path in (tmp_path / settled).iterdir()] == ["m.btf"]
    folder.close()


def test_a_file_with_two_names_is_not_written_into(tmp_path: Path) -> None:
    """A version that is committed shares files with the one that is being made."""
    storage = LocalFolder(str(tmp_path))
    storage.write("old", b"old")
    storage.link("old", "new")
    storage.write("new", b"new")
    assert storage.read("old") == b"old" and storage.read("new") == b"new"


def test_a_reader_that_comes_too_late_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kernel(tmp_path, 1)
    opened = LocalFolder.open

    def replaced_meanwhile(self: LocalFolder, path: str) -> str:
        monkeypatch.setattr(LocalFolder, "open", opened)
        write_kernel(tmp_path, 2)
        return opened(self, path)

    monkeypatch.setattr(LocalFolder, "open", replaced_meanwhile)
    assert value_of(tmp_path) == 2


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = OutputFolder(tmp_path)
    with pytest.raises(OutputError, match="another splitbtf run"):
        OutputFolder(tmp_path)
    first.close()
    OutputFolder(tmp_path).close()
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "k.json").write_text("")
    for _ in range(2):
        with pytest.raises(OutputError, match="cannot read"):
            OutputFolder(tmp_path)


def test_a_run_that_was_killed_locks_nobody_out(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        OutputFolder(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    OutputFolder(tmp_path).close()


def test_messages(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file"):
        OutputFolder(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="cannot use nonsense://x"):
        OutputFolder("nonsense://x")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "k.json").write_text("{")
    with pytest.raises(OutputError, match=r"cannot read .*k\.json"):
        read_manifests(tmp_path)
    (tmp_path / "manifests" / "k.json").write_text('{"format": 99}')
    with pytest.raises(OutputError, match="format 99"):
        read_manifests(tmp_path)


def test_reading_nothing(tmp_path: Path) -> None:
    assert read_manifests(tmp_path) == []
    with pytest.raises(OutputError, match="no kernel there"):
        read_table(tmp_path, "types")


def test_a_stage_is_per_kernel() -> None:
    assert (
        OutputStage("a").btf != OutputStage("b").btf
        and OutputStage("a").results != OutputStage("b").results
    )


def test_a_part_without_a_column_is_read_with_it(tmp_path: Path) -> None:
    """Whoever asks for a column of a table gets it, whatever was done to the files."""
    out = tmp_path / "out"
    write_kernel(out, 1)
    (path,) = (out / "tables").rglob("*.parquet")
    whole = pq.read_table(path, partitioning=None)
    pq.write_table(whole.drop_columns(["module"]), path)
    found = read_table(out, "modules")
    assert found.column_names[: len(whole.column_names) + 1] == ["kernel", *whole.column_names]
    assert found["module"].to_pylist() == [None] and found["object_id"].to_pylist() == [1]
