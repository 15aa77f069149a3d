"""Protects: a module and its file with debug information are one module, however they are found."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import btf
from pipeline.files.read import read_stored
from pipeline.model.options import ENCODE_ALL, ENCODE_MISSING, KernelContext, RunOptions
from pipeline.model.records import FileInput, ModuleInput
from pipeline.sources.discover import find_modules
from pipeline.sources.names import build_id_in_path
from pipeline.work.open import open_input
from support.packages import kernels
from support.writers import debwriter
from support.writers.elfwriter import elf, modinfo

ID, OTHER = b"\xab\xcd\xef" * 5, b"\x12\x34" * 8
TREE = "lib/modules/6.1.0/kernel"
DEBUG = f"usr/lib/debug/{TREE}"
BY_ID = f"usr/lib/debug/.build-id/{ID.hex()[:2]}/{ID.hex()[2:]}.debug"


def module(build_id: bytes | None = ID, **more: bytes) -> bytes:
    sections = {".modinfo": modinfo(name="a")}
    if build_id is not None:
        note = struct.pack("<III4s", 4, len(build_id), 3, b"GNU") + build_id
        sections[".note.gnu.build-id"] = note
    return elf(sections | {f".{name}": content for name, content in more.items()})


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pairs(*sources: Path) -> dict[str, str | None]:
    (kernel,) = kernels(*sources)
    return {m.source: m.debug.source if m.debug else None for m in kernel.modules}


@pytest.mark.parametrize(
    ("stripped", "debug"),
    [
        ("a.ko", "a.ko.debug"),
        ("a.ko.xz", "a.ko.debug"),
        ("a-b.ko", "a_b.ko.debug"),
        ("a.ko", "a.debug"),
        ("a.ko", ".debug/a.ko"),
        ("a.ko.zst", ".debug/a.ko"),
        (f"{TREE}/a.ko", f"{TREE}/a.ko.debug"),
        (f"{TREE}/a.ko", f"{TREE}/.debug/a.ko"),
        (f"{TREE}/a.ko.xz", f"{DEBUG}/a.ko.debug"),
        (f"{TREE}/a.ko.xz", f"usr/lib/debug/usr/{TREE}/a.ko.debug"),
        (f"usr/{TREE}/a.ko", f"{DEBUG}/a.ko"),
        (f"{TREE}/a.ko", BY_ID),
        ("a.ko", BY_ID),
        ("a.ko", "elsewhere/x.ko.debug"),
    ],
)
def test_where_debug_information_lies(stripped: str, debug: str, tmp_path: Path) -> None:
    files = {stripped: module(), debug: module(), "vmlinux-6.1.0": b""}
    assert pairs(write(tmp_path / "k", files)) == {stripped: debug}
    package = tmp_path / "all.deb"
    package.write_bytes(debwriter.deb(files))
    assert pairs(package) == {stripped: debug}


def test_by_build_id_in_another_package(tmp_path: Path) -> None:
    modules = {f"{TREE}/{name}.ko": module(build_id) for name, build_id in
               (("a", ID), ("b", OTHER), ("c", None))}  # fmt: skip
    (tmp_path / "image.deb").write_bytes(debwriter.deb({"boot/vmlinux-6.1.0": b"", **modules}))
    (tmp_path / "dbg.deb").write_bytes(debwriter.deb({BY_ID: module(), DEBUG + "/c.ko": b""}))
    assert pairs(tmp_path / "image.deb", tmp_path / "dbg.deb") == {
        f"{TREE}/a.ko": BY_ID,
        f"{TREE}/b.ko": None,
        f"{TREE}/c.ko": f"{DEBUG}/c.ko",
    }


def test_paths_that_hold_no_build_id() -> None:
    assert build_id_in_path(f"/x/{BY_ID}") == ID.hex()
    for path in (
        ".build-id/ab/cde.debug",
        ".build-id/a/bcde.debug",
        ".build-id/AB/CDEF.debug",
        ".build-id/ab/.debug",
        ".build-id/ab/cd",
        ".build-id/../cd.debug",
        "x.build-id/ab/cd.debug",
        ".build-id/ab/cd.debug/more",
        ".build-id/ab/cd.debug\n",
    ):
        assert build_id_in_path(path) is None, path


def test_debug_files_that_belong_to_nothing(tmp_path: Path) -> None:
    """One that may be a module is one; the others are passed over, unless they are named."""
    root = write(
        tmp_path / "k",
        {"vmlinux-6.1.0": b"", "a.ko": module(OTHER), "b.ko.debug": module(), "c.debug": b"x",
         BY_ID.replace("ab/", "ab/00"): module(), f"{TREE[:-7]}/d.debug": b""},
    )  # fmt: skip
    os.symlink("loop.debug", root / "loop.debug")
    os.symlink("../.build-id", root / "usr/lib/debug/.build-id/loop")
    assert pairs(root) == {"a.ko": None, "b.ko.debug": None}
    assert [found.source for found in find_modules([str(root / "c.debug")])] == ["c.debug"]


# ------------------------------------------------------------------ what is read


def opened(
    tmp_path: Path, own: bytes, debug: bytes, index: btf.BaseIndex, encode: str = ENCODE_MISSING
) -> btf.Module:
    (tmp_path / "a.ko.debug").write_bytes(debug)
    (tmp_path / "a.ko").write_bytes(own)
    path = str(tmp_path / "a.ko.debug")
    given = ModuleInput("a", "a.ko", "a.ko", 1, len(own), debug=FileInput(path, path))
    context = KernelContext(RunOptions((), "", encode=encode))
    data = read_stored(str(tmp_path / "a.ko"))  # in a buffer that reading overwrites
    return open_input(given, data, index, context, "a.ko").module


def test_of_another_build(tmp_path: Path, demo_btf: Callable[[str], bytes]) -> None:
    demo_index = btf.BaseIndex.build(btf.parse(demo_btf("act_bpf")))
    good = module(BTF=demo_btf("hid-elecom"))
    assert opened(tmp_path, module(), good, demo_index).form == btf.STANDALONE
    assert opened(tmp_path, module(None), good, demo_index).form == btf.STANDALONE
    with_btf = module(OTHER, BTF=demo_btf("8255"))
    assert opened(tmp_path, with_btf, good, demo_index, ENCODE_ALL).input_bytes == len(
        demo_btf("8255")
    ), "its own, as if there were no other"
    with pytest.raises(btf.NoBtfError, match=r"no DWARF.*; .*a\.ko\.debug, .*without a \.BTF"):
        opened(tmp_path, module(), module(), demo_index)
    for encode in (ENCODE_MISSING, ENCODE_ALL):
        with pytest.raises(btf.NoBtfError, match=f"another build.* {ID.hex()}, not {OTHER.hex()}"):
            opened(tmp_path, module(OTHER), good, demo_index, encode)
