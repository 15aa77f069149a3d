"""Protects: sources named by URIs are found and read as those of this machine are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.files import remote
from pipeline.model.records import KernelInput
from pipeline.sources import names
from pipeline.sources.unpack import PackageUnpacker
from pipeline.work.base import load_base
from support.packages import base_names, kernels, package, refused
from support.trees import small_tree, tree
from support.writers import debwriter


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """URIs of a remote file system, which is a folder of this machine in truth."""
    from pyarrow.fs import LocalFileSystem

    monkeypatch.setattr(remote, "_file_system", lambda *_: LocalFileSystem())
    return lambda path: f"test://user:secret@host{path}"


Uri = Callable[[Path], str]


def facts(found: list[KernelInput], prefix: str) -> list[object]:
    return [
        (
            kernel.name,
            base_names(kernel),
            [(m.name, m.path.removeprefix(prefix), m.source, m.file_bytes) for m in kernel.modules],
        )
        for kernel in found
    ]


def test_a_folder(tmp_path: Path, uri: Uri) -> None:
    root = tree(tmp_path / "k", "boot/vmlinuz-1.0", "boot/vmlinuz-2.0", "lib/modules/1.0/a.ko",
                "lib/modules/2.0/sub/b.ko.xz", "notes.txt", ".hidden/c.ko", "d/.e.ko")  # fmt: skip
    package(root / "3.deb", "3.0")
    where = remote.without_secrets(uri(root))
    assert facts(kernels(uri(root)), where) == facts(kernels(root), str(root))
    (kernel,) = kernels(uri(root / "3.deb"))
    assert kernel.name == "3.0" and kernel.modules[0].package == f"test://host{root}/3.deb"
    out = uri(root / "lib/modules/2.0")
    assert [k.name for k in kernels(f"{uri(root)}/", skip_folder=out)] == ["1.0", "3.0"]


def test_what_is_not_there(tmp_path: Path, uri: Uri) -> None:
    assert "no such file or folder" in refused(uri(tmp_path / "none"))
    tree(tmp_path, "k/a.ko")
    assert "no such file" in refused(tmp_path / "k", base=uri(tmp_path / "none"))
    assert "secret" not in refused(uri(tmp_path / "none"))
    assert names.printable("s3://key:secret@bucket/x@y") == "s3://bucket/x@y"
    assert names.printable("/a/b@c") == "/a/b@c"


def test_how_to_reach_them_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither who asks nor with which options is part of a path; it is found again all the same."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(remote, "_file_system", lambda *where: asked.append(where))
    plain = remote.without_secrets("s3://key:secret@bucket/a?region=x&scheme=http")
    assert plain == "s3://bucket/a"
    with pytest.raises(AttributeError):
        remote.remote(f"{plain}/b")
    assert asked == [("s3", "key:secret@bucket", "region=x&scheme=http")]


def test_file_uris_are_paths(tmp_path: Path) -> None:
    root = tree(tmp_path / "my kernel", "vmlinux-1.0", "a.ko")
    given = f"file://{tmp_path}/my%20kernel"
    assert facts(kernels(given), "") == facts(kernels(root), "")


@pytest.mark.parametrize("compression", debwriter.COMPRESSIONS)
def test_packages_are_unpacked_from_there(tmp_path: Path, uri: Uri, compression: str) -> None:
    files = {"boot/vmlinuz-1.0": b"v" * 5_000_000, "lib/modules/1.0/a.ko": b"a" * 99}
    (tmp_path / "x.deb").write_bytes(debwriter.deb(files, compression=compression))
    (kernel,) = kernels(uri(tmp_path / "x.deb"))
    staging = PackageUnpacker(str(tmp_path / "staging"))
    staging.prepare(kernel)
    base = staging.base(kernel, kernel.bases[0])
    assert Path(base.content_path).read_bytes() == files["boot/vmlinuz-1.0"]
    (module,) = staging.modules(kernel).modules
    assert Path(module.content_path).read_bytes() == files["lib/modules/1.0/a.ko"]
    assert module.file_bytes == 99
    staging.close()
    assert not list((tmp_path / "staging").iterdir())


def test_a_base(tmp_path: Path, uri: Uri, demo_btf: Callable[[str], bytes]) -> None:
    root = small_tree(tmp_path / "k", ["xt_bpf"])
    (kernel,) = kernels(root / "xt_bpf.btf.zst", base=uri(root / "vmlinux.btf.zst"))
    assert kernel.bases[0].path == f"test://host{root}/vmlinux.btf.zst"
    base = load_base(kernel.bases[0].content_path)
    assert base.content == load_base(str(root / "vmlinux.btf.zst")).content
