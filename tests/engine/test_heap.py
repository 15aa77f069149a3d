"""Protects: how much memory a run takes does not grow with the number of kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

import btf
import pipeline.run
from btf.compiled.workspaces import per_thread
from pipeline.engine.malloc import release_memory
from pipeline.files.storage import LocalFolder
from pipeline.model.base import SharedBase
from pipeline.model.engine import Call, Result
from pipeline.model.options import KernelContext, RunOptions
from pipeline.run import run
from pipeline.work.batch import BatchOptions, Shared, work
from support import dumping
from support.paths import DEMO, ROOT, TESTS
from support.trees import small_tree

pytestmark = pytest.mark.slow


def held_bytes() -> int:
    """Memory of this process that is no file's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")


def main(folder: str) -> None:
    """In a process of its own: print what is held at the end of a run over few kernels, and over
    many. Before the end, others are under way."""
    held: list[int] = []
    original = pipeline.run._Run._note

    def note(this: Any, report: Any) -> None:
        original(this, report)
        held.append(held_bytes())

    pipeline.run._Run._note = note  # type: ignore[method-assign,assignment]
    for kernels in (2, 10):
        source, out = Path(folder, f"source of {kernels}"), Path(folder, f"out of {kernels}")
        for number in range(kernels):  # of different releases, so that each is worked on
            tree = small_tree(source / str(number), ["xfs", "xt_bpf"])
            (tree / "vmlinux.btf.zst").rename(tree / f"vmlinux-6.1.{number}.btf.zst")
        report = run(RunOptions((str(source),), str(out), engine="local"))
        assert [kernel.worked for kernel in report.kernels] == [2] * kernels
        print(held[-1])


@pytest.mark.long
def test_nothing_stays_of_kernels_that_are_done(tmp_path: Path) -> None:
    """Neither a base's index nor results."""
    command = [sys.executable, __file__, str(tmp_path)]
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}"}
    done = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    few, many = map(int, done.stdout.split())
    assert many - few < 30 << 20, "an index has 12 MB"


def test_what_was_freed_is_given_back() -> None:
    """Pieces that the C library would keep: it gives back at once only what is large."""
    pieces = [bytes(100_000) for _ in range(1000)]
    last = bytes(100_000)  # behind them all
    full = held_bytes()
    del pieces
    release_memory()
    assert full - held_bytes() > 40 << 20
    assert len(last)


def test_workspaces_can_be_released() -> None:
    """What a large module made grow is gone, in this thread only, and comes again as needed."""
    index = dumping.index()
    data = dumping.unpacked(DEMO / "modules" / "xfs.btf.zst")

    def work() -> tuple[bytes, bytes]:
        split = btf.dedup_module(btf.open_module(data, index), index).btf
        assert index.base is not None
        known = btf.BaseFingerprints.build(index.base)
        return split.to_bytes(), btf.fingerprints(split, known).tobytes()

    before = work()
    assert {"dedup", "fingerprints"} <= set(per_thread.__dict__)
    workspace = weakref.ref(per_thread.dedup)
    other = threading.Thread(target=btf.release_workspaces)
    other.start()
    other.join()
    assert workspace() is not None
    btf.release_workspaces()
    assert not per_thread.__dict__ and workspace() is None
    assert work() == before


def _dedup_base(base: SharedBase, _: object) -> int:
    """What the base's part of the table ``leftovers`` takes."""
    assert base.index.base is not None
    return btf.dedup(base.index.base).btf.type_count


def test_what_a_call_took_is_not_kept_for_modules(tmp_path: Path) -> None:
    """A base is a hundred times as large as the next module."""
    index = dumping.index()
    assert index.base is not None
    shared = Shared(SharedBase.of(index.base, index), {})
    context, storage = KernelContext(RunOptions((), "")), LocalFolder(str(tmp_path))
    options = BatchOptions(context, storage, "btf", "results", "rows")
    done = work(Call(_dedup_base, None), shared, options)
    assert isinstance(done, Result) and 0 < done.value <= index.base.type_count
    assert not per_thread.__dict__


def test_arrow_takes_memory_from_the_c_library() -> None:
    """Unless somebody wants it otherwise; what is freed can then be given back."""
    program = (
        "from pipeline.engine.malloc import use_system_pool; use_system_pool(); "
        "import pyarrow as pa; print(pa.default_memory_pool().backend_name)"
    )
    name = "ARROW_DEFAULT_MEMORY_POOL"
    unset = {key: text for key, text in os.environ.items() if key != name}
    for environment, expected in ((unset, "system"), ({**unset, name: "mimalloc"}, "mimalloc")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == expected, done.stderr


if __name__ == "__main__":
    main(*sys.argv[1:])
