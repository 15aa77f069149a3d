"""Protects: a kernel's release is what the kernel itself says, and two kernels are never one for
what their files are called."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipeline.sources.discover import find_kernels
from support.packages import kernels, refused
from support.writers import debwriter
from support.writers.elfwriter import elf, modinfo
from support.writers.imagewriter import bzimage

R, S = "6.6.32-0-lts", "6.6.60-0-lts"


def vmlinux(release: str) -> bytes:
    banner = f"\0Linux version {release} (build@host) (gcc 12) #1 SMP\n\0".encode()
    return elf({".BTF": b"btf", ".rodata": banner})


def module(release: str) -> bytes:
    return elf({".BTF": b"btf", ".modinfo": modinfo(name="m", vermagic=f"{release} SMP ")})


def place(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def found(*sources: Path, **options: str) -> dict[str, list[str]]:
    """The kernels' names, and their bases."""
    return {
        kernel.name: [base.source for base in kernel.bases]
        for kernel in kernels(*sources, **options)
    }


NAMES = (
    "vmlinuz-lts", "vmlinuz-linux", "vmlinuz", "kernel8.img", "kernel_2712.img", "boot.img",
    "Image", "Image.gz", "Image.gz-dtb", "zImage-dtb",
    "zImage", "uImage", "bzImage", "bzImage-qemux86-64.bin", "fitImage",
    "vmlinuz-linux.efi", f"vmlinux-{R}.debug", f"vmlinux-{R}.xz", f"Image-{R}", f"kernel-{R}",
    f"zImage-{R}", f"vmlinuz-{R}", f"bzImage-{R}", f"vmlinux-{R}.gz",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["boot", "", "usr/lib/modules/{0}", "usr/lib/debug/boot"])
def test_whatever_the_image_is_called(name: str, where: str, tmp_path: Path) -> None:
    """Two kernels, each in a folder: by themselves, with modules, and with the base named."""
    for number, release in enumerate((R, S)):
        file = f"{where.format(release)}/{name.replace(R, release)}".lstrip("/")
        root = place(
            tmp_path / str(number),
            {
                file: gzip.compress(vmlinux(release)),
                f"lib/modules/{release}/kernel/a.ko": module(release),
                f"flat/{number}/a.ko": module(release),
            },
        )
        assert found(root / "lib", base=str(root / file)) == {release: [file.rpartition("/")[2]]}
        assert found(root / f"flat/{number}", base=str(root / file)).keys() == {release}
        assert found(root / file).keys() <= {release, root.name}
        assert found(root)[release] == [file]
    assert found(tmp_path).keys() >= {R, S}


def test_the_image_is_believed_more_than_its_name(tmp_path: Path) -> None:
    place(tmp_path, {
        "boot/vmlinuz-6.1": bzimage(b"x", version=f"{R} (build@host) #1 SMP".encode()),
        "boot/vmlinux-6.6": vmlinux(S),
        f"lib/modules/{R}/a.ko": module(R), f"lib/modules/{S}/a.ko": module(S),
    })  # fmt: skip
    assert found(tmp_path) == {R: ["boot/vmlinuz-6.1"], S: ["boot/vmlinux-6.6"]}


@pytest.mark.parametrize("suffix", ["", ".zst"])
def test_a_module_that_holds_what_the_image_does_not(suffix: str, tmp_path: Path) -> None:
    """Of builds with CONFIG_DEBUG_INFO_BTF=m: a base, of modules in the same folder too, and none
    of the modules."""
    holder = f"lib/modules/{R}/kernel/kernel/bpf/btf_vmlinux.ko{suffix}"
    place(tmp_path, {
        f"boot/vmlinuz-{R}": bzimage(b"x", version=f"{R} (build@host) #1 SMP".encode()),
        f"lib/modules/{R}/kernel/net/a.ko": module(R), holder: module(R),
    })  # fmt: skip
    (kernel,) = kernels(tmp_path)
    assert [base.source for base in kernel.bases] == [holder, f"boot/vmlinuz-{R}"]
    assert [one.name for one in kernel.modules] == ["a"]
    (kernel,) = kernels(tmp_path / f"lib/modules/{R}/kernel/net")
    assert kernel.bases[0].path == str(tmp_path / holder)


