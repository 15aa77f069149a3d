"""Protects: packages give their files' very bytes, only where asked, in bounded memory, and say
what is wrong with those that are damaged."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.model.errors import NoRoomError
from pipeline.sources import packages
from pipeline.sources.archive import PackageError
from pipeline.sources.packages import read_package, unpack
from support.paths import ROOT
from support.writers import debwriter

FILES = {
    "boot/vmlinuz-1.0": bytes(range(256)) * 999,
    "lib/modules/1.0/kernel/a.ko": b"a",
    "lib/modules/1.0/kernel/b.ko": b"",
    "lib/modules/1.0/modules.dep": b"a: b",
}


def taken(path: Path, names: list[str], folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """What ``unpack`` wrote, and what it complained of."""
    folder.mkdir()
    wanted = {name: str(folder / str(number)) for number, name in enumerate(names)}
    told = dict(unpack(str(path), wanted))
    assert set(told) == set(names)
    problems = {name: problem for name, problem in told.items() if problem is not None}
    good = {name: Path(wanted[name]).read_bytes() for name in names if name not in problems}
    assert all(
        not Path(wanted[name]).exists() for name in problems if "damaged" not in problems[name]
    )
    return good, problems


@pytest.mark.parametrize("compression", debwriter.COMPRESSIONS)
@pytest.mark.parametrize("md5sums", [True, False])
def test_a_debian_package(compression: str, md5sums: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(
        debwriter.deb(FILES, compression=compression, md5sums=md5sums, links={"vmlinuz": "boot/x"})
    )
    package = read_package(str(path))
    assert (package.package, package.version) == ("linux-image-1.0", "1.0-1")
    assert package.architecture == "amd64" and set(package.files) == set(FILES)
    good, problems = taken(path, list(FILES)[:3], tmp_path / "to")
    assert good == {name: FILES[name] for name in list(FILES)[:3]} and not problems


@pytest.mark.parametrize("compression", debwriter.COMPRESSIONS)
def test_a_tar(compression: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(debwriter.COMPRESSIONS[compression](debwriter.tar(FILES)))
    assert set(read_package(str(path)).files) == set(FILES)
    assert taken(path, list(FILES), tmp_path / "to") == (FILES, {})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
@pytest.mark.parametrize("compression", ["xz", "gzip", "none"])
def test_what_dpkg_deb_packs(compression: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: p\nVersion: 2\nArchitecture: all\nMaintainer: n <n@n>\nDescription: d\n"
    )
    path = tmp_path / "p.deb"
    command = ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "-b", str(root), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    package = read_package(str(path))
    assert package.version == "2" and set(package.files) == set(FILES)
    assert taken(path, list(FILES), tmp_path / "to") == (FILES, {})


def test_nothing_is_written_that_was_not_asked_for(tmp_path: Path) -> None:
    files = {"../../escaped.ko": b"x", "/absolute.ko": b"y", "a.ko": b"z"}
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "x.deb"
    path.write_bytes(debwriter.deb(files, md5sums=False))
    names = list(read_package(str(path)).files)
    good, _ = taken(path, names, tmp_path / "in" / "to")
    assert sorted(good.values()) == [b"x", b"y", b"z"]
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["0", "1", "2", "x.deb"]


def test_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(debwriter.deb(FILES, links={"link.ko": "a.ko"}))
    _, problems = taken(path, ["none.ko", "link.ko"], tmp_path / "to")
    assert problems == dict.fromkeys(problems, "the package does not hold this file")


@pytest.mark.parametrize("compression", debwriter.COMPRESSIONS)
def test_a_truncated_package_gives_what_it_has(compression: str, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(1 << 20)
    files = {f"{n}.ko": noise[n << 18 : (n + 1) << 18] for n in range(4)}
    whole = debwriter.deb(files, compression=compression)
    path = tmp_path / "x.deb"
    path.write_bytes(whole[: len(whole) // 2])
    assert len(read_package(str(path)).files) == 4
    good, problems = taken(path, list(files), tmp_path / "to")
    assert good.items() < files.items()
    assert len(problems) >= 2
    for problem in problems.values():
        assert "cannot be read from its package" in problem
        assert "truncated" in problem or "damaged" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"!<arch>\n", "lacks control.tar"),
        (b"!<arch>\n" + b"x" * 60, "no ar header at 8"),
        (b"!<thin>\n" + b"x" * 60, "damaged"),
        (debwriter.ar({"control.tar.xz": b"", "data.tar.xz": b""}), "damaged"),
        (debwriter.ar({"control.tar.xz": b"\xfd7zXZ\0junk", "data.tar": b""}), "damaged"),
        (debwriter.ar({"control.tar.gz": b"\x1f\x8bjunk", "data.tar": b""}), "damaged"),
        (debwriter.ar({"control.tar.zst": b"\x28\xb5\x2f\xfdjunk", "data.tar": b""}), "damaged"),
        (debwriter.deb(FILES)[:150], "truncated"),
    ],
)
def test_damaged(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(content)
    with pytest.raises(PackageError, match=message):
        read_package(str(path))


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="No such file"):
        read_package(str(tmp_path / "none.deb"))
    with pytest.raises(PackageError, match="this is a folder"):
        read_package(str(tmp_path))


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(debwriter.deb(FILES))
    monkeypatch.setattr(packages, "SPARE_BYTES", 1 << 60)
    with pytest.raises(NoRoomError, match=r"not enough room in .* to unpack"):
        taken(path, list(FILES), tmp_path / "to")
    monkeypatch.setattr(packages, "SPARE_BYTES", 0)
    with pytest.raises(NoRoomError, match="cannot write /dev/full/0"):
        dict(unpack(str(path), {"boot/vmlinuz-1.0": "/dev/full/0"}))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_package(tmp_path: Path) -> None:
    """300 MB of files, unfolded by a process that may have 200 MB beyond what it starts with."""
    block = random.Random(1).randbytes(256 << 10) + bytes(30 << 20)
    path = tmp_path / "x.deb"
    path.write_bytes(debwriter.deb({f"{n}.ko": block for n in range(10)}, compression=".zst"))
    code = (
        "import resource, sys; from pipeline.sources.packages import unpack, read_package\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"names = read_package({str(path)!r}).files\n"
        f"told = dict(unpack({str(path)!r}, {{n: {str(tmp_path)!r} + '/0' for n in names}}))\n"
        "assert len(told) == 10 and not any(told.values()), told\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40 << 10, "KiB"
