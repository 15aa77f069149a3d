"""Protects modules that carry a distilled base (.BTF.base): every command takes them."""

from __future__ import annotations

import functools
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

import btf
from pipeline.store.output import read_table
from support import dumping, marks, vectors
from support.commands import splitbtf
from support.paths import DEMO
from support.writers.elfwriter import elf, modinfo

BASE = DEMO / "vmlinux.btf.zst"
MODULES = ("8255", "act_bpf", "hid")


@functools.cache
def sections(name: str, release: str = "6.1.0-50-cloud-amd64") -> dict[str, bytes]:
    """What pahole and resolve_btfids put into a module that is built outside of the kernel."""
    distilled = btf.distill_base(dumping.split(name))
    return {
        ".BTF": distilled.split.to_bytes(),
        ".BTF.base": distilled.base.to_bytes(),
        ".modinfo": modinfo(name=name, vermagic=f"{release} SMP mod_unload"),
    }


def module(name: str, **other: bytes) -> bytes:
    return elf({**sections(name), **{f".{key}": data for key, data in other.items()}})


def expected(name: str) -> bytes:
    """The module as split BTF of the demo's kernel, deduplicated once more."""
    return btf.dedup(dumping.split(name), dumping.index()).btf.to_bytes()


def changed_vmlinux(name: str, more: int) -> btf.BTF:
    """The demo's vmlinux with a struct that is larger by some bytes."""
    base = dumping.base()
    words = base.words.copy()
    words[int(base.offsets[base.find(name, btf.Struct).id - 1]) + 2] += more
    return btf.parse(btf.BTF(words, base.offsets, base.strings).to_bytes())


@pytest.mark.parametrize("name", marks.demo_modules())
def test_opened_and_deduplicated(name: str) -> None:
    index = dumping.index()
    data = module(name)
    opened = btf.open_module(data, index, path=name)
    assert (opened.form, opened.name, opened.btf.base) == ("distilled", name, index.base)
    assert opened.input_bytes == sum(len(sections(name)[part]) for part in (".BTF", ".BTF.base"))
    assert btf.dedup_module(opened, index).btf.to_bytes() == expected(name)


def test_another_release_is_no_reason_to_refuse() -> None:
    """A distilled base is there so that a module outlives its kernel: relocation decides."""
    data = elf(sections("hid", release="6.1.0-49-cloud-amd64"))
    opened = btf.open_module(data, dumping.index(), release="6.1.0-50-cloud-amd64")
    assert opened.release == "6.1.0-49-cloud-amd64" and opened.form == "distilled"


def test_another_kernel() -> None:
    """It may have moved everything, but not what the module holds itself."""
    smaller = btf.BaseIndex.build(changed_vmlinux("task_struct", 64))
    assert btf.dedup_module(btf.open_module(module("hid"), smaller), smaller).btf.type_count
    other = btf.BaseIndex.build(changed_vmlinux("device", 8))
    with pytest.raises(btf.WrongBaseError) as caught:
        btf.open_module(module("hid"), other, path="hid.ko")
    assert caught.value.message == (
        "does not fit this base: struct device has 744 bytes for the module, but 752 in [1482], "
        "and [64] struct hid_device of the module holds one"
    )
    assert (caught.value.path, caught.value.section) == ("hid.ko", ".BTF.base")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (b"", "in .BTF.base: the file is empty"),
        (b"\x7fELF" + bytes(60), "in .BTF.base: not BTF"),
        (dumping.base().to_bytes()[:100], "in .BTF.base: type section"),
    ],
)  # fmt: skip
def test_a_distilled_base_that_is_damaged(base: bytes, message: str) -> None:
    data = elf({**sections("hid"), ".BTF.base": base})
    with pytest.raises(btf.BtfError, match=message):
        btf.open_module(data, dumping.index())


