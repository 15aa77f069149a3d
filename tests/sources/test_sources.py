"""Protects: what is looked into, what counts, and how packages become kernels."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.model.errors import SourceError
from pipeline.sources import listing as sources
from pipeline.sources.discover import best_bases, find_kernels
from pipeline.sources.listing import find_files
from support.packages import base_names, kernels, package, refused
from support.trees import tree
from support.writers import debwriter

BTF = b"\x9f\xeb\x01\0"


def test_a_package_is_a_kernel(tmp_path: Path) -> None:
    path = package(tmp_path / "x.deb", "1.0")
    (kernel,) = kernels(path)
    assert (kernel.name, kernel.release, base_names(kernel)) == ("1.0", "1.0", ["vmlinuz-1.0"])
    first = kernel.modules[0]
    assert (first.name, first.source) == ("a", "lib/modules/1.0/kernel/a.ko")
    assert first.path == f"{path}/{first.source}" and first.member == first.source
    assert first.package == str(path) and kernel.bases[0].member == "boot/vmlinuz-1.0"


def test_a_folder_of_packages_is_as_many_kernels(tmp_path: Path) -> None:
    for release in ("1.0-amd64", "1.0-cloud", "2.0-amd64"):
        package(tmp_path / f"{release}.deb", release)
    (tmp_path / "headers.deb").write_bytes(debwriter.deb({"usr/include/x.h": b""}))
    (tmp_path / "other.tar.xz").write_bytes(b"not looked into")
    assert [kernel.name for kernel in kernels(tmp_path)] == ["1.0-amd64", "1.0-cloud", "2.0-amd64"]


def test_an_image_and_its_debug_package_are_one_kernel(tmp_path: Path) -> None:
    image = package(tmp_path / "image.deb", "1.0")
    debug = package(tmp_path / "dbg.deb", "1.0", debug=True)
    (kernel,) = kernels(image, debug)
    assert base_names(kernel) == ["vmlinuz-1.0", "vmlinux-1.0"]
    assert [(m.name, m.package) for m in kernel.modules] == [("a", str(image)), ("b", str(image))]
    twin = kernel.modules[0].debug
    assert twin is not None and twin.package == str(debug)
    assert twin.member == "usr/lib/debug/lib/modules/1.0/kernel/a.ko"


def test_a_debug_package_alone(tmp_path: Path) -> None:
    (kernel,) = kernels(package(tmp_path / "dbg.deb", "1.0", debug=True))
    assert base_names(kernel) == ["vmlinux-1.0"]
    assert [(m.name, m.debug) for m in kernel.modules] == [("a", None), ("b", None)]


def test_builds_of_one_release_are_kept_apart_by_version(tmp_path: Path) -> None:
    given = [
        package(tmp_path / f"{version}{debug}.deb", "1.0", version=version, debug=debug)
        for version in ("1-1", "1-2")
        for debug in (False, True)
    ]
    one, two = kernels(*given)
    assert (one.name, two.name) == ("1.0@1-1_amd64", "1.0@1-2_amd64")
    for kernel, version in ((one, "1-1"), (two, "1-2")):
        assert base_names(kernel) == ["vmlinuz-1.0", "vmlinux-1.0"]
        for module in kernel.modules:
            assert module.package == str(tmp_path / f"{version}False.deb")
            assert module.debug and module.debug.package == str(tmp_path / f"{version}True.deb")


def test_a_package_that_lies_in_two_places_counts_once(tmp_path: Path) -> None:
    one = package(tmp_path / "a/x.deb", "1.0")
    package(tmp_path / "b/x.deb", "1.0")
    (kernel,) = kernels(tmp_path)
    assert [module.package for module in kernel.modules] == [str(one)] * 2
    assert [base.package for base in kernel.bases] == [str(one)]


def test_trees_of_one_release_are_kept_apart_by_folder(tmp_path: Path) -> None:
    for name in ("x", "y"):
        tree(tmp_path / name, "boot/vmlinuz-1.0", "lib/modules/1.0/a.ko")
    one, two = kernels(tmp_path / "x", tmp_path / "y")
    assert {one.name, two.name} == {f"1.0@{'+'.join(p.parts[1:])}" for p in
                                    (tmp_path / "x/boot", tmp_path / "y/boot")}  # fmt: skip
    for kernel in (one, two):
        root = kernel.bases[0].path.removesuffix("boot/vmlinuz-1.0")
        assert [m.path for m in kernel.modules] == [f"{root}lib/modules/1.0/a.ko"]


def test_pieces_of_one_kernel_in_different_folders(tmp_path: Path) -> None:
    tree(tmp_path, "boot/vmlinuz-1.0", "boot/vmlinuz-2.0", "lib/modules/1.0/kernel/a.ko.xz",
         "debug/usr/lib/debug/lib/modules/1.0/kernel/a.ko.debug",
         "debug/usr/lib/debug/boot/vmlinux-1.0")  # fmt: skip
    (kernel,) = kernels(tmp_path / "boot", tmp_path / "lib/modules/1.0", tmp_path / "debug")
    assert base_names(kernel) == ["vmlinuz-1.0", "vmlinux-1.0"]
    (module,) = kernel.modules
    assert module.debug is not None and module.debug.path.endswith("a.ko.debug")


def test_modules_apart_from_their_image(tmp_path: Path) -> None:
    modules = package(tmp_path / "modules.deb", "1.0", image=False)
    (tmp_path / "image.deb").write_bytes(debwriter.deb({"boot/vmlinuz-1.0": b"v"}))
    (kernel,) = kernels(modules, tmp_path / "image.deb")
    assert base_names(kernel) == ["vmlinuz-1.0"] and len(kernel.modules) == 2


def test_modules_alone_find_the_base_of_their_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of modules of an installed system is enough; what a source names comes first."""
    tree(tmp_path, "x/boot/vmlinuz-1.0", "x/boot/vmlinuz-2.0", "x/lib/modules/1.0/kernel/a.ko",
         "x/usr/lib/modules/2.0/kernel/b.ko", "x/usr/lib/debug/boot/vmlinux-1.0")  # fmt: skip
    (kernel,) = kernels(tmp_path / "x/lib/modules/1.0/kernel")
    assert (kernel.name, base_names(kernel)) == ("1.0", ["vmlinuz-1.0", "vmlinux-1.0"])
    found = {k.name: base_names(k) for k in kernels(tmp_path / "x/lib", tmp_path / "x/usr/lib")}
    assert found == {"1.0": ["vmlinux-1.0"], "2.0": ["vmlinuz-2.0"]}
    (kernel,) = kernels(tmp_path / "x/lib", base=str(tmp_path / "x/boot/vmlinuz-2.0"))
    assert base_names(kernel) == ["vmlinuz-2.0"]


