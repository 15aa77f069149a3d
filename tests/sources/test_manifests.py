"""Protects: manifests mean one thing, are checked against what is there, and are true of Debian."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from pipeline.sources.manifests import ManifestError, find, known, load
from support.packages import base_names, kernels, package, refused
from support.paths import ROOT
from support.trees import tree

SHA = "0" * 64
GOOD = f"""\
format = 1
name = "mine"
architecture = "amd64"
[[package]]
name = "linux-image-1.0"
version = "1:1.0-1"
bytes = 5
sha256 = "{SHA}"
[[package]]
name = "linux-image-1.0-dbg"
version = "1.0-1"
bytes = 7
sha256 = "{SHA}"
when = "debug"
"""


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_a_manifest(tmp_path: Path) -> None:
    found = load(str(written(tmp_path, GOOD)))
    first, second = found.packages
    assert (found.name, found.kernel, found.base, found.files) == ("mine", None, None, ())
    assert first.file_name == "linux-image-1.0_1%3a1.0-1_amd64.deb" and not first.only_debug
    assert second.only_debug and (second.bytes, second.sha256) == (7, SHA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("format = 1", "format = 2"), "format is 2"),
        (("format = 1", "formats = 1"), "unknown key 'formats'"),
        (("when =", "wen ="), "unknown key 'wen'"),
        (("[[package]]\n", "[[packages]]\n"), "unknown key 'packages'"),
        (('"debug"', '"never"'), "when is 'never'"),
        (("bytes = 5", 'bytes = "5"'), "bytes is '5'"),
        ((f'sha256 = "{SHA}"', 'sha256 = "12"'), "sha256 is '12'"),
        (('"linux-image-1.0"', '"--option"'), "name is '--option'"),
        (('"linux-image-1.0"', '"../x"'), "name is '../x'"),
        (('"1:1.0-1"', '"1 -o x"'), "version is '1 -o x'"),
        (('name = "mine"', 'name = "../mine"'), "name is '../mine'"),
        (('name = "mine"', "[["), "no TOML"),
        (("amd64", "\\udcff"), "no TOML"),
        (('name = "mine"', "release = " + "[" * 5000), "nested too deeply"),
        (('architecture = "amd64"\n', ""), "architecture is None"),
    ],
)
def test_what_is_wrong_is_said(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in GOOD
    path = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(ManifestError, match=r"mine\.toml") as caught:
        load(str(path))
    assert message in str(caught.value)
    with pytest.raises(ManifestError, match="neither packages nor files"):
        load(str(written(tmp_path, 'format = 1\nname = "x"\n')))
    with pytest.raises(ManifestError, match="No such file"):
        load(str(tmp_path / "none.toml"))


def test_by_name_and_by_path(tmp_path: Path) -> None:
    name = next(iter(known()))
    assert find(name).name == name
    assert find(str(written(tmp_path, GOOD))).name == "mine"
    with pytest.raises(ManifestError, match="fetch --list"):
        find("debian-0.0.0-none")


def test_the_manifests_of_the_repository() -> None:
    """At least a dozen Debian kernels, in several versions, configurations and architectures."""
    found = [load(path) for path in known().values()]
    assert all(Path(manifest.path).parent == ROOT / "datasets" for manifest in found)
    assert all(manifest.name == Path(manifest.path).stem for manifest in found)
    releases = [manifest.name.removeprefix("debian-") for manifest in found]
    flavours = Counter(release.split("-", 1)[1].lstrip("0123456789-") for release in releases)
    assert {"amd64", "cloud-amd64", "rt-amd64", "arm64", "s390x"} <= set(flavours)
    assert min(flavours[name] for name in ("amd64", "cloud-amd64", "rt-amd64")) >= 6
    assert {"6.1", "6.12", "7.2"} == {".".join(release.split(".")[:2]) for release in releases}
    for manifest, release in zip(found, releases, strict=True):
        text = Path(manifest.path).read_text()
        assert f'release = "{release}"' in text and 'licence = "GPL-2.0-only"' in text
        for entry in manifest.packages:
            kinds = ("image",) if release.startswith("6.") else ("binary", "modules")
            names = (f"linux-image-{release}-dbg", *(f"linux-{kind}-{release}" for kind in kinds))
            assert entry.name in names and entry.suite == (None if "image" in kinds else "sid")
            assert entry.bytes > 10_000_000
        assert not manifest.packages[0].only_debug
    hashes = [entry.sha256 for manifest in found for entry in manifest.packages]
    assert len(set(hashes)) == len(hashes)


# ------------------------------------------------------------------ as sources


def entry(path: Path, name: str, *, debug: bool = False) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    when = 'when = "debug"\n' if debug else ""
    return (
        f'[[package]]\nname = "{name}"\nversion = "1"\nbytes = {size}\nsha256 = "{digest}"\n{when}'
    )


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """A manifest and its packages, as fetch leaves them."""
    folder = tmp_path / "mine"
    image = package(folder / "image_1_amd64.deb", "1.0")
    debug = package(folder / "image-dbg_1_amd64.deb", "1.0", debug=True)
    text = 'format = 1\nname = "mine"\narchitecture = "amd64"\n'
    text += entry(image, "image") + entry(debug, "image-dbg", debug=True)
    return written(folder, text)


def test_a_fetched_kernel(fetched: Path) -> None:
    for source in (fetched, fetched.parent):
        (kernel,) = kernels(source)
        assert kernel.name == "1.0" and base_names(kernel) == ["vmlinuz-1.0", "vmlinux-1.0"]
        assert all(module.debug is not None for module in kernel.modules)
    (fetched.parent / "image-dbg_1_amd64.deb").unlink()
    (kernel,) = kernels(fetched)
    assert base_names(kernel) == ["vmlinuz-1.0"]


def test_a_package_that_is_not_what_the_manifest_says(fetched: Path) -> None:
    image = fetched.parent / "image_1_amd64.deb"
    image.write_bytes(image.read_bytes() + b"x")
    assert "but the manifest says" in refused(fetched)
    image.unlink()
    assert "splitbtf fetch mine" in refused(fetched)


def test_own_kernels_with_names_and_bases(tmp_path: Path) -> None:
    tree(tmp_path, "one/x.btf", "one/m/a.ko", "two/vmlinux", "two/a.ko")
    digest = hashlib.sha256((tmp_path / "one/m/a.ko").read_bytes()).hexdigest()
    one = written(tmp_path, f'format = 1\nname = "a"\nkernel = "first"\nbase = "one/x.btf"\n'
                  f'[[file]]\npath = "one/m/a.ko"\nsha256 = "{digest}"\n', "one.toml")  # fmt: skip
    two = written(tmp_path, 'format = 1\nname = "b"\n[[file]]\npath = "two"\n', "two.toml")
    found = {k.name: (base_names(k), [m.name for m in k.modules]) for k in kernels(one, two)}
    assert found == {"first": (["x.btf"], ["a"]), "two": (["vmlinux"], ["a"])}
    assert "leave --base out" in refused(one, base=str(tmp_path / "two/vmlinux"))
    (kernel,) = kernels(two, base=str(tmp_path / "one/x.btf"), kernel="mine")
    assert kernel.name == "mine" and base_names(kernel) == ["x.btf"]
    (tmp_path / "one/m/a.ko").write_bytes(b"other")
    assert "but the manifest says" in refused(one)
    both = written(
        tmp_path, 'format = 1\nname = "c"\nkernel = "x"\n[[file]]\npath = "."\n', "c.toml"
    )
    tree(tmp_path, "one/vmlinux")
    assert "2 kernels 'x'" in refused(both)


def test_a_broken_manifest_is_said(tmp_path: Path) -> None:
    assert "unknown key" in refused(written(tmp_path, GOOD + "other = 1\n"))
