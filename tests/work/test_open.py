"""Protects: what one command opens, every command opens, and gets the same BTF from."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import btf
from pipeline.dedup import dedup_files
from pipeline.dump import dump_files
from pipeline.merge import merge_files
from pipeline.model.errors import SourceError
from pipeline.work.base import load_base
from support.paths import DEMO
from support.writers.debwriter import deb
from support.writers.elfwriter import elf

NAMES: dict[str, Callable[[bytes], bytes]] = {
    "raw.btf": bytes,
    "raw.btf.xz": lzma.compress,
    "elf.ko": lambda content: elf({".BTF": content}),
    "elf.ko.zst": lambda content: zstandard.compress(elf({".BTF": content})),
    "bzImage": lambda content: bz2.compress(elf({".BTF": content})),
    "package.deb": lambda content: deb({"boot/vmlinux-1.0": elf({".BTF": content})}),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_opens_it(
    name: str, tmp_path: Path, demo_btf: Callable[[str], bytes]
) -> None:
    content = demo_btf("act_bpf")
    (tmp_path / name).write_bytes(NAMES[name](content))
    path, out = str(tmp_path / name), tmp_path / "out"
    types = btf.parse(content)
    assert load_base(path).content == content
    assert "".join(dump_files([path])) == "".join(btf.dump_raw(types))
    merge_files([path], str(tmp_path / "merged.btf"))
    assert (tmp_path / "merged.btf").read_bytes() == btf.merge([types]).btf.to_bytes()
    if name == "package.deb":
        return  # of a package dedup takes the modules, and this one has none
    report = dedup_files(str(DEMO / "vmlinux.btf.zst"), [path], str(out))
    assert not report.summary.failed
    base = btf.BaseIndex.build(btf.parse(demo_btf("vmlinux")))
    (written,) = out.iterdir()
    assert written.read_bytes() == btf.dedup_split(types, base).btf.to_bytes()


def test_split_btf_needs_its_base(tmp_path: Path, demo_btf: Callable[[str], bytes]) -> None:
    path, out = str(DEMO / "modules/8255.btf.zst"), tmp_path / "out"
    dedup_files(str(DEMO / "vmlinux.btf.zst"), [path], str(out))
    with pytest.raises(SourceError, match=r"8255\.btf: split BTF: name its base, usually vmlinux"):
        dump_files([str(out / "8255.btf")])


def test_a_package_must_hold_one_kernel(tmp_path: Path) -> None:
    path = tmp_path / "two.deb"
    path.write_bytes(deb({"boot/vmlinux-1.0": b"", "boot/vmlinux-2.0": b""}))
    with pytest.raises(SourceError, match="holds BTF of 2 files: unpack it and name one"):
        dump_files([str(path)])
