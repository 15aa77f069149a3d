"""Protects: fetch leaves only what is complete and right, goes on where it stopped, and says what
to do when it cannot. apt is the real one, on an archive of the tests' own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from pipeline.files.read import read_input
from pipeline.sources.manifests import known
from support.commands import Finished, splitbtf
from support.paths import DEMO, ROOT
from support.trees import files_below, small_vmlinux
from support.writers import debwriter
from support.writers.elfwriter import elf, modinfo

pytestmark = pytest.mark.slow

NOISE = bytes(range(256)) * 4096  # so that a package has more than a few bytes


@dataclass
class Archive:
    """A Debian archive in a folder, and an apt that knows no other."""

    root: Path
    architecture: str

    @property
    def env(self) -> dict[str, str]:
        return {"APT_CONFIG": str(self.root / "apt.conf")}

    def add(self, name: str, version: str = "1.0-1", files: dict[str, bytes] | None = None) -> Path:
        """Put a package into the archive."""
        path = self.root / "pool" / f"{name}_{version}_{self.architecture}.deb"
        path.parent.mkdir(exist_ok=True)
        content = debwriter.deb(
            files or {"boot/x": NOISE}, package=name, version=version,
            architecture=self.architecture, compression="",
        )  # fmt: skip
        path.write_bytes(content)
        with (self.root / "pool/Packages").open("a") as index:
            index.write(
                f"Package: {name}\nVersion: {version}\nArchitecture: {self.architecture}\n"
                f"Maintainer: n <n@n>\nDescription: d\nFilename: ./{path.name}\n"
                f"Size: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n\n"
            )
        return path

    def manifest(self, *packages: Path, name: str = "mine", **changes: str) -> Path:
        """A manifest of packages, the second and further ones only for debugging."""
        text = f'format = 1\nname = "{name}"\narchitecture = "{self.architecture}"\n'
        for number, path in enumerate(packages):
            package, version, _ = path.name.split("_")
            content = path.read_bytes()
            text += (
                f'[[package]]\nname = "{package}"\nversion = "{version}"\nbytes = {len(content)}\n'
                f'sha256 = "{changes.get("sha256", hashlib.sha256(content).hexdigest())}"\n'
            )
            text += 'when = "debug"\n' if number else ""
        (self.root / f"{name}.toml").write_text(text)
        return self.root / f"{name}.toml"

    def fetch(self, *arguments: object, env: dict[str, str] | None = None) -> Finished:
        out = self.root / "out"
        with mock.patch.dict(os.environ, {**self.env, **(env or {})}):
            return splitbtf("fetch", *arguments, "-o", out)

    def fetched(self, name: str = "mine") -> dict[str, bytes]:
        return files_below(self.root / "out" / name)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    told = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True)
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/Packages").touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{tmp_path}/pool ./\n")
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{tmp_path}/sources.list";\nDir::Etc::SourceParts "-";\n'
        f'Dir::State "{tmp_path}/state";\nDir::Cache "{tmp_path}/cache";\n'
    )
    return Archive(tmp_path, told.stdout.strip())


def test_packages_come_once_and_whole(archive: Archive) -> None:
    image, debug = archive.add("image"), archive.add("image-dbg")
    manifest = archive.manifest(image, debug)
    before = files_below(archive.root / "state")
    done = archive.fetch(manifest)
    assert done.code == 0, done.err
    assert done.out == f"{archive.root}/out/mine: 1 package, 1.07 MB\n"
    expected = {image.name: image.read_bytes(), "mine.toml": manifest.read_bytes()}
    assert archive.fetched() == expected, "and nothing else, unpacked or half done"
    left = files_below(archive.root / "state")
    assert {path: data for path, data in left.items() if path.startswith("lists")} == {
        path: data for path, data in before.items() if path.startswith("lists")
    }, "the machine's lists are left alone"

    again = archive.fetch(manifest, "--json", env={"PATH": "/nonexistent"})  # apt is not asked
    (file,) = again.json["fetched"]["mine"]
    assert file == {"path": f"{archive.root}/out/mine/{image.name}",
                    "bytes": image.stat().st_size, "was_there": True}  # fmt: skip
    done = archive.fetch(manifest, "--debug")
    assert done.code == 0, done.err
    assert set(archive.fetched()) == {image.name, debug.name, "mine.toml"}


def test_the_machine_s_own_lists_are_used_where_they_do(archive: Archive) -> None:
    manifest = archive.manifest(archive.add("image"))
    env = {**os.environ, **archive.env}
    subprocess.run(["apt-get", "-q", "update"], env=env, check=True, capture_output=True)
    done = archive.fetch(manifest)
    assert done.code == 0 and "package lists" not in done.err, done.err
    assert not (archive.root / "out/.apt").exists()


def test_a_suite_that_apt_has_no_source_of(archive: Archive) -> None:
    """Packages of another suite come from the archive that apt knows, whose sources stay."""
    image = archive.add("image")
    manifest = archive.manifest(image)
    manifest.write_text(f'suite = "sid"\n{manifest.read_text()}')
    debian, place = archive.root / "debian", f"main/binary-{archive.architecture}"
    packages = (archive.root / "pool/Packages").read_bytes().replace(b"./", b"pool/")
    for suite, content in (("stable", packages.replace(b"image", b"other")), ("sid", packages)):
        (debian / "dists" / suite / place).mkdir(parents=True)
        (debian / "dists" / suite / place / "Packages").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        (debian / "dists" / suite / "Release").write_text(
            f"Label: Debian\nSuite: {suite}\nCodename: {suite}\nComponents: main\n"
            f"Architectures: {archive.architecture}\n"
            f"SHA256:\n {digest} {len(content)} {place}/Packages\n"
        )
    (archive.root / "pool").rename(debian / "pool")
    with (archive.root / "apt.conf").open("a") as conf:  # nothing is signed here
        conf.write('Acquire::AllowInsecureRepositories "true";\n')
        conf.write('APT::Get::AllowUnauthenticated "true";\n')

    sources = archive.root / "sources.list"
    sources.write_text(f"deb [trusted=yes] copy:{debian}/pool ./\n")
    (debian / "pool/Release").write_text("Label: Mine\n")
    done = archive.fetch(manifest)
    assert done.code == 2 and "no Debian archive is among apt's sources: add one" in done.err

    sources.write_text(f"deb [trusted=yes] copy:{debian} stable main\n")
    done = archive.fetch(manifest)
    assert done.code == 0, done.err
    assert f"package lists of sid for {archive.architecture}" in done.err
    assert set(archive.fetched()) == {image.name, "mine.toml"}
    assert sources.read_text().split()[-2:] == ["stable", "main"]


def test_what_is_wrong_there_is_fetched_again(archive: Archive) -> None:
    image = archive.add("image")
    manifest = archive.manifest(image)
    for content in (b"", image.read_bytes()[:-1] + b"x"):
        archive.fetch(manifest)
        (archive.root / "out/mine" / image.name).write_bytes(content)
        done = archive.fetch(manifest)
        assert done.code == 0 and "fetching it again" in done.err
        assert archive.fetched()[image.name] == image.read_bytes()


def test_an_archive_that_has_something_else(archive: Archive) -> None:
    """What apt takes for right is still not what the manifest says."""
    image = archive.add("image")
    manifest = archive.manifest(image, sha256="5" * 64)
    done = archive.fetch(manifest)
    assert done.code == 2 and "but the manifest says 5555" in done.err, done.err
    assert list(archive.fetched()) == ["mine.toml"]


def test_a_download_goes_on_where_it_stopped(archive: Archive, tmp_path: Path) -> None:
    """The first apt-get dies half way; the second finds what the first had got."""
    image = archive.add("image")
    manifest = archive.manifest(image)
    stub = tmp_path / "bin" / "apt-get"
    stub.parent.mkdir()
    half = image.stat().st_size // 2
    stub.write_text(
        f'#!/bin/sh\ncase "$*" in *" download "*) head -c {half} {image} > {image.name}; '
        'echo "E: the line went dead" >&2; exit 100 ;; esac\n'
        f'exec {shutil.which("apt-get")} "$@"\n'
    )
    stub.chmod(0o755)
    done = archive.fetch(manifest, env={"PATH": f"{stub.parent}:{os.environ['PATH']}"})
    assert done.code == 2 and "E: the line went dead" in done.err, done.err
    assert set(archive.fetched()) == {"mine.toml", f".part/{image.name}"}
    seen = tmp_path / "seen"
    stub.write_text(
        f'#!/bin/sh\ncase "$*" in *" download "*) wc -c < {image.name} > {seen} ;; esac\n'
        f'exec {shutil.which("apt-get")} "$@"\n'
    )
    done = archive.fetch(manifest, env={"PATH": f"{stub.parent}:{os.environ['PATH']}"})
    assert done.code == 0, done.err
    assert int(seen.read_text()) == half
    assert archive.fetched() == {image.name: image.read_bytes(), "mine.toml": manifest.read_bytes()}


def test_one_that_cannot_be_had_does_not_stop_the_others(archive: Archive) -> None:
    good = archive.manifest(archive.add("image"), name="good")
    old = archive.add("gone", "1.0-1")
    gone = archive.manifest(old, name="gone")
    index = archive.root / "pool/Packages"
    head, _, tail = index.read_text().rpartition("Version: 1.0-1\n")
    index.write_text(f"{head}Version: 1.0-2\n{tail}")
    done = archive.fetch(gone, good)
    assert done.code == 1
    assert "apt does not offer gone 1.0-1" in done.err and "it offers 1.0-2" in done.err, done.err
    assert "security updates" in done.err
    assert len(archive.fetched("good")) == 2


def test_nothing_could_be_done(archive: Archive) -> None:
    manifest = archive.manifest(archive.add("image"))
    assert "no apt-get on this machine" in archive.fetch(manifest, env={"PATH": "/nonexistent"}).err
    for arguments, message in {
        ("none",): "fetch --list",
        (archive.root / "none.toml",): "No such file",
        (): "name a kernel",
    }.items():
        done = archive.fetch(*arguments)
        assert done.code == 2 and message in done.err and "Traceback" not in done.err
    shutil.rmtree(archive.root / "out")
    (archive.root / "out").write_text("a file is in the way")
    done = archive.fetch(manifest)
    assert done.code == 2 and "cannot write" in done.err


def test_list() -> None:
    done = splitbtf("fetch", "--list")
    assert done.code == 0 and len(done.out.splitlines()) == len(known()) >= 12
    rows = splitbtf("fetch", "--list", "--json").json
    assert [row["name"] for row in rows] == list(known())
    assert all(row["bytes"] > 1 << 20 for row in rows)


def test_what_was_fetched_can_be_run(archive: Archive) -> None:
    """From the archive to split BTF, by the commands that the documentation shows."""
    release = "6.1.0-50-cloud-amd64"
    module = elf({".BTF": read_input(str(DEMO / "modules/xt_bpf.btf.zst")),
                  ".modinfo": modinfo(name="xt_bpf", vermagic=f"{release} SMP")})  # fmt: skip
    files = {f"lib/modules/{release}/kernel/net/xt_bpf.ko": module,
             f"boot/vmlinux-{release}.btf": small_vmlinux()}  # fmt: skip
    manifest = archive.manifest(archive.add("image", files=files))
    assert archive.fetch(manifest).code == 0
    source = archive.root / "out/mine/mine.toml"
    out = archive.root / "result"
    done = splitbtf("run", source, "-o", out, "--engine", "local", "--json")
    assert done.code == 0, done.err
    (kernel,) = done.json["kernels"]
    assert (kernel["kernel"], kernel["modules"]) == (release, 1)
    assert ROOT not in (out / "btf").parents
