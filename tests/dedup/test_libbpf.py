"""Protects against drifting from the tools that people have: the installed libbpf and bpftool.

Skipped where gcc, libbpf-dev or bpftool is missing. An installed libbpf older than the contract
gives
other results for a few inputs (it knows no typedef of itself, looks less deep into types that were
written twice, has the array fault); so it has to agree on nearly all vectors, not on all. Whatever
bpftool reads of our output, it must read without a complaint.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import btf
from support import vectors
from support.marks import every
from support.modes import MODES, deduplicated
from support.oracles import oracle_libbpf

LITTLE = [name for name in vectors.cases() if not name.endswith("-be") and "recursive" not in name]
NAMES = [name for name in LITTLE if not name.startswith("seed-")] + ["seed-0", "seed-3", "seed-8"]


@pytest.fixture(scope="module")
def libbpf() -> oracle_libbpf.Oracle:
    oracle = oracle_libbpf.system_oracle()
    if oracle is None:
        pytest.skip("NOT RUN: the installed libbpf was not asked; needs gcc and libbpf-dev")
    return oracle


@pytest.mark.slow
@every
def test_installed_libbpf_agrees_on_nearly_everything(
    libbpf: oracle_libbpf.Oracle, every: int
) -> None:
    asked, differs = 0, []
    for name in NAMES[::every]:
        case = vectors.build(name)
        for mode in MODES:
            try:
                theirs = libbpf.run(mode, case.inputs(mode))
            except oracle_libbpf.Refused:
                continue
            ours = deduplicated(mode, case.inputs(mode)).btf
            asked += 1
            if (ours.type_section(), ours.string_section()) != (theirs.types, theirs.strings):
                differs.append(f"{name} {mode}")
    version = oracle_libbpf.libbpf_version()
    assert asked > 100 // every
    assert len(differs) <= asked // 10, f"libbpf {version}: {len(differs)} of {asked}: {differs}"


@pytest.mark.parametrize("name", ["all-kinds-new", "all-kinds-known", "seed-1", "seed-4"])
def test_bpftool_reads_what_we_write(name: str, tmp_path: Path) -> None:
    bpftool = shutil.which("bpftool", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin:/bin")
    if bpftool is None:
        pytest.skip("NOT RUN: bpftool is not installed")
    case = vectors.build(name)
    result = deduplicated("split", case.inputs("split")).btf
    base, split = tmp_path / "base.btf", tmp_path / "split.btf"
    base.write_bytes(case.base)
    split.write_bytes(result.to_bytes())
    command = [bpftool, "--json", "btf", "dump", "file", str(split), "--base-btf", str(base)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    types = json.loads(done.stdout)["types"]
    assert [t["id"] for t in types] == list(range(result.start_id, result.type_end))
    assert [t["kind"] for t in types] == [btf.KIND_NAMES[kind] for kind in result.own_kinds]