def test_modules_without_a_base_do_not_stop_the_others(tmp_path: Path) -> None:
    package(tmp_path / "1.deb", "1.0")
    package(tmp_path / "2.deb", "2.0", image=False)
    one, two = kernels(tmp_path)
    assert (one.name, len(one.bases), len(one.modules)) == ("1.0", 1, 2)
    assert (two.name, len(two.bases), len(two.modules)) == ("2.0", 0, 2)
    assert "--base" in refused(tmp_path / "2.deb")


def test_a_base_never_gets_modules_of_another_release(tmp_path: Path) -> None:
    tree(tmp_path, "boot/vmlinux-1.0", "lib/modules/2.0/a.ko", "lib/modules/1.0/b.ko")
    found = {kernel.name: [m.name for m in kernel.modules] for kernel in kernels(tmp_path)}
    assert found == {"1.0": ["b"], "2.0": ["a"]}


def test_a_damaged_package_is_an_input_with_a_problem(tmp_path: Path) -> None:
    package(tmp_path / "1.deb", "1.0")
    (tmp_path / "2.deb").write_bytes(b"!<arch>\n")
    (kernel,) = kernels(tmp_path)
    problems = {module.name: module.problem for module in kernel.modules}
    assert problems.pop("2.deb") == "package: no Debian package, or truncated: it lacks control.tar"
    assert problems == {"a": None, "b": None}


def test_a_package_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(debwriter.deb({"usr/bin/x": b""}))
    assert "neither modules nor a vmlinux" in refused(tmp_path / "x.deb")


def test_base_in_a_package(tmp_path: Path) -> None:
    tree(tmp_path, "out/of/tree.ko")
    path = package(tmp_path / "x.deb", "1.0")
    (kernel,) = kernels(tmp_path / "out", base=str(path))
    assert kernel.name == "1.0" and base_names(kernel) == ["vmlinuz-1.0"]
    assert [m.name for m in kernel.modules] == ["tree"]
    (tmp_path / "y.deb").write_bytes(debwriter.deb({"usr/bin/x": b""}))
    assert "no vmlinux in" in refused(tmp_path / "out", base=str(tmp_path / "y.deb"))


def test_btf_as_btfhub_publishes_it(tmp_path: Path) -> None:
    release = "5.4.0-26-generic"
    content = debwriter.COMPRESSIONS[".xz"](debwriter.tar({f"{release}.btf": BTF}))
    (tmp_path / f"{release}.btf.tar.xz").write_bytes(content)
    tree(tmp_path, f"lib/modules/{release}/a.ko")
    (kernel,) = kernels(tmp_path)
    assert (kernel.name, base_names(kernel)) == (release, [f"{release}.btf"])
    tree(tmp_path, f"{release}.btf")
    (kernel,) = kernels(tmp_path / f"{release}.btf", tmp_path / "lib")
    assert base_names(kernel) == [f"{release}.btf"]


