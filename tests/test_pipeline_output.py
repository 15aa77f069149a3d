"""Protects: readers see a whole kernel or none, whenever the writer dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import files_below

from pipeline import output, schemas
from pipeline.errors import OutputError
from pipeline.output import Manifest, OutputFolder, read_manifests, read_table


def write_kernel(out: Path, value: int, run_id: str = "run", kernel: str = "k") -> None:
    """A kernel of one BTF file and one row, both of which say ``value``."""
    folder = OutputFolder(out, run_id)
    try:
        staging = folder.stage_btf(kernel)
        (staging / "m.btf").write_bytes(bytes([value]))
        row = {"module": "m", "object_id": value, "source": "m", "status": "done"}
        table = pa.Table.from_pylist([row], schema=schemas.MODULES.schema)
        part = folder.stage_table(kernel, "modules", table)
        folder.commit(
            Manifest(kernel, "0", "", output.btf_folder(kernel), 1, 1, {"modules": (part,)})
        )
    finally:
        folder.close()


def value_of(out: Path, kernel: str = "k") -> int | None:
    """What readers see: None for nothing; fails on half a kernel."""
    rows = read_table(out, "modules", kernel).to_pylist()
    if not rows:
        assert kernel not in [manifest.kernel for manifest in read_manifests(out)]
        return None
    (row,) = rows
    content = (out / output.btf_folder(kernel) / "m.btf").read_bytes()
    assert content == bytes([row["object_id"]])
    return int(row["object_id"])


def test_commit_and_replace(tmp_path: Path) -> None:
    write_kernel(tmp_path, 1)
    write_kernel(tmp_path, 7, kernel="other")
    assert (value_of(tmp_path), value_of(tmp_path, "other")) == (1, 7)
    write_kernel(tmp_path, 2)
    assert (value_of(tmp_path), value_of(tmp_path, "other")) == (2, 7)
    left = [path for path in files_below(tmp_path) if path != ".lock"]
    assert len(left) == 2 * 3, left  # manifest, part, BTF of each: nothing of what was replaced


STEPS = ("rename", "replace", "unlink", "write_text", "mkdir")


def die_at(step: int) -> None:
    """From now on, kill this process before its n-th change to the file system."""
    left = [step]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return original(*arguments, **options)

        return wrapper

    for name in STEPS:
        setattr(Path, name, counted(getattr(Path, name)))


@pytest.mark.parametrize("before", [None, 1])
def test_killed_at_every_step(before: int | None, tmp_path: Path) -> None:
    """SIGKILL before the n-th change to the file system, for all n until the commit is through."""
    survived = False
    for step in range(100):
        out = tmp_path / str(step)
        if before is not None:
            write_kernel(out, before)
        child = os.fork()
        if child == 0:
            die_at(step)
            write_kernel(out, 2, "killed")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        survived = status == 0
        assert value_of(out) in ({2} if survived else {None, before, 2})
        write_kernel(out, 3, "after")
        assert value_of(out) == 3
        names = {Path(path).name for path in files_below(out)} - {".lock", "k.json", "m.btf"}
        assert len(names) == 1, "leftovers of the run that was killed"
        if survived:
            break
    assert survived and step > 5


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = OutputFolder(tmp_path, "first")
    with pytest.raises(OutputError, match="another splitbtf run"):
        OutputFolder(tmp_path, "second")
    first.close()
    OutputFolder(tmp_path, "third").close()


def test_messages(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file"):
        OutputFolder(tmp_path / "file" / "out", "run")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "k.json").write_text("{")
    with pytest.raises(OutputError, match=r"cannot read .*k\.json"):
        read_manifests(tmp_path)
    (tmp_path / "manifests" / "k.json").write_text('{"format": 99}')
    with pytest.raises(OutputError, match="format 99"):
        read_manifests(tmp_path)


def test_reading_nothing(tmp_path: Path) -> None:
    assert read_manifests(tmp_path) == []
    assert read_table(tmp_path, "types").column_names[:2] == ["kernel", "global_id"]
