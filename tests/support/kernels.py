"""Kernels made by hand, of a base and modules of a few types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from support import btfwriter as bw

Make = Callable[[bw.Writer], object]
INT, LONG = 1, 2


def written(make: Make, order: str = "<") -> bytes:
    """BTF of ``int``, ``long``, and what ``make`` adds."""
    w = bw.Writer(order)
    w.int("int", 4)
    w.int("long", 8)
    make(w)
    return w.to_bytes()


def kernel(folder: Path, modules: Mapping[str, Make], base: Make) -> Path:
    """A folder with the BTF of a kernel, modules standalone."""
    folder.mkdir(parents=True)
    for name, make in {"vmlinux": base, **modules}.items():
        (folder / f"{name}.btf").write_bytes(written(make))
    return folder