def test_the_path_is_believed_more_than_the_name(tmp_path: Path) -> None:
    place(tmp_path, {f"usr/lib/modules/{R}/vmlinuz-9.9": b"v", f"usr/lib/modules/{R}/a.ko": b"m"})
    assert found(tmp_path) == {R: [f"usr/lib/modules/{R}/vmlinuz-9.9"]}


@pytest.mark.parametrize("is_told", [True, False])
def test_flavours_in_one_folder(is_told: bool, tmp_path: Path) -> None:
    """Told apart by the images themselves, else by how the releases end."""
    virt = R.replace("lts", "virt")
    for release in (R, virt):
        name = release.rpartition("-")[2]
        content = gzip.compress(vmlinux(release)) if is_told else b"unreadable"
        place(tmp_path, {f"boot/vmlinuz-{name}": content, f"lib/modules/{release}/a.ko": b"m"})
    assert found(tmp_path) == {R: ["boot/vmlinuz-lts"], virt: ["boot/vmlinuz-virt"]}


def test_vermagic_decides_where_paths_do_not(tmp_path: Path) -> None:
    place(tmp_path, {
        f"vmlinux-{R}": b"v", f"vmlinux-{S}": b"v",
        "one/a.ko": module(R), "two/b.ko.gz": gzip.compress(module(S)),
    })  # fmt: skip
    given = {kernel.name: [m.name for m in kernel.modules] for kernel in kernels(tmp_path)}
    assert given == {R: ["a"], S: ["b"]}
    place(tmp_path, {"two/b.ko.gz": b"none"})
    assert "cannot tell which vmlinux" in refused(tmp_path)


def test_modules_in_folders_of_one_name(tmp_path: Path) -> None:
    """With a base that says nothing, their own release is what the kernel is called."""
    for number, release in enumerate((R, S)):
        root = place(
            tmp_path / f"{number}", {"x/vmlinux.btf": b"v", "modules/a.ko": module(release)}
        )
        assert found(root / "modules", base=str(root / "x/vmlinux.btf")).keys() == {release}


def test_a_build_is_called_as_its_folder(tmp_path: Path) -> None:
    """Builds of one release are many, and all of them stay."""
    image = bzimage(b"x", version=f"{R} ".encode())
    for name in ("one", "two"):
        files = {"vmlinux": vmlinux(R), "arch/x86/boot/bzImage": image, "fs/xfs.ko": module(R)}
        place(tmp_path / name, files)
    assert found(tmp_path / "one", tmp_path / "two") == {"one": ["vmlinux"], "two": ["vmlinux"]}
    assert found(tmp_path / "one").keys() == {"one"}


@pytest.mark.parametrize(
    "place_of_base",
    [
        f"boot/vmlinuz-{R}", "boot/vmlinuz-lts", "boot/vmlinuz-linux", f"boot/vmlinux-{R}.xz",
        f"usr/lib/debug/boot/vmlinux-{R}.debug", f"usr/lib/debug/lib/modules/{R}/vmlinux",
        f"usr/lib/debug/usr/lib/modules/{R}/vmlinux", f"lib/modules/{R}/vmlinux-{R}",
        f"usr/lib/modules/{R}/kernel/vmlinux", f"boot/kernel-{R}", f"boot/Image-{R}",
    ],
)  # fmt: skip
def test_places_that_no_source_names(place_of_base: str, tmp_path: Path) -> None:
    """Given only the folder of modules, its vmlinux is found where the same system has it."""
    place(tmp_path, {
        f"lib/modules/{R}/kernel/a.ko": module(R), place_of_base: vmlinux(R),
        "boot/vmlinuz-other": vmlinux(S),
    })  # fmt: skip
    (kernel,) = find_kernels([str(tmp_path / f"lib/modules/{R}")])
    assert [base.path for base in kernel.bases] == [str(tmp_path / place_of_base)]


def test_another_release_is_not_taken_for_it(tmp_path: Path) -> None:
    place(tmp_path, {f"lib/modules/{R}/a.ko": b"m", "boot/vmlinuz-lts": vmlinux(S)})
    assert "no vmlinux of these modules" in refused(tmp_path / "lib")


def test_images_in_packages(tmp_path: Path) -> None:
    """They are looked into where nothing else tells their release."""
    for release in (R, S):
        files = {"boot/vmlinuz-lts": gzip.compress(vmlinux(release))}
        (tmp_path / f"{release}.deb").write_bytes(debwriter.deb(files, package=f"linux-{release}"))
    assert found(tmp_path).keys() == {R, S}
