"""Protects ``make bench`` from changes of what it looks into."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(demo_btf: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    for name in ("vmlinux", "xt_bpf"):
        (folder / f"{name}.btf").write_bytes(demo_btf(name))
    return folder


def probe(name: str, **arguments: object) -> Any:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/probe.py", name],
        input=json.dumps(arguments), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_modules(files: Path) -> None:
    given = {"base": str(files / "vmlinux.btf"), "files": [str(files / "xt_bpf.btf")]}
    (one,) = probe("modules", **given, repeat=1)
    assert one["failure"] is None and one["seconds"] > 0
    assert one["types"] > one["types_out"] > 0


def test_memory_index_and_load(files: Path, tmp_path: Path) -> None:
    base = str(files / "vmlinux.btf")
    used = probe("memory", base=base, files=[str(files / "xt_bpf.btf")])
    assert used["modules"] == 1 and used["peak"] >= used["before"] > 0
    used = probe("memory", base=base, files=[str(files / "xt_bpf.btf")], out=str(tmp_path))
    assert used["peak"] >= used["before"] > 0 and (tmp_path / "btf/xt_bpf.btf").exists()
    built = probe("index", base=base, repeat=1)
    assert built["bytes"] > built["base_bytes"] > 0
    assert probe("load", base=base, repeat=1)["types"] == built["types"]


def test_fingerprints(files: Path) -> None:
    given = {"base": str(files / "vmlinux.btf"), "files": [str(files / "xt_bpf.btf")]}
    taken = probe("fingerprints", **given, repeat=2)
    assert all(len(one) == 2 and min(one) > 0 for of in taken.values() for one in of.values())


def test_without_tables(files: Path, tmp_path: Path) -> None:
    base = str(files / "vmlinux.btf")
    taken = probe("without_tables", base=base, folder=str(files), out=str(tmp_path), workers=2)
    assert taken["seconds"] > 0 and (tmp_path / "btf/xt_bpf.btf").exists()


@pytest.mark.long
def test_driver(files: Path, tmp_path: Path) -> None:
    base = str(files / "vmlinux.btf")
    found = probe("driver", base=base, folder=str(files), out=str(tmp_path), sent=True)
    assert all(value > 0 for value in found.values()) and found["shared"] > found["back"]