@pytest.mark.parametrize("seed", range(150))
def test_any_damage_is_an_error_or_sound(seed: int) -> None:
    """Kernels have no bounds checks: nothing that is out of range may get to them."""
    dice = vectors.Dice(seed)
    changed = dict(sections("8255"))
    part = dice.pick([".BTF", ".BTF.base"])
    data = bytearray(changed[part])
    for _ in range(1 + dice.below(3)):
        at = dice.below(len(data) // 4) * 4 if dice.chance(0.5) else dice.below(len(data))
        if at >= 24 or dice.chance(0.2):
            data[at] = dice.below(256)
    changed[part] = bytes(data)
    try:
        opened = btf.open_module(elf(changed), dumping.index())
        result = btf.dedup_module(opened, dumping.index()).btf
    except btf.BtfError as error:
        assert str(error)
        return
    assert btf.parse(result.to_bytes(), dumping.base()).type_count == result.type_count


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """vmlinux and modules, some compressed."""
    root = tmp_path / "kernel"
    root.mkdir()
    shutil.copy(BASE, root)
    for name in MODULES:
        (root / f"{name}.ko").write_bytes(module(name))
    (root / "act_bpf.ko").rename(root / "act_bpf.ko.xz")
    (root / "act_bpf.ko.xz").write_bytes(lzma.compress(module("act_bpf")))
    return root


def test_dedup(folder: Path, tmp_path: Path) -> None:
    done = splitbtf("dedup", "-B", BASE, "-o", tmp_path / "out", folder)
    assert done.code == 0, done.err + done.out
    for name in MODULES:
        assert (tmp_path / "out" / f"{name}.btf").read_bytes() == expected(name)


@pytest.mark.slow
def test_run(folder: Path, tmp_path: Path) -> None:
    other = btf.distill_base(btf.dedup_split(dumping.standalone("hid"), dumping.index()).btf)
    wrong = other.base.to_bytes().replace(b"device\0", b"divice\0")
    broken = elf({".BTF": other.split.to_bytes(), ".BTF.base": wrong})
    (folder / "broken.ko").write_bytes(broken)
    done = splitbtf("run", folder, "-o", tmp_path / "out", "--engine", "local")
    assert done.code == 1, done.err
    rows = {row["module"]: row for row in read_table(tmp_path / "out", "modules").to_pylist()}
    for name in MODULES:
        path = tmp_path / "out/btf/kernel=kernel" / f"{name}.btf"
        assert path.read_bytes() == expected(name)
        assert rows[name]["form"] == "distilled" and rows[name]["status"] == "done"
    row = rows["broken"]
    assert (row["error_kind"], row["error_section"]) == ("wrong_base", ".BTF.base"), row
    assert "it has no struct divice" in row["error"]


@pytest.mark.slow
def test_dump_and_merge(folder: Path, tmp_path: Path) -> None:
    opened = btf.open_module(module("8255"), dumping.index())
    done = splitbtf("dump", folder / "8255.ko", "-B", BASE)
    assert done.out == "".join(btf.dump_raw(opened.btf)), done.err
    distilled = btf.distill_base(dumping.split("8255")).split
    done = splitbtf("dump", folder / "8255.ko")
    assert done.out == "".join(btf.dump_raw(distilled)), done.err
    out = tmp_path / "all.btf"
    done = splitbtf("merge", folder / "8255.ko", "-B", BASE, "-o", out)
    assert done.code == 0, done.err
    merged = btf.merge([opened.btf], dumping.index())
    assert out.read_bytes() == merged.btf.to_bytes()


def test_sections_that_objcopy_added(tmp_path: Path) -> None:
    """A real object file, made as the kernel's build makes modules."""
    dumping.need("gcc", "objcopy")
    (tmp_path / "m.c").write_text("int answer(void) { return 42; }\n")
    ko = tmp_path / "m.ko"
    assert dumping.gcc("-c", "-g0", tmp_path / "m.c", "-o", ko).returncode == 0
    command = ["objcopy"]
    for name, content in sections("8255").items():
        path = tmp_path / name.strip(".")
        path.write_bytes(content)
        command += ["--add-section", f"{name}={path}"]
    subprocess.run([*command, str(ko)], check=True)
    opened = btf.open_module(ko.read_bytes(), dumping.index())
    assert opened.form == "distilled"
    assert btf.dedup_module(opened, dumping.index()).btf.to_bytes() == expected("8255")
