"""Protects ``splitbtf check``: how each file is taken, what is said of it, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.btfwriter import Writer
from support.commands import Finished, splitbtf
from support.writers.debwriter import deb
from support.writers.elfwriter import elf, modinfo


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """``vmlinux.btf``, ``good.btf`` and ``bad.btf`` on it, and ``loop.btf`` without a base."""
    base = Writer()
    base.int("int", 4)
    (tmp_path / "vmlinux.btf").write_bytes(base.to_bytes())
    for name in ("good", "bad one"):
        split = Writer(base=base)
        split.typedef(name, 1)
        (tmp_path / f"{name.split()[0]}.btf").write_bytes(split.to_bytes())
    base.typedef("t", base.next_id)
    (tmp_path / "loop.btf").write_bytes(base.to_bytes())
    return tmp_path


def check(folder: Path, *arguments: str) -> Finished:
    """Arguments that end with a suffix are files in ``folder``, which the output does not name."""
    given = [folder / one if one.endswith((".btf", ".ko")) else one for one in arguments]
    done = splitbtf("check", *given)
    assert "Traceback" not in done.err
    return Finished(done.code, done.out.replace(f"{folder}/", ""), done.err)


def test_what_loads_and_what_does_not(files: Path) -> None:
    done = check(files, "vmlinux.btf")
    assert (done.code, done.out) == (0, "vmlinux.btf: loads, as program of Linux 7.3\n")
    done = check(files, "good.btf", "bad.btf", "-B", "vmlinux.btf", "--release", "6.1.0-50-amd64")
    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[0] == "good.btf: loads, as module of Linux 6.1"
    assert lines[1].startswith("bad.btf, types section, offset 0, type [2]: TYPEDEF bad one: ")
    assert lines[1].endswith(
        'the kernel says "Invalid name" (btf_ref_type_check_meta, since Linux 4.18)'
    )
    assert lines[2:] == ["2 files: 1 load, 1 do not"]


def test_as_json(files: Path) -> None:
    done = check(files, "loop.btf", "vmlinux.btf", "--json")
    loop, vmlinux = json.loads(done.out)
    assert done.code == 1
    assert (loop["loads"], loop["error"]["words"]) == (False, "Loop detected")
    assert (loop["error"]["source"], loop["error"]["type_id"]) == ("btf_resolve", 2)
    assert vmlinux == {
        "path": "vmlinux.btf",
        "loads": True,
        "load_as": "program",
        "release": "7.3",
        "error": None,
    }


def test_ways(files: Path) -> None:
    assert check(files, "loop.btf", "--as", "vmlinux", "--release", "5.15").code == 0


def test_what_cannot_be_checked(files: Path) -> None:
    done = check(files, "good.btf")
    assert done.code == 2 and "split BTF: name its base, usually vmlinux, with -B" in done.err
    done = check(files, "vmlinux.btf", "-B", "vmlinux.btf")
    assert done.code == 2 and "standalone BTF, not split" in done.err
    (files / "text.ko").write_bytes(elf({".text": b"no BTF"}))
    done = check(files, "good.btf", "text.ko", "missing.btf", "-B", "vmlinux.btf")
    assert done.code == 1 and "ELF file without a .BTF section" in done.err
    assert "missing.btf" in done.err
    assert done.out.endswith("\n3 files: 1 load, 0 do not, 2 could not be checked\n")
    rows = json.loads(check(files, "good.btf", "text.ko", "-B", "vmlinux.btf", "--json").out)
    assert [row["loads"] for row in rows] == [True, None]


def test_an_elf_module_says_its_release(files: Path) -> None:
    info = modinfo(name="m", vermagic="6.12.3 SMP")
    good = (files / "good.btf").read_bytes()
    (files / "m.ko").write_bytes(elf({".modinfo": info, ".BTF": good}))
    done = check(files, "m.ko", "-B", "vmlinux.btf")
    assert (done.code, done.out) == (0, "m.ko: loads, as module of Linux 6.12\n")
    (files / "m.ko").write_bytes(elf({".modinfo": modinfo(name="m", vermagic="?"), ".BTF": good}))
    done = check(files, "m.ko", "-B", "vmlinux.btf")
    assert (done.code, done.out) == (0, "m.ko: loads, as module of Linux 7.3\n")


def test_a_distilled_base_is_read_since_6_11(files: Path) -> None:
    base = Writer()
    base.int("int", 4)
    split = Writer(base=base)
    split.const(1)
    (files / "m.ko").write_bytes(elf({".BTF": split.to_bytes(), ".BTF.base": base.to_bytes()}))
    for arguments in ((), ("-B", "vmlinux.btf")):
        assert check(files, "m.ko", *arguments).code == 0
    base.typedef("a b", 1)
    split = Writer(base=base)
    split.const(1)
    (files / "m.ko").write_bytes(elf({".BTF": split.to_bytes(), ".BTF.base": base.to_bytes()}))
    done = check(files, "m.ko", "-B", "vmlinux.btf")
    assert done.code == 1 and "TYPEDEF a b" in done.out


def test_a_distilled_base_that_does_not_fit(files: Path) -> None:
    base = Writer()
    base.int("int", 8)
    split = Writer(base=base)
    split.const(1)
    (files / "m.ko").write_bytes(elf({".BTF": split.to_bytes(), ".BTF.base": base.to_bytes()}))
    assert check(files, "m.ko").code == 0
    done = check(files, "m.ko", "-B", "vmlinux.btf")
    assert done.code == 1 and "does not fit this base: it has no INT int" in done.out
    assert "(btf_relocate, since Linux 6.11)" in done.out


def test_names_in_a_distilled_base_are_those_of_its_types(files: Path) -> None:
    """The kernel has a place in vmlinux for no other."""
    base = Writer()
    base.int("int", 4)
    for name in ("int", "other"):
        base.string(name)
        split = Writer(base=base)
        split.typedef(name, 1)
        parts = {".BTF": split.to_bytes(), ".BTF.base": base.to_bytes()}
        (files / "m.ko").write_bytes(elf(parts))
        done = check(files, "m.ko", "-B", "vmlinux.btf")
        assert done.code == (name == "other")
    assert "btf_relocate_rewrite_strs" in done.out and "TYPEDEF other" in done.out


def test_folders_and_packages(files: Path, tmp_path: Path) -> None:
    """Of each kernel vmlinux, then its modules on that; only what would not load is listed."""
    kernels, alone = tmp_path / "kernels", tmp_path / "alone"
    for release in ("6.1.0", "6.2.0"):
        where = kernels / f"lib/modules/{release}"
        where.mkdir(parents=True)
        (kernels / f"vmlinux-{release}.btf").write_bytes((files / "vmlinux.btf").read_bytes())
        for name in ("good", "bad"):
            (where / f"{name}.btf").write_bytes((files / f"{name}.btf").read_bytes())
    (kernels / "lib/modules/6.2.0/plain.btf").write_bytes((files / "vmlinux.btf").read_bytes())
    (kernels / "lib/modules/6.2.0/good.btf").unlink()
    content = {str(p.relative_to(kernels)): p.read_bytes() for p in kernels.rglob("*.btf")}
    (tmp_path / "kernels.deb").write_bytes(deb(content))
    for given in (kernels, tmp_path / "kernels.deb"):
        done = splitbtf("check", given, "--release", "6.1")
        said = done.out.replace(f"{given}/", "").splitlines()
        assert (done.code, done.err) == (1, "")
        assert [line.split(",")[0] for line in said[:-1]] == [
            "lib/modules/6.1.0/bad.btf", "lib/modules/6.2.0/bad.btf",
        ]  # fmt: skip
        assert said[-1] == "6 files: 4 load, 2 do not"
    done = splitbtf("check", kernels / "lib", "-B", files / "vmlinux.btf")
    assert done.code == 1 and "plain.btf: standalone BTF, not split" in done.err
    assert done.out.endswith("4 files: 1 load, 2 do not, 1 could not be checked\n")

    alone.mkdir()
    done = splitbtf("check", alone)
    assert (done.code, done.err) == (2, f"splitbtf: error: no modules in {alone}\n")
    for number in range(30):
        (alone / f"m{number}.btf").write_bytes((files / "good.btf").read_bytes())
    done = splitbtf("check", alone)
    assert done.code == 2 and done.err.count("name its base") == 20
    assert "10 more could not be checked: --json lists all" in done.err
    (alone / "vmlinux").write_bytes(b"none")
    done = splitbtf("check", alone)
    assert done.code == 2 and "cannot use the base" in done.err


def test_the_rules(files: Path) -> None:
    every, of_6_1 = check(files, "--rules"), check(files, "--rules", "--release", "6.1")
    assert every.code == of_6_1.code == 0
    assert "Unaligned layout_off" in every.out and "Unaligned layout_off" not in of_6_1.out
    assert "btf_check_type_tags (since Linux 5.19, until 7.2)" in of_6_1.out
    assert len(json.loads(check(files, "--rules", "--json").out)) == len(every.out.splitlines())


def test_wrong_usage(files: Path) -> None:
    for arguments, said in (
        ((), "--rules"),
        (("vmlinux.btf", "--rules"), "--rules"),
        (("vmlinux.btf", "--release", "4.19"), "those since 5.10 are"),
        (("vmlinux.btf", "--release", "trixie"), "no kernel release"),
        (("missing.btf",), "missing.btf"),
    ):
        done = check(files, *arguments)
        assert done.code == 2 and said in done.err, arguments
