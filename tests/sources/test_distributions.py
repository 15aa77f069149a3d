"""Protects: what distributions pack kernels in is opened, in folders and in tars too, and what is
not read is named."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.sources import archive
from pipeline.sources.archive import Package, PackageError
from pipeline.sources.packages import read_package, unpack
from support.packages import base_names, kernels, refused
from support.writers import rpmwriter
from support.writers.debwriter import COMPRESSIONS, deb, tar

RELEASE = "6.6.32-0-lts"
FILES = {
    "boot/vmlinuz-lts": bytes(range(256)) * 99,
    f"lib/modules/{RELEASE}/kernel/a.ko": b"a" * 999,
    f"lib/modules/{RELEASE}/kernel/b.ko": b"",
}
PKGINFO = b"# made by hand\npkgname = linux-lts\npkgver = 6.6.32-r0\narch = x86_64\nsize = 1\n"
PROPS = (
    b'<?xml version="1.0"?>\n<plist version="1.0">\n<dict>\n<key>architecture</key>\n'
    b"<string>x86_64</string>\n<key>pkgname</key>\n<string>linux-lts</string>\n"
    b"<key>version</key>\n<string>6.6.32-r0</string>\n</dict>\n</plist>\n"
)
CONTROL = b"Package: linux-lts\nVersion: 6.6.32-r0\nArchitecture: x86_64\n"


def cut(data: bytes) -> bytes:
    """A tar without the mark of its end."""
    data = data.rstrip(b"\0")
    return data + bytes(-len(data) % 512)


def pax(files: Mapping[str, bytes]) -> bytes:
    """A tar as apk has it: with sums of its files in pax headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.pax_headers = {"APK-TOOLS.checksum.SHA1": "0" * 40}
            packed.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def apk(files: Mapping[str, bytes], whole: bool = False) -> bytes:
    """Three tars; of the first two the end is cut off, unless they are ``whole``."""
    parts = [tar({".SIGN.RSA.x.pub": b"s" * 256}), tar({".PKGINFO": PKGINFO})]
    packed = (part if whole else cut(part) for part in parts)
    return b"".join(map(gzip.compress, (*packed, pax(files))))


def ipk(files: Mapping[str, bytes]) -> bytes:
    return gzip.compress(
        tar({
            "debian-binary": b"2.0\n",
            "data.tar.gz": gzip.compress(tar(files)),  # before the facts, as some have it
            "control.tar.gz": gzip.compress(tar({"control": CONTROL})),
        })
    )  # fmt: skip


PACKED: dict[str, bytes] = {
    **{
        f"linux.pkg.tar{suffix}": squeeze(tar({".PKGINFO": PKGINFO, ".MTREE": b"x", **FILES}))
        for suffix, squeeze in COMPRESSIONS.items()
    },
    "linux-lts.apk": apk(FILES),
    "linux-lts-6.6.apk": apk(FILES, whole=True),
    "linux_6.6_x86_64.ipk": ipk(FILES),
    "linux-ar_6.6_x86_64.ipk": deb(
        FILES, package="linux-lts", version="6.6.32-r0", architecture="x86_64", md5sums=False
    ),
    "linux_6.6.udeb": deb(
        FILES, package="linux-lts", version="6.6.32-r0", architecture="x86_64", compression=".gz"
    ),
    "linux.x86_64.xbps": COMPRESSIONS[".zst"](tar({"props.plist": PROPS, **FILES})),
}


def facts(package: Package) -> tuple[str, str, str]:
    return package.package, package.version, package.architecture


def unpacked(path: Path, names: tuple[str, ...]) -> dict[str, bytes | str]:
    """The content of files of a package, or what is wrong with them."""
    folder = path.parent.parent / "unpacked"
    folder.mkdir()
    wanted = {name: str(folder / str(number)) for number, name in enumerate(names)}
    told = dict(unpack(str(path), wanted))
    assert sorted(told) == sorted(names)
    return {name: told[name] or Path(wanted[name]).read_bytes() for name in names}


