"""Runs in this process, their tables, and a kernel small enough to know all about it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from pipeline.model.options import RunOptions
from pipeline.run import run
from pipeline.store.output import read_table
from support import btfwriter as bw
from support.commands import splitbtf
from support.paths import DEMO, DEMO_LATER, ROOT


def run_on(source: Path, out: Path, **options: Any) -> Path:
    run(RunOptions(sources=(str(source),), out=str(out), engine="local", **options))
    return out


def demo_kernels(out: Path) -> str:
    """Deduplicate what `make demo` does, and as it does it; returns the summary."""
    sources = (path.relative_to(ROOT) for path in (DEMO, DEMO_LATER))
    with contextlib.chdir(ROOT):
        done = splitbtf("run", *sources, "-o", out, "--engine", "local")
    assert done.code == 0, done.err
    return done.out


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    return read_table(out, table).to_pylist()


def small_kernel(folder: Path) -> Path:
    """Two modules that keep the same things, and one that means something else by the name."""
    folder.mkdir()
    base = bw.Writer()
    integer = base.int("int", 4)
    base.struct("shared", 4, [("x", integer, 0)])
    base.fwd("hidden")
    (folder / "vmlinux.btf").write_bytes(base.to_bytes())
    for name, size in (("one", 8), ("two", 8), ("three", 16)):
        w = bw.Writer()
        integer = w.int("int", 4)
        w.struct("driver", size, [("a", integer, 0), ("b", integer, 32)])
        w.struct("shared", 4, [("x", integer, 0)])
        w.datasec(".data", 4, [(w.var("counter", integer), 0, 4)])
        w.struct("flags", 4, [("", integer, bw.bitfield(3, 5))], kind_flag=1)
        w.enum("mode", 4, [("low", -1), ("high", 2)], signed=True)
        w.enum64("wide", 8, [("all", (1 << 64) - 1)])
        w.enum64("least", 8, [("min", -(1 << 63))], signed=True)
        w.func("start", w.func_proto(0, [("flags", integer)]))
        (folder / f"{name}.btf").write_bytes(w.to_bytes())
    return folder
