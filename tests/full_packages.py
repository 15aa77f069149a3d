"""Rebuilds a real Debian kernel package in every other container, and compares what is read of it.

    python tests/full_packages.py PACKAGE.deb [FOLDER]

Each container has to give the very files that the Debian package gives: modules and images, byte
for byte. Made with the distributions' own tools where Debian has them (rpmbuild, bsdtar, dpkg-deb,
tar); what is missing is said. FOLDER is where the containers are made and left (default: a
temporary folder). For the cloud kernels this takes three minutes, and 1 GB.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipeline.sources.listing import find_files
from pipeline.sources.packages import read_package, unpack

NAME, VERSION = "kernel-rebuilt", "6.1"
PAYLOADS = {
    "none": "w.ufdio", "gzip": "w1.gzdio", "bzip2": "w1.bzdio", "xz": "w1.xzdio",
    "lzma": "w1.lzdio", "zstd": "w3.zstdio",
}  # fmt: skip
ENVIRONMENT = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1"}


def call(*command: str | Path, cwd: Path | None = None) -> None:
    """Call a program, and raise if it fails."""
    arguments = [str(part) for part in command]
    subprocess.run(arguments, cwd=cwd, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)


def rpm(root: Path, folder: Path, payload: str) -> Path:
    top = folder / f"rpm-{payload}"
    spec = folder / f"{payload}.spec"
    spec.write_text(
        f"Name: {NAME}\nVersion: {VERSION}\nRelease: 1\nEpoch: 2\nSummary: k\nLicense: GPL\n"
        "AutoReqProv: no\n%global debug_package %{nil}\n%global __os_install_post %{nil}\n"
        "%description\nk\n%files\n/*\n"
    )
    call(
        "rpmbuild", "-bb", "--quiet", "--target", "x86_64", "--buildroot", root, "--noclean",
        "--define", f"_topdir {top}", "--define", f"_binary_payload {PAYLOADS[payload]}", spec,
    )  # fmt: skip
    (made,) = top.rglob("*.rpm")
    return made.rename(folder / f"{NAME}-{payload}.x86_64.rpm")


def pacman(root: Path, folder: Path, compression: str) -> Path:
    """As makepkg does it: its facts first, then the files, by bsdtar if it is there."""
    (root / ".PKGINFO").write_text(f"pkgname = {NAME}\npkgver = {VERSION}-1\narch = x86_64\n")
    packed = folder / f"{NAME}-{VERSION}-1-x86_64.pkg.tar{compression}"
    files = [".PKGINFO", *sorted(p.name for p in root.iterdir() if not p.name.startswith("."))]
    program = "bsdtar" if shutil.which("bsdtar") else "tar"
    call(program, "-caf", packed, *files, cwd=root)
    (root / ".PKGINFO").unlink()
    return packed


def apk(root: Path, folder: Path) -> Path:
    """Three tars, each compressed by itself; of the first two the mark of the end is cut off."""
    facts = folder / "apk"
    facts.mkdir()
    (facts / ".SIGN.RSA.key").write_bytes(b"s" * 256)
    (facts / ".PKGINFO").write_text(f"pkgname = {NAME}\npkgver = {VERSION}-r0\narch = x86_64\n")
    packed = folder / f"{NAME}-{VERSION}-r0.apk"
    with packed.open("wb") as out:
        for number, (where, name) in enumerate(
            [(facts, ".SIGN.RSA.key"), (facts, ".PKGINFO"), (root, ".")]
        ):
            piece = folder / f"apk-{number}.tar"
            call("tar", "--format=pax", "-cf", piece, name, cwd=where)
            data = piece.read_bytes()
            if number < 2:
                data = data.rstrip(b"\0")
                piece.write_bytes(data + bytes(-len(data) % 512))
            call("gzip", "-1", "-f", piece)
            out.write(piece.with_suffix(".tar.gz").read_bytes())
    return packed


def xbps(root: Path, folder: Path) -> Path:
    props = "".join(
        f"<key>{key}</key>\n<string>{value}</string>\n"
        for key, value in (("architecture", "x86_64"), ("pkgname", NAME), ("version", VERSION))
    )
    (root / "props.plist").write_text(f"<plist version='1.0'>\n<dict>\n{props}</dict>\n</plist>\n")
    packed = folder / f"{NAME}-{VERSION}_1.x86_64.xbps"
    call("tar", "--zstd", "-cf", packed, "./props.plist", "./boot", "./lib", cwd=root)
    (root / "props.plist").unlink()
    return packed


def ipk(root: Path, folder: Path) -> Path:
    """A tar of three, as ipkg-build makes it."""
    parts = folder / "ipk"
    parts.mkdir()
    (parts / "debian-binary").write_text("2.0\n")
    (parts / "control").write_text(f"Package: {NAME}\nVersion: {VERSION}\nArchitecture: x86\n")
    call("tar", "-czf", "control.tar.gz", "./control", cwd=parts)
    call("tar", "-I", "gzip -1", "-cf", parts / "data.tar.gz", "./boot", "./lib", cwd=root)
    packed = folder / f"{NAME}_{VERSION}_x86.ipk"
    members = "./debian-binary", "./data.tar.gz", "./control.tar.gz"
    call("tar", "-czf", packed, *members, cwd=parts)
    return packed


def udeb(root: Path, folder: Path) -> Path:
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        f"Package: {NAME}\nVersion: {VERSION}\nArchitecture: amd64\nMaintainer: n <n@n>\n"
        "Description: d\n"
    )
    packed = folder / f"{NAME}_{VERSION}_amd64.udeb"
    call("dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", root, packed)
    shutil.rmtree(control)
    return packed


def bundle(packed: Path, folder: Path) -> Path:
    """A tar of a package."""
    made = folder / f"{packed.name}.tar.gz"
    call("tar", "-I", "gzip -1", "-cf", made, packed.name, cwd=packed.parent)
    return made


def contents(package: Path, work: Path) -> dict[str, str]:
    """The sha256 of each module and image of a package, by its path."""
    found = find_files([str(package)])
    names = {
        file.source: file.path for file in (*found.modules, *found.bases) if file.problem is None
    }
    problems = [file.problem for file in found.modules if file.problem is not None]
    assert not problems, problems
    wanted = {name: str(work / str(number)) for number, name in enumerate(names)}
    told = {name: problem for name, problem in unpack(str(package), wanted) if problem}
    assert not told, told
    digests = {}
    for name, path in wanted.items():
        with Path(path).open("rb") as file:
            plain = name.removeprefix(f"{package.name.removesuffix('.tar.gz')}/")
            digests[plain] = hashlib.file_digest(file, "sha256").hexdigest()
        os.unlink(path)
    return digests


def containers(root: Path, folder: Path) -> Iterator[tuple[str, Callable[[], Path]]]:
    for payload in PAYLOADS:
        yield f"rpm, payload {payload}", partial(rpm, root, folder, payload)
    yield "rpm in a tar", lambda: bundle(folder / f"{NAME}-zstd.x86_64.rpm", folder)
    for compression in (".zst", ".xz"):
        yield f"pacman{compression}", partial(pacman, root, folder, compression)
    yield "apk", lambda: apk(root, folder)
    yield "apk in a tar", lambda: bundle(folder / f"{NAME}-{VERSION}-r0.apk", folder)
    yield "xbps", lambda: xbps(root, folder)
    yield "ipk", lambda: ipk(root, folder)
    yield "udeb", lambda: udeb(root, folder)
    yield "udeb in a tar", lambda: bundle(folder / f"{NAME}_{VERSION}_amd64.udeb", folder)


def main(package: str, where: str | None = None) -> int:
    """Compare all; returns the exit status."""
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(where or temporary)
        root, work = folder / "root", folder / "work"
        for made in (root, work):
            made.mkdir(parents=True)
        call("dpkg-deb", "-x", package, root)
        expected = contents(Path(package), work)
        print(f"{package}: {len(expected)} modules and images")
        for name, build in containers(root, folder):
            try:
                made = build()
            except FileNotFoundError as error:
                print(f"  {name}: not compared, {error.filename} is not installed")
                continue
            began = time.perf_counter()
            told = read_package(str(made))
            found = contents(made, work)
            seconds = time.perf_counter() - began
            first = told.inner[0][1] if told.inner else told
            same = found == expected
            failed += not same
            print(
                f"  {name}: {'the same' if same else 'DIFFERENT'}, {len(found)} files, "
                f"{made.stat().st_size >> 20} MiB, {seconds:.1f} s, {first.package} "
                f"{first.version} {first.architecture}"
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