def test_files_without_suffix_as_in_sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "btf"
    folder.mkdir()
    for name, content in {"vmlinux": BTF, "xfs": BTF, "notes": b"text", "a.txt": BTF}.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe")
    (kernel,) = kernels(folder)
    assert kernel.name == "btf" and [m.name for m in kernel.modules] == ["xfs"]
    monkeypatch.setattr(sources, "_RUNNING", f"{folder}/")
    sources._release_of_folder.cache_clear()
    (kernel,) = kernels(folder)
    assert kernel.name == os.uname().release
    (folder / "vmlinux").write_bytes(b"\x7fELF")  # else files without suffix are not looked at
    (kernel,) = kernels(folder)
    assert base_names(kernel) == ["vmlinux"] and kernel.modules == ()


def test_kernels_without_modules(tmp_path: Path) -> None:
    tree(tmp_path, "a/vmlinux-1.0", "a/xfs.btf", "b/2.0.btf", "c/vmlinux", "d/e/vmlinux")
    assert [kernel.name for kernel in kernels(tmp_path)] == ["1.0", "2.0"]
    assert [kernel.name for kernel in kernels(tmp_path / "a", tmp_path / "c")] == ["1.0", "c"]
    (kernel,) = kernels(tmp_path / "d")  # nothing else is there
    assert kernel.name == "e" and kernel.modules == ()
    with pytest.raises(SourceError, match="no modules"):
        find_kernels([str(tmp_path / "b")], base=str(tmp_path / "a/vmlinux-1.0"))


def test_a_base_that_is_named_is_a_base(tmp_path: Path) -> None:
    tree(tmp_path, "boot/vmlinuz-1.0", "lib/modules/1.0/a.ko")
    (kernel,) = kernels(tmp_path / "boot/vmlinuz-1.0", tmp_path / "lib/modules/1.0")
    assert kernel.name == "1.0" and [m.name for m in kernel.modules] == ["a"]


def test_shapes_of_a_base_the_best_first(tmp_path: Path) -> None:
    shapes = ["vmlinux-1.0.btf.zst", "vmlinux-1.0", "vmlinuz-1.0"]
    tree(tmp_path, *reversed(shapes), "usr/lib/debug/boot/vmlinux-1.0", "a.ko")
    (kernel,) = kernels(tmp_path)
    assert base_names(kernel) == [*shapes, "vmlinux-1.0"]
    assert "debug" in kernel.bases[-1].path
    (best,) = best_bases(find_files([str(tmp_path)]))
    assert best.file_name == shapes[0]


def test_what_an_earlier_run_has_written_is_no_source(tmp_path: Path) -> None:
    root = tree(tmp_path / "k", "vmlinux-1.0", "a.ko", "out/manifests/1.0.json", "out/tables/x",
                "out/versions/kernel=1/f/vmlinux.btf", "out/versions/kernel=1/f/a.btf")  # fmt: skip
    assert [kernel.name for kernel in kernels(root)] == ["1.0"]
    assert len(kernels(root)[0].modules) == 1
    assert [len(kernel.modules) for kernel in kernels(root / "out")] == [1]


@pytest.mark.slow
def test_folders_a_thousand_deep_and_links_in_circles(tmp_path: Path) -> None:
    """Deeper than Python calls functions in each other; what is too deep for the system is said."""
    folder = tmp_path / "k"
    tree(folder, "vmlinux-1.0", "a.ko")
    (folder / "again").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "b.ko").symlink_to("b.ko")
    here = os.getcwd()
    os.chdir(folder)
    try:
        for depth in range(2200):
            os.mkdir("d")
            os.chdir("d")
            if depth == 1200:
                Path("deep.ko").write_bytes(b"x")
    finally:
        os.chdir(here)
    found = {file.file_name: file for file in find_files([str(folder)]).modules}
    assert found["deep.ko"].problem is None is found["a.ko"].problem
    assert "symbolic link" in str(found["b.ko"].problem)
    assert "File name too long" in str(found["d"].problem) and len(found) == 4
    subprocess.run(["rm", "-rf", folder / "d"], check=True)  # Python's rmtree calls itself too


def test_a_file_without_suffix_that_cannot_be_read(
    tmp_path: Path,
) -> None:
    """Among files as in sysfs it may be a module's, so it is one that cannot be read."""
    (tmp_path / "btf").mkdir()
    (tmp_path / "btf/vmlinux").write_bytes(BTF)
    (tmp_path / "btf/xfs").symlink_to("/proc/self/mem")
    (tmp_path / "btf/text").write_bytes(b"text")
    (kernel,) = kernels(tmp_path / "btf")
    assert [module.name for module in kernel.modules] == ["xfs"]


def test_a_base_is_missed_with_what_could_not_be_read(tmp_path: Path) -> None:
    tree(tmp_path, "k/a.ko")
    (tmp_path / "k/x.deb").write_bytes(b"!<arch>\n")
    (tmp_path / "k/b.ko").symlink_to("nowhere")
    told = refused(tmp_path / "k")
    assert "no vmlinux of these modules" in told
    assert "x.deb: package: no Debian package, or truncated" in told and "b.ko: cannot" in told
