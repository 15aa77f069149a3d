"""Protects: which files are inputs, which base they belong to, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.model.errors import SourceError
from pipeline.sources.discover import find_kernels, find_modules
from support.packages import refused
from support.trees import tree


def test_a_folder(tmp_path: Path) -> None:
    tree(tmp_path / "k", "vmlinux.btf.zst", "modules/b.btf", "modules/a.ko", "notes.txt",
         "modules/.hidden.ko", ".git/c.btf", "modules/Makefile")  # fmt: skip
    (kernel,) = find_kernels([str(tmp_path / "k")])
    assert kernel.name == "k" and kernel.bases[0].source == "vmlinux.btf.zst"
    found = [(m.object_id, m.name, m.source, m.file_bytes) for m in kernel.modules]
    assert found == [(1, "a", "modules/a.ko", 12), (2, "b", "modules/b.btf", 13)]


def test_a_named_file_is_always_an_input_and_once(tmp_path: Path) -> None:
    tree(tmp_path, "k/a.btf", "k/notes.txt", "k/vmlinux")
    sources = ["k", "k/notes.txt", "k/a.btf", "k/./a.btf"]
    modules = find_modules([str(tmp_path / source) for source in sources])
    assert [module.name for module in modules] == ["a", "notes.txt"]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (("x/vmlinux-6.1.0-1-amd64", "x/a.ko"), "6.1.0-1-amd64"),
        (("lib/modules/6.1.0/vmlinux", "lib/modules/6.1.0/kernel/a.ko"), "6.1.0"),
        (("boot/vmlinux", "lib/modules/6.1.0/kernel/a.ko"), "6.1.0"),
        (("linux/vmlinux", "linux/fs/a.ko"), "linux"),
        (("my kernel é/vmlinux", "my kernel é/a.ko"), "my_kernel___"),
    ],
)
def test_a_kernel_s_name(tmp_path: Path, files: tuple[str, ...], name: str) -> None:
    (kernel,) = find_kernels([str(tree(tmp_path, *files))])
    assert kernel.name == name


def test_several_kernels_each_with_its_own_base(tmp_path: Path) -> None:
    tree(tmp_path, "one/vmlinux.btf", "one/m/a.btf", "two/vmlinux.btf", "two/a.btf")
    kernels = find_kernels([str(tmp_path)])
    assert [(k.name, [m.source for m in k.modules]) for k in kernels] == [
        ("one", ["one/m/a.btf"]),
        ("two", ["two/a.btf"]),
    ]


def test_bases_apart_from_their_modules_are_matched_by_release(tmp_path: Path) -> None:
    tree(tmp_path, *(f"boot/vmlinux-6.{n}" for n in (1, 2)),
         *(f"lib/modules/6.{n}/a.ko" for n in (1, 2)))  # fmt: skip
    kernels = find_kernels([str(tmp_path)])
    assert [(k.name, Path(k.bases[0].path).name, k.modules[0].source) for k in kernels] == [
        ("6.1", "vmlinux-6.1", "lib/modules/6.1/a.ko"),
        ("6.2", "vmlinux-6.2", "lib/modules/6.2/a.ko"),
    ]


def test_the_outermost_vmlinux_of_a_build_tree(tmp_path: Path) -> None:
    tree(tmp_path, "vmlinux", "arch/x86/boot/compressed/vmlinux", "arch/x86/kvm/kvm.ko", "fs/a.ko")
    (kernel,) = find_kernels([str(tmp_path)])
    assert kernel.bases[0].source == "vmlinux" and len(kernel.modules) == 2


def test_raw_btf_before_elf(tmp_path: Path) -> None:
    tree(tmp_path, "vmlinux", "vmlinux.btf", "vmlinux.btf.zst", "a.ko")
    (kernel,) = find_kernels([str(tmp_path)])
    assert kernel.bases[0].source == "vmlinux.btf"


def test_base_and_kernel_as_told(tmp_path: Path) -> None:
    tree(tmp_path, "elsewhere/x.btf", "k/vmlinux.btf", "k/a.ko")
    (kernel,) = find_kernels(
        [str(tmp_path / "k")], base=str(tmp_path / "elsewhere/x.btf"), kernel="mine"
    )
    assert kernel.name == "mine" and kernel.bases[0].path.endswith("elsewhere/x.btf")
    (kernel,) = find_kernels([str(tmp_path / "k")], base=str(tmp_path / "elsewhere/x.btf"))
    assert kernel.name == "k"


def test_links_to_what_is_found_itself(tmp_path: Path) -> None:
    """What another folder of the kernel leads to is one module; another kernel has its own."""
    one, two = (f"lib/modules/6.1.{number}" for number in (0, 1))
    tree(tmp_path, "boot/vmlinux-6.1.0", "boot/vmlinux-6.1.1", f"{one}/extra/a-b.ko", f"{two}/c.ko")
    for release in (one, two):
        (tmp_path / release / "weak-updates").mkdir()
    (tmp_path / one / "weak-updates/a_b.ko").symlink_to("../extra/a-b.ko")
    (tmp_path / two / "weak-updates/a-b.ko").symlink_to(tmp_path / one / "extra/a-b.ko")
    (tmp_path / "boot/vmlinux").symlink_to("vmlinux-6.1.1")
    found = find_kernels([str(tmp_path)])
    assert [(kernel.name, [m.name for m in kernel.modules]) for kernel in found] == [
        ("6.1.0", ["a-b"]), ("6.1.1", ["a-b", "c"]),
    ]  # fmt: skip
    assert [len(kernel.bases) for kernel in found] == [1, 1]


@pytest.mark.parametrize(
    "name", ["kernel-x86_64-6.1.0", "kernel-genkernel-x86_64-6.1.0", "linux-6.1.0.efi"]
)
def test_names_of_images(name: str, tmp_path: Path) -> None:
    tree(tmp_path, f"boot/{name}", "lib/modules/6.1.0/a.ko")
    (kernel,) = find_kernels([str(tmp_path)])
    assert (kernel.name, len(kernel.bases), len(kernel.modules)) == ("6.1.0", 1, 1)


def test_output_in_the_source_is_no_source(tmp_path: Path) -> None:
    tree(tmp_path, "vmlinux.btf", "a.btf", "out/btf/kernel=k/a.btf")
    (kernel,) = find_kernels([str(tmp_path)], skip_folder=str(tmp_path / "out"))
    assert [module.source for module in kernel.modules] == ["a.btf"]


def test_what_cannot_be_read_is_an_input_with_a_problem(tmp_path: Path) -> None:
    tree(tmp_path, "vmlinux.btf", "a.btf")
    (tmp_path / "b.btf").symlink_to("nowhere")
    (tmp_path / "link.btf").symlink_to("a.btf")
    (tmp_path / "around").symlink_to(".")
    (kernel,) = find_kernels([str(tmp_path)])
    assert [module.name for module in kernel.modules] == ["a", "b", "link"]
    assert "symbolic link to 'nowhere'" in (kernel.modules[1].problem or "")
    assert kernel.modules[2].problem is None


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    tree(tmp_path, "nobase/a.btf", "two/x/vmlinux", "two/y/vmlinux", "two/a.ko", "none/readme",
         "k/vmlinux", "k/a.ko")  # fmt: skip
    assert "no such file or folder" in refused(tmp_path / "missing")
    assert "no modules in" in refused(tmp_path / "none")
    assert "--base" in refused(tmp_path / "nobase")
    assert "cannot tell which vmlinux" in refused(tmp_path / "two")
    assert "--kernel" not in refused(tmp_path / "k", base=str(tmp_path / "missing"))
    assert "cannot be a kernel's name" in refused(tmp_path / "k", kernel="../x")
    assert "cannot be a kernel's name" in refused(tmp_path / "k", kernel="")


def test_a_source_is_not_in_the_output_folder(tmp_path: Path) -> None:
    tree(tmp_path / "out", "k/vmlinux", "k/a.ko")
    (tmp_path / "alias").symlink_to(tmp_path / "out")
    for source in ("out", "out/k", "out/k/a.ko", "alias", "alias/k"):
        for out in ("out", "alias"):
            with pytest.raises(SourceError, match=f"{source} lies in the output folder .*/{out}"):
                find_kernels([str(tmp_path / source)], skip_folder=str(tmp_path / out))
    (kernel,) = find_kernels([str(tmp_path / "out")], skip_folder=str(tmp_path / "outer"))
    assert kernel.name == "k"


def test_the_output_folder_in_a_source_is_passed_over_by_any_name(tmp_path: Path) -> None:
    tree(tmp_path / "s", "vmlinux", "a.ko", "out/b.ko")
    (tmp_path / "alias").symlink_to(tmp_path / "s")
    for source, out in (("s", "alias/out"), ("alias", "s/out"), ("alias", "alias/out")):
        (kernel,) = find_kernels([str(tmp_path / source)], skip_folder=str(tmp_path / out))
        assert [module.name for module in kernel.modules] == ["a"]
