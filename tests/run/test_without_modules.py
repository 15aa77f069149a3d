"""Protects: a vmlinux alone is a kernel too, whatever it comes in; and what is said of a kernel."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import btf
from pipeline.analysis.query import Tables
from pipeline.analysis.questions import questions
from pipeline.store.output import read_table
from pipeline.tables.identity import architecture, flavour, release_key
from support import btfwriter as bw
from support.commands import splitbtf
from support.dumping import unpacked
from support.paths import DEMO, DEMO_S390X
from support.runs import run_on
from support.writers import debwriter

pytestmark = pytest.mark.slow


def vmlinux() -> bytes:
    w = bw.Writer()
    integer = w.int("int", 4)
    w.struct("pair", 8, [("a", integer, 0), ("b", integer, 32)])
    w.struct("pt_regs", 8, [("", w.union("", 8, [("orig_x0", integer, 0)]), 0)])
    return w.to_bytes()


def tarred(name: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(vmlinux())
        tar.addfile(member, io.BytesIO(vmlinux()))
    return content.getvalue()


WAYS: dict[str, Callable[[], bytes]] = {
    "vmlinux": vmlinux,
    "vmlinux-6.12.117+deb12-cloud-arm64": vmlinux,
    "6.8.0-31-generic.btf": vmlinux,
    "6.8.0-31-generic.btf.tar.xz": lambda: tarred("6.8.0-31-generic.btf"),
    "linux-image.deb": lambda: debwriter.deb(
        {"boot/vmlinux-6.1.0-50-rt-arm64": vmlinux()},
        package="linux-image-6.1",
        version="6.1.176-1",
        architecture="arm64",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_vmlinux_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WAYS[name]())
    out = tmp_path / "out"
    for _ in range(2):  # the second time nothing has changed
        done = splitbtf("run", tmp_path / name, "-o", out, "--engine", "local")
        assert done.code == 0 and "vmlinux alone" in done.out
    (kernel,) = read_table(out, "kernels").to_pylist()
    assert (kernel["base_types"], kernel["modules"], kernel["architecture"]) == (4, 0, "aarch64")
    assert read_table(out, "types")["name"].to_pylist() == ["int", "pair", None, "pt_regs"]
    assert len(read_table(out, "members")) == 4 and len(read_table(out, "modules")) == 0
    if name.endswith(".deb"):
        assert (kernel["package"], kernel["package_version"]) == ("linux-image-6.1", "6.1.176-1")
        assert (kernel["release"], kernel["flavour"]) == ("6.1.0-50-rt-arm64", "rt-arm64")
    else:
        assert kernel["package"] is None and kernel["package_version"] is None


@pytest.mark.slow
def test_what_can_be_asked_of_kernels_without_modules(tmp_path: Path) -> None:
    for release in ("6.1.0-50-rt-arm64", "6.1.0-56-rt-arm64"):
        (tmp_path / f"vmlinux-{release}").write_bytes(vmlinux())
    run_on(tmp_path, out := tmp_path / "out")
    with Tables(str(out)) as tables:
        for name, question in questions().items():
            rows = tables.ask(question.sql).rows
            assert len(rows) == (2 if name == "size-per-kernel" else 0), name
            assert all(value == value for row in rows for value in row), f"{name}: no number"
    done = splitbtf("diff", "--in", out, "6.1.0-50", "6.1.0-56", "--json")
    assert [one["object"] for one in done.json["objects"]] == ["vmlinux"]
    assert not done.json["changes"]
    assert splitbtf("history", "pair", out).out.startswith("pair: 1 declaration in 2 kernels")


def test_one_that_cannot_be_read_is_told_beside_others(tmp_path: Path) -> None:
    for name, content in {"a/vmlinux-1.0": vmlinux(), "b/vmlinux-2.0": b"text"}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
    done = splitbtf("run", tmp_path, "-o", tmp_path / "out", "--engine", "local")
    assert done.code == 1 and "2.0: not done" in done.out and "not BTF" in done.err
    assert read_table(tmp_path / "out", "kernels")["release"].to_pylist() == ["1.0"]


RELEASES = [
    "5.10.0-0.deb10.16-amd64", "6.1.0-9-amd64", "6.1.0-50-amd64", "6.1.0-50-cloud-amd64",
    "6.9.7-200.fc40.x86_64", "6.12-rc3", "6.12.0-rc10", "6.12", "6.12.1", "6.12.117+deb12-amd64",
    "7.0",
]  # fmt: skip


def test_keys_sort_as_releases_do() -> None:
    keys = [release_key(release) or "" for release in RELEASES]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert release_key(None) is None and release_key("demo") is None


@pytest.mark.parametrize(
    ("release", "found"),
    [
        ("6.12.117+deb12-cloud-amd64", "cloud-amd64"),
        ("6.8.0-31-generic", "generic"),
        ("6.6.31-0-lts", "lts"),
        ("6.9.7-200.fc40.x86_64", None),
        ("6.12.0-rc3", None),
        (None, None),
    ],
)
def test_flavour(release: str | None, found: str | None) -> None:
    assert flavour(release) == found


def registers(*names: str, order: str = "<", pointer: int = 8) -> btf.BTF:
    w = bw.Writer(order)
    long = w.int("long unsigned int", pointer, encoding=0)
    w.struct("pt_regs", 64, [(name, long, 64 * at) for at, name in enumerate(names)])
    return btf.parse(w.to_bytes())


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (lambda: btf.parse(unpacked(DEMO / "vmlinux.btf.zst")), "x86_64"),
        (lambda: btf.parse(unpacked(DEMO_S390X / "vmlinux.btf.zst")), "s390x"),
        (lambda: registers("bx", "orig_ax", pointer=4), "i686"),
        (lambda: registers("orig_gpr3"), "ppc64le"),
        (lambda: registers("orig_gpr3", order=">"), "ppc64"),
        (lambda: registers("epc", "ra"), "riscv64"),
        (lambda: registers("uregs", pointer=4), "arm"),
        (lambda: registers("unheard_of"), None),
    ],
)
def test_architecture(made: Callable[[], btf.BTF], found: Any) -> None:
    assert architecture(made(), "") == found
    assert architecture(registers("unheard_of"), "loong64") == "loongarch64"
