"""Protects: how much memory a run takes does not grow with the number of kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import small_tree

import pipeline.run
from pipeline.heap import give_back
from pipeline.run import RunOptions, run


def held_bytes() -> int:
    """Memory of this process that is no file's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")


def test_nothing_stays_of_kernels_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a base's index nor results."""
    held: list[int] = []
    original = pipeline.run._Run._note

    def note(this: Any, report: Any) -> None:
        original(this, report)
        held.append(held_bytes())

    def held_after(kernels: int) -> int:
        """At the end of the last one; before that, others are under way."""
        source, out = tmp_path / f"source of {kernels}", tmp_path / f"out of {kernels}"
        for number in range(kernels):  # of different releases, so that each is worked on
            folder = small_tree(source / str(number), ["xfs", "xt_bpf"])
            (folder / "vmlinux.btf.zst").rename(folder / f"vmlinux-6.1.{number}.btf.zst")
        report = run(RunOptions((str(source),), str(out), engine="local"))
        assert [kernel.worked for kernel in report.kernels] == [2] * kernels
        return held[-1]

    monkeypatch.setattr(pipeline.run._Run, "_note", note)
    few, many = held_after(2), held_after(7)
    # An index has 12 MB.
    assert many - few < 30 << 20, held


def test_what_was_freed_is_given_back() -> None:
    """Pieces that the C library would keep: it gives back at once only what is large."""
    pieces = [bytes(100_000) for _ in range(1000)]
    last = bytes(100_000)  # behind them all
    full = held_bytes()
    del pieces
    give_back()
    assert full - held_bytes() > 40 << 20
    assert len(last)
