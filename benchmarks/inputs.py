"""What is measured: a base and its modules as raw BTF files, and a larger base made of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard

from measure import BUILD, BenchError
from report import ROOT, size

sys.path.insert(0, str(ROOT))

import btf

DEMO = ROOT / "datasets" / "demo"
RENAMED = (
    btf.kinds.STRUCT,
    btf.kinds.UNION,
    btf.kinds.ENUM,
    btf.kinds.ENUM64,
    btf.kinds.FWD,
    btf.kinds.TYPEDEF,
    btf.kinds.FUNC,
    btf.kinds.VAR,
)


@dataclass(frozen=True)
class Input:
    """A base and its modules, smallest first."""

    base: Path
    modules: tuple[Path, ...]

    def describe(self) -> str:
        total = sum(path.stat().st_size for path in self.modules)
        largest = self.modules[-1].stat().st_size
        return (
            f"{len(self.modules):,} modules, {size(total)}, the largest {size(largest)}; "
            f"base {size(self.base.stat().st_size)}"
        )


def demo() -> Input:
    """The demo kernel of this repository, decompressed."""
    folder = BUILD / "demo"
    for source in (DEMO / "vmlinux.btf.zst", *sorted((DEMO / "modules").glob("*.btf.zst"))):
        target = folder / source.relative_to(DEMO).with_suffix("")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(zstandard.ZstdDecompressor().decompress(source.read_bytes()))
    return given(folder / "vmlinux.btf", folder / "modules")


def given(base: Path, modules: Path) -> Input:
    """A folder of raw BTF files and a base, which may lie among them."""
    if not base.is_file():
        raise BenchError(f"no base: {base}")
    found = [path for path in modules.glob("*.btf") if not path.samefile(base)]
    files = sorted(found, key=lambda path: (path.stat().st_size, path.name))
    if not files:
        raise BenchError(f"no *.btf in {modules}")
    return Input(base, tuple(files))


def larger_base(source: Input, factor: int) -> tuple[Path, int, int]:
    """A base with ``factor`` times the types: the file, its types, and those of the first base.

    The base is merged with the modules given, as far as they are needed. What they lack of the
    wanted size is made up by copies of the base in which every struct, union, enum, typedef,
    function and variable has another name: all distinct from what was there, of the same shapes.
    The types of the first base keep their ids, so modules find in it what they found before.
    """
    base = btf.load_base(source.base.read_bytes())
    wanted = factor * base.type_count
    merged = btf.merge([base, *(btf.parse(path.read_bytes()) for path in source.modules)]).btf
    copies = 0
    while merged.type_count < wanted:
        copies += 1
        merged = btf.merge([merged, _renamed(base, f"copy{copies}_".encode())]).btf
    target = BUILD / "larger.btf"
    BUILD.mkdir(parents=True, exist_ok=True)
    target.write_bytes(merged.to_bytes())
    return target, merged.type_count, base.type_count


def _renamed(base: btf.BTF, prefix: bytes) -> btf.BTF:
    """The same types with ``prefix`` before the names of those that can be told apart by name."""
    words = base.words.copy()
    heads = base.offsets[:-1].astype(np.int64)
    of_kind = (words[heads + 1] >> np.uint32(24)) & np.uint32(0x7F)
    text = base.strings.tobytes()
    added = bytearray(text)
    new: dict[int, int] = {}
    for head in heads[np.isin(of_kind, RENAMED) & (words[heads] != 0)]:
        name = int(words[head])
        if name not in new:
            new[name] = len(added)
            added += prefix + text[name : text.index(b"\0", name) + 1]
        words[head] = new[name]
    strings = np.frombuffer(bytes(added), np.uint8)
    changed = btf.BTF(words, base.offsets, strings, byteorder=base.byteorder)
    return btf.parse(changed.to_bytes())
