"""Packages of kernels, and what is found in sources."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.model.errors import SourceError
from pipeline.model.records import KernelInput
from pipeline.sources.discover import find_kernels
from support.writers import debwriter


def refused(*sources: str | Path, **options: str) -> str:
    with pytest.raises(SourceError) as caught:
        find_kernels([str(source) for source in sources], **options)
    return str(caught.value)


def package(
    path: Path, release: str, *, version: str = "1-1", debug: bool = False, image: bool = True
) -> Path:
    """A package of a kernel with modules a and b."""
    where = "usr/lib/debug/" if debug else ""
    base = f"{where}boot/vmlinux-{release}" if debug else f"boot/vmlinuz-{release}"
    files = {f"{where}lib/modules/{release}/kernel/{name}.ko": b"x" for name in "ab"}
    if image:
        files[base] = b"v"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(debwriter.deb(files, version=version, compression=""))
    return path


def kernels(*given: str | Path, **options: str) -> list[KernelInput]:
    return list(find_kernels([str(path) for path in given], **options))


def base_names(kernel: KernelInput) -> list[str]:
    return [os.path.basename(base.path) for base in kernel.bases]
