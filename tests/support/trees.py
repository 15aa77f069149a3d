"""Folders of files: the demo kernel made small, and what a run wrote."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from support.paths import DEMO

SMALL = ("8255", "act_bpf", "hid-elecom", "nls_cp949", "xt_bpf")


def small_tree(folder: Path, modules: Sequence[str] = SMALL) -> Path:
    folder.mkdir(parents=True)
    (folder / "vmlinux.btf.zst").write_bytes((DEMO / "vmlinux.btf.zst").read_bytes())
    for name in modules:
        data = (DEMO / "modules" / f"{name}.btf.zst").read_bytes()
        (folder / f"{name}.btf.zst").write_bytes(data)
    return folder


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
