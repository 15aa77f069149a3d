"""Protects ``splitbtf slim``: modules from folders and packages, each written as it was compressed
and nothing lost: what cannot be made smaller is there as it was, and is named."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

import btf
from jobs.usage.text import Reporter
from pipeline.slim.debian import new_control
from support.commands import splitbtf
from support.oracles import naive_btf, naive_slim
from support.writers import debwriter
from support.writers.modulewriter import SIGNED, bloated, kfuncs, module

pytestmark = pytest.mark.slow

BASE, SPLIT, NUMBERS = bloated()
NAIVE = naive_btf.parse(BASE.to_bytes())
WHOLE = module(SPLIT.to_bytes(), ids=kfuncs(NUMBERS))
RELEASE = "lib/modules/6.1.0"
FILTERS = [
    {"id": lzma.FILTER_X86},
    {"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 96 << 10},
]


def xz(data: bytes, check: int = lzma.CHECK_CRC32) -> bytes:
    return lzma.compress(data, check=check, filters=FILTERS)


COMPRESSIONS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "": (bytes, bytes),
    ".xz": (xz, lzma.decompress),
    ".gz": (gzip.compress, gzip.decompress),
    ".zst": (
        zstandard.ZstdCompressor().compress,
        lambda data: zstandard.ZstdDecompressor().decompress(data),
    ),
}


def kernel(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with vmlinux.btf and these modules below ``kernel``."""
    for name, data in {"vmlinux.btf": BASE.to_bytes(), **files}.items():
        path = folder / RELEASE / ("" if name == "vmlinux.btf" else "kernel") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def below(folder: Path) -> dict[str, bytes]:
    """All files of a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_each_compression_stays(tmp_path: Path) -> None:
    files = {
        f"net/m{n}.ko{end}": pack(WHOLE) for n, (end, (pack, _)) in enumerate(COMPRESSIONS.items())
    }
    source, out = kernel(tmp_path / "in", files), tmp_path / "out"
    done = splitbtf("slim", source, "-o", out, "--workers", 1)
    assert (done.code, done.err.count("error")) == (0, 0), done.err
    assert done.out.startswith("4 modules: 4 made smaller\n")
    made = below(out)
    assert sorted(made) == sorted(f"{RELEASE}/kernel/{name}" for name in files)
    for name, (_, unpack) in zip(files, COMPRESSIONS.values(), strict=True):
        content = unpack(made[f"{RELEASE}/kernel/{name}"])
        assert list(naive_slim.differences(WHOLE, content, NAIVE)) == []
        assert len(content) < len(WHOLE)
    (packed,) = (data for name, data in made.items() if name.endswith(".xz"))
    before = xz(WHOLE)
    assert packed[:12] == before[:12] and packed[13] & 3 == 1  # check sum; two filters
    assert packed[14:19] == before[14:19]  # x86 code; the dictionary
    zst = zstandard.get_frame_parameters(made[f"{RELEASE}/kernel/net/m3.ko.zst"])
    assert zst.has_checksum and zst.content_size == len(content)
    again = splitbtf("slim", source, "-o", tmp_path / "again", "--workers", 2)
    assert again.code == 0 and below(tmp_path / "again") == made


def test_what_cannot_be_made_smaller_is_there_as_it_was(tmp_path: Path) -> None:
    small = tmp_path / "small"
    files = {
        "a.ko": WHOLE + SIGNED,
        "inline.ko": module(SPLIT.to_bytes(), more={".BTF.inline": b"x"}) + SIGNED,
        "plain.ko": module(b"").replace(b".BTF\0", b".XYZ\0") + SIGNED,
        "other.ko": module(SPLIT.to_bytes(), release="6.2.0"),
        "out_of_tree.ko": module(SPLIT.to_bytes(), more={".BTF.base": BASE.to_bytes()}),
        "text.ko": b"text",
        "bad.ko.xz": xz(WHOLE)[:-20],
    }
    source = kernel(tmp_path / "in", files)
    done = splitbtf("slim", source, "-o", tmp_path / "out", "--workers", 1)
    assert done.code == 1
    made = below(tmp_path / "out")
    for name, data in files.items():
        assert (made[f"{RELEASE}/kernel/{name}"] == data) == (name != "a.ko"), name
    assert not made[f"{RELEASE}/kernel/a.ko"].endswith(SIGNED[-10:])
    lines = done.out.replace(f"{source}/{RELEASE}/kernel/", "").splitlines()
    assert lines[0] == "7 modules: 1 made smaller"
    assert "  as they were: 1, no .BTF section" in lines
    assert "  as they were: 1, BTF on a distilled base, which fits more kernels than one" in lines
    failed = [line for line in lines if line.startswith("    ") and ".ko" in line]
    assert [line.split(":")[0].split(",")[0].strip() for line in failed] == [
        "bad.ko.xz", "inline.ko", "other.ko", "text.ko",
    ]  # fmt: skip
    assert "may hold type ids" in failed[1] and "built for kernel 6.2.0" in failed[2]
    assert any("signatures removed, which no longer hold: 1;" in line for line in lines)
    # What is small already stays as it is, signature and all, and that is no failure.
    kernel(small, {"a.ko": made[f"{RELEASE}/kernel/a.ko"] + SIGNED})
    done = splitbtf("slim", small, "-o", tmp_path / "o2", "--workers", 1, "--json")
    assert (done.code, done.json["smaller"], done.json["signatures_removed"]) == (0, 0, 0)
    assert below(tmp_path / "o2") == {k: v for k, v in below(small).items() if k.endswith(".ko")}
    (file,) = done.json["files"]
    assert (file["status"], file["reason"]) == ("as it was", "nothing to be saved")
    assert file["bytes_before"] == file["bytes_after"] > 0


def test_where_it_may_not_be_written(tmp_path: Path) -> None:
    source = kernel(tmp_path / "in", {"a.ko": WHOLE})
    before = below(tmp_path)
    for out, message in (
        (source / "out", "lies in the source"),
        (source, "lies in the output folder"),
        (tmp_path, "lies in the output folder"),
        ("s3://bucket/x", "a folder of this machine only"),
    ):
        done = splitbtf("slim", source, "-o", out)
        assert (done.code, message in done.err) == (2, True), done.err
    other = kernel(tmp_path / "other", {"a.ko": WHOLE})
    done = splitbtf("slim", source / RELEASE / "vmlinux.btf", "-o", tmp_path / "out")
    assert done.code == 2 and "no modules among the sources, only a vmlinux" in done.err
    done = splitbtf("slim", source, other, "-o", tmp_path / "out")
    assert done.code == 2 and "would both be written" in done.err
    done = splitbtf("slim", source, "--deb", "-o", tmp_path / "out")
    assert done.code == 2 and "--deb takes Debian packages (.deb) only" in done.err
    assert below(tmp_path).keys() - below(other).keys() >= before.keys()
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_ended_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = kernel(tmp_path / "in", {f"m{n}.ko": WHOLE for n in range(3)})

    def end(self: Reporter, label: str, done: int, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Reporter, "progress", end)
    monkeypatch.setattr("pipeline.slim.modules.cut", lambda modules, _: [(m,) for m in modules])
    with pytest.raises(KeyboardInterrupt):
        splitbtf("slim", source, "-o", tmp_path / "out", "--workers", 1)
    made = below(tmp_path / "out")
    assert list(made) == [f"{RELEASE}/kernel/m0.ko"]
    assert list(naive_slim.differences(WHOLE, next(iter(made.values())), NAIVE)) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lib"]


@pytest.mark.parametrize("end", ["dies", "fails"])
def test_what_workers_die_of_is_left_as_it_was(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a.ko": WHOLE, "bad.ko": WHOLE + SIGNED, "c.ko": WHOLE}
    source, out = kernel(tmp_path / "in", files), tmp_path / "out"
    works = btf.slim_module

    def clumsy(data: bytes, *arguments: Any, **options: Any) -> btf.SlimModule:
        if data.endswith(SIGNED) and end == "dies":
            os._exit(3)
        if data.endswith(SIGNED):
            raise RuntimeError("this is a bug")
        return works(data, *arguments, **options)

    monkeypatch.setattr(btf, "slim_module", clumsy)
    done = splitbtf("slim", source, "-o", out, "--workers", 1, "--json")
    assert (done.code, done.json["smaller"], done.json["modules"]) == (1, 2, 3)
    (failure,) = done.json["failures"]
    said = "exit status 3" if end == "dies" else "this is a bug"
    assert failure["error_kind"] == "crashed" and said in failure["error"]
    made = below(out)
    assert len(made) == 3 and made[f"{RELEASE}/kernel/bad.ko"] == WHOLE + SIGNED


def test_a_link_in_the_output_is_not_followed(tmp_path: Path) -> None:
    source = kernel(tmp_path / "in", {"a.ko": WHOLE})
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "lib").symlink_to(tmp_path / "elsewhere")
    done = splitbtf("slim", source, "-o", tmp_path / "out", "--workers", 1)
    assert done.code == 2 and "a link, which is not followed here" in done.err
    assert below(tmp_path / "elsewhere") == {}


def test_no_vmlinux(tmp_path: Path) -> None:
    (tmp_path / "a.ko").write_bytes(WHOLE)
    done = splitbtf("slim", tmp_path / "a.ko", "-o", tmp_path / "out")
    assert done.code == 2 and "name the kernel's vmlinux" in done.err
    (tmp_path / "vmlinux.btf").write_bytes(BASE.to_bytes())
    done = splitbtf(
        "slim", tmp_path / "a.ko", "-B", tmp_path / "vmlinux.btf", "-o", tmp_path / "out"
    )
    assert done.code == 0
    assert list(below(tmp_path / "out")) == ["a.ko"]


@pytest.mark.parametrize("compression", debwriter.COMPRESSIONS)
def test_a_package(tmp_path: Path, compression: str) -> None:
    where = "usr/lib/modules/6.1.0"
    files = {
        f"{where}/kernel/a.ko.xz": debwriter.XZ(WHOLE + SIGNED),
        f"{where}/kernel/b.ko": module(SPLIT.to_bytes(), more={".BTF.inline": b"x"}),
        "usr/share/doc/x/changelog": b"text" * 1000,
    }
    image = debwriter.deb({f"{where}/vmlinux.btf": BASE.to_bytes()}, package="linux-binary-6.1.0")
    (tmp_path / "binary.deb").write_bytes(image)
    package = debwriter.deb(
        files, package="linux-modules-6.1.0", compression=compression, links={"usr/x": "share"}
    )
    (tmp_path / "modules.deb").write_bytes(package)
    out = tmp_path / "out"
    done = splitbtf(
        "slim", tmp_path / "binary.deb", tmp_path / "modules.deb", "--deb", "-o", out, "--json"
    )
    assert (done.code, done.json["smaller"], done.json["failed"]) == (1, 1, 1), done.err
    (made,) = below(out)
    assert made == "linux-modules-6.1.0_1.0-1+slim1_amd64.deb"
    assert done.json["packages"][0]["version"] == "1.0-1+slim1"
    members = unar((out / made).read_bytes())
    assert list(members) == ["debian-binary", f"control.tar{compression}", f"data.tar{compression}"]
    _, control, data = (untar(part) for part in members.values())
    assert members["debian-binary"] == b"2.0\n"
    assert control["./control"].decode().splitlines()[:4] == [
        "Package: linux-modules-6.1.0",
        "Version: 1.0-1+slim1",
        "Provides: linux-modules-6.1.0 (= 1.0-1)",
        "Architecture: amd64",
    ]
    assert control["./control"].endswith(b" Version: not this one\n")
    rest = [tmp_path / "binary.deb", out / made, "--deb", "-o", tmp_path / "again", "--json"]
    again = splitbtf("slim", *rest)
    assert (again.json["smaller"], again.json["packages"]) == (0, [])
    sums = [f"{hashlib.md5(data[f'./{name}']).hexdigest()}  {name}\n" for name in files]
    assert control["./md5sums"].decode() == "".join(sums)
    assert list(data) == [*(f"./{name}" for name in files), "./usr/x"]
    module_file = lzma.decompress(data[f"./{where}/kernel/a.ko.xz"])
    assert list(naive_slim.differences(WHOLE, module_file, NAIVE)) == []
    for name in list(files)[1:]:
        assert data[f"./{name}"] == files[name]


def unar(data: bytes) -> dict[str, bytes]:
    """The members of an ar archive."""
    found, at = {}, 8
    while at < len(data):
        header = data[at : at + 60].decode()
        size = int(header[48:58])
        found[header[:16].rstrip()] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def untar(data: bytes) -> dict[str, bytes]:
    """The files and links of a tar."""
    if data[:4] == b"2.0\n":
        return {}
    if data[:4] == b"\x28\xb5\x2f\xfd":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            entry.name: file.read()
            if entry.isreg() and (file := archive.extractfile(entry))
            else b""
            for entry in archive
        }


def test_the_control_file() -> None:
    text = "Package: a\nSource: linux\nVersion: 1:2-3\nProvides: b,\n c\nInstalled-Size: 9\n"
    made, facts = new_control(text, 7)
    assert made.splitlines() == [
        "Package: a",
        "Source: linux (1:2-3)",
        "Version: 1:2-3+slim1",
        "Provides: a (= 1:2-3), b,",
        " c",
        "Installed-Size: 7",
    ]
    assert (facts["version"], facts["package"]) == ("1:2-3+slim1", "a")
    assert "Source: linux (1)\n" in new_control("Source: linux (1)\nVersion: 2\n", 0)[0]


def test_names_that_lead_out_of_a_package(tmp_path: Path) -> None:
    files = {"usr/lib/modules/6.1.0/vmlinux.btf": BASE.to_bytes(), "../../evil/a.ko": WHOLE}
    path = tmp_path / "deep" / "er" / "x.deb"
    path.parent.mkdir(parents=True)
    path.write_bytes(debwriter.deb(files, md5sums=False))
    done = splitbtf("slim", path, "-B", path, "-o", tmp_path / "deep" / "out", "--workers", 1)
    assert done.code == 1 and "leads out of its package" in done.out
    assert not (tmp_path / "evil").exists() and below(tmp_path / "deep").keys() == {"er/x.deb"}
