"""Kernels whose names are what a page, a shell or a terminal might obey."""

from __future__ import annotations

from pathlib import Path

from support import btfwriter as bw
from support.runs import run_on

NAMES = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!--<script>alert(1)",
    "'; alert(1); '",
    "javascript:alert(1)",
    "{{ 7 * 7 }}${alert(1)}",
    "$(touch pwned)`touch pwned`",
    "&lt;b&gt;&amp;",
    "datum.value'); alert(1); ('",
)
BIDI = "pid\u202eerutcurts\u2066"
SUBSYSTEM = '"><img src=y onerror=alert(1)>'
FILE = '"><img src=x onerror=alert(1)>.btf'


def kernel(folder: Path, size: int = 8) -> Path:
    """Structs of these names: vmlinux has them, three modules others, and two the same ones."""
    folder.mkdir(parents=True)

    def make(structs: int, extra: int) -> bytes:
        w = bw.Writer()
        integer = w.int("int", 4)
        for name in (*NAMES, BIDI):
            w.struct(name, structs, [(name, integer, 0)])
        for name in NAMES:
            w.struct(f"only {name}", extra, [(name, integer, 0)])
            w.func(name, w.func_proto(0, [(name, integer)]))
        return w.to_bytes()

    (folder / "vmlinux.btf").write_bytes(make(4, size))
    home = folder / "kernel" / SUBSYSTEM
    home.mkdir(parents=True)
    for number, name in enumerate(("one", "two", "three")):
        (home / f"{name}.btf").write_bytes(make(size + 8 * (number // 2), size + 8))
    (home / FILE).write_bytes(b"no BTF: </script><script>alert(1)</script>")
    return folder


def output(folder: Path) -> Path:
    """Two such kernels in an output folder of such a name."""
    out = folder / "<b onclick=alert(1)> $(touch pwned) 'out'"
    run_on(kernel(folder / "first"), out)
    return run_on(kernel(folder / "second", 16), out)