@pytest.mark.parametrize("name", PACKED)
def test_every_format(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    path.write_bytes(PACKED[name])
    package = read_package(str(path))
    assert facts(package) == ("linux-lts", "6.6.32-r0", "x86_64") and package.problem is None
    assert set(FILES) <= set(package.files)
    assert unpacked(path, tuple(FILES)) == FILES
    (tmp_path / "in/unrelated.tar.gz").write_bytes(gzip.compress(tar({"x.txt": b"x"})))
    (kernel,) = kernels(path.parent)  # in a folder, as by itself
    assert [module.name for module in kernel.modules] == ["a", "b"]
    assert base_names(kernel) == ["vmlinuz-lts"]


@pytest.mark.parametrize("name", [*PACKED, "kernel.rpm"])
@pytest.mark.parametrize("suffix", ["", ".zst"])
def test_a_tar_of_packages(name: str, suffix: str, tmp_path: Path) -> None:
    """They are kernels of their own, each with the version of its package."""
    packed = {**PACKED, "kernel.rpm": rpmwriter.rpm(FILES)}[name]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / f"all.tar{suffix}"
    twin = deb(FILES, version="9")
    path.write_bytes(COMPRESSIONS[suffix](tar({name: packed, "in/twin.deb": twin, "x.txt": b"x"})))
    package = read_package(str(path))
    assert package.files == ("x.txt",) and package.problem is None
    assert [inner for inner, _ in package.inner] == [name, "in/twin.deb"]
    names = tuple(f"{inner}/{file}" for inner in (name, "in/twin.deb") for file in FILES)
    expected = {inner: FILES[inner.split("/", 1 + inner.startswith("in/"))[-1]] for inner in names}
    assert unpacked(path, names) == expected
    one, other = kernels(path)
    assert [module.name for module in one.modules] == ["a", "b"]
    assert {one.modules[0].source.split("/")[0], other.modules[0].source.split("/")[0]} == {
        name, "in",
    }  # fmt: skip


def test_a_tar_in_a_folder_is_looked_into(tmp_path: Path) -> None:
    """As the kernel's own `make tarxz-pkg` makes it. What is only called so is not."""
    (tmp_path / "linux-6.9-x86.tar.xz").write_bytes(COMPRESSIONS[".xz"](tar(FILES)))
    (tmp_path / "other.tar").write_bytes(b"no tar")
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(b"x" * 600)[:15])
    (kernel,) = kernels(tmp_path)
    assert len(kernel.modules) == 2
    (tmp_path / "damaged.tar").write_bytes(tar(FILES)[:3000])
    found = [module for kernel in kernels(tmp_path) for module in kernel.modules]
    assert any("damaged: boot" in str(module.problem) for module in found)


UNREAD = {
    "linux-lts.apk": (b"ADBd" + bytes(99), "an apk package of version 3"),
    "kernel.snap": (b"hsqs" + bytes(99), "a squashfs file system, which is not read: unpack it"),
    "kernel.zip": (b"PK\3\4" + bytes(99), "a zip archive, which is not read: unpack it"),
    "image.iso": (bytes(32769) + b"CD001", "an ISO 9660 image"),
    "kernel.tar.lz4": (b"\x04\x22\x4d\x18" + bytes(99), "lz4 data"),
    "delta.drpm": (rpmwriter.rpm(FILES, more={1124: (6, "drpm")}), "a delta RPM"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_named(name: str, tmp_path: Path) -> None:
    content, message = UNREAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PackageError, match=message):
        read_package(str(tmp_path / name))
    for given in (tmp_path / name, tmp_path):
        told = refused(given)
        assert told.startswith("nothing of the sources can be read: ") and message in told
    (tmp_path / "x.deb").write_bytes(deb(FILES))
    (kernel,) = kernels(tmp_path)
    problems = [module.problem for module in kernel.modules if module.problem is not None]
    assert len(problems) == 1 and message in problems[0], "counted as a failed input"


def test_what_is_only_called_so_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"none")
    (tmp_path / "x.deb").write_bytes(deb(FILES))
    (kernel,) = kernels(tmp_path)
    assert [module.name for module in kernel.modules] == ["a", "b"]


def test_a_package_that_is_called_something_else(tmp_path: Path) -> None:
    """Named itself it is known by how it begins."""
    for content in (rpmwriter.rpm(FILES), deb(FILES)):
        (tmp_path / "download").write_bytes(content)
        (kernel,) = kernels(tmp_path / "download")
        assert [module.name for module in kernel.modules] == ["a", "b"]


def test_damage_of_a_package_in_a_tar(tmp_path: Path) -> None:
    """The others are there, and it is said which is damaged."""
    bad = deb(FILES, compression="", md5sums=False)
    at = bad.index(b"./lib") + 3
    bad = bad[:at] + b"x" + bad[at + 1 :]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "all.tar"
    path.write_bytes(tar({"bad.deb": bad, "good.deb": deb(FILES, version="2")}))
    package = read_package(str(path))
    assert "no tar header" in str(package.inner[0][1].problem)
    assert package.inner[1][1].problem is None
    names = (*(f"good.deb/{name}" for name in FILES), f"bad.deb/lib/modules/{RELEASE}/kernel/a.ko")
    found = unpacked(path, names)
    assert [found[name] for name in names[:3]] == list(FILES.values())
    assert "bad.deb: damaged: no tar header at byte" in str(found[names[3]])


def test_packages_in_packages_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So deep, and so much in all of them."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "x.tar"
    content = tar(FILES)
    for depth in range(5):
        content = tar({f"{depth}.tar": content})
    path.write_bytes(content)
    inner = read_package(str(path))
    while inner.inner:
        inner = inner.inner[0][1]
    assert "too many packages in each other" in str(inner.problem)
    monkeypatch.setattr(archive, "limit_of", lambda size: 1000 + 2 * size)
    monkeypatch.setattr("pipeline.sources.nested.limit_of", lambda size: size // 4)
    twins = {f"{n}.tar.gz": gzip.compress(tar({"a.ko": bytes(400)}), 0) for n in range(20)}
    path.write_bytes(tar(twins))
    problems = [found.problem for _, found in read_package(str(path)).inner]
    assert "packages in it unfold to more than there can be" in str(problems[-1])
