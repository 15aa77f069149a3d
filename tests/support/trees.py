"""Folders of files: the demo kernel made small, and what a run wrote."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import zstandard

from support.btfwriter import assemble
from support.oracles import naive_btf
from support.paths import DEMO

SMALL = ("8255", "act_bpf", "hid-elecom", "nls_cp949", "xt_bpf")


BASE_TYPES = 8000  # the first ones of the demo's vmlinux, of 95,068


def small_tree(
    folder: Path, modules: Sequence[str] = SMALL, *, whole: bool = False, first: int = BASE_TYPES
) -> Path:
    """Some of the demo's modules, and a small part of its vmlinux, or the whole of it, on which
    most of a run on a few modules is spent."""
    folder.mkdir(parents=True)
    write_base(folder, None if whole else first)
    for name in modules:
        data = (DEMO / "modules" / f"{name}.btf.zst").read_bytes()
        (folder / f"{name}.btf.zst").write_bytes(data)
    return folder


def small_kernel_of(folder: Path, demo: Path) -> Path:
    """All modules of a demo kernel, and a small part of its vmlinux."""
    shutil.copytree(demo / "modules", folder / "modules")
    return write_base(folder, demo=demo)


def write_base(folder: Path, first: int | None = BASE_TYPES, demo: Path = DEMO) -> Path:
    """A demo's vmlinux, or a small part of it, as compressed BTF."""
    base = folder / "vmlinux.btf.zst"
    if first is None:
        shutil.copyfile(demo / base.name, base)
    else:
        base.write_bytes(zstandard.ZstdCompressor().compress(small_vmlinux(demo, first)))
    return folder


@cache
def small_vmlinux(demo: Path = DEMO, first: int = BASE_TYPES) -> bytes:
    """Of the first types of a demo's vmlinux those that refer to no others: what a module has of
    them is the same there, or of another name."""
    data = zstandard.ZstdDecompressor().decompress((demo / "vmlinux.btf.zst").read_bytes())
    order, section, strings = naive_btf.sections(data)
    words, at = struct.unpack(f"{order}{len(section) // 4}I", section), 0
    types: dict[int, list[int]] = {}
    for type_id in range(1, first + 1):
        size = naive_btf.words_of(list(words[at : at + 3]))
        types[type_id] = list(words[at : at + size])
        at += size
    dropped = {-1}
    while dropped:
        dropped = {n for n, words in types.items() if not types.keys() >= _references(words)}
        for type_id in dropped:
            del types[type_id]
    number = {type_id: at for at, type_id in enumerate([0, *types])}
    names, offsets = bytearray(b"\0"), {b"": 0}
    for found in types.values():
        for place in naive_btf.id_words(found):
            found[place] = number[found[place]]
        for place in naive_btf.string_words(found):
            name = strings[found[place] : strings.index(b"\0", found[place])]
            if name not in offsets:
                offsets[name] = len(names)
                names += name + b"\0"
            found[place] = offsets[name]
    records = [struct.pack(f"{order}{len(found)}I", *found) for found in types.values()]
    return assemble(b"".join(records), bytes(names), order)


def _references(words: list[int]) -> set[int]:
    return {words[place] for place in naive_btf.id_words(words)} - {0}


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path; links to folders are followed."""
    return {
        str(Path(parent, name).relative_to(folder)): Path(parent, name).read_bytes()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if Path(parent, name).is_file()
    }


def results_of(out: Path) -> dict[str, bytes]:
    """What a run wrote that the same input must always give: all but the run itself."""
    found = files_below(out)
    return {
        path: data
        for path, data in found.items()
        if path.startswith(("btf/", "versions/", "tables/")) and "/runs/" not in f"/{path}"
    }


def tree(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(file))
    return root


def namesakes(folder: Path) -> Path:
    """A folder with a ``btf``, a ``jobs`` and a ``pipeline`` that must not be imported."""
    for file in ("btf/__init__.py", "jobs.py", "pipeline/__init__.py", "pipeline/worker.py"):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"raise RuntimeError('{file} of somebody else was imported')\n")
    return folder
