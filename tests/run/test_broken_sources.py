"""Protects: what cannot be read, or no longer, or only in part, is a row or a message with file and
kernel; the other modules and kernels are done, and the exit status is not 0."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline import run as run_module
from pipeline.model.options import RunOptions
from pipeline.model.records import KernelInput
from pipeline.store.output import read_table
from support.commands import splitbtf
from support.paths import DEMO
from support.trees import small_tree, small_vmlinux
from support.writers import debwriter

pytestmark = pytest.mark.slow
MODULES = ("8255", "act_bpf", "xt_bpf")


def package(path: Path, release: str, demo_btf: Any, modules: tuple[str, ...] = MODULES) -> Path:
    files = {f"boot/vmlinux-{release}.btf": small_vmlinux()}
    files |= {f"lib/modules/{release}/{name}.btf": demo_btf(name) for name in modules}
    path.write_bytes(debwriter.deb(files, compression=""))
    return path


def rows(out: Path) -> dict[tuple[str, str], str | None]:
    """What is wrong with each module, by kernel and name."""
    return {(r["kernel"], r["module"]): r["error"] for r in read_table(out, "modules").to_pylist()}


def test_what_changes_after_it_was_found(
    tmp_path: Path, demo_btf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files vanish, are cut off or become something else before they are read."""
    sources = tmp_path / "in"
    for name in ("k1", "k2"):
        small_tree(sources / name, MODULES)
    package(sources / "3.deb", "3.0", demo_btf)
    package(sources / "4.deb", "4.0", demo_btf)
    real = run_module.find_kernels

    def found_before(*arguments: Any, **options: Any) -> tuple[KernelInput, ...]:
        kernels = real(*arguments, **options)
        for path in ("k1/8255.btf.zst", "k1/act_bpf.btf.zst", "k2/vmlinux.btf.zst", "3.deb"):
            (sources / path).unlink()
        os.mkfifo(sources / "k1/act_bpf.btf.zst")
        os.truncate(sources / "4.deb", (sources / "4.deb").stat().st_size - 20_000)
        return kernels

    monkeypatch.setattr(run_module, "find_kernels", found_before)
    out = tmp_path / "out"
    report = run_module.run(RunOptions((str(sources),), str(out), None, engine="local"))
    assert [kernel.summary.failed for kernel in report.kernels] == [3, 1, 2, 3]
    found = rows(out)
    assert "No such file" in str(found["k1", "8255"])
    assert "no regular file" in str(found["k1", "act_bpf"])
    assert found["k1", "xt_bpf"] is None
    for name in MODULES:
        assert "k2 has no base that can be used: " in str(found["k2", name])
        assert "k2/vmlinux.btf.zst: cannot read the file: No such file" in str(found["k2", name])
        assert "3.deb/boot/vmlinux-3.0.btf: cannot be read from its package" in str(
            found["3.0", name]
        )
    lost = [name for name in MODULES if found["4.0", name] is not None]
    assert lost == ["xt_bpf"]
    assert "truncated: the last 20000 bytes are missing" in str(found["4.0", "xt_bpf"])


def test_what_lies_in_a_folder(tmp_path: Path) -> None:
    """Links into nothing and in circles, pipes, sockets, devices, files that cannot be read."""
    root = small_tree(tmp_path / "in" / "k", ("8255",))
    os.mkfifo(root / "pipe.ko")
    os.mkfifo(root / "pipe.deb")
    (root / "device.btf.tar").symlink_to("/dev/zero")
    (root / "dangling.ko").symlink_to("nowhere.ko")
    (root / "circle.ko").symlink_to("circle.ko")
    (root / "device.ko").symlink_to("/dev/zero")
    (root / "fault.ko").symlink_to("/proc/self/mem")  # it can be opened, but its start not be read
    (root / "again").symlink_to("..")
    (root / "folder.ko").mkdir()
    (root / "link.btf.zst").symlink_to(root / "8255.btf.zst")
    (root / "cut.btf.zst").write_bytes((root / "8255.btf.zst").read_bytes()[:-9])
    (root / "more.btf.zst").write_bytes((root / "8255.btf.zst").read_bytes() + b"more")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(root)  # names of sockets are short
        server.bind("socket.ko")
        os.chdir(here)
    done = splitbtf("run", tmp_path / "in", "-o", tmp_path / "out", "--engine", "local")
    assert done.code == 1 and "Traceback" not in done.err
    found = {name: error for (_, name), error in rows(tmp_path / "out").items()}
    assert found.pop("8255") is None is found.pop("link")
    expected = {
        "pipe.deb": "package: cannot read the file: this is no regular file",
        "device.btf.tar": "package: cannot read the file: this is no regular file",
        "pipe": "no regular file", "socket": "no regular file", "device": "no regular file",
        "dangling": "a symbolic link to 'nowhere.ko'", "circle": "levels of symbolic links",
        "fault": "cannot read the file: Input/output error",
        "cut": "the file ends before the compressed data does",
        "more": "what follows byte",
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, error in found.items():
        assert expected[name] in str(error)


def test_a_base_that_cannot_be_read_costs_its_own_kernel(tmp_path: Path) -> None:
    names = ("cut", "dangling", "elf", "fault", "pipe")
    for name in ("good", *names):
        root = small_tree(tmp_path / "in" / name, ("8255",))
        if name != "good":
            (root / "vmlinux.btf.zst").unlink()
    base = (DEMO / "vmlinux.btf.zst").read_bytes()
    (tmp_path / "in/cut/vmlinux.btf.zst").write_bytes(base[: len(base) // 2])
    (tmp_path / "in/dangling/vmlinux").symlink_to("nowhere")
    (tmp_path / "in/elf/vmlinux").write_bytes(b"\x7fELF\2\1\1" + bytes(500))
    (tmp_path / "in/fault/vmlinux").symlink_to("/proc/self/mem")
    os.mkfifo(tmp_path / "in/pipe/vmlinux")
    done = splitbtf("run", tmp_path / "in", "-o", tmp_path / "out", "--engine", "local")
    assert done.code == 1 and "Traceback" not in done.err
    found = rows(tmp_path / "out")
    assert found.pop(("good", "8255")) is None
    for name in names:
        assert f"{name} has no base that can be used: " in str(found[name, "8255"])
        assert f"in/{name}/vmlinux" in str(found[name, "8255"])
    broken = [tmp_path / "in" / name for name in names]
    done = splitbtf("run", *broken, "-o", tmp_path / "none", "--engine", "local")
    assert done.code == 2, "of no kernel can anything be done"
    assert all(f"{name}: " in done.err and f"in/{name}/vmlinux" in done.err for name in names)


def test_packages_and_manifests_that_cannot_be_read(tmp_path: Path, demo_btf: Any) -> None:
    """Each is said with what is wrong with it, in a kernel of its own."""
    sources = tmp_path / "in"
    sources.mkdir()
    for release in ("1.0", "2.0"):
        package(sources / f"{release}.deb", release, demo_btf, ("8255",))
    (sources / "bad.deb").write_bytes((sources / "1.0.deb").read_bytes()[:150])
    (tmp_path / "lost.toml").write_text('format = 1\nname = "x"\n[[file]]\npath = "nowhere"\n')
    given = (sources, tmp_path / "lost.toml")
    done = splitbtf("run", *given, "-o", tmp_path / "out", "--engine", "local")
    assert done.code == 1 and "Traceback" not in done.err
    found = rows(tmp_path / "out")
    assert found.pop(("1.0", "8255")) is None is found.pop(("2.0", "8255"))
    assert "truncated: " in str(found.pop(("in", "bad.deb")))
    assert "no such file or folder" in str(found.pop(("lost", "lost.toml")))
    assert not found
    for alone, message in ((sources / "bad.deb", "bad.deb: package: "), (given[1], "/nowhere")):
        done = splitbtf("run", alone, "-o", tmp_path / "none", "--engine", "local")
        assert done.code == 2 and message in done.err


def test_a_tar_with_one_damaged_header(tmp_path: Path, demo_btf: Any) -> None:
    """Two of three modules come before it: they are done, and no command says that this is all."""
    files = {"vmlinux.btf": small_vmlinux(), **{f"{n}.btf": demo_btf(n) for n in MODULES}}
    whole = debwriter.tar(files)
    at = whole.index(b"./xt_bpf.btf")
    path = tmp_path / "x.btf.tar"
    path.write_bytes(whole[:at] + b"?" + whole[at + 1 :])
    base = DEMO / "vmlinux.btf.zst"
    problem = f"damaged: no tar header at byte {at}"
    done = splitbtf("run", path, "-o", tmp_path / "out", "--engine", "local", "--json")
    assert done.code == 1
    found = {name: error for (_, name), error in rows(tmp_path / "out").items()}
    assert {name for name, error in found.items() if error is None} == {"8255", "act_bpf"}
    assert problem in str(found["x.btf.tar"])
    done = splitbtf("dedup", "-B", base, "-o", tmp_path / "some", path)
    assert done.code == 1 and problem in done.out + done.err
    assert {p.name for p in (tmp_path / "some").iterdir()} == {"8255.btf", "act_bpf.btf"}
    module = DEMO / "modules/8255.btf.zst"
    for command in (
        ["dump", path],
        ["merge", "-o", tmp_path / "merged.btf", path],
        ["dedup", "-B", path, "--no-output", module],
    ):
        done = splitbtf(*command)
        assert done.code in (1, 2) and problem in done.out + done.err, command
